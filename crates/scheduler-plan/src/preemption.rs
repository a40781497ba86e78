//! Which less important pods must leave a node so that a refused pod can come: upstream's default preemption.
//!
//! Of the nodes where it would help, that one is taken where the fewest disruption budgets are broken, then where the
//! least important pods leave, then the fewest, then the youngest.

use crate::candidate::{Candidate, selector_of};
use crate::filters;
use crate::neighbours::Neighbours;
use crate::snapshot::{NodeState, Snapshot};
use crate::volumes::PodVolumes;
use api::k8s::api::policy::v1::PodDisruptionBudget;
use api::selector::LabelSelector;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many pods of a kind may leave, as a PodDisruptionBudget's status says.
#[derive(Clone, Debug)]
pub struct Budget {
    namespace: String,
    pods: LabelSelector,
    allowed: i32,
    /// Names of pods whose leaving is counted already.
    counted: BTreeSet<String>,
}

/// Who leaves, and where.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// The node that gets room.
    pub node: String,
    /// The pods that leave, the most important first.
    pub victims: Vec<Arc<Candidate>>,
}

/// What a preemption costs; the least is chosen.
type Cost = (usize, i32, i64, usize, Reverse<i64>);

impl Budget {
    /// Reads a budget; none if it selects no pods.
    pub fn of(budget: &PodDisruptionBudget) -> Option<Self> {
        let pods = selector_of(budget.spec.as_ref()?.selector.as_ref()?)?;
        if pods.requirements.is_empty() {
            return None;
        }
        let status = budget.status.as_ref();
        let counted = status.and_then(|status| status.disrupted_pods.as_ref());
        Some(Self {
            namespace: budget.metadata.namespace.clone().unwrap_or_default(),
            pods,
            allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
            counted: counted.into_iter().flat_map(|pods| pods.keys().cloned()).collect(),
        })
    }

    fn covers(&self, pod: &Candidate) -> bool {
        self.namespace == pod.key.0 && self.pods.matches(&pod.labels) && !self.counted.contains(&pod.key.1)
    }
}

/// Who should leave for a pod that was refused; none if nobody may, if it would not help, or if others are leaving for
/// it already.
pub fn preempt(pod: &Candidate, snapshot: &Snapshot) -> Option<Preemption> {
    if !pod.may_preempt || are_leaving(pod, snapshot) {
        return None;
    }
    let has_less = |node: &&NodeState| node.pods.values().any(|other| other.priority < pod.priority);
    let mut nodes = snapshot.nodes.values().filter(has_less).peekable();
    // Where all pods are equally important, which is nearly everywhere, nothing more is to be thought about.
    nodes.peek()?;
    let volumes = PodVolumes::of(pod, snapshot).ok()?;
    let neighbours = Neighbours::of(pod, snapshot);
    let mut model = snapshot.clone();
    let mut best: Option<(Cost, Preemption)> = None;
    for node in nodes {
        let refused = filters::check(pod, node, snapshot, &volumes, &neighbours).err();
        if refused.is_none_or(|why| !why.waits_for.pods_gone) {
            continue;
        }
        let Some((cost, victims)) = victims_on(pod, node, &mut model) else {
            continue;
        };
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            let node = node.name.clone();
            best = Some((cost, Preemption { node, victims }));
        }
    }
    best.map(|(_, preemption)| preemption)
}

/// Whether less important pods are on their way out of the node that is kept for the pod.
fn are_leaving(pod: &Candidate, snapshot: &Snapshot) -> bool {
    let node = snapshot
        .nominated_node(&pod.key)
        .and_then(|name| snapshot.nodes.get(name));
    node.is_some_and(|node| {
        let mut others = node.pods.values();
        others.any(|other| other.is_terminating && other.priority < pod.priority)
    })
}

/// The fewest pods whose leaving makes room on a node, and what that costs. The model is as it was afterwards.
fn victims_on(pod: &Candidate, node: &NodeState, model: &mut Snapshot) -> Option<(Cost, Vec<Arc<Candidate>>)> {
    let is_less = |other: &&Arc<Candidate>| other.priority < pod.priority;
    let mut less: Vec<_> = node.pods.values().filter(is_less).cloned().collect();
    less.sort_by_key(|other| (Reverse(other.priority), other.started_at));
    for other in &less {
        model.remove_pod(&other.key);
    }
    let chosen = fits(pod, &node.name, model).then(|| spare(pod, &node.name, &less, model));
    for other in &less {
        model.set_pod(&node.name, Arc::clone(other));
    }
    let (broken, victims) = chosen?;
    let highest = victims.first()?.priority;
    let sum = victims
        .iter()
        .map(|victim| i64::from(victim.priority) - i64::from(i32::MIN))
        .sum();
    let of_highest = victims.iter().filter(|victim| victim.priority == highest);
    let oldest = of_highest.map(|victim| victim.started_at).min()?;
    Some(((broken, highest, sum, victims.len(), Reverse(oldest)), victims))
}

/// Lets pods come back as long as the pod still fits, first those whose budgets are spent; how many of those cannot,
/// and all that cannot.
fn spare(pod: &Candidate, node: &str, less: &[Arc<Candidate>], model: &mut Snapshot) -> (usize, Vec<Arc<Candidate>>) {
    let (spent, free) = by_budget(less, model);
    let (mut broken, mut victims) = (0, Vec::new());
    for (others, breaks) in [(spent, true), (free, false)] {
        for other in others {
            model.set_pod(node, Arc::clone(&other));
            if fits(pod, node, model) {
                continue;
            }
            model.remove_pod(&other.key);
            broken += usize::from(breaks);
            victims.push(other);
        }
    }
    victims.sort_by_key(|victim| (Reverse(victim.priority), victim.started_at));
    (broken, victims)
}

/// Parts pods into those whose leaving would break a budget, were all of them to leave, and the others.
fn by_budget(less: &[Arc<Candidate>], model: &Snapshot) -> (Vec<Arc<Candidate>>, Vec<Arc<Candidate>>) {
    let mut budgets: Vec<_> = model.budgets.values().cloned().collect();
    less.iter().cloned().partition(|other| {
        let mut breaks = false;
        for budget in budgets.iter_mut().filter(|budget| budget.covers(other)) {
            budget.allowed = budget.allowed.saturating_sub(1);
            breaks |= budget.allowed < 0;
        }
        breaks
    })
}

fn fits(pod: &Candidate, node: &str, model: &Snapshot) -> bool {
    let (Ok(volumes), Some(node)) = (PodVolumes::of(pod, model), model.nodes.get(node)) else {
        return false;
    };
    filters::check(pod, node, model, &volumes, &Neighbours::of(pod, model)).is_ok()
}
