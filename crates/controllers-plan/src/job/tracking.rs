//! Putting the ends of pods on record, each once.

use api::k8s::api::batch::v1::{JobCondition, JobStatus, UncountedTerminatedPods};
use api::k8s::api::core::v1::Pod;

use crate::is_terminating;
use crate::pods::phase;

use super::indexes::index_of;
use super::policy::judge;
use super::tally::{is_failed, is_indexed, size, uid, valid_index};
use super::{Work, has_finalizer};

/// How many pods may be about to be counted, so that the status does not grow without bound.
const UNCOUNTED_MAX: usize = 500;

/// What is put on record in one plan.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The pods that lose their finalizers, once the status is written.
    pub(super) released: Vec<Pod>,
    /// There are more than could be taken in at once.
    pub(super) is_full: bool,
}

impl Work<'_> {
    /// Takes the ends of pods into a status: those whose finalizer is gone are counted, the others are listed.
    pub(super) fn track(&mut self, status: &mut JobStatus, end: Option<&JobCondition>) -> Record {
        let mut uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
        self.count_released(status, &mut uncounted);
        let mut record = Record::default();
        let mut pods: Vec<&Pod> = self
            .tally
            .pods
            .iter()
            .copied()
            .filter(|pod| has_finalizer(pod))
            .collect();
        if is_indexed(self.spec) {
            pods.sort_by_key(|pod| index_of(pod));
        }
        let mut known = self.tally.known_indexes.clone();
        let mut listed = 0;
        for pod in pods {
            if !self.may_release(pod, end) {
                continue;
            }
            record.released.push(pod.clone());
            if phase(pod) == "Succeeded" && !self.tally.uncounted_failed.contains(uid(pod)) {
                if is_indexed(self.spec) {
                    // The index keeps it from being counted again.
                    if let Some(index) = valid_index(self.spec, pod).filter(|index| !known.contains(*index)) {
                        known.insert(index);
                        listed += 1;
                    }
                } else if !self.tally.uncounted_succeeded.contains(uid(pod)) {
                    uncounted.succeeded.get_or_insert_default().push(uid(pod).to_owned());
                }
            } else if self.counts_as_failed(pod, end) {
                uncounted.failed.get_or_insert_default().push(uid(pod).to_owned());
            }
            let lists = [&uncounted.succeeded, &uncounted.failed];
            let waiting: usize = lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)).sum();
            if listed + waiting >= UNCOUNTED_MAX {
                record.is_full = true;
                break;
            }
        }
        if is_indexed(self.spec) {
            status.succeeded = crate::difference::unless_zero(known.len());
            status.completed_indexes = Some(known.to_string()).filter(|text| !text.is_empty());
            status.failed_indexes = self.tally.failed_indexes.as_ref().map(ToString::to_string);
        }
        status.uncounted_terminated_pods = Some(uncounted);
        record
    }

    /// What was listed and has lost its finalizer (or is gone altogether) is counted.
    fn count_released(&self, status: &mut JobStatus, uncounted: &mut UncountedTerminatedPods) {
        let still: Vec<&str> = self
            .tally
            .pods
            .iter()
            .filter(|pod| has_finalizer(pod))
            .map(|pod| uid(pod))
            .collect();
        let count = |list: &mut Option<Vec<String>>, count: &mut Option<i32>| {
            if let Some(uids) = list {
                let before = uids.len();
                uids.retain(|uid| still.contains(&uid.as_str()));
                *count = crate::difference::unless_zero(count.unwrap_or(0) + size(before - uids.len()));
                if uids.is_empty() {
                    *list = None;
                }
            }
        };
        count(&mut uncounted.succeeded, &mut status.succeeded);
        count(&mut uncounted.failed, &mut status.failed);
    }

    /// Whether nothing more is expected of a pod.
    fn may_release(&self, pod: &Pod, end: Option<&JobCondition>) -> bool {
        if is_terminating(&self.job.metadata) || phase(pod) == "Succeeded" {
            return true;
        }
        if end.is_some() {
            // Those that still run are deleted first.
            return !crate::pods::is_active(pod);
        }
        let awaits_successor = index_of(pod).is_some_and(|index| {
            let waiting = self.tally.awaiting_successor(self.spec, index);
            waiting.is_some_and(|waiting| uid(waiting) == uid(pod))
        });
        is_failed(self.spec, pod) && !awaits_successor
    }

    /// When a job fails, every pod that has not succeeded has failed.
    fn counts_as_failed(&self, pod: &Pod, end: Option<&JobCondition>) -> bool {
        let all_fail = end.is_some_and(|end| end.type_ == "FailureTarget");
        let is_meant = !is_indexed(self.spec) || valid_index(self.spec, pod).is_some();
        (all_fail || is_failed(self.spec, pod))
            && is_meant
            && !self.tally.uncounted_failed.contains(uid(pod))
            && judge(self.spec.pod_failure_policy.as_ref(), pod).counts()
    }
}
