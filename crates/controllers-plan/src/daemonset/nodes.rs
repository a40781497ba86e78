//! Which nodes get a pod, and which pods must go.

use std::collections::BTreeSet;

use api::k8s::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    PodTemplateSpec, Toleration,
};
use jiff::{SignedDuration, Timestamp};

use crate::placement::{fits, untolerated};
use crate::pods::{self, is_ready, name_of, node_of, phase};
use crate::{Event, EventType, Notice, is_terminating};

use super::{HASH_LABEL, Work};

/// The field of a node by which a pod is meant for it.
const NAME_FIELD: &str = "metadata.name";

/// A pod that fails after another has failed on its node is replaced no sooner than this after it was made; each further
/// one doubles it …
const PAUSE_FIRST_S: i64 = 1;

/// … up to this.
const PAUSE_MAX_S: i64 = 15 * 60;

/// When no pod has failed on a node for so long, the next to fail is a first one.
pub const FORGET_AFTER: SignedDuration = SignedDuration::from_mins(30);

/// The taints that no daemon minds: what is wrong with a node is often what a daemon is there for.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// The node that a pod is on or meant for.
pub fn target_of(pod: &Pod) -> Option<&str> {
    if let Some(node) = node_of(pod) {
        return Some(node);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let mut named = fields.filter(|field| field.key == NAME_FIELD && field.operator == "In");
    named
        .find_map(|field| field.values.as_ref()?.first())
        .map(String::as_str)
}

/// A pod's spec before it is meant for a node.
pub(super) fn model(template: &PodTemplateSpec) -> PodSpec {
    let mut spec = template.spec.clone().unwrap_or_default();
    let on_host_network = spec.host_network == Some(true);
    let network = on_host_network.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    spec
}

impl<'a> Work<'a> {
    /// Whether a node is to get a pod, and whether one that it has may stay.
    pub(super) fn should_run(&self, node: &Node) -> (bool, bool) {
        let spec = &self.model;
        let name = name_of(&node.metadata);
        let is_elsewhere = spec
            .node_name
            .as_deref()
            .is_some_and(|wanted| !wanted.is_empty() && wanted != name);
        if is_elsewhere || !fits(spec, node) {
            return (false, false);
        }
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        let repelled = untolerated(node, tolerations, &["NoSchedule", "NoExecute"]);
        let expelled = repelled.iter().any(|taint| taint.effect == "NoExecute");
        (repelled.is_empty(), !expelled)
    }

    /// The pod for a node.
    pub(super) fn pod(&self, name: String, node: &str) -> Pod {
        let mut pod = pods::from_template(self.owner, &self.spec.template, name);
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), self.history.hash.clone());
        let mut spec = self.model.clone();
        let term = NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: NAME_FIELD.to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            match_expressions: None,
        };
        let affinity = spec.affinity.get_or_insert_with(Affinity::default);
        let affinity = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
        // What the template requires of nodes, this node has.
        affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
            node_selector_terms: vec![term],
        });
        pod.spec = Some(spec);
        pod
    }

    /// The nodes that lack a pod, and the pods that have no business where they are.
    pub(super) fn manage(&mut self) -> (BTreeSet<&'a str>, Vec<(&'a Pod, String)>) {
        let (mut create, mut delete) = (BTreeSet::new(), Vec::new());
        let mut known = BTreeSet::new();
        for node in &self.seen.nodes {
            let name = name_of(&node.metadata);
            known.insert(name);
            let (should_run, may_stay) = self.should_run(node);
            let of_node = self.pods.get(name).cloned();
            match of_node {
                None if should_run => {
                    create.insert(name);
                }
                None => {}
                Some(pods) if may_stay => {
                    let running = self.running(&pods, name, &mut delete);
                    if self.allows_surge() {
                        if running.is_empty() && should_run {
                            create.insert(name);
                        }
                        self.prune_surge(&running, &mut delete);
                    } else {
                        let others = running.iter().skip(1);
                        delete.extend(others.map(|pod| (*pod, format!("node {name} has another one"))));
                    }
                }
                Some(pods) => {
                    let live = pods.into_iter().filter(|pod| !is_terminating(&pod.metadata));
                    delete.extend(live.map(|pod| (pod, format!("node {name} does not take it"))));
                }
            }
        }
        for (node, pods) in &self.pods {
            // Pods on a node that is gone are the pod collector's; those that only were meant for it are nobody's else.
            let waiting = pods
                .iter()
                .filter(|pod| node_of(pod).is_none() && !is_terminating(&pod.metadata));
            if !known.contains(node) {
                delete.extend(waiting.map(|pod| (*pod, format!("node {node} does not exist"))));
            }
        }
        (create, delete)
    }

    /// The pods of a node that have neither ended nor been deleted; those that have ended are to go.
    fn running(&mut self, pods: &[&'a Pod], node: &str, delete: &mut Vec<(&'a Pod, String)>) -> Vec<&'a Pod> {
        let mut running = Vec::new();
        for &pod in pods.iter().filter(|pod| !is_terminating(&pod.metadata)) {
            let (reason, what, verb) = match phase(pod) {
                "Failed" => ("FailedDaemonPod", "failed", "kill"),
                "Succeeded" => ("SucceededDaemonPod", "succeeded", "delete"),
                _ => {
                    running.push(pod);
                    continue;
                }
            };
            let failures = self.seen.failures.get(node).copied().unwrap_or(0);
            let pauses_until = (what == "failed").then(|| goes_at(pod, failures)).flatten();
            if let Some(at) = pauses_until.filter(|at| *at > self.now) {
                self.draft.again_at = self.draft.again_at.into_iter().chain([at]).min();
                continue;
            }
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let name = name_of(&pod.metadata);
            self.draft.events.push(Event {
                about: self.owner.target(),
                event_type: if what == "failed" {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                notice: Notice {
                    reason,
                    message: format!(
                        "Found {what} daemon pod {namespace}/{name} on node {node}, will try to {verb} it"
                    ),
                },
            });
            delete.push((pod, format!("it has {what}")));
        }
        running
    }

    /// An old and a new pod may be beside each other as long as the old one serves and the new one does not yet.
    fn prune_surge(&self, running: &[&'a Pod], delete: &mut Vec<(&'a Pod, String)>) {
        let (mut new, mut old) = (None, None);
        for &pod in running {
            let place = if self.is_updated(pod) { &mut new } else { &mut old };
            if place.is_none() {
                *place = Some(pod);
            } else {
                delete.push((pod, "its node has an older one".to_owned()));
            }
        }
        if let (Some(new), Some(old)) = (new, old)
            && (!is_ready(old) || self.is_available(new))
        {
            delete.push((old, "its successor serves, or it does not".to_owned()));
        }
    }
}

/// When a pod that has failed on a node is to be deleted, if not at once.
fn goes_at(pod: &Pod, failures: u32) -> Option<Timestamp> {
    let doublings = failures.checked_sub(2)?;
    let pause = PAUSE_FIRST_S << doublings.min(16);
    let born = pod.metadata.creation_timestamp.as_ref()?.0;
    born.checked_add(SignedDuration::from_secs(pause.min(PAUSE_MAX_S))).ok()
}
