//! What a write may touch: which part of a request is kept and which comes from the stored object.

use crate::kinds::Kind;
use serde_json::{Value, json};

/// Readies a new object: clears status (for kinds with a status subresource, setting the initial one, e.g. a pod's
/// `phase: Pending` and `qosClass`), sets generation 1.
pub fn prepare_create(kind: &Kind, object: &mut Value) {
    if kind.has_status && let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if kind.has_generation {
        object["metadata"]["generation"] = json!(1);
    }
}

/// Readies a replacement through the main resource: status from `old`, generation +1 iff the spec changed.
pub fn prepare_update(kind: &Kind, new: &mut Value, old: &Value) {
    if kind.has_status {
        take_field(new, old, "status");
    }
    if kind.has_generation {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        let changed = i64::from(new["spec"] != old["spec"]);
        new["metadata"]["generation"] = json!(generation + changed);
    }
}

/// Readies a replacement through `/status`: everything but status, labels and annotations from `old`.
pub fn prepare_status_update(_kind: &Kind, new: &mut Value, old: &Value) {
    let mut merged = old.clone();
    take_field(&mut merged, new, "status");
    for field in ["labels", "annotations", "managedFields", "resourceVersion"] {
        take_field(&mut merged["metadata"], &new["metadata"], field);
    }
    *new = merged;
}

/// Sets a field to what it is in `from`, removing it if it is not there.
fn take_field(to: &mut Value, from: &Value, field: &str) {
    let Some(fields) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}

/// Whether deleting the object is graceful, and for how many seconds: a pod's grace (option, else
/// `spec.terminationGracePeriodSeconds`; 0 if it has no node or has ended), `None` for all other kinds.
pub fn grace_period_s(kind: &Kind, object: &Value, option_s: Option<i64>) -> Option<i64> {
    if kind.kind != "Pod" {
        return None;
    }
    let has_ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let has_node = object["spec"]["nodeName"].as_str().is_some_and(|name| !name.is_empty());
    if has_ended || !has_node {
        return Some(0);
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64();
    // Upstream takes a negative grace for the shortest one that still is graceful.
    let grace_s = option_s.or(own).unwrap_or(30);
    Some(if grace_s < 0 { 1 } else { grace_s })
}
