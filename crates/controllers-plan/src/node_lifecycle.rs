//! Nodes that have fallen silent are said to be unknown, and what is wrong with a node becomes taints, so that the
//! scheduler and the evictor know of it.

use std::collections::BTreeMap;

use api::k8s::api::core::v1::{Node, NodeCondition, Pod, Taint};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::pods::{condition, name_of};
use crate::{Action, Event, EventType, Notice, Plan, Reason, Step, Target};

/// How long a node may be silent.
const GRACE: SignedDuration = SignedDuration::from_secs(50);

/// How long a node may take to say its first word.
const STARTUP_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// From so many nodes on, most of them being lost is no reason to doubt oneself.
const LARGE_CLUSTER: usize = 50;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// The taints that follow from conditions being true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// All that a decision about one node rests on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The node.
    pub node: &'a Node,
    /// When its Lease or its status was last seen to change, by our own clock.
    pub heard_at: Timestamp,
    /// Its pods, if it is not ready.
    pub pods: Vec<&'a Pod>,
    /// The pods (uid) that were to be called not ready since the node is not, each with the version of it that said
    /// ready. Objects do not remember this, so whoever calls does.
    pub marked: &'a BTreeMap<String, String>,
    /// How many nodes there are …
    pub nodes: usize,
    /// … and how many of them are ready.
    pub ready_nodes: usize,
}

/// Decides what to say of a node.
pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let mut draft = Plan::default();
    let name = name_of(&seen.node.metadata);
    let has_spoken = find(seen.node, "Ready").is_some();
    let grace = if has_spoken { GRACE } else { STARTUP_GRACE };
    let silent_at = seen.heard_at.checked_add(grace).unwrap_or(Timestamp::MAX);
    let is_unknown = find(seen.node, "Ready").is_some_and(|ready| ready.status == "Unknown");
    if silent_at > now {
        draft.again_at = Some(silent_at);
    } else if !is_unknown {
        let message = format!("{name} has said nothing since {}", seen.heard_at);
        draft.because.push(Reason::acts(name, "NodeStatusUnknown", message));
        draft.status = Some(unknown(seen.node, now));
        tell(
            seen.node,
            "NodeNotReady",
            format!("Node {name} status is now: NodeNotReady"),
            &mut draft,
        );
        // Taints follow from the conditions, which are different from then on.
        return draft;
    }
    mark_pods(seen, silent_at <= now, now, &mut draft);
    let (old, new) = (taints_of(seen.node), taints(seen, now));
    if old != new {
        let message = format!("the taints of {name} follow its conditions");
        draft.because.push(Reason::acts(name, "Taints", message));
        let patch = json!({ "spec": { "taints": new } });
        draft.steps.push(Step::One(Action::patch(Target::of(seen.node), patch)));
    }
    draft
}

/// What nobody tells of any more is unknown.
fn unknown(node: &Node, now: Timestamp) -> Action {
    let mut conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    for type_ in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let known = conditions.iter().position(|known| known.type_ == type_);
        let (reason, message) = match known {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        let heartbeat = known.map_or_else(
            || node.metadata.creation_timestamp.clone(),
            |at| conditions[at].last_heartbeat_time.clone(),
        );
        let condition = NodeCondition {
            type_: type_.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: heartbeat,
            last_transition_time: Some(Time(now)),
        };
        match known {
            Some(at) if conditions[at].status != "Unknown" => conditions[at] = condition,
            Some(_) => {}
            None => conditions.push(condition),
        }
    }
    Action::patch_status(Target::of(node), json!({ "status": { "conditions": conditions } }))
}

/// The pods of a node that is not ready are not, whatever they said last. One that is said to be ready after that, by a
/// node that speaks again, is: its agent knows better, and will not stop saying so.
fn mark_pods(seen: &Observed<'_>, is_silent: bool, now: Timestamp, draft: &mut Plan) {
    if find(seen.node, "Ready").is_none_or(|ready| ready.status == "True") {
        return;
    }
    let mut chains = Vec::new();
    for pod in &seen.pods {
        let is_said_again =
            marked_at(seen, pod).is_some_and(|version| pod.metadata.resource_version.as_deref() != Some(version));
        if condition(pod, "Ready").is_none_or(|ready| ready.status != "True") || (!is_silent && is_said_again) {
            continue;
        }
        let mut conditions = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default();
        for ready in conditions.iter_mut().filter(|known| known.type_ == "Ready") {
            "False".clone_into(&mut ready.status);
            ready.last_transition_time = Some(Time(now));
        }
        let patch = json!({ "status": { "conditions": conditions } });
        chains.push(vec![Action::patch_status(Target::of(*pod), patch)]);
        draft.events.push(Event {
            about: Target::of(*pod),
            event_type: EventType::Warning,
            notice: Notice {
                reason: "NodeNotReady",
                message: "Node is not ready".to_owned(),
            },
        });
    }
    if !chains.is_empty() {
        let name = name_of(&seen.node.metadata);
        draft.because.push(Reason::acts(
            name,
            "NodeNotReady",
            format!("the pods of {name} are not ready, as it is not"),
        ));
        draft.steps.push(Step::Together(chains));
    }
}

