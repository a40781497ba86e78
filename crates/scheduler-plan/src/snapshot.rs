//! The cluster as the scheduler knows it, kept up to date change by change so that a decision never reads everything anew.
//!
//! It also holds what was decided but is not yet visible in the API (assumed pods, promised volumes, chosen nodes of
//! claims), so that two decisions never spend the same thing.

use crate::candidate::{Candidate, Key};
use crate::placement::{ClaimStep, Placement};
use crate::preemption::Budget;
use crate::volumes;
use api::fit::NodeIdentity;
use api::k8s::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Taint};
use api::k8s::api::storage::v1::StorageClass;
use api::pod_resources::Resources;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Nodes with their pods, and what volumes need.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeState>,
    /// Claims by namespace and name.
    pub claims: BTreeMap<Key, Arc<PersistentVolumeClaim>>,
    /// Volumes by name.
    pub volumes: BTreeMap<String, Arc<PersistentVolume>>,
    /// Storage classes by name.
    pub classes: BTreeMap<String, Arc<StorageClass>>,
    /// Labels of namespaces by name.
    pub namespaces: BTreeMap<String, Value>,
    /// How much disruption is allowed, by namespace and name of the budget.
    pub budgets: BTreeMap<Key, Budget>,
    /// Pods for which others were made to leave a node: the node, and the pod.
    nominated: BTreeMap<Key, (String, Arc<Candidate>)>,
    /// Volumes that were promised to a claim and are not yet seen so: claim and pod.
    promised_volumes: BTreeMap<String, (Key, Key)>,
    /// Claims whose node was chosen and is not yet seen in the claim's annotation: node and pod.
    chosen_nodes: BTreeMap<Key, (String, Key)>,
    /// Pods by key, with their node; a pod stays here although its node is unknown.
    pods: BTreeMap<Key, (String, Arc<Candidate>)>,
}

/// A node and what is used of it.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    /// The node's name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub is_unschedulable: bool,
    /// What pods may use of it.
    pub allocatable: Resources,
    /// What its pods asked for.
    pub requested: Resources,
    /// What its pods weigh when nodes are compared.
    pub footprint: Resources,
    /// Its pods, by namespace and name.
    pub pods: BTreeMap<Key, Arc<Candidate>>,
}

impl NodeState {
    /// The node as selectors see it.
    pub(crate) fn identity(&self) -> NodeIdentity<'_> {
        NodeIdentity {
            name: &self.name,
            labels: &self.labels,
        }
    }

    /// Reads a node; it has no pods yet.
    pub fn of(node: &Node) -> Self {
        let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            is_unschedulable: spec.is_some_and(|spec| spec.unschedulable == Some(true)),
            allocatable: Resources::of(
                status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref())),
            ),
            requested: Resources::default(),
            footprint: Resources::default(),
            pods: BTreeMap::new(),
        }
    }

    fn add(&mut self, pod: &Arc<Candidate>) {
        self.requested.add(&pod.requests);
        self.footprint.add(&pod.footprint);
        self.pods.insert(pod.key.clone(), Arc::clone(pod));
    }

    fn remove(&mut self, key: &Key) {
        if let Some(pod) = self.pods.remove(key) {
            self.requested.subtract(&pod.requests);
            self.footprint.subtract(&pod.footprint);
        }
    }

    fn offers_the_same(&self, other: &Self) -> bool {
        self.labels == other.labels
            && self.taints == other.taints
            && self.is_unschedulable == other.is_unschedulable
            && self.allocatable == other.allocatable
    }
}

impl Snapshot {
    /// Takes in a node; true if what it offers changed (a mere heartbeat does not).
    pub fn set_node(&mut self, node: &Node) -> bool {
        let mut state = NodeState::of(node);
        if self
            .nodes
            .get(&state.name)
            .is_some_and(|known| known.offers_the_same(&state))
        {
            return false;
        }
        for (on, pod) in self.pods.values() {
            if *on == state.name {
                state.add(pod);
            }
        }
        self.nodes.insert(state.name.clone(), state);
        true
    }

    /// Forgets a node; its pods are remembered in case it comes back.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Puts a pod on a node, replacing what was known of it.
    pub fn set_pod(&mut self, node: &str, pod: Arc<Candidate>) {
        self.remove_pod(&pod.key);
        self.nominated.remove(&pod.key);
        if let Some(state) = self.nodes.get_mut(node) {
            state.add(&pod);
        }
        self.pods.insert(pod.key.clone(), (node.to_owned(), pod));
    }

    /// Takes a pod away; true if it was there.
    pub fn remove_pod(&mut self, key: &Key) -> bool {
        let Some((node, _)) = self.pods.remove(key) else {
            return false;
        };
        if let Some(state) = self.nodes.get_mut(&node) {
            state.remove(key);
        }
        true
    }

