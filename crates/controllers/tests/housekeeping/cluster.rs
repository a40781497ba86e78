//! An API server and the controllers.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::{Event, Node, Pod};
use apiserver::{ApiServer, User, in_process};
use controllers::Config;
use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::runtime::watcher::Event::{Apply, InitApply};
use kube::runtime::watcher::watcher;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer unless it never ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An object of the API.
pub(crate) trait Object:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static
{
}

impl<T: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static> Object for T {}

pub(crate) struct Cluster {
    pub(crate) client: Client,
    shutdown: CancellationToken,
    controllers: JoinHandle<anyhow::Result<()>>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let store = Arc::new(store::memory::MemoryStore::new());
        let server = ApiServer::new(store, apiserver::Config::default()).await.unwrap();
        let client = Client::new(
            in_process(server.router(), User::new("admin", ["system:masters"])),
            "default",
        );
        let shutdown = CancellationToken::new();
        let config = Config {
            root_ca: Some("certificate".to_owned()),
            // The nodes of these pods are names and nothing more.
            controllers: ["*", "-pod-garbage-collector-controller"].map(str::to_owned).to_vec(),
            ..Config::default()
        };
        let controllers = tokio::spawn(controllers::run(client.clone(), config, shutdown.clone()));
        Self {
            client,
            shutdown,
            controllers,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.controllers.await.unwrap().unwrap();
    }

    pub(crate) fn all<K: Object>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    pub(crate) fn of<K: Object + Resource<Scope = kube::core::NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn node(&self, name: &str) {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        create(&self.all::<Node>(), node).await;
    }

    /// A pod on a node, as far along as its status says.
    pub(crate) async fn pod(&self, name: &str, more: Value, status: Value) {
        let mut pod = json!({"metadata": {"name": name, "labels": {"app": "db"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
        json_patch(&mut pod, &more);
        let pods: Api<Pod> = self.of();
        create(&pods, pod).await;
        patch_status(&pods, name, status).await;
    }

    /// Waits for an event of this reason whose message begins so.
    pub(crate) async fn until_event(&self, reason: &str, message: &str) {
        let events: Api<Event> = self.all();
        let told = async {
            let mut stream = watcher(events, Default::default()).boxed();
            while let Some(event) = stream.next().await {
                if let Apply(event) | InitApply(event) = event.unwrap()
                    && event.reason.as_deref() == Some(reason)
                    && event.message.as_deref().unwrap_or_default().starts_with(message)
                {
                    return;
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, told).await;
        waited.unwrap_or_else(|_| panic!("no event {reason}: {message}"));
    }
}

/// Merges a patch into a value, as RFC 7386 says but for nulls, which stay.
fn json_patch(base: &mut Value, patch: &Value) {
    match patch.as_object() {
        Some(patch) => {
            for (key, value) in patch {
                json_patch(&mut base[key], value);
            }
        }
        None => *base = patch.clone(),
    }
}

pub(crate) async fn create<K: Object>(api: &Api<K>, object: Value) -> K {
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

pub(crate) async fn patch<K: Object>(api: &Api<K>, name: &str, patch: Value) {
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

pub(crate) async fn patch_status<K: Object>(api: &Api<K>, name: &str, status: Value) {
    let patch = json!({"status": status});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

pub(crate) async fn delete<K: Object>(api: &Api<K>, name: &str, params: &DeleteParams) {
    api.delete(name, params).await.unwrap();
}

/// Waits until an object is as it should be; `None` is one that does not exist.
pub(crate) async fn until<K: Object>(api: &Api<K>, name: &str, condition: impl Condition<K>) -> Option<K> {
    match tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition)).await {
        Ok(object) => object.unwrap(),
        Err(_) => panic!("never so: {:#?}", api.get_opt(name).await),
    }
}

pub(crate) async fn until_gone<K: Object>(api: &Api<K>, name: &str) {
    until(api, name, |object: Option<&K>| object.is_none()).await;
}

pub(crate) fn uid<K: Object>(object: &K) -> &str {
    object.meta().uid.as_deref().unwrap()
}