/// The version of a pod that was to be called not ready, if it was.
fn marked_at<'a>(seen: &Observed<'a>, pod: &Pod) -> Option<&'a str> {
    let version = seen.marked.get(pod.metadata.uid.as_ref()?)?;
    Some(version.as_str())
}

/// The taints that a node should have: those of others, and those that follow from its conditions.
fn taints(seen: &Observed<'_>, now: Timestamp) -> Vec<Taint> {
    let node = seen.node;
    let is_so = |type_: &str, status: &str| find(node, type_).is_some_and(|known| known.status == status);
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (status, key) in [("False", NOT_READY), ("Unknown", UNREACHABLE)] {
        if is_so("Ready", status) {
            wanted.push((key, "NoSchedule"));
            let is_there = taints_of(node)
                .iter()
                .any(|known| known.key == key && known.effect == "NoExecute");
            if is_there && !is_cut_off(seen) || may_evict(seen) {
                wanted.push((key, "NoExecute"));
            }
        }
    }
    wanted.extend(
        PRESSURES
            .iter()
            .filter(|(type_, _)| is_so(type_, "True"))
            .map(|(_, key)| (*key, "NoSchedule")),
    );
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let mut taints = taints_of(node);
    taints.retain(|known| {
        let own = (known.key.as_str(), known.effect.as_str());
        !is_ours(own) || wanted.contains(&own)
    });
    for (key, effect) in wanted {
        if !taints.iter().any(|known| known.key == key && known.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    taints
}

fn is_ours((key, effect): (&str, &str)) -> bool {
    let by_readiness = [NOT_READY, UNREACHABLE].contains(&key);
    let by_pressure = PRESSURES.iter().any(|(_, known)| *known == key) || key == UNSCHEDULABLE;
    match effect {
        "NoSchedule" => by_readiness || by_pressure,
        "NoExecute" => by_readiness,
        _ => false,
    }
}

/// If no node is ready, it is most likely us who are cut off.
fn is_cut_off(seen: &Observed<'_>) -> bool {
    seen.ready_nodes == 0
}

/// If most of a small cluster is lost, moving everything to the rest would make things worse.
fn may_evict(seen: &Observed<'_>) -> bool {
    let lost = seen.nodes.saturating_sub(seen.ready_nodes);
    let is_partial = lost > 2 && lost * 100 >= seen.nodes * 55;
    !is_cut_off(seen) && (!is_partial || seen.nodes > LARGE_CLUSTER)
}

fn tell(node: &Node, reason: &'static str, message: String, draft: &mut Plan) {
    draft.events.push(Event {
        about: Target::of(node),
        event_type: EventType::Normal,
        notice: Notice { reason, message },
    });
}

fn taints_of(node: &Node) -> Vec<Taint> {
    node.spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default()
}

fn find<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|known| known.type_ == type_)
}

