//! Bodies, parameters and paths that make no sense are refused, never a failure of the server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use serde_json::{Value, json};

const BODIES: &[&str] = &[
    "",
    "null",
    "[]",
    "[[]]",
    "7",
    "\"text\"",
    "{}",
    "{\"metadata\":null}",
    "{\"metadata\":[]}",
    "{\"metadata\":{\"name\":7}}",
    "{\"metadata\":{\"name\":\"x\",\"labels\":[],\"ownerReferences\":{}}}",
    "{\"metadata\":{\"name\":\"x\",\"ownerReferences\":[null],\"finalizers\":[7]}}",
    "{\"metadata\":{\"name\":\"x\",\"resourceVersion\":\"abc\"}}",
    "{\"metadata\":{\"name\":\"x\"},\"spec\":null}",
    "{\"metadata\":{\"name\":\"x\"},\"spec\":[]}",
    "{\"metadata\":{\"name\":\"x\"},\"spec\":{\"ports\":{},\"containers\":7,\"clusterIP\":[]}}",
    "{\"metadata\":{\"name\":\"x\"},\"spec\":{\"ports\":[null],\"containers\":[null]}}",
    "{\"metadata\":{\"name\":\"../../etc\"}}",
    "{\"kind\":7,\"apiVersion\":[]}",
    "{\"target\":7,\"deleteOptions\":[],\"preconditions\":7}",
    "[{\"op\":\"replace\",\"path\":\"\",\"value\":7}]",
    "[{\"op\":\"remove\",\"path\":\"/metadata\"}]",
    "[{\"op\":\"replace\",\"path\":\"/metadata/name\",\"value\":null}]",
    "{\"spec\":{\"$patch\":\"nonsense\"}}",
    "{\"$setElementOrder/containers\":7}",
    "k8s\0\x0a\x01",
    "- a\n- b: [",
];

const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "nonsense",
    "",
];

async fn cluster() -> Api {
    let api = Api::new().await;
    let objects = [
        (
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "x"}}),
        ),
        (
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}]}}),
        ),
        (
            "/api/v1/namespaces/default/pods",
            json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        ),
        (
            "/apis/apps/v1/namespaces/default/statefulsets",
            json!({"metadata": {"name": "x"}, "spec": {"serviceName": "x", "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
        ),
    ];
    for (path, object) in objects {
        api.post(path, &object).await.ok();
    }
    api
}

#[track_caller]
fn check(answer: &api::Answer, what: &str) {
    // The one 500 that upstream gives on purpose.
    let expected = answer
        .text
        .contains("resourceVersion should not be set on objects to be created");
    assert!(answer.code < 500 || expected, "{what}: {} {}", answer.code, answer.text);
    if answer.code >= 400 {
        assert_eq!(answer.json()["kind"], "Status", "{what}: {}", answer.text);
    }
}

#[tokio::test]
async fn no_body_breaks_the_server() {
    let api = cluster().await;
    let targets = [
        "/api/v1/namespaces",
        "/api/v1/namespaces/default/configmaps",
        "/api/v1/namespaces/default/services",
        "/api/v1/namespaces/default/pods",
        "/api/v1/namespaces/default/bindings",
        "/apis/apps/v1/namespaces/default/statefulsets",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        "/api/v1/namespaces/default/pods/x/binding",
        "/api/v1/namespaces/default/pods/x/eviction",
    ];
    for body in BODIES {
        for content_type in TYPES {
            for path in targets {
                let path = format!("{path}?dryRun=All");
                let answer = api.send("POST", &path, &[("content-type", content_type)], *body).await;
                check(&answer, &format!("POST {path} {content_type} {body}"));
            }
        }
    }
}

#[tokio::test]
async fn no_change_breaks_the_server() {
    let api = cluster().await;
    let targets = [
        "/api/v1/namespaces/default/finalize",
        "/api/v1/namespaces/default/configmaps/x",
        "/api/v1/namespaces/default/services/x",
        "/api/v1/namespaces/default/services/x/status",
        "/api/v1/namespaces/default/pods/x/status",
        "/apis/apps/v1/namespaces/default/statefulsets/x",
        "/apis/apps/v1/namespaces/default/statefulsets/x/status",
        "/apis/apps/v1/namespaces/default/statefulsets/x/scale",
        "/apis/apps/v1/namespaces/default/statefulsets/new",
    ];
    for body in BODIES {
        for content_type in TYPES {
            for path in targets {
                for method in ["PUT", "PATCH", "DELETE"] {
                    let path = format!("{path}?dryRun=All&fieldManager=m");
                    let answer = api.send(method, &path, &[("content-type", content_type)], *body).await;
                    check(&answer, &format!("{method} {path} {content_type} {body}"));
                }
            }
        }
    }
    assert_eq!(
        api.get("/api/v1/namespaces/default/configmaps").await.ok()["items"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn no_parameter_breaks_the_server() {
    let api = cluster().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for query in [
        "limit=x",
        "limit=-5",
        "limit=99999999999999999999",
        "continue=%00",
        "continue=e30",
        "resourceVersion=-1",
        "resourceVersion=x",
        "resourceVersion=99999999999999999999999",
        "labelSelector=,,,",
        "labelSelector=a%20in%20(",
        "fieldSelector===",
        "fieldSelector=a",
        "timeoutSeconds=x&watch=true",
        "watch=true&resourceVersion=x",
        "watch=true&resourceVersionMatch=Exact",
        "watch=true&sendInitialEvents=maybe",
        "resourceVersionMatch=Sometimes&resourceVersion=1",
        "%zz=%",
        "&&&=",
    ] {
        let answer = api.get(&format!("{maps}?{query}")).await;
        check(&answer, query);
    }
    for path in [
        "/api/v1/namespaces//pods",
        "/api/v1//",
        "/apis/x/y/z",
        "/api/v2/pods",
        "/api/v1/namespaces/a/b/c/d",
    ] {
        let answer = api.get(path).await;
        assert!(answer.code < 500, "{path}: {}", answer.text);
    }
    let options: Value = json!({"gracePeriodSeconds": "soon"});
    check(
        &api.delete(&format!("{maps}/x"), &options).await,
        "a grace that is no number",
    );
}
