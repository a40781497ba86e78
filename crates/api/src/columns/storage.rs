//! What `kubectl get` shows of volumes, claims, classes and drivers.

use super::{Row, text};
use serde_json::{Value, json};

/// Where a class was named before `storageClassName` existed.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

fn class_of(row: Row<'_>) -> String {
    let named = row.object["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    named.unwrap_or_else(|| row.text("/spec/storageClassName")).to_owned()
}

/// `RWO,ROX,RWX,RWOP`, each once, in this order.
fn access_modes(modes: &[Value]) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let named = short.iter().filter(|(mode, _)| modes.iter().any(|given| given == mode));
    named.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn phase(row: Row<'_>) -> &str {
    if row.is_terminating() {
        "Terminating"
    } else {
        row.object["status"]["phase"].as_str().unwrap_or_default()
    }
}

pub(super) fn volume(row: Row<'_>) -> Vec<Value> {
    let claim = &row.object["spec"]["claimRef"];
    let part = |field: &str| claim[field].as_str().unwrap_or_default();
    let claim = if claim.is_object() {
        format!("{}/{}", part("namespace"), part("name"))
    } else {
        String::new()
    };
    vec![
        row.name(),
        json!(row.text("/spec/capacity/storage")),
        json!(access_modes(row.items("/spec/accessModes"))),
        json!(row.text("/spec/persistentVolumeReclaimPolicy")),
        json!(phase(row)),
        json!(claim),
        json!(class_of(row)),
        json!(text::or_unset(row.text("/spec/volumeAttributesClassName"))),
        json!(row.text("/status/reason")),
        row.age(),
        json!(text::or_unset(row.text("/spec/volumeMode"))),
    ]
}

/// Size and modes are those of the volume, so they are shown once there is one.
pub(super) fn claim(row: Row<'_>) -> Vec<Value> {
    let is_bound = !row.text("/spec/volumeName").is_empty();
    let (capacity, modes) = if is_bound {
        (
            row.text("/status/capacity/storage"),
            access_modes(row.items("/status/accessModes")),
        )
    } else {
        ("", String::new())
    };
    vec![
        row.name(),
        json!(phase(row)),
        json!(row.text("/spec/volumeName")),
        json!(capacity),
        json!(modes),
        json!(class_of(row)),
        json!(text::or_unset(row.text("/spec/volumeAttributesClassName"))),
        row.age(),
        json!(text::or_unset(row.text("/spec/volumeMode"))),
    ]
}

pub(super) fn class(row: Row<'_>) -> Vec<Value> {
    let marks = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    let is_default = marks
        .iter()
        .any(|mark| row.object["metadata"]["annotations"][*mark] == "true");
    let name = format!(
        "{}{}",
        row.text("/metadata/name"),
        if is_default { " (default)" } else { "" }
    );
    let reclaim = match row.text("/reclaimPolicy") {
        "" => "Delete",
        policy => policy,
    };
    vec![
        json!(name),
        json!(row.text("/provisioner")),
        json!(reclaim),
        json!(text::or_unset(row.text("/volumeBindingMode"))),
        json!(row.is_true("/allowVolumeExpansion")),
        row.age(),
    ]
}

pub(super) fn driver(row: Row<'_>) -> Vec<Value> {
    let modes: Vec<&str> = row
        .items("/spec/volumeLifecycleModes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    vec![
        row.name(),
        json!(row.object["spec"]["attachRequired"].as_bool().unwrap_or(true)),
        json!(row.is_true("/spec/podInfoOnMount")),
        json!(row.is_true("/spec/storageCapacity")),
        json!(text::or_unset(&text::joined(
            row.items("/spec/tokenRequests"),
            "audience"
        ))),
        json!(row.is_true("/spec/requiresRepublish")),
        json!(text::or_none(&modes.join(","))),
        row.age(),
    ]
}

pub(super) fn capacity(row: Row<'_>) -> Vec<Value> {
    vec![
        row.name(),
        json!(row.text("/storageClassName")),
        json!(text::or_unset(row.text("/capacity"))),
    ]
}

pub(super) fn attachment(row: Row<'_>) -> Vec<Value> {
    vec![
        row.name(),
        json!(row.text("/spec/attacher")),
        json!(row.text("/spec/source/persistentVolumeName")),
        json!(row.text("/spec/nodeName")),
        json!(row.is_true("/status/attached")),
        row.age(),
    ]
}
