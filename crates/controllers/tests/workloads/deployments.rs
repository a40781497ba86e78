//! Deployments roll out, back, and scale on the way.

use api::k8s::api::apps::v1::{Deployment, ReplicaSet};
use api::k8s::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::cluster::{BROKEN, Cluster, create, is_ready, patch, template, until, until_gone};

fn web(replicas: i32, more: &Value) -> Value {
    let mut web = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "one"),
        },
    });
    json_patch::merge(&mut web["spec"], more);
    web
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn is_complete(deployment: &Deployment) -> bool {
    let (spec, status) = (
        deployment.spec.clone().unwrap(),
        deployment.status.clone().unwrap_or_default(),
    );
    let counts = [
        status.replicas,
        status.updated_replicas,
        status.available_replicas,
        status.ready_replicas,
    ];
    status.observed_generation == deployment.metadata.generation && counts.iter().all(|count| *count == spec.replicas)
}

fn condition(deployment: &Deployment, type_: &str) -> Option<(String, String)> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|known| known.type_ == type_)?;
    Some((found.status.clone(), found.reason.clone()?))
}

fn says(deployment: &Deployment, type_: &str, status: &str, reason: &str) -> bool {
    condition(deployment, type_) == Some((status.to_owned(), reason.to_owned()))
}

async fn sets(cluster: &Cluster) -> Vec<ReplicaSet> {
    let sets = cluster.of::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
    let mut sets = sets.items;
    sets.sort_by_key(|set| revision(&set.metadata));
    sets
}

fn revision(meta: &api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> i64 {
    let annotations = meta.annotations.clone().unwrap_or_default();
    annotations["deployment.kubernetes.io/revision"].parse().unwrap()
}

#[tokio::test]
async fn a_deployment_rolls_out_and_back_with_numbered_revisions() {
    let cluster = Cluster::start().await;
    let deployments = cluster.of::<Deployment>();
    create(&deployments, web(3, &json!({}))).await;
    let first = until(&deployments, "web", is_complete).await;
    assert_eq!(revision(&first.metadata), 1);
    until(&deployments, "web", |d| {
        says(d, "Progressing", "True", "NewReplicaSetAvailable")
    })
    .await;
    until(&deployments, "web", |d| {
        says(d, "Available", "True", "MinimumReplicasAvailable")
    })
    .await;
    patch(&deployments, "web", image("two")).await;
    until(&deployments, "web", |d| is_complete(d) && revision(&d.metadata) == 2).await;
    let is_new = |pod: &Pod| is_ready(pod) && pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("two");
    cluster.until_pods("app=web", 3, is_new).await;
    let both = sets(&cluster).await;
    assert_eq!(
        both.iter().map(|set| revision(&set.metadata)).collect::<Vec<_>>(),
        [1, 2]
    );
    let hash = |set: &ReplicaSet| set.metadata.labels.clone().unwrap()["pod-template-hash"].clone();
    assert_eq!(both[1].metadata.name, Some(format!("web-{}", hash(&both[1]))));
    // Back, as `kubectl rollout undo` does it: the old ReplicaSet becomes the newest.
    patch(&deployments, "web", image("one")).await;
    until(&deployments, "web", |d| is_complete(d) && revision(&d.metadata) == 3).await;
    let back = sets(&cluster).await;
    assert_eq!(back[1].metadata.name, both[0].metadata.name);
    let history = &back[1].metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision-history"];
    assert_eq!(history, "1");
}

#[tokio::test]
async fn recreate_has_no_pod_of_either_kind_beside_the_other() {
    let cluster = Cluster::start().await;
    let deployments = cluster.of::<Deployment>();
    create(&deployments, web(2, &json!({"strategy": {"type": "Recreate"}}))).await;
    until(&deployments, "web", is_complete).await;
    patch(&deployments, "web", image("two")).await;
    until(&deployments, "web", |d| is_complete(d) && revision(&d.metadata) == 2).await;
    cluster.until_pods("app=web", 2, is_ready).await;
}

#[tokio::test]
async fn a_stuck_rollout_is_scaled_in_proportion_and_its_deadline_told() {
    let cluster = Cluster::start().await;
    let deployments = cluster.of::<Deployment>();
    let strategy = json!({
        "progressDeadlineSeconds": 1,
        "strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}},
    });
    create(&deployments, web(10, &strategy)).await;
    until(&deployments, "web", is_complete).await;
    patch(&deployments, "web", image(BROKEN)).await;
    // 8 old ones are kept, and 5 of the 13 that there may be are new.
    until(&deployments, "web", |d| {
        d.status.as_ref().and_then(|s| s.updated_replicas) == Some(5)
    })
    .await;
    let size = |set: &ReplicaSet| set.spec.as_ref().unwrap().replicas.unwrap();
    let stuck = sets(&cluster).await;
    assert_eq!(stuck.iter().map(size).collect::<Vec<_>>(), [8, 5]);
    until(&deployments, "web", |d| {
        says(d, "Progressing", "False", "ProgressDeadlineExceeded")
    })
    .await;
    patch(&deployments, "web", json!({"spec": {"replicas": 30}})).await;
    let replica_sets = cluster.of::<ReplicaSet>();
    let name = |index: usize| stuck[index].metadata.name.clone().unwrap();
    until(&replica_sets, &name(0), |set| size(set) == 20).await;
    until(&replica_sets, &name(1), |set| size(set) == 13).await;
}

#[tokio::test]
async fn a_paused_deployment_scales_but_does_not_roll() {
    let cluster = Cluster::start().await;
    let deployments = cluster.of::<Deployment>();
    create(&deployments, web(1, &json!({"revisionHistoryLimit": 0}))).await;
    until(&deployments, "web", is_complete).await;
    let old = sets(&cluster).await[0].metadata.name.clone().unwrap();
    let mut change = image("two");
    change["spec"]["paused"] = json!(true);
    patch(&deployments, "web", change).await;
    until(&deployments, "web", |d| {
        says(d, "Progressing", "Unknown", "DeploymentPaused")
    })
    .await;
    patch(&deployments, "web", json!({"spec": {"replicas": 2}})).await;
    cluster.until_pods("app=web", 2, is_ready).await;
    assert_eq!(sets(&cluster).await.len(), 1);
    patch(&deployments, "web", json!({"spec": {"paused": false}})).await;
    until(&deployments, "web", |d| is_complete(d) && revision(&d.metadata) == 2).await;
    // No history is kept.
    until_gone(&cluster.of::<ReplicaSet>(), &old).await;
}