    /// Keeps room on a node for a pod that others leave for; less important pods may not take it.
    pub fn nominate(&mut self, pod: &Arc<Candidate>, node: &str) {
        self.nominated
            .insert(pod.key.clone(), (node.to_owned(), Arc::clone(pod)));
    }

    /// Keeps no room for a pod any more; true if any was kept.
    pub fn withdraw_nomination(&mut self, pod: &Key) -> bool {
        self.nominated.remove(pod).is_some()
    }

    /// The node that others leave for the pod.
    pub fn nominated_node(&self, pod: &Key) -> Option<&str> {
        self.nominated.get(pod).map(|(node, _)| node.as_str())
    }

    /// The pods that room is kept for on a node.
    pub fn nominees<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Arc<Candidate>> {
        self.nominated
            .values()
            .filter(move |(on, _)| on == node)
            .map(|(_, pod)| pod)
    }

    /// The pod of that name that has a node, and its node.
    pub fn pod(&self, key: &Key) -> Option<(&str, &Arc<Candidate>)> {
        self.pods.get(key).map(|(node, pod)| (node.as_str(), pod))
    }

    /// Takes in a claim as the API shows it.
    pub fn set_claim(&mut self, claim: PersistentVolumeClaim) {
        let metadata = &claim.metadata;
        let key = (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        );
        if volumes::is_bound(&claim) || volumes::selected_node(&claim).is_some() {
            self.chosen_nodes.remove(&key);
        }
        self.claims.insert(key, Arc::new(claim));
    }

    /// Forgets a claim.
    pub fn remove_claim(&mut self, key: &Key) {
        self.claims.remove(key);
        self.chosen_nodes.remove(key);
    }

    /// Takes in a volume as the API shows it.
    pub fn set_volume(&mut self, volume: PersistentVolume) {
        let name = volume.metadata.name.clone().unwrap_or_default();
        if has_uid_of_claim(&volume) {
            self.promised_volumes.remove(&name);
        }
        self.volumes.insert(name, Arc::new(volume));
    }

    /// Forgets a volume.
    pub fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
        self.promised_volumes.remove(name);
    }

    /// Counts a decision as done before the API shows it. What is returned must be written: the steps that are new.
    pub fn assume(&mut self, pod: &Arc<Candidate>, placement: &Placement) -> Vec<ClaimStep> {
        self.set_pod(&placement.node, Arc::clone(pod));
        let mut news = Vec::new();
        for step in &placement.steps {
            let is_new = match step {
                ClaimStep::Provision { claim } => {
                    let is_seen = self
                        .claims
                        .get(claim)
                        .is_some_and(|claim| volumes::selected_node(claim).is_some());
                    let is_known = is_seen || self.chosen_nodes.contains_key(claim);
                    let choice = || (placement.node.clone(), pod.key.clone());
                    !is_known && self.chosen_nodes.insert(claim.clone(), choice()).is_none()
                }
                ClaimStep::Promise { claim, volume } => {
                    let is_seen = self.volumes.get(volume).is_some_and(|volume| has_uid_of_claim(volume));
                    let is_known = is_seen || self.promised_volumes.contains_key(volume);
                    let promise = (claim.clone(), pod.key.clone());
                    !is_known && self.promised_volumes.insert(volume.clone(), promise).is_none()
                }
            };
            if is_new {
                news.push(step.clone());
            }
        }
        news
    }

    /// Takes a decision back that did not come true.
    pub fn withdraw(&mut self, pod: &Key) {
        self.chosen_nodes.retain(|_, (_, by)| by != pod);
        self.promised_volumes.retain(|_, (_, by)| by != pod);
        self.remove_pod(pod);
    }

    /// The node that was chosen for a claim and is not yet visible.
    pub fn chosen_node(&self, claim: &Key) -> Option<&str> {
        self.chosen_nodes.get(claim).map(|(node, _)| node.as_str())
    }

    /// The claim that a volume was promised to and that is not yet visible.
    pub fn promised_claim(&self, volume: &str) -> Option<&Key> {
        self.promised_volumes.get(volume).map(|(claim, _)| claim)
    }

    /// The volume that was promised to a claim and is not yet visible.
    pub fn promised_volume(&self, claim: &Key) -> Option<&str> {
        self.promised_volumes
            .iter()
            .find(|(_, (to, _))| to == claim)
            .map(|(volume, _)| volume.as_str())
    }

    /// The labels of a namespace; null if unknown.
    pub fn namespace_labels(&self, namespace: &str) -> &Value {
        self.namespaces.get(namespace).unwrap_or(&Value::Null)
    }
}

fn has_uid_of_claim(volume: &PersistentVolume) -> bool {
    let promise = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    promise
        .and_then(|promise| promise.uid.as_ref())
        .is_some_and(|uid| !uid.is_empty())
}
