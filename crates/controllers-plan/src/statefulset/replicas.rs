//! Which pod is made, awaited or removed next (A7.2 to A7.4).

use api::k8s::api::core::v1::Pod;
use jiff::{SignedDuration, Timestamp};

use crate::{Action, Chain, Plan, Reason, Step, Target, is_terminating};

use super::claims::{self, Obstacle};
use super::telling::{self, Blocker};
use super::{Facts, Strategy, health, identity, recreate, rollout};

/// How many pods one plan creates; the next plan goes on. Keeps a plan's size independent of `replicas`.
const CREATED_PER_PLAN_MAX: usize = 500;

/// A pod that has ended is replaced no sooner than this after it was made, so that one which is refused again and
/// again does not keep everybody busy (A7.12). Each further time without ever having been ready doubles it …
const ENDED_AGE_MIN_S: i64 = 1;

/// … up to this.
const ENDED_AGE_MAX_S: i64 = 30;

/// Plans the steps about pods.
pub(super) fn advance(facts: &Facts<'_>, draft: &mut Plan) {
    if facts.strategy() == Strategy::Recreate && recreate::clear(facts, draft) {
        return;
    }
    if facts.is_ordered {
        in_order(facts, draft)
    } else {
        all_at_once(facts, draft)
    }
}

/// `OrderedReady`: one thing at a time, upward, then downward, then the update.
fn in_order(facts: &Facts<'_>, draft: &mut Plan) {
    for ordinal in facts.start..facts.end {
        let mut steps = Chain::new();
        let blocker = match facts.in_range.get(&ordinal) {
            Some(pod) => visit(facts, ordinal, pod, &mut steps, draft),
            None => create(facts, ordinal, &mut steps, draft),
        };
        draft.steps.extend(steps.into_iter().map(Step::One));
        if let Some(blocker) = blocker {
            telling::held_back(facts, ordinal, &blocker, draft);
            return;
        }
    }
    if facts.condemned.is_empty() {
        let deletions = rollout::advance(facts, draft);
        draft.steps.extend(deletions.into_iter().map(Step::One));
    } else {
        remove_highest(facts, draft);
    }
}

/// `Parallel`: everything that can be done, at once; nothing waits for anything else.
fn all_at_once(facts: &Facts<'_>, draft: &mut Plan) {
    let mut chains: Vec<Chain> = Vec::new();
    let mut created = 0;
    for ordinal in facts.start..facts.end {
        let mut chain = Chain::new();
        match facts.in_range.get(&ordinal) {
            Some(pod) => {
                visit(facts, ordinal, pod, &mut chain, draft);
            }
            None if created == CREATED_PER_PLAN_MAX => break,
            None => {
                create(facts, ordinal, &mut chain, draft);
                created += 1;
            }
        }
        if !chain.is_empty() {
            chains.push(chain);
        }
    }
    for (&ordinal, pod) in facts.condemned.iter().rev() {
        if is_terminating(&pod.metadata) {
            telling::awaits_end(facts, pod, draft);
        } else {
            chains.push(remove(facts, ordinal, pod, draft));
        }
    }
    let deletions = rollout::advance(facts, draft);
    // What is deleted needs no repair, and would no longer be what was seen after one.
    let is_deleted = |action: &Action| deletions.iter().any(|deletion| deletion.key() == action.key());
    chains.retain(|chain| !chain.last().is_some_and(is_deleted));
    chains.extend(deletions.into_iter().map(|deletion| vec![deletion]));
    if !chains.is_empty() {
        draft.steps.push(Step::Together(chains));
    }
}

