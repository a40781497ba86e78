//! When a job ends and why, and what is said of it on the way.

use api::k8s::api::batch::v1::{JobCondition, JobStatus};
use api::k8s::api::core::v1::{ContainerStatus, Pod};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::difference::{between, unless_zero};
use crate::pods::{name_of, phase};
use crate::{Action, Event, EventType, Notice, Reason, Step, Target};

use super::policy::{Verdict, judge, success};
use super::tally::{is_failed, is_indexed, size};
use super::tracking::Record;
use super::{Work, without_finalizer};

/// Why a job is complete that no rule has ended before.
pub(super) const COMPLETIONS_REACHED: (&str, &str) =
    ("CompletionsReached", "Reached expected number of succeeded pods");

const BACKOFF_LIMIT: (&str, &str) = ("BackoffLimitExceeded", "Job has reached the specified backoff limit");
const DEADLINE: (&str, &str) = ("DeadlineExceeded", "Job was active longer than specified deadline");
const FAILED_INDEXES_MAX: (&str, &str) = (
    "MaxFailedIndexesExceeded",
    "Job has exceeded the specified maximal number of failed indexes",
);
const FAILED_INDEXES: (&str, &str) = ("FailedIndexes", "Job has failed indexes");

impl Work<'_> {
    /// The condition that says that the job is about to end, known or new.
    pub(super) fn end(&mut self) -> Option<JobCondition> {
        for type_ in ["SuccessCriteriaMet", "FailureTarget"] {
            if let Some(known) = self.known(type_) {
                return Some(known.clone());
            }
        }
        let failure = self
            .failure_by_policy()
            .or_else(|| self.failure_by_limit())
            .or_else(|| self.failure_by_index());
        if failure.is_some() {
            return failure;
        }
        let completions = self.spec.completions.unwrap_or(0);
        let policy = self.spec.success_policy.as_ref().filter(|_| is_indexed(self.spec));
        let met = success(policy, completions, &self.tally.done_indexes)?;
        Some(self.interim("SuccessCriteriaMet", ("SuccessPolicy", &met)))
    }

    pub(super) fn interim(&self, type_: &str, (reason, message): (&str, &str)) -> JobCondition {
        JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        }
    }

    fn known(&self, type_: &str) -> Option<&JobCondition> {
        let conditions = self.job.status.as_ref()?.conditions.as_ref()?;
        conditions
            .iter()
            .find(|known| known.type_ == type_ && known.status == "True")
    }

    fn failure_by_policy(&self) -> Option<JobCondition> {
        let policy = self.spec.pod_failure_policy.as_ref()?;
        let failed = self.tally.pods.iter().filter(|pod| is_failed(self.spec, pod));
        let mut verdicts = failed.map(|pod| judge(Some(policy), pod));
        verdicts.find_map(|verdict| match verdict {
            Verdict::FailsJob(message) => Some(self.interim("FailureTarget", ("PodFailurePolicy", &message))),
            _ => None,
        })
    }

    fn failure_by_limit(&mut self) -> Option<JobCondition> {
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.tally.failed > limit || self.restarts_exceed(limit) {
            return Some(self.interim("FailureTarget", BACKOFF_LIMIT));
        }
        let deadline = self.deadline()?;
        if deadline <= self.now {
            return Some(self.interim("FailureTarget", DEADLINE));
        }
        self.draft.again_at = self.draft.again_at.into_iter().chain([deadline]).min();
        None
    }

    /// Pods that are restarted in place fail without ending.
    fn restarts_exceed(&self, limit: i32) -> bool {
        let policy = self
            .spec
            .template
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let running = self
            .tally
            .pods
            .iter()
            .filter(|pod| matches!(phase(pod), "Running" | "Pending"));
        let restarts: i32 = running
            .flat_map(|pod| containers(pod))
            .map(|container| container.restart_count)
            .sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let start = self.job.status.as_ref()?.start_time.as_ref()?.0;
        let deadline_s = self.spec.active_deadline_seconds.filter(|_| !self.is_suspended())?;
        start.checked_add(SignedDuration::from_secs(deadline_s)).ok()
    }

    fn failure_by_index(&self) -> Option<JobCondition> {
        let failed = self.tally.failed_indexes.as_ref()?.len();
        if self.spec.max_failed_indexes.is_some_and(|max| failed > max) {
            return Some(self.interim("FailureTarget", FAILED_INDEXES_MAX));
        }
        let ended = failed + self.tally.done_indexes.len();
        (failed > 0 && ended >= self.spec.completions.unwrap_or(0))
            .then(|| self.interim("FailureTarget", FAILED_INDEXES))
    }

    /// Writes what is to be said, and lets go of the pods that are on record with that.
    pub(super) fn record(&mut self, end: Option<JobCondition>) {
        let before = self.job.status.clone().unwrap_or_default();
        let mut status = before.clone();
        if status.start_time.is_none() && !self.is_suspended() {
            status.start_time = Some(Time(self.now));
            self.look_again_at_deadline();
        }
        status.active = unless_zero(size(self.tally.active.len()));
        status.ready = Some(self.tally.ready);
        status.terminating = Some(self.tally.terminating);
        if end.is_none() && !crate::is_terminating(&self.job.metadata) {
            self.note_suspension(&mut status);
        }
        let record = self.track(&mut status, end.as_ref());
        if let Some(end) = &end {
            let conditions = status.conditions.get_or_insert_default();
            if conditions.iter().all(|known| known.type_ != end.type_) {
                conditions.push(end.clone());
            } else {
                self.finish(&mut status, end, &record);
            }
        }
        self.write(&before, &status, &record);
    }

    fn look_again_at_deadline(&mut self) {
        let deadline_s = self.spec.active_deadline_seconds.map(SignedDuration::from_secs);
        let deadline = deadline_s.and_then(|deadline| self.now.checked_add(deadline).ok());
        self.draft.again_at = self.draft.again_at.into_iter().chain(deadline).min();
    }

    fn note_suspension(&mut self, status: &mut JobStatus) {
        let conditions = status.conditions.get_or_insert_default();
        let known = conditions.iter_mut().find(|known| known.type_ == "Suspended");
        let (wanted, reason, message) = if self.spec.suspend == Some(true) {
            ("True", "JobSuspended", "Job suspended")
        } else {
            ("False", "JobResumed", "Job resumed")
        };
        let condition = JobCondition {
            type_: "Suspended".to_owned(),
            status: wanted.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        };
        match known {
            Some(known) if known.status == wanted => return,
            Some(known) => *known = condition,
            // To be resumed, a job must have been suspended.
            None if wanted == "False" => {
                if conditions.is_empty() {
                    status.conditions = None;
                }
                return;
            }
            None => conditions.push(condition),
        }
        if wanted == "False" {
            // The time of the deadline counts from the last start.
            status.start_time = Some(Time(self.now));
            self.look_again_at_deadline();
        }
        let reason = if wanted == "True" { "Suspended" } else { "Resumed" };
        self.tell(EventType::Normal, reason, message.to_owned());
    }

    /// The last condition, once every pod has ended and is counted.
    fn finish(&mut self, status: &mut JobStatus, end: &JobCondition, record: &Record) {
        let uncounted = status.uncounted_terminated_pods.as_ref();
        let is_counted = uncounted.is_none_or(|uncounted| uncounted.succeeded.is_none() && uncounted.failed.is_none());
        let is_over = self.tally.active.is_empty() && self.tally.terminating == 0;
        if !is_counted || !is_over || record.is_full || !record.released.is_empty() {
            let name = self.owner.name();
            let message = format!("{name} waits for its last pods to end before it is over");
            self.draft.because.push(Reason::waits(name, "Ends", name, message));
            return;
        }
        let (reason, message) = (
            end.reason.as_deref().unwrap_or_default(),
            end.message.as_deref().unwrap_or_default(),
        );
        let type_ = if end.type_ == "SuccessCriteriaMet" {
            "Complete"
        } else {
            "Failed"
        };
        let condition = self.interim(type_, (reason, message));
        status.conditions.get_or_insert_default().push(condition);
        if type_ == "Complete" {
            status.completion_time = Some(Time(self.now));
            let succeeded = status.succeeded.unwrap_or(0);
            if self.spec.completions.is_some_and(|completions| succeeded > completions) {
                let message = "Too many succeeded pods running after completion count reached";
                self.tell(EventType::Warning, "TooManySucceededPods", message.to_owned());
            }
            self.tell(EventType::Normal, "Completed", "Job completed".to_owned());
        } else {
            let reason = FAILURES
                .iter()
                .find(|known| **known == reason)
                .copied()
                .unwrap_or("Failed");
            self.tell(EventType::Warning, reason, message.to_owned());
        }
    }

    fn tell(&mut self, event_type: EventType, reason: &'static str, message: String) {
        self.draft.events.push(Event {
            about: Target::of(self.job),
            event_type,
            notice: Notice { reason, message },
        });
    }

    fn write(&mut self, before: &JobStatus, status: &JobStatus, record: &Record) {
        let change = between(before, status);
        let write = change.map(|change| Action::patch_status(Target::of(self.job), json!({ "status": change })));
        if record.released.is_empty() {
            self.draft.status = write;
            return;
        }
        // What is not on record yet must not be let go of.
        self.draft.steps.extend(write.map(Step::One));
        let name = self.owner.name();
        for pod in &record.released {
            let pod = name_of(&pod.metadata);
            self.draft.because.push(Reason::acts(
                pod,
                "Recorded",
                format!("{name} has put the end of {pod} on record"),
            ));
        }
        let chains = record.released.iter().map(|pod| vec![without_finalizer(pod)]);
        self.draft.steps.push(Step::Together(chains.collect()));
    }
}

/// Why jobs fail.
const FAILURES: [&str; 5] = [
    BACKOFF_LIMIT.0,
    DEADLINE.0,
    FAILED_INDEXES_MAX.0,
    FAILED_INDEXES.0,
    "PodFailurePolicy",
];

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    })
}
