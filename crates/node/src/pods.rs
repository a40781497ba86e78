//! The pods of this node: one worker each, and never two of one identity at a time.

use crate::run::Node;
use crate::runtime::FoundPod;
use crate::volumes::{self, claims::claim_name};
use crate::worker::{Eviction, Latest, Worker};
use api::k8s::api::core::v1::{ObjectReference, Pod, PodSpec};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use futures::StreamExt;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Between two tries to ask the runtime for what earlier runs left.
const RUNTIME_RETRY: Duration = Duration::from_secs(1);

/// Before a pod whose worker broke down gets another.
const BREAKDOWN_PAUSE: Duration = Duration::from_secs(5);

type Identity = (String, String);

/// What others may ask about the pods: wake a worker, find a pod.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
}

struct Entry {
    wake: Arc<Notify>,
    pod: watch::Sender<Latest>,
}

impl Registry {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Entry>) -> T) -> T {
        act(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something happened to a pod in the runtime.
    pub(crate) fn wake(&self, uid: &str) {
        self.with(|entries| {
            if let Some(entry) = entries.get(uid) {
                entry.wake.notify_one();
            }
        });
    }

    /// Something happened that may concern all.
    pub(crate) fn wake_all(&self) {
        self.with(|entries| entries.values().for_each(|entry| entry.wake.notify_one()));
    }

    /// A pod must leave the node.
    pub(crate) fn evict(&self, uid: &str, message: String) {
        self.with(|entries| {
            if let Some(entry) = entries.get(uid) {
                entry.pod.send_if_modified(|latest| {
                    let is_new = latest.evicted.is_none();
                    latest.evicted.get_or_insert(Eviction { message });
                    is_new
                });
            }
        });
    }

    /// All pods, in the order of their names.
    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        let mut pods: Vec<Arc<Pod>> =
            self.with(|entries| entries.values().map(|e| e.pod.borrow().pod.clone()).collect());
        pods.sort_by_key(|pod| identity(pod));
        pods
    }

    /// The pods that have a part of the node for themselves.
    fn taken(&self) -> Vec<Arc<Pod>> {
        let part = |entry: &Entry| {
            let latest = entry.pod.borrow();
            let is_over = latest.removed || latest.refused.is_some() || has_ended(&latest.pod);
            (!is_over).then(|| latest.pod.clone())
        };
        self.with(|entries| entries.values().filter_map(part).collect())
    }

    /// Whether a pod that is or was here may still use a claim.
    pub(crate) fn may_use(&self, claim: Option<&ObjectReference>) -> bool {
        let Some(claim) = claim else { return false };
        self.pods().iter().any(|pod| {
            let spec = pod.spec.as_ref();
            // Of what an earlier run left nobody knows the volumes.
            let is_unknown = spec.is_none_or(|s| s.containers.is_empty());
            let volumes = spec.into_iter().flat_map(|s| s.volumes.iter().flatten());
            let names_it = |v| claim_name(pod, v).is_some() && claim_name(pod, v) == claim.name;
            is_unknown || (pod.metadata.namespace == claim.namespace && volumes.into_iter().any(names_it))
        })
    }

    /// The pod of a name.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods()
            .into_iter()
            .find(|pod| identity(pod) == (namespace.to_owned(), name.to_owned()))
    }
}

