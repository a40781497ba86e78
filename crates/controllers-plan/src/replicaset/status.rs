//! What is said of a ReplicaSet or ReplicationController, and when to look again.

use api::k8s::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use api::k8s::api::core::v1::Pod;
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::Timestamp;
use serde_json::json;

use crate::difference::{between, unless_zero};
use crate::pods::{available_at, is_available, is_ready, is_shutting_down, next_time};
use crate::selection::has_all;
use crate::{Action, Plan};

use super::Observed;

/// The condition that says that pods cannot be made or removed.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Adds the status to a plan if it differs from what is stored, and the time to look again.
pub(super) fn conclude(seen: &Observed<'_>, own: &[&Pod], active: &[&Pod], now: Timestamp, draft: &mut Plan) {
    let set = &seen.set;
    let template = set
        .template
        .and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let is_fully_labelled = |pod: &Pod| template.is_none_or(|template| has_all(template, pod.metadata.labels.as_ref()));
    let new = ReplicaSetStatus {
        replicas: count(active, |_| true),
        fully_labeled_replicas: unless_zero(count(active, is_fully_labelled)),
        ready_replicas: unless_zero(count(active, is_ready)),
        available_replicas: unless_zero(count(active, |pod| is_available(pod, set.min_ready_s, now))),
        terminating_replicas: terminating(seen, own),
        observed_generation: set.owner.meta.generation,
        conditions: conditions(seen, active.len(), now),
    };
    if let Some(change) = between(&set.status, &new) {
        draft.status = Some(Action::patch_status(set.owner.target(), json!({ "status": change })));
    }
    let times = active.iter().filter_map(|pod| available_at(pod, set.min_ready_s));
    draft.again_at = next_time(times, now);
}

/// ReplicationControllers do not tell of pods that are on their way out.
fn terminating(seen: &Observed<'_>, own: &[&Pod]) -> Option<i32> {
    (seen.set.owner.kind.kind == "ReplicaSet").then(|| count(own, is_shutting_down))
}

fn count(pods: &[&Pod], is_so: impl Fn(&Pod) -> bool) -> i32 {
    i32::try_from(pods.iter().filter(|pod| is_so(pod)).count()).unwrap_or(i32::MAX)
}

/// A failure is told as long as it keeps pods from being as many as wanted.
fn conditions(seen: &Observed<'_>, active: usize, now: Timestamp) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = seen.set.status.conditions.clone().unwrap_or_default();
    let known = conditions.iter().any(|known| known.type_ == REPLICA_FAILURE);
    let wanted = usize::try_from(seen.set.replicas).unwrap_or(0);
    match seen.failure.as_ref().filter(|_| active != wanted) {
        Some(message) if !known => conditions.push(ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(
                if active < wanted {
                    "FailedCreate"
                } else {
                    "FailedDelete"
                }
                .to_owned(),
            ),
            message: Some(message.clone()),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
        None => conditions.retain(|known| known.type_ != REPLICA_FAILURE),
    }
    (!conditions.is_empty()).then_some(conditions)
}
