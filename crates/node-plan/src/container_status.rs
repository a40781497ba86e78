//! One container's status: its state, the state before, readiness, counts.

use crate::backoff::{RESTART_DELAY, plus_s};
use crate::definitions::of_ephemeral;
use crate::observed::{Container, ContainerState, Job, Observed, StartFailure};
use crate::resize::{applied, ended_for_resize, is_same};
use crate::restart::{is_outdated, restart_at, should_restart};
use crate::start::is_sidecar;
use api::k8s::api::core::v1::{
    Container as Definition, ContainerState as State, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, EphemeralContainer, LinuxContainerUser, Pod, PodSpec,
    ResourceRequirements, VolumeMountStatus,
};
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// How long a fresh failure's own reason is shown before the reason of its back-off.
const FRESH_S: i64 = 5;

/// How long a container that makes room for its new definition is told of as if it still ran: kubelets look once a
/// second, so theirs show no end in between when the next one starts at once.
const REPLACED_S: i64 = 1;

/// The status of a container as the API has it.
pub(crate) fn reported<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let main = status.container_statuses.iter().flatten();
    main.chain(status.init_container_statuses.iter().flatten())
        .chain(status.ephemeral_container_statuses.iter().flatten())
        .find(|s| s.name == name)
}

/// When a failure's `held_reason` takes over from its `reason`.
pub(crate) fn held_from(failed: &StartFailure) -> Timestamp {
    plus_s(failed.at, FRESH_S)
}

/// Whether a container runs and is past its postStart hook and startup probe.
pub(crate) fn is_started(seen: &Observed<'_>, definition: &Definition) -> bool {
    let Some(c) = seen.current(&definition.name) else {
        return false;
    };
    runs(seen, c) && (definition.startup_probe.is_none() || seen.memory.verdicts.get(&c.id).is_some_and(|v| v.started))
}

fn runs(seen: &Observed<'_>, c: &Container) -> bool {
    c.state == ContainerState::Running && !matches!(seen.busy.get(&c.name), Some(Job::Start { .. }))
}

/// The statuses of a list of containers, in its order.
pub(crate) fn statuses(
    seen: &Observed<'_>,
    definitions: &[Definition],
    is_init: bool,
    now: Timestamp,
) -> Vec<ContainerStatus> {
    definitions
        .iter()
        .map(|d| status(seen, d, is_init && !is_sidecar(d), now))
        .collect()
}

/// The statuses of the ephemeral containers: they are never ready, and nothing waits for their start.
pub(crate) fn ephemeral_statuses(seen: &Observed<'_>, spec: &PodSpec, now: Timestamp) -> Vec<ContainerStatus> {
    let added = spec.ephemeral_containers.iter().flatten();
    let one = |added: &EphemeralContainer| match (seen.newest(&added.name), reported(seen.pod, &added.name)) {
        // It is never started again, so what was last known of it stays.
        (None, Some(old)) if old.container_id.is_some() => ContainerStatus {
            state: old_end(Some(old)).or_else(|| old.state.clone()),
            ..old.clone()
        },
        _ => ContainerStatus {
            ready: false,
            started: None,
            ..status(seen, &of_ephemeral(added), false, now)
        },
    };
    added.map(one).collect()
}

fn status(seen: &Observed<'_>, definition: &Definition, runs_to_completion: bool, now: Timestamp) -> ContainerStatus {
    let name = &definition.name;
    let Some(newest) = seen.newest(name) else {
        return without_record(seen, definition, now);
    };
    if let Some((_, kept)) = being_replaced(seen, definition, now) {
        return kept.clone();
    }
    let before = seen.previous(name).filter(|c| c.state == ContainerState::Exited);
    let (state, last_state) = match newest.state {
        ContainerState::Running if runs(seen, newest) => (running(newest), before.map(|c| terminated(seen, c))),
        ContainerState::Running | ContainerState::Created => {
            (waiting(seen, name, now), before.map(|c| terminated(seen, c)))
        }
        ContainerState::Exited => match held(seen, definition, newest, now) {
            Some(held) => (held, Some(terminated(seen, newest))),
            None => (terminated(seen, newest), before.map(|c| terminated(seen, c))),
        },
        ContainerState::Unknown => (lost(seen, newest), before.map(|c| terminated(seen, c))),
    };
    let last_state = last_state.or_else(|| earlier_last_state(seen, definition));
    let is_coming = matches!(newest.state, ContainerState::Created | ContainerState::Running) && !runs(seen, newest);
    // A restart counts once it has happened, so that count and start time always belong together.
    let restart_count = before.filter(|_| is_coming).unwrap_or(newest).restart_count;
    let started = is_started(seen, definition);
    let ready = if runs_to_completion {
        newest.state == ContainerState::Exited && newest.exit_code == 0
    } else {
        started
            && (definition.readiness_probe.is_none() || seen.memory.verdicts.get(&newest.id).is_some_and(|v| v.ready))
    };
    ContainerStatus {
        name: name.clone(),
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        ready,
        started: Some(started),
        restart_count,
        image: if newest.image.is_empty() {
            definition.image.clone().unwrap_or_default()
        } else {
            newest.image.clone()
        },
        image_id: newest.image_id.clone(),
        container_id: Some(format!("{}://{}", seen.runtime, newest.id)),
        allocated_resources: allocated(seen, definition),
        resources: Some(resources(seen, definition, newest)),
        user: user(newest),
        volume_mounts: volume_mounts(definition, Some(newest)),
        ..ContainerStatus::default()
    }
}

