//! What becomes of dependents.

use api::k8s::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::cluster::{Cluster, create, delete, patch, uid, until, until_gone};

fn owned_by(owners: &[&ConfigMap]) -> Value {
    let reference = |owner: &&ConfigMap| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": uid(*owner), "blockOwnerDeletion": true});
    json!(owners.iter().map(reference).collect::<Vec<_>>())
}

async fn owner(cluster: &Cluster, name: &str) -> ConfigMap {
    create(&cluster.of::<ConfigMap>(), json!({"metadata": {"name": name}})).await
}

async fn dependent(cluster: &Cluster, name: &str, owners: Value, finalizers: &[&str]) {
    let metadata = json!({"name": name, "ownerReferences": owners, "finalizers": finalizers});
    create(&cluster.of::<Secret>(), json!({"metadata": metadata})).await;
}

fn owners(secret: Option<&Secret>) -> Option<usize> {
    Some(secret?.metadata.owner_references.as_ref().map_or(0, Vec::len))
}

#[tokio::test]
async fn dependents_go_with_their_last_owner() {
    let cluster = Cluster::start().await;
    let (a, b) = (owner(&cluster, "a").await, owner(&cluster, "b").await);
    dependent(&cluster, "of-a", owned_by(&[&a]), &[]).await;
    dependent(&cluster, "of-both", owned_by(&[&a, &b]), &[]).await;
    let secrets = cluster.of::<Secret>();
    delete(&cluster.of::<ConfigMap>(), "a", &DeleteParams::background()).await;
    until_gone(&secrets, "of-a").await;
    until(&secrets, "of-both", |secret: Option<&Secret>| owners(secret) == Some(1)).await;
    delete(&cluster.of::<ConfigMap>(), "b", &DeleteParams::background()).await;
    until_gone(&secrets, "of-both").await;

    // An owner that never was is as good as gone.
    dependent(&cluster, "late", owned_by(&[&a, &b]), &[]).await;
    until_gone(&secrets, "late").await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_foreground_deletion_waits_for_what_blocks_it() {
    let cluster = Cluster::start().await;
    let a = owner(&cluster, "a").await;
    dependent(&cluster, "slow", owned_by(&[&a]), &["example.com/wait"]).await;
    dependent(&cluster, "quick", owned_by(&[&a]), &[]).await;
    let (maps, secrets) = (cluster.of::<ConfigMap>(), cluster.of::<Secret>());
    delete(&maps, "a", &DeleteParams::foreground()).await;
    until_gone(&secrets, "quick").await;
    until(&secrets, "slow", |secret: Option<&Secret>| {
        secret.is_some_and(|secret| secret.metadata.deletion_timestamp.is_some())
    })
    .await;
    assert!(maps.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    patch(&secrets, "slow", json!({"metadata": {"finalizers": null}})).await;
    until_gone(&maps, "a").await;
    cluster.stop().await;
}

#[tokio::test]
async fn orphans_stay_and_have_no_owner() {
    let cluster = Cluster::start().await;
    let (a, b) = (owner(&cluster, "a").await, owner(&cluster, "b").await);
    dependent(&cluster, "of-a", owned_by(&[&a]), &[]).await;
    dependent(&cluster, "of-both", owned_by(&[&a, &b]), &[]).await;
    delete(&cluster.of::<ConfigMap>(), "a", &DeleteParams::orphan()).await;
    until_gone(&cluster.of::<ConfigMap>(), "a").await;
    let secrets = cluster.of::<Secret>();
    assert_eq!(owners(secrets.get("of-a").await.ok().as_ref()), Some(0));
    assert_eq!(owners(secrets.get("of-both").await.ok().as_ref()), Some(1));
    cluster.stop().await;
}

#[tokio::test]
async fn an_owner_in_another_namespace_owns_nothing() {
    let cluster = Cluster::start().await;
    create(&cluster.all::<Namespace>(), json!({"metadata": {"name": "elsewhere"}})).await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "elsewhere");
    let foreign = create(&maps, json!({"metadata": {"name": "foreign"}})).await;
    dependent(&cluster, "stray", owned_by(&[&foreign]), &[]).await;
    cluster
        .until_event(
            "OwnerRefInvalidNamespace",
            "ownerRef [v1/ConfigMap, namespace: default, name: foreign",
        )
        .await;
    until_gone(&cluster.of::<Secret>(), "stray").await;
    cluster.stop().await;
}
