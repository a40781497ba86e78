//! DaemonSets have a pod on every node that takes it.

use api::k8s::api::apps::v1::DaemonSet;
use api::k8s::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::cluster::{Cluster, create, delete, is_ready, patch, template, until};

fn daemon(more: &Value) -> Value {
    let mut set = json!({
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template("d", "one")},
    });
    json_patch::merge(&mut set["spec"], more);
    set
}

fn serves(set: &DaemonSet, nodes: i32) -> bool {
    let status = set.status.clone().unwrap_or_default();
    let counts = [
        status.number_available,
        status.updated_number_scheduled,
        Some(status.desired_number_scheduled),
    ];
    counts.iter().all(|count| count.unwrap_or(0) == nodes) && status.observed_generation == set.metadata.generation
}

#[tokio::test]
async fn pods_follow_nodes_and_the_template() {
    let cluster = Cluster::start().await;
    let sets = cluster.of::<DaemonSet>();
    cluster.node("n1", json!({})).await;
    cluster.node("n2", json!({"metadata": {"labels": {"zone": "b"}}})).await;
    create(&sets, daemon(&json!({}))).await;
    until(&sets, "d", |set| serves(set, 2)).await;
    let pods = cluster.until_pods("app=d", 2, is_ready).await;
    let mut on: Vec<_> = pods
        .iter()
        .map(|pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap())
        .collect();
    on.sort();
    assert_eq!(on, ["n1", "n2"]);
    cluster.node("n3", json!({})).await;
    until(&sets, "d", |set| serves(set, 3)).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    patch(&sets, "d", image).await;
    until(&sets, "d", |set| serves(set, 3)).await;
    let is_new = |pod: &Pod| is_ready(pod) && pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("two");
    cluster.until_pods("app=d", 3, is_new).await;
    // Only the node in zone b is wanted any more.
    patch(
        &sets,
        "d",
        json!({"spec": {"template": {"spec": {"nodeSelector": {"zone": "b"}}}}}),
    )
    .await;
    until(&sets, "d", |set| serves(set, 1)).await;
    cluster.until_pods("app=d", 1, is_ready).await;
    patch(
        &cluster.all::<Node>(),
        "n2",
        json!({"metadata": {"labels": {"zone": null}}}),
    )
    .await;
    until(&sets, "d", |set| serves(set, 0)).await;
    cluster.until_pods("app=d", 0, |_| true).await;
    delete(&sets, "d").await;
}
