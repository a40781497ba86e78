//! What a pod's status says: whether it is available, and if not, why, in words.

use api::k8s::api::core::v1::{ContainerStatus, Pod, PodCondition};
use jiff::{SignedDuration, Timestamp};

use crate::is_terminating;

/// The pod's phase; empty before the server has set one.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Whether the pod has ended and will not run again.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Failed" | "Succeeded")
}

/// Whether the server has created it.
pub(crate) fn is_created(pod: &Pod) -> bool {
    !phase(pod).is_empty()
}

/// Whether it runs and is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when it counts, or will count, as available; `None` if it is not ready.
pub(crate) fn available_at(pod: &Pod, min_ready_s: i32) -> Option<Timestamp> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_s <= 0 {
        return Some(Timestamp::MIN);
    }
    let since = condition(pod, "Ready")?.last_transition_time.as_ref()?.0;
    since
        .checked_add(SignedDuration::from_secs(i64::from(min_ready_s)))
        .ok()
}

/// Whether it has been ready for long enough.
pub(crate) fn is_available(pod: &Pod, min_ready_s: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready_s).is_some_and(|at| at <= now)
}

/// Whether it is missing from service: not available, or on its way out.
pub(crate) fn is_unavailable(pod: &Pod, min_ready_s: i32, now: Timestamp) -> bool {
    !is_available(pod, min_ready_s, now) || is_terminating(&pod.metadata)
}

/// Why a pod is not available: a word for programs and a clause for people.
///
/// The clause fits after the pod's name and a colon, e.g. "container nginx: ImagePullBackOff: …".
pub fn trouble(pod: &Pod, min_ready_s: i32, now: Timestamp) -> Option<(&'static str, String)> {
    if is_terminating(&pod.metadata) {
        return Some(("Terminating", "it is being deleted".to_owned()));
    }
    if has_ended(pod) {
        return Some(ended(pod));
    }
    if is_ready(pod) {
        let at = available_at(pod, min_ready_s).filter(|at| *at > now)?;
        let text = format!("it is ready and counts as available at {at}, after {min_ready_s} s (minReadySeconds)");
        return Some(("NotAvailableYet", text));
    }
    let found = unscheduled(pod)
        .or_else(|| container_trouble(pod))
        .or_else(|| gate(pod));
    Some(found.unwrap_or_else(|| vague(pod)))
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_)
}

fn ended(pod: &Pod) -> (&'static str, String) {
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.as_deref());
    let message = status.and_then(|status| status.message.as_deref());
    let said = said(reason, message);
    match phase(pod) {
        "Succeeded" => ("Ended", format!("it has ended{said}")),
        _ => ("Failed", format!("it has failed{said}")),
    }
}

fn unscheduled(pod: &Pod) -> Option<(&'static str, String)> {
    let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if is_placed {
        return None;
    }
    let verdict = condition(pod, "PodScheduled").filter(|scheduled| scheduled.status == "False");
    Some(match verdict {
        Some(verdict) => (
            "Unschedulable",
            format!("no node takes it{}", said(None, verdict.message.as_deref())),
        ),
        None => ("NotScheduledYet", "it has no node yet".to_owned()),
    })
}

fn container_trouble(pod: &Pod) -> Option<(&'static str, String)> {
    let status = pod.status.as_ref()?;
    let init = status
        .init_container_statuses
        .iter()
        .flatten()
        .filter(|container| !init_is_done(container));
    let main = status
        .container_statuses
        .iter()
        .flatten()
        .filter(|container| !container.ready);
    // Containers wait with PodInitializing while an init container has the real trouble, so init comes first.
    init.map(|container| one_container(pod, container, "init container"))
        .chain(main.map(|container| one_container(pod, container, "container")))
        .next()
}

fn init_is_done(container: &ContainerStatus) -> bool {
    let exit_code = container
        .state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
        .map(|ended| ended.exit_code);
    container.ready || exit_code == Some(0) || (container.started == Some(true))
}

fn one_container(pod: &Pod, container: &ContainerStatus, what: &str) -> (&'static str, String) {
    let name = &container.name;
    let state = container.state.clone().unwrap_or_default();
    if let Some(waiting) = state.waiting {
        let said = said(waiting.reason.as_deref(), waiting.message.as_deref());
        return ("ContainerWaiting", format!("{what} {name} waits{said}"));
    }
    if let Some(ended) = state.terminated {
        let said = said(ended.reason.as_deref(), ended.message.as_deref());
        return (
            "ContainerEnded",
            format!("{what} {name} has ended with exit code {}{said}", ended.exit_code),
        );
    }
    if state.running.is_none() {
        return ("ContainerWaiting", format!("{what} {name} has not been started yet"));
    }
    let spec = pod
        .spec
        .iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let spec = spec.into_iter().find(|spec| spec.name == *name);
    let has_startup_probe = spec.is_some_and(|spec| spec.startup_probe.is_some());
    let has_readiness_probe = spec.is_some_and(|spec| spec.readiness_probe.is_some());
    if has_startup_probe && container.started != Some(true) {
        (
            "StartupProbe",
            format!("the startup probe of {what} {name} has not succeeded yet"),
        )
    } else if has_readiness_probe {
        (
            "ReadinessProbe",
            format!("the readiness probe of {what} {name} does not succeed"),
        )
    } else if what == "init container" {
        ("Initializing", format!("{what} {name} is still running"))
    } else {
        ("ContainerNotReady", format!("{what} {name} runs and is not ready yet"))
    }
}

fn gate(pod: &Pod) -> Option<(&'static str, String)> {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let mut closed = gates.map(|gate| &gate.condition_type);
    let closed = closed.find(|type_| condition(pod, type_).is_none_or(|condition| condition.status != "True"))?;
    Some(("ReadinessGate", format!("its readiness gate {closed} is not met")))
}

fn vague(pod: &Pod) -> (&'static str, String) {
    let message = condition(pod, "Ready").and_then(|ready| ready.message.as_deref());
    let reason = condition(pod, "Ready").and_then(|ready| ready.reason.as_deref());
    match (phase(pod), reason.is_some() || message.is_some()) {
        (_, true) => ("NotReady", format!("it is not ready{}", said(reason, message))),
        ("Running", false) => ("NotReady", "it runs and is not ready".to_owned()),
        _ => ("NotStartedYet", "it has a node and is about to start".to_owned()),
    }
}

fn said(reason: Option<&str>, message: Option<&str>) -> String {
    let parts = [reason, message].into_iter().flatten().filter(|part| !part.is_empty());
    parts.map(|part| format!(": {part}")).collect()
}