/// Whether a node says that it is ready.
pub fn is_ready(node: &Node) -> bool {
    find(node, "Ready").is_some_and(|ready| ready.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Write;
    use serde_json::{Value, json};

    fn node(conditions: &[(&str, &str)], taints: &Value) -> Node {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(type_, status)| json!({"type": type_, "status": status}))
            .collect();
        let metadata = json!({"name": "n", "uid": "n"});
        serde_json::from_value(
            json!({"metadata": metadata, "spec": {"taints": taints}, "status": {"conditions": conditions}}),
        )
        .unwrap()
    }

    fn seen(node: &Node, heard_at: &str, nodes: usize, ready_nodes: usize) -> Plan {
        let heard_at = heard_at.parse().unwrap();
        let seen = Observed {
            node,
            heard_at,
            pods: Vec::new(),
            marked: &BTreeMap::new(),
            nodes,
            ready_nodes,
        };
        plan(&seen, "2026-11-22T12:00:00Z".parse().unwrap())
    }

    fn tainted(plan: &Plan) -> Option<Vec<String>> {
        let action = plan.actions().next()?;
        let Write::Patch { patch, .. } = &action.write else {
            panic!("no patch")
        };
        let text = |taint: &Value| {
            format!(
                "{}:{}",
                taint["key"].as_str().unwrap().rsplit('/').next().unwrap(),
                taint["effect"].as_str().unwrap()
            )
        };
        Some(patch["spec"]["taints"].as_array().unwrap().iter().map(text).collect())
    }

    #[test]
    fn a_silent_node_is_unknown() {
        let ready = node(&[("Ready", "True"), ("DiskPressure", "False")], &json!([]));
        let fresh = seen(&ready, "2026-11-22T11:59:20Z", 1, 1);
        assert!(fresh.is_quiet());
        assert_eq!(fresh.again_at, Some("2026-11-22T12:00:10Z".parse().unwrap()));
        let silent = seen(&ready, "2026-11-22T11:59:10Z", 1, 1);
        let Some(Write::Patch { patch, .. }) = silent.status.map(|action| action.write) else {
            panic!("no status")
        };
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 4);
        assert!(conditions.iter().all(|known| known["status"] == "Unknown"));
        let mute = node(&[], &json!([]));
        assert!(seen(&mute, "2026-11-22T11:59:01Z", 1, 0).is_quiet());
        assert!(!seen(&mute, "2026-11-22T11:59:00Z", 1, 0).is_quiet());
        let known = node(
            &[("Ready", "Unknown")],
            &json!([{"key": UNREACHABLE, "effect": "NoSchedule"}]),
        );
        assert!(seen(&known, "2026-11-22T11:00:00Z", 1, 0).is_quiet());
    }

    #[test]
    fn conditions_become_taints_and_lose_them() {
        let heard = "2026-11-22T11:59:55Z";
        let lost = node(
            &[("Ready", "Unknown")],
            &json!([{"key": "mine", "effect": "NoExecute"}]),
        );
        let expected = ["mine:NoExecute", "unreachable:NoSchedule", "unreachable:NoExecute"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(tainted(&seen(&lost, heard, 3, 2)), Some(expected));
        // Alone, or with most of a small cluster lost, nothing is evicted.
        let expected = ["mine:NoExecute", "unreachable:NoSchedule"].map(str::to_owned).to_vec();
        assert_eq!(tainted(&seen(&lost, heard, 1, 0)), Some(expected.clone()));
        assert_eq!(tainted(&seen(&lost, heard, 5, 2)), Some(expected));
        let taints = json!([{"key": NOT_READY, "effect": "NoExecute"}, {"key": NOT_READY, "effect": "NoSchedule"}]);
        assert_eq!(
            tainted(&seen(&node(&[("Ready", "True")], &taints), heard, 1, 1)),
            Some(Vec::new())
        );
        let pressed = node(&[("Ready", "True"), ("MemoryPressure", "True")], &json!([]));
        assert_eq!(
            tainted(&seen(&pressed, heard, 1, 1)),
            Some(vec!["memory-pressure:NoSchedule".to_owned()])
        );
        let mut cordoned = node(&[("Ready", "True")], &json!([]));
        cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
        assert_eq!(
            tainted(&seen(&cordoned, heard, 1, 1)),
            Some(vec!["unschedulable:NoSchedule".to_owned()])
        );
    }

    #[test]
    fn the_pods_of_a_lost_node_are_not_ready() {
        let lost = node(
            &[("Ready", "Unknown")],
            &json!([{"key": UNREACHABLE, "effect": "NoSchedule"}]),
        );
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "p", "resourceVersion": "5"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let marks = |marked: &BTreeMap<String, String>, heard_at: Timestamp| {
            let seen = Observed {
                node: &lost,
                heard_at,
                pods: vec![&pod],
                marked,
                nodes: 1,
                ready_nodes: 0,
            };
            let plan = plan(&seen, now);
            assert!(plan.events.iter().all(|event| event.notice.reason == "NodeNotReady"));
            plan.actions().count()
        };
        let marked_at = |version: &str| BTreeMap::from([("p".to_owned(), version.to_owned())]);
        let silent = now - GRACE;
        assert_eq!(marks(&BTreeMap::new(), now), 1);
        // What was tried and failed is tried again.
        assert_eq!(marks(&marked_at("5"), now), 1);
        // The agent speaks again and says that the pod is ready: then it is.
        assert_eq!(marks(&marked_at("3"), now), 0);
        assert_eq!(marks(&marked_at("3"), silent), 1);
    }
}
