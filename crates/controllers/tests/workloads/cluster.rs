//! An API server, the controllers, and a scheduler and kubelet in one that only say what those would say.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::{Event as CoreEvent, Node, Pod};
use apiserver::{ApiServer, User, in_process};
use controllers::Config;
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::wait::{Condition, await_condition};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer unless it never ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// The image of containers that never become ready.
pub(crate) const BROKEN: &str = "broken";

/// The image of containers that end well at once.
pub(crate) const ENDS: &str = "ends";

/// The image of containers that fail at once, with exit code 3.
pub(crate) const FAILS: &str = "fails";

/// An object of the API.
pub(crate) trait Object:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static
{
}

impl<T: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static> Object for T {}

pub(crate) struct Cluster {
    pub(crate) client: Client,
    shutdown: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Cluster {
    /// A cluster in which nodes are names and nothing more.
    pub(crate) async fn start() -> Self {
        Self::with(&["*", "-pod-garbage-collector-controller", "-node-lifecycle-controller"]).await
    }

    pub(crate) async fn with(names: &[&str]) -> Self {
        let store = Arc::new(store::memory::MemoryStore::new());
        let server = ApiServer::new(store, apiserver::Config::default()).await.unwrap();
        let client = |name: &str| {
            Client::new(
                in_process(server.router(), User::new(name, ["system:masters"])),
                "default",
            )
        };
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(kubelet(client("kubelet")));
        let (controllers, stop) = (client("controllers"), shutdown.clone());
        let config = Config {
            controllers: names.iter().map(|&name| name.to_owned()).collect(),
            ..Config::default()
        };
        tasks.spawn(async move { controllers::run(controllers, config, stop).await.unwrap() });
        let (admin, stop) = (client("admin"), shutdown.clone());
        // The server lives as long as somebody holds it.
        tasks.spawn(async move {
            stop.cancelled().await;
            drop(server);
        });
        Self {
            client: admin,
            shutdown,
            _tasks: tasks,
        }
    }

    pub(crate) fn of<K: Object + Resource<Scope = kube::core::NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn all<K: Object>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    pub(crate) async fn node(&self, name: &str, more: Value) {
        let mut node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        json_patch::merge(&mut node, &more);
        create(&self.all::<Node>(), node).await;
    }

    pub(crate) async fn pods(&self, label: &str) -> Vec<Pod> {
        let params = ListParams::default().labels(label);
        self.of::<Pod>().list(&params).await.unwrap().items
    }

    /// Waits until so many pods with a label are as they should be and there are no others with it.
    pub(crate) async fn until_pods(&self, label: &str, count: usize, is_so: impl Fn(&Pod) -> bool) -> Vec<Pod> {
        let waited = tokio::time::timeout(PATIENCE, async {
            let params = watcher::Config::default().labels(label);
            let mut events = std::pin::pin!(watcher(self.of::<Pod>(), params));
            loop {
                let pods = self.pods(label).await;
                if pods.len() == count && pods.iter().all(&is_so) {
                    return pods;
                }
                events.next().await.unwrap().unwrap();
            }
        });
        match waited.await {
            Ok(pods) => pods,
            Err(_) => panic!("never {count} such pods {label}: {:#?}", self.pods(label).await),
        }
    }

    /// Waits for an event of this reason whose message contains that.
    pub(crate) async fn until_event(&self, reason: &str, message: &str) {
        let told = async {
            let mut stream = watcher(self.all::<CoreEvent>(), Default::default()).boxed();
            while let Some(event) = stream.next().await {
                if let Event::Apply(event) | Event::InitApply(event) = event.unwrap()
                    && event.reason.as_deref() == Some(reason)
                    && event.message.as_deref().unwrap_or_default().contains(message)
                {
                    return;
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, told).await;
        waited.unwrap_or_else(|_| panic!("no event {reason}: {message}"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) async fn create<K: Object>(api: &Api<K>, object: Value) -> K {
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

pub(crate) async fn patch<K: Object>(api: &Api<K>, name: &str, patch: Value) -> K {
    let patch = Patch::Merge(patch);
    api.patch(name, &PatchParams::default(), &patch).await.unwrap()
}

pub(crate) async fn patch_status<K: Object>(api: &Api<K>, name: &str, status: Value) {
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

pub(crate) async fn delete<K: Object>(api: &Api<K>, name: &str) {
    api.delete(name, &DeleteParams::background()).await.unwrap();
}

/// Waits until an object is as it should be.
pub(crate) async fn until<K: Object>(api: &Api<K>, name: &str, is_so: impl Fn(&K) -> bool) -> K {
    let condition = |object: Option<&K>| object.is_some_and(&is_so);
    until_some(api, name, condition).await.unwrap()
}

pub(crate) async fn until_gone<K: Object>(api: &Api<K>, name: &str) {
    until_some(api, name, |object: Option<&K>| object.is_none()).await;
}

async fn until_some<K: Object>(api: &Api<K>, name: &str, condition: impl Condition<K>) -> Option<K> {
    match tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition)).await {
        Ok(object) => object.unwrap(),
        Err(_) => panic!("never so: {:#?}", api.get_opt(name).await),
    }
}

/// A template of pods with a label `app`.
pub(crate) fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    })
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready.next().is_some() && pod.metadata.deletion_timestamp.is_none()
}

/// Each event of a pod brings it one stage further.
async fn kubelet(client: Client) {
    let mut events = std::pin::pin!(watcher(Api::<Pod>::all(client.clone()), Default::default()));
    let mut tasks = JoinSet::new();
    while let Some(event) = events.next().await {
        while tasks.try_join_next().is_some() {}
        if let Event::Apply(pod) | Event::InitApply(pod) = event.unwrap() {
            tasks.spawn(advance(client.clone(), pod));
        }
    }
}

async fn advance(client: Client, pod: Pod) {
    let name = pod.metadata.name.clone().unwrap();
    let pods = Api::<Pod>::namespaced(client.clone(), &pod.metadata.namespace.clone().unwrap());
    let spec = pod.spec.clone().unwrap();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
    if pod
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|known| known.contains_key("model"))
    {
        return;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if !has_ended && pod.metadata.finalizers.is_some() {
            // Who waits for the end of a pod must see it.
            let status = json!({"status": {"phase": "Failed"}});
            tolerate(
                pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                    .await,
            );
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        tolerate(pods.delete(&name, &params).await);
    } else if spec.node_name.is_none() {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node_for(&pod)},
        });
        let params = PostParams::default();
        tolerate(
            pods.create_subresource::<Value, Value>("binding", &name, &params, &binding)
                .await,
        );
    } else if phase == Some("Pending") {
        let status = json!({ "status": status(spec.containers[0].image.as_deref().unwrap()) });
        tolerate(
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                .await,
        );
    }
}

/// The node that a pod's affinity names, or any.
fn node_for(pod: &Pod) -> String {
    let fields = json!(pod);
    let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0";
    let name = fields.pointer(&format!("{terms}/matchFields/0/values/0"));
    name.and_then(Value::as_str).unwrap_or("model").to_owned()
}

fn status(image: &str) -> Value {
    let now = Timestamp::now().to_string();
    let ended = |code: i32| {
        json!([{
            "name": "c", "image": image, "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "finishedAt": now}},
        }])
    };
    match image {
        ENDS => json!({"phase": "Succeeded", "containerStatuses": ended(0)}),
        FAILS => json!({"phase": "Failed", "containerStatuses": ended(3)}),
        image => {
            let ready = if image == BROKEN { "False" } else { "True" };
            json!({
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}],
            })
        }
    }
}

/// Somebody was faster; the next event tells.
fn tolerate<T: Debug>(result: kube::Result<T>) {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        result => drop(result.unwrap()),
    }
}
