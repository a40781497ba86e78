//! Addresses behind a Service.

use api::k8s::api::core::v1::{Endpoints, Pod, Service};
use api::k8s::api::discovery::v1::EndpointSlice;
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::watcher::Event::{Apply, InitApply};
use kube::runtime::watcher::{Config, watcher};
use serde_json::json;

use crate::cluster::{Cluster, PATIENCE, create, delete, patch_status, until, until_gone};

fn ready(address: &str, is_ready: bool) -> serde_json::Value {
    let status = if is_ready { "True" } else { "False" };
    json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": status}]})
}

fn counts(endpoints: Option<&Endpoints>) -> Option<(usize, usize)> {
    let subsets = endpoints?.subsets.clone().unwrap_or_default();
    let ready = subsets
        .iter()
        .filter_map(|subset| subset.addresses.as_ref())
        .map(Vec::len)
        .sum();
    let others = subsets
        .iter()
        .filter_map(|subset| subset.not_ready_addresses.as_ref())
        .map(Vec::len)
        .sum();
    Some((ready, others))
}

#[tokio::test]
async fn a_service_has_the_addresses_of_its_pods_as_long_as_it_lives() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    let services = cluster.of::<Service>();
    let service = json!({"metadata": {"name": "db"},
        "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"name": "sql", "port": 3306}]}});
    create(&services, service).await;
    let subdomain = |name: &str| json!({"spec": {"hostname": name, "subdomain": "db"}});
    cluster.pod("db-0", subdomain("db-0"), ready("10.0.0.1", true)).await;
    cluster.pod("db-1", subdomain("db-1"), ready("10.0.0.2", false)).await;
    let endpoints = cluster.of::<Endpoints>();
    until(&endpoints, "db", |found: Option<&Endpoints>| {
        counts(found) == Some((1, 1))
    })
    .await;

    let slices = cluster.of::<EndpointSlice>();
    let list = slices
        .list(&ListParams::default().labels("kubernetes.io/service-name=db"))
        .await
        .unwrap();
    assert_eq!(list.items.len(), 1);
    let name = list.items[0].metadata.name.clone().unwrap();
    let both_ready = |slice: Option<&EndpointSlice>| {
        let endpoints = slice.and_then(|slice| slice.endpoints.clone()).unwrap_or_default();
        let is_ready = |one: &api::k8s::api::discovery::v1::Endpoint| {
            one.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
        };
        endpoints.len() == 2 && endpoints.iter().all(is_ready)
    };
    patch_status(&cluster.of::<Pod>(), "db-1", ready("10.0.0.2", true)).await;
    let slice = until(&slices, &name, both_ready).await.unwrap();
    let hostnames: Vec<_> = slice
        .endpoints
        .unwrap()
        .into_iter()
        .map(|one| one.hostname.unwrap())
        .collect();
    assert_eq!(hostnames, ["db-0", "db-1"]);
    until(&endpoints, "db", |found: Option<&Endpoints>| {
        counts(found) == Some((2, 0))
    })
    .await;

    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    delete(&cluster.of::<Pod>(), "db-0", &now).await;
    until(&endpoints, "db", |found: Option<&Endpoints>| {
        counts(found) == Some((1, 0))
    })
    .await;
    delete(&services, "db", &DeleteParams::default()).await;
    until_gone(&endpoints, "db").await;
    until_gone(&slices, &name).await;
    cluster.stop().await;
}

/// Whoever reads EndpointSlices, such as DNS, learns of addresses that were put into Endpoints by hand.
#[tokio::test]
async fn endpoints_kept_by_hand_are_mirrored_as_long_as_they_live() {
    let cluster = Cluster::start().await;
    let service = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 80}]}});
    create(&cluster.of::<Service>(), service).await;
    let endpoints = cluster.of::<Endpoints>();
    let by_hand = json!({"metadata": {"name": "db"},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]});
    create(&endpoints, by_hand).await;
    let slices = cluster.of::<EndpointSlice>();
    let slice = first_of(&slices, "kubernetes.io/service-name=db").await;
    assert_eq!(slice.endpoints.unwrap()[0].addresses, ["10.1.2.3"]);
    delete(&endpoints, "db", &DeleteParams::default()).await;
    until_gone(&slices, slice.metadata.name.as_deref().unwrap()).await;
    cluster.stop().await;
}

/// The first object with these labels, once there is one.
async fn first_of(slices: &Api<EndpointSlice>, labels: &str) -> EndpointSlice {
    let found = async {
        let mut stream = watcher(slices.clone(), Config::default().labels(labels)).boxed();
        loop {
            if let Some(Apply(slice) | InitApply(slice)) = stream.try_next().await.unwrap() {
                return slice;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}
