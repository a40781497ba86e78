//! Requests of the user and the nodes, said in JSON.

use std::fmt::Debug;

use kube::Client;
use serde_json::{Value, json};

/// The namespace that everything happens in.
pub(crate) const NAMESPACE: &str = "default";

pub(crate) const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

async fn ask(client: &Client, method: &str, path: &str, content_type: &str, body: &Value) -> kube::Result<Value> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type);
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let request = request.body(body).map_err(kube::Error::HttpError)?;
    client.request(request).await
}

pub(crate) async fn post(client: &Client, path: &str, body: &Value) -> kube::Result<Value> {
    ask(client, "POST", path, "application/json", body).await
}

pub(crate) async fn patch(client: &Client, path: &str, body: &Value) -> kube::Result<Value> {
    ask(client, "PATCH", path, "application/merge-patch+json", body).await
}

pub(crate) async fn delete(client: &Client, path: &str, options: &Value) -> kube::Result<Value> {
    ask(client, "DELETE", path, "application/json", options).await
}

/// What a node sends to end a pod whose containers have ended.
pub(crate) fn final_deletion(uid: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": { "uid": uid } })
}

/// Whether the API itself said no, as opposed to not being reached.
pub(crate) fn is_answer<T: Debug>(result: &kube::Result<T>) -> bool {
    matches!(result, Ok(_) | Err(kube::Error::Api(_)))
}
