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

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A value nested so deeply that a parser without a limit would overflow its stack.
fn deep(open: &str, inner: &str, close: &str) -> String {
    let depth = 50_000;
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

#[tokio::test]
async fn deep_nesting_is_refused() {
    let api = cluster().await;
    let json = deep("{\"a\":", "1", "}");
    let list = deep("[", "", "]");
    let flow = format!("a: {}", deep("[", "", "]"));
    let block: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    for (content_type, body) in [
        ("application/json", json.as_str()),
        ("application/json", list.as_str()),
        ("application/yaml", flow.as_str()),
        ("application/yaml", block.as_str()),
    ] {
        let answer = api
            .send("POST", MAPS, &[("content-type", content_type)], body.to_owned())
            .await;
        // What an unknown field holds is skipped, however deep it is; then the object lacks a name.
        assert!(
            matches!(answer.failure().0, 400 | 422),
            "{content_type}: {}",
            answer.text
        );
    }
    for content_type in [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ] {
        let path = format!("{MAPS}/x?fieldManager=m");
        let answer = api
            .send("PATCH", &path, &[("content-type", content_type)], json.clone())
            .await;
        assert_eq!(answer.failure().0, 400, "{content_type}");
    }
    let pointer = "/a".repeat(50_000);
    let patch = json!([{"op": "add", "path": pointer, "value": 1}]);
    let answer = api.patch(&format!("{MAPS}/x"), "json", &patch).await;
    assert!((400..500).contains(&answer.code), "{}", answer.text);
}

#[tokio::test]
async fn yaml_does_not_grow() {
    let api = cluster().await;
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        let line = [below.as_str(); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{line}]\n"));
    }
    let answer = api
        .send("POST", MAPS, &[("content-type", "application/yaml")], bomb)
        .await;
    assert_eq!(answer.failure().0, 400);
}

#[tokio::test]
async fn bodies_have_a_limit_and_must_be_text() {
    let api = cluster().await;
    let json = [("content-type", "application/json")];
    let large = format!(
        "{{\"metadata\":{{\"name\":\"l\"}},\"data\":{{\"k\":\"{}\"}}}}",
        "v".repeat(4 << 20)
    );
    let (code, reason, message) = api.send("POST", MAPS, &json, large).await.failure();
    assert_eq!((code, reason.as_str()), (413, "RequestEntityTooLarge"));
    assert_eq!(message, "Request entity too large: limit is 3145728");
    let answer = api
        .send("POST", MAPS, &json, b"{\"metadata\":{\"name\":\"\xff\xfe\"}}".to_vec())
        .await;
    assert_eq!(answer.failure().0, 400);
    let whole = b"{\"metadata\":{\"name\":\"cut\"},\"data\":{\"k\":\"v\"}}";
    for end in 1..whole.len() {
        let answer = api.send("POST", MAPS, &json, whole[..end].to_vec()).await;
        assert!((400..500).contains(&answer.code), "{end}: {}", answer.text);
    }
    let twice = "{\"metadata\":{\"name\":\"t\",\"name\":\"u\"}}";
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let (code, _, message) = api.send("POST", &strict, &json, twice).await.failure();
    assert_eq!(code, 400);
    assert!(message.contains("duplicate field \"metadata.name\""), "{message}");
    assert_eq!(api.get(MAPS).await.ok()["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn many_small_things_are_taken_or_refused_in_one_piece() {
    let api = cluster().await;
    // Far more labels than anybody has.
    let labels: serde_json::Map<String, Value> = (0..30_000).map(|index| (format!("l{index}"), json!(""))).collect();
    let object = json!({"metadata": {"name": "labels", "labels": labels}});
    let answer = api.post(MAPS, &object).await;
    assert!(answer.code < 500, "{}", answer.code);
    let annotations = json!({"a": "v".repeat(300 * 1024)});
    let object = json!({"metadata": {"name": "annotations", "annotations": annotations}});
    assert_eq!(api.post(MAPS, &object).await.failure().0, 422);
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u"});
    let object = json!({"metadata": {"name": "owners", "ownerReferences": vec![owner; 5_000]}});
    assert!(api.post(MAPS, &object).await.code < 500);
    let selector = vec!["a=b"; 15_000].join(",");
    assert!(api.get(&format!("{MAPS}?labelSelector={selector}")).await.code < 500);
    for quantity in [
        "9".repeat(10_000),
        format!("1e{}", "9".repeat(50)),
        format!("0.{}1", "0".repeat(10_000)),
    ] {
        let mut pod = json!({"metadata": {"name": "q"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": quantity}});
        let answer = api.post("/api/v1/namespaces/default/pods?dryRun=All", &pod).await;
        assert!(answer.code < 500, "{}", answer.text);
    }
}

#[tokio::test]
async fn paths_lead_nowhere_else() {
    let api = cluster().await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}});
    api.post("/api/v1/namespaces/kube-system/secrets", &secret).await.ok();
    for path in [
        "/api/v1/namespaces/default/../kube-system/secrets/s",
        "/api/v1/namespaces/default/configmaps/..%2f..%2fkube-system%2fsecrets%2fs",
        "/api/v1/namespaces/default/configmaps/..%2F..",
        "/api/v1/namespaces/default%2f..%2fkube-system/secrets/s",
        "/api/v1/namespaces/kube-system%2fsecrets/s",
        "/api/v1/namespaces/default/configmaps/%00",
        "/api/v1/namespaces/default/configmaps/x%00y",
        "/api/v1/namespaces/default/pods/x/proxyx/y",
        "/api/v1/namespaces/default/pods/x/status/more",
    ] {
        let answer = api.get(path).await;
        assert!(
            (400..500).contains(&answer.code),
            "{path}: {} {}",
            answer.code,
            answer.text
        );
        assert!(!answer.text.contains("djE="), "{path} shows the secret");
    }
    for name in ["..", ".", "a/b", "a%2fb", "x\u{0}y", "A", "-a", ""] {
        let object = json!({"metadata": {"name": name}});
        let code = api.post(MAPS, &object).await.failure().0;
        assert_eq!(code, 422, "{name:?}");
    }
}
