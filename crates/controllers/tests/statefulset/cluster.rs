//! An API server, the controllers, and a kubelet that only says what a kubelet would say.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet};
use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod};
use apiserver::{ApiServer, User, in_process};
use controllers::Config;
use futures::StreamExt;
use http::Request;
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::client::Body;
use kube::runtime::wait::await_condition;
use kube::runtime::watcher::{Event, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Nothing here takes longer unless it never ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The image of containers that never become ready.
pub(crate) const BROKEN: &str = "broken";

pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// What became of pods, in order: `create web-0`, `ready web-0`, `end web-0`, `gone web-0`.
    history: watch::Receiver<Vec<String>>,
    /// How many requests the controllers have made.
    requests: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        // The node of these pods is a name and nothing more.
        let controllers = ["*", "-pod-garbage-collector-controller"];
        let config = Config {
            controllers: controllers.map(str::to_owned).to_vec(),
            ..Config::default()
        };
        Self::with(config).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let store = Arc::new(store::memory::MemoryStore::new());
        let server = ApiServer::new(store, apiserver::Config::default())
            .await
            .expect("an empty store is fine");
        let user = |name: &str| User {
            name: name.to_owned(),
            groups: vec!["system:masters".to_owned()],
            ..User::default()
        };
        let client = |name: &str| Client::new(in_process(server.router(), user(name)), "default");
        let shutdown = CancellationToken::new();
        let (log, history) = watch::channel(Vec::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(kubelet(client("kubelet"), log));
        let requests = Arc::new(AtomicUsize::new(0));
        let (counter, stop) = (requests.clone(), shutdown.clone());
        let counted = in_process(server.router(), user("controllers")).map_request(move |request: Request<Body>| {
            counter.fetch_add(1, Ordering::Relaxed);
            request
        });
        let controllers = Client::new(counted, "default");
        tasks.spawn(async move {
            controllers::run(controllers, config, stop)
                .await
                .expect("controllers run until shutdown");
        });
        // The server lives as long as somebody holds it.
        let stop = shutdown.clone();
        let admin = client("admin");
        tasks.spawn(async move {
            stop.cancelled().await;
            drop(server);
        });
        Self {
            client: admin,
            history,
            requests,
            shutdown,
            _tasks: tasks,
        }
    }

    pub(crate) fn sets(&self) -> Api<StatefulSet> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) async fn create(&self, set: &Value) {
        let set = serde_json::from_value(set.clone()).expect("a set");
        self.sets().create(&PostParams::default(), &set).await.expect("created");
    }

    pub(crate) async fn patch(&self, patch: Value) {
        self.sets()
            .patch("web", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .expect("patched");
    }

    pub(crate) async fn claims(&self) -> BTreeMap<String, String> {
        let api = Api::<PersistentVolumeClaim>::default_namespaced(self.client.clone());
        let claims = api.list(&ListParams::default()).await.expect("listed");
        claims
            .into_iter()
            .map(|claim| (claim.metadata.name.unwrap(), claim.metadata.uid.unwrap()))
            .collect()
    }

    pub(crate) async fn revisions(&self) -> Vec<(i64, String)> {
        let api = Api::<ControllerRevision>::default_namespaced(self.client.clone());
        let revisions = api.list(&ListParams::default()).await.expect("listed");
        let mut found: Vec<_> = revisions
            .into_iter()
            .map(|known| (known.revision, known.metadata.name.unwrap()))
            .collect();
        found.sort();
        found
    }

    /// Waits until the status of the set says so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&StatefulSet) -> bool) -> StatefulSet {
        let condition = |set: Option<&StatefulSet>| set.is_some_and(&is_so);
        let waited = tokio::time::timeout(PATIENCE, await_condition(self.sets(), "web", condition)).await;
        match waited {
            Ok(set) => set.expect("watched").expect("there"),
            Err(_) => panic!(
                "never {what}: {:#?}\n{:?}",
                self.sets().get("web").await,
                self.history.borrow()
            ),
        }
    }

    /// Waits until `replicas` pods are ready, updated, and all that there are.
    pub(crate) async fn until_settled(&self, replicas: i32) -> StatefulSet {
        self.until("settled", |set| {
            let status = set.status.clone().unwrap_or_default();
            let counts = [
                Some(status.replicas),
                status.ready_replicas,
                status.updated_replicas,
                status.current_replicas,
            ];
            status.observed_generation == set.metadata.generation
                && counts.iter().all(|count| count.unwrap_or(0) == replicas)
                && status.current_revision == status.update_revision
        })
        .await
    }

    /// Waits until the history of pods from an entry on is as long as this, and returns it.
    pub(crate) async fn history(&self, from: usize, len: usize) -> Vec<String> {
        let mut history = self.history.clone();
        let waited = tokio::time::timeout(PATIENCE, history.wait_for(|history| history.len() >= from + len)).await;
        assert!(waited.is_ok(), "the history stops: {:?}", self.history.borrow());
        self.history.borrow()[from..].to_vec()
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> usize {
        self.history.borrow().len()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A kubelet and a scheduler in one: each event of a pod brings it one stage further.
async fn kubelet(client: Client, log: watch::Sender<Vec<String>>) {
    let mut events = std::pin::pin!(watcher(Api::<Pod>::all(client.clone()), Default::default()));
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    while let Some(event) = events.next().await {
        while tasks.try_join_next().is_some() {}
        let (pod, is_gone) = match event.expect("the server is in this process") {
            Event::Apply(pod) | Event::InitApply(pod) => (pod, false),
            Event::Delete(pod) => (pod, true),
            Event::Init | Event::InitDone => continue,
        };
        let uid = pod.metadata.uid.clone().expect("served");
        let stage = if is_gone { "gone" } else { stage(&pod) };
        let last = known.insert(uid, stage);
        let name = pod.metadata.name.clone().expect("served");
        let is_news = last != Some(stage);
        if is_news && matches!((stage, last), ("new", None) | ("ready" | "end" | "gone", _)) {
            let word = if stage == "new" { "create" } else { stage };
            log.send_modify(|log| log.push(format!("{word} {name}")));
        }
        if is_news && !is_gone {
            tasks.spawn(advance(client.clone(), pod, stage));
        }
    }
}

fn stage(pod: &Pod) -> &'static str {
    let status = pod.status.clone().unwrap_or_default();
    let is_ready = status
        .conditions
        .iter()
        .flatten()
        .any(|known| known.type_ == "Ready" && known.status == "True");
    let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if pod.metadata.deletion_timestamp.is_some() {
        "end"
    } else if is_ready {
        "ready"
    } else if is_placed {
        "placed"
    } else {
        "new"
    }
}

async fn advance(client: Client, pod: Pod, stage: &'static str) {
    let name = pod.metadata.name.expect("served");
    let pods = Api::<Pod>::namespaced(client.clone(), &pod.metadata.namespace.expect("served"));
    let is_broken = pod
        .spec
        .is_some_and(|spec| spec.containers[0].image.as_deref() == Some(BROKEN));
    match stage {
        "new" => {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
                "target": { "apiVersion": "v1", "kind": "Node", "name": "model" },
            });
            tolerate(
                pods.create_subresource::<Value, Value>("binding", &name, &PostParams::default(), &binding)
                    .await,
            );
        }
        "placed" => {
            let since = Timestamp::now().to_string();
            let ready = if is_broken { "False" } else { "True" };
            let status = json!({ "status": {
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": ready, "lastTransitionTime": since }],
            } });
            tolerate(
                pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                    .await,
            );
        }
        "end" => {
            let preconditions = Preconditions {
                uid: pod.metadata.uid,
                resource_version: None,
            };
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            tolerate(pods.delete(&name, &params).await);
        }
        _ => {}
    }
}

/// Somebody was faster; the next event tells.
fn tolerate<T: Debug>(result: kube::Result<T>) {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        result => drop(result.expect("the kubelet may do that")),
    }
}

/// A set `web` with a claim for each pod, at revision `one`.
pub(crate) fn web(replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "web" },
        "spec": {
            "replicas": replicas, "serviceName": "nginx",
            "selector": { "matchLabels": { "app": "nginx" } },
            "template": {
                "metadata": { "labels": { "app": "nginx" } },
                "spec": { "containers": [{ "name": "nginx", "image": "one" }] },
            },
            "volumeClaimTemplates": [{
                "metadata": { "name": "www" },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Mi" } } },
            }],
        },
    })
}

/// The patch that changes the image.
pub(crate) fn image(image: &str) -> Value {
    json!({ "spec": { "template": { "spec": { "containers": [{ "name": "nginx", "image": image }] } } } })
}