/// A container that was ended a moment ago for its changed definition, and is not replaced yet: until when that is
/// no news, and the status it had.
pub(crate) fn being_replaced<'a>(
    seen: &'a Observed<'_>,
    definition: &Definition,
    now: Timestamp,
) -> Option<(Timestamp, &'a ContainerStatus)> {
    let name = &definition.name;
    let newest = seen.newest(name)?;
    if runs(seen, newest) || seen.memory.stopping.is_some() || seen.memory.failures.contains_key(name) {
        return None;
    }
    let ended = [Some(newest), seen.previous(name)].into_iter().flatten();
    let ended = ended
        .filter(|c| c.state == ContainerState::Exited)
        .find(|c| is_outdated(c, definition))?;
    let until = plus_s(ended.finished_at?, REPLACED_S);
    let kept = reported(seen.pod, name)?;
    let was_running = kept.state.as_ref().is_some_and(|state| state.running.is_some())
        && kept.container_id.as_deref() == Some(&format!("{}://{}", seen.runtime, ended.id));
    (was_running && now < until).then_some((until, kept))
}

/// What the API last said of the state before, when the runtime's record of it is removed already.
fn earlier_last_state(seen: &Observed<'_>, definition: &Definition) -> Option<State> {
    let newest = seen.newest(&definition.name)?;
    let old = reported(seen.pod, &definition.name)?;
    let same = old.container_id.as_deref() == Some(&format!("{}://{}", seen.runtime, newest.id));
    let ended_before = old.restart_count < newest.restart_count;
    if same {
        old.last_state
            .clone()
            .filter(|s| s.terminated.as_ref().is_none_or(|t| t.container_id != old.container_id))
    } else if ended_before {
        old.state.clone().filter(|s| s.terminated.is_some())
    } else {
        None
    }
}

/// The runtime has no record of the container.
fn without_record(seen: &Observed<'_>, definition: &Definition, now: Timestamp) -> ContainerStatus {
    let old = reported(seen.pod, &definition.name);
    let old_state = old.and_then(|s| s.state.clone()).unwrap_or_default();
    let stopping = seen.memory.stopping.is_some();
    let mut status = ContainerStatus {
        name: definition.name.clone(),
        image: definition.image.clone().unwrap_or_default(),
        started: Some(false),
        last_state: Some(old.and_then(|s| s.last_state.clone()).unwrap_or_default()),
        restart_count: old.map_or(0, |s| s.restart_count),
        volume_mounts: volume_mounts(definition, None),
        ..ContainerStatus::default()
    };
    let kept = old.filter(|_| stopping && old_state.terminated.is_some());
    if let Some(kept) = kept {
        return ContainerStatus {
            started: Some(false),
            ready: kept.ready && old_state_succeeded(kept),
            ..kept.clone()
        };
    }
    if let (Some(ended), Some(old)) = (old_end(old), old) {
        status.container_id.clone_from(&old.container_id);
        status.image_id.clone_from(&old.image_id);
        if stopping {
            status.state = Some(ended);
            return status;
        }
        status.last_state = Some(ended);
    }
    status.state = Some(waiting(seen, &definition.name, now));
    status
}

/// How a container without a record ended, as far as the API knows: what ran then has been lost.
fn old_end(old: Option<&ContainerStatus>) -> Option<State> {
    let state = old?.state.clone()?;
    let terminated = state.terminated.or_else(|| {
        state.running.map(|running| ContainerStateTerminated {
            container_id: old.and_then(|s| s.container_id.clone()),
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was looked at".into()),
            started_at: running.started_at,
            ..ContainerStateTerminated::default()
        })
    })?;
    Some(State {
        terminated: Some(terminated),
        ..State::default()
    })
}

fn old_state_succeeded(status: &ContainerStatus) -> bool {
    status
        .state
        .as_ref()
        .and_then(|s| s.terminated.as_ref())
        .is_some_and(|t| t.exit_code == 0)
}

fn running(c: &Container) -> State {
    let started_at = Time(c.started_at.unwrap_or(c.created_at));
    State {
        running: Some(ContainerStateRunning {
            started_at: Some(in_seconds(&started_at)),
        }),
        ..State::default()
    }
}

