//! Tells load balancers whether this node has endpoints of a Service: `healthCheckNodePort`.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use service_watch::Key;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// Tells balancers how much of the traffic this node can take.
const WEIGHT: &str = "x-load-balancing-endpoint-weight";

/// What a Service needs: a port, and what is said there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) port: u16,
    /// Ready endpoints on this node.
    pub(crate) endpoints: usize,
}

/// One listener.
#[derive(Debug)]
struct Answering {
    port: u16,
    endpoints: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

/// All listeners; they end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Health {
    listeners: HashMap<Key, Answering>,
}

impl Health {
    /// Makes what is answered for a Service so; `None`: nothing. `false` if the port cannot be had, which is to be
    /// tried again.
    pub(crate) async fn set(&mut self, key: &Key, wanted: Option<Check>) -> bool {
        let Some(check) = wanted else {
            self.listeners.remove(key);
            return true;
        };
        if let Some(known) = self.listeners.get(key).filter(|known| known.port == check.port) {
            known.endpoints.store(check.endpoints, Ordering::Relaxed);
            return true;
        }
        self.listeners.remove(key);
        match Answering::start(key.clone(), check).await {
            Ok(answering) => {
                self.listeners.insert(key.clone(), answering);
                true
            }
            Err(error) => {
                let Key { namespace, name } = key;
                tracing::warn!(namespace, name, port = check.port, %error, "load balancers get no answer");
                false
            }
        }
    }
}

impl Answering {
    async fn start(key: Key, check: Check) -> io::Result<Self> {
        // Both families at once, where the machine has both.
        let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, check.port)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, check.port)).await?,
        };
        let endpoints = Arc::new(AtomicUsize::new(check.endpoints));
        let counted = endpoints.clone();
        let answer = move || {
            let answer = answer(&key, counted.load(Ordering::Relaxed));
            async move { answer }
        };
        let router = axum::Router::new().fallback(answer);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "load balancers get no answer any more");
            }
        });
        Ok(Self {
            port: check.port,
            endpoints,
            _task: AbortOnDropHandle::new(task),
        })
    }
}

fn answer(key: &Key, endpoints: usize) -> Response {
    let status = match endpoints {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    let body = json!({
        "service": {"namespace": key.namespace, "name": key.name},
        "localEndpoints": endpoints,
        "serviceProxyHealthy": true,
    });
    let headers = [
        (CONTENT_TYPE.as_str(), "application/json".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
        (WEIGHT, endpoints.to_string()),
    ];
    (status, headers, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use std::process::Command;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    fn key() -> Key {
        Key {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
        }
    }

    async fn get(port: u16) -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[test]
    fn balancers_are_told_of_this_node_s_endpoints() {
        let thread = std::thread::spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                println!("no network of its own: {error}");
                return;
            }
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.unwrap().success());
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(balancers_are_told());
        });
        thread.join().unwrap();
    }

    async fn balancers_are_told() {
        let port = 32000;
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.unwrap();
        let check = |endpoints| Some(Check { port, endpoints });
        let mut health = Health::default();
        assert!(!health.set(&key(), check(0)).await, "the port is taken");
        drop(free);
        assert!(health.set(&key(), check(0)).await);
        assert!(get(port).await.unwrap().starts_with("HTTP/1.0 503"));
        assert!(health.set(&key(), check(2)).await);
        let answer = get(port).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.0 200") && answer.contains("x-load-balancing-endpoint-weight: 2"),
            "{answer}"
        );
        let expected = r#"{"localEndpoints":2,"service":{"name":"web","namespace":"shop"},"serviceProxyHealthy":true}"#;
        assert!(answer.ends_with(expected), "{answer}");
        assert!(health.set(&key(), None).await);
        // The listener ends with its task, which ends when it is next looked at.
        while get(port).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
