//! The words: why each step is taken, what each held-back step waits for, and the events that go with steps (A10).

use api::k8s::api::core::v1::Pod;

use crate::{Action, Announcement, Event, EventType, Notice, Plan, Reason, Target, controller_of, is_terminating};

use super::claims::Obstacle;
use super::{Facts, Strategy};

/// How many pods are told one by one that they have to wait; the others are told in one sentence.
const TOLD_MAX: usize = 16;

/// How many reasons a plan holds at most: more, nobody reads.
const REASONS_MAX: usize = 256;

/// What keeps an ordered set from going on.
#[derive(Debug)]
pub(super) struct Blocker {
    /// The pod that is waited for.
    pub(super) name: String,
    /// What is the matter with it, as a word.
    pub(super) reason: &'static str,
    /// What is the matter with it, as a clause.
    pub(super) cause: String,
}

impl Blocker {
    pub(super) fn of(facts: &Facts<'_>, pod: &Pod) -> Self {
        let (reason, cause) = facts.trouble(pod);
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            reason,
            cause,
        }
    }
}

fn waits(draft: &mut Plan, subject: &str, reason: &'static str, waits_for: &str, message: String) {
    if draft.because.len() < REASONS_MAX {
        draft.because.push(Reason::waits(subject, reason, waits_for, message));
    }
}

/// An action on a pod, with the events that upstream gives (A10). `verb` is Create, Delete or Update.
pub(super) fn announced(facts: &Facts<'_>, verb: &str, pod: &str, action: Action) -> Action {
    let (done, failed) = match verb {
        "Create" => ("SuccessfulCreate", "FailedCreate"),
        "Delete" => ("SuccessfulDelete", "FailedDelete"),
        _ => ("SuccessfulUpdate", "FailedUpdate"),
    };
    let message = |outcome| format!("{verb} Pod {pod} in StatefulSet {} {outcome}", facts.name);
    action.announced(Announcement {
        about: Target::of(facts.set),
        done: Some(Notice {
            reason: done,
            message: message("successful"),
        }),
        failed: Some(Notice {
            reason: failed,
            message: message("failed"),
        }),
    })
}

fn warn(facts: &Facts<'_>, reason: &'static str, message: String, draft: &mut Plan) {
    let notice = Notice { reason, message };
    draft.events.push(Event {
        about: Target::of(facts.set),
        event_type: EventType::Warning,
        notice,
    });
}

/// An existing pod is not available.
pub(super) fn not_available(facts: &Facts<'_>, pod: &Pod, draft: &mut Plan) -> Blocker {
    let blocker = Blocker::of(facts, pod);
    let name = &blocker.name;
    if facts.is_ordered && facts.is_outdated(pod) && !is_terminating(&pod.metadata) {
        let message = format!(
            "{name} is not available: {}; if its new revision is to cure that, delete {name} by hand",
            blocker.cause
        );
        waits(draft, name, blocker.reason, name, message);
    } else {
        waits(
            draft,
            name,
            blocker.reason,
            name,
            format!("{name} is not available: {}", blocker.cause),
        );
    }
    blocker
}

/// A pod is on its way out and must be gone before anything follows.
pub(super) fn awaits_end(facts: &Facts<'_>, pod: &Pod, draft: &mut Plan) -> Blocker {
    let blocker = Blocker {
        cause: "it is being deleted".to_owned(),
        ..Blocker::of(facts, pod)
    };
    let name = &blocker.name;
    waits(
        draft,
        name,
        "Terminating",
        name,
        format!("{name} is being deleted and not gone yet"),
    );
    blocker
}

/// With strategy Recreate, nothing is made before the last pod of an old revision is gone.
pub(super) fn creation_awaits_end(facts: &Facts<'_>, last: &str, draft: &mut Plan) {
    let missing = (facts.start..facts.end).filter(|ordinal| !facts.in_range.contains_key(ordinal));
    for ordinal in missing.take(TOLD_MAX) {
        let name = facts.pod_name(ordinal);
        let message = format!("{name} waits for {last}: every pod of an old revision must be gone first (Recreate)");
        waits(draft, &name, "WaitsForOldRevision", last, message);
    }
}

/// In an ordered set, everything after `ordinal` waits for the blocker.
pub(super) fn held_back(facts: &Facts<'_>, ordinal: i64, blocker: &Blocker, draft: &mut Plan) {
    let missing = || ((ordinal + 1)..facts.end).filter(|later| !facts.in_range.contains_key(later));
    for later in missing().take(TOLD_MAX) {
        let name = facts.pod_name(later);
        let message = format!("{name} waits for {}: {}", blocker.name, blocker.cause);
        waits(draft, &name, "WaitsForPredecessor", &blocker.name, message);
    }
    if missing().nth(TOLD_MAX).is_some() {
        let first = missing()
            .nth(TOLD_MAX)
            .map(|later| facts.pod_name(later))
            .unwrap_or_default();
        let last = facts.pod_name(facts.end - 1);
        let message = format!("{first} to {last} wait for {}: {}", blocker.name, blocker.cause);
        waits(draft, &first, "WaitsForPredecessor", &blocker.name, message);
    }
    removals_held_back(facts, None, blocker, draft);
    let outdated = facts
        .in_range
        .values()
        .filter(|pod| facts.is_outdated(pod) && !is_terminating(&pod.metadata));
    let mut others = outdated.filter(|pod| pod.metadata.name.as_deref() != Some(blocker.name.as_str()));
    if facts.strategy() == Strategy::Rolling
        && let Some(pod) = others.next_back()
    {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let message = format!("the update of {name} waits for {}: {}", blocker.name, blocker.cause);
        waits(draft, name, "UpdateWaits", &blocker.name, message);
    }
}

