//! What the controllers of StatefulSets do in which time: many pods at once, in order, updates, one pod replaced, each
//! possibly beside many sets that nobody touches.

use crate::client::Client;
use crate::figures::Report;
use crate::model::{Model, NODE, SetStatus, Sight, live};
use crate::target::Target;
use anyhow::Context;
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const APPS: &str = "/apis/apps/v1";
const CORE: &str = "/api/v1";

/// How many connections make the idle sets.
const MAKERS: usize = 16;

/// How long to wait for the ServiceAccount of a new namespace, without which pods may be refused.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(10);

/// After so long without an end, what is left is deleted again.
const CLEARING: Duration = Duration::from_secs(5);

/// Sizes of the measurements.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which measurements, instead of all
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Measurement>,
    /// Pods of the one parallel set
    #[arg(long, default_value_t = 1000)]
    parallel: usize,
    /// How many parallel sets at once
    #[arg(long, default_value_t = 20)]
    sets: usize,
    /// Pods of each of them
    #[arg(long, default_value_t = 50)]
    each: usize,
    /// Pods of the ordered set, of the one that is updated, and of the one that is healed
    #[arg(long, default_value_t = 100)]
    ordered: usize,
    /// How often one pod is deleted
    #[arg(long, default_value_t = 100)]
    deletions: usize,
    /// Sets without pods that are there all the time
    #[arg(long, default_value_t = 0)]
    idle: usize,
    /// Seconds after which a measurement is given up
    #[arg(long, default_value_t = 600)]
    limit: u64,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// One parallel set until all its pods are ready
    Parallel,
    /// Many parallel sets at once
    Many,
    /// One ordered set until all its pods are ready
    Ordered,
    /// A rolling update of it, one pod after the other
    Update,
    /// One pod deleted until its successor exists, again and again
    Heal,
}

struct Bench<'a> {
    model: Model,
    options: &'a Options,
    report: &'a Report,
    limit: Duration,
}

/// Does all measurements in a namespace of their own.
///
/// # Errors
/// When the server refuses something, or something takes too long.
pub(crate) async fn measure(target: &Target, options: &Options, report: &Report) -> anyhow::Result<()> {
    let namespace = format!("bench-{}", std::process::id());
    let mut client = Client::connect(target).await?;
    let body = json!({ "metadata": { "name": namespace } }).to_string();
    client.call(Method::POST, "/api/v1/namespaces", body).await?;
    await_account(&mut client, &namespace).await;
    idle_sets(target, &namespace, options.idle).await?;
    let bench = Bench {
        model: Model::begin(target, &namespace).await?,
        options,
        report,
        limit: Duration::from_secs(options.limit),
    };
    report.until_quiet().await?;
    report.memory("at first")?;
    let outcome = bench.all().await;
    report.memory("in the end")?;
    let collection = format!("{APPS}/namespaces/{namespace}/statefulsets");
    client.call(Method::DELETE, &collection, "").await?;
    let path = format!("/api/v1/namespaces/{namespace}");
    client.call(Method::DELETE, &path, "").await?;
    outcome
}

