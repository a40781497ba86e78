//! CronJobs: a job for each time of a schedule.
//!
//! The name of a job tells the time it is for, so no time has two jobs, whatever is lost or done twice.

use std::collections::BTreeMap;

use api::cron::{Schedule, time_zone};
use api::k8s::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use api::k8s::api::core::v1::ObjectReference;
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::claiming::Owner;
use crate::difference::between;
use crate::job::{finish_of, is_finished};
use crate::pods::name_of;
use crate::{
    Action, Announcement, Event, EventType, Kind, Notice, Object, Plan, Propagation, Reason, Step, Target, Write,
    is_terminating, owner_reference,
};

/// The annotation with the time that a job is for.
const TIME_ANNOTATION: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// From so many missed times on, people are told that something is wrong.
const MISSED_NOTABLE: i64 = 100;

/// How much later than due it is looked, so that the time has surely come.
const MARGIN: SignedDuration = SignedDuration::from_millis(100);

/// All that a decision about one CronJob rests on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The CronJob.
    pub cron_job: &'a CronJob,
    /// The jobs that it controls.
    pub jobs: Vec<&'a Job>,
}

/// Decides what to do next about a CronJob.
pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let spec = &seen.cron_job.spec;
    let mut work = Work {
        seen,
        spec,
        owner: Owner::of(seen.cron_job),
        now,
        status: seen.cron_job.status.clone().unwrap_or_default(),
        draft: Plan::default(),
    };
    work.forget_history();
    work.follow_jobs();
    if !is_terminating(&seen.cron_job.metadata) && spec.suspend != Some(true) {
        work.schedule();
    }
    work.conclude()
}

/// Work on one CronJob: what is known, and what has been decided so far.
struct Work<'a> {
    seen: &'a Observed<'a>,
    spec: &'a CronJobSpec,
    owner: Owner<'a>,
    now: Timestamp,
    status: CronJobStatus,
    draft: Plan,
}

