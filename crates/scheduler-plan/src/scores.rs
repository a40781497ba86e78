//! Which of the possible nodes is best. Weights are upstream's; equal nodes are told apart by their pods, then by name.

use crate::candidate::Candidate;
use crate::neighbours::Neighbours;
use crate::snapshot::NodeState;
use api::fit;

const SCORE_MAX: i64 = 100;

/// The index of the best node; none only if there are no nodes.
pub(crate) fn best(pod: &Candidate, nodes: &[&NodeState], neighbours: &Neighbours) -> Option<usize> {
    let values = |score: &dyn Fn(&NodeState) -> i64| nodes.iter().map(|node| score(node)).collect::<Vec<_>>();
    let mut total: Vec<i64> = values(&|node| least_allocated(pod, node));
    let mut add = |weight: i64, scores: Vec<i64>| {
        for (sum, score) in total.iter_mut().zip(scores) {
            *sum += weight * score;
        }
    };
    add(
        3,
        fewest(values(&|node| {
            count(fit::untolerated(&node.taints, &pod.tolerations, &["PreferNoSchedule"]).count())
        })),
    );
    add(2, most(values(&|node| preferred(pod, node))));
    add(
        2,
        fewest(values(&|node| neighbours.crowd(pod, node) + siblings(pod, node))),
    );
    add(2, most(values(&|node| neighbours.wish(node))));
    let rank = |index: &usize| {
        let node = nodes[*index];
        (
            total[*index],
            std::cmp::Reverse(node.pods.len()),
            std::cmp::Reverse(node.name.clone()),
        )
    };
    (0..nodes.len()).max_by_key(rank)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// 100 for an empty node, 0 for a full one, the pod included: the mean over CPU and memory.
fn least_allocated(pod: &Candidate, node: &NodeState) -> i64 {
    let free = |name: &str| {
        let has = node.allocatable.get(name);
        let used = node.footprint.get(name) + pod.footprint.get(name);
        if has <= 0 || used >= has {
            0
        } else {
            (has - used) * i128::from(SCORE_MAX) / has
        }
    };
    i64::try_from(i128::midpoint(free("cpu"), free("memory"))).unwrap_or(0)
}

fn preferred(pod: &Candidate, node: &NodeState) -> i64 {
    let wishes = pod
        .preferred_nodes
        .iter()
        .filter(|wish| fit::term_selects(&wish.preference, node.identity()));
    wishes.map(|wish| i64::from(wish.weight)).sum()
}

/// Pods of the same controller: upstream spreads them by default, too.
fn siblings(pod: &Candidate, node: &NodeState) -> i64 {
    if pod.controller.is_none() {
        return 0;
    }
    count(
        node.pods
            .values()
            .filter(|other| other.controller == pod.controller && !other.is_terminating)
            .count(),
    )
}

/// Stretches values to 0..=100, the largest being best.
fn most(values: Vec<i64>) -> Vec<i64> {
    let (Some(low), Some(high)) = (values.iter().min().copied(), values.iter().max().copied()) else {
        return values;
    };
    if low == high {
        return vec![0; values.len()];
    }
    values
        .into_iter()
        .map(|value| (value - low) * SCORE_MAX / (high - low))
        .collect()
}

/// Stretches values to 0..=100, the smallest being best.
fn fewest(values: Vec<i64>) -> Vec<i64> {
    most(values.into_iter().map(|value| -value).collect())
}
