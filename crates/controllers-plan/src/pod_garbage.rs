//! Pods that nobody else will ever end: on nodes that are gone or out of service, and ended ones beyond a number.

use std::sync::Arc;

use api::k8s::api::core::v1::{Node, Pod, PodCondition};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::pods::{has_ended, name_of, node_of, whatever_version};
use crate::{Action, Guard, Key, Kind, Plan, Reason, Step, Target, Write, is_terminating};

/// How many ended pods are kept unless told otherwise.
pub const THRESHOLD: usize = 12_500;

/// How long a node must have been gone before its pods are taken for lost: it may come back by the same name.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);

/// The taint by which people say that a node is shut down and writes to no volume any more.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What is known of a pod's node.
#[derive(Clone, Debug)]
pub enum PodNode {
    /// The pod has none.
    None,
    /// It is there.
    Exists(Arc<Node>),
    /// It is not there, and has not been since a time.
    Missing(Timestamp),
}

/// Decides whether a pod has to be ended by force.
pub fn plan(pod: &Pod, node: &PodNode, now: Timestamp) -> Plan {
    let (name, is_going) = (name_of(&pod.metadata), is_terminating(&pod.metadata));
    match node {
        PodNode::None if is_going => remove(pod, None, "is being deleted and never had a node", now),
        PodNode::Exists(node) if is_going && is_out_of_service(node) => {
            remove(pod, None, "is being deleted, and its node is out of service", now)
        }
        PodNode::Missing(since) => {
            let node = node_of(pod).unwrap_or_default();
            let ends_at = since.checked_add(QUARANTINE).unwrap_or(Timestamp::MAX);
            if ends_at > now {
                let message = format!("{name} waits for node {node}, which is gone, to come back until {ends_at}");
                return Plan {
                    because: vec![Reason::waits(name, "NodeGone", node, message)],
                    again_at: Some(ends_at),
                    ..Plan::default()
                };
            }
            let absent = Guard::Absent(Key::new(Kind::of::<Node>(), "", node));
            remove(pod, Some(absent), "was on a node that no longer exists", now)
        }
        PodNode::None | PodNode::Exists(_) => Plan::default(),
    }
}

/// Deletes the ended pods that are too many: those that were evicted first, then the oldest.
pub fn plan_ended(mut ended: Vec<Arc<Pod>>, threshold: usize) -> Plan {
    let surplus = ended.len().saturating_sub(threshold);
    let is_evicted = |pod: &Pod| pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
    ended.sort_by_cached_key(|pod| {
        let born = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!is_evicted(pod), born, pod.metadata.name.clone())
    });
    let mut plan = Plan::default();
    let mut chains = Vec::new();
    for pod in &ended[..surplus] {
        let name = name_of(&pod.metadata);
        plan.because.push(Reason::acts(
            name,
            "TooManyEnded",
            format!("{name} has ended, as more than {threshold} pods have"),
        ));
        chains.push(vec![kill(pod, None)]);
    }
    if !chains.is_empty() {
        plan.steps.push(Step::Together(chains));
    }
    plan
}

/// Whether people have said so, and the node does not contradict.
fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions
        .into_iter()
        .any(|known| known.type_ == "Ready" && known.status == "True");
    !is_ready && taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// A pod that still runs, as far as anybody knows, is first said to have failed: somebody may count it.
fn remove(pod: &Pod, guard: Option<Guard>, why: &str, now: Timestamp) -> Plan {
    let name = name_of(&pod.metadata);
    let mut steps = Vec::new();
    if !has_ended(pod) {
        let mut status = json!({ "phase": "Failed" });
        if guard.is_some() {
            status["conditions"] = json!(disrupted(pod, now));
        }
        let mut action = Action::patch_status(Target::of(pod), json!({ "status": status }));
        action.guard.clone_from(&guard);
        steps.push(Step::One(action));
    }
    steps.push(Step::One(kill(pod, guard)));
    Plan {
        steps,
        because: vec![Reason::acts(name, "PodGarbage", format!("{name} {why}"))],
        ..Plan::default()
    }
}

fn kill(pod: &Pod, guard: Option<Guard>) -> Action {
    Action {
        guard,
        ..Action::from(Write::Kill {
            target: whatever_version(Target::of(pod)),
        })
    }
}

fn disrupted(pod: &Pod, now: Timestamp) -> Vec<PodCondition> {
    let reason = ("DeletionByPodGC", "PodGC: node no longer exists");
    with_disruption(pod, reason, now)
}

/// The conditions of a pod, with the one that says that it is about to be disrupted.
pub(crate) fn with_disruption(pod: &Pod, (reason, message): (&str, &str), now: Timestamp) -> Vec<PodCondition> {
    let mut conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    conditions.retain(|known| known.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(now)),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    });
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn pod(name: &str, going: bool, phase: &str, born: &str) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "deletionTimestamp": going.then_some(NOW), "creationTimestamp": born},
            "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": phase},
        }))
        .unwrap())
    }

    fn node(ready: &str, taint: &str) -> PodNode {
        let node: Value = json!({
            "spec": {"taints": [{"key": taint, "effect": "NoExecute"}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        PodNode::Exists(Arc::new(serde_json::from_value(node).unwrap()))
    }

    fn steps(pod: &Pod, node: &PodNode) -> usize {
        plan(pod, node, NOW.parse().unwrap()).steps.len()
    }

    #[test]
    fn pods_that_nobody_ends_are_ended() {
        let (live, going) = (pod("a", false, "Running", NOW), pod("a", true, "Running", NOW));
        assert_eq!(steps(&live, &PodNode::None), 0);
        assert_eq!(steps(&going, &PodNode::None), 2);
        assert_eq!(steps(&going, &node("Unknown", OUT_OF_SERVICE)), 2);
        assert_eq!(steps(&going, &node("True", OUT_OF_SERVICE)), 0);
        assert_eq!(steps(&going, &node("Unknown", "other")), 0);
        assert_eq!(steps(&live, &node("Unknown", OUT_OF_SERVICE)), 0);
        assert_eq!(
            steps(&live, &PodNode::Missing("2026-11-22T11:59:30Z".parse().unwrap())),
            0
        );
        assert_eq!(
            steps(&live, &PodNode::Missing("2026-11-22T11:59:20Z".parse().unwrap())),
            2
        );
        assert_eq!(
            steps(&pod("a", false, "Failed", NOW), &PodNode::Missing(Timestamp::MIN)),
            1
        );
    }

    #[test]
    fn of_too_many_ended_pods_the_oldest_go() {
        let ended: Vec<_> = [
            ("b", "2026-11-22T02:00:00Z"),
            ("a", "2026-11-22T01:00:00Z"),
            ("c", "2026-11-22T03:00:00Z"),
        ]
        .into_iter()
        .map(|(name, born)| pod(name, false, "Succeeded", born))
        .collect();
        let plan = plan_ended(ended.clone(), 1);
        let names: Vec<_> = plan.actions().map(|action| action.key().name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(plan_ended(ended, 3).is_quiet());
    }
}
