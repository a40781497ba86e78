//! DaemonSets: one pod on every node that takes it.
//!
//! [`plan`] in order: which revision the template is ([`history`]), which nodes want a pod and which pods must go
//! ([`nodes`]), and if all nodes have what they want, the next step of an update ([`update`]).

use std::collections::{BTreeMap, BTreeSet};

use api::k8s::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus};
use api::k8s::api::core::v1::{Node, Pod};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::claiming::Owner;
use crate::difference::{between, unless_zero};
use crate::pods::{available_at, is_available, is_ready, name_of, next_time};
use crate::selection::{Selection, is_empty};
use crate::{Action, Event, EventType, Notice, Plan, Reason, Step, is_terminating};

mod history;
mod nodes;
mod update;

pub use nodes::{FORGET_AFTER, target_of};

use history::History;

/// The label with the hash of the revision that a pod is of.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// How many pods one plan creates at most, and how many it deletes; their events bring on the next plan.
const BURST: usize = 250;

/// All that a decision about one DaemonSet rests on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The set.
    pub set: &'a DaemonSet,
    /// Its `spec.template` as served, byte for byte what revisions record.
    pub template: &'a Value,
    /// The pods that it controls, and those of nobody.
    pub pods: Vec<&'a Pod>,
    /// The revisions that it controls, those of nobody, and those that bear a name of its own.
    pub revisions: Vec<&'a ControllerRevision>,
    /// All nodes.
    pub nodes: Vec<&'a Node>,
    /// How often in a row the set's pods have failed on a node; nodes that are not listed have seen none. Objects do not
    /// remember this, so whoever calls does.
    pub failures: &'a BTreeMap<String, u32>,
}

/// Decides what to do next about a set.
pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let owner = Owner::of(seen.set);
    let Some(spec) = seen.set.spec.as_ref().filter(|_| !is_terminating(&seen.set.metadata)) else {
        return Plan::default();
    };
    if is_empty(&spec.selector) {
        let notice = Notice {
            reason: "SelectingAll",
            message: "This daemon set is selecting all pods. A non-empty selector is required.".to_owned(),
        };
        return Plan {
            because: vec![Reason::waits(
                owner.name(),
                notice.reason,
                owner.name(),
                notice.message.clone(),
            )],
            events: vec![Event {
                about: owner.target(),
                event_type: EventType::Warning,
                notice,
            }],
            ..Plan::default()
        };
    }
    let selection = Selection::Selector(&spec.selector);
    let mut claim = owner.claim(selection, &seen.pods);
    let mut revisions = owner.claim(selection, &seen.revisions);
    if let Some(plan) = claim.plan().or_else(|| revisions.plan()) {
        return plan;
    }
    let history = match History::of(seen, owner, &revisions.own) {
        Ok(history) => history,
        Err(plan) => return *plan,
    };
    let mut work = Work::new(seen, spec, owner, &claim.own, history, now);
    work.decide();
    work.draft
}

/// Work on one DaemonSet: what is known, and what has been decided so far.
struct Work<'a> {
    seen: &'a Observed<'a>,
    spec: &'a DaemonSetSpec,
    owner: Owner<'a>,
    now: Timestamp,
    history: History<'a>,
    /// The pods of each node, those on it and those meant for it; the oldest first.
    pods: BTreeMap<&'a str, Vec<&'a Pod>>,
    /// The pods that the template makes, as far as nodes are concerned.
    model: api::k8s::api::core::v1::PodSpec,
    draft: Plan,
}