fn identity(pod: &Pod) -> Identity {
    let meta = &pod.metadata;
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// Gives each pod bound to this node its worker.
struct Pods {
    node: Arc<Node>,
    registry: Registry,
    workers: JoinSet<String>,
    /// Removes what pods left that nobody knows any more; a driver that does not answer must not hold up others.
    sweepers: JoinSet<()>,
    /// Which task works on which pod, for those that break down.
    tasks: HashMap<tokio::task::Id, String>,
    /// Pods that wait for an earlier one of their name to end, by uid.
    held: BTreeMap<String, Arc<Pod>>,
    shutdown: CancellationToken,
}

/// Watches the pods of this node and runs their workers until shutdown.
pub(crate) async fn run(node: Arc<Node>, registry: Registry, shutdown: CancellationToken) {
    let api: Api<Pod> = Api::all(node.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", node.config.node_name));
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    let mut pods = Pods {
        node,
        registry,
        workers: JoinSet::new(),
        sweepers: JoinSet::new(),
        tasks: HashMap::new(),
        held: BTreeMap::new(),
        shutdown: shutdown.clone(),
    };
    // Pods of a list that is not complete yet: what earlier runs left is to be known before they start.
    let mut listed: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = pods.workers.join_next_with_id(), if !pods.workers.is_empty() => match ended {
                Ok((task, uid)) => pods.worker_ended(task, &uid),
                Err(error) => pods.worker_broke(&error),
            },
            event = events.next() => match event {
                None => break,
                Some(Err(error)) => tracing::warn!(%error, "watching pods failed, trying again"),
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(pod))) => {
                    listed.insert(uid(&pod), Arc::new(pod));
                }
                Some(Ok(Event::InitDone)) => pods.all_listed(std::mem::take(&mut listed)).await,
                Some(Ok(Event::Apply(pod))) => pods.seen(Arc::new(pod), false),
                Some(Ok(Event::Delete(pod))) => pods.seen(Arc::new(pod), true),
            },
        }
    }
    // Workers hear of the shutdown themselves.
    while pods.workers.join_next().await.is_some() {}
}

impl Pods {
    /// A pod is there, or gone.
    fn seen(&mut self, pod: Arc<Pod>, removed: bool) {
        let id = uid(&pod);
        let known = self.registry.with(|entries| {
            let Some(entry) = entries.get(&id) else { return false };
            entry.pod.send_modify(|latest| {
                latest.pod = pod.clone();
                latest.removed = removed;
            });
            true
        });
        if known {
            return;
        }
        if removed {
            self.held.remove(&id);
            return;
        }
        let name = identity(&pod);
        let taken = self
            .registry
            .with(|entries| entries.values().any(|e| identity(&e.pod.borrow().pod) == name));
        if taken {
            tracing::info!(
                pod = format!("{}/{}", name.0, name.1),
                "waits for the earlier pod of its name to end"
            );
            self.held.insert(id, pod);
        } else {
            self.start(pod, false);
        }
    }

    fn start(&mut self, pod: Arc<Pod>, removed: bool) {
        let id = uid(&pod);
        let refused = self.refusal(&pod).filter(|_| !removed);
        let (sender, latest) = watch::channel(Latest {
            pod,
            removed,
            evicted: None,
            refused,
        });
        let wake = Arc::new(Notify::new());
        self.registry.with(|entries| {
            entries.insert(
                id.clone(),
                Entry {
                    wake: wake.clone(),
                    pod: sender,
                },
            )
        });
        self.spawn(id, latest, wake, Duration::ZERO);
    }

    /// Why this node does not take a pod that it has not taken before: reason and message.
    fn refusal(&self, pod: &Pod) -> Option<(&'static str, String)> {
        let status = pod.status.as_ref();
        if status.is_some_and(|status| status.start_time.is_some()) || has_ended(pod) {
            return None;
        }
        let allocatable = self.node.machine.allocatable(&self.node.config);
        node_plan::unfit(pod, &allocatable, &self.registry.taken())
    }

    fn spawn(&mut self, id: String, latest: watch::Receiver<Latest>, wake: Arc<Notify>, pause: Duration) {
        let worker = Worker::new(self.node.clone(), latest, wake);
        let shutdown = self.shutdown.clone();
        let task = self.workers.spawn(async move {
            tokio::time::sleep(pause).await;
            worker.run(shutdown).await
        });
        self.tasks.insert(task.id(), id);
    }

    /// A worker that breaks down has found a mistake of ours; its pod gets another, which looks at everything anew.
    fn worker_broke(&mut self, error: &JoinError) {
        tracing::error!(%error, "a pod's worker broke down");
        let Some(id) = self.tasks.remove(&error.id()) else {
            return;
        };
        let parts = self
            .registry
            .with(|entries| entries.get(&id).map(|e| (e.pod.subscribe(), e.wake.clone())));
        if let Some((latest, wake)) = parts {
            self.spawn(id, latest, wake, BREAKDOWN_PAUSE);
        }
    }

