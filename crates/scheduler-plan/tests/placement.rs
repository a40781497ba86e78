//! Decisions over small clusters: one table per question, and properties that must hold for any cluster.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use api::k8s::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use proptest::prelude::*;
use scheduler_plan::{Candidate, ClaimStep, Placement, Readiness, Snapshot, Verdict, place, readiness};
use serde_json::{Value, json};
use std::sync::Arc;

fn merged(mut base: Value, more: Value) -> Value {
    json_patch::merge(&mut base, &more);
    base
}

fn node(name: &str, more: Value) -> Node {
    let base = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
    serde_json::from_value(merged(base, more)).unwrap()
}

fn pod(name: &str, spec: Value) -> Arc<Candidate> {
    let base = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}}, "spec": {"containers": []}});
    let pod: Pod = serde_json::from_value(merged(base, json!({"spec": spec}))).unwrap();
    Arc::new(Candidate::of(&pod))
}

fn cpu(amount: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]})
}

fn cluster(nodes: &[Node]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for node in nodes {
        snapshot.set_node(node);
    }
    snapshot
}

fn check(snapshot: &Snapshot, pod: &Candidate, expected: Result<&str, &str>) {
    match place(pod, snapshot) {
        Verdict::Place(placement) => assert_eq!(Ok(placement.node.as_str()), expected),
        Verdict::Refuse(refusal) => assert_eq!(Err(refusal.message.as_str()), expected),
    }
}

#[test]
fn nodes_refuse_in_upstreams_words() {
    let one = |more: Value| cluster(&[node("n1", more)]);
    let any = pod("p", json!({}));
    check(&Snapshot::default(), &any, Err("no nodes available to schedule pods"));
    check(&one(json!({})), &any, Ok("n1"));
    let cordoned = one(json!({"spec": {"unschedulable": true}}));
    check(
        &cordoned,
        &any,
        Err("0/1 nodes are available: 1 node(s) were unschedulable."),
    );
    let anywhere = pod("p", json!({"tolerations": [{"operator": "Exists"}]}));
    check(&cordoned, &anywhere, Ok("n1"));
    let tainted = one(json!({"spec": {"taints": [{"key": "a", "value": "b", "effect": "NoExecute"}]}}));
    check(
        &tainted,
        &any,
        Err("0/1 nodes are available: 1 node(s) had untolerated taint(s)."),
    );
    check(&tainted, &anywhere, Ok("n1"));
    let ssd = pod("p", json!({"nodeSelector": {"disk": "ssd"}}));
    check(
        &one(json!({})),
        &ssd,
        Err("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
    );
    check(&one(json!({"metadata": {"labels": {"disk": "ssd"}}})), &ssd, Ok("n1"));
    let two = cluster(&[
        node("n1", json!({})),
        node("n2", json!({"spec": {"unschedulable": true}})),
    ]);
    let big = pod(
        "p",
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "5", "memory": "9Gi"}}}]}),
    );
    let message = "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) were unschedulable.";
    check(&two, &big, Err(message));
}

#[test]
fn pods_use_up_what_nodes_have() {
    let mut snapshot = cluster(&[node("n1", json!({"status": {"allocatable": {"pods": "3"}}}))]);
    snapshot.set_pod("n1", pod("a", cpu("3")));
    check(&snapshot, &pod("b", cpu("1")), Ok("n1"));
    check(
        &snapshot,
        &pod("b", cpu("1001m")),
        Err("0/1 nodes are available: 1 Insufficient cpu."),
    );
    let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    snapshot.set_pod("n1", pod("b", port.clone()));
    let message = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    check(&snapshot, &pod("c", port), Err(message));
    snapshot.set_pod("n1", pod("c", json!({})));
    check(
        &snapshot,
        &pod("d", json!({})),
        Err("0/1 nodes are available: 1 Too many pods."),
    );
    assert!(snapshot.remove_pod(&("ns".to_owned(), "c".to_owned())));
    check(&snapshot, &pod("d", json!({})), Ok("n1"));
    assert!(
        !snapshot.set_node(&node("n1", json!({"status": {"allocatable": {"pods": "3"}}}))),
        "a heartbeat is no news"
    );
}

