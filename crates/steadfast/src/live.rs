//! A rollout as it happens: what changes line by line and, on a terminal, the state of each pod below.

mod scene;
mod screen;

pub(crate) use scene::{Scene, is_ready};
pub(crate) use screen::{Screen, tell};

use anyhow::{Context, bail};
use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet};
use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod};
use futures::stream::{SelectAll, select_all};
use futures::{Stream, StreamExt, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use scene::Change;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

type Changes = Pin<Box<dyn Stream<Item = anyhow::Result<Change>> + Send>>;

/// How often ages and elapsed times are redrawn on a terminal.
const TICK: Duration = Duration::from_millis(500);

/// One namespace, watched and shown.
pub(crate) struct Live {
    /// What is there now.
    pub(crate) scene: Scene,
    /// Where it is shown.
    pub(crate) screen: Screen,
    changes: SelectAll<Changes>,
}

impl Live {
    /// Watches StatefulSets, pods and claims of a namespace. Returns when what exists already is known.
    ///
    /// # Errors
    /// When the API server cannot be watched.
    pub(crate) async fn open(client: &Client, namespace: &str, cluster_domain: &str) -> anyhow::Result<Self> {
        let changes = select_all([
            changes::<StatefulSet>(client, namespace, Change::Set),
            changes::<Pod>(client, namespace, Change::Pod),
            changes::<PersistentVolumeClaim>(client, namespace, Change::Claim),
            changes::<ControllerRevision>(client, namespace, Change::Revision),
        ]);
        let mut live = Self {
            scene: Scene::new(cluster_domain),
            screen: Screen::new(),
            changes,
        };
        while live.scene.unknown() > 0 {
            live.take().await?;
        }
        Ok(live)
    }

    async fn take(&mut self) -> anyhow::Result<Vec<String>> {
        let change = self.changes.next().await.context("the watches ended")??;
        Ok(self.scene.take(change))
    }

    /// Shows what happens until `done` says yes of the scene.
    ///
    /// # Errors
    /// When that takes longer than `limit`: with what the unfinished pods wait for.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Scene) -> bool,
    ) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + limit;
        let mut tick = tokio::time::interval(TICK);
        while !done(&self.scene) {
            let lines = tokio::select! {
                lines = self.take() => lines?,
                _ = tick.tick() => Vec::new(),
                () = tokio::time::sleep_until(end) => {
                    bail!("{what}: not within {} s\n{}", limit.as_secs(), self.scene.status().join("\n"))
                }
            };
            self.screen.show(&lines, &self.scene.status());
        }
        Ok(())
    }

    /// Shows what happens until `work` is done.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                lines = self.take() => { let lines = lines?; self.screen.show(&lines, &self.scene.status()) }
            }
        }
    }
}

fn changes<K>(client: &Client, namespace: &str, wrap: fn(watcher::Event<K>) -> Change) -> Changes
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    Box::pin(events.map_ok(wrap).map_err(anyhow::Error::from))
}
