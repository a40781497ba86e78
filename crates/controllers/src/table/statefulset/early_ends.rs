//! How often in a row the pod of an ordinal ended before it was ever ready: what objects do not remember (A7.12).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use api::k8s::api::core::v1::Pod;
use controllers_plan::statefulset::parse_name;
use controllers_plan::{Key, controller_of};

/// The memory of one controller; lost with it, which costs a few fast replacements.
#[derive(Default)]
pub(super) struct EarlyEnds {
    sets: Mutex<HashMap<Key, BTreeMap<i64, End>>>,
}

/// The last pod of an ordinal that ended early.
struct End {
    uid: String,
    ends: u32,
}

impl EarlyEnds {
    /// Takes in what is seen of a set's pods; returns how often each ordinal's pods have ended early in a row.
    pub(super) fn note<'a>(&self, key: &Key, set_uid: &str, pods: impl Iterator<Item = &'a Pod>) -> BTreeMap<i64, u32> {
        let mut sets = self.lock();
        let mut known = sets.remove(key).unwrap_or_default();
        for pod in pods.filter(|pod| controller_of(&pod.metadata).is_some_and(|owner| owner.uid == set_uid)) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let Some((_, Some(ordinal))) = parse_name(name) else {
                continue;
            };
            if is_ready(pod) {
                known.remove(&ordinal);
            } else if has_ended(pod) {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let end = known.entry(ordinal).or_insert(End {
                    uid: String::new(),
                    ends: 0,
                });
                if end.uid != uid {
                    *end = End {
                        uid,
                        ends: end.ends.saturating_add(1),
                    };
                }
            }
        }
        let ends = known.iter().map(|(ordinal, end)| (*ordinal, end.ends)).collect();
        if !known.is_empty() {
            sets.insert(key.clone(), known);
        }
        ends
    }

    /// The set is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, BTreeMap<i64, End>>> {
        self.sets.lock().expect("no panic while held")
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    !has_ended(pod)
        && conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::apps::v1::StatefulSet;
    use controllers_plan::Kind;
    use serde_json::json;

    fn pod(uid: &str, phase: &str) -> Pod {
        let owner =
            json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s", "controller": true });
        let ready = if phase == "Running" { "True" } else { "False" };
        serde_json::from_value(json!({
            "metadata": { "name": "web-1", "uid": uid, "ownerReferences": [owner] },
            "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
        }))
        .unwrap()
    }

    #[test]
    fn a7_12_ends_are_counted_once_per_pod_until_one_is_ready() {
        let (memory, key) = (
            EarlyEnds::default(),
            Key::new(Kind::of::<StatefulSet>(), "default", "web"),
        );
        let note = |pod: Pod| memory.note(&key, "s", [&pod].into_iter()).get(&1).copied();
        assert_eq!(note(pod("a", "Pending")), None);
        assert_eq!(note(pod("a", "Failed")), Some(1));
        assert_eq!(note(pod("a", "Failed")), Some(1));
        assert_eq!(note(pod("b", "Pending")), Some(1));
        assert_eq!(note(pod("b", "Failed")), Some(2));
        assert_eq!(note(pod("c", "Running")), None);
        assert_eq!(note(pod("c", "Failed")), Some(1));
        memory.forget(&key);
        assert!(memory.lock().is_empty());
    }
}
