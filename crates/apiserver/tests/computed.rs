//! Kinds whose objects are made when they are read: what nodes and pods use, and how the control plane is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use apiserver::{Config, User};
use axum::routing::get;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use test_authority::Authority;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

/// What a kubelet says when it is asked for the `n`-th time: ten seconds later than before, each container having used
/// a quarter of a processor.
fn resources(n: u64) -> String {
    let (at_ms, seconds) = (1_000_000 + 10_000 * n, 100.0 + 2.5 * n as f64);
    let container = |pod: &str, name: &str| {
        let labels = format!("{{container=\"{name}\",namespace=\"default\",pod=\"{pod}\"}}");
        format!(
            "container_cpu_usage_seconds_total{labels} {seconds} {at_ms}\n\
             container_memory_working_set_bytes{labels} 1.048576e+06 {at_ms}\n"
        )
    };
    format!(
        "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {} {at_ms}\n\
         node_memory_working_set_bytes 4096 {at_ms}\n{}{}{}",
        2.0 * seconds,
        container("web-0", "a"),
        container("web-0", "b"),
        container("gone", "a"),
    )
}

struct Scene {
    api: Api,
    asked: Arc<AtomicU64>,
    _stop: DropGuard,
}

/// A server, a kubelet, and a pod on its node.
async fn scene() -> Scene {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let authority = Authority::new().unwrap();
    let stop = CancellationToken::new();
    let kubelet = TcpListener::bind((loopback, 0)).await.unwrap();
    let port = kubelet.local_addr().unwrap().port();
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let tell = async move || resources(count.fetch_add(1, Ordering::SeqCst));
    let routes = axum::Router::new().route("/metrics/resource", get(tell));
    let tls = Arc::new(authority.server(loopback).unwrap());
    tokio::spawn(apiserver::serve(kubelet, tls, routes, stop.clone()));
    let client = authority.client("kube-apiserver-kubelet-client", "system:masters");
    let api = Api::with(Config {
        kubelet_client: Some(Arc::new(client.unwrap())),
        parts: vec!["scheduler".to_owned()],
        ..Config::default()
    })
    .await;
    for name in ["vm", "silent"] {
        let node = json!({"metadata": {"name": name, "labels": {"zone": "z"}}});
        api.post("/api/v1/nodes", &node).await.ok();
    }
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    api.patch("/api/v1/nodes/vm/status", "merge", &status).await.ok();
    for (name, node) in [("web-0", "vm"), ("web-1", "silent"), ("new", "vm")] {
        let pod = json!({"metadata": {"name": name, "labels": {"app": "web", "pod": name}},
            "spec": {"nodeName": node, "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}});
        api.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    }
    Scene {
        api,
        asked,
        _stop: stop.drop_guard(),
    }
}

#[tokio::test]
async fn nodes_and_pods_use_what_their_kubelets_counted() {
    let Scene { api, asked, _stop } = scene().await;
    let nodes = api.get(&format!("{METRICS}/nodes")).await.ok();
    assert_eq!(nodes["kind"], "NodeMetricsList");
    let items = nodes["items"].as_array().unwrap();
    assert_eq!(
        items.len(),
        1,
        "of a node that does not answer nothing is known: {nodes}"
    );
    let node = &items[0];
    assert_eq!(node["usage"], json!({"cpu": "500000000n", "memory": "4Ki"}));
    assert_eq!(
        (&node["timestamp"], &node["window"]),
        (&json!("1970-01-01T00:16:50Z"), &json!("10s"))
    );
    assert_eq!(node["metadata"]["labels"]["zone"], "z");
    let one = api.get(&format!("{METRICS}/nodes/vm")).await.ok();
    assert_eq!((&one["kind"], &one["usage"]), (&json!("NodeMetrics"), &node["usage"]));
    let pods = api.get(&format!("{METRICS}/pods?labelSelector=app=web")).await.ok();
    let items = pods["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{pods}");
    let usage = json!({"cpu": "250000000n", "memory": "1Mi"});
    let containers = json!([{"name": "a", "usage": usage}, {"name": "b", "usage": usage}]);
    assert_eq!(
        (&items[0]["containers"], &items[0]["window"]),
        (&containers, &json!("10s"))
    );
    assert_eq!(items[0]["metadata"]["namespace"], "default");
    let of_pod = format!("{METRICS}/namespaces/default/pods");
    assert_eq!(api.get(&format!("{of_pod}/web-0")).await.ok()["containers"], containers);
    for nothing in ["?labelSelector=app=other", "?fieldSelector=metadata.name=other"] {
        assert_eq!(api.get(&format!("{of_pod}{nothing}")).await.ok()["items"], json!([]));
    }
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "what was told a moment ago is good enough"
    );
}

#[tokio::test]
async fn a_kubelet_that_failed_is_left_alone_for_a_while() {
    let authority = Authority::new().unwrap();
    let client = authority.client("kube-apiserver-kubelet-client", "system:masters");
    let api = Api::with(Config {
        kubelet_client: Some(Arc::new(client.unwrap())),
        ..Config::default()
    })
    .await;
    let kubelet = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = kubelet.local_addr().unwrap().port();
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        // Hangs up at once.
        while kubelet.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "vm"}}))
        .await
        .ok();
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    api.patch("/api/v1/nodes/vm/status", "merge", &status).await.ok();
    let read = async || api.get(&format!("{METRICS}/nodes")).await.ok()["items"].clone();
    assert_eq!(read().await, json!([]));
    let first = asked.load(Ordering::SeqCst);
    assert_eq!(read().await, json!([]));
    assert_eq!((first > 0, asked.load(Ordering::SeqCst)), (true, first));
}

