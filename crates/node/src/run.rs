//! Puts the node agent together and runs it.

use crate::abilities::Abilities;
use crate::config::Config;
use crate::csi::{Drivers, plugins};
use crate::events::Recorder;
use crate::eviction::{self, Felt};
use crate::facts::Machine;
use crate::objects::Objects;
use crate::pods::{self, Registry};
use crate::resize::Grants;
use crate::runtime::{Runtime, timed};
use crate::stats::Rates;
use crate::{image_gc, lease, log_rotation, pleg, reclaim, registration, server};
use anyhow::Context;
use api::k8s::api::core::v1::Service;
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Images pulled at a time; more would only share the line.
const PULLS_MAX: usize = 3;
/// Between two tries to reach the runtime.
const RUNTIME_RETRY: Duration = Duration::from_millis(200);
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(10);
/// Pods wait this long at most for the first list of Services.
const SERVICES_TIMEOUT: Duration = Duration::from_secs(5);

/// What all parts of the agent share.
pub(crate) struct Node {
    /// The configuration.
    pub(crate) config: Config,
    /// The API.
    pub(crate) client: Client,
    /// The runtime.
    pub(crate) runtime: Runtime,
    /// Scheme of container ids.
    pub(crate) runtime_name: String,
    /// `name://version` of the runtime.
    pub(crate) runtime_version: String,
    /// Events.
    pub(crate) recorder: Recorder,
    /// Watched objects.
    pub(crate) objects: Objects,
    /// All Services, for environment variables.
    pub(crate) services: reflector::Store<Service>,
    /// The machine.
    pub(crate) machine: Machine,
    /// The Node's labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// The port of the kubelet API.
    pub(crate) kubelet_port: u16,
    /// Bounds the image pulls.
    pub(crate) pulls: Semaphore,
    /// What the machine has run out of, of late.
    pub(crate) pressure: Felt,
    /// What the runtime can do.
    pub(crate) abilities: Abilities,
    /// What pods were granted.
    pub(crate) grants: Grants,
    /// The last samples of CPU time.
    pub(crate) rates: Rates,
    /// The CSI drivers that are known.
    pub(crate) drivers: Drivers,
}

/// The listener of the kubelet API. Clients that read no Node status expect a fixed port, but another agent of this
/// machine may have it: then any free one is taken, and told in the Node's status.
async fn bind_kubelet_api(wanted: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = match TcpListener::bind(wanted).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(%wanted, "the kubelet API's port is taken, another is used");
            TcpListener::bind(SocketAddr::new(wanted.ip(), 0)).await
        }
        bound => bound,
    };
    listener.with_context(|| format!("cannot listen on {wanted} for the kubelet API"))
}

