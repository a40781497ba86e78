//! ReplicaSets and ReplicationControllers: so many pods of a template, which ones does not matter.
//!
//! Both kinds are one decision: [`plan`] is about a [`Replicated`], which either of them is. In order: whose pods are
//! they, how many are missing or too many, which of them go first ([`victims`]), and what to say of it ([`status`]).

use api::k8s::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use api::k8s::api::core::v1::{Pod, PodTemplateSpec, ReplicationController};
use api::k8s::apimachinery::pkg::apis::meta::v1::LabelSelector;
use jiff::Timestamp;

use crate::claiming::Owner;
use crate::names::FreshNames;
use crate::pods::{self, name_of};
use crate::selection::{Labels, Selection};
use crate::{Plan, Reason, Step, is_terminating};

mod status;
pub(crate) mod victims;

/// How many pods one plan creates or deletes at most; their events bring on the next plan.
const BURST: usize = 500;

/// What keeps a number of pods of a template.
#[derive(Clone, Debug)]
pub struct Replicated<'a> {
    owner: Owner<'a>,
    replicas: i32,
    min_ready_s: i32,
    selection: Selection<'a>,
    template: Option<&'a PodTemplateSpec>,
    status: ReplicaSetStatus,
}

impl<'a> From<&'a ReplicaSet> for Replicated<'a> {
    fn from(set: &'a ReplicaSet) -> Self {
        static NOTHING: LabelSelector = LabelSelector {
            match_expressions: None,
            match_labels: None,
        };
        let spec = set.spec.as_ref();
        Self {
            owner: Owner::of(set),
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            min_ready_s: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
            selection: Selection::Selector(spec.map_or(&NOTHING, |spec| &spec.selector)),
            template: spec.and_then(|spec| spec.template.as_ref()),
            status: set.status.clone().unwrap_or_default(),
        }
    }
}

impl<'a> From<&'a ReplicationController> for Replicated<'a> {
    fn from(set: &'a ReplicationController) -> Self {
        let spec = set.spec.as_ref();
        // The two kinds of status have the same fields but for one; conditions differ in nothing but the type's name.
        let status = serde_json::to_value(&set.status).and_then(serde_json::from_value);
        Self {
            owner: Owner::of(set),
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            min_ready_s: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
            selection: Selection::Map(spec.and_then(|spec| spec.selector.as_ref())),
            template: spec.and_then(|spec| spec.template.as_ref()),
            status: status.ok().flatten().unwrap_or_default(),
        }
    }
}

impl Replicated<'_> {
    /// Whether pods with these labels could be its own.
    pub fn selects(&self, labels: Option<&Labels>) -> bool {
        !self.selection.is_empty() && self.selection.selects(labels)
    }
}

/// All that a decision rests on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The ReplicaSet or ReplicationController.
    pub set: Replicated<'a>,
    /// The pods that it controls, and those of nobody.
    pub pods: Vec<&'a Pod>,
    /// The pods of its siblings (other ReplicaSets of the same Deployment): of two pods to remove, that one goes which
    /// shares its node with more of these.
    pub related: Vec<&'a Pod>,
    /// What the server said when the last plan was carried out, if that failed.
    pub failure: Option<String>,
}

/// Decides what to do next.
pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let set = &seen.set;
    if set.selection.is_empty() {
        let name = set.owner.name();
        let message = format!("{name} waits for a selector that selects something in particular");
        return Plan {
            because: vec![Reason::waits(name, "InvalidSelector", name, message)],
            ..Plan::default()
        };
    }
    let mut claim = set.owner.claim(set.selection, &seen.pods);
    if let Some(plan) = claim.plan() {
        return plan;
    }
    let active: Vec<&Pod> = claim.own.iter().copied().filter(|pod| pods::is_active(pod)).collect();
    let mut draft = Plan::default();
    if !is_terminating(set.owner.meta) {
        match usize::try_from(set.replicas).unwrap_or(0) {
            wanted if wanted > active.len() => create(seen, (wanted - active.len()).min(BURST), now, &mut draft),
            wanted if wanted < active.len() => {
                remove(seen, &active, (active.len() - wanted).min(BURST), now, &mut draft)
            }
            _ => {}
        }
    }
    status::conclude(seen, &claim.own, &active, now, &mut draft);
    draft
}

fn create(seen: &Observed<'_>, count: usize, now: Timestamp, draft: &mut Plan) {
    let (owner, Some(template)) = (seen.set.owner, seen.set.template) else {
        return;
    };
    let taken = seen.pods.iter().map(|pod| name_of(&pod.metadata));
    let mut names = FreshNames::new(&format!("{}-", owner.name()), owner.uid(), now, taken);
    let mut chains = Vec::new();
    for _ in 0..count {
        let pod = pods::from_template(owner, template, names.next());
        let name = name_of(&pod.metadata);
        let message = format!("{name} is created: {} wants {} pods", owner.name(), seen.set.replicas);
        draft.because.push(Reason::acts(name, "Creates", message));
        chains.push(vec![pods::create(owner, &pod)]);
    }
    draft.steps.push(Step::Together(chains));
}

fn remove(seen: &Observed<'_>, active: &[&Pod], count: usize, now: Timestamp, draft: &mut Plan) {
    let owner = seen.set.owner;
    let mut chains = Vec::new();
    for pod in victims::choose(active, &seen.related, count, now) {
        let name = name_of(&pod.metadata);
        let message = format!("{name} is deleted: {} wants {} pods", owner.name(), seen.set.replicas);
        draft.because.push(Reason::acts(name, "Deletes", message));
        chains.push(vec![pods::delete(owner, pod)]);
    }
    draft.steps.push(Step::Together(chains));
}
