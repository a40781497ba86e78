//! What is brought in order in every object's metadata.

use serde_json::Value;

pub(super) fn apply(name: &str, value: &mut Value) {
    if name == "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" {
        drop_duplicate_owners(value);
    }
}

/// An owner that is named twice in the same words is named once.
fn drop_duplicate_owners(metadata: &mut Value) {
    let Some(owners) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) else {
        return;
    };
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    for owner in owners.drain(..) {
        if !kept.contains(&owner) {
            kept.push(owner);
        }
    }
    *owners = kept;
}

/// Upstream's warning about owners named twice, for an object whose defaults have not been applied yet.
pub fn duplicate_owners_warning(object: &Value) -> Option<String> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let mut uids: Vec<&str> = Vec::new();
    for (index, owner) in owners.iter().enumerate() {
        let uid = owner["uid"].as_str().unwrap_or_default();
        if owners[..index].contains(owner) && !uids.contains(&uid) {
            uids.push(uid);
        }
    }
    (!uids.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and \
             may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            uids.join(", ")
        )
    })
}
