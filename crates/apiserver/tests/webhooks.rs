//! Admission webhooks: real calls over TLS to a server of this test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::{Answer, Api};
use axum::extract::Path;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::sync::Arc;
use test_authority::Authority;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What the webhook of this path says.
async fn answer(Path(what): Path<String>, Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    let (object, old) = (&request["object"], &request["oldObject"]);
    let mut response = json!({"uid": request["uid"], "allowed": true});
    match what.as_str() {
        "deny" => {
            let is_bad = object["data"]["k"] == "bad" || (object.is_null() && old["data"]["k"] == "kept");
            response["allowed"] = json!(!is_bad);
            response["status"] = json!({"message": format!("{} is not wanted", request["operation"])});
            response["warnings"] = json!(["heard"]);
        }
        "mutate" => {
            let by = format!(
                "{}{}",
                request["userInfo"]["username"].as_str().unwrap(),
                request["dryRun"]
            );
            let patch = json!([{"op": "add", "path": "/data/by", "value": by}]);
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(STANDARD.encode(patch.to_string()));
        }
        "silent" => std::future::pending().await,
        _ => response["uid"] = json!("another"),
    }
    Json(json!({"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response}))
}

/// A server of webhooks: its port, the bundle that vouches for it, and what ends it.
struct Hooks {
    port: u16,
    bundle: String,
    shutdown: CancellationToken,
}

impl Hooks {
    async fn start() -> Self {
        let authority = Authority::new().unwrap();
        let names = ["127.0.0.1", "hooks.default.svc"].map(str::to_owned).to_vec();
        let mut tls = authority.server_named(names).unwrap();
        tls.alpn_protocols.clear();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/{what}", axum::routing::post(answer));
        tokio::spawn(apiserver::serve(listener, Arc::new(tls), router, shutdown.clone()));
        Self {
            port,
            bundle: STANDARD.encode(authority.pem()),
            shutdown,
        }
    }

    /// A webhook of this path about ConfigMaps.
    fn hook(&self, path: &str) -> Value {
        let (port, bundle) = (self.port, &self.bundle);
        json!({
            "name": format!("{path}.example.com"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 30,
            "clientConfig": {"url": format!("https://127.0.0.1:{port}/{path}"), "caBundle": bundle},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
                "operations": ["CREATE", "UPDATE", "DELETE"]}],
        })
    }
}

async fn register(api: &Api, sort: &str, hook: Value) {
    let path = format!("{GROUP}/{sort}webhookconfigurations");
    let name = hook["name"].clone();
    api.post(&path, &json!({"metadata": {"name": name}, "webhooks": [hook]}))
        .await
        .ok();
}

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": value}})
}

#[track_caller]
fn refused(answer: &Answer, code: u16, reason: &str, words: &str) {
    let (its_code, its_reason, message) = answer.failure();
    assert_eq!((its_code, its_reason.as_str()), (code, reason), "{message}");
    assert!(message.contains(words), "{message}");
}

#[tokio::test]
async fn webhooks_refuse_and_warn() {
    let (api, hooks) = (Api::new().await, Hooks::start().await);
    register(&api, "validating", hooks.hook("deny")).await;
    let answer = api.post(MAPS, &map("a", "bad")).await;
    let words = "admission webhook \"deny.example.com\" denied the request: \"CREATE\" is not wanted";
    assert_eq!(answer.failure(), (400, String::new(), words.to_owned()));
    let answer = api.post(MAPS, &map("a", "good")).await;
    answer.ok();
    assert_eq!(answer.warnings(), ["299 - \"heard\""]);
    let bad = json!({"data": {"k": "bad"}});
    let answer = api.patch(&format!("{MAPS}/a"), "merge", &bad).await;
    refused(&answer, 400, "", "\"UPDATE\" is not wanted");
    api.post(MAPS, &map("kept", "kept")).await.ok();
    let answer = api.delete(&format!("{MAPS}/kept"), &Value::Null).await;
    refused(&answer, 400, "", "\"DELETE\" is not wanted");
    // Their own configurations are never asked about.
    let own = format!("{GROUP}/validatingwebhookconfigurations/deny.example.com");
    api.delete(&own, &Value::Null).await.ok();
    api.delete(&format!("{MAPS}/kept"), &Value::Null).await.ok();
    hooks.shutdown.cancel();
}

#[tokio::test]
async fn webhooks_change_what_is_written_and_are_found_by_their_service() {
    let (api, hooks) = (Api::new().await, Hooks::start().await);
    let mut hook = hooks.hook("mutate");
    let service = json!({"name": "hooks", "namespace": "default", "path": "/mutate", "port": hooks.port});
    hook["clientConfig"] = json!({"service": service, "caBundle": hooks.bundle});
    hook["matchConditions"] = json!([{"name": "not-bare", "expression": "object.metadata.name != 'bare'"}]);
    register(&api, "mutating", hook).await;
    let answer = api.post(MAPS, &map("a", "v")).await;
    let words = "failed calling webhook \"mutate.example.com\": service \"hooks\" not found";
    refused(&answer, 500, "InternalError", words);
    let service = json!({"metadata": {"name": "hooks"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    api.post("/api/v1/namespaces/default/services", &service).await.ok();
    let made = api.post(MAPS, &map("a", "v")).await.ok();
    assert_eq!(made["data"], json!({"k": "v", "by": "adminfalse"}));
    let dry = api.post(&format!("{MAPS}?dryRun=All"), &map("b", "v")).await.ok();
    assert_eq!(dry["data"]["by"], "admintrue");
    let bare = api.post(MAPS, &map("bare", "v")).await.ok();
    assert_eq!(bare["data"], json!({"k": "v"}));
    hooks.shutdown.cancel();
}

#[tokio::test]
async fn webhooks_that_fail_close_the_door_or_are_ignored() {
    let (api, hooks) = (Api::new().await, Hooks::start().await);
    let mut silent = hooks.hook("silent");
    silent["timeoutSeconds"] = json!(1);
    silent["failurePolicy"] = json!("Ignore");
    register(&api, "validating", silent.clone()).await;
    api.post(MAPS, &map("a", "v")).await.ok();
    silent["name"] = json!("strict.example.com");
    silent["failurePolicy"] = json!("Fail");
    register(&api, "validating", silent).await;
    let answer = api.post(MAPS, &map("b", "v")).await;
    refused(
        &answer,
        500,
        "InternalError",
        "/silent?timeout=1s\": context deadline exceeded",
    );
    let path = format!("{GROUP}/validatingwebhookconfigurations");
    for name in ["silent", "strict"] {
        api.delete(&format!("{path}/{name}.example.com"), &Value::Null)
            .await
            .ok();
    }
    register(&api, "validating", hooks.hook("odd")).await;
    let answer = api.post(MAPS, &map("b", "v")).await;
    refused(&answer, 500, "InternalError", "expected response.uid=");
    let mut untrusted = hooks.hook("deny");
    untrusted["clientConfig"]["caBundle"] = json!(STANDARD.encode(Authority::new().unwrap().pem()));
    api.delete(&format!("{path}/odd.example.com"), &Value::Null).await.ok();
    register(&api, "validating", untrusted).await;
    let answer = api.post(MAPS, &map("b", "v")).await;
    refused(&answer, 500, "InternalError", "failed to call webhook");
    hooks.shutdown.cancel();
}
