//! What is checked and settled in the metadata of every written object.

use crate::call::Call;
use crate::create::{remove, text};
use crate::status::{Outcome, bad_request};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Makes the object's namespace that of the path; one that is given to an object of the whole cluster is cleared.
pub(crate) fn settle_namespace(call: &Call, object: &mut Value) -> Outcome<()> {
    if !call.kind.namespaced {
        remove(&mut object["metadata"], "namespace");
        return Ok(());
    }
    let given = text(&object["metadata"]["namespace"]);
    if given.is_some_and(|given| given != call.namespace) {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(bad_request(message));
    }
    object["metadata"]["namespace"] = json!(call.namespace);
    Ok(())
}

/// Removes owner references that stand twice; the warning to give then.
pub(crate) fn distinct_owners(metadata: &mut Value) -> Option<String> {
    let owners = metadata.get_mut("ownerReferences")?.as_array_mut()?;
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    let mut kept: Vec<Value> = Vec::new();
    for owner in owners.drain(..) {
        let uid = owner["uid"].as_str().unwrap_or("").to_owned();
        if seen.insert(uid.clone()) || !kept.contains(&owner) {
            kept.push(owner);
        } else {
            twice.insert(uid);
        }
    }
    *owners = kept;
    let twice: Vec<String> = twice.into_iter().collect();
    let text = ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and \
                may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: ";
    (!twice.is_empty()).then(|| format!("{text}{}", twice.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_that_stand_twice_are_kept_once_with_a_warning() {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "1"});
        let mut metadata = json!({"ownerReferences": [owner, owner]});
        assert!(distinct_owners(&mut metadata).unwrap().ends_with("observed: 1"));
        assert_eq!(metadata["ownerReferences"], json!([owner]));
        assert_eq!(distinct_owners(&mut metadata), None);
    }
}