/// The condemned pods (but one) stay until the blocker is well or gone.
pub(super) fn removals_held_back(facts: &Facts<'_>, except: Option<i64>, blocker: &Blocker, draft: &mut Plan) {
    let waiting = facts
        .condemned
        .iter()
        .rev()
        .filter(|(ordinal, pod)| except != Some(**ordinal) && !is_terminating(&pod.metadata));
    for (&ordinal, _) in waiting.take(TOLD_MAX) {
        let name = facts.pod_name(ordinal);
        let message = format!("the deletion of {name} waits for {}: {}", blocker.name, blocker.cause);
        waits(draft, &name, "ScaleDownWaits", &blocker.name, message);
    }
}

/// Somebody else's pod has the name (A5.8, A5.9).
pub(super) fn name_is_taken(facts: &Facts<'_>, namesake: &Pod, draft: &mut Plan) -> Blocker {
    let name = namesake.metadata.name.clone().unwrap_or_default();
    let owner = match controller_of(&namesake.metadata) {
        Some(owner) if owner.kind == "StatefulSet" && owner.name == facts.name => {
            "it belongs to an earlier set of this name".to_owned()
        }
        Some(owner) => format!("it belongs to {} {}", owner.kind, owner.name),
        None if is_terminating(&namesake.metadata) => "it belongs to nobody and is being deleted".to_owned(),
        None => "it belongs to nobody and its labels do not fit the selector".to_owned(),
    };
    let message = format!("{name} cannot be created while another pod has its name: {owner}");
    waits(draft, &name, "NameTaken", &name, message);
    Blocker {
        name,
        reason: "NameTaken",
        cause: format!("another pod has its name: {owner}"),
    }
}

/// A claim keeps a pod from being created (A7.2.2, A9.3).
pub(super) fn claim_in_the_way(pod: &str, obstacle: &Obstacle, draft: &mut Plan) -> Blocker {
    let (reason, claim, state) = match obstacle {
        Obstacle::Deleting(claim) => ("ClaimDeleting", claim, "is being deleted"),
        Obstacle::Stale(claim) => (
            "ClaimStale",
            claim,
            "belongs to an earlier pod of this name and is not gone yet",
        ),
    };
    let cause = format!("its claim {claim} {state}");
    waits(
        draft,
        pod,
        reason,
        claim,
        format!("{pod} waits for {claim}: it {state}"),
    );
    Blocker {
        name: pod.to_owned(),
        reason,
        cause,
    }
}

/// The event of A9.3.
pub(super) fn claim_is_deleted(facts: &Facts<'_>, pod: &str, claim: &str, draft: &mut Plan) {
    let message = format!(
        "Create Pod {pod} in StatefulSet {} failed error: pvc {claim} is being deleted",
        facts.name
    );
    warn(facts, "FailedCreate", message, draft);
}

/// An adopted pod does not use its claims, and volumes cannot be changed (A1.9).
pub(super) fn foreign_volume(facts: &Facts<'_>, pod: &str, volume: &str, draft: &mut Plan) -> Blocker {
    let cause = format!("its volume {volume} is not its own claim, and a pod's volumes cannot be changed");
    let message = format!("Update Pod {pod} in StatefulSet {} failed error: {cause}", facts.name);
    warn(facts, "FailedUpdate", message, draft);
    waits(
        draft,
        pod,
        "ForeignVolume",
        pod,
        format!("{pod} must be deleted by hand: {cause}"),
    );
    Blocker {
        name: pod.to_owned(),
        reason: "ForeignVolume",
        cause,
    }
}

/// Another controller owns claims, so the retention policy is not followed (A9.7).
pub(super) fn conflicts(facts: &Facts<'_>, claims: &[String], draft: &mut Plan) {
    for claim in claims {
        let message = format!(
            "PersistentVolumeClaim {claim} has a conflicting OwnerReference that acts as a manging controller, \
             the retention policy is ignored for this claim"
        );
        warn(facts, "ConflictingController", message, draft);
        let message = format!("{claim} is kept as it is: another controller owns it");
        waits(draft, claim, "ConflictingController", claim, message);
    }
}

/// Outdated pods of a set whose strategy leaves the update to people (A7.5).
pub(super) fn awaits_manual_deletion(facts: &Facts<'_>, draft: &mut Plan) {
    for pod in facts
        .in_range
        .values()
        .filter(|pod| facts.is_outdated(pod))
        .take(TOLD_MAX)
    {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let message = format!("{name} stays at its old revision until somebody deletes it (OnDelete)");
        waits(draft, name, "WaitsForDeletion", name, message);
    }
}

/// An outdated pod waits until the pods before it have been updated.
pub(super) fn update_awaits_turn(facts: &Facts<'_>, ordinal: i64, first: i64, draft: &mut Plan) {
    let (name, first) = (facts.pod_name(ordinal), facts.pod_name(first));
    let message = format!("the update of {name} waits for {first}, which is updated first");
    waits(draft, &name, "UpdateWaits", &first, message);
}

/// An outdated pod waits until another one is available.
pub(super) fn update_awaits_health(facts: &Facts<'_>, ordinal: i64, down: &Pod, draft: &mut Plan) {
    let (name, blocker) = (facts.pod_name(ordinal), Blocker::of(facts, down));
    let message = format!("the update of {name} waits for {}: {}", blocker.name, blocker.cause);
    waits(draft, &name, "UpdateWaits", &blocker.name, message);
}

/// An outdated pod waits until missing pods are there.
pub(super) fn update_awaits_missing(facts: &Facts<'_>, ordinal: i64, draft: &mut Plan) {
    let name = facts.pod_name(ordinal);
    let message = format!("the update of {name} waits until all pods of {} exist", facts.name);
    waits(draft, &name, "UpdateWaits", facts.name, message);
}