    fn worker_ended(&mut self, task: tokio::task::Id, id: &str) {
        self.tasks.remove(&task);
        let ended = self.registry.with(|entries| entries.remove(id));
        let Some(entry) = ended else { return };
        let name = identity(&entry.pod.borrow().pod);
        let next = self
            .held
            .iter()
            .find(|(_, pod)| identity(pod) == name)
            .map(|(id, _)| id.clone());
        if let Some(pod) = next.and_then(|id| self.held.remove(&id)) {
            self.start(pod, false);
        }
    }

    /// The API has told of all pods: what is not among them is gone; what earlier runs left of such is ended, too.
    async fn all_listed(&mut self, pods: BTreeMap<String, Arc<Pod>>) {
        let listed: HashSet<String> = pods.keys().cloned().collect();
        self.registry.with(|entries| {
            for (id, entry) in entries.iter().filter(|(id, _)| !listed.contains(*id)) {
                tracing::debug!(uid = id, "the pod is gone from the API");
                entry.pod.send_modify(|latest| latest.removed = true);
            }
        });
        self.held.retain(|id, _| listed.contains(id));
        let Some(found) = self.found_pods().await else { return };
        for orphan in found.iter().filter(|f| !listed.contains(&f.uid)) {
            self.end_orphan(orphan);
        }
        let mut pods: Vec<_> = pods.into_values().collect();
        // What was taken stays, then first come, first served.
        pods.sort_by_key(|pod| {
            let started = pod.status.as_ref().and_then(|status| status.start_time.clone());
            (started.is_none(), started, pod.metadata.creation_timestamp.clone())
        });
        for pod in pods {
            self.seen(pod, false);
        }
        self.sweep(&found, &listed);
    }

    /// What the runtime has of us; `None` at shutdown.
    async fn found_pods(&self) -> Option<Vec<FoundPod>> {
        loop {
            match self.node.runtime.found_pods().await {
                Ok(found) => return Some(found),
                Err(error) => tracing::warn!(%error, "the runtime does not tell what it runs, trying again"),
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = tokio::time::sleep(RUNTIME_RETRY) => {}
            }
        }
    }

    /// Ends what is left of a pod that the API does not know any more.
    fn end_orphan(&mut self, orphan: &FoundPod) {
        if orphan.uid.is_empty() || self.registry.with(|entries| entries.contains_key(&orphan.uid)) {
            return;
        }
        tracing::info!(
            pod = format!("{}/{}", orphan.namespace, orphan.name),
            "ends what is left of a pod that is gone"
        );
        let metadata = ObjectMeta {
            name: Some(orphan.name.clone()),
            namespace: Some(orphan.namespace.clone()),
            uid: Some(orphan.uid.clone()),
            ..ObjectMeta::default()
        };
        let spec = PodSpec {
            termination_grace_period_seconds: orphan.grace_s,
            ..PodSpec::default()
        };
        // A pod of this name that has a worker already finds the name taken when it makes its sandbox, and waits.
        self.start(
            Arc::new(Pod {
                metadata,
                spec: Some(spec),
                status: None,
            }),
            true,
        );
    }

    /// Removes directories of pods that neither the API nor the runtime knows, unless an earlier sweep still does.
    fn sweep(&mut self, found: &[FoundPod], listed: &HashSet<String>) {
        while self.sweepers.try_join_next().is_some() {}
        if !self.sweepers.is_empty() {
            return;
        }
        let root = &self.node.config.root_dir;
        let Ok(entries) = std::fs::read_dir(root.join("pods")) else {
            return;
        };
        let ids = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let is_known = |id: &String| {
            let works = self.registry.with(|entries| entries.contains_key(id));
            works || listed.contains(id) || found.iter().any(|found| found.uid == *id)
        };
        for id in ids.filter(|id| !is_known(id)) {
            let node = self.node.clone();
            self.sweepers.spawn(async move {
                if let Err(why) = volumes::take_away(&node.config.root_dir, Some(&node.drivers), &id).await {
                    tracing::warn!(
                        why,
                        uid = id,
                        "the directory of a pod that is gone could not be removed"
                    );
                }
            });
        }
    }
}