async fn await_account(client: &mut Client, namespace: &str) {
    let path = format!("{CORE}/namespaces/{namespace}/serviceaccounts/default");
    let end = Instant::now() + ACCOUNT_LIMIT;
    while client.call(Method::GET, &path, "").await.is_err() {
        if Instant::now() > end {
            eprintln!("{namespace} has no default ServiceAccount; going on without");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn idle_sets(target: &Target, namespace: &str, count: usize) -> anyhow::Result<()> {
    let path = format!("{APPS}/namespaces/{namespace}/statefulsets");
    let mut makers = JoinSet::new();
    for maker in 0..MAKERS.min(count) {
        let (mut client, path) = (Client::connect(target).await?, path.clone());
        makers.spawn(async move {
            for number in (maker..count).step_by(MAKERS) {
                let set = manifest(&format!("idle-{number}"), 0, "OrderedReady");
                client.call(Method::POST, &path, set.to_string()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(made) = makers.join_next().await {
        made??;
    }
    if count > 0 {
        // Whoever looks after them has its say first.
        await_quiet(target, &path, &format!("idle-{}", count - 1)).await?;
    }
    Ok(())
}

async fn await_quiet(target: &Target, path: &str, last: &str) -> anyhow::Result<()> {
    let mut client = Client::connect(target).await?;
    let end = Instant::now() + Duration::from_secs(600);
    let path = format!("{path}/{last}");
    loop {
        let text = client.read(&path).await?;
        let set: Value = serde_json::from_slice(&text)?;
        if set["status"]["observedGeneration"] == set["metadata"]["generation"] {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "the idle sets are not looked after");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn manifest(name: &str, replicas: usize, policy: &str) -> Value {
    let labels = json!({ "app": name });
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas, "serviceName": name, "podManagementPolicy": policy,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": "none" }] },
            },
        },
    })
}

impl Bench<'_> {
    async fn all(&self) -> anyhow::Result<()> {
        let options = self.options;
        let is_wanted = |what| options.only.is_empty() || options.only.contains(&what);
        if is_wanted(Measurement::Parallel) {
            self.creation("parallel", 1, options.parallel, "Parallel").await?;
        }
        if is_wanted(Measurement::Many) {
            self.creation("many", options.sets, options.each, "Parallel").await?;
        }
        if is_wanted(Measurement::Ordered) {
            self.creation("ordered", 1, options.ordered, "OrderedReady").await?;
        }
        if is_wanted(Measurement::Update) {
            self.update(options.ordered).await?;
        }
        if is_wanted(Measurement::Heal) {
            self.heal(options.ordered, options.deletions).await?;
        }
        Ok(())
    }

    async fn make(&self, name: &str, replicas: usize, policy: &str) -> anyhow::Result<()> {
        let set = manifest(name, replicas, policy).to_string();
        self.model.call(Method::POST, APPS, "statefulsets", set).await
    }

    async fn await_ready(&self, name: &str, replicas: usize) -> anyhow::Result<()> {
        let is_ready = |sight: &Sight| status(sight, name).ready_replicas == replicas;
        self.model.wait(&format!("{name} ready"), self.limit, is_ready).await
    }

    /// Removes the sets and all pods.
    async fn clear(&self, names: &[String]) -> anyhow::Result<()> {
        for name in names {
            self.model
                .call(Method::DELETE, APPS, &format!("statefulsets/{name}"), "")
                .await?;
        }
        let gone = |sight: &Sight| live(sight).is_empty();
        let end = Instant::now() + self.limit;
        // Who has not heard yet that its set is gone may still make a pod.
        loop {
            self.model.call(Method::DELETE, CORE, "pods", "").await?;
            match self.model.wait("all pods gone", CLEARING, gone).await {
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => {}
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Sets from their making until all their pods are ready, as their status says.
    async fn creation(&self, prefix: &str, sets: usize, each: usize, policy: &str) -> anyhow::Result<()> {
        let names: Vec<String> = (0..sets).map(|number| format!("{prefix}-{number}")).collect();
        let (running, began) = (self.report.begin(), Instant::now());
        for name in &names {
            self.make(name, each, policy).await?;
        }
        for name in &names {
            self.await_ready(name, each).await?;
        }
        let latencies: Vec<Duration> = {
            let sight = self.model.sight();
            let new = sight.pods.values().filter(|seen| seen.created > began);
            new.filter_map(|seen| Some(seen.ready? - began)).collect()
        };
        let what = format!("{sets} x {each} {policy} until ready");
        self.report.end(&what, &running, sets * each, latencies);
        self.clear(&names).await
    }

    /// A new template, one pod after the other.
    async fn update(&self, replicas: usize) -> anyhow::Result<()> {
        let name = "updated";
        self.make(name, replicas, "OrderedReady").await?;
        self.await_ready(name, replicas).await?;
        let before = status(&self.model.sight(), name).update_revision.clone();
        let running = self.report.begin();
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": { "bench": "new" } } } } });
        let path = format!("statefulsets/{name}");
        self.model.call(Method::PATCH, APPS, &path, patch.to_string()).await?;
        let is_done = |sight: &Sight| {
            let status = status(sight, name);
            let counts = [status.replicas, status.ready_replicas, status.updated_replicas];
            status.update_revision != before
                && status.current_revision == status.update_revision
                && counts.iter().all(|count| *count == replicas)
        };
        self.model.wait("the rolling update", self.limit, is_done).await?;
        self.report
            .end(&format!("Rolling update of {replicas}"), &running, replicas, Vec::new());
        self.clear(&[name.to_owned()]).await
    }

    /// From the deletion of a pod until its successor is seen.
    async fn heal(&self, replicas: usize, deletions: usize) -> anyhow::Result<()> {
        let name = "healed";
        self.make(name, replicas, "Parallel").await?;
        self.await_ready(name, replicas).await?;
        self.report.until_quiet().await?;
        let (running, mut latencies) = (self.report.begin(), Vec::new());
        for number in 0..deletions {
            let victim = format!("{name}-{}", number * 7 % replicas);
            let began = Instant::now();
            self.model
                .call(Method::DELETE, CORE, &format!("pods/{victim}"), "")
                .await?;
            let successor = |sight: &Sight| {
                let mut named = sight.pods.values().filter(|seen| seen.name == victim);
                named.find(|seen| seen.created > began && seen.ready.is_some()).cloned()
            };
            let is_there = |sight: &Sight| successor(sight).is_some();
            self.model.wait("a successor", self.limit, is_there).await?;
            let successor = successor(&self.model.sight()).context("it was there")?;
            latencies.push(successor.created - began);
        }
        let what = format!("Delete one of {replicas} until replaced");
        self.report.end(&what, &running, deletions, latencies);
        self.clear(&[name.to_owned()]).await
    }
}

fn status<'a>(sight: &'a Sight, name: &str) -> &'a SetStatus {
    const NONE: &SetStatus = &SetStatus {
        replicas: 0,
        ready_replicas: 0,
        updated_replicas: 0,
        current_revision: String::new(),
        update_revision: String::new(),
    };
    sight.sets.get(name).unwrap_or(NONE)
}
