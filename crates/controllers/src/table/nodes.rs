//! The rows about nodes and the pods on them: who has fallen silent, who has to leave, and who has been left behind.
//!
//! What these rows remember is when they themselves first saw something, because clocks of others are not to be relied
//! on. It is not state in any other sense: a new process begins to count anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::k8s::api::coordination::v1::Lease;
use api::k8s::api::core::v1::{Node, NodeCondition, Pod, Taint};
use controllers_plan::pod_garbage::PodNode;
use controllers_plan::{Key, Kind, Plan, node_lifecycle, pod_garbage, taint_eviction};
use jiff::Timestamp;

use super::Row;
use super::keys::{BY_NODE, key_of, name_of, namespace_of, node_terms, on_node, uid_of};
use crate::cache::Change;
use crate::caches::{Caches, Watch};

/// Who looks at a node this much later than meant has slept, as a suspended machine does, and knows nothing of the time
/// in between.
const SLEPT_S: i64 = 5;

/// The namespace of nodes' Leases.
const LEASES: &str = "kube-node-lease";

/// The index of pods that have ended, all under one term.
const ENDED: &str = "ended";

mod marks;

use marks::Marks;

/// When something was first seen to be as it is.
#[derive(Default)]
struct Since<V>(Mutex<HashMap<String, (V, Timestamp)>>);

impl<V: PartialEq> Since<V> {
    /// Since when the value of a key has been this one.
    fn of(&self, key: &str, value: V, now: Timestamp) -> Timestamp {
        let mut known = self.0.lock().expect("no panic while held");
        match known.get(key) {
            Some((same, since)) if *same == value => *since,
            _ => {
                known.insert(key.to_owned(), (value, now));
                now
            }
        }
    }

    /// As if the value of a key had been first seen now.
    fn renew(&self, key: &str, now: Timestamp) {
        if let Some((_, since)) = self.0.lock().expect("no panic while held").get_mut(key) {
            *since = now;
        }
    }

    fn forget(&self, key: &str) {
        self.0.lock().expect("no panic while held").remove(key);
    }
}

/// Nodes that have fallen silent are said to be unknown, and conditions become taints.
pub(crate) fn lifecycle_row() -> Row {
    let (heard, marks, due) = (Since::default(), Marks::default(), Mutex::new(HashMap::new()));
    Row {
        name: "node-lifecycle-controller",
        watches: vec![
            Watch::on::<Node>(|_, change| vec![node_key(name_of(&change.latest().metadata))]),
            Watch::on::<Lease>(of_lease),
            Watch::on::<Pod>(ready_on_lost_node).indexed(BY_NODE, node_terms),
        ],
        decide: Box::new(move |caches, key, now| {
            let mut due: MutexGuard<'_, HashMap<String, Timestamp>> = due.lock().expect("no panic while held");
            let slept = |at: Timestamp| now.duration_since(at).as_secs() >= SLEPT_S;
            if due.remove(&key.name).is_some_and(slept) {
                heard.renew(&key.name, now);
            }
            let plan = decide_lifecycle(caches, key, now, &heard, &marks);
            due.extend(plan.again_at.map(|at| (key.name.clone(), at)));
            plan
        }),
    }
}

/// Pods leave nodes whose taints they do not tolerate.
pub(crate) fn eviction_row() -> Row {
    let beside = Since::default();
    Row {
        name: "taint-eviction-controller",
        watches: vec![
            Watch::on::<Node>(pods_of_tainted),
            Watch::on::<Pod>(|_, change| vec![key_of(Kind::of::<Pod>(), &change.latest().metadata)])
                .indexed(BY_NODE, node_terms),
        ],
        decide: Box::new(move |caches, key, now| decide_eviction(caches, key, now, &beside)),
    }
}

/// Pods that nobody else will end are ended.
pub(crate) fn garbage_row() -> Row {
    let missing = Since::default();
    Row {
        name: "pod-garbage-collector-controller",
        watches: vec![
            Watch::on::<Node>(pods_of_gone),
            Watch::on::<Pod>(suspects)
                .indexed(BY_NODE, node_terms)
                .indexed(ENDED, ended_term),
        ],
        decide: Box::new(move |caches, key, now| {
            if key.name.is_empty() {
                return pod_garbage::plan_ended(caches.of::<Pod>().with_term(ENDED), pod_garbage::THRESHOLD);
            }
            let Some(pod) = caches.of::<Pod>().get(&key.namespace, &key.name) else {
                return Plan::default();
            };
            pod_garbage::plan(&pod, &node_of(caches, &pod, now, &missing), now)
        }),
    }
}

fn node_key(name: &str) -> Key {
    Key::new(Kind::of::<Node>(), "", name)
}

fn of_lease(caches: &Caches, change: &Change<Lease>) -> Vec<Key> {
    let meta = &change.latest().metadata;
    let is_node_s = namespace_of(meta) == LEASES && caches.of::<Node>().get("", name_of(meta)).is_some();
    if is_node_s {
        vec![node_key(name_of(meta))]
    } else {
        Vec::new()
    }
}

/// A pod that is said to be ready on a node that is not concerns the node.
fn ready_on_lost_node(caches: &Caches, change: &Change<Pod>) -> Vec<Key> {
    let Some(pod) = change.new.as_ref() else {
        return Vec::new();
    };
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions
        .into_iter()
        .any(|known| known.type_ == "Ready" && known.status == "True");
    let is_lost = || {
        caches
            .of::<Node>()
            .get("", node)
            .is_some_and(|node| has_lost_readiness(&node))
    };
    if is_ready && is_lost() {
        vec![node_key(node)]
    } else {
        Vec::new()
    }
}

