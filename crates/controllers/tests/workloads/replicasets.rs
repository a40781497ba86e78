//! ReplicaSets and ReplicationControllers keep their number.

use api::k8s::api::apps::v1::ReplicaSet;
use api::k8s::api::core::v1::{Pod, ReplicationController};
use serde_json::{Value, json};

use crate::cluster::{Cluster, create, delete, is_ready, patch, template, until};

fn web(replicas: i32) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "one"),
        },
    })
}

fn has_ready(set: &ReplicaSet, count: i32) -> bool {
    let status = set.status.clone().unwrap_or_default();
    status.replicas == count
        && status.ready_replicas.unwrap_or(0) == count
        && status.observed_generation == set.metadata.generation
}

#[tokio::test]
async fn a_set_grows_shrinks_and_heals() {
    let cluster = Cluster::start().await;
    let sets = cluster.of::<ReplicaSet>();
    create(&sets, web(3)).await;
    let set = until(&sets, "web", |set| has_ready(set, 3)).await;
    assert_eq!(set.status.unwrap().fully_labeled_replicas, Some(3));
    let pods = cluster.until_pods("app=web", 3, is_ready).await;
    let name = pods[0].metadata.name.as_deref().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    cluster
        .until_event("SuccessfulCreate", &format!("Created pod: {name}"))
        .await;
    delete(&cluster.of::<Pod>(), name).await;
    let healed = cluster
        .until_pods("app=web", 3, |pod| {
            is_ready(pod) && pod.metadata.name.as_deref() != Some(name)
        })
        .await;
    assert_eq!(healed.len(), 3);
    patch(&sets, "web", json!({"spec": {"replicas": 1}})).await;
    until(&sets, "web", |set| has_ready(set, 1)).await;
    cluster.until_pods("app=web", 1, is_ready).await;
}

#[tokio::test]
async fn orphans_are_adopted_and_pods_with_other_labels_released() {
    let cluster = Cluster::start().await;
    let (sets, pods) = (cluster.of::<ReplicaSet>(), cluster.of::<Pod>());
    let mut lone = template("web", "one");
    lone["metadata"]["name"] = json!("lone");
    create(&pods, lone).await;
    let set = create(&sets, web(1)).await;
    let adopted = until(&pods, "lone", |pod| pod.metadata.owner_references.is_some()).await;
    assert_eq!(
        adopted.metadata.owner_references.unwrap()[0].uid,
        set.metadata.uid.unwrap()
    );
    patch(&pods, "lone", json!({"metadata": {"labels": {"app": "other"}}})).await;
    until(&pods, "lone", |pod| pod.metadata.owner_references.is_none()).await;
    cluster.until_pods("app=web", 1, is_ready).await;
}

#[tokio::test]
async fn replication_controllers_do_the_same() {
    let cluster = Cluster::start().await;
    let sets = cluster.of::<ReplicationController>();
    let rc = json!({"metadata": {"name": "web"}, "spec": {"replicas": 2, "template": template("web", "one")}});
    create(&sets, rc).await;
    let is_there =
        |set: &ReplicationController| set.status.as_ref().and_then(|status| status.available_replicas) == Some(2);
    until(&sets, "web", is_there).await;
    patch(&sets, "web", json!({"spec": {"replicas": 0}})).await;
    cluster.until_pods("app=web", 0, is_ready).await;
    until(&sets, "web", |set| {
        set.status.as_ref().is_some_and(|status| status.replicas == 0)
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_created_is_told_in_a_condition_until_it_can() {
    let cluster = Cluster::start().await;
    let sets = cluster.of::<ReplicaSet>();
    let mut set = web(1);
    // Pods of this class are refused as long as it does not exist.
    set["spec"]["template"]["spec"]["priorityClassName"] = json!("missing");
    create(&sets, set).await;
    let condition = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.conditions.clone());
    let failed = until(&sets, "web", |set| condition(set).is_some()).await;
    let failure = &condition(&failed).unwrap()[0];
    assert_eq!(
        (failure.type_.as_str(), failure.reason.as_deref()),
        ("ReplicaFailure", Some("FailedCreate"))
    );
    cluster.until_event("FailedCreate", "Error creating: pods \"web-").await;
    patch(
        &sets,
        "web",
        json!({"spec": {"template": {"spec": {"priorityClassName": null}}}}),
    )
    .await;
    until(&sets, "web", |set| has_ready(set, 1) && condition(set).is_none()).await;
}
