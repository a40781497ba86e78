//! Jobs: pods that are to end well, so and so many of them, each counted exactly once.
//!
//! A pod of a job carries a finalizer until its end is on record. In order, and each in a write of its own: its uid
//! goes into `uncountedTerminatedPods` (its index into `completedIndexes`), its finalizer goes, its uid becomes one more
//! in `succeeded` or `failed`. A crash between any two of these counts no pod twice and forgets none. A job ends in the
//! same way: first a condition says that it is going to, then its pods go, then the last condition is set.
//!
//! ```text
//!  running ──enough has succeeded──▶ SuccessCriteriaMet ──no pod left──▶ Complete
//!     └──────too much has failed───▶ FailureTarget ───────no pod left──▶ Failed
//! ```

use api::k8s::api::batch::v1::{Job, JobCondition, JobSpec};
use api::k8s::api::core::v1::Pod;
use api::k8s::apimachinery::pkg::apis::meta::v1::LabelSelector;
use jiff::Timestamp;
use serde_json::json;

use crate::claiming::Owner;
use crate::pods::{self, name_of};
use crate::selection::Selection;
use crate::{Action, Plan, Reason, Step, Target, controller_of, is_terminating};

mod backoff;
mod indexes;
mod making;
mod policy;
mod status;
mod tally;
mod tracking;

pub use indexes::INDEX_KEY;

use tally::Tally;

/// The finalizer of pods that are not on record yet.
pub const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// Who jobs are managed by unless they say otherwise.
const JOB_CONTROLLER: &str = "kubernetes.io/job-controller";

/// All that a decision about one job rests on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The job.
    pub job: &'a Job,
    /// The pods that it controls, and those of nobody.
    pub pods: Vec<&'a Pod>,
}

/// Decides what to do next about a job.
pub fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let Some(spec) = seen.job.spec.as_ref().filter(|_| !is_managed_elsewhere(seen.job)) else {
        return Plan::default();
    };
    if is_finished(seen.job) {
        return Plan::default();
    }
    let nothing = LabelSelector::default();
    let owner = Owner {
        pod_finalizer: Some(TRACKING_FINALIZER),
        ..Owner::of(seen.job)
    };
    let selector = spec.selector.as_ref().unwrap_or(&nothing);
    let mut claim = owner.claim(Selection::Selector(selector), &seen.pods);
    if let Some(plan) = claim.plan() {
        return plan;
    }
    let mut work = Work {
        job: seen.job,
        spec,
        owner,
        now,
        tally: Tally::of(seen.job, spec, claim.own),
        draft: Plan::default(),
    };
    work.decide();
    work.draft
}

/// Takes the finalizer off a pod that no job will ever put on record.
///
/// `job` is the job that controls the pod, if it exists.
pub fn plan_orphan(pod: &Pod, job: Option<&Job>) -> Plan {
    let is_of_job = |kind: &str, api_version: &str| kind == "Job" && api_version == "batch/v1";
    let is_foreign = controller_of(&pod.metadata).is_some_and(|owner| !is_of_job(&owner.kind, &owner.api_version));
    let is_cared_for = job.is_some_and(|job| is_managed_elsewhere(job) || !is_finished(job));
    if !has_finalizer(pod) || is_foreign || is_cared_for {
        return Plan::default();
    }
    let name = name_of(&pod.metadata);
    Plan {
        steps: vec![Step::One(without_finalizer(pod))],
        because: vec![Reason::acts(
            name,
            "Orphan",
            format!("{name} has no job that would count it"),
        )],
        ..Plan::default()
    }
}

/// Whether a job has come to its end.
pub fn is_finished(job: &Job) -> bool {
    finish_of(job).is_some()
}

/// The condition that says that a job has come to its end.
pub fn finish_of(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let is_end =
        |known: &&JobCondition| matches!(known.type_.as_str(), "Complete" | "Failed") && known.status == "True";
    conditions.iter().find(is_end)
}

fn is_managed_elsewhere(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_some_and(|manager| manager != JOB_CONTROLLER)
}

/// Whether a pod still has to be put on record.
pub fn has_finalizer(pod: &Pod) -> bool {
    let finalizers = pod.metadata.finalizers.as_ref();
    finalizers.is_some_and(|finalizers| finalizers.iter().any(|known| known == TRACKING_FINALIZER))
}

fn without_finalizer(pod: &Pod) -> Action {
    let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|known| known != TRACKING_FINALIZER);
    Action::patch(Target::of(pod), json!({ "metadata": { "finalizers": finalizers } }))
}

/// Work on one job: what is known, and what has been decided so far.
struct Work<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    owner: Owner<'a>,
    now: Timestamp,
    tally: Tally<'a>,
    draft: Plan,
}

impl Work<'_> {
    fn decide(&mut self) {
        if !self.has_record() {
            return self.open_record();
        }
        let end = self.end();
        if end.is_some() {
            self.end_active_pods();
        } else if !is_terminating(&self.job.metadata) {
            self.manage();
        }
        let end = end.or_else(|| {
            self.is_complete()
                .then(|| self.interim("SuccessCriteriaMet", status::COMPLETIONS_REACHED))
        });
        self.record(end);
    }

    /// Whether there is a place to put the ends of pods on record. A job that has started has one, unless the server is
    /// so old (before 1.22) that it forgets it: no pod may be let go of then, for it would never be counted.
    fn has_record(&self) -> bool {
        let status = self.job.status.as_ref();
        let has_started = status.is_some_and(|status| status.start_time.is_some());
        !has_started || status.is_some_and(|status| status.uncounted_terminated_pods.is_some())
    }

    fn open_record(&mut self) {
        let name = self.owner.name();
        let message =
            format!("{name} waits for a place to record its pods' ends: the server may be too old to keep it");
        self.draft.because.push(Reason::waits(name, "NoRecord", name, message));
        let patch = json!({ "status": { "uncountedTerminatedPods": {} } });
        self.draft.status = Some(Action::patch_status(self.owner.target(), patch));
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Whether all that is wanted has succeeded and nothing runs any more.
    fn is_complete(&self) -> bool {
        let enough = match self.spec.completions {
            Some(completions) => self.tally.succeeded >= completions,
            None => self.tally.succeeded > 0,
        };
        enough && self.tally.active.is_empty()
    }

    fn end_active_pods(&mut self) {
        let chains: Vec<_> = self
            .tally
            .active
            .iter()
            .map(|pod| vec![pods::delete(self.owner, pod)])
            .collect();
        if !chains.is_empty() {
            let name = self.owner.name();
            let message = format!(
                "the {} pods of {name} that still run are deleted: it has ended",
                chains.len()
            );
            self.draft.because.push(Reason::acts(name, "Ends", message));
            self.draft.steps.push(Step::Together(chains));
        }
    }
}