fn has_lost_readiness(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|known| known.type_ == "Ready" && known.status != "True")
}

/// What a node has said last: by its Lease, or by its status.
type Word = (Option<Lease>, Vec<NodeCondition>);

fn decide_lifecycle(caches: &Caches, key: &Key, now: Timestamp, heard: &Since<Word>, marks: &Marks) -> Plan {
    let Some(node) = caches.of::<Node>().get("", &key.name) else {
        heard.forget(&key.name);
        marks.forget(&key.name);
        return Plan::default();
    };
    let lease = caches.of::<Lease>().get(LEASES, &key.name).map(|lease| Lease {
        spec: lease.spec.clone(),
        ..Lease::default()
    });
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    // What we say of it ourselves is no word of its own.
    let own = conditions
        .into_iter()
        .filter(|known| known.status != "Unknown")
        .collect();
    let heard_at = heard.of(&key.name, (lease, own), now);
    let is_lost = has_lost_readiness(&node);
    let (pods, nodes) = if is_lost {
        (on_node(caches.of::<Pod>(), &key.name), caches.of::<Node>().all())
    } else {
        (Vec::new(), Vec::new())
    };
    let marked = marks.of(&node);
    let seen = node_lifecycle::Observed {
        node: &node,
        heard_at,
        pods: pods.iter().map(Arc::as_ref).collect(),
        marked: &marked,
        nodes: nodes.len(),
        ready_nodes: nodes.iter().filter(|node| node_lifecycle::is_ready(node)).count(),
    };
    let plan = node_lifecycle::plan(&seen, now);
    marks.note(&node, &plan);
    plan
}

/// All pods of a node when its taints change.
fn pods_of_tainted(caches: &Caches, change: &Change<Node>) -> Vec<Key> {
    let (old, new) = (
        change.old.as_deref().map(expelling),
        change.new.as_deref().map(expelling),
    );
    if old.unwrap_or_default() == new.unwrap_or_default() {
        return Vec::new();
    }
    let pods = on_node(caches.of::<Pod>(), name_of(&change.latest().metadata));
    pods.iter()
        .map(|pod| key_of(Kind::of::<Pod>(), &pod.metadata))
        .collect()
}

fn expelling(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

fn decide_eviction(caches: &Caches, key: &Key, now: Timestamp, beside: &Since<(String, Vec<Taint>)>) -> Plan {
    let pod = caches.of::<Pod>().get(&key.namespace, &key.name);
    let memory = format!("{}/{}", key.namespace, key.name);
    let node = pod.as_ref().and_then(|pod| pod.spec.as_ref()?.node_name.as_deref());
    let node = node.and_then(|node| caches.of::<Node>().get("", node));
    let (Some(pod), Some(node)) = (pod, node.filter(|node| taint_eviction::expels(node))) else {
        beside.forget(&memory);
        return Plan::default();
    };
    let beside_what = (uid_of(&pod.metadata).to_owned(), expelling(&node));
    let since = beside.of(&memory, beside_what, now);
    taint_eviction::plan(&pod, &node, since, now)
}

/// The pods of a node that comes or goes, and of one that is taken out of service.
fn pods_of_gone(caches: &Caches, change: &Change<Node>) -> Vec<Key> {
    let is_out = |node: &Arc<Node>| {
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let is_out = taints.into_iter().any(|taint| taint.key == pod_garbage::OUT_OF_SERVICE);
        is_out && !node_lifecycle::is_ready(node)
    };
    let is_same = change.old.is_some() && change.new.is_some();
    if is_same && change.old.as_ref().map(is_out) == change.new.as_ref().map(is_out) {
        return Vec::new();
    }
    let pods = on_node(caches.of::<Pod>(), name_of(&change.latest().metadata));
    pods.iter()
        .map(|pod| key_of(Kind::of::<Pod>(), &pod.metadata))
        .collect()
}

/// A pod that is going, or whose node is not there; and all ended ones when they are too many.
fn suspects(caches: &Caches, change: &Change<Pod>) -> Vec<Key> {
    let Some(pod) = change.new.as_ref() else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .filter(|node| !node.is_empty());
    let is_lost = node.is_some_and(|node| caches.of::<Node>().get("", node).is_none());
    if pod.metadata.deletion_timestamp.is_some() || is_lost {
        keys.push(key_of(Kind::of::<Pod>(), &pod.metadata));
    }
    let is_more = !ended_term(pod).is_empty() && change.old.as_ref().is_none_or(|old| ended_term(old).is_empty());
    if is_more && caches.of::<Pod>().count(ENDED) > pod_garbage::THRESHOLD {
        keys.push(Key::new(Kind::of::<Pod>(), "", ""));
    }
    keys
}

fn ended_term(pod: &Pod) -> Vec<String> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
    has_ended.then(|| ENDED.to_owned()).into_iter().collect()
}

fn node_of(caches: &Caches, pod: &Pod, now: Timestamp, missing: &Since<()>) -> PodNode {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    if name.is_empty() {
        return PodNode::None;
    }
    match caches.of::<Node>().get("", name) {
        Some(node) => {
            missing.forget(name);
            PodNode::Exists(node)
        }
        None => PodNode::Missing(missing.of(name, (), now)),
    }
}
