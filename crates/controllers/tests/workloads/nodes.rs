//! What becomes of nodes in trouble, and of the pods on them.

use api::k8s::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::cluster::{Cluster, create, delete, is_ready, patch, patch_status, until, until_gone};

fn pod(name: &str, more: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "one"}]},
    });
    json_patch::merge(&mut pod, more);
    pod
}

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
}

fn ready(status: &str) -> Value {
    json!({"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": "2026-11-22T12:00:00Z"}]})
}

#[tokio::test]
async fn pods_leave_a_node_whose_taint_they_do_not_tolerate() {
    let cluster = Cluster::start().await;
    let (nodes, pods) = (cluster.all::<Node>(), cluster.of::<Pod>());
    cluster.node("n1", json!({})).await;
    let tolerate = |seconds: Option<i64>| json!({"spec": {"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]}});
    create(&pods, pod("stays", &tolerate(None))).await;
    create(&pods, pod("soon", &tolerate(Some(1)))).await;
    create(&pods, pod("goes", &json!({}))).await;
    for name in ["stays", "soon", "goes"] {
        until(&pods, name, is_ready).await;
    }
    patch(
        &nodes,
        "n1",
        json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}),
    )
    .await;
    until_gone(&pods, "goes").await;
    until_gone(&pods, "soon").await;
    assert!(is_ready(&pods.get("stays").await.unwrap()));
    cluster
        .until_event("TaintManagerEviction", "Marking for deletion Pod default/goes")
        .await;
}

#[tokio::test]
async fn conditions_of_nodes_become_taints() {
    let cluster = Cluster::with(&["*"]).await;
    let (nodes, pods) = (cluster.all::<Node>(), cluster.of::<Pod>());
    cluster.node("n1", json!({})).await;
    cluster.node("n2", json!({})).await;
    patch_status(&nodes, "n1", ready("True")).await;
    patch_status(&nodes, "n2", ready("True")).await;
    create(&pods, pod("a", &json!({}))).await;
    until(&pods, "a", is_ready).await;
    patch(&nodes, "n2", json!({"spec": {"unschedulable": true}})).await;
    until(&nodes, "n2", |node| {
        taints(node) == ["node.kubernetes.io/unschedulable:NoSchedule"]
    })
    .await;
    patch_status(&nodes, "n1", ready("False")).await;
    let key = "node.kubernetes.io/not-ready";
    let expected = [format!("{key}:NoSchedule"), format!("{key}:NoExecute")];
    until(&nodes, "n1", |node| taints(node) == expected).await;
    until(&pods, "a", |pod| !is_ready(pod)).await;
    patch_status(&nodes, "n1", ready("True")).await;
    until(&nodes, "n1", |node| taints(node).is_empty()).await;
}

#[tokio::test]
async fn a_pod_that_is_going_ends_when_its_node_is_out_of_service() {
    let cluster = Cluster::with(&["*", "-node-lifecycle-controller", "-taint-eviction-controller"]).await;
    let (nodes, pods) = (cluster.all::<Node>(), cluster.of::<Pod>());
    cluster.node("n1", json!({})).await;
    patch_status(&nodes, "n1", ready("Unknown")).await;
    // Nobody answers on that node: only somebody else's finalizer-free force can end the pod.
    create(
        &pods,
        pod("stuck", &json!({"metadata": {"annotations": {"model": "silent"}}})),
    )
    .await;
    delete(&pods, "stuck").await;
    until(&pods, "stuck", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    let taint = json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"});
    patch(&nodes, "n1", json!({"spec": {"taints": [taint]}})).await;
    until_gone(&pods, "stuck").await;
}
