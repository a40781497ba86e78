//! What the worker remembers of ended jobs, verdicts and changes.

use super::{Eviction, Worker};
use crate::events::Severity;
use crate::jobs::{Outcome, StartError};
use crate::prober::News;
use crate::volumes::VolumeError;
use jiff::Timestamp;
use node_plan::{
    Delay, Failure, IMAGE_PULL_DELAY, KillReason, MOUNT_DELAY, ProbeKind, RESTART_DELAY, SANDBOX_DELAY, StartFailure,
    Volumes, probe_of,
};
use std::sync::Arc;

/// Between two tries of a start that a person has to set right.
const CONFIG_DELAY: Delay = Delay { first_s: 10, max_s: 10 };
/// Between two tries to let a volume grow.
const GROWTH_DELAY: Delay = Delay { first_s: 30, max_s: 30 };
/// The reason of an evicted pod's status.
const EVICTED: &str = "Evicted";
/// Between two tries to make a container.
const CREATE_DELAY: Delay = Delay { first_s: 2, max_s: 60 };

impl Worker {
    /// Remembers what a job found.
    pub(super) async fn job_ended(&mut self, id: tokio::task::Id, outcome: Outcome) {
        // A job that was replaced ends without being missed.
        let Some(subject) = self.tasks.iter().find(|(_, t)| t.id == id).map(|(s, _)| s.clone()) else {
            return;
        };
        self.tasks.remove(&subject);
        self.busy.remove(&subject);
        let now = Timestamp::now();
        match outcome {
            Outcome::Mounted(prepared) => {
                self.mounted = Arc::new(prepared.mounted);
                self.volumes = Volumes::Ready;
                let again = prepared.is_incomplete.then(|| GROWTH_DELAY.retry_at(now, 1));
                let renew_at = self.references.renew_at().await;
                self.renew_at = again.into_iter().chain(renew_at).min();
            }
            // Files that could not be brought up to date stay as they are; the next change tries again.
            Outcome::NotMounted(_) if self.volumes == Volumes::Ready => {}
            Outcome::NotMounted(error @ VolumeError::NotAttached { .. }) => {
                // Others are at work, and looking again has waited for them already.
                self.volumes = Volumes::Failed(Failure {
                    message: error.to_string(),
                    retry_at: now,
                    times: 1,
                });
            }
            Outcome::NotMounted(error) => self.volumes_failed(error.to_string(), now),
            Outcome::Unmounted => self.volumes = Volumes::Unmounted,
            Outcome::NotUnmounted(why) => {
                tracing::warn!(why, pod = self.name(), "volumes could not be taken away, trying again");
                self.volumes_failed(why, now);
            }
            Outcome::SandboxMade => self.memory.sandbox_failure = None,
            Outcome::NameTaken(why) => {
                let retry_at = SANDBOX_DELAY.retry_at(now, 1);
                self.memory.sandbox_failure = Some(Failure {
                    message: why,
                    retry_at,
                    times: 1,
                });
            }
            Outcome::SandboxFailed(why) => {
                let times = self
                    .memory
                    .sandbox_failure
                    .as_ref()
                    .map_or(1, |f| f.times.saturating_add(1));
                let retry_at = SANDBOX_DELAY.retry_at(now, times);
                self.memory.sandbox_failure = Some(Failure {
                    message: why,
                    retry_at,
                    times,
                });
            }
            Outcome::SandboxStopped(id) => {
                self.memory.sandbox_failure = None;
                self.memory.stopped_sandboxes.insert(id);
            }
            Outcome::Started => {
                self.memory.failures.remove(&subject);
            }
            Outcome::NotStarted(error) => self.start_failed(&subject, error, now),
            Outcome::Resized(resized) => self.resized(resized, now),
            Outcome::PodDeleted => self.memory.deleted = true,
            Outcome::Cancelled | Outcome::Done => {}
        }
    }

