//! Who leaves for whom, over small clusters.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use api::k8s::api::core::v1::{Node, Pod};
use api::k8s::api::policy::v1::PodDisruptionBudget;
use proptest::prelude::*;
use scheduler_plan::{Budget, Candidate, Placement, Snapshot, Verdict, place, preempt};
use serde_json::{Value, json};
use std::sync::Arc;

fn node(name: &str, more: Value) -> Node {
    let mut base = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
    json_patch::merge(&mut base, &more);
    serde_json::from_value(base).unwrap()
}

fn pod(name: &str, priority: i32, cpu: &str) -> Arc<Candidate> {
    pod_with(name, priority, cpu, json!({}))
}

fn pod_with(name: &str, priority: i32, cpu: &str, more: Value) -> Arc<Candidate> {
    let mut base = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": name}},
        "spec": {"priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
    json_patch::merge(&mut base, &more);
    let pod: Pod = serde_json::from_value(base).unwrap();
    Arc::new(Candidate::of(&pod))
}

fn cluster(nodes: &[(&str, &[Arc<Candidate>])]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, pods) in nodes {
        snapshot.set_node(&node(name, json!({})));
        for pod in *pods {
            snapshot.set_pod(name, Arc::clone(pod));
        }
    }
    snapshot
}

fn answer(pod: &Candidate, snapshot: &Snapshot) -> Option<(String, Vec<String>)> {
    let found = preempt(pod, snapshot)?;
    Some((
        found.node,
        found.victims.iter().map(|victim| victim.key.1.clone()).collect(),
    ))
}

fn expect(pod: &Candidate, snapshot: &Snapshot, node: &str, victims: &[&str]) {
    let victims = victims.iter().map(ToString::to_string).collect();
    assert_eq!(answer(pod, snapshot), Some((node.to_owned(), victims)));
}

#[test]
fn only_as_many_leave_as_must_and_the_least_important_first() {
    let snapshot = cluster(&[("n1", &[pod("low", 1, "1"), pod("mid", 5, "1"), pod("high", 9, "2")])]);
    expect(&pod("new", 9, "1"), &snapshot, "n1", &["low"]);
    expect(&pod("new", 9, "2"), &snapshot, "n1", &["mid", "low"]);
    assert_eq!(answer(&pod("new", 9, "3"), &snapshot), None, "equals stay");
    assert_eq!(answer(&pod("new", 1, "1"), &snapshot), None, "equals stay");
    expect(&pod("new", 10, "4"), &snapshot, "n1", &["high", "mid", "low"]);
    assert_eq!(answer(&pod("new", 10, "5"), &snapshot), None, "nobody's leaving helps");
}

#[test]
fn whoever_may_not_preempt_does_not() {
    let snapshot = cluster(&[("n1", &[pod("low", 1, "4")])]);
    let never = pod_with("new", 9, "1", json!({"spec": {"preemptionPolicy": "Never"}}));
    assert_eq!(answer(&never, &snapshot), None);
    let elsewhere = pod_with("new", 9, "1", json!({"spec": {"nodeSelector": {"a": "b"}}}));
    assert_eq!(answer(&elsewhere, &snapshot), None, "leaving changes no label");
}

#[test]
fn the_cheapest_node_is_taken() {
    let new = pod("new", 9, "4");
    let two = cluster(&[
        ("n1", &[pod("a", 3, "4")]),
        ("n2", &[pod("b", 2, "2"), pod("c", 2, "2")]),
    ]);
    expect(&new, &two, "n2", &["b", "c"]);
    let fewer = cluster(&[
        ("n1", &[pod("a", 2, "2"), pod("b", 2, "2")]),
        ("n2", &[pod("c", 2, "4")]),
    ]);
    expect(&new, &fewer, "n2", &["c"]);
    let started = |time: &str| json!({"status": {"startTime": time}});
    let old = pod_with("old", 2, "4", started("2026-01-01T00:00:00Z"));
    let young = pod_with("young", 2, "4", started("2026-01-02T00:00:00Z"));
    expect(&new, &cluster(&[("n1", &[old]), ("n2", &[young])]), "n2", &["young"]);
}