impl Work<'_> {
    /// Deletes ended jobs beyond the history that is to be kept, the oldest first.
    fn forget_history(&mut self) {
        for (end, limit) in [
            ("Complete", self.spec.successful_jobs_history_limit),
            ("Failed", self.spec.failed_jobs_history_limit),
        ] {
            let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
                continue;
            };
            let has_ended = |job: &&&Job| finish_of(job).is_some_and(|known| known.type_ == end);
            let mut ended: Vec<&Job> = self.seen.jobs.iter().filter(has_ended).copied().collect();
            ended.sort_by_key(|job| {
                let start = job.status.as_ref().and_then(|status| status.start_time.as_ref());
                (start.map_or(Timestamp::MAX, |time| time.0), job.metadata.name.clone())
            });
            let surplus = ended.len().saturating_sub(limit);
            for job in &ended[..surplus] {
                self.delete(job, "is history beyond the limit");
            }
        }
    }

    /// Keeps the list of active jobs true.
    fn follow_jobs(&mut self) {
        let mut active: BTreeMap<String, ObjectReference> = BTreeMap::new();
        for known in self.status.active.take().unwrap_or_default() {
            active.insert(known.uid.clone().unwrap_or_default(), known);
        }
        for known in active.values() {
            let is_there = self.seen.jobs.iter().any(|job| job.metadata.uid == known.uid);
            if !is_there {
                let name = known.name.clone().unwrap_or_default();
                self.tell(
                    EventType::Normal,
                    "MissingJob",
                    format!("Active job went missing: {name}"),
                );
            }
        }
        active.retain(|uid, _| {
            self.seen
                .jobs
                .iter()
                .any(|job| job.metadata.uid.as_deref() == Some(uid))
        });
        for job in &self.seen.jobs {
            let (uid, name) = (job.metadata.uid.clone().unwrap_or_default(), name_of(&job.metadata));
            let is_ours = has_time(job);
            match finish_of(job) {
                Some(end) => {
                    if active.remove(&uid).is_some() {
                        let message = format!("Saw completed job: {name}, condition: {}", end.type_);
                        self.tell(EventType::Normal, "SawCompletedJob", message);
                    }
                    self.note_success(job);
                }
                None if is_ours && !is_terminating(&job.metadata) => {
                    active.insert(uid, reference(job));
                }
                None if !is_ours && !active.contains_key(&uid) => {
                    let message = format!("Saw a job that the controller did not create or forgot: {name}");
                    self.tell(EventType::Warning, "UnexpectedJob", message);
                }
                None => {}
            }
        }
        let mut active: Vec<ObjectReference> = active.into_values().collect();
        active.sort_by(|a, b| a.name.cmp(&b.name));
        self.status.active = Some(active).filter(|active| !active.is_empty());
    }

    fn note_success(&mut self, job: &Job) {
        let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
        let known = self.status.last_successful_time.as_ref();
        if completed.as_ref().map(|time| time.0) > known.map(|time| time.0) {
            self.status.last_successful_time = completed;
        }
    }

    /// Makes the job of the latest time that has come, unless there is a reason not to.
    fn schedule(&mut self) {
        let Some((schedule, zone)) = self.parse() else { return };
        self.look_again(schedule.next(self.now, &zone));
        let (due, missed) = latest(
            self.seen.cron_job,
            &schedule,
            &zone,
            self.spec.starting_deadline_seconds,
            self.now,
        );
        if missed >= MISSED_NOTABLE {
            let message = format!(
                "too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            );
            self.tell(EventType::Warning, "TooManyMissedTimes", message);
        }
        let Some(due) = due else { return };
        let last = self.status.last_schedule_time.as_ref().map(|time| time.0);
        let name = job_name(self.owner.name(), due);
        let is_made = self.seen.jobs.iter().any(|job| name_of(&job.metadata) == name);
        if is_made || last.is_some_and(|last| last >= due) {
            if last.is_none_or(|last| last < due) {
                self.status.last_schedule_time = Some(Time(due));
            }
            return;
        }
        let deadline = self.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        if deadline.is_some_and(|deadline| due.checked_add(deadline).is_ok_and(|at| at < self.now)) {
            let message = format!("Missed scheduled time to start a job: {due}");
            return self.tell(EventType::Warning, "MissSchedule", message);
        }
        let active: Vec<&Job> = self
            .seen
            .jobs
            .iter()
            .copied()
            .filter(|job| !is_finished(job) && has_time(job))
            .collect();
        match self.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                let running = name_of(&active[0].metadata);
                let waits = format!("{name} waits for {running}: the concurrency policy is Forbid");
                self.draft
                    .because
                    .push(Reason::waits(&name, "JobAlreadyActive", running, waits));
                return self.tell(EventType::Normal, "JobAlreadyActive", message.to_owned());
            }
            Some("Replace") => {
                for job in active {
                    self.delete(job, "is replaced by the next one");
                }
            }
            _ => {}
        }
        self.create(&name, due, &zone);
    }

    fn parse(&mut self) -> Option<(Schedule, TimeZone)> {
        let zone = match self.spec.time_zone.as_deref() {
            None => TimeZone::UTC,
            Some(name) => match time_zone(name) {
                Some(zone) => zone,
                None => {
                    self.tell(
                        EventType::Warning,
                        "UnknownTimeZone",
                        format!("invalid timeZone: \"{name}\""),
                    );
                    return None;
                }
            },
        };
        match Schedule::parse(&self.spec.schedule) {
            Ok(schedule) => Some((schedule, zone)),
            Err(problem) => {
                let message = format!("unparseable schedule: \"{}\" : {problem}", self.spec.schedule);
                self.tell(EventType::Warning, "UnparseableSchedule", message);
                None
            }
        }
    }

    fn look_again(&mut self, next: Option<Timestamp>) {
        self.draft.again_at = next.and_then(|at| at.checked_add(MARGIN).ok());
    }

    /// The time is put on record only if the job could be made.
    fn create(&mut self, name: &str, due: Timestamp, zone: &TimeZone) {
        let job = self.job(name, due, zone);
        let create = Action::create(Object::of(&job)).announced(Announcement {
            about: self.owner.target(),
            done: Some(Notice {
                reason: "SuccessfulCreate",
                message: format!("Created job {name}"),
            }),
            failed: Some(Notice {
                reason: "FailedCreate",
                message: "Error creating job:".to_owned(),
            }),
        });
        self.draft
            .because
            .push(Reason::acts(name, "Creates", format!("{name} is created for {due}")));
        self.status.last_schedule_time = Some(Time(due));
        let chain = std::iter::once(create).chain(self.write()).collect();
        self.draft.steps.push(Step::Together(vec![chain]));
        self.status = self.seen.cron_job.status.clone().unwrap_or_default();
    }

    fn job(&self, name: &str, due: Timestamp, zone: &TimeZone) -> Job {
        let template = &self.spec.job_template;
        let meta = template.metadata.clone().unwrap_or_default();
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.insert(TIME_ANNOTATION.to_owned(), rfc3339(due, zone));
        Job {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: self.owner.meta.namespace.clone(),
                labels: meta.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![owner_reference(self.owner.kind, self.owner.meta)]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    }

    fn delete(&mut self, job: &Job, why: &str) {
        if is_terminating(&job.metadata) {
            return;
        }
        let name = name_of(&job.metadata);
        // Nobody is to wonder where it is.
        let mut active = self.status.active.take().unwrap_or_default();
        active.retain(|known| known.uid != job.metadata.uid);
        self.status.active = Some(active).filter(|active| !active.is_empty());
        let action = Action::from(Write::Delete {
            target: crate::pods::whatever_version(Target::of(job)),
            propagation: Some(Propagation::Background),
        });
        self.draft
            .because
            .push(Reason::acts(name, "Deletes", format!("{name} {why}")));
        self.draft.steps.push(Step::One(action.announced(Announcement {
            about: self.owner.target(),
            done: Some(Notice {
                reason: "SuccessfulDelete",
                message: format!("Deleted job {name}"),
            }),
            failed: Some(Notice {
                reason: "FailedDelete",
                message: "Deleted job:".to_owned(),
            }),
        })));
    }

    fn tell(&mut self, event_type: EventType, reason: &'static str, message: String) {
        self.draft.events.push(Event {
            about: self.owner.target(),
            event_type,
            notice: Notice { reason, message },
        });
    }

    fn write(&self) -> Option<Action> {
        let before = self.seen.cron_job.status.clone().unwrap_or_default();
        let change = between(&before, &self.status)?;
        Some(Action::patch_status(self.owner.target(), json!({ "status": change })))
    }

    fn conclude(mut self) -> Plan {
        self.draft.status = self.write();
        self.draft
    }
}

