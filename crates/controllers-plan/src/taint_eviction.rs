//! Pods leave nodes with `NoExecute` taints that they do not tolerate, or do not tolerate any longer.

use api::fit::tolerates;
use api::k8s::api::core::v1::{Node, Pod, Toleration};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::pod_garbage::with_disruption;
use crate::pods::{has_ended, name_of, whatever_version};
use crate::{Action, Event, EventType, Notice, Plan, Reason, Step, Target, is_terminating};

const NO_EXECUTE: &str = "NoExecute";

/// What a taint means to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// It may stay for ever.
    Forever,
    /// It may stay for some seconds after the taint came.
    Seconds(i64),
    /// It must go.
    Not,
}

/// How long a pod may stay on its node.
pub fn stay(pod: &Pod, node: &Node) -> Stay {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let taints: Vec<_> = taints.filter(|taint| taint.effect == NO_EXECUTE).collect();
    let mut used: Vec<&Toleration> = Vec::new();
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Stay::Not;
        };
        used.push(toleration);
    }
    let shortest_s = used.iter().filter_map(|toleration| toleration.toleration_seconds).min();
    shortest_s.map_or(Stay::Forever, |seconds| {
        if seconds <= 0 {
            Stay::Not
        } else {
            Stay::Seconds(seconds)
        }
    })
}

/// Whether a node makes any pod leave.
pub fn expels(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.effect == NO_EXECUTE)
}

/// Decides whether a pod is to leave its node; `since` is when it was first seen beside the taints of now.
pub fn plan(pod: &Pod, node: &Node, since: Timestamp, now: Timestamp) -> Plan {
    let (name, node_name) = (name_of(&pod.metadata), name_of(&node.metadata));
    if is_terminating(&pod.metadata) || has_ended(pod) {
        return Plan::default();
    }
    let goes_at = match stay(pod, node) {
        Stay::Forever => return Plan::default(),
        Stay::Seconds(seconds) => since
            .checked_add(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX),
        Stay::Not => now,
    };
    if goes_at > now {
        let message = format!("{name} tolerates the taints of {node_name} until {goes_at}");
        return Plan {
            because: vec![Reason::waits(name, "Tolerates", node_name, message)],
            again_at: Some(goes_at),
            ..Plan::default()
        };
    }
    let reason = (
        "DeletionByTaintManager",
        "Taint manager: deleting due to NoExecute taint",
    );
    let conditions = with_disruption(pod, reason, now);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Plan {
        steps: vec![
            Step::One(Action::patch_status(
                Target::of(pod),
                json!({ "status": { "conditions": conditions } }),
            )),
            Step::One(Action::delete(whatever_version(Target::of(pod)))),
        ],
        because: vec![Reason::acts(
            name,
            "TaintEviction",
            format!("{name} does not tolerate the taints of {node_name}"),
        )],
        events: vec![Event {
            about: Target::of(pod),
            event_type: EventType::Normal,
            notice: Notice {
                reason: "TaintManagerEviction",
                message: format!("Marking for deletion Pod {namespace}/{name}"),
            },
        }],
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(taints: Value, tolerations: Value) -> Stay {
        let node = serde_json::from_value(json!({"spec": {"taints": taints}})).unwrap();
        let pod = serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap();
        stay(&pod, &node)
    }

    #[test]
    fn the_shortest_toleration_counts() {
        let a = json!({"key": "a", "effect": "NoExecute"});
        let b = json!({"key": "b", "effect": "NoExecute"});
        let tolerate =
            |key: &str, seconds: Option<i64>| json!({"key": key, "operator": "Exists", "tolerationSeconds": seconds});
        let soft = json!({"key": "a", "effect": "NoSchedule"});
        assert_eq!(check(json!([soft]), json!([])), Stay::Forever);
        assert_eq!(check(json!([a]), json!([])), Stay::Not);
        assert_eq!(check(json!([a]), json!([tolerate("a", None)])), Stay::Forever);
        assert_eq!(check(json!([a]), json!([tolerate("a", Some(0))])), Stay::Not);
        assert_eq!(check(json!([a, b]), json!([tolerate("a", Some(300))])), Stay::Not);
        let both = json!([tolerate("a", Some(300)), tolerate("b", Some(10))]);
        assert_eq!(check(json!([a, b]), both), Stay::Seconds(10));
    }

    #[test]
    fn a_pod_goes_when_its_time_is_over() {
        let node = serde_json::from_value(json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}})).unwrap();
        let tolerations = json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 5}]);
        let pod = serde_json::from_value(
            json!({"metadata": {"name": "p"}, "spec": {"containers": [], "tolerations": tolerations}}),
        )
        .unwrap();
        let since = "2026-11-22T12:00:00Z".parse().unwrap();
        let waits = plan(&pod, &node, since, "2026-11-22T12:00:04Z".parse().unwrap());
        assert_eq!(
            (waits.steps.len(), waits.again_at),
            (0, Some("2026-11-22T12:00:05Z".parse().unwrap()))
        );
        assert_eq!(
            plan(&pod, &node, since, "2026-11-22T12:00:05Z".parse().unwrap())
                .steps
                .len(),
            2
        );
    }
}
