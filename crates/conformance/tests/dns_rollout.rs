//! Names while pods are replaced without a pause: 1,000 questions a second, and no answer may name an address that was
//! not that pod's within the last second, nor may a pod that is Ready be without its name.
//!
//! Nodes and pods are played by the test, which therefore knows at what moments an address was whose. There are fewer
//! addresses than pods that come, so an old answer would name a stranger.

#[path = "dns_rollout/load.rs"]
mod load;
#[path = "dns_rollout/model.rs"]
mod model;

use anyhow::{Context, ensure};
use conformance::control_plane::ControlPlane;
use conformance::dns_server::DnsServer;
use futures::StreamExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use load::{Answer, Load};
use model::{History, Model, resource};
use serde_json::json;
use std::time::Duration;

/// Pods of the set.
const REPLICAS: usize = 5;

/// How often all pods are replaced.
const ROLLS: usize = 4;

/// How long ago an address may have been a pod's to be named as its own.
const MEMORY: Duration = Duration::from_secs(1);

/// How long a pod must have been Ready, and remain so, to count as one that must have its name.
const SETTLED: Duration = Duration::from_millis(500);

/// A machine that stands still shows nothing about names: its longest pause counts this many times on top.
const PAUSES: u32 = 10;

#[test]
fn no_name_leads_to_a_stranger_while_pods_are_replaced() {
    let plane = ControlPlane::alone("dns-rollout").unwrap();
    let server = DnsServer::start(&plane.kubeconfig(), plane.address(), "none").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
    runtime
        .block_on(async {
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            run(Client::try_from(config)?, &server).await
        })
        .unwrap();
}

async fn run(client: Client, server: &DnsServer) -> anyhow::Result<()> {
    let mut model = Model::start(client.clone()).await?;
    make_set(&client).await?;
    roll(&client, None).await?;
    let load = Load::start(server.address(), REPLICAS).await?;
    for number in 0..ROLLS {
        tokio::select! {
            rolled = tokio::time::timeout(Duration::from_secs(120), roll(&client, Some(number))) => {
                rolled.context("the roll-out does not end")??;
            }
            broken = model.broken() => return Err(broken),
        }
    }
    let report = load.stop().await?;
    let history = model.history();
    let pause = report.pause * PAUSES;
    println!(
        "{} answers, {} unanswered, {} pods, longest pause {:?}",
        report.answers.len(),
        report.unanswered,
        history.len(),
        report.pause
    );
    ensure!(
        history.len() >= REPLICAS * (ROLLS + 1),
        "only {} pods came",
        history.len()
    );
    ensure!(
        report.unanswered * 100 <= report.answers.len(),
        "{} questions got no answer",
        report.unanswered
    );
    let named = report
        .answers
        .iter()
        .filter(|answer| !answer.addresses.is_empty())
        .count();
    ensure!(
        named * 2 > report.answers.len(),
        "only {named} of {} answers name anything",
        report.answers.len()
    );
    let mut oldest = Duration::ZERO;
    for answer in &report.answers {
        oldest = oldest.max(strangers(answer, &history, MEMORY + pause)?);
        missing(answer, &history, SETTLED + pause)?;
    }
    println!("an address was named for {oldest:?} at most after its pod was gone");
    Ok(())
}

/// Every address was the pod's (of the Service: some pod's) within the last moments. How long ago, at most.
fn strangers(answer: &Answer, history: &History, memory: Duration) -> anyhow::Result<Duration> {
    let mut oldest = Duration::ZERO;
    for address in &answer.addresses {
        let spans = history.iter().filter(|span| span.address == *address);
        let own = spans
            .clone()
            .filter(|span| answer.pod.is_none_or(|pod| span.pod == pod));
        let told = own.filter(|span| span.from <= answer.answered);
        let ages = told.map(|span| {
            span.until
                .map_or(Duration::ZERO, |until| answer.asked.saturating_duration_since(until))
        });
        let age = ages.min().filter(|age| *age <= memory);
        let spans: Vec<_> = spans.collect();
        oldest = oldest.max(age.with_context(|| format!("{answer:?} names a stranger; the address was {spans:#?}"))?);
    }
    Ok(oldest)
}

/// Every pod that was Ready all the time is named.
fn missing(answer: &Answer, history: &History, settled: Duration) -> anyhow::Result<()> {
    for span in history
        .iter()
        .filter(|span| answer.pod.is_none_or(|pod| span.pod == pod))
    {
        let is_ready = span.ready.is_some_and(|ready| ready + settled <= answer.asked)
            && span.leaving.is_none_or(|leaving| leaving >= answer.answered + settled);
        ensure!(
            !is_ready || answer.addresses.contains(&span.address),
            "{answer:?} leaves out {span:#?}"
        );
    }
    Ok(())
}

async fn make_set(client: &Client) -> anyhow::Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}},
    });
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"},
        "spec": {
            "serviceName": "web", "replicas": REPLICAS, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "none"}]},
            },
        },
    });
    for (kind, object) in [("Service", service), ("StatefulSet", set)] {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource(kind));
        let params = PatchParams::apply("dns-rollout");
        api.patch("web", &params, &Patch::Apply(&object)).await?;
    }
    Ok(())
}

/// Replaces all pods and waits until they are Ready; without a number, waits for the first ones.
async fn roll(client: &Client, number: Option<usize>) -> anyhow::Result<()> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource("StatefulSet"));
    let generation = match number {
        Some(number) => {
            let annotations = json!({"roll": number.to_string()});
            let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
            let patched = api.patch("web", &PatchParams::default(), &Patch::Merge(patch)).await?;
            patched.metadata.generation.unwrap_or_default()
        }
        None => 1,
    };
    let is_done = |set: &DynamicObject| {
        let status = &set.data["status"];
        let is_all = |field: &str| status[field].as_u64() == u64::try_from(REPLICAS).ok();
        status["observedGeneration"].as_i64() >= Some(generation)
            && is_all("readyReplicas")
            && is_all("updatedReplicas")
            && status["currentRevision"] == status["updateRevision"]
    };
    let mut sets = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
    while let Some(set) = sets.next().await {
        if is_done(&set?) {
            return Ok(());
        }
    }
    anyhow::bail!("the watch ended")
}
