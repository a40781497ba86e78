//! Contract A11: what EndpointSlices say of the pods of a StatefulSet, so that each has its name.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use api::k8s::api::core::v1::{Node, Pod};
use controllers_plan::Write;
use controllers_plan::endpoints::slices::{Observed, plan};
use json_patch::merge;
use serde_json::{Value, json};

/// The endpoints that a Service `nginx` gets for one pod `web-0`, both changed by merge patches.
fn endpoints(service: &Value, pod: &Value) -> Vec<Value> {
    let mut governing = json!({
        "metadata": { "name": "nginx", "namespace": "default", "uid": "s" },
        "spec": { "clusterIP": "None", "selector": { "app": "nginx" }, "ports": [{ "port": 80 }] },
    });
    let mut web = json!({
        "metadata": { "name": "web-0", "namespace": "default", "uid": "p", "labels": { "app": "nginx" } },
        "spec": { "nodeName": "n", "hostname": "web-0", "subdomain": "nginx", "containers": [] },
        "status": {
            "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }], "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    merge(&mut governing, service);
    merge(&mut web, pod);
    let web: Pod = serde_json::from_value(web).unwrap();
    let observed = Observed {
        service: Some(Arc::new(serde_json::from_value(governing).unwrap())),
        pods: vec![Arc::new(web)],
        nodes: BTreeMap::from([("n".to_owned(), Arc::new(Node::default()))]),
        ..Observed::default()
    };
    let made = plan(&observed);
    let slices = made.actions().filter_map(|action| match &action.write {
        Write::Create(object) => object.body["endpoints"].as_array().cloned(),
        _ => None,
    });
    slices.flatten().collect()
}

#[test]
fn a11_2_endpoint_has_the_pod_s_host_name_only_below_the_service_that_the_pod_names() {
    let host = |pod: Value| endpoints(&json!({}), &pod)[0]["hostname"].clone();
    assert_eq!(host(json!({})), "web-0");
    assert_eq!(host(json!({ "spec": { "subdomain": "other" } })), Value::Null);
    assert_eq!(host(json!({ "spec": { "hostname": null } })), Value::Null);
}

#[test]
fn a11_3_pod_is_an_endpoint_from_its_address_to_its_end_and_ready_as_the_service_says() {
    let conditions = |service: Value, pod: Value| endpoints(&service, &pod)[0]["conditions"].clone();
    let unready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
    let going = json!({ "metadata": { "deletionTimestamp": "2026-11-22T12:00:00Z" } });
    let publish = json!({ "spec": { "publishNotReadyAddresses": true } });
    assert_eq!(conditions(json!({}), json!({}))["ready"], true);
    assert_eq!(conditions(json!({}), unready.clone())["ready"], false);
    assert_eq!(conditions(publish.clone(), unready)["ready"], true);
    let told = conditions(json!({}), going.clone());
    assert_eq!(
        (&told["ready"], &told["serving"], &told["terminating"]),
        (&json!(false), &json!(true), &json!(true))
    );
    assert_eq!(conditions(publish, going)["ready"], true);
    assert!(endpoints(&json!({}), &json!({ "status": { "phase": "Failed" } })).is_empty());
    assert!(endpoints(&json!({}), &json!({ "status": { "podIPs": [] } })).is_empty());
}

#[test]
fn a11_5_name_leads_to_the_address_of_now_and_to_none_without_one() {
    let addresses = |pod: Value| {
        endpoints(&json!({}), &pod)
            .iter()
            .map(|one| one["addresses"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        addresses(json!({ "status": { "podIPs": [{ "ip": "10.0.0.7" }] } })),
        [json!(["10.0.0.7"])]
    );
    assert!(addresses(json!({ "status": { "podIPs": null, "podIP": null } })).is_empty());
}
