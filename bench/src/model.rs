//! Model nodes and what is seen of pods and sets: pods run as soon as they have a node, and end as soon as they are
//! told to, so that what is measured is the control plane.

use crate::client::Client;
use crate::target::Target;
use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// The node that all pods are on. No scheduler is needed: the template names it.
pub(crate) const NODE: &str = "bench-node";

/// Nodes renew their leases this often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How many requests of the model node may be under way.
const REQUESTS_MAX: usize = 32;

/// When each step of a pod's life was first seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) created: Instant,
    pub(crate) ready: Option<Instant>,
    pub(crate) gone: Option<Instant>,
    is_told_to_run: bool,
    is_told_to_end: bool,
}

/// What a set's status says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SetStatus {
    pub(crate) replicas: usize,
    pub(crate) ready_replicas: usize,
    pub(crate) updated_replicas: usize,
    pub(crate) current_revision: String,
    pub(crate) update_revision: String,
}

/// All that has been seen.
#[derive(Default)]
pub(crate) struct Sight {
    /// Pods by uid.
    pub(crate) pods: HashMap<String, Seen>,
    pub(crate) sets: HashMap<String, SetStatus>,
}

/// The model: dropping it ends its tasks.
pub(crate) struct Model {
    client: Client,
    namespace: String,
    sight: Arc<Mutex<Sight>>,
    changed: watch::Receiver<()>,
    _tasks: JoinSet<()>,
}

/// An event of a watch; of the objects, what matters here.
#[derive(Deserialize)]
struct Told<T> {
    #[serde(rename = "type")]
    kind: String,
    object: T,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    uid: String,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: Metadata,
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Set {
    metadata: Metadata,
    status: SetStatus,
}

#[derive(Deserialize)]
struct List {
    metadata: ListMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
}

impl Model {
    /// Registers the node and begins to watch pods and sets of a namespace.
    ///
    /// # Errors
    /// When the server refuses something.
    pub(crate) async fn begin(target: &Target, namespace: &str) -> anyhow::Result<Self> {
        let mut client = Client::connect(target).await?;
        register(&mut client).await?;
        let sight = Arc::new(Mutex::new(Sight::default()));
        let (notify, changed) = watch::channel(());
        let mut tasks = JoinSet::new();
        tasks.spawn(heartbeats(Client::connect(target).await?));
        let node = Node {
            client: Client::connect(target).await?,
            pods: format!("/api/v1/namespaces/{namespace}/pods"),
            sight: sight.clone(),
            permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
        };
        let (pods, told) = (node.pods.clone(), notify.clone());
        let take = move |told: Told<Pod>| node.take(told);
        tasks.spawn(follow(Client::connect(target).await?, pods, take, told));
        let sets = format!("/apis/apps/v1/namespaces/{namespace}/statefulsets");
        let known = sight.clone();
        let take = move |told: Told<Set>| {
            lock(&known).sets.insert(told.object.metadata.name, told.object.status);
        };
        tasks.spawn(follow(Client::connect(target).await?, sets, take, notify));
        Ok(Self {
            client,
            namespace: namespace.to_owned(),
            sight,
            changed,
            _tasks: tasks,
        })
    }

    pub(crate) fn sight(&self) -> MutexGuard<'_, Sight> {
        lock(&self.sight)
    }

    /// Waits until what is seen pleases `is_there`.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub(crate) async fn wait(
        &self,
        what: &str,
        limit: Duration,
        mut is_there: impl FnMut(&Sight) -> bool,
    ) -> anyhow::Result<()> {
        let mut changed = self.changed.clone();
        let wait = async {
            while !is_there(&self.sight()) {
                if changed.changed().await.is_err() {
                    bail!("the watches ended");
                }
            }
            Ok(())
        };
        let waited = tokio::time::timeout(limit, wait).await;
        waited.with_context(|| format!("{what}: not within {limit:?}"))?
    }

    /// A request below the namespace of an API group, e.g. of `/apis/apps/v1`.
    ///
    /// # Errors
    /// When the server refuses it.
    pub(crate) async fn call(
        &self,
        method: Method,
        group: &str,
        rest: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<()> {
        let path = format!("{group}/namespaces/{}/{rest}", self.namespace);
        self.client.clone().call(method, &path, body).await.map(drop)
    }
}

fn lock(sight: &Mutex<Sight>) -> MutexGuard<'_, Sight> {
    sight.lock().expect("no panic while held")
}

