//! Who may come in and what they may do: tokens, roles, nodes, impersonation; and what the server tells of itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/api.rs"]
mod api;
mod certificates;
mod nodes;
mod operations;
mod roles;
mod tokens;

use api::{Answer, Api};
use axum::body::Body;
use http::{Request, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

/// Sends a request as whoever a token names; with an empty token as nobody.
async fn send_as(api: &Api, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json");
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let response = api
        .router()
        .oneshot(request.body(Body::from(text)).unwrap())
        .await
        .unwrap();
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer {
        code: head.status.as_u16(),
        headers: head.headers,
        text,
    }
}
