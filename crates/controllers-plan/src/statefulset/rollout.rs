//! Which pod gives way to the set's new revision (A7.5 to A7.8).

use api::k8s::api::core::v1::Pod;
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;

use crate::{Action, Plan, Reason, Target, is_terminating};

use super::{Facts, Strategy, health, telling};

/// Deletes what has to give way now. In an ordered set this is asked only when every wanted pod is available and none
/// is condemned.
pub(super) fn advance(facts: &Facts<'_>, draft: &mut Plan) -> Vec<Action> {
    match facts.strategy() {
        Strategy::Rolling => {}
        // Nothing outdated is left when this is asked.
        Strategy::Recreate => return Vec::new(),
        Strategy::OnDelete => {
            telling::awaits_manual_deletion(facts, draft);
            return Vec::new();
        }
    }
    let strategy = facts.spec().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let partition = rolling.and_then(|rolling| rolling.partition).map_or(0, i64::from);
    let from = facts.start + partition.max(0);
    let chosen = if facts.gates.max_unavailable {
        let budget = budget(
            rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
            facts.wanted(),
        );
        within_budget(facts, from, budget)
    } else {
        one_at_a_time(facts, from)
    };
    tell(facts, from, &chosen, draft);
    chosen
        .into_iter()
        .map(|(ordinal, pod)| delete(facts, ordinal, pod, draft))
        .collect()
}

/// `maxUnavailable` as a number of pods: percentages are rounded down, and it is never less than one (A7.7).
fn budget(max_unavailable: Option<&IntOrString>, replicas: i64) -> i64 {
    let budget = match max_unavailable {
        None => 1,
        Some(IntOrString::Int(count)) => i64::from(*count),
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok());
            percent.map_or(1, |percent| replicas.saturating_mul(percent) / 100)
        }
    };
    budget.max(1)
}

/// An outdated pod that is not on its way out. One that has ended is replaced anyway.
fn must_go(facts: &Facts<'_>, pod: &Pod) -> bool {
    facts.is_outdated(pod) && !is_terminating(&pod.metadata) && !health::has_ended(pod)
}

/// From the top down to the partition: the first outdated pod, unless one above it is unavailable (A7.6).
fn one_at_a_time<'a>(facts: &Facts<'a>, from: i64) -> Vec<(i64, &'a Pod)> {
    for ordinal in (from..facts.end).rev() {
        match facts.in_range.get(&ordinal) {
            None => return Vec::new(),
            Some(pod) if must_go(facts, pod) => return vec![(ordinal, *pod)],
            Some(pod) if facts.is_unavailable(pod) => return Vec::new(),
            Some(_) => {}
        }
    }
    Vec::new()
}

/// As many outdated pods as may be missing at a time (A7.7); a parallel set also gives up outdated pods that serve
/// nobody anyway (A7.8).
fn within_budget<'a>(facts: &Facts<'a>, from: i64, budget: i64) -> Vec<(i64, &'a Pod)> {
    let present = i64::try_from(facts.in_range.len()).unwrap_or(i64::MAX);
    let down = facts.in_range.values().filter(|pod| facts.is_unavailable(pod)).count();
    let missing = facts.wanted() - present + i64::try_from(down).unwrap_or(i64::MAX);
    let left = usize::try_from(budget - missing).unwrap_or(0);
    let outdated = || {
        facts
            .in_range
            .range(from.min(facts.end)..)
            .rev()
            .filter(|(_, pod)| must_go(facts, pod))
    };
    let chosen = |pair: (&i64, &&'a Pod)| (*pair.0, *pair.1);
    if facts.is_ordered {
        return outdated().take(left).map(chosen).collect();
    }
    let broken = outdated().filter(|(_, pod)| facts.is_unavailable(pod));
    let serving = outdated().filter(|(_, pod)| !facts.is_unavailable(pod)).take(left);
    broken.chain(serving).map(chosen).collect()
}

fn delete(facts: &Facts<'_>, ordinal: i64, pod: &Pod, draft: &mut Plan) -> Action {
    let name = facts.pod_name(ordinal);
    let message = format!("{name} is deleted to come back at revision {}", facts.revisions.update);
    draft.because.push(Reason::acts(&name, "Updates", message));
    telling::announced(facts, "Delete", &name, Action::delete(Target::of(pod)))
}

/// Says of each outdated pod that has to stay what it waits for.
fn tell(facts: &Facts<'_>, from: i64, chosen: &[(i64, &Pod)], draft: &mut Plan) {
    let highest = chosen.first().map(|(ordinal, _)| *ordinal);
    let is_chosen = |ordinal: i64| chosen.iter().any(|(known, _)| *known == ordinal);
    let down = facts.in_range.iter().rev().find(|(_, pod)| facts.is_unavailable(pod));
    for (&ordinal, pod) in facts.in_range.range(from.min(facts.end)..).rev() {
        if !must_go(facts, pod) || is_chosen(ordinal) {
            continue;
        }
        match (highest, down) {
            (Some(first), _) => telling::update_awaits_turn(facts, ordinal, first, draft),
            (None, Some((_, down))) => telling::update_awaits_health(facts, ordinal, down, draft),
            (None, None) => telling::update_awaits_missing(facts, ordinal, draft),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a14_max_unavailable_is_rounded_down_and_at_least_one() {
        let text = |text: &str| Some(IntOrString::String(text.to_owned()));
        let vectors = [
            (None, 10, 1),
            (Some(IntOrString::Int(3)), 10, 3),
            (text("10%"), 25, 2),
            (text("50%"), 5, 2),
            (text("10%"), 5, 1),
            (text("100%"), 5, 5),
            (Some(IntOrString::Int(0)), 7, 1),
            (text("0%"), 7, 1),
            (text("33%"), 0, 1),
        ];
        for (max_unavailable, replicas, expected) in vectors {
            assert_eq!(
                budget(max_unavailable.as_ref(), replicas),
                expected,
                "{max_unavailable:?} of {replicas}"
            );
        }
    }
}
