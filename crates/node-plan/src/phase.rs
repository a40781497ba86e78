//! The pod's phase, and whether it has ended for good.

use crate::container_status::statuses;
use crate::observed::Observed;
use crate::start::is_sidecar;
use crate::terminate::active_deadline;
use api::k8s::api::core::v1::{ContainerStatus, PodSpec};
use jiff::Timestamp;

/// How a pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// `Succeeded` or `Failed`.
    pub(crate) phase: &'static str,
    /// The pod status' reason and message, where there are any.
    pub(crate) why: Option<(String, String)>,
}

/// Whether the pod has ended for good, whatever its containers still do.
pub(crate) fn ended(seen: &Observed<'_>, now: Timestamp) -> Option<Ended> {
    let spec = seen.pod.spec.as_ref()?;
    let status = seen.pod.status.as_ref();
    let why = status.and_then(|s| Some((s.reason.clone()?, s.message.clone().unwrap_or_default())));
    match status.and_then(|s| s.phase.as_deref()) {
        Some("Succeeded") => {
            return Some(Ended {
                phase: "Succeeded",
                why,
            });
        }
        Some("Failed") => return Some(Ended { phase: "Failed", why }),
        _ => {}
    }
    if let Some((reason, message)) = seen.memory.refused.clone() {
        return Some(Ended {
            phase: "Failed",
            why: Some((reason.to_owned(), message)),
        });
    }
    if active_deadline(seen).is_some_and(|deadline| deadline <= now) {
        let text = "Pod was active on the node longer than the specified deadline";
        return Some(Ended {
            phase: "Failed",
            why: Some(("DeadlineExceeded".into(), text.into())),
        });
    }
    let init = statuses(seen, spec.init_containers.as_deref().unwrap_or_default(), true, now);
    let main = statuses(seen, &spec.containers, false, now);
    match phase(spec, &init, &main, false) {
        "Succeeded" => Some(Ended {
            phase: "Succeeded",
            why: None,
        }),
        "Failed" => Some(Ended {
            phase: "Failed",
            why: None,
        }),
        _ => None,
    }
}

/// What the containers of a pod are doing, counted.
#[derive(Default)]
struct Counts {
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

impl Counts {
    fn of(statuses: &[ContainerStatus]) -> Self {
        let mut counts = Self::default();
        for status in statuses {
            let state = status.state.as_ref();
            let ended_before = status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
            if state.is_some_and(|s| s.running.is_some()) {
                counts.running += 1;
            } else if let Some(terminated) = state.and_then(|s| s.terminated.as_ref()) {
                counts.stopped += 1;
                counts.succeeded += usize::from(terminated.exit_code == 0);
            } else if ended_before {
                // Waiting for its restart.
                counts.stopped += 1;
            } else {
                counts.waiting += 1;
            }
        }
        counts
    }
}

/// The phase that container statuses amount to. `is_over`: the pod is being ended and nothing will run again.
pub(crate) fn phase(spec: &PodSpec, init: &[ContainerStatus], main: &[ContainerStatus], is_over: bool) -> &'static str {
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    let counts = Counts::of(main);
    let mut pending_init = false;
    let mut failed_init = false;
    for (definition, status) in spec.init_containers.iter().flatten().zip(init) {
        let state = status.state.as_ref();
        let exit = state.and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
        if is_sidecar(definition) {
            pending_init |= status.started != Some(true);
        } else {
            let never_again = definition.restart_policy.as_deref().unwrap_or(policy) == "Never";
            failed_init |= exit.is_some_and(|code| code != 0) && never_again;
            pending_init |= exit != Some(0);
        }
    }
    // Once a container has run, initialization is over.
    let pending_init = pending_init && counts.running == 0 && counts.stopped == 0;
    if failed_init {
        return "Failed";
    }
    if is_over && counts.running == 0 {
        // What never ran has not succeeded.
        return if counts.waiting == 0 && counts.stopped == counts.succeeded {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    if pending_init || counts.waiting > 0 {
        return "Pending";
    }
    if counts.running > 0 || policy == "Always" {
        return "Running";
    }
    let waits_for_restart = main
        .iter()
        .any(|s| s.state.as_ref().is_some_and(|s| s.waiting.is_some()));
    if waits_for_restart {
        return "Running";
    }
    match (counts.stopped == counts.succeeded, policy) {
        (true, _) => "Succeeded",
        (false, "Never") => "Failed",
        (false, _) => "Running",
    }
}