#[test]
fn the_best_node_is_the_emptiest_unless_wishes_say_otherwise() {
    let mut snapshot = cluster(&[
        node("a", json!({})),
        node("b", json!({"metadata": {"labels": {"disk": "ssd"}}})),
    ]);
    check(&snapshot, &pod("p", json!({})), Ok("a"));
    snapshot.set_pod("a", pod("x", cpu("1")));
    check(&snapshot, &pod("p", json!({})), Ok("b"));
    snapshot.set_pod("b", pod("y", cpu("3")));
    check(&snapshot, &pod("p", json!({})), Ok("a"));
    let wish = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]}}});
    check(&snapshot, &pod("p", wish), Ok("b"));
}

#[test]
fn pods_keep_their_distance_and_their_company() {
    let term = json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"});
    let required = |kind: &str| json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let mut snapshot = cluster(&[node("a", json!({})), node("b", json!({}))]);
    check(&snapshot, &pod("p", required("podAffinity")), Ok("a"));
    snapshot.set_pod("b", pod("x", json!({})));
    check(&snapshot, &pod("p", required("podAffinity")), Ok("b"));
    check(&snapshot, &pod("p", required("podAntiAffinity")), Ok("a"));
    snapshot.set_pod("a", pod("y", required("podAntiAffinity")));
    let message = "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.";
    check(&snapshot, &pod("p", required("podAntiAffinity")), Err(message));
    check(&snapshot, &pod("p", json!({})), Ok("b"));
    snapshot.set_pod("b", pod("x", required("podAntiAffinity")));
    let message = "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules.";
    check(&snapshot, &pod("p", json!({})), Err(message));
}

#[test]
fn spread_constraints_bound_the_skew() {
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let mut snapshot = cluster(&[
        node("a", json!({})),
        node("b", json!({"spec": {"unschedulable": true}})),
    ]);
    snapshot.set_pod("a", pod("x", json!({})));
    let message = "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable.";
    check(&snapshot, &pod("p", spread.clone()), Err(message));
    snapshot.set_node(&node("b", json!({})));
    check(&snapshot, &pod("p", spread), Ok("b"));
}

fn class(name: &str, mode: &str, provisioner: &str) -> (String, Arc<api::k8s::api::storage::v1::StorageClass>) {
    let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
    (name.to_owned(), Arc::new(serde_json::from_value(class).unwrap()))
}

fn claim(name: &str, more: Value) -> PersistentVolumeClaim {
    let base = json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    serde_json::from_value(merged(base, more)).unwrap()
}

fn volume(name: &str, node: &str, more: Value) -> PersistentVolume {
    let base = json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {
        "storageClassName": "local", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}});
    serde_json::from_value(merged(base, more)).unwrap()
}

fn uses(name: &str, claim: &str) -> Arc<Candidate> {
    pod(
        name,
        json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]}),
    )
}

fn bound_to(volume: &str) -> Value {
    json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": volume}})
}

