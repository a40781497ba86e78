//! Strategy `Recreate`: every pod of an old revision goes at once, and nothing is made before all of them are gone
//! (A7.9).

use api::k8s::api::core::v1::Pod;

use crate::{Action, Chain, Plan, Reason, Step, Target, is_terminating};

use super::{Facts, replicas, telling};

/// Clears away the pods of old revisions, wanted or condemned. `false` if there are none, so that the pods of the
/// update revision may be seen to.
pub(super) fn clear(facts: &Facts<'_>, draft: &mut Plan) -> bool {
    let pods = facts.in_range.iter().chain(&facts.condemned);
    let outdated: Vec<(i64, &Pod)> = pods
        .map(|(&ordinal, &pod)| (ordinal, pod))
        .filter(|(_, pod)| facts.is_outdated(pod))
        .collect();
    let mut deletions: Vec<Chain> = Vec::new();
    for (ordinal, pod) in &outdated {
        if is_terminating(&pod.metadata) {
            telling::awaits_end(facts, pod, draft);
        } else if facts.condemned.contains_key(ordinal) {
            deletions.push(replicas::remove(facts, *ordinal, pod, draft));
        } else {
            deletions.push(vec![delete(facts, pod, draft)]);
        }
    }
    let Some((last, _)) = outdated.last() else { return false };
    telling::creation_awaits_end(facts, &facts.pod_name(*last), draft);
    if !deletions.is_empty() {
        draft.steps.push(Step::Together(deletions));
    }
    true
}

fn delete(facts: &Facts<'_>, pod: &Pod, draft: &mut Plan) -> Action {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let message = format!(
        "{name} is deleted, as all pods of an old revision are, before revision {} begins",
        facts.revisions.update
    );
    draft.because.push(Reason::acts(name, "Recreates", message));
    telling::announced(facts, "Delete", name, Action::delete(Target::of(pod)))
}