#[tokio::test]
async fn what_nobody_measures_is_not_found() {
    let Scene { api, .. } = scene().await;
    let (code, _, message) = api.get(&format!("{METRICS}/nodes/other")).await.failure();
    assert_eq!(
        (code, message.as_str()),
        (404, "nodes.metrics.k8s.io \"other\" not found")
    );
    for pod in ["other", "web-1", "new"] {
        let (code, _, message) = api
            .get(&format!("{METRICS}/namespaces/default/pods/{pod}"))
            .await
            .failure();
        assert_eq!((code, message), (404, format!("pods.metrics.k8s.io {pod:?} not found")));
    }
    let answer = api
        .post(&format!("{METRICS}/nodes"), &json!({"metadata": {"name": "x"}}))
        .await;
    assert_eq!(answer.code, 405);
}

#[tokio::test]
async fn the_group_is_found_and_its_rights_are_those_of_viewers() {
    let api = Api::new().await;
    let resources = api.get(METRICS).await.ok();
    let names: Vec<&str> = resources["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["nodes", "pods"]);
    let service = api
        .get("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io")
        .await
        .ok();
    assert_eq!(service["status"]["conditions"][0]["status"], "True");
    let anna = api.as_user(User::new("anna", ["system:authenticated"]));
    assert_eq!(anna.get(&format!("{METRICS}/nodes")).await.code, 403);
    let binding = json!({"metadata": {"name": "anna"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "anna"}]});
    api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding)
        .await
        .ok();
    assert_eq!(
        anna.get(&format!("{METRICS}/namespaces/default/pods")).await.ok()["items"],
        json!([])
    );
}

#[tokio::test]
async fn the_parts_of_the_control_plane_are_well() {
    let Scene { api, .. } = scene().await;
    let path = "/api/v1/componentstatuses";
    let answer = api.get(path).await;
    assert_eq!(
        answer.warnings(),
        ["299 - \"v1 ComponentStatus is deprecated in v1.19+\""]
    );
    let list = answer.ok();
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("ComponentStatusList"), &json!("v1"))
    );
    let names: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names, ["scheduler", "etcd-0"]);
    let one = api.get(&format!("{path}/etcd-0")).await.ok();
    assert_eq!(one["kind"], "ComponentStatus");
    assert_eq!(
        one["conditions"],
        json!([{"type": "Healthy", "status": "True", "message": "ok"}])
    );
    assert_eq!(api.get(&format!("{path}/other")).await.code, 404);
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = api.send("GET", path, &accept, "").await.ok();
    assert_eq!(table["rows"][0]["cells"], json!(["scheduler", "Healthy", "ok", ""]));
}
