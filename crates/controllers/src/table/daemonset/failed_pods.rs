//! How often in a row the pods of a DaemonSet have failed on each node: what objects do not remember.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use api::k8s::api::apps::v1::DaemonSet;
use api::k8s::api::core::v1::Pod;
use controllers_plan::daemonset::{FORGET_AFTER, target_of};
use controllers_plan::{Key, controller_of};
use jiff::Timestamp;

/// The memory of the controller; lost with it, which costs a few fast replacements.
#[derive(Default)]
pub(super) struct FailedPods {
    sets: Mutex<HashMap<Key, Failures>>,
}

/// What is remembered of one set, as long as its spec stays what it is: a new one may mend what failed.
#[derive(Default)]
struct Failures {
    uid: Option<String>,
    generation: Option<i64>,
    nodes: BTreeMap<String, Failure>,
}

/// The pods that failed on one node.
struct Failure {
    /// Those that have been counted and may still be there.
    counted: BTreeSet<String>,
    last: Timestamp,
    times: u32,
}

impl FailedPods {
    /// Takes in what is seen of a set's pods; returns how often they have failed in a row on each node.
    pub(super) fn note<'a>(
        &self,
        key: &Key,
        set: &DaemonSet,
        pods: impl Iterator<Item = &'a Pod>,
        now: Timestamp,
    ) -> BTreeMap<String, u32> {
        let mut sets = self.lock();
        let mut known = sets.remove(key).unwrap_or_default();
        let meta = &set.metadata;
        if (&known.uid, known.generation) != (&meta.uid, meta.generation) {
            known = Failures {
                uid: meta.uid.clone(),
                generation: meta.generation,
                nodes: BTreeMap::new(),
            };
        }
        known
            .nodes
            .retain(|_, failure| now.duration_since(failure.last) < FORGET_AFTER);
        let failed = pods.filter(|pod| has_failed(pod) && belongs_to(pod, set));
        for pod in failed {
            count(&mut known.nodes, pod, now);
        }
        let times = known.nodes.iter().map(|(node, failure)| (node.clone(), failure.times));
        let times = times.collect();
        if !known.nodes.is_empty() {
            sets.insert(key.clone(), known);
        }
        times
    }

    /// The set is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Failures>> {
        self.sets.lock().expect("no panic while held")
    }
}

fn count(nodes: &mut BTreeMap<String, Failure>, pod: &Pod, now: Timestamp) {
    let (Some(node), Some(uid)) = (target_of(pod), pod.metadata.uid.clone()) else {
        return;
    };
    let failure = nodes.entry(node.to_owned()).or_insert_with(|| Failure {
        counted: BTreeSet::new(),
        last: now,
        times: 0,
    });
    if failure.counted.insert(uid) {
        failure.times = failure.times.saturating_add(1);
        failure.last = now;
    }
}

fn has_failed(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed")
}

fn belongs_to(pod: &Pod, set: &DaemonSet) -> bool {
    controller_of(&pod.metadata).is_some_and(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use controllers_plan::Kind;
    use serde_json::json;

    fn failed(uid: &str, node: &str) -> Pod {
        let owner =
            json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d", "controller": true });
        serde_json::from_value(json!({
            "metadata": { "name": uid, "uid": uid, "ownerReferences": [owner] },
            "spec": { "containers": [], "nodeName": node }, "status": { "phase": "Failed" },
        }))
        .unwrap()
    }

    fn set(generation: i64) -> DaemonSet {
        serde_json::from_value(json!({ "metadata": { "name": "d", "uid": "d", "generation": generation } })).unwrap()
    }

    #[test]
    fn failures_are_counted_once_per_pod_and_node_until_the_spec_changes_or_time_has_passed() {
        let (memory, key) = (FailedPods::default(), Key::new(Kind::of::<DaemonSet>(), "default", "d"));
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let times = |generation, pods: &[Pod], seconds| {
            let times = memory.note(&key, &set(generation), pods.iter(), at(seconds));
            times.into_iter().collect::<Vec<_>>()
        };
        let one = |times| vec![("one".to_owned(), times)];
        assert_eq!(times(1, &[failed("a", "one")], 0), one(1));
        assert_eq!(times(1, &[failed("a", "one")], 1), one(1));
        assert_eq!(times(1, &[failed("b", "one")], 2), one(2));
        assert_eq!(
            times(1, &[failed("b", "one"), failed("c", "two")], 3),
            [("one".to_owned(), 2), ("two".to_owned(), 1)]
        );
        assert_eq!(times(1, &[failed("d", "one")], 3 + FORGET_AFTER.as_secs()), one(1));
        assert_eq!(times(2, &[], 4 + FORGET_AFTER.as_secs()), []);
    }
}
