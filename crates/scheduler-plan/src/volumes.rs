//! Volume topology: where a pod's claims let it go, and what has to be decided about them on the node it goes to.

use crate::candidate::{Candidate, Key};
use crate::placement::ClaimStep;
use crate::snapshot::{NodeState, Snapshot};
use api::k8s::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::k8s::api::storage::v1::StorageClass;
use api::volumes::{best_match, class_of_claim};
use std::collections::BTreeSet;

/// Set on a claim when its binding is complete.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Set on a claim that waits for its first consumer: the node that the consumer goes to.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner of classes whose volumes people make by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

const CONFLICT_NODE: &str = "node(s) didn't match PersistentVolume's node affinity";
const CONFLICT_BIND: &str = "node(s) didn't find available persistent volumes to bind";
const VOLUME_MISSING: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

/// The claims of a pod, sorted by what they still need.
pub(crate) struct PodVolumes<'a> {
    /// Volumes of bound claims; none where the volume does not exist.
    bound: Vec<Option<&'a PersistentVolume>>,
    /// Claims that wait for the pod's node to be chosen.
    delayed: Vec<(Key, &'a PersistentVolumeClaim, &'a StorageClass)>,
}

/// Whether the claim is bound for good.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let has_volume = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_ref())
        .is_some_and(|name| !name.is_empty());
    has_volume && annotation(claim, BIND_COMPLETED).is_some()
}

/// The node that was chosen for a claim, as the claim itself says.
pub fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(claim, SELECTED_NODE).filter(|node| !node.is_empty())
}

fn annotation<'a>(claim: &'a PersistentVolumeClaim, key: &str) -> Option<&'a str> {
    claim.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

impl<'a> PodVolumes<'a> {
    /// Looks at each claim of the pod; an error is why the pod can go nowhere at all.
    pub(crate) fn of(pod: &Candidate, snapshot: &'a Snapshot) -> Result<Self, String> {
        let mut volumes = Self {
            bound: Vec::new(),
            delayed: Vec::new(),
        };
        let mut has_unbound_immediate = false;
        for (name, is_ephemeral) in &pod.claims {
            let key = (pod.key.0.clone(), name.clone());
            let claim = existing_claim(pod, &key, *is_ephemeral, snapshot)?;
            let volume = claim
                .spec
                .as_ref()
                .and_then(|spec| spec.volume_name.as_deref())
                .unwrap_or_default();
            let class = snapshot.classes.get(class_of_claim(claim));
            let waits = |class: &&StorageClass| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
            if is_bound(claim) {
                volumes.bound.push(snapshot.volumes.get(volume).map(AsRef::as_ref));
            } else if let Some(class) = class.map(AsRef::as_ref).filter(waits).filter(|_| volume.is_empty()) {
                volumes.delayed.push((key, claim, class));
            } else {
                has_unbound_immediate = true;
            }
        }
        if has_unbound_immediate {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        Ok(volumes)
    }

    /// What to do about the claims if the pod goes to this node; an error has the reasons why it cannot.
    pub(crate) fn on(&self, node: &NodeState, snapshot: &Snapshot) -> Result<Vec<ClaimStep>, Vec<String>> {
        let mut reasons = BTreeSet::new();
        for volume in &self.bound {
            match volume {
                None => reasons.insert(VOLUME_MISSING),
                Some(volume) if !is_reachable(volume, node) => reasons.insert(CONFLICT_NODE),
                Some(_) => false,
            };
        }
        let mut steps = Vec::new();
        let mut taken = BTreeSet::new();
        for (key, claim, class) in &self.delayed {
            match step_for(key, claim, class, node, snapshot, &taken) {
                None => {
                    reasons.insert(CONFLICT_BIND);
                }
                Some(step) => {
                    if let ClaimStep::Promise { volume, .. } = &step {
                        taken.insert(volume.clone());
                    }
                    steps.push(step);
                }
            }
        }
        if reasons.is_empty() {
            Ok(steps)
        } else {
            Err(reasons.into_iter().map(str::to_owned).collect())
        }
    }
}

fn existing_claim<'a>(
    pod: &Candidate,
    key: &Key,
    is_ephemeral: bool,
    snapshot: &'a Snapshot,
) -> Result<&'a PersistentVolumeClaim, String> {
    let name = &key.1;
    let Some(claim) = snapshot.claims.get(key) else {
        return Err(if is_ephemeral {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\"")
        } else {
            format!("persistentvolumeclaim \"{name}\" not found")
        });
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
        let volume = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.as_deref())
            .unwrap_or_default();
        return Err(format!(
            "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
        ));
    }
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let is_ours = || {
        owners
            .iter()
            .any(|owner| owner.controller == Some(true) && owner.uid == pod.uid)
    };
    if is_ephemeral && !is_ours() {
        let (namespace, pod) = &pod.key;
        return Err(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
        ));
    }
    Ok(claim)
}

fn step_for(
    key: &Key,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &NodeState,
    snapshot: &Snapshot,
    taken: &BTreeSet<String>,
) -> Option<ClaimStep> {
    // Chosen before, by this pod's last attempt or by another pod with the same claim: nobody moves it but the provisioner.
    if let Some(chosen) = snapshot.chosen_node(key).or(selected_node(claim)) {
        return (chosen == node.name).then(|| ClaimStep::Provision { claim: key.clone() });
    }
    let promised = snapshot.promised_volume(key);
    let may_use = |volume: &PersistentVolume| {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let promised_to_other = snapshot.promised_claim(name).is_some_and(|to| to != key);
        let other_promised = promised.is_some_and(|promised| promised != name);
        !taken.contains(name) && !promised_to_other && !other_promised && is_reachable(volume, node)
    };
    if let Some(volume) = best_match(claim, snapshot.volumes.values().map(AsRef::as_ref), may_use) {
        let volume = volume.metadata.name.clone().unwrap_or_default();
        return Some(ClaimStep::Promise {
            claim: key.clone(),
            volume,
        });
    }
    if promised.is_some() {
        return None;
    }
    let is_provisioned = !class.provisioner.is_empty() && class.provisioner != NO_PROVISIONER;
    (is_provisioned && allows(class, node)).then(|| ClaimStep::Provision { claim: key.clone() })
}

fn is_reachable(volume: &PersistentVolume, node: &NodeState) -> bool {
    let affinity = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    affinity.is_none_or(|selector| api::fit::selects(selector, node.identity()))
}

fn allows(class: &StorageClass, node: &NodeState) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty()
        || terms.iter().any(|term| {
            let labels = term.match_label_expressions.as_deref().unwrap_or_default();
            labels.iter().all(|label| {
                node.labels
                    .get(&label.key)
                    .is_some_and(|value| label.values.contains(value))
            })
        })
}
