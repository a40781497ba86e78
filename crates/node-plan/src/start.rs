//! The way up: volumes, sandbox, init containers and sidecars in order, containers in order; restarts.

use crate::container_status::{being_replaced, held_from, is_started, reported};
use crate::definitions::of_ephemeral;
use crate::observed::{Container, ContainerState, Job, Observed, Volumes};
use crate::plan::{Plan, Step};
use crate::resize::{self, ended_for_resize, must_restart};
use crate::restart::{is_outdated, next_backoff_s, restart_at, should_restart};
use api::k8s::api::core::v1::{Container as Definition, PodSpec};
use jiff::Timestamp;

/// Plans a pod that should run.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) {
    let Some(spec) = &seen.pod.spec else { return };
    if volumes_ready(seen, now, plan) && sandbox_ready(seen, spec, now, plan) {
        start_ephemeral(seen, spec, now, plan);
        if initialize(seen, spec, now, plan) {
            run_containers(seen, spec, now, plan);
        }
        resize::plan(seen, now, plan);
    }
    // Last: what must start does not wait for records to go.
    prune(seen, now, plan);
}

/// Whether an init container is a sidecar.
pub(crate) fn is_sidecar(definition: &Definition) -> bool {
    definition.restart_policy.as_deref() == Some("Always")
}

fn volumes_ready(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) -> bool {
    match seen.volumes {
        Volumes::Ready => return true,
        Volumes::Unknown | Volumes::Unmounted => {
            plan.because("", "its volumes are not mounted yet");
            plan.step(seen, Step::PrepareVolumes, now);
        }
        Volumes::Failed(failure) => {
            plan.because("", format!("waits for its volumes: {}", failure.message));
            if failure.retry_at <= now {
                plan.step(seen, Step::PrepareVolumes, now);
            } else {
                plan.wake_at(failure.retry_at, now);
            }
        }
    }
    false
}

fn sandbox_ready(seen: &Observed<'_>, spec: &PodSpec, now: Timestamp, plan: &mut Plan) -> bool {
    if seen.live_sandbox().is_some() {
        return true;
    }
    let stopped = &seen.memory.stopped_sandboxes;
    if let Some(old) = seen.sandboxes.iter().find(|s| !stopped.contains(&s.id)) {
        plan.because("", "Pod sandbox changed, it will be killed and re-created.");
        plan.step(seen, Step::StopSandbox { id: old.id.clone() }, now);
        return false;
    }
    if !seen.containers.is_empty() && !any_container_to_start(seen, spec) {
        plan.because("", "its sandbox is gone and no container is to run again");
        return false;
    }
    let attempt = seen.newest_sandbox().map_or(0, |s| s.attempt.saturating_add(1));
    match &seen.memory.sandbox_failure {
        Some(failure) if failure.retry_at > now => {
            plan.because("", format!("waits to make its sandbox again: {}", failure.message));
            plan.wake_at(failure.retry_at, now);
        }
        _ => {
            plan.because("", "it has no sandbox");
            plan.step(seen, Step::CreateSandbox { attempt }, now);
        }
    }
    false
}

/// Starts ephemeral containers, each once, however far the pod is: they are for finding out why it is no further.
fn start_ephemeral(seen: &Observed<'_>, spec: &PodSpec, now: Timestamp, plan: &mut Plan) {
    for added in spec.ephemeral_containers.iter().flatten() {
        let has_run = match seen.newest(&added.name) {
            Some(c) => c.state != ContainerState::Created,
            // The runtime's record is gone, but the API knows of it.
            None => reported(seen.pod, &added.name).is_some_and(|s| s.container_id.is_some()),
        };
        if !has_run {
            start(seen, &of_ephemeral(added), now, plan);
        }
    }
}

/// Whether a new sandbox would have anything to run.
fn any_container_to_start(seen: &Observed<'_>, spec: &PodSpec) -> bool {
    spec.containers
        .iter()
        .any(|definition| match seen.newest(&definition.name) {
            Some(c) if c.state == ContainerState::Exited => should_restart(spec, definition, c),
            // A running container in a dead sandbox dies with it; what then becomes of it is the policy's matter.
            Some(c) => should_restart(
                spec,
                definition,
                &Container {
                    exit_code: 137,
                    ..c.clone()
                },
            ),
            None => true,
        })
}

