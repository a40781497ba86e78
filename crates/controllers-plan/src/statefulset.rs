//! StatefulSets: ordered pods with stable names and claims.
//!
//! [`plan`] is the whole controller. In order: who belongs to the set ([`membership`]), which revision its template is
//! ([`revision`]), which pod must be made, awaited or removed next ([`replicas`]), which one must give way to the new
//! revision ([`rollout`]), what the claims' owners are ([`claims`]), and what to say of it all ([`status`]). Rule
//! numbers (A1 …) are those of the project's StatefulSet contract.

use std::collections::BTreeMap;

use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use jiff::Timestamp;
use serde_json::Value;

use crate::{Plan, Reason, Step, is_terminating};

pub(crate) mod canonical;
mod claims;
mod forecast;
pub(crate) mod health;
mod identity;
mod membership;
mod recreate;
mod replicas;
mod revision;
mod rollout;
mod service;
mod status;
mod telling;

pub use claims::names as claim_names;
pub use forecast::{Beginning, Forecast, Foreseen, forecast};
pub use health::trouble;
pub use identity::{POD_INDEX_LABEL, POD_NAME_LABEL, REVISION_LABEL, parse_name, pod_name};
pub use revision::{HASH_LABEL, data_of, hash, name as revision_name};
pub use service::service_problem;
pub use status::WAITING_CONDITION;

use claims::Claims;
use identity::label;
use membership::{Members, SetSelector};
use revision::Revisions;

/// What may be switched. The defaults are what people expect of a cluster today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gates {
    /// `MaxUnavailableStatefulSet`: `rollingUpdate.maxUnavailable` is honoured (upstream's default from 1.37).
    pub max_unavailable: bool,
    /// `StatefulSetRecreateStrategy`: `updateStrategy.type: Recreate` is honoured (alpha in 1.37); without it such a
    /// set is updated as by `RollingUpdate`.
    pub recreate: bool,
    /// A rolling update is complete when all pods are *available*; upstream (A8.5) takes *ready* for enough.
    pub completion_by_availability: bool,
    /// The condition `Waiting` names the pod that the set waits for; upstream sets no conditions.
    pub waiting_condition: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            max_unavailable: true,
            recreate: false,
            completion_by_availability: false,
            waiting_condition: true,
        }
    }
}

/// All that a decision about one set rests on.
///
/// More objects than needed do no harm: each list may be all of the namespace.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The set.
    pub set: &'a StatefulSet,
    /// Its `spec.template` as served, byte for byte what revisions record (A6.3).
    pub template: &'a Value,
    /// Its pods, those of nobody, and those that bear a name of the set's.
    pub pods: Vec<&'a Pod>,
    /// The claims that bear a name of the set's.
    pub claims: Vec<&'a PersistentVolumeClaim>,
    /// Its revisions, those of nobody, and those that bear a name of the set's.
    pub revisions: Vec<&'a ControllerRevision>,
    /// The Service of the name that the set says: `None` if nobody looked, `Some(None)` if there is none.
    pub service: Option<Option<&'a Service>>,
    /// How often in a row the pod of an ordinal has ended without ever having been ready (A7.12); ordinals that are
    /// not listed have not. Objects do not remember this, so whoever calls does.
    pub early_ends: &'a BTreeMap<i64, u32>,
    /// What is switched on.
    pub gates: Gates,
}

/// How a set's pods come to a new revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    /// One after the other, by the controller.
    Rolling,
    /// By people who delete them.
    OnDelete,
    /// All at once.
    Recreate,
}

/// Decides what to do next about a set.
pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let selector = match SetSelector::of(seen.set) {
        Ok(selector) => selector,
        Err(problem) => return hopeless(seen.set, &problem),
    };
    let members = Members::of(seen.set, &seen.pods, &selector);
    let revisions = Revisions::of(seen, &selector);
    if let Some(plan) = take_in(seen, &members, &revisions) {
        return plan;
    }
    let facts = Facts::new(seen, members, revisions, now);
    let mut draft = Plan::default();
    if !is_terminating(&seen.set.metadata) {
        prepare(&facts, &mut draft);
        replicas::advance(&facts, &mut draft);
        conclude(&facts, &mut draft);
        draft
            .events
            .extend(seen.service.and_then(|service| service::warning(seen.set, service)));
    }
    status::conclude(&facts, &mut draft);
    draft
}

/// Why a set is not as desired, computed from observed objects alone: who waits for what. Empty if all is well.
pub fn because(seen: &Observed<'_>, now: Timestamp) -> Vec<Reason> {
    plan(seen, now).because
}

/// A selector that cannot be parsed helps nobody, and trying again does not either (A5.7).
fn hopeless(set: &StatefulSet, problem: &str) -> Plan {
    let name = set.metadata.name.clone().unwrap_or_default();
    let message = format!("{name} waits for a valid selector: {problem}");
    Plan {
        because: vec![Reason::waits(&name, "InvalidSelector", &name, message)],
        ..Plan::default()
    }
}

/// Adopting and releasing come before all else, and alone: what else to do depends on how they end.
fn take_in(seen: &Observed<'_>, members: &Members<'_>, revisions: &Revisions<'_>) -> Option<Plan> {
    let mut actions = members.changes(seen.set);
    if !is_terminating(&seen.set.metadata) {
        actions.extend(revisions.adoptions(seen.set));
    }
    if actions.is_empty() {
        return None;
    }
    let name = seen.set.metadata.name.as_deref().unwrap_or_default();
    let tell = |pod: &&Pod, reason, verb: &str| {
        let pod = pod.metadata.name.clone().unwrap_or_default();
        let message = format!("{pod} is {verb} {name}");
        Reason::acts(pod, reason, message)
    };
    let adopted = members.adopted.iter().map(|pod| tell(pod, "Adopts", "adopted by"));
    let released = members.released.iter().map(|pod| tell(pod, "Releases", "released by"));
    let mut because: Vec<_> = adopted.chain(released).collect();
    for orphan in &revisions.orphans {
        let revision = orphan.metadata.name.clone().unwrap_or_default();
        let message = format!("{revision} is adopted by {name}");
        because.push(Reason::acts(revision, "Adopts", message));
    }
    let steps = vec![Step::Together(actions.into_iter().map(|action| vec![action]).collect())];
    Some(Plan {
        steps,
        because,
        ..Plan::default()
    })
}

