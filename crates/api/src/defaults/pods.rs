//! Defaults of pods and pod templates, and of their volumes.

use super::{images, items, set_absent, set_zero};
use serde_json::{Value, json};

/// Permissions of projected files: 0644.
const FILE_MODE: i64 = 0o644;

pub(super) fn apply(name: &str, value: &mut Value) {
    match name {
        "core.v1.Pod" => pod(value),
        "core.v1.PodSpec" => spec(value),
        "core.v1.PodStatus" => addresses(
            value,
            "podIP",
            "podIPs",
            |ip| json!({"ip": ip}),
            |item| item["ip"].clone(),
        ),
        "core.v1.Volume" => volume(value),
        "core.v1.SecretVolumeSource"
        | "core.v1.ConfigMapVolumeSource"
        | "core.v1.DownwardAPIVolumeSource"
        | "core.v1.ProjectedVolumeSource" => set_absent(value, "defaultMode", FILE_MODE),
        "core.v1.ServiceAccountTokenProjection" => set_absent(value, "expirationSeconds", 3600),
        "core.v1.HostPathVolumeSource" => set_absent(value, "type", ""),
        "core.v1.ImageVolumeSource" => {
            let policy = images::pull_policy(value["reference"].as_str().unwrap_or_default());
            set_zero(value, "pullPolicy", policy);
        }
        "core.v1.ISCSIVolumeSource" | "core.v1.ISCSIPersistentVolumeSource" => {
            set_zero(value, "iscsiInterface", "default");
        }
        "core.v1.RBDVolumeSource" | "core.v1.RBDPersistentVolumeSource" => {
            set_zero(value, "pool", "rbd");
            set_zero(value, "user", "admin");
            set_zero(value, "keyring", "/etc/ceph/keyring");
        }
        "core.v1.AzureDiskVolumeSource" => {
            set_absent(value, "cachingMode", "ReadWrite");
            set_absent(value, "kind", "Shared");
            set_absent(value, "fsType", "ext4");
            set_absent(value, "readOnly", false);
        }
        "core.v1.ScaleIOVolumeSource" | "core.v1.ScaleIOPersistentVolumeSource" => {
            set_zero(value, "storageMode", "ThinProvisioned");
            set_zero(value, "fsType", "xfs");
        }
        _ => {}
    }
}

/// What a pod has and a template does not.
fn pod(pod: &mut Value) {
    let spec = &mut pod["spec"];
    if !spec.is_object() {
        return;
    }
    let on_host = spec["hostNetwork"] == true;
    for list in ["containers", "initContainers"] {
        for container in items(spec, list) {
            requests_from_limits(container);
            for port in items(container, "ports").filter(|_| on_host) {
                let number = port["containerPort"].clone();
                set_zero(port, "hostPort", number);
            }
        }
    }
    if spec["resources"].is_object() {
        requests_from_limits(spec);
    }
    set_absent(spec, "enableServiceLinks", true);
}

fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container["resources"]["limits"].as_object().cloned() else {
        return;
    };
    let resources = &mut container["resources"];
    for (name, limit) in limits {
        set_absent(&mut resources["requests"], &name, limit);
    }
}

fn spec(spec: &mut Value) {
    set_zero(spec, "dnsPolicy", "ClusterFirst");
    set_zero(spec, "restartPolicy", "Always");
    set_absent(spec, "securityContext", json!({}));
    set_absent(spec, "terminationGracePeriodSeconds", 30);
    set_zero(spec, "schedulerName", "default-scheduler");
    // The old and the new name of one field.
    for (name, other) in [
        ("serviceAccountName", "serviceAccount"),
        ("serviceAccount", "serviceAccountName"),
    ] {
        if let Some(account) = spec[name]
            .as_str()
            .filter(|account| !account.is_empty())
            .map(str::to_owned)
        {
            spec[other] = json!(account);
        }
    }
    // A null is no field.
    if let Value::Object(fields) = spec {
        fields.retain(|_, value| !value.is_null());
    }
}

/// A volume of no kind is an empty directory.
fn volume(volume: &mut Value) {
    if volume
        .as_object()
        .is_some_and(|fields| fields.keys().all(|key| key == "name"))
    {
        volume["emptyDir"] = json!({});
    }
}

/// One address and the list it heads stand for each other.
pub(super) fn addresses(
    value: &mut Value,
    one: &str,
    many: &str,
    item: impl Fn(&Value) -> Value,
    address: impl Fn(&Value) -> Value,
) {
    let has_one = value[one].as_str().is_some_and(|text| !text.is_empty());
    let first = value[many].as_array().and_then(|list| list.first()).cloned();
    match first {
        Some(first) if !has_one => value[one] = address(&first),
        None if has_one => value[many] = json!([item(&value[one])]),
        _ => {}
    }
}