/// Looks at an existing replica: what to do about it goes to `chain`, what keeps an ordered set waiting is returned.
fn visit(facts: &Facts<'_>, ordinal: i64, pod: &Pod, chain: &mut Chain, draft: &mut Plan) -> Option<Blocker> {
    if health::has_ended(pod) {
        return Some(replace(facts, ordinal, pod, chain, draft));
    }
    if health::phase(pod) == "Pending" && !is_terminating(&pod.metadata) {
        // A claim may have been deleted while its pod had no node yet (A7.2.3).
        for claim in claims::missing(facts.set, &facts.claims, ordinal) {
            let name = claim.key().name.clone();
            let message = format!(
                "{name} is created again, for {} is still pending",
                facts.pod_name(ordinal)
            );
            draft.because.push(Reason::acts(name, "CreatesClaim", message));
            chain.push(claim);
        }
    }
    if facts.is_unavailable(pod) {
        let blocker = telling::not_available(facts, pod, draft);
        if facts.is_ordered || is_terminating(&pod.metadata) {
            return Some(blocker);
        }
    }
    repair(facts, ordinal, pod, chain, draft)
}

/// A pod that has ended makes room for its successor.
fn replace(facts: &Facts<'_>, ordinal: i64, pod: &Pod, chain: &mut Chain, draft: &mut Plan) -> Blocker {
    let blocker = Blocker::of(facts, pod);
    if is_terminating(&pod.metadata) {
        telling::awaits_end(facts, pod, draft);
        return blocker;
    }
    let name = facts.pod_name(ordinal);
    if let Some(at) = replace_at(facts, ordinal, pod).filter(|at| *at > facts.now) {
        draft.again_at = Some(draft.again_at.map_or(at, |known| known.min(at)));
        let message = format!(
            "{name} has ended at once ({}) and is replaced after a pause",
            blocker.cause
        );
        draft
            .because
            .push(Reason::waits(&name, "PausesBeforeReplacing", &name, message));
        return blocker;
    }
    draft.because.push(Reason::acts(
        &name,
        "ReplacesEnded",
        format!("{name} is replaced: {}", blocker.cause),
    ));
    chain.push(telling::announced(
        facts,
        "Delete",
        &name,
        Action::delete(Target::of(pod)),
    ));
    blocker
}

/// When a pod that has ended may be replaced: after a pause that grows with each successor that ends early, too.
fn replace_at(facts: &Facts<'_>, ordinal: i64, pod: &Pod) -> Option<Timestamp> {
    let made_at = pod.metadata.creation_timestamp.as_ref()?.0;
    let ends = facts.early_ends.get(&ordinal).copied().unwrap_or(0);
    let doubled = ENDED_AGE_MIN_S.saturating_mul(1_i64 << ends.saturating_sub(1).min(16));
    made_at
        .checked_add(SignedDuration::from_secs(doubled.min(ENDED_AGE_MAX_S)))
        .ok()
}

/// Makes the pod of an ordinal, with its claims, unless something stands in its place.
fn create(facts: &Facts<'_>, ordinal: i64, chain: &mut Chain, draft: &mut Plan) -> Option<Blocker> {
    let name = facts.pod_name(ordinal);
    if let Some(namesake) = facts.members.namesakes.get(name.as_str()) {
        return Some(telling::name_is_taken(facts, namesake, draft));
    }
    if let Some(obstacle) = claims::obstacle(facts.set, &facts.claims, ordinal) {
        if let Obstacle::Deleting(claim) = &obstacle {
            telling::claim_is_deleted(facts, &name, claim, draft);
        }
        return Some(telling::claim_in_the_way(&name, &obstacle, draft));
    }
    let (template, revision) = template_for(facts, ordinal);
    chain.extend(claims::missing(facts.set, &facts.claims, ordinal));
    let pod = identity::new_pod(facts.set, template, ordinal, revision);
    chain.push(telling::announced(facts, "Create", &name, Action::create(pod)));
    draft.because.push(Reason::acts(
        &name,
        "Creates",
        format!("{name} is created at revision {revision}"),
    ));
    Some(Blocker {
        name,
        reason: "Created",
        cause: "it is being created".to_owned(),
    })
}

/// Template and revision that the pod of an ordinal is made of (A6.6).
fn template_for<'a>(facts: &'a Facts<'_>, ordinal: i64) -> (&'a serde_json::Value, &'a str) {
    let revisions = &facts.revisions;
    match &revisions.current_template {
        Some(template) if is_current_wanted(facts, ordinal) => (template, &revisions.current),
        _ => (facts.template, &revisions.update),
    }
}