    fn volumes_failed(&mut self, message: String, now: Timestamp) {
        let times = match &self.volumes {
            Volumes::Failed(failure) => failure.times.saturating_add(1),
            _ => 1,
        };
        self.volumes = Volumes::Failed(Failure {
            message,
            retry_at: MOUNT_DELAY.retry_at(now, times),
            times,
        });
    }

    fn start_failed(&mut self, name: &str, error: StartError, now: Timestamp) {
        let StartError { reason, message } = error;
        let before = self.memory.failures.get(name).filter(|f| f.reason == reason);
        let times = before.map_or(1, |f| f.failure.times.saturating_add(1));
        let definition = self.pod.spec.as_ref().and_then(|s| node_plan::definition(s, name));
        let image = definition.and_then(|c| c.image.clone()).unwrap_or_default();
        let (delay, held_reason, held_message) = match reason {
            "ErrImagePull" => {
                let held = format!("Back-off pulling image \"{image}\": ErrImagePull: {message}");
                (IMAGE_PULL_DELAY, "ImagePullBackOff", held)
            }
            "RunContainerError" | "PostStartHookError" => (RESTART_DELAY, "CrashLoopBackOff", message.clone()),
            "CreateContainerError" => (CREATE_DELAY, reason, message.clone()),
            _ => (CONFIG_DELAY, reason, message.clone()),
        };
        let retry_at = delay.retry_at(now, times);
        let failed = StartFailure {
            reason: reason.to_owned(),
            held_reason: held_reason.to_owned(),
            held_message,
            failure: Failure {
                message,
                retry_at,
                times,
            },
            at: now,
        };
        self.memory.failures.insert(name.to_owned(), failed);
    }

    /// Remembers a probe's verdict.
    pub(super) fn take_news(&mut self, news: &News) {
        let verdicts = self.memory.verdicts.entry(news.container_id.clone()).or_default();
        match (news.kind, news.good) {
            (ProbeKind::Readiness, good) => verdicts.ready = good,
            (ProbeKind::Startup, true) => verdicts.started = true,
            (ProbeKind::Liveness, true) => {}
            (kind, false) => {
                let spec = self.pod.spec.as_ref();
                let all = spec
                    .into_iter()
                    .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
                let probe = all
                    .into_iter()
                    .find(|c| c.name == news.name)
                    .and_then(|c| probe_of(c, kind));
                let what = if kind == ProbeKind::Startup {
                    "startup"
                } else {
                    "liveness"
                };
                let reason = KillReason {
                    message: format!("Container {} failed {what} probe, will be restarted", news.name),
                    grace_s: probe.and_then(|p| p.termination_grace_period_seconds),
                };
                self.memory.condemned.insert(news.container_id.clone(), reason);
            }
        }
    }

    /// An object that the pod refers to has changed: what waits for it is tried at once.
    pub(super) fn references_changed(&mut self) {
        let now = Timestamp::now();
        self.is_stale = true;
        if self.memory.stopping.is_none()
            && let Volumes::Failed(failure) = &mut self.volumes
        {
            failure.retry_at = now;
        }
        for failed in self
            .memory
            .failures
            .values_mut()
            .filter(|f| f.reason == "CreateContainerConfigError")
        {
            failed.failure.retry_at = now;
        }
    }

    /// An evicted pod has failed, whatever its containers do.
    pub(super) fn take_eviction(&mut self, evicted: Option<Eviction>) {
        if let (Some(Eviction { message }), None) = (evicted, &self.memory.refused) {
            self.node
                .recorder
                .pod(&self.pod, None, Severity::Warning, EVICTED, message.clone());
            self.memory.refused = Some((EVICTED, message));
        }
    }

    /// Tells that the node refuses the pod, once.
    pub(super) fn tell_refusal(&self) {
        if let Some((reason, message)) = &self.memory.refused {
            self.node
                .recorder
                .pod(&self.pod, None, Severity::Warning, reason, message.clone());
        }
    }
}
