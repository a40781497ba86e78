//! PodDisruptionBudgets: how many of the pods that one selects may be missing right now.
//!
//! The eviction API lowers `disruptionsAllowed` and names the pods it evicts in `disruptedPods`; here both are counted
//! anew from what is seen. [`plan_pod`] takes back the condition `DisruptionTarget` of a pod that nobody disrupted
//! after all.

use std::collections::BTreeMap;

use api::k8s::api::core::v1::Pod;
use api::k8s::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use api::k8s::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::difference::between;
use crate::pods::{condition, has_ended, name_of, next_time, scaled};
use crate::{Action, Event, EventType, Notice, Plan, Reason, Target, controller_of, is_terminating};

/// How long an evicted pod may take until it is being deleted, and how long a pod may be meant to be disrupted.
const PATIENCE: SignedDuration = SignedDuration::from_secs(120);

const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";
const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// How many pods an owner wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The owner's uid: that of the Deployment for pods of its ReplicaSets.
    pub uid: String,
    /// The number in its scale.
    pub replicas: i32,
}

/// All that a decision about one budget rests on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The budget.
    pub budget: &'a PodDisruptionBudget,
    /// The pods that it selects.
    pub pods: Vec<&'a Pod>,
    /// The scales of the pods' controllers, by the uid of the controller that the pods name; the missing ones have
    /// none.
    pub scales: BTreeMap<String, Scale>,
}

/// Decides what to say of a budget.
pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let budget = seen.budget;
    let before = budget.status.clone().unwrap_or_default();
    let mut draft = Plan::default();
    if seen.pods.is_empty() {
        draft.events.push(event(
            budget,
            EventType::Normal,
            "NoPods",
            "No matching pods found".to_owned(),
        ));
    }
    let new = match expectation(seen) {
        Ok(expectation) => {
            warn_of_unmanaged(seen, &expectation, &mut draft);
            counted(seen, &before, &expectation, now, &mut draft)
        }
        Err(problem) => {
            let message = format!("Failed to calculate the number of expected pods: {problem}");
            draft.events.push(event(
                budget,
                EventType::Warning,
                "CalculateExpectedPodCountFailed",
                message,
            ));
            let name = name_of(&budget.metadata);
            draft.because.push(Reason::waits(
                name,
                "SyncFailed",
                name,
                format!("{name} allows nothing: {problem}"),
            ));
            draft.retry = Some(problem.clone());
            failed(&before, problem, now)
        }
    };
    if let Some(change) = between(&before, &new) {
        draft.status = Some(Action::patch_status(Target::of(budget), json!({ "status": change })));
    }
    draft
}

/// How many pods there should be, and how many of them must be healthy.
struct Expectation {
    pods: i32,
    healthy: i32,
    unmanaged: Vec<String>,
}

fn expectation(seen: &Observed<'_>) -> Result<Expectation, String> {
    let spec = seen.budget.spec.as_ref();
    let max_unavailable = spec.and_then(|spec| spec.max_unavailable.as_ref());
    let min_available = spec.and_then(|spec| spec.min_available.as_ref());
    match (max_unavailable, min_available) {
        (Some(limit), _) => {
            let (pods, unmanaged) = wanted_by_owners(seen)?;
            let healthy = (pods - scaled(Some(limit), pods, true)).max(0);
            Ok(Expectation {
                pods,
                healthy,
                unmanaged,
            })
        }
        (None, Some(IntOrString::Int(healthy))) => Ok(Expectation {
            pods: len(&seen.pods),
            healthy: *healthy,
            unmanaged: Vec::new(),
        }),
        (None, Some(limit)) => {
            let (pods, unmanaged) = wanted_by_owners(seen)?;
            let healthy = scaled(Some(limit), pods, true);
            Ok(Expectation {
                pods,
                healthy,
                unmanaged,
            })
        }
        (None, None) => Ok(Expectation {
            pods: 0,
            healthy: 0,
            unmanaged: Vec::new(),
        }),
    }
}

/// The sum of the scales of the pods' owners, each counted once, and the pods without an owner.
fn wanted_by_owners(seen: &Observed<'_>) -> Result<(i32, Vec<String>), String> {
    let mut owners = BTreeMap::new();
    let mut unmanaged = Vec::new();
    for pod in &seen.pods {
        let name = name_of(&pod.metadata);
        match controller_of(&pod.metadata) {
            None => unmanaged.push(name.to_owned()),
            Some(owner) => {
                let scale = seen.scales.get(&owner.uid);
                let scale = scale.ok_or_else(|| format!("found no controllers for pod \"{name}\""))?;
                owners.insert(&scale.uid, scale.replicas);
            }
        }
    }
    Ok((owners.values().sum(), unmanaged))
}

fn warn_of_unmanaged(seen: &Observed<'_>, expectation: &Expectation, draft: &mut Plan) {
    if !expectation.unmanaged.is_empty() {
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged: {}. They do not count \
             among the pods that there should be; set spec.minAvailable to a number to account for them.",
            text_of(seen.budget.spec.as_ref().and_then(|spec| spec.selector.as_ref())),
            expectation.unmanaged.join(", "),
        );
        draft
            .events
            .push(event(seen.budget, EventType::Warning, "UnmanagedPods", message));
    }
}

