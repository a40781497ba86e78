//! What a job's pods add up to, on record or not.

use std::collections::BTreeSet;

use api::k8s::api::batch::v1::{Job, JobSpec};
use api::k8s::api::core::v1::Pod;

use crate::is_terminating;
use crate::pods::{is_active, is_ready, is_shutting_down, phase};

use super::has_finalizer;
use super::indexes::{Indexes, index_of};
use super::policy::{Verdict, judge};

/// The annotation with the number of times that an index has failed before this pod of it.
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// The annotation with the number of times that it failed and that was ignored.
pub(super) const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// The sums.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    pub(super) pods: Vec<&'a Pod>,
    pub(super) active: Vec<&'a Pod>,
    pub(super) ready: i32,
    pub(super) terminating: i32,
    /// uids of pods that have succeeded and are about to be counted.
    pub(super) uncounted_succeeded: BTreeSet<&'a str>,
    /// uids of pods that have failed and are about to be counted.
    pub(super) uncounted_failed: BTreeSet<&'a str>,
    /// How many have succeeded (or how many indexes), counted or not.
    pub(super) succeeded: i32,
    /// How many have failed, counted or not, but for those that a rule ignores.
    pub(super) failed: i32,
    /// The completed indexes on record.
    pub(super) known_indexes: Indexes,
    /// The completed indexes, on record or not.
    pub(super) done_indexes: Indexes,
    /// The failed indexes, if indexes can fail by themselves.
    pub(super) failed_indexes: Option<Indexes>,
}

impl<'a> Tally<'a> {
    pub(super) fn of(job: &'a Job, spec: &'a JobSpec, pods: Vec<&'a Pod>) -> Self {
        let status = job.status.as_ref();
        let uncounted = status.and_then(|status| status.uncounted_terminated_pods.as_ref());
        let uids =
            |list: Option<&'a Vec<String>>| list.into_iter().flatten().map(String::as_str).collect::<BTreeSet<_>>();
        let active: Vec<&Pod> = pods.iter().copied().filter(|pod| is_active(pod)).collect();
        let count = |pods: &[&Pod], is_so: fn(&Pod) -> bool| size(pods.iter().filter(|pod| is_so(pod)).count());
        let mut tally = Self {
            ready: count(&active, is_ready),
            terminating: count(&pods, is_shutting_down),
            uncounted_succeeded: uids(uncounted.and_then(|uncounted| uncounted.succeeded.as_ref())),
            uncounted_failed: uids(uncounted.and_then(|uncounted| uncounted.failed.as_ref())),
            succeeded: 0,
            failed: 0,
            known_indexes: Indexes::default(),
            done_indexes: Indexes::default(),
            failed_indexes: None,
            active,
            pods,
        };
        tally.count_ends(job, spec);
        if is_indexed(spec) {
            tally.count_indexes(job, spec);
        }
        tally
    }

    fn count_ends(&mut self, job: &Job, spec: &JobSpec) {
        let status = job.status.clone().unwrap_or_default();
        let is_new = |pod: &&&Pod, counted: &BTreeSet<&str>| {
            has_finalizer(pod) && !counted.contains(uid(pod)) && (!is_indexed(spec) || valid_index(spec, pod).is_some())
        };
        let new = self.pods.iter().filter(|pod| is_new(pod, &self.uncounted_succeeded));
        let succeeded = new.filter(|pod| phase(pod) == "Succeeded").count();
        let new = self.pods.iter().filter(|pod| is_new(pod, &self.uncounted_failed));
        let failed = new.filter(|pod| is_failed(spec, pod) && judge(spec.pod_failure_policy.as_ref(), pod).counts());
        self.succeeded = status.succeeded.unwrap_or(0) + size(succeeded) + size(self.uncounted_succeeded.len());
        self.failed = status.failed.unwrap_or(0) + size(failed.count()) + size(self.uncounted_failed.len());
    }

    fn count_indexes(&mut self, job: &Job, spec: &JobSpec) {
        let status = job.status.as_ref();
        let completions = spec.completions.unwrap_or(0);
        let parse = |text: Option<&String>| Indexes::parse(text.map_or("", String::as_str), completions);
        self.known_indexes = parse(status.and_then(|status| status.completed_indexes.as_ref()));
        self.done_indexes = self.known_indexes.clone();
        let mut failed = parse(status.and_then(|status| status.failed_indexes.as_ref()));
        for pod in self.pods.iter().filter(|pod| has_finalizer(pod)) {
            let Some(index) = valid_index(spec, pod) else { continue };
            if phase(pod) == "Succeeded" {
                self.done_indexes.insert(index);
            } else if is_index_failed(spec, pod) {
                failed.insert(index);
            }
        }
        self.succeeded = self.done_indexes.len();
        self.failed_indexes = spec.backoff_limit_per_index.map(|_| failed);
    }

    /// The failed pod of each index that may go only when its successor has taken over its count of failures.
    pub(super) fn awaiting_successor(&self, spec: &JobSpec, index: i32) -> Option<&'a Pod> {
        let failed_indexes = self.failed_indexes.as_ref()?;
        if failed_indexes.contains(index) || self.active.iter().any(|pod| index_of(pod) == Some(index)) {
            return None;
        }
        let of_index = self
            .pods
            .iter()
            .copied()
            .filter(|pod| has_finalizer(pod) && valid_index(spec, pod) == Some(index) && is_failed(spec, pod));
        of_index.max_by_key(|pod| {
            let (failures, ignored) = index_failures(pod);
            (
                failures + ignored,
                pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            )
        })
    }
}

/// Whether pods are told apart by their indexes.
pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// The completion index of a pod, if it is one that the job wants.
pub(super) fn valid_index(spec: &JobSpec, pod: &Pod) -> Option<i32> {
    index_of(pod).filter(|index| *index < spec.completions.unwrap_or(0))
}

/// Whether a pod is replaced only when it has ended, and not as soon as it is being deleted.
pub(super) fn replaces_only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// Whether a pod counts as failed.
pub(super) fn is_failed(spec: &JobSpec, pod: &Pod) -> bool {
    match phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        // A pod whose node is gone for ever would never be replaced otherwise.
        _ => is_terminating(&pod.metadata) && !replaces_only_failed(spec),
    }
}

/// Whether a pod's failure is its index's.
fn is_index_failed(spec: &JobSpec, pod: &Pod) -> bool {
    let Some(limit) = spec.backoff_limit_per_index.filter(|_| is_failed(spec, pod)) else {
        return false;
    };
    match judge(spec.pod_failure_policy.as_ref(), pod) {
        Verdict::FailsIndex => true,
        Verdict::Ignored => false,
        Verdict::Counts | Verdict::FailsJob(_) => index_failures(pod).0 >= limit,
    }
}

/// How often a pod's index had failed before it, and how often that was ignored.
pub(super) fn index_failures(pod: &Pod) -> (i32, i32) {
    let annotations = pod.metadata.annotations.as_ref();
    let count = |key: &str| annotations.and_then(|known| known.get(key)?.parse().ok()).unwrap_or(0);
    (count(INDEX_FAILURES), count(INDEX_IGNORED_FAILURES))
}

pub(super) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(super) fn size(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
