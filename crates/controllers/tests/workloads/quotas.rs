//! Quotas count what is there.

use api::k8s::api::core::v1::{ConfigMap, ResourceQuota};
use serde_json::json;

use crate::cluster::{Cluster, create, delete, until};

#[tokio::test]
async fn what_is_deleted_is_no_longer_used() {
    let cluster = Cluster::start().await;
    let (quotas, maps) = (cluster.of::<ResourceQuota>(), cluster.of::<ConfigMap>());
    create(&maps, json!({"metadata": {"name": "first"}})).await;
    create(
        &quotas,
        json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": "5", "pods": "1"}}}),
    )
    .await;
    let used = |count: &'static str| {
        move |quota: &ResourceQuota| {
            let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
            used.is_some_and(|used| {
                used.get("count/configmaps").is_some_and(|known| known.0 == count) && used["pods"].0 == "0"
            })
        }
    };
    until(&quotas, "q", used("1")).await;
    create(&maps, json!({"metadata": {"name": "second"}})).await;
    until(&quotas, "q", used("2")).await;
    delete(&maps, "first").await;
    delete(&maps, "second").await;
    until(&quotas, "q", used("0")).await;
}
