//! The beginning and the end of namespaces.

use api::k8s::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::cluster::{Cluster, create, delete, patch, until, until_gone};

#[tokio::test]
async fn a_namespace_has_an_account_and_a_certificate_from_the_beginning() {
    let cluster = Cluster::start().await;
    create(&cluster.all::<Namespace>(), json!({"metadata": {"name": "new"}})).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "new");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "new");
    let exists = |account: Option<&ServiceAccount>| account.is_some();
    let first = until(&accounts, "default", exists).await.unwrap();
    let is_right = |map: Option<&ConfigMap>| {
        map.and_then(|map| map.data.as_ref()?.get("ca.crt"))
            .is_some_and(|ca| ca == "certificate")
    };
    until(&maps, "kube-root-ca.crt", is_right).await;
    delete(&accounts, "default", &DeleteParams::default()).await;
    let is_another =
        |account: Option<&ServiceAccount>| account.is_some_and(|account| account.metadata.uid != first.metadata.uid);
    until(&accounts, "default", is_another).await;
    patch(&maps, "kube-root-ca.crt", json!({"data": {"ca.crt": "forged"}})).await;
    until(&maps, "kube-root-ca.crt", is_right).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_empty_and_pods_go_first() {
    let cluster = Cluster::start().await;
    let namespaces = cluster.all::<Namespace>();
    create(&namespaces, json!({"metadata": {"name": "doomed"}})).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "doomed");
    until(&accounts, "default", |account: Option<&ServiceAccount>| {
        account.is_some()
    })
    .await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "doomed");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "doomed");
    let pod = json!({"metadata": {"name": "slow", "finalizers": ["example.com/wait"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    create(&pods, pod).await;
    create(&maps, json!({"metadata": {"name": "kept"}})).await;
    delete(&namespaces, "doomed", &DeleteParams::default()).await;
    let says_why = |namespace: Option<&Namespace>| {
        let conditions = namespace.and_then(|namespace| namespace.status.as_ref()?.conditions.clone());
        let is_it = |type_: &str| type_ == "NamespaceFinalizersRemaining";
        conditions
            .into_iter()
            .flatten()
            .any(|one| is_it(&one.type_) && one.status == "True")
    };
    let namespace = until(&namespaces, "doomed", says_why).await.unwrap();
    assert_eq!(namespace.status.unwrap().phase.as_deref(), Some("Terminating"));
    assert!(maps.get("kept").await.unwrap().metadata.deletion_timestamp.is_none());
    patch(&pods, "slow", json!({"metadata": {"finalizers": null}})).await;
    until_gone(&namespaces, "doomed").await;
    cluster.stop().await;
}
