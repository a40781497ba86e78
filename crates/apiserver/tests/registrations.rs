//! What the server keeps of itself for all to see: the addresses of Services, the flows that no cluster is without.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const FLOWS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

fn service(name: &str, ip: Option<&str>) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    if let Some(ip) = ip {
        service["spec"]["clusterIP"] = json!(ip);
    }
    service
}

#[tokio::test]
async fn the_address_of_a_service_is_an_object() {
    let api = Api::new().await;
    let made = api.post(SERVICES, &service("web", None)).await.ok();
    let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let address = api.get(&format!("{ADDRESSES}/{ip}")).await.ok();
    let parent = json!({"group": "", "resource": "services", "namespace": "default", "name": "web"});
    assert_eq!(address["spec"]["parentRef"], parent);
    assert_eq!(
        address["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"],
        "ipallocator.k8s.io"
    );
    api.delete(&format!("{SERVICES}/web"), &Value::Null).await.ok();
    assert_eq!(api.get(&format!("{ADDRESSES}/{ip}")).await.code, 404);
    // Those of the cluster's own Services are there from the start.
    api.get(&format!("{ADDRESSES}/10.96.0.1")).await.ok();
    api.get(&format!("{ADDRESSES}/10.96.0.10")).await.ok();
}

#[tokio::test]
async fn an_address_that_somebody_holds_is_not_given_out() {
    let api = Api::new().await;
    let parent = json!({"resource": "things", "name": "a"});
    let held = json!({"metadata": {"name": "10.96.9.9"}, "spec": {"parentRef": parent}});
    api.post(ADDRESSES, &held).await.ok();
    let (code, _, message) = api.post(SERVICES, &service("web", Some("10.96.9.9"))).await.failure();
    assert_eq!(code, 422);
    assert!(
        message.contains("failed to allocate IP 10.96.9.9: provided IP is already allocated"),
        "{message}"
    );
    api.delete(&format!("{ADDRESSES}/10.96.9.9"), &Value::Null).await.ok();
    api.post(SERVICES, &service("web", Some("10.96.9.9"))).await.ok();
    let address = api.get(&format!("{ADDRESSES}/10.96.9.9")).await.ok();
    assert_eq!(address["spec"]["parentRef"]["name"], "web");
}

#[tokio::test]
async fn no_cluster_is_without_its_exempt_and_its_last_flow() {
    let api = Api::new().await;
    for name in ["exempt", "catch-all"] {
        let schema = api.get(&format!("{FLOWS}/flowschemas/{name}")).await.ok();
        assert_eq!(schema["spec"]["priorityLevelConfiguration"]["name"], name);
        assert_eq!(schema["status"]["conditions"][0]["status"], "False", "{schema}");
        api.get(&format!("{FLOWS}/prioritylevelconfigurations/{name}"))
            .await
            .ok();
    }
}
