//! The entry: from what was seen of a pod to the steps to take now, its status, and the reasons.
//!
//! ```text
//!            volumes ─▶ sandbox ─▶ init containers and sidecars ─▶ containers      (start.rs)
//! deleted, ended: containers ─▶ sidecars ─▶ sandbox ─▶ volumes ─▶ records ─▶ DELETE (terminate.rs)
//! ```
//! A plan never depends on the answers to its steps: they are taken, the pod is looked at again, and planned again.

use crate::observed::{Job, Observed, POD_SUBJECT};
use crate::{start, status, terminate};
use api::k8s::api::core::v1::PodStatus;
use jiff::Timestamp;

/// What to do now.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Steps, each for another subject; all may be taken at once.
    pub steps: Vec<Step>,
    /// The status the pod should have in the API.
    pub status: PodStatus,
    /// Why the steps are taken, and what held-back steps wait for.
    pub because: Vec<Reason>,
    /// When to plan again even if nothing happens.
    pub again_at: Option<Timestamp>,
    /// Nothing of the pod is left on this node and the API knows it.
    pub done: bool,
}

/// Why something is done, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Container name, or empty for the pod.
    pub about: String,
    /// For people.
    pub text: String,
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Mount what the pod's containers need.
    PrepareVolumes,
    /// Make a sandbox.
    CreateSandbox {
        /// Its number.
        attempt: u32,
    },
    /// Stop a sandbox and what may still run in it; release its network.
    StopSandbox {
        /// Which.
        id: String,
    },
    /// Remove a stopped sandbox.
    RemoveSandbox {
        /// Which.
        id: String,
    },
    /// Pull the image, make and start a container, run its postStart hook.
    Start {
        /// Its name.
        name: String,
        /// The sandbox to make it in.
        sandbox_id: String,
        /// How many times the name was started before.
        restart_count: i32,
        /// The delay that follows its end.
        backoff_s: u32,
    },
    /// Tell a start that is under way to give up.
    CancelStart {
        /// The container's name.
        name: String,
    },
    /// Run the preStop hook, SIGTERM, and SIGKILL after the grace.
    Kill {
        /// Which container.
        id: String,
        /// Its name.
        name: String,
        /// Seconds to SIGKILL.
        grace_s: i64,
        /// The event's text.
        why: String,
    },
    /// Remove a dead container's record.
    RemoveContainer {
        /// Which container.
        id: String,
        /// Its name.
        name: String,
    },
    /// Change the control groups of running containers, and of the pod.
    Resize {
        /// Names and ids of the containers.
        containers: Vec<(String, String)>,
    },
    /// Unmount everything and remove the pod's directory.
    UnmountVolumes,
    /// Tell the API that nothing is left: DELETE with grace 0.
    DeletePod,
}

/// Why a running container must die though the pod goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillReason {
    /// The event's text, e.g. `Container web failed liveness probe, will be restarted`.
    pub message: String,
    /// Another grace than the pod's, in seconds.
    pub grace_s: Option<i64>,
}

impl Step {
    /// The container name or [`POD_SUBJECT`] that the step works on.
    pub fn subject(&self) -> &str {
        match self {
            Self::Start { name, .. }
            | Self::CancelStart { name }
            | Self::Kill { name, .. }
            | Self::RemoveContainer { name, .. } => name,
            _ => POD_SUBJECT,
        }
    }
}

/// What to do now for a pod. Total: whatever was seen, there is an answer.
pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if seen.pod.spec.is_none() {
        plan.because("", "the pod has no spec");
        return plan;
    }
    if terminate::must_stop(seen, now) {
        terminate::plan(seen, now, &mut plan);
    } else {
        start::plan(seen, now, &mut plan);
    }
    if plan.status.phase.is_none() {
        plan.status = status::pod_status(seen, now);
    }
    if let Some(deadline) = terminate::active_deadline(seen) {
        plan.wake_at(deadline, now);
    }
    plan
}

impl Plan {
    /// Notes a reason.
    pub(crate) fn because(&mut self, about: &str, text: impl Into<String>) {
        self.because.push(Reason {
            about: about.to_owned(),
            text: text.into(),
        });
    }

    /// Asks to be planned again at `time`, unless that is past or something earlier is due.
    pub(crate) fn wake_at(&mut self, time: Timestamp, now: Timestamp) {
        if time > now && self.again_at.is_none_or(|at| time < at) {
            self.again_at = Some(time);
        }
    }

    /// Adds a step unless its subject is busy; a shorter Kill and a CancelStart pass.
    pub(crate) fn step(&mut self, seen: &Observed<'_>, step: Step, now: Timestamp) {
        let passes = match (seen.busy.get(step.subject()), &step) {
            (None, _) => !self.steps.iter().any(|s| s.subject() == step.subject()),
            (Some(Job::Start { cancelled }), Step::CancelStart { .. }) => !cancelled,
            (Some(Job::Kill { deadline }), Step::Kill { grace_s, .. }) => {
                // A second of slack: the same grace looked at a moment later is no other grace.
                crate::backoff::plus_s(now, *grace_s + 1) < *deadline
            }
            _ => false,
        };
        if passes {
            self.steps.push(step);
        }
    }
}
