//! The decision: a node for a pod, or each node's reason why not.

use crate::candidate::{Candidate, Key};
use crate::filters::{self, Refused};
use crate::neighbours::Neighbours;
use crate::scores;
use crate::snapshot::Snapshot;
use crate::volumes::PodVolumes;
use std::collections::BTreeMap;

/// What was decided for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to a node.
    Place(Placement),
    /// It cannot go anywhere now.
    Refuse(Refusal),
}

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: String,
    /// What must be done about its claims before it is bound.
    pub steps: Vec<ClaimStep>,
}

/// What to do about a claim that waited for its first consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimStep {
    /// Have a volume made for it on the chosen node.
    Provision {
        /// The claim.
        claim: Key,
    },
    /// Promise it an existing volume.
    Promise {
        /// The claim.
        claim: Key,
        /// The volume's name.
        volume: String,
    },
}

impl ClaimStep {
    /// The claim that the step is about.
    pub fn claim(&self) -> &Key {
        let (Self::Provision { claim } | Self::Promise { claim, .. }) = self;
        claim
    }
}

/// Why a pod cannot go anywhere, and what to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The sentence for people, in upstream's form.
    pub message: String,
    /// Changes that make another try worth while.
    pub waits_for: WaitsFor,
}

/// Changes of the cluster that may let a pod through. A change of nodes always may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitsFor {
    /// A pod leaves its node.
    pub pods_gone: bool,
    /// A pod comes or changes its labels.
    pub pods_changed: bool,
    /// Claims, volumes or classes change.
    pub volumes: bool,
}

impl WaitsFor {
    /// Only nodes.
    pub(crate) const NODES: Self = Self {
        pods_gone: false,
        pods_changed: false,
        volumes: false,
    };
    /// A pod leaves.
    pub(crate) const PODS_GONE: Self = Self {
        pods_gone: true,
        pods_changed: false,
        volumes: false,
    };
    /// Any change of pods.
    pub(crate) const PODS: Self = Self {
        pods_gone: true,
        pods_changed: true,
        volumes: false,
    };
    /// Changes of volumes.
    pub(crate) const VOLUMES: Self = Self {
        pods_gone: false,
        pods_changed: false,
        volumes: true,
    };

    fn or(self, other: Self) -> Self {
        Self {
            pods_gone: self.pods_gone || other.pods_gone,
            pods_changed: self.pods_changed || other.pods_changed,
            volumes: self.volumes || other.volumes,
        }
    }
}

/// Decides for one pod.
pub fn place(pod: &Candidate, snapshot: &Snapshot) -> Verdict {
    if snapshot.nodes.is_empty() {
        let message = "no nodes available to schedule pods".to_owned();
        return Verdict::Refuse(Refusal {
            message,
            waits_for: WaitsFor::NODES,
        });
    }
    let volumes = match PodVolumes::of(pod, snapshot) {
        Ok(volumes) => volumes,
        Err(reason) => {
            let message = format!("0/{} nodes are available: {reason}.", snapshot.nodes.len());
            return Verdict::Refuse(Refusal {
                message,
                waits_for: WaitsFor::VOLUMES,
            });
        }
    };
    let neighbours = Neighbours::of(pod, snapshot);
    let mut possible = Vec::new();
    let mut refused = Vec::new();
    for node in snapshot.nodes.values() {
        match filters::check(pod, node, snapshot, &volumes, &neighbours) {
            Ok(steps) => possible.push((node, steps)),
            Err(why) => refused.push(why),
        }
    }
    let nodes: Vec<_> = possible.iter().map(|(node, _)| *node).collect();
    let nominated = snapshot.nominated_node(&pod.key);
    let prepared = nodes.iter().position(|node| Some(node.name.as_str()) == nominated);
    match prepared.or_else(|| scores::best(pod, &nodes, &neighbours)) {
        Some(index) => {
            let (node, steps) = possible.swap_remove(index);
            Verdict::Place(Placement {
                node: node.name.clone(),
                steps,
            })
        }
        None => Verdict::Refuse(refusal(&refused)),
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
fn refusal(refused: &[Refused]) -> Refusal {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in refused.iter().flat_map(|why| &why.reasons) {
        *counts.entry(reason).or_default() += 1;
    }
    let mut reasons: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    reasons.sort();
    let message = format!("0/{} nodes are available: {}.", refused.len(), reasons.join(", "));
    let waits_for = refused.iter().fold(WaitsFor::NODES, |all, why| all.or(why.waits_for));
    Refusal { message, waits_for }
}