/// Whether a job was made for a time.
fn has_time(job: &Job) -> bool {
    job.metadata
        .annotations
        .as_ref()
        .is_some_and(|known| known.contains_key(TIME_ANNOTATION))
}

/// The name of the job of a time: the minutes since 1970 tell it.
fn job_name(cron_job: &str, due: Timestamp) -> String {
    format!("{cron_job}-{}", due.as_second().div_euclid(60))
}

fn rfc3339(at: Timestamp, zone: &TimeZone) -> String {
    let text = at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    text.strip_suffix("+00:00")
        .map_or(text.clone(), |utc| format!("{utc}Z"))
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some(Kind::of::<Job>().api_version()),
        kind: Some("Job".to_owned()),
        namespace: job.metadata.namespace.clone(),
        name: job.metadata.name.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: None,
        field_path: None,
    }
}

/// The latest time of the schedule that has come since the last one on record, and about how many there were.
fn latest(
    cron_job: &CronJob,
    schedule: &Schedule,
    zone: &TimeZone,
    deadline_s: Option<i64>,
    now: Timestamp,
) -> (Option<Timestamp>, i64) {
    let last = cron_job
        .status
        .as_ref()
        .and_then(|status| status.last_schedule_time.as_ref());
    let since = last
        .or(cron_job.metadata.creation_timestamp.as_ref())
        .map_or(now, |time| time.0);
    let window = deadline_s.and_then(|deadline_s| now.checked_sub(SignedDuration::from_secs(deadline_s)).ok());
    let since = window.map_or(since, |window| since.max(window));
    let Some(first) = schedule.next(since, zone).filter(|first| *first <= now) else {
        return (None, 0);
    };
    let Some(second) = schedule.next(first, zone).filter(|second| *second <= now) else {
        return (Some(first), 0);
    };
    let interval_s = (second.as_second() - first.as_second()).max(1);
    let missed = (now.as_second() - first.as_second()) / interval_s + 1;
    // Close to now in one leap, as far as the schedule is even; where it is not, in a shorter one. The rest step by step.
    let mut intervals = (missed - 2).max(0);
    let mut at = first;
    while intervals > 0 {
        let leap = first
            .checked_add(SignedDuration::from_secs(intervals * interval_s))
            .unwrap_or(first);
        if schedule.next(leap, zone).is_some_and(|next| next <= now) {
            at = leap;
            break;
        }
        intervals /= 2;
    }
    let mut due = first;
    while let Some(next) = schedule.next(at, zone).filter(|next| *next <= now) {
        (at, due) = (next, next);
    }
    (Some(due), missed)
}

#[cfg(test)]
mod tests;