/// The revision comes first, for pods are labelled with it.
fn prepare(facts: &Facts<'_>, draft: &mut Plan) {
    if let Some(action) = facts.revisions.action.clone() {
        let message = format!("{} becomes the revision of {}", facts.revisions.update, facts.name);
        draft
            .because
            .push(Reason::acts(&facts.revisions.update, "RecordsRevision", message));
        draft.steps.push(Step::One(action));
    }
}

/// What disturbs no pod and so waits for nothing: owners of claims, and history.
fn conclude(facts: &Facts<'_>, draft: &mut Plan) {
    let mut chains: Vec<_> = Vec::new();
    for (&ordinal, pod) in &facts.in_range {
        let ownership = claims::ownership(facts.set, &facts.claims, pod, ordinal, false);
        telling::conflicts(facts, &ownership.conflicts, draft);
        if !ownership.repairs.is_empty() {
            let name = pod_name(facts.name, ordinal);
            let message = format!("the claims of {name} get the owner that the retention policy wants");
            draft.because.push(Reason::acts(name, "SetsClaimOwner", message));
            chains.push(ownership.repairs);
        }
    }
    let in_use = facts
        .members
        .claimed
        .iter()
        .map(|pod| label(pod, REVISION_LABEL))
        .collect();
    for deletion in facts.revisions.truncation(facts.set, &in_use) {
        let name = deletion.key().name.clone();
        let message = format!("{name} is older than the history that {} keeps", facts.name);
        draft.because.push(Reason::acts(name, "ForgetsRevision", message));
        chains.push(vec![deletion]);
    }
    if !chains.is_empty() {
        draft.steps.push(Step::Together(chains));
    }
}

/// What is observed, sorted by the questions that the phases ask.
struct Facts<'a> {
    set: &'a StatefulSet,
    template: &'a Value,
    gates: Gates,
    now: Timestamp,
    early_ends: &'a BTreeMap<i64, u32>,
    name: &'a str,
    /// Ordinals `start..end` are wanted.
    start: i64,
    end: i64,
    is_ordered: bool,
    min_ready_s: i32,
    members: Members<'a>,
    revisions: Revisions<'a>,
    claims: Claims<'a>,
    /// The set's pods with a wanted ordinal.
    in_range: BTreeMap<i64, &'a Pod>,
    /// The set's pods with another ordinal.
    condemned: BTreeMap<i64, &'a Pod>,
}

impl<'a> Facts<'a> {
    fn new(seen: &Observed<'a>, members: Members<'a>, revisions: Revisions<'a>, now: Timestamp) -> Self {
        let set = seen.set;
        let spec = set.spec.as_ref();
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let start = spec.and_then(|spec| spec.ordinals.as_ref()?.start).map_or(0, i64::from);
        let end = start + i64::from(spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0));
        let (mut in_range, mut condemned) = (BTreeMap::new(), BTreeMap::new());
        for &pod in &members.claimed {
            let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
            let Some((_, Some(ordinal))) = parse_name(pod_name) else {
                continue;
            };
            // `web-01` has an ordinal but not the name that goes with it: no replica, and nothing to remove.
            if pod_name != self::pod_name(name, ordinal) {
                continue;
            }
            let side = if (start..end).contains(&ordinal) {
                &mut in_range
            } else {
                &mut condemned
            };
            side.insert(ordinal, pod);
        }
        Self {
            set,
            template: seen.template,
            gates: seen.gates,
            now,
            early_ends: seen.early_ends,
            name,
            start,
            end,
            is_ordered: spec.and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel"),
            min_ready_s: spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
            members,
            revisions,
            claims: seen
                .claims
                .iter()
                .map(|claim| (claim.metadata.name.as_deref().unwrap_or_default(), *claim))
                .collect(),
            in_range,
            condemned,
        }
    }

    fn spec(&self) -> Option<&'a StatefulSetSpec> {
        self.set.spec.as_ref()
    }

    /// How the pods come to a new revision; what is not known is left to people.
    fn strategy(&self) -> Strategy {
        let strategy = self.spec().and_then(|spec| spec.update_strategy.as_ref());
        match strategy.and_then(|strategy| strategy.type_.as_deref()) {
            None | Some("RollingUpdate") => Strategy::Rolling,
            Some("Recreate") if self.gates.recreate => Strategy::Recreate,
            Some("Recreate") => Strategy::Rolling,
            Some(_) => Strategy::OnDelete,
        }
    }

    /// How many pods are wanted.
    fn wanted(&self) -> i64 {
        self.end - self.start
    }

    fn pod_name(&self, ordinal: i64) -> String {
        pod_name(self.name, ordinal)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        health::is_unavailable(pod, self.min_ready_s, self.now)
    }

    fn is_outdated(&self, pod: &Pod) -> bool {
        label(pod, REVISION_LABEL) != self.revisions.update
    }

    /// Why a pod is not available, as a word and a clause.
    fn trouble(&self, pod: &Pod) -> (&'static str, String) {
        trouble(pod, self.min_ready_s, self.now).unwrap_or_else(|| ("Available", "it is available".to_owned()))
    }
}

fn uid_of(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}
