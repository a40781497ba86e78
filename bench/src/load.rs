//! The load: ConfigMaps of 1 KiB in a namespace of their own.

use crate::client::Client;
use crate::figures::Report;
use crate::target::Target;
use anyhow::Context;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What is done to each object, in this order.
pub(crate) const VERBS: [Verb; 4] = [Verb::Create, Verb::Get, Verb::Patch, Verb::Delete];

/// How often a list is read.
const LISTS: usize = 10;

/// How long one event may take to reach all watches.
const EVENT_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Get,
    Patch,
    Delete,
}

/// A namespace to work in.
#[derive(Debug)]
pub(crate) struct Load {
    target: Target,
    /// The path of the collection.
    path: Arc<str>,
    namespace: String,
}

impl Load {
    pub(crate) async fn begin(target: Target) -> anyhow::Result<Self> {
        let namespace = format!("bench-{}", std::process::id());
        let load = Self {
            path: format!("/api/v1/namespaces/{namespace}/configmaps").into(),
            target,
            namespace,
        };
        let mut client = Client::connect(&load.target).await?;
        let body = json!({"metadata": {"name": load.namespace}}).to_string();
        client.call(Method::POST, "/api/v1/namespaces", body).await?;
        Ok(load)
    }

    /// Removes everything that was made.
    pub(crate) async fn end(&self) -> anyhow::Result<()> {
        let mut client = Client::connect(&self.target).await?;
        client.call(Method::DELETE, &self.path, "").await?;
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        client.call(Method::DELETE, &path, "").await.map(drop)
    }

    /// Does something to `objects` objects, from `clients` clients at once.
    pub(crate) async fn verb(&self, verb: Verb, clients: usize, objects: usize, report: &Report) -> anyhow::Result<()> {
        let (running, latencies) = self.each(verb, "load", clients, 0..objects, report).await?;
        let s = if clients == 1 { "" } else { "s" };
        report.end(&format!("{verb:?}, {clients} client{s}"), &running, objects, latencies);
        Ok(())
    }

    async fn each(
        &self,
        verb: Verb,
        prefix: &'static str,
        clients: usize,
        objects: std::ops::Range<usize>,
        report: &Report,
    ) -> anyhow::Result<(crate::figures::Running, Vec<Duration>)> {
        let mut connected = Vec::new();
        for _ in 0..clients {
            connected.push(Client::connect(&self.target).await?);
        }
        let running = report.begin();
        let mut tasks = JoinSet::new();
        for (first, mut client) in connected.into_iter().enumerate() {
            let (path, objects) = (self.path.clone(), objects.clone());
            tasks.spawn(async move {
                let mut latencies = Vec::new();
                for number in objects.skip(first).step_by(clients) {
                    let begun = Instant::now();
                    one(&mut client, verb, &path, &format!("{prefix}-{number}")).await?;
                    latencies.push(begun.elapsed());
                }
                anyhow::Ok(latencies)
            });
        }
        let mut latencies = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            latencies.extend(ended??);
        }
        Ok((running, latencies))
    }

    /// Lists of many objects: the latest state, and whatever the server has at hand.
    pub(crate) async fn lists(&self, objects: usize, clients: usize, report: &Report) -> anyhow::Result<()> {
        self.each(Verb::Create, "list", clients, 0..objects, report).await?;
        let mut client = Client::connect(&self.target).await?;
        for (what, query) in [("latest", ""), ("resourceVersion=0", "?resourceVersion=0")] {
            let (running, mut latencies, mut bytes) = (report.begin(), Vec::new(), 0);
            for _ in 0..LISTS {
                let begun = Instant::now();
                bytes = client.call(Method::GET, &format!("{}{query}", self.path), "").await?;
                latencies.push(begun.elapsed());
            }
            let what = format!("List {objects}, {what} ({} MiB)", bytes >> 20);
            report.end(&what, &running, LISTS, latencies);
        }
        self.each(Verb::Delete, "list", clients, 0..objects, report).await?;
        Ok(())
    }

    /// Makes one object after the other, each of which reaches all watches before the next is made.
    pub(crate) async fn fan_out(&self, watchers: usize, events: usize, report: &Report) -> anyhow::Result<()> {
        let (told, mut heard) = mpsc::channel(watchers * 4);
        let mut tasks = JoinSet::new();
        let mut client = Client::connect(&self.target).await?;
        for _ in 0..watchers {
            let path = format!(
                "{}?watch=true&timeoutSeconds=600&fieldSelector=metadata.name%21%3Dx",
                self.path
            );
            let response = client.open(Method::GET, &path, "application/json", "").await?;
            let told = told.clone();
            tasks.spawn(async move {
                let mut body = response.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    let lines = frame
                        .data_ref()
                        .map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                    for _ in 0..lines {
                        if told.send(Instant::now()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
        let mut maker = Client::connect(&self.target).await?;
        let (running, mut latencies) = (report.begin(), Vec::new());
        for number in 0..events {
            let begun = Instant::now();
            one(&mut maker, Verb::Create, &self.path, &format!("event-{number}")).await?;
            for _ in 0..watchers {
                let at = tokio::time::timeout(EVENT_LIMIT, heard.recv()).await;
                latencies.push(
                    at.context("an event was not told to all")?
                        .context("all watches ended")?
                        - begun,
                );
            }
        }
        report.end(
            &format!("Deliveries to {watchers} watches"),
            &running,
            watchers * events,
            latencies,
        );
        Ok(())
    }

    /// Stores many objects and reads the memory of the processes.
    pub(crate) async fn memory(&self, objects: usize, clients: usize, report: &Report) -> anyhow::Result<()> {
        report.memory("before")?;
        let (running, latencies) = self.each(Verb::Create, "memory", clients, 0..objects, report).await?;
        report.end(&format!("Create {objects} to stay"), &running, objects, latencies);
        report.memory(&format!("with {objects} objects"))
    }
}

async fn one(client: &mut Client, verb: Verb, path: &str, name: &str) -> anyhow::Result<()> {
    let object = format!("{path}/{name}");
    let answer = match verb {
        Verb::Create => client.call(Method::POST, path, config_map(name)).await,
        Verb::Get => client.call(Method::GET, &object, "").await,
        Verb::Patch => {
            client
                .call(Method::PATCH, &object, r#"{"data":{"patched":"yes"}}"#)
                .await
        }
        Verb::Delete => client.call(Method::DELETE, &object, "").await,
    };
    answer.map(drop)
}

/// A ConfigMap with 1 KiB of data.
fn config_map(name: &str) -> Bytes {
    let payload = "x".repeat(1024);
    let object =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"payload": payload}});
    object.to_string().into()
}
