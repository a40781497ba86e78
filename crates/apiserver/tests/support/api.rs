//! A server on a store in memory, called without a socket.

#![allow(dead_code, reason = "each test binary uses a part of this file")]

use apiserver::{ApiServer, Config, InProcess, User, in_process};
use axum::body::Body;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Store;
use store::memory::MemoryStore;
use tower::ServiceExt;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!((200..300).contains(&self.code), "{}: {}", self.code, self.text);
        self.json()
    }

    /// Code, reason and message of a failure.
    #[track_caller]
    pub(crate) fn failure(&self) -> (u16, String, String) {
        let status = self.json();
        assert_eq!(status["kind"], "Status", "{status}");
        assert_eq!(status["code"], self.code, "{status}");
        let part = |name: &str| status[name].as_str().unwrap_or("").to_owned();
        (self.code, part("reason"), part("message"))
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let values = self.headers.get_all(header::WARNING).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }
}

/// A server and a user of it.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) service: InProcess,
    pub(crate) store: Arc<MemoryStore>,
    server: ApiServer,
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        Self::on(Arc::new(MemoryStore::new()), config).await
    }

    /// Another server on a store, or the same one started anew.
    pub(crate) async fn on(store: Arc<MemoryStore>, config: Config) -> Self {
        let server = ApiServer::new(store.clone() as Arc<dyn Store>, config).await.unwrap();
        let service = in_process(
            server.router(),
            User::new("admin", ["system:masters", "system:authenticated"]),
        );
        Self { service, store, server }
    }

    pub(crate) fn as_user(&self, user: User) -> Self {
        Self {
            service: in_process(self.server.router(), user),
            ..self.clone()
        }
    }

    pub(crate) fn router(&self) -> axum::Router {
        self.server.router()
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let response = self.open(method, path, headers, body.into()).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer {
            code: head.status.as_u16(),
            headers: head.headers,
            text,
        }
    }

    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> http::Response<Body> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::USER_AGENT, "test/1.0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.service.clone().oneshot(request.body(body).unwrap()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) -> Answer {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            object.to_string(),
        )
        .await
    }

    pub(crate) async fn put(&self, path: &str, object: &Value) -> Answer {
        self.send("PUT", path, &[("content-type", "application/json")], object.to_string())
            .await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Answer {
        let body = if options.is_null() {
            String::new()
        } else {
            options.to_string()
        };
        self.send("DELETE", path, &[("content-type", "application/json")], body)
            .await
    }

    /// A patch; `kind` is `json`, `merge` or `strategic-merge`.
    pub(crate) async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Answer {
        let content_type = format!("application/{kind}-patch+json");
        self.send("PATCH", path, &[("content-type", &content_type)], patch.to_string())
            .await
    }

    pub(crate) async fn apply(&self, path: &str, object: &Value) -> Answer {
        self.send(
            "PATCH",
            path,
            &[("content-type", "application/apply-patch+yaml")],
            object.to_string(),
        )
        .await
    }

    pub(crate) async fn watch(&self, path: &str) -> Events {
        let response = self.open("GET", path, &[], Body::empty()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Events {
            body: response.into_body().into_data_stream(),
            buffer: Vec::new(),
        }
    }

    /// A ConfigMap in namespace `default`.
    pub(crate) async fn config_map(&self, name: &str, labels: Value, data: Value) -> Value {
        let object = json!({"metadata": {"name": name, "labels": labels}, "data": data});
        self.post("/api/v1/namespaces/default/configmaps", &object).await.ok()
    }
}

/// The events of a watch, one by one.
pub(crate) struct Events {
    body: axum::body::BodyDataStream,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the server has ended the watch.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                // The object is written with a line end of its own before the event's.
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let piece = tokio::time::timeout(std::time::Duration::from_secs(10), self.body.next());
            self.buffer
                .extend_from_slice(&piece.await.expect("no event in time")?.unwrap());
        }
    }

    /// Type and name of the next event.
    pub(crate) async fn brief(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch ended");
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}
