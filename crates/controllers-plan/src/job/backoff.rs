//! How long to wait before a pod that has failed is replaced: longer with each failure since the last success.

use api::k8s::api::core::v1::{ContainerStatus, Pod};
use jiff::{SignedDuration, Timestamp};

use crate::pods::{condition, phase};

/// The pause after the first failure …
const FIRST: SignedDuration = SignedDuration::from_secs(10);

/// … and the longest.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);

/// When the next pod may be made, after the failures and successes that are seen.
pub(super) fn ends_at(pods: &[&Pod], is_failed: impl Fn(&Pod) -> bool, now: Timestamp) -> Option<Timestamp> {
    let times = |is_so: &dyn Fn(&Pod) -> bool| -> Vec<Timestamp> {
        let pods = pods.iter().filter(|pod| is_so(pod));
        pods.map(|pod| finished_at(pod, now)).collect()
    };
    let last_success = times(&|pod| phase(pod) == "Succeeded").into_iter().max();
    let mut failures = times(&|pod| is_failed(pod));
    failures.retain(|at| last_success.is_none_or(|success| *at > success));
    let last = failures.iter().max()?;
    after(*last, failures.len())
}

/// When a pod may be made after so many failures, the last of them at a time.
pub(super) fn after(last: Timestamp, failures: usize) -> Option<Timestamp> {
    let doublings = u32::try_from(failures.checked_sub(1)?).unwrap_or(u32::MAX).min(16);
    let pause = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    last.checked_add(pause).ok()
}

/// When a pod ended: when its last container did, or what else tells of it.
pub(super) fn finished_at(pod: &Pod, now: Timestamp) -> Timestamp {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let finished = |container: &ContainerStatus| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        ended.finished_at.as_ref().map(|time| time.0)
    };
    let by_containers = containers.filter_map(finished).max();
    let not_ready = condition(pod, "Ready").filter(|ready| ready.status == "False");
    let by_condition = || {
        not_ready
            .and_then(|ready| ready.last_transition_time.as_ref())
            .map(|time| time.0)
    };
    let by_deletion = || pod.metadata.deletion_timestamp.as_ref().map(|time| time.0.min(now));
    by_containers.or_else(by_condition).or_else(by_deletion).unwrap_or(now)
}