fn counted(
    seen: &Observed<'_>,
    before: &PodDisruptionBudgetStatus,
    expectation: &Expectation,
    now: Timestamp,
    draft: &mut Plan,
) -> PodDisruptionBudgetStatus {
    let disrupted = disrupted(seen, before, now, draft);
    let is_healthy = |pod: &&&Pod| {
        let is_ready = condition(pod, "Ready").is_some_and(|ready| ready.status == "True");
        is_ready && !is_terminating(&pod.metadata) && !disrupted.contains_key(name_of(&pod.metadata))
    };
    let healthy = i32::try_from(seen.pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let spare = (healthy - expectation.healthy).max(0);
    let allowed = if expectation.pods <= 0 { 0 } else { spare };
    let name = name_of(&seen.budget.metadata);
    if allowed == 0 {
        let message = format!(
            "{name} allows no disruption: {healthy} pods are healthy, {} must be",
            expectation.healthy
        );
        draft
            .because
            .push(Reason::waits(name, "InsufficientPods", name, message));
    }
    let generation = seen.budget.metadata.generation;
    let mut new = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expectation.healthy),
        expected_pods: Some(expectation.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|disrupted| !disrupted.is_empty()),
        observed_generation: generation,
        conditions: before.conditions.clone(),
    };
    let (status, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    set_condition(&mut new, status, reason, String::new(), now);
    new
}

/// The evicted pods that will soon be on their way out, and so do not count as healthy any more.
fn disrupted(
    seen: &Observed<'_>,
    before: &PodDisruptionBudgetStatus,
    now: Timestamp,
    draft: &mut Plan,
) -> BTreeMap<String, Time> {
    let known = before.disrupted_pods.clone().unwrap_or_default();
    let alive = seen.pods.iter().filter(|pod| !is_terminating(&pod.metadata));
    let mut disrupted = BTreeMap::new();
    for pod in alive {
        let name = name_of(&pod.metadata);
        let Some(since) = known.get(name) else { continue };
        let ends_at = since.0.checked_add(PATIENCE).unwrap_or(Timestamp::MAX);
        if ends_at < now {
            let message = format!(
                "Pod was expected by PDB {}/{} to be deleted but it wasn't",
                seen.budget.metadata.namespace.as_deref().unwrap_or_default(),
                name_of(&seen.budget.metadata)
            );
            draft.events.push(Event {
                about: Target::of(*pod),
                event_type: EventType::Warning,
                notice: Notice {
                    reason: "NotDeleted",
                    message,
                },
            });
        } else {
            disrupted.insert(name.to_owned(), since.clone());
            draft.again_at = next_time(draft.again_at.into_iter().chain([ends_at]), now);
        }
    }
    disrupted
}

/// What cannot be counted allows nothing.
fn failed(before: &PodDisruptionBudgetStatus, problem: String, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut new = before.clone();
    new.disruptions_allowed = Some(0);
    set_condition(&mut new, "False", "SyncFailed", problem, now);
    new
}

fn set_condition(new: &mut PodDisruptionBudgetStatus, status: &str, reason: &str, message: String, now: Timestamp) {
    let observed_generation = new.observed_generation;
    let conditions = new.conditions.get_or_insert_default();
    let known = conditions.iter().position(|known| known.type_ == DISRUPTION_ALLOWED);
    let since = known.map(|at| &conditions[at]).filter(|known| known.status == status);
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since.map_or(Time(now), |known| known.last_transition_time.clone()),
        observed_generation,
    };
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

fn event(budget: &PodDisruptionBudget, event_type: EventType, reason: &'static str, message: String) -> Event {
    Event {
        about: Target::of(budget),
        event_type,
        notice: Notice { reason, message },
    }
}

fn len(pods: &[&Pod]) -> i32 {
    i32::try_from(pods.len()).unwrap_or(i32::MAX)
}

fn text_of(selector: Option<&LabelSelector>) -> String {
    selector.map_or_else(|| "none".to_owned(), |selector| json!(selector).to_string())
}

/// A pod that was meant to be disrupted and then was not is no target any more after a while.
pub fn plan_pod(pod: &Pod, now: Timestamp) -> Plan {
    let target = condition(pod, DISRUPTION_TARGET).filter(|target| target.status == "True");
    let Some(target) = target.filter(|_| !is_terminating(&pod.metadata) && !has_ended(pod)) else {
        return Plan::default();
    };
    // Node agents announce a termination long before they can tell of its end.
    if target.reason.as_deref() == Some("TerminationByKubelet") {
        return Plan::default();
    }
    let since = target
        .last_transition_time
        .as_ref()
        .map_or(Timestamp::MIN, |time| time.0);
    let ends_at = since.checked_add(PATIENCE).unwrap_or(Timestamp::MAX);
    let name = name_of(&pod.metadata);
    if ends_at > now {
        return Plan {
            because: vec![Reason::waits(
                name,
                "DisruptionTarget",
                name,
                format!("{name} is meant to be disrupted"),
            )],
            again_at: Some(ends_at),
            ..Plan::default()
        };
    }
    let mut conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    for known in conditions.iter_mut().filter(|known| known.type_ == DISRUPTION_TARGET) {
        "False".clone_into(&mut known.status);
        known.reason = None;
        known.message = None;
        known.last_transition_time = Some(Time(now));
        known.observed_generation = pod.metadata.generation;
    }
    let patch = json!({ "status": { "conditions": conditions } });
    Plan {
        status: Some(Action::patch_status(Target::of(pod), patch)),
        because: vec![Reason::acts(
            name,
            "DisruptionTarget",
            format!("{name} was not disrupted after all"),
        )],
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests;
