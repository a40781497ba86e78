//! Defaults of volumes, claims and classes.

use super::{pods, set_absent, set_zero};
use serde_json::{Value, json};

pub(super) fn apply(name: &str, value: &mut Value) {
    match name {
        "core.v1.PersistentVolumeClaim" => {
            set_absent(value, "status", json!({}));
            set_zero(&mut value["status"], "phase", "Pending");
        }
        "core.v1.PersistentVolumeClaimSpec" => {
            set_absent(value, "volumeMode", "Filesystem");
            same_source(value);
        }
        "core.v1.PersistentVolume" => {
            set_absent(value, "status", json!({}));
            set_zero(&mut value["status"], "phase", "Pending");
        }
        "core.v1.PersistentVolumeSpec" => {
            set_zero(value, "persistentVolumeReclaimPolicy", "Retain");
            set_absent(value, "volumeMode", "Filesystem");
        }
        "storage.v1.StorageClass" => {
            set_absent(value, "reclaimPolicy", "Delete");
            set_absent(value, "volumeBindingMode", "Immediate");
        }
        "storage.v1.CSIDriverSpec" => {
            set_absent(value, "attachRequired", true);
            set_absent(value, "podInfoOnMount", false);
            set_absent(value, "storageCapacity", false);
            set_absent(value, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            set_absent(value, "volumeLifecycleModes", json!(["Persistent"]));
            set_absent(value, "requiresRepublish", false);
            set_absent(value, "seLinuxMount", false);
        }
        "core.v1.NodeSpec" => pods::addresses(value, "podCIDR", "podCIDRs", Clone::clone, Clone::clone),
        "core.v1.NodeStatus" if value["capacity"].is_object() => {
            let capacity = value["capacity"].clone();
            set_absent(value, "allocatable", capacity);
        }
        "core.v1.Namespace" => {
            set_absent(value, "status", json!({}));
            set_zero(&mut value["status"], "phase", "Active");
        }
        _ => {}
    }
}

/// The old and the new name of the field that says what a claim is filled from.
fn same_source(spec: &mut Value) {
    if spec["dataSource"].is_object() && spec["dataSourceRef"].is_null() {
        spec["dataSourceRef"] = spec["dataSource"].clone();
    } else if spec["dataSource"].is_null() && spec["dataSourceRef"].is_object() {
        let is_local = spec["dataSourceRef"]["namespace"]
            .as_str()
            .unwrap_or_default()
            .is_empty();
        if is_local {
            spec["dataSource"] = spec["dataSourceRef"].clone();
        }
    }
}