#[test]
fn budgets_are_kept_where_that_is_possible() {
    let mut snapshot = cluster(&[("n1", &[pod("guarded", 1, "2"), pod("free", 5, "2")])]);
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "b", "namespace": "ns"},
        "spec": {"selector": {"matchLabels": {"app": "guarded"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}}))
    .unwrap();
    let new = pod("new", 9, "2");
    expect(&new, &snapshot, "n1", &["guarded"]);
    let key = ("ns".to_owned(), "b".to_owned());
    snapshot.budgets.insert(key, Budget::of(&budget).unwrap());
    expect(&new, &snapshot, "n1", &["free"]);
    expect(&pod("new", 9, "4"), &snapshot, "n1", &["free", "guarded"]);
}

#[test]
fn room_is_kept_for_whom_others_left() {
    let (low, new) = (pod("low", 1, "4"), pod("new", 9, "2"));
    let mut snapshot = cluster(&[("n1", &[Arc::clone(&low)])]);
    expect(&new, &snapshot, "n1", &["low"]);
    snapshot.nominate(&new, "n1");
    let leaving = pod_with(
        "low",
        1,
        "4",
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    snapshot.set_pod("n1", leaving);
    assert_eq!(answer(&new, &snapshot), None, "it is leaving already");
    snapshot.remove_pod(&low.key);
    assert!(matches!(place(&pod("late", 1, "3"), &snapshot), Verdict::Refuse(_)));
    assert!(matches!(place(&pod("small", 1, "2"), &snapshot), Verdict::Place(_)));
    assert!(matches!(place(&pod("more", 10, "3"), &snapshot), Verdict::Place(_)));
    assert!(matches!(place(&new, &snapshot), Verdict::Place(Placement { node, .. }) if node == "n1"));
    assert!(snapshot.withdraw_nomination(&new.key));
    assert!(matches!(place(&pod("late", 1, "3"), &snapshot), Verdict::Place(_)));
}

proptest! {
    /// Whatever the cluster: only less important pods leave, each of them must, and then the pod fits.
    #[test]
    fn leaving_helps_and_is_needed(
        pods in prop::collection::vec((0usize..3, 0i32..6, 1u32..4), 0..12),
        (priority, cpu) in (0i32..8, 1u32..5),
    ) {
        let mut snapshot = cluster(&[("n0", &[]), ("n1", &[]), ("n2", &[])]);
        for (i, (on, priority, cpu)) in pods.into_iter().enumerate() {
            let one = pod(&format!("p{i}"), priority, &cpu.to_string());
            let node = &snapshot.nodes[&format!("n{on}")];
            if one.requests.iter().all(|(name, amount)| node.requested.get(name) + amount <= node.allocatable.get(name)) {
                snapshot.set_pod(&format!("n{on}"), one);
            }
        }
        let new = pod("new", priority, &cpu.to_string());
        let refused = matches!(place(&new, &snapshot), Verdict::Refuse(_));
        let Some(found) = preempt(&new, &snapshot) else { return Ok(()) };
        prop_assert!(refused || !found.victims.is_empty());
        prop_assert!(found.victims.iter().all(|victim| victim.priority < priority));
        for victim in &found.victims {
            snapshot.remove_pod(&victim.key);
        }
        prop_assert!(matches!(place(&new, &snapshot), Verdict::Place(_)));
        let fits_on = |snapshot: &Snapshot| {
            let mut only = snapshot.clone();
            only.nodes.retain(|name, _| *name == found.node);
            matches!(place(&new, &only), Verdict::Place(_))
        };
        for victim in &found.victims {
            let mut with = snapshot.clone();
            with.set_pod(&found.node, Arc::clone(victim));
            prop_assert!(!fits_on(&with), "{} need not leave", victim.key.1);
        }
    }
}
