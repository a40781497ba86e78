//! `metrics.k8s.io`: what nodes and pods use, for `kubectl top` and whoever scales by it.
//!
//! Kubelets tell counters at `/metrics/resource`; what is used of late takes two of their answers. They are asked when
//! somebody wants to know, and at most every ten seconds. Who is the first to ask for a long time waits for a second
//! answer; nobody is asked while nobody wants to know.

use super::made_like;
use super::measured::{Measured, Use};
use crate::admission;
use crate::clock;
use crate::kubelet;
use crate::server::Server;
use crate::status::Outcome;
use crate::stored::Stored;
use api::error::Status;
use axum::body::Body;
use futures::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long what a kubelet told is good for.
const FRESH: Duration = Duration::from_secs(10);
/// What was used over a longer time than this says little about now.
const WINDOW_MAX: Duration = Duration::from_secs(5 * 60);
/// Over how long is measured when there is nothing older.
const FIRST_WINDOW: Duration = Duration::from_secs(1);
/// How long a kubelet may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// What a kubelet with a few hundred containers tells is a tenth of this.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// The last two answers of each kubelet, by the uid of its node.
#[derive(Debug, Default)]
pub(crate) struct ResourceMetrics {
    nodes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Answers>>>>,
}

#[derive(Debug, Default)]
struct Answers {
    earlier: Option<Answer>,
    later: Option<Answer>,
    /// If the kubelet did not answer when it was asked last.
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    status: Box<Status>,
}

#[derive(Clone, Debug)]
struct Answer {
    heard_at: Instant,
    measured: Arc<Measured>,
}

/// What a node told earlier and later.
type Pair = (Arc<Measured>, Arc<Measured>);

impl ResourceMetrics {
    fn of(&self, uid: &str) -> Arc<tokio::sync::Mutex<Answers>> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.entry(uid.to_owned()).or_default().clone()
    }

    fn keep(&self, uids: &[&str]) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|uid, _| uids.contains(&uid.as_str()));
    }
}

impl Answers {
    /// What was told at two moments, the later of which is not long ago. A kubelet that did not answer is left alone for
    /// a while: whoever waited for the same answer would wait in vain again, one after the other.
    async fn refresh(&mut self, server: &Server, node: &str) -> Outcome<Pair> {
        if let Some(failure) = &self.failure
            && failure.at.elapsed() < FRESH
        {
            return Err(failure.status.clone());
        }
        let pair = self.renew(server, node).await;
        self.failure = pair.as_ref().err().map(|status| Failure {
            at: Instant::now(),
            status: status.clone(),
        });
        pair
    }

    async fn renew(&mut self, server: &Server, node: &str) -> Outcome<Pair> {
        let later = match &self.later {
            Some(later) if later.heard_at.elapsed() < WINDOW_MAX => later.clone(),
            _ => {
                self.earlier = None;
                ask(server, node).await?
            }
        };
        self.later = Some(later.clone());
        if let Some(earlier) = &self.earlier
            && later.heard_at.elapsed() < FRESH
        {
            return Ok((earlier.measured.clone(), later.measured));
        }
        if self.earlier.is_none() {
            // As long as it takes for a difference that says something.
            tokio::time::sleep(FIRST_WINDOW).await;
        }
        let newest = ask(server, node).await?;
        let pair = (later.measured.clone(), newest.measured.clone());
        (self.earlier, self.later) = (Some(later), Some(newest));
        Ok(pair)
    }
}

async fn ask(server: &Server, node: &str) -> Outcome<Answer> {
    let text = tokio::time::timeout(ANSWER_TIMEOUT, fetch(server, node)).await;
    let text = text.map_err(|_| crate::status::internal("the kubelet did not answer in time".to_owned()))??;
    let now_ms = clock::now_s() * 1000;
    Ok(Answer {
        heard_at: Instant::now(),
        measured: Arc::new(Measured::read(&text, now_ms)),
    })
}

