//! Custom resources take part in garbage collection and in the end of namespaces.

use api::k8s::api::core::v1::{ConfigMap, Namespace, ResourceQuota};
use api::k8s::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::cluster::{Cluster, create, delete, until, until_gone};

async fn define(cluster: &Cluster) -> ApiResource {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "metadata": {"name": "tabs.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "tabs", "kind": "Tab"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    });
    let definitions = cluster.all::<CustomResourceDefinition>();
    create(&definitions, definition).await;
    let established = |definition: Option<&CustomResourceDefinition>| {
        let conditions = definition.and_then(|one| one.status.as_ref()?.conditions.clone());
        conditions
            .into_iter()
            .flatten()
            .any(|one| one.type_ == "Established" && one.status == "True")
    };
    until(&definitions, "tabs.example.com", established).await;
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", "Tab"), "tabs")
}

async fn make(api: &Api<DynamicObject>, object: Value) -> DynamicObject {
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

fn owned_by(owner: &Value, kind: &str, version: &str) -> Value {
    json!([{"apiVersion": version, "kind": kind, "name": owner["name"], "uid": owner["uid"]}])
}

#[tokio::test]
async fn owners_and_dependents_may_be_custom() {
    let cluster = Cluster::start().await;
    let tab = define(&cluster).await;
    let tabs: Api<DynamicObject> = Api::default_namespaced_with(cluster.client.clone(), &tab);
    let maps: Api<ConfigMap> = cluster.of();
    let root = create(&maps, json!({"metadata": {"name": "root"}})).await;
    let root = json!({"name": "root", "uid": root.metadata.uid});
    let middle = json!({"apiVersion": "example.com/v1", "kind": "Tab",
        "metadata": {"name": "middle", "ownerReferences": owned_by(&root, "ConfigMap", "v1")}});
    let middle = make(&tabs, middle).await;
    let middle = json!({"name": "middle", "uid": middle.metadata.uid});
    let leaf = json!({"metadata": {"name": "leaf", "ownerReferences": owned_by(&middle, "Tab", "example.com/v1")}});
    create(&maps, leaf).await;
    delete(&maps, "root", &DeleteParams::background()).await;
    until_gone(&maps, "leaf").await;
    assert!(tabs.get_opt("middle").await.unwrap().is_none());
    cluster.stop().await;
}

#[tokio::test]
async fn a_namespace_takes_its_custom_resources_along() {
    let cluster = Cluster::start().await;
    let tab = define(&cluster).await;
    let namespaces = cluster.all::<Namespace>();
    create(&namespaces, json!({"metadata": {"name": "doomed"}})).await;
    let tabs: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), "doomed", &tab);
    make(
        &tabs,
        json!({"apiVersion": "example.com/v1", "kind": "Tab", "metadata": {"name": "a"}}),
    )
    .await;
    delete(&namespaces, "doomed", &DeleteParams::default()).await;
    until_gone(&namespaces, "doomed").await;
    assert!(tabs.get_opt("a").await.unwrap().is_none());
    cluster.stop().await;
}

#[tokio::test]
async fn a_quota_counts_custom_resources_up_and_down() {
    let cluster = Cluster::start().await;
    let tab = define(&cluster).await;
    let (quotas, tabs) = (
        cluster.of::<ResourceQuota>(),
        Api::<DynamicObject>::default_namespaced_with(cluster.client.clone(), &tab),
    );
    let hard = json!({"count/tabs.example.com": "1"});
    create(&quotas, json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
    let used = |count: &'static str| {
        move |quota: Option<&ResourceQuota>| {
            let used = quota.and_then(|quota| quota.status.as_ref()?.used.clone());
            used.is_some_and(|used| used.get("count/tabs.example.com").is_some_and(|known| known.0 == count))
        }
    };
    until(&quotas, "q", used("0")).await;
    let one = json!({"apiVersion": "example.com/v1", "kind": "Tab", "metadata": {"name": "a"}});
    make(&tabs, one).await;
    until(&quotas, "q", used("1")).await;
    tabs.delete("a", &DeleteParams::default()).await.unwrap();
    until(&quotas, "q", used("0")).await;
    cluster.stop().await;
}
