//! Which pods go first when there are too many.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use api::k8s::api::core::v1::Pod;
use jiff::Timestamp;

use crate::pods::{condition, is_active, is_ready, node_of, phase};

/// The annotation by which a pod says how much it would be missed; 0 without it, the lowest goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The pods to delete, the first to go first.
pub(crate) fn choose<'a>(active: &[&'a Pod], related: &[&Pod], count: usize, now: Timestamp) -> Vec<&'a Pod> {
    let mut neighbours: BTreeMap<&str, usize> = BTreeMap::new();
    let others = related.iter().filter(|pod| is_active(pod));
    for node in others.chain(active).filter_map(|pod| node_of(pod)) {
        *neighbours.entry(node).or_default() += 1;
    }
    let crowd = |pod: &Pod| node_of(pod).and_then(|node| neighbours.get(node)).copied().unwrap_or(0);
    let mut ranked = active.to_vec();
    ranked.sort_by(|one, other| {
        merits(one)
            .cmp(&merits(other))
            .then_with(|| crowd(other).cmp(&crowd(one)))
            .then_with(|| by_age(one, other, now))
    });
    ranked.truncate(count);
    ranked
}

/// What makes a pod worth keeping, the most important first.
fn merits(pod: &Pod) -> (bool, u8, bool, i32) {
    let phase = match phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    (node_of(pod).is_some(), phase, is_ready(pod), deletion_cost(pod))
}

/// A cost that is not a plain number counts as none.
fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let text = annotations.and_then(|annotations| annotations.get(DELETION_COST));
    let is_plain = |text: &&String| !text.starts_with('+') && (text.len() < 2 || !text.starts_with('0'));
    text.filter(is_plain).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Pods that became ready lately go first, then those that restart often, then the young; ages count in powers of two,
/// so that pods of about the same age go in no order that could favour one zone over another.
fn by_age(one: &Pod, other: &Pod, now: Timestamp) -> Ordering {
    let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
    let by_ready = (is_ready(one) && is_ready(other)).then(|| (ready_since(one), ready_since(other)));
    match by_ready {
        Some((None, Some(_))) => return Ordering::Less,
        Some((Some(_), None)) => return Ordering::Greater,
        Some((Some(a), Some(b))) if a != b => {
            return magnitude(a, now)
                .cmp(&magnitude(b, now))
                .then_with(|| uid(one).cmp(&uid(other)));
        }
        _ => {}
    }
    let restarts = |pod: &Pod| Reverse(restarts(pod));
    let born = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    restarts(one)
        .cmp(&restarts(other))
        .then_with(|| match (born(one), born(other)) {
            (Some(a), Some(b)) if a != b => magnitude(a, now)
                .cmp(&magnitude(b, now))
                .then_with(|| uid(one).cmp(&uid(other))),
            (a, b) => a.is_some().cmp(&b.is_some()).then_with(|| uid(one).cmp(&uid(other))),
        })
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready")?
        .last_transition_time
        .as_ref()
        .map(|time| time.0)
}

/// The age as a power of two.
fn magnitude(since: Timestamp, now: Timestamp) -> Option<u32> {
    u128::try_from(now.as_nanosecond() - since.as_nanosecond())
        .ok()
        .and_then(u128::checked_ilog2)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    });
    statuses.map(|container| container.restart_count).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn pod(name: &str, more: &Value) -> Pod {
        let ready = more.get("ready").and_then(Value::as_str);
        let conditions = ready.map(|since| json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]));
        let restarts = more
            .get("restarts")
            .map(|count| json!([{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": count}]));
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "uid": name, "creationTimestamp": more.get("born"),
                "annotations": more.get("cost").map(|cost| json!({DELETION_COST: cost})),
            },
            "spec": {"nodeName": more.get("node").unwrap_or(&json!("n")), "containers": []},
            "status": {
                "phase": more.get("phase").unwrap_or(&json!("Running")), "conditions": conditions,
                "containerStatuses": restarts,
            },
        }))
        .unwrap()
    }

    fn first(pods: &[Pod]) -> String {
        let pods: Vec<&Pod> = pods.iter().collect();
        let chosen = choose(&pods, &[], 1, NOW.parse().unwrap());
        chosen[0].metadata.name.clone().unwrap()
    }

    #[test]
    fn the_least_useful_goes_first() {
        let ready = "2026-11-22T11:00:00Z";
        let cases = [
            (
                "without a node",
                json!({"ready": ready}),
                json!({"node": "", "ready": ready}),
            ),
            ("pending", json!({"phase": "Running"}), json!({"phase": "Pending"})),
            ("not ready", json!({"ready": ready}), json!({})),
            (
                "cheaper",
                json!({"ready": ready, "cost": "2"}),
                json!({"ready": ready, "cost": "-1"}),
            ),
            (
                "ready for less long",
                json!({"ready": ready}),
                json!({"ready": "2026-11-22T11:59:00Z"}),
            ),
            ("restarts more", json!({"restarts": 1}), json!({"restarts": 4})),
            (
                "younger",
                json!({"born": "2026-11-21T12:00:00Z"}),
                json!({"born": "2026-11-22T11:59:00Z"}),
            ),
        ];
        for (what, keep, goes) in cases {
            let (keep, goes) = (pod("keep", &keep), pod("goes", &goes));
            assert_eq!(first(&[keep.clone(), goes.clone()]), "goes", "{what}");
            assert_eq!(first(&[goes, keep]), "goes", "{what}");
        }
    }

    #[test]
    fn of_two_pods_the_one_on_the_fuller_node_goes() {
        let pods = [pod("a", &json!({"node": "full"})), pod("b", &json!({"node": "empty"}))];
        let sibling = pod("sibling", &json!({"node": "full"}));
        let active: Vec<&Pod> = pods.iter().rev().collect();
        let chosen = choose(&active, &[&sibling], 1, NOW.parse().unwrap());
        assert_eq!(chosen[0].metadata.name.as_deref(), Some("a"));
    }

    #[test]
    fn costs_that_are_no_numbers_are_none() {
        for cost in ["+1", "01", "x", ""] {
            assert_eq!(deletion_cost(&pod("a", &json!({"cost": cost}))), 0, "{cost}");
        }
        assert_eq!(deletion_cost(&pod("a", &json!({"cost": "0"}))), 0);
        assert_eq!(deletion_cost(&pod("a", &json!({"cost": "-7"}))), -7);
    }
}