async fn fetch(server: &Server, node: &str) -> Outcome<String> {
    let kubelet = kubelet::of_node(server, node).await?;
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = http::Uri::from_static("/metrics/resource");
    let answer = kubelet
        .send(request)
        .await
        .map_err(|error| kubelet::unreachable(&error))?;
    let (head, body) = answer.into_response().into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| crate::status::internal(format!("the kubelet's answer broke off: {error}")))?;
    let body = body.to_bytes();
    if !head.status.is_success() {
        return Err(kubelet::refused(head.status, &body));
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// What nodes told, by their names; of one that cannot be asked nothing is known.
async fn pairs(server: &Server, nodes: &[Value]) -> HashMap<String, Pair> {
    let asked = nodes.iter().filter_map(|node| {
        let (name, uid) = (node["name"].as_str()?, node["uid"].as_str()?);
        let answers = server.resource_metrics.of(uid);
        Some(async move {
            let pair = answers.lock().await.refresh(server, name).await;
            pair.inspect_err(|status| tracing::warn!(node = name, "what it uses is not known: {}", status.message))
                .ok()
                .map(|pair| (name.to_owned(), pair))
        })
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// The metadata of all nodes; those that are gone are forgotten.
async fn nodes(server: &Server) -> Outcome<Vec<Value>> {
    let stored = server.read_all(admission::kind("", "nodes")).await?;
    let nodes: Vec<Value> = stored.iter().map(|node| node.metadata().clone()).collect();
    let uids: Vec<&str> = nodes.iter().filter_map(|node| node["uid"].as_str()).collect();
    server.resource_metrics.keep(&uids);
    Ok(nodes)
}

/// What nodes use: all of them, or one.
pub(super) async fn of_nodes(server: &Server, name: &str) -> Outcome<Vec<Value>> {
    let mut nodes = nodes(server).await?;
    nodes.retain(|node| name.is_empty() || node["name"] == name);
    let pairs = pairs(server, &nodes).await;
    let used = nodes.iter().filter_map(|node| {
        let (earlier, later) = pairs.get(node["name"].as_str()?)?;
        let used = later.node_since(earlier)?;
        let mut object = measured(node, &used);
        object["usage"] = used.quantities();
        Some(object)
    });
    Ok(used.collect())
}

/// What the containers of pods use: of all namespaces or one, of all pods or one.
pub(super) async fn of_pods(server: &Server, namespace: &str, name: &str) -> Outcome<Vec<Value>> {
    let pods = admission::kind("", "pods");
    let mut found = Vec::new();
    for kv in server.read_namespace(pods, namespace).await? {
        let stored = Stored::from(&kv);
        if name.is_empty() || stored.metadata()["name"] == name {
            found.push(stored.object(pods)?);
        }
    }
    let mut nodes = nodes(server).await?;
    nodes.retain(|node| found.iter().any(|pod| pod["spec"]["nodeName"] == node["name"]));
    let pairs = pairs(server, &nodes).await;
    let used = found.iter().filter_map(|pod| {
        let (earlier, later) = pairs.get(pod["spec"]["nodeName"].as_str()?)?;
        let metadata = &pod["metadata"];
        let containers = later.pod_since(earlier, metadata["namespace"].as_str()?, metadata["name"].as_str()?);
        // The pod is known as well as what is known least recently of it.
        let oldest = containers.iter().map(|(_, used)| *used).min_by_key(|used| used.at_ms)?;
        let mut object = measured(metadata, &oldest);
        let containers = containers
            .iter()
            .map(|(name, used)| json!({"name": name, "usage": used.quantities()}));
        object["containers"] = containers.collect();
        Some(object)
    });
    Ok(used.collect())
}

fn measured(metadata: &Value, used: &Use) -> Value {
    let at = Timestamp::from_millisecond(used.at_ms).unwrap_or_default();
    json!({
        "metadata": made_like(metadata),
        "timestamp": clock::text(at.as_second()),
        "window": used.window(),
    })
}