fn is_current_wanted(facts: &Facts<'_>, ordinal: i64) -> bool {
    let strategy = facts.spec().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let index = ordinal - facts.start;
    match (facts.strategy() == Strategy::Rolling, rolling) {
        (false, _) => false,
        (true, Some(rolling)) => index < i64::from(rolling.partition.unwrap_or(0)),
        // Counted afresh and not taken from the status, which may lag behind a deletion.
        (true, None) => {
            let is_current = |pod: &&&Pod| {
                !is_terminating(&pod.metadata)
                    && identity::label(pod, identity::REVISION_LABEL) == facts.revisions.current
            };
            let current = facts.in_range.values().filter(is_current).count();
            index < i64::try_from(current).unwrap_or(i64::MAX)
        }
    }
}

/// Gives a pod back what makes it itself (A1.8, A1.9).
fn repair(facts: &Facts<'_>, ordinal: i64, pod: &Pod, chain: &mut Chain, draft: &mut Plan) -> Option<Blocker> {
    let name = facts.pod_name(ordinal);
    if let Some(volume) = identity::foreign_volume(facts.set, pod, ordinal) {
        return Some(telling::foreign_volume(facts, &name, &volume, draft));
    }
    let patch = identity::repair(pod, &name, ordinal)?;
    draft.because.push(Reason::acts(
        &name,
        "RepairsIdentity",
        format!("{name} gets its labels back"),
    ));
    chain.push(telling::announced(
        facts,
        "Update",
        &name,
        Action::patch(Target::of(pod), patch),
    ));
    Some(Blocker {
        name,
        reason: "RepairsIdentity",
        cause: "its labels are being repaired".to_owned(),
    })
}

/// `OrderedReady`, downward: the highest condemned pod goes if all else is well, or if it is the only trouble (A7.4).
fn remove_highest(facts: &Facts<'_>, draft: &mut Plan) {
    let Some((&ordinal, pod)) = facts.condemned.last_key_value() else {
        return;
    };
    if is_terminating(&pod.metadata) {
        let blocker = telling::awaits_end(facts, pod, draft);
        telling::removals_held_back(facts, Some(ordinal), &blocker, draft);
        return;
    }
    // All wanted pods are available, or this phase would not have been reached.
    let first_unavailable = facts.condemned.iter().find(|(_, pod)| facts.is_unavailable(pod));
    if let Some((&first, lower)) = first_unavailable
        && facts.is_unavailable(pod)
        && first != ordinal
    {
        telling::not_available(facts, lower, draft);
        telling::removals_held_back(facts, None, &Blocker::of(facts, lower), draft);
        return;
    }
    let chain = remove(facts, ordinal, pod, draft);
    draft.steps.extend(chain.into_iter().map(Step::One));
    let cause = "it is being deleted".to_owned();
    let blocker = Blocker {
        name: facts.pod_name(ordinal),
        reason: "Terminating",
        cause,
    };
    telling::removals_held_back(facts, Some(ordinal), &blocker, draft);
}

/// Removes a condemned pod, after its claims know whom they belong to (A7.3).
pub(super) fn remove(facts: &Facts<'_>, ordinal: i64, pod: &Pod, draft: &mut Plan) -> Chain {
    let ownership = claims::ownership(facts.set, &facts.claims, pod, ordinal, true);
    telling::conflicts(facts, &ownership.conflicts, draft);
    let name = facts.pod_name(ordinal);
    let message = format!(
        "{name} is deleted: {} has {} replicas from ordinal {}",
        facts.name,
        facts.wanted(),
        facts.start
    );
    draft.because.push(Reason::acts(&name, "ScalesDown", message));
    let mut chain = ownership.repairs;
    chain.push(telling::announced(
        facts,
        "Delete",
        &name,
        Action::delete(Target::of(pod)),
    ));
    chain
}