fn terminated(seen: &Observed<'_>, c: &Container) -> State {
    let reason = match (c.reason.as_str(), c.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    let terminated = ContainerStateTerminated {
        container_id: Some(format!("{}://{}", seen.runtime, c.id)),
        exit_code: c.exit_code,
        reason: Some(reason.to_owned()),
        message: Some(c.message.clone()).filter(|m| !m.is_empty()),
        started_at: c.started_at.map(|t| in_seconds(&Time(t))),
        finished_at: c.finished_at.map(|t| in_seconds(&Time(t))),
        ..ContainerStateTerminated::default()
    };
    State {
        terminated: Some(terminated),
        ..State::default()
    }
}

fn lost(seen: &Observed<'_>, c: &Container) -> State {
    let lost = Container {
        exit_code: 137,
        reason: "ContainerStatusUnknown".into(),
        ..c.clone()
    };
    terminated(seen, &lost)
}

/// API times have whole seconds; ours must compare equal to what comes back.
pub(crate) fn in_seconds(time: &Time) -> Time {
    Time(Timestamp::from_second(time.0.as_second()).unwrap_or(time.0))
}

/// The waiting state of an ended container whose next start is held back.
fn held(seen: &Observed<'_>, definition: &Definition, ended: &Container, now: Timestamp) -> Option<State> {
    let spec = seen.pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten().any(|c| c.name == definition.name);
    if seen.memory.stopping.is_none() && ended_for_resize(seen, definition, ended) {
        return Some(waiting(seen, &definition.name, now));
    }
    let comes_again = is_sidecar(definition)
        || should_restart(spec, definition, ended)
        || (init && ended.exit_code != 0 && spec.restart_policy.as_deref() != Some("Never"));
    if seen.memory.stopping.is_some() || !comes_again {
        return None;
    }
    let mut until = restart_at(definition, ended);
    let mut wait_s = ended.backoff_s;
    if let Some(failed) = seen.memory.failures.get(&definition.name) {
        let fresh = now < held_from(failed);
        if fresh || failed.held_reason != "CrashLoopBackOff" {
            return Some(failure_state(failed, now));
        }
        if failed.failure.retry_at > until {
            until = failed.failure.retry_at;
            wait_s = RESTART_DELAY.after(failed.failure.times);
        }
    }
    if until <= now {
        return None;
    }
    let meta = &seen.pod.metadata;
    let message = format!(
        "back-off {} restarting failed container={} pod={}_{}({})",
        go_duration(wait_s),
        definition.name,
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
    );
    Some(waiting_state("CrashLoopBackOff", Some(message)))
}

/// Seconds as upstream's messages print durations: `10s`, `1m20s`, `5m0s`.
fn go_duration(seconds: u32) -> String {
    if seconds < 60 {
        format!("{seconds}s")
    } else {
        format!("{}m{}s", seconds / 60, seconds % 60)
    }
}

fn waiting(seen: &Observed<'_>, name: &str, now: Timestamp) -> State {
    if let Some(failed) = seen.memory.failures.get(name) {
        return failure_state(failed, now);
    }
    let has_init = seen
        .pod
        .spec
        .as_ref()
        .is_some_and(|s| s.init_containers.iter().flatten().next().is_some());
    waiting_state(
        if has_init {
            "PodInitializing"
        } else {
            "ContainerCreating"
        },
        None,
    )
}

fn failure_state(failed: &StartFailure, now: Timestamp) -> State {
    if now < held_from(failed) {
        waiting_state(&failed.reason, Some(failed.failure.message.clone()))
    } else {
        waiting_state(&failed.held_reason, Some(failed.held_message.clone()))
    }
}

fn waiting_state(reason: &str, message: Option<String>) -> State {
    State {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..State::default()
    }
}

/// What the node has reserved for a container that can be resized.
fn allocated(seen: &Observed<'_>, definition: &Definition) -> Option<BTreeMap<String, Quantity>> {
    seen.memory.granted.containers.get(&definition.name)?;
    definition.resources.as_ref()?.requests.clone()
}

/// What a container has: a running one what was last applied, another what it will be made with.
fn resources(seen: &Observed<'_>, definition: &Definition, newest: &Container) -> ResourceRequirements {
    let granted = definition.resources.clone().unwrap_or_default();
    let has = applied(seen, newest).filter(|_| newest.state == ContainerState::Running);
    has.filter(|has| !is_same(has, &granted)).cloned().unwrap_or(granted)
}

fn user(c: &Container) -> Option<ContainerUser> {
    let (uid, gid, groups) = c.user.clone()?;
    let supplemental_groups = Some(groups).filter(|g| !g.is_empty());
    Some(ContainerUser {
        linux: Some(LinuxContainerUser {
            uid,
            gid,
            supplemental_groups,
        }),
    })
}

fn volume_mounts(definition: &Definition, c: Option<&Container>) -> Option<Vec<VolumeMountStatus>> {
    let mounts = definition.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let status = mounts.iter().map(|m| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only.filter(|ro| *ro),
        recursive_read_only: m.read_only.filter(|ro| *ro).map(|_| {
            let is_recursive = c.is_some_and(|c| c.recursive_read_only.contains(&m.mount_path));
            if is_recursive { "Enabled" } else { "Disabled" }.to_owned()
        }),
        ..VolumeMountStatus::default()
    });
    Some(status.collect())
}