/// Runs the node agent until `shutdown`; containers go on.
///
/// # Errors
/// The configuration cannot work (no directory, no port, no runtime endpoint), or a part of the agent has ended.
pub async fn run(client: Client, mut config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    for dir in [&config.root_dir, &config.log_dir] {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    // Mount points are told by the kernel without links.
    config.root_dir = config
        .root_dir
        .canonicalize()
        .context("cannot resolve the node's root directory")?;
    let listener = bind_kubelet_api(config.listen).await?;
    let kubelet_port = listener
        .local_addr()
        .context("the kubelet API's listener has no address")?
        .port();
    let runtime = Runtime::connect(&config)?;
    let Some((runtime_name, version)) = runtime_version(&runtime, &shutdown).await else {
        return Ok(());
    };

    // Whatever ends this function ends all parts.
    let stop = shutdown.child_token();
    let _guard = stop.clone().drop_guard();
    let mut parts = JoinSet::new();
    let (recorder, send_events) = Recorder::new(client.clone(), config.node_name.clone(), stop.clone());
    parts.spawn(send_events);
    let (services, writer) = reflector::store();
    parts.spawn(follow_services(client.clone(), writer));
    let node = Arc::new(Node {
        machine: Machine::look(&config.root_dir),
        labels: registration::labels(&config.node_name, &config.node_labels),
        objects: Objects::new(client.clone()),
        pulls: Semaphore::new(PULLS_MAX),
        pressure: Felt::default(),
        abilities: Abilities::ask(&runtime).await,
        grants: Grants::default(),
        rates: Rates::default(),
        drivers: Drivers::default(),
        runtime_version: format!("{runtime_name}://{version}"),
        runtime_name,
        runtime,
        recorder,
        services,
        kubelet_port,
        client,
        config,
    });
    let registry = Registry::default();
    parts.spawn(server::serve(node.clone(), registry.clone(), listener, stop.clone()));
    parts.spawn(pleg::run(node.runtime.clone(), registry.clone(), stop.clone()));
    let Some(object) = registration::register(&node, &shutdown).await else {
        return Ok(());
    };
    let node_uid = object.uid().unwrap_or_default();
    parts.spawn(lease::run(node.clone(), node_uid, stop.clone()));
    parts.spawn(image_gc::run(node.clone(), object.clone(), stop.clone()));
    parts.spawn(registration::run(node.clone(), object, stop.clone()));
    parts.spawn(log_rotation::run(node.clone(), stop.clone()));
    parts.spawn(eviction::run(node.clone(), registry.clone(), stop.clone()));
    parts.spawn(reclaim::run(node.clone(), registry.clone(), stop.clone()));
    parts.spawn(plugins::run(node.clone(), stop.clone()));
    if tokio::time::timeout(SERVICES_TIMEOUT, node.services.wait_until_ready())
        .await
        .is_err()
    {
        tracing::warn!("the API has not told its Services; pods start without variables for them");
    }
    let pods = tokio::spawn(pods::run(node, registry, stop.clone()));
    watch_over(parts, pods, &shutdown).await
}

/// Waits for the end that was asked for; any other end of a part is an error.
async fn watch_over(
    mut parts: JoinSet<()>,
    mut pods: JoinHandle<()>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        ended = &mut pods => {
            ended.context("the pods' task broke down")?;
            anyhow::ensure!(shutdown.is_cancelled(), "the watch of pods ended");
            Ok(())
        }
        ended = parts.join_next() => {
            if let Some(ended) = ended {
                ended.context("a part of the node agent broke down")?;
            }
            anyhow::ensure!(shutdown.is_cancelled(), "a part of the node agent ended");
            pods.await.context("the pods' task broke down")
        }
    }
}

/// Waits for the runtime; its name and version.
async fn runtime_version(runtime: &Runtime, shutdown: &CancellationToken) -> Option<(String, String)> {
    let mut told = false;
    loop {
        let request = timed(cri::v1::VersionRequest { version: "v1".into() }, RUNTIME_TIMEOUT);
        match runtime.containers.clone().version(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                return Some((answer.runtime_name, answer.runtime_version));
            }
            Err(status) if told => tracing::debug!(error = %status, "the container runtime does not answer yet"),
            Err(status) => {
                told = true;
                tracing::info!(error = %status, "waiting for the container runtime");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(RUNTIME_RETRY) => {}
        }
    }
}

async fn follow_services(client: Client, writer: reflector::store::Writer<Service>) {
    let services = watcher(Api::<Service>::all(client), watcher::Config::default()).default_backoff();
    let mut events = reflector(writer, services).boxed();
    while let Some(event) = events.next().await {
        if let Err(error) = event {
            tracing::debug!(%error, "watching services failed, trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_of_the_kubelet_api_gives_way_to_another() {
        let first = bind_kubelet_api(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let taken = first.local_addr().unwrap();
        let second = bind_kubelet_api(taken).await.unwrap().local_addr().unwrap();
        assert_eq!(second.ip(), taken.ip());
        assert_ne!(second.port(), taken.port());
    }
}
