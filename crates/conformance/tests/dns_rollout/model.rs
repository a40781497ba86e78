//! A node that is played: pods become Ready and go, and what address was whose is written down.

use anyhow::Context;
use futures::StreamExt;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const NODE: &str = "model";

/// How long a pod takes to become Ready, and to end.
const START: Duration = Duration::from_millis(250);
const END: Duration = Duration::from_millis(50);

/// How often the node says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Few, so that each is soon another pod's.
const ADDRESSES: u8 = 8;

/// One pod's time with its address.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// The pod's number in its set.
    pub(crate) pod: usize,
    uid: String,
    pub(crate) address: Ipv4Addr,
    /// When it was about to be told.
    pub(crate) from: Instant,
    /// When the API server had taken it over, together with the pod's readiness.
    pub(crate) ready: Option<Instant>,
    /// When it was seen that the pod is to go.
    pub(crate) leaving: Option<Instant>,
    /// When it was gone for sure.
    pub(crate) until: Option<Instant>,
}

/// All pods that there were.
pub(crate) type History = Vec<Span>;

/// The node; its tasks end when it is dropped.
pub(crate) struct Model {
    tasks: JoinSet<anyhow::Result<()>>,
    history: Arc<Mutex<History>>,
}

/// A kind of the core or of `apps`.
pub(crate) fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "StatefulSet" => ("apps", "apps/v1"),
        _ => ("", "v1"),
    };
    ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: version.to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}

impl Model {
    /// Registers the node and plays it.
    pub(crate) async fn start(client: Client) -> anyhow::Result<Self> {
        let nodes: Api<DynamicObject> = Api::all_with(client.clone(), &resource("Node"));
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        nodes
            .patch(NODE, &PatchParams::apply("model"), &Patch::Apply(&node))
            .await?;
        let mut tasks = JoinSet::new();
        let history = Arc::new(Mutex::new(History::new()));
        tasks.spawn(beat(nodes));
        let pods = Pods {
            api: Api::namespaced_with(client, "default", &resource("Pod")),
            history: history.clone(),
            free: Arc::new(Mutex::new(
                (1..=ADDRESSES).map(|host| Ipv4Addr::new(10, 244, 0, host)).collect(),
            )),
        };
        tasks.spawn(pods.play());
        Ok(Self { tasks, history })
    }

    /// Waits for something that must not happen.
    pub(crate) async fn broken(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            other => anyhow::anyhow!("the model ended: {other:?}"),
        }
    }

    pub(crate) fn history(&self) -> History {
        self.history.lock().expect("no panic").clone()
    }
}

async fn beat(nodes: Api<DynamicObject>) -> anyhow::Result<()> {
    let capacity = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
    loop {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": now});
        let status = json!({"status": {"capacity": capacity, "allocatable": capacity, "conditions": [condition]}});
        nodes
            .patch_status(NODE, &PatchParams::default(), &Patch::Merge(status))
            .await?;
        tokio::time::sleep(HEARTBEAT).await;
    }
}

#[derive(Clone)]
struct Pods {
    api: Api<DynamicObject>,
    history: Arc<Mutex<History>>,
    free: Arc<Mutex<VecDeque<Ipv4Addr>>>,
}

impl Pods {
    async fn play(self) -> anyhow::Result<()> {
        let mut pods = std::pin::pin!(watcher(self.api.clone(), watcher::Config::default()).applied_objects());
        let (mut started, mut ended) = (HashSet::new(), HashSet::new());
        let mut work: JoinSet<anyhow::Result<()>> = JoinSet::new();
        loop {
            let pod = tokio::select! {
                pod = pods.next() => pod.context("the watch of pods ended")??,
                Some(done) = work.join_next() => {
                    done??;
                    continue;
                }
            };
            let (name, uid) = (
                pod.metadata.name.unwrap_or_default(),
                pod.metadata.uid.unwrap_or_default(),
            );
            if pod.metadata.deletion_timestamp.is_some() {
                if ended.insert(uid.clone()) {
                    self.with(&uid, |span| span.leaving = Some(Instant::now()));
                    work.spawn(self.clone().end(name, uid));
                }
            } else if pod.data["spec"]["nodeName"] == NODE && started.insert(uid.clone()) {
                work.spawn(self.clone().start(name, uid));
            }
        }
    }

    async fn start(self, name: String, uid: String) -> anyhow::Result<()> {
        tokio::time::sleep(START).await;
        let address = self
            .free
            .lock()
            .expect("no panic")
            .pop_front()
            .context("no address is free")?;
        let number = name.rsplit('-').next().and_then(|number| number.parse().ok());
        self.history.lock().expect("no panic").push(Span {
            pod: number.context("a pod without a number")?,
            uid: uid.clone(),
            address,
            from: Instant::now(),
            ready: None,
            leaving: None,
            until: None,
        });
        let conditions = json!([{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}]);
        let status: Value = json!({"metadata": {"uid": uid}, "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions,
        }});
        self.api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await?;
        self.with(&uid, |span| span.ready = Some(Instant::now()));
        Ok(())
    }

    async fn end(self, name: String, uid: String) -> anyhow::Result<()> {
        tokio::time::sleep(END).await;
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        self.api.delete(&name, &parameters).await?;
        let mut address = None;
        self.with(&uid, |span| {
            span.until = Some(Instant::now());
            address = Some(span.address);
        });
        self.free.lock().expect("no panic").extend(address);
        Ok(())
    }

    fn with(&self, uid: &str, change: impl FnOnce(&mut Span)) {
        let mut history = self.history.lock().expect("no panic");
        if let Some(span) = history.iter_mut().find(|span| span.uid == uid) {
            change(span);
        }
    }
}
