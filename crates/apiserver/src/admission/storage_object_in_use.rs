//! StorageObjectInUseProtection: claims and volumes are kept by a finalizer as long as something uses them.

use super::{Operation, Review};
use serde_json::{Value, json};

pub(super) fn mutate(review: &Review<'_>, object: &mut Value) {
    if review.is("", "PersistentVolumeClaim", &[Operation::Create]) {
        add_finalizer(object, "kubernetes.io/pvc-protection");
    }
    if review.is("", "PersistentVolume", &[Operation::Create]) {
        add_finalizer(object, "kubernetes.io/pv-protection");
    }
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let metadata = &mut object["metadata"];
    if !metadata["finalizers"].is_array() {
        metadata["finalizers"] = json!([]);
    }
    let finalizers = metadata["finalizers"]
        .as_array_mut()
        .expect("it was made an array above");
    if !finalizers.iter().any(|own| own == finalizer) {
        finalizers.push(json!(finalizer));
    }
}
