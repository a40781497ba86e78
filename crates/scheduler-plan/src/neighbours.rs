//! What other pods mean for a pod: affinity, anti-affinity and topology spread, counted once per decision.
//!
//! Nodes with equal values of a label form a *domain* of that label (the topology key).

use crate::candidate::{Candidate, PodTerm, Spread};
use crate::filters;
use crate::snapshot::{NodeState, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

type Domain = (String, String);

/// Counts of the pods that matter to one candidate.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    /// For each required affinity term the domains with a pod that all terms mean.
    wanted: Vec<BTreeSet<String>>,
    /// Whether the candidate may start the group it wants to be near to, being the first of it.
    may_be_first: bool,
    /// Domains with a pod that the candidate does not want.
    unwanted: BTreeSet<Domain>,
    /// Domains with a pod that does not want the candidate.
    refusing: BTreeSet<Domain>,
    /// For each spread constraint the pods in each domain that counts.
    spread: Vec<BTreeMap<String, i64>>,
    /// Wishes about other pods, by domain.
    wishes: BTreeMap<Domain, i64>,
}

const NO_AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const REFUSED: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
const SKEW: &str = "node(s) didn't match pod topology spread constraints";
const SKEW_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

impl Neighbours {
    /// Counts.
    pub(crate) fn of(pod: &Candidate, snapshot: &Snapshot) -> Self {
        let mut all = Self {
            wanted: vec![BTreeSet::new(); pod.affinity.len()],
            ..Self::default()
        };
        let cares = !(pod.affinity.is_empty() && pod.anti_affinity.is_empty() && pod.preferred_pods.is_empty());
        for node in snapshot.nodes.values() {
            for other in node
                .pods
                .values()
                .filter(|other| cares || !other.anti_affinity.is_empty())
            {
                all.count(pod, other, node, snapshot);
            }
        }
        let labels = snapshot.namespace_labels(&pod.key.0);
        let nobody_yet = all.wanted.iter().all(BTreeSet::is_empty);
        all.may_be_first = nobody_yet && pod.affinity.iter().all(|term| term.matches(pod, labels));
        all.spread = pod
            .spread
            .iter()
            .map(|spread| domains_of(pod, spread, snapshot))
            .collect();
        all
    }

    fn count(&mut self, pod: &Candidate, other: &Candidate, node: &NodeState, snapshot: &Snapshot) {
        let labels = snapshot.namespace_labels(&other.key.0);
        let domain = |term: &PodTerm| {
            let value = node.labels.get(&term.topology_key)?;
            Some((term.topology_key.clone(), value.clone()))
        };
        if !pod.affinity.is_empty() && pod.affinity.iter().all(|term| term.matches(other, labels)) {
            for (term, domains) in pod.affinity.iter().zip(&mut self.wanted) {
                domains.extend(domain(term).map(|(_, value)| value));
            }
        }
        let unwanted = pod.anti_affinity.iter().filter(|term| term.matches(other, labels));
        self.unwanted.extend(unwanted.filter_map(domain));
        for (weight, term) in pod
            .preferred_pods
            .iter()
            .filter(|(_, term)| term.matches(other, labels))
        {
            if let Some(domain) = domain(term) {
                *self.wishes.entry(domain).or_default() += weight;
            }
        }
        if !other.anti_affinity.is_empty() {
            let labels = snapshot.namespace_labels(&pod.key.0);
            let refusing = other.anti_affinity.iter().filter(|term| term.matches(pod, labels));
            self.refusing.extend(refusing.filter_map(domain));
        }
    }

    /// Why the node breaks a spread constraint that is a must, if it does.
    pub(crate) fn refuse_spread(&self, pod: &Candidate, node: &NodeState) -> Option<&'static str> {
        for (spread, domains) in pod
            .spread
            .iter()
            .zip(&self.spread)
            .filter(|(spread, _)| spread.is_required)
        {
            let Some(value) = node.labels.get(&spread.topology_key) else {
                return Some(SKEW_LABEL);
            };
            let fewest = domains.values().min().copied().unwrap_or(0);
            let fewest = if domains.len() < spread.domains_min { 0 } else { fewest };
            let itself = i64::from(spread.pods.matches(&pod.labels));
            let here = domains.get(value).copied().unwrap_or(0);
            if here + itself - fewest > spread.skew_max {
                return Some(SKEW);
            }
        }
        None
    }

    /// Why other pods keep this pod from the node, if they do.
    pub(crate) fn refuse_affinity(&self, pod: &Candidate, node: &NodeState) -> Option<&'static str> {
        let is_near = |(term, domains): (&PodTerm, &BTreeSet<String>)| {
            node.labels
                .get(&term.topology_key)
                .is_some_and(|value| self.may_be_first || domains.contains(value))
        };
        if !pod.affinity.iter().zip(&self.wanted).all(is_near) {
            return Some(NO_AFFINITY);
        }
        let is_here = |(key, value): &Domain| node.labels.get(key) == Some(value);
        if self.unwanted.iter().any(is_here) {
            return Some(ANTI_AFFINITY);
        }
        self.refusing.iter().any(is_here).then_some(REFUSED)
    }

    /// How welcome the node is by wishes about other pods.
    pub(crate) fn wish(&self, node: &NodeState) -> i64 {
        let here = self
            .wishes
            .iter()
            .filter(|((key, value), _)| node.labels.get(key) == Some(value));
        here.map(|(_, weight)| weight).sum()
    }

    /// How crowded the node's domains are by spread constraints that are wishes.
    pub(crate) fn crowd(&self, pod: &Candidate, node: &NodeState) -> i64 {
        let wishes = pod
            .spread
            .iter()
            .zip(&self.spread)
            .filter(|(spread, _)| !spread.is_required);
        let here = wishes.filter_map(|(spread, domains)| domains.get(node.labels.get(&spread.topology_key)?));
        here.sum()
    }
}

/// The domains of a constraint with the number of its pods in each; domains without any count too.
fn domains_of(pod: &Candidate, spread: &Spread, snapshot: &Snapshot) -> BTreeMap<String, i64> {
    let mut domains = BTreeMap::new();
    let same_kind = |one: &&Spread| one.is_required == spread.is_required;
    for node in snapshot.nodes.values() {
        let Some(value) = node.labels.get(&spread.topology_key) else {
            continue;
        };
        let has_all_labels = pod
            .spread
            .iter()
            .filter(same_kind)
            .all(|one| node.labels.contains_key(&one.topology_key));
        let is_possible = !spread.honors_affinity || filters::is_selected(pod, node);
        let is_tolerable = !spread.honors_taints || filters::tolerates_taints(pod, node);
        if !has_all_labels || !is_possible || !is_tolerable {
            continue;
        }
        let counts = |other: &&std::sync::Arc<Candidate>| {
            other.key.0 == pod.key.0 && !other.is_terminating && spread.pods.matches(&other.labels)
        };
        let here = i64::try_from(node.pods.values().filter(counts).count()).unwrap_or(i64::MAX);
        *domains.entry(value.clone()).or_default() += here;
    }
    domains
}
