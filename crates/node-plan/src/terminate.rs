//! The way down: containers with their grace, then sidecars, then the sandbox and the volumes with the containers' records
//! beside them, the sandbox's record, and last the API's object.

use crate::backoff::plus_s;
use crate::observed::{Container, ContainerState, Job, Observed, Stopping, Volumes};
use crate::phase;
use crate::plan::{Plan, Step};
use crate::start::is_sidecar;
use crate::status;
use jiff::Timestamp;

/// A shorter grace than this is not given, as upstream.
const GRACE_MIN_S: i64 = 2;

/// Whether nothing of the pod may run any more: deleted, or ended for good.
pub(crate) fn must_stop(seen: &Observed<'_>, now: Timestamp) -> bool {
    seen.is_deleted() || phase::ended(seen, now).is_some()
}

/// When `spec.activeDeadlineSeconds` is over.
pub(crate) fn active_deadline(seen: &Observed<'_>) -> Option<Timestamp> {
    let seconds = seen.pod.spec.as_ref()?.active_deadline_seconds?;
    Some(plus_s(status::start_time(seen), seconds))
}

/// The shutdown to remember: when it began and with which grace; a shorter grace starts anew.
pub fn stopping(seen: &Observed<'_>, now: Timestamp) -> Option<Stopping> {
    if !must_stop(seen, now) {
        return None;
    }
    let deletion = seen
        .pod
        .metadata
        .deletion_grace_period_seconds
        .filter(|_| seen.is_deleted());
    let own = seen.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    let grace_s = deletion.or(own).unwrap_or(30).max(GRACE_MIN_S);
    match seen.memory.stopping {
        Some(known) if known.grace_s <= grace_s => Some(known),
        _ => Some(Stopping { since: now, grace_s }),
    }
}

/// Plans a pod that must stop.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) {
    let stop = stopping(seen, now).unwrap_or(Stopping {
        since: now,
        grace_s: GRACE_MIN_S,
    });
    let left_s = plus_s(stop.since, stop.grace_s)
        .duration_since(now)
        .as_secs()
        .max(GRACE_MIN_S);
    if let Some(last) = &seen.memory.last_status {
        plan.status = last.clone();
    }
    cancel_starts(seen, now, plan);
    if !containers_stopped(seen, left_s, now, plan) {
        return;
    }
    // Records stay for `kubectl logs` until the pod is deleted; then they go while the rest is taken down.
    let forgotten = seen.is_deleted() && containers_removed(seen, now, plan);
    if !sandboxes_stopped(seen, now, plan) || !volumes_unmounted(seen, now, plan) {
        return;
    }
    if forgotten && sandbox_removed(seen, now, plan) {
        if seen.removed {
            plan.done = seen.busy.is_empty();
        } else if !seen.memory.deleted {
            plan.because("", "everything has stopped");
            plan.step(seen, Step::DeletePod, now);
        } else {
            plan.because("", "waits for the API to remove the pod (finalizers)");
        }
    }
}

fn cancel_starts(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) {
    for (name, job) in seen.busy {
        if matches!(job, Job::Start { .. }) {
            plan.because(name, "its start is given up, the pod must stop");
            plan.step(seen, Step::CancelStart { name: name.clone() }, now);
        }
    }
}

/// Whether no container runs; kills what does, sidecars after the rest and in reverse order.
fn containers_stopped(seen: &Observed<'_>, grace_s: i64, now: Timestamp, plan: &mut Plan) -> bool {
    let live = |c: &&Container| matches!(c.state, ContainerState::Running | ContainerState::Unknown);
    let sidecars: Vec<&str> = seen
        .pod
        .spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten())
        .filter(|c| is_sidecar(c))
        .map(|c| c.name.as_str())
        .collect();
    let (late, first): (Vec<&Container>, Vec<&Container>) = seen
        .containers
        .iter()
        .filter(live)
        .partition(|c| sidecars.contains(&c.name.as_str()));
    let mut targets = first;
    if targets.is_empty() {
        let last = late
            .into_iter()
            .max_by_key(|c| sidecars.iter().position(|name| *name == c.name));
        targets.extend(last);
    }
    for c in &targets {
        plan.because(&c.name, "must stop");
        let why = format!("Stopping container {}", c.name);
        plan.step(
            seen,
            Step::Kill {
                id: c.id.clone(),
                name: c.name.clone(),
                grace_s,
                why,
            },
            now,
        );
    }
    let busy = seen
        .busy
        .values()
        .any(|job| matches!(job, Job::Start { .. } | Job::Kill { .. }));
    targets.is_empty() && !busy
}

fn sandboxes_stopped(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) -> bool {
    let running = seen
        .sandboxes
        .iter()
        .find(|s| !seen.memory.stopped_sandboxes.contains(&s.id));
    let Some(sandbox) = running else { return true };
    if let Some(failure) = seen.memory.sandbox_failure.as_ref().filter(|f| f.retry_at > now) {
        plan.because("", format!("waits to stop its sandbox again: {}", failure.message));
        plan.wake_at(failure.retry_at, now);
        return false;
    }
    plan.because("", "its sandbox must stop");
    plan.step(seen, Step::StopSandbox { id: sandbox.id.clone() }, now);
    false
}

fn volumes_unmounted(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) -> bool {
    match seen.volumes {
        Volumes::Unmounted => return true,
        Volumes::Failed(failure) if failure.retry_at > now => {
            plan.because("", format!("waits to unmount its volumes: {}", failure.message));
            plan.wake_at(failure.retry_at, now);
        }
        _ => {
            plan.because("", "its volumes must be unmounted");
            plan.step(seen, Step::UnmountVolumes, now);
        }
    }
    false
}

/// Whether the runtime knows no container of the pod any more.
fn containers_removed(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) -> bool {
    for c in seen.containers {
        plan.because(&c.name, "its record is removed from the runtime");
        plan.step(
            seen,
            Step::RemoveContainer {
                id: c.id.clone(),
                name: c.name.clone(),
            },
            now,
        );
    }
    seen.containers.is_empty()
}

/// Whether the runtime knows nothing of the pod any more.
fn sandbox_removed(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) -> bool {
    let Some(sandbox) = seen.sandboxes.first() else {
        return true;
    };
    plan.because("", "its sandbox is removed from the runtime");
    match seen.memory.sandbox_failure.as_ref().filter(|f| f.retry_at > now) {
        Some(failure) => plan.wake_at(failure.retry_at, now),
        None => plan.step(seen, Step::RemoveSandbox { id: sandbox.id.clone() }, now),
    }
    false
}