/// Runs init containers in order; whether all is ready for the containers.
fn initialize(seen: &Observed<'_>, spec: &PodSpec, now: Timestamp, plan: &mut Plan) -> bool {
    let initialized = is_initialized(seen, spec);
    for definition in spec.init_containers.iter().flatten() {
        let passed = if is_sidecar(definition) {
            keep_running(seen, spec, definition, now, plan);
            is_started(seen, definition)
        } else if initialized {
            true
        } else {
            run_to_completion(seen, spec, definition, now, plan)
        };
        if !passed && !initialized {
            plan.because("", format!("waits for init container {}", definition.name));
            return false;
        }
    }
    true
}

/// Whether initialization is over: a container was made in the live sandbox, so all before it had succeeded.
pub(crate) fn is_initialized(seen: &Observed<'_>, spec: &PodSpec) -> bool {
    spec.containers.iter().any(|c| seen.current(&c.name).is_some())
}

/// Whether a regular init container has succeeded; starts it where it must run.
fn run_to_completion(
    seen: &Observed<'_>,
    spec: &PodSpec,
    definition: &Definition,
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    match seen.current(&definition.name) {
        Some(c) if c.state == ContainerState::Exited && c.exit_code == 0 => return true,
        Some(c) if c.state == ContainerState::Exited => {
            // "Always" means for init containers: until they succeed.
            if spec.restart_policy.as_deref() != Some("Never") || should_restart(spec, definition, c) {
                start(seen, definition, now, plan);
            }
        }
        Some(c) if c.state == ContainerState::Running => condemn(seen, spec, definition, c, now, plan),
        _ => start(seen, definition, now, plan),
    }
    false
}

fn run_containers(seen: &Observed<'_>, spec: &PodSpec, now: Timestamp, plan: &mut Plan) {
    for definition in &spec.containers {
        keep_running(seen, spec, definition, now, plan);
        // Containers start one after the other, each after the postStart hook of the one before.
        let starting = matches!(seen.busy.get(&definition.name), Some(Job::Start { .. }))
            || plan
                .steps
                .iter()
                .any(|s| matches!(s, Step::Start { name, .. } if *name == definition.name));
        if starting
            && seen
                .current(&definition.name)
                .is_none_or(|c| c.state != ContainerState::Exited)
        {
            plan.because(
                "",
                format!("the containers after {} wait for its start", definition.name),
            );
            // Those that run already are still watched over.
            continue_running_only(seen, spec, &definition.name, now, plan);
            return;
        }
    }
}

/// Watches over the running containers after `name` without starting any.
fn continue_running_only(seen: &Observed<'_>, spec: &PodSpec, name: &str, now: Timestamp, plan: &mut Plan) {
    let after = spec.containers.iter().skip_while(|c| c.name != name).skip(1);
    for definition in after {
        if let Some(c) = seen
            .current(&definition.name)
            .filter(|c| c.state == ContainerState::Running)
        {
            condemn(seen, spec, definition, c, now, plan);
        }
    }
}

/// Starts, restarts or condemns a container that should run.
fn keep_running(seen: &Observed<'_>, spec: &PodSpec, definition: &Definition, now: Timestamp, plan: &mut Plan) {
    match seen.current(&definition.name) {
        Some(c) if c.state == ContainerState::Running => condemn(seen, spec, definition, c, now, plan),
        Some(c) if c.state == ContainerState::Exited => {
            let replaced = being_replaced(seen, definition, now).is_some();
            let restarts = should_restart(spec, definition, c) || ended_for_resize(seen, definition, c) || replaced;
            if is_sidecar(definition) || restarts {
                start(seen, definition, now, plan);
            }
        }
        Some(c) if c.state == ContainerState::Unknown => {
            let why = format!(
                "Container {} is in unknown state, try killing it before restart",
                c.name
            );
            kill(seen, spec, c, None, why, now, plan);
        }
        // Made but never started (the agent died in between), or not there; one that ended before in an earlier
        // sandbox is subject to the policy.
        Some(_) => start(seen, definition, now, plan),
        None => {
            let ended = seen
                .newest(&definition.name)
                .filter(|c| c.state == ContainerState::Exited);
            if is_sidecar(definition) || ended.is_none_or(|c| should_restart(spec, definition, c)) {
                start(seen, definition, now, plan);
            }
        }
    }
}