#[test]
fn claims_say_where_a_pod_may_go() {
    let mut snapshot = cluster(&[node("a", json!({})), node("b", json!({}))]);
    snapshot.classes.extend([
        class("now", "Immediate", "x/y"),
        class("local", "WaitForFirstConsumer", "kubernetes.io/no-provisioner"),
    ]);
    let user = uses("p", "data");
    check(
        &snapshot,
        &user,
        Err("0/2 nodes are available: persistentvolumeclaim \"data\" not found."),
    );
    snapshot.set_claim(claim("data", json!({"spec": {"storageClassName": "now"}})));
    check(
        &snapshot,
        &user,
        Err("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
    );
    snapshot.set_claim(claim("data", json!({})));
    let message = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.";
    check(&snapshot, &user, Err(message));
    snapshot.set_volume(volume("disk", "b", json!({})));
    check(&snapshot, &user, Ok("b"));
    snapshot.set_claim(claim("data", bound_to("disk")));
    check(&snapshot, &user, Ok("b"));
    snapshot.set_volume(volume("disk", "c", json!({})));
    check(
        &snapshot,
        &user,
        Err("0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity."),
    );
    snapshot.remove_volume("disk");
    let message =
        "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).";
    check(&snapshot, &user, Err(message));
}

fn placed(pod: &Arc<Candidate>, snapshot: &mut Snapshot) -> (Placement, Vec<ClaimStep>) {
    let Verdict::Place(placement) = place(pod, snapshot) else {
        panic!("no place for {:?}", pod.key)
    };
    let news = snapshot.assume(pod, &placement);
    (placement, news)
}

#[test]
fn a_placed_pod_waits_until_its_claim_is_bound() {
    let mut snapshot = cluster(&[node("a", json!({})), node("b", json!({}))]);
    snapshot
        .classes
        .extend([class("local", "WaitForFirstConsumer", "steadfast.io/local")]);
    snapshot.set_claim(claim("data", json!({})));
    let user = uses("p", "data");
    let (placement, news) = placed(&user, &mut snapshot);
    assert_eq!(
        news,
        [ClaimStep::Provision {
            claim: ("ns".to_owned(), "data".to_owned())
        }]
    );
    assert_eq!(readiness(&user, &placement, &snapshot), Readiness::Waiting);

    // A second pod of the same claim follows the first, and need not choose again.
    let (second, news) = placed(&uses("q", "data"), &mut snapshot);
    assert_eq!((second.node.as_str(), news), ("a", vec![]));

    let chosen = |node: &str| json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
    snapshot.set_claim(claim("data", chosen("a")));
    assert_eq!(readiness(&user, &placement, &snapshot), Readiness::Waiting);
    snapshot.set_claim(claim("data", bound_to("disk")));
    assert_eq!(
        readiness(&user, &placement, &snapshot),
        Readiness::Waiting,
        "its volume is not yet seen"
    );
    snapshot.set_volume(volume("disk", "a", json!({})));
    assert_eq!(readiness(&user, &placement, &snapshot), Readiness::Ready);

    snapshot.set_claim(claim("data", json!({})));
    assert!(matches!(readiness(&user, &placement, &snapshot), Readiness::Broken(_)));
}

proptest! {
    /// However pods come and go: no node is ever overbooked, and no volume is promised twice.
    #[test]
    fn nothing_is_spent_twice(requests in prop::collection::vec((1_u32..30, any::<bool>(), any::<bool>()), 1..60)) {
        let mut snapshot = cluster(&[node("a", json!({})), node("b", json!({})), node("c", json!({}))]);
        snapshot.classes.extend([class("local", "WaitForFirstConsumer", "kubernetes.io/no-provisioner")]);
        for index in 0..6 {
            snapshot.set_volume(volume(&format!("v{index}"), ["a", "b", "c"][index % 3], json!({})));
        }
        let mut promised = std::collections::BTreeMap::new();
        for (index, (tenths, has_claim, leaves)) in requests.iter().enumerate() {
            let name = format!("p{index}");
            let mut spec = cpu(&format!("{tenths}00m"));
            if *has_claim {
                snapshot.set_claim(claim(&name, json!({})));
                spec["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": name}}]);
            }
            let pod = pod(&name, spec);
            let Verdict::Place(placement) = place(&pod, &snapshot) else { continue };
            for step in snapshot.assume(&pod, &placement) {
                let ClaimStep::Promise { volume, claim } = step else { panic!("nobody provisions") };
                prop_assert_eq!(promised.insert(volume, claim), None);
            }
            if *leaves {
                snapshot.withdraw(&pod.key);
                promised.retain(|_, claim| claim.1 != name);
            }
            for node in snapshot.nodes.values() {
                prop_assert!(node.requested.get("cpu") <= node.allocatable.get("cpu"));
                prop_assert!(node.pods.len() <= 10);
            }
        }
    }

    /// The same question has the same answer.
    #[test]
    fn decisions_are_deterministic(names in prop::collection::vec("[a-z]{1,5}", 1..8), amount in 1_u32..5) {
        let nodes: Vec<Node> = names.iter().map(|name| node(name, json!({}))).collect();
        let pod = pod("p", cpu(&amount.to_string()));
        let mut backwards = nodes.clone();
        backwards.reverse();
        prop_assert_eq!(place(&pod, &cluster(&nodes)), place(&pod, &cluster(&backwards)));
    }
}
