//! What is said of a set: its status (A8), and when to look again.

use api::k8s::api::apps::v1::{StatefulSetCondition, StatefulSetStatus};
use api::k8s::api::core::v1::Pod;
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::{Action, Plan, Target, is_terminating};

use super::{Facts, REVISION_LABEL, Strategy, health, label};

/// The condition that says what a set waits for; `True` while it waits.
pub const WAITING_CONDITION: &str = "Waiting";

/// How many reasons the condition's message joins.
const MESSAGE_REASONS_MAX: usize = 3;

/// Adds the status to a plan if it differs from what is stored, and the time to look again.
pub(super) fn conclude(facts: &Facts<'_>, draft: &mut Plan) {
    let old = facts.set.status.clone().unwrap_or_default();
    let new = observed(facts, &old, draft);
    if differs(&old, &new) {
        draft.status = Some(Action::patch_status(
            Target::of(facts.set),
            json!({ "status": patch(&new) }),
        ));
    }
    draft.again_at = [draft.again_at, next_availability(facts)].into_iter().flatten().min();
}

fn observed(facts: &Facts<'_>, old: &StatefulSetStatus, draft: &Plan) -> StatefulSetStatus {
    let revisions = &facts.revisions;
    let mut new = StatefulSetStatus {
        observed_generation: facts.set.metadata.generation,
        current_revision: Some(revisions.current.clone()),
        update_revision: Some(revisions.update.clone()),
        collision_count: Some(revisions.collision_count),
        conditions: old.conditions.clone(),
        ..count(facts)
    };
    if is_complete(facts, &new) {
        new.current_revision.clone_from(&new.update_revision);
        new.current_replicas = new.updated_replicas;
    }
    if is_terminating(&facts.set.metadata) {
        // Nothing is recorded for a set on its way out, so its revisions stay what they were.
        new.current_revision = old.current_revision.clone().or(new.current_revision);
        new.update_revision = old.update_revision.clone().or(new.update_revision);
    } else if facts.gates.waiting_condition {
        new.conditions = conditions(facts, old, draft);
    }
    new
}

/// The counts (A8.2, A8.3).
fn count(facts: &Facts<'_>) -> StatefulSetStatus {
    let pods: Vec<&Pod> = if is_terminating(&facts.set.metadata) {
        facts.members.claimed.clone()
    } else {
        facts
            .in_range
            .values()
            .chain(facts.condemned.values())
            .copied()
            .collect()
    };
    let (mut ready, mut available, mut current, mut updated, mut replicas) = (0, 0, 0, 0, 0);
    for pod in pods.into_iter().filter(|pod| health::is_created(pod)) {
        replicas += 1;
        ready += i32::from(health::is_ready(pod));
        available += i32::from(health::is_available(pod, facts.min_ready_s, facts.now));
        if !is_terminating(&pod.metadata) {
            let revision = label(pod, REVISION_LABEL);
            current += i32::from(revision == facts.revisions.current);
            updated += i32::from(revision == facts.revisions.update);
        }
    }
    StatefulSetStatus {
        replicas,
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        current_replicas: Some(current),
        updated_replicas: Some(updated),
        ..StatefulSetStatus::default()
    }
}

/// Whether a rolling update is over (A8.5).
fn is_complete(facts: &Facts<'_>, status: &StatefulSetStatus) -> bool {
    let well = if facts.gates.completion_by_availability {
        status.available_replicas
    } else {
        status.ready_replicas
    };
    facts.strategy() != Strategy::OnDelete
        && [well, status.updated_replicas, Some(status.replicas)]
            .into_iter()
            .all(|count| count.map(i64::from) == Some(facts.wanted()))
}

/// Other people's conditions as they are (A8.7), and ours.
fn conditions(facts: &Facts<'_>, old: &StatefulSetStatus, draft: &Plan) -> Option<Vec<StatefulSetCondition>> {
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let known = conditions
        .iter()
        .position(|condition| condition.type_ == WAITING_CONDITION);
    let waits: Vec<_> = draft
        .because
        .iter()
        .filter(|reason| reason.waits_for.is_some())
        .collect();
    let status = if waits.is_empty() { "False" } else { "True" };
    if waits.is_empty() && known.is_none() {
        return old.conditions.clone();
    }
    let messages: Vec<_> = waits
        .iter()
        .take(MESSAGE_REASONS_MAX)
        .map(|reason| reason.message.as_str())
        .collect();
    let since = known.map(|at| &conditions[at]).filter(|known| known.status == status);
    let since = since.and_then(|known| known.last_transition_time.clone());
    let condition = StatefulSetCondition {
        type_: WAITING_CONDITION.to_owned(),
        status: status.to_owned(),
        reason: Some(waits.first().map_or("AsDesired", |first| first.reason).to_owned()),
        message: Some(messages.join("; ")),
        last_transition_time: since.or(Some(Time(facts.now))),
    };
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    Some(conditions)
}

/// Whether writing is worth while (A8.6). An absent count is a zero.
fn differs(old: &StatefulSetStatus, new: &StatefulSetStatus) -> bool {
    let counts = |status: &StatefulSetStatus| {
        [
            Some(status.replicas),
            status.ready_replicas,
            status.available_replicas,
            status.current_replicas,
            status.updated_replicas,
        ]
        .map(Option::unwrap_or_default)
    };
    counts(old) != counts(new)
        || old.observed_generation < new.observed_generation
        || old.current_revision != new.current_revision
        || old.update_revision != new.update_revision
        || old.conditions != new.conditions
}

/// The status as a merge patch. Upstream leaves some counts out when they are zero; null does that.
fn patch(status: &StatefulSetStatus) -> Value {
    let unless_zero = |count: Option<i32>| count.filter(|count| *count != 0);
    let mut patch = json!({
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas,
        "readyReplicas": unless_zero(status.ready_replicas),
        "availableReplicas": status.available_replicas,
        "currentReplicas": unless_zero(status.current_replicas),
        "updatedReplicas": unless_zero(status.updated_replicas),
        "currentRevision": status.current_revision,
        "updateRevision": status.update_revision,
        "collisionCount": status.collision_count,
    });
    if let Some(conditions) = &status.conditions {
        patch["conditions"] = json!(conditions);
    }
    patch
}

/// The earliest moment at which a ready pod will have been ready for long enough (A7.11).
fn next_availability(facts: &Facts<'_>) -> Option<jiff::Timestamp> {
    let pods = facts.in_range.values().chain(facts.condemned.values());
    let times = pods.filter_map(|pod| health::available_at(pod, facts.min_ready_s));
    times.filter(|at| *at > facts.now).min()
}