/// Kills a running container that is outdated or condemned by a probe.
fn condemn(
    seen: &Observed<'_>,
    spec: &PodSpec,
    definition: &Definition,
    running: &Container,
    now: Timestamp,
    plan: &mut Plan,
) {
    if let Some(reason) = seen.memory.condemned.get(&running.id) {
        kill(seen, spec, running, reason.grace_s, reason.message.clone(), now, plan);
    } else if is_outdated(running, definition) {
        let why = format!("Container {} definition changed, will be restarted", running.name);
        kill(seen, spec, running, None, why, now, plan);
    } else if must_restart(seen, definition, running) {
        let why = format!("Container {} resize requires restart", running.name);
        kill(seen, spec, running, None, why, now, plan);
    }
}

fn kill(
    seen: &Observed<'_>,
    spec: &PodSpec,
    container: &Container,
    grace_s: Option<i64>,
    why: String,
    now: Timestamp,
    plan: &mut Plan,
) {
    let grace_s = grace_s.or(spec.termination_grace_period_seconds).unwrap_or(30);
    plan.because(&container.name, why.clone());
    plan.step(
        seen,
        Step::Kill {
            id: container.id.clone(),
            name: container.name.clone(),
            grace_s,
            why,
        },
        now,
    );
}

/// Starts a container now, or says when.
fn start(seen: &Observed<'_>, definition: &Definition, now: Timestamp, plan: &mut Plan) {
    let name = &definition.name;
    let Some(sandbox) = seen.live_sandbox() else { return };
    let newest = seen.newest(name);
    let ended = newest.filter(|c| c.state == ContainerState::Exited);
    if let Some((until, _)) = being_replaced(seen, definition, now) {
        plan.wake_at(until, now);
    }
    let mut not_before = match ended {
        Some(ended) if !ended_for_resize(seen, definition, ended) => restart_at(definition, ended),
        _ => now,
    };
    if let Some(failed) = seen.memory.failures.get(name) {
        not_before = not_before.max(failed.failure.retry_at);
        // The shown reason changes while the next try is held back.
        plan.wake_at(held_from(failed), now);
    }
    if not_before > now {
        plan.because(name, format!("is started again at {not_before}"));
        plan.wake_at(not_before, now);
        return;
    }
    plan.because(name, "is not running");
    plan.step(
        seen,
        Step::Start {
            name: name.clone(),
            sandbox_id: sandbox.id.clone(),
            restart_count: next_restart_count(seen, name),
            backoff_s: match newest {
                Some(c) if c.state == ContainerState::Created => c.backoff_s,
                _ => next_backoff_s(definition, ended),
            },
        },
        now,
    );
}

/// The restart count of the next container of a name: from the runtime's records, else from the API's status.
fn next_restart_count(seen: &Observed<'_>, name: &str) -> i32 {
    if let Some(newest) = seen.newest(name) {
        // One that was made but never started is made again, not restarted.
        let started = newest.state != ContainerState::Created;
        return newest.restart_count.saturating_add(i32::from(started));
    }
    let status = reported(seen.pod, name);
    let ran = status.is_some_and(|s| s.container_id.as_deref().is_some_and(|id| !id.is_empty()));
    if ran {
        status.map_or(0, |s| s.restart_count.saturating_add(1))
    } else {
        0
    }
}

/// Removes records that nobody needs: of each name all dead containers but the newest two, and old sandboxes without
/// containers.
fn prune(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) {
    let mut names: Vec<&str> = seen.containers.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let mut of_name: Vec<&Container> = seen.containers.iter().filter(|c| c.name == name).collect();
        of_name.sort_by_key(|c| std::cmp::Reverse((c.restart_count, c.created_at)));
        if let Some(old) = of_name.iter().skip(2).find(|c| c.state != ContainerState::Running) {
            plan.because(name, "an old record of it is removed");
            plan.step(
                seen,
                Step::RemoveContainer {
                    id: old.id.clone(),
                    name: name.to_owned(),
                },
                now,
            );
        }
    }
    let newest = seen.newest_sandbox().map(|s| s.id.as_str());
    let empty = seen.sandboxes.iter().find(|s| {
        newest != Some(s.id.as_str())
            && seen.memory.stopped_sandboxes.contains(&s.id)
            && !seen.containers.iter().any(|c| c.sandbox_id == s.id)
    });
    if let Some(old) = empty {
        plan.because("", "an old sandbox of it is removed");
        plan.step(seen, Step::RemoveSandbox { id: old.id.clone() }, now);
    }
}