impl<'a> Work<'a> {
    fn new(
        seen: &'a Observed<'a>,
        spec: &'a DaemonSetSpec,
        owner: Owner<'a>,
        own: &[&'a Pod],
        history: History<'a>,
        now: Timestamp,
    ) -> Self {
        let mut pods: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for &pod in own {
            if let Some(node) = target_of(pod) {
                pods.entry(node).or_default().push(pod);
            }
        }
        for of_node in pods.values_mut() {
            of_node.sort_by_key(|pod| {
                let born = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
                (crate::pods::node_of(pod).is_none(), born, pod.metadata.name.as_deref())
            });
        }
        Self {
            seen,
            spec,
            owner,
            now,
            history,
            pods,
            model: nodes::model(&spec.template),
            draft: Plan::default(),
        }
    }

    fn decide(&mut self) {
        let action = self.history.action.take();
        self.draft.steps.extend(action.map(Step::One));
        let (create, delete) = self.manage();
        let (create, delete) = if create.is_empty() && delete.is_empty() {
            self.update()
        } else {
            (create, delete)
        };
        self.act(&create, &delete);
        self.forget_history();
        self.tell();
    }

    /// Deletes pods, and creates pods for nodes.
    fn act(&mut self, create: &BTreeSet<&'a str>, delete: &[(&'a Pod, String)]) {
        let taken = self.seen.pods.iter().map(|pod| name_of(&pod.metadata));
        let prefix = format!("{}-", self.owner.name());
        let mut names = crate::names::FreshNames::new(&prefix, self.owner.uid(), self.now, taken);
        let mut chains = Vec::new();
        for node in create.iter().take(BURST) {
            let pod = self.pod(names.next(), node);
            let name = name_of(&pod.metadata);
            self.draft.because.push(Reason::acts(
                name,
                "Creates",
                format!("{name} is created for node {node}"),
            ));
            chains.push(vec![crate::pods::create(self.owner, &pod)]);
        }
        for (pod, why) in delete.iter().take(BURST) {
            let name = name_of(&pod.metadata);
            self.draft
                .because
                .push(Reason::acts(name, "Deletes", format!("{name} is deleted: {why}")));
            chains.push(vec![crate::pods::delete(self.owner, pod)]);
        }
        if !chains.is_empty() {
            self.draft.steps.push(Step::Together(chains));
        }
    }

    fn min_ready_s(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_available(pod, self.min_ready_s(), self.now)
    }

    /// The status, and when to look again.
    fn tell(&mut self) {
        let (mut desired, mut current, mut misscheduled) = (0, 0, 0);
        let (mut ready, mut available, mut updated) = (0, 0, 0);
        for node in &self.seen.nodes {
            let oldest = self.pods.get(name_of(&node.metadata)).and_then(|pods| pods.first());
            if !self.should_run(node).0 {
                misscheduled += i32::from(oldest.is_some());
                continue;
            }
            desired += 1;
            if let Some(pod) = oldest {
                current += 1;
                ready += i32::from(is_ready(pod));
                available += i32::from(self.is_available(pod));
                updated += i32::from(self.is_updated(pod));
            }
        }
        let before = self.seen.set.status.clone().unwrap_or_default();
        let new = DaemonSetStatus {
            observed_generation: self.seen.set.metadata.generation,
            desired_number_scheduled: desired,
            current_number_scheduled: current,
            number_misscheduled: misscheduled,
            number_ready: ready,
            number_available: unless_zero(available),
            number_unavailable: unless_zero(desired - available),
            updated_number_scheduled: unless_zero(updated),
            collision_count: before.collision_count,
            conditions: before.conditions.clone(),
        };
        if let Some(change) = between(&before, &new) {
            self.draft.status = Some(Action::patch_status(self.owner.target(), json!({ "status": change })));
        }
        if available < desired && self.draft.steps.is_empty() {
            let message = format!(
                "{} waits for its pods: {available} of {desired} are available",
                self.owner.name()
            );
            self.draft.because.push(Reason::waits(
                self.owner.name(),
                "WaitsForAvailability",
                self.owner.name(),
                message,
            ));
        }
        let times = self
            .pods
            .values()
            .flatten()
            .filter_map(|pod| available_at(pod, self.min_ready_s()));
        self.draft.again_at = next_time(times.chain(self.draft.again_at), self.now);
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get(HASH_LABEL));
        hash.is_some_and(|hash| self.history.hashes.contains(hash.as_str()))
    }
}

#[cfg(test)]
mod tests;