/// The node, ready and large.
async fn register(client: &mut Client) -> anyhow::Result<()> {
    let node = json!({ "metadata": { "name": NODE, "labels": { "kubernetes.io/hostname": NODE } } });
    let made = client.call(Method::POST, "/api/v1/nodes", node.to_string()).await;
    if made.is_err() {
        // One that an earlier run left behind will do.
        client.call(Method::GET, &format!("/api/v1/nodes/{NODE}"), "").await?;
    }
    let room = json!({ "cpu": "10k", "memory": "10Ti", "pods": "100k" });
    let ready = json!({ "type": "Ready", "status": "True", "reason": "Bench", "message": "a model" });
    let status = json!({ "status": { "capacity": room, "allocatable": room, "conditions": [ready] } });
    let path = format!("/api/v1/nodes/{NODE}/status");
    client.call(Method::PATCH, &path, status.to_string()).await.map(drop)
}

/// Says for as long as the measurement takes that the node lives.
async fn heartbeats(mut client: Client) {
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    loop {
        let now = format!("{:.6}", jiff::Timestamp::now());
        let spec = json!({ "holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": now });
        let renewal = json!({ "spec": spec }).to_string();
        let path = format!("{leases}/{NODE}");
        if client.call(Method::PATCH, &path, renewal).await.is_err() {
            let lease = json!({ "metadata": { "name": NODE }, "spec": spec }).to_string();
            if let Err(error) = client.call(Method::POST, leases, lease).await {
                eprintln!("the node's lease cannot be made: {error:#}");
            }
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// What the node does about pods.
struct Node {
    client: Client,
    pods: String,
    sight: Arc<Mutex<Sight>>,
    permits: Arc<Semaphore>,
}

impl Node {
    fn take(&self, told: Told<Pod>) {
        let (now, meta) = (Instant::now(), told.object.metadata);
        let mut sight = lock(&self.sight);
        let seen = sight.pods.entry(meta.uid.clone()).or_insert_with(|| Seen {
            name: meta.name.clone(),
            created: now,
            ready: None,
            gone: None,
            is_told_to_run: false,
            is_told_to_end: false,
        });
        if told.kind == "DELETED" {
            seen.gone.get_or_insert(now);
            return;
        }
        let conditions = &told.object.status.conditions;
        let is_ready = conditions
            .iter()
            .any(|condition| condition.kind == "Ready" && condition.status == "True");
        if is_ready {
            seen.ready.get_or_insert(now);
        }
        let path = format!("{}/{}", self.pods, meta.name);
        if meta.deletion_timestamp.is_some() {
            if !std::mem::replace(&mut seen.is_told_to_end, true) {
                let end = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": meta.uid } });
                self.send(Method::DELETE, path, end.to_string());
            }
        } else if !std::mem::replace(&mut seen.is_told_to_run, true) {
            let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"];
            let conditions = conditions.map(|kind| json!({ "type": kind, "status": "True" }));
            let status = json!({ "status": { "phase": "Running", "podIP": "10.0.0.1", "conditions": conditions } });
            self.send(Method::PATCH, format!("{path}/status"), status.to_string());
        }
    }

    fn send(&self, method: Method, path: String, body: String) {
        let (mut client, permits) = (self.client.clone(), self.permits.clone());
        tokio::spawn(async move {
            let _permit = permits.acquire().await;
            // A pod may be gone before its node has spoken.
            if let Err(error) = client.call(method, &path, body).await
                && !error.to_string().contains("404")
            {
                eprintln!("the model node: {error:#}");
            }
        });
    }
}

/// Tells every event of a collection from now on. When a watch breaks, whoever waits for what it would have told gives
/// up in time.
async fn follow<T: DeserializeOwned>(
    mut client: Client,
    path: String,
    take: impl Fn(Told<T>),
    changed: watch::Sender<()>,
) {
    if let Err(error) = follow_once(&mut client, &path, &take, &changed).await {
        eprintln!("the watch of {path} broke: {error:#}");
    }
}

async fn follow_once<T: DeserializeOwned>(
    client: &mut Client,
    path: &str,
    take: &impl Fn(Told<T>),
    changed: &watch::Sender<()>,
) -> anyhow::Result<()> {
    let list = client
        .open(Method::GET, &format!("{path}?limit=1"), "application/json", "")
        .await?;
    let list: List = serde_json::from_slice(&list.into_body().collect().await?.to_bytes())?;
    let version = list.metadata.resource_version;
    let watch = format!("{path}?watch=true&timeoutSeconds=3600&resourceVersion={version}");
    let mut body = client
        .open(Method::GET, &watch, "application/json", "")
        .await?
        .into_body();
    let mut partial = BytesMut::new();
    while let Some(frame) = body.frame().await {
        partial.extend_from_slice(&frame?.into_data().unwrap_or_default());
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            take(serde_json::from_slice(&partial.split_to(end + 1))?);
        }
        changed.send_replace(());
    }
    bail!("it ended")
}

/// The names of the pods that live.
pub(crate) fn live(sight: &Sight) -> HashSet<&str> {
    let live = sight.pods.values().filter(|seen| seen.gone.is_none());
    live.map(|seen| seen.name.as_str()).collect()
}
