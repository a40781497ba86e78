//! ConfigMaps, Secrets, claims and volumes that pods refer to: one watch per object, shared by the pods, ended when no
//! pod needs it.

use api::k8s::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::task::AbortOnDropHandle;

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A ConfigMap: namespace, name.
    ConfigMap(String, String),
    /// A Secret: namespace, name.
    Secret(String, String),
    /// A claim: namespace, name.
    Claim(String, String),
    /// A PersistentVolume: name.
    Volume(String),
}

/// What the API said of an object last.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// Nothing yet.
    Unknown,
    /// There is none.
    Absent,
    /// It.
    Here(Arc<Object>),
}

/// An object of one of the watched kinds.
#[derive(Debug)]
pub(crate) enum Object {
    /// A ConfigMap.
    ConfigMap(ConfigMap),
    /// A Secret.
    Secret(Secret),
    /// A claim.
    Claim(Box<PersistentVolumeClaim>),
    /// A PersistentVolume.
    Volume(Box<PersistentVolume>),
}

/// All watches.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
    entries: Arc<Mutex<HashMap<Key, Weak<Watched>>>>,
}

/// One watch; it ends when the last owner drops it.
pub(crate) struct Watched {
    latest: watch::Receiver<Seen>,
    _task: AbortOnDropHandle<()>,
}

impl Objects {
    /// Watches nothing yet.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            entries: Arc::default(),
        }
    }

    /// The watch of an object, begun now if there is none.
    pub(crate) fn watch(&self, key: &Key) -> Arc<Watched> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = entries.get(key).and_then(Weak::upgrade) {
            return watched;
        }
        entries.retain(|_, watched| watched.strong_count() > 0);
        let (latest_in, latest) = watch::channel(Seen::Unknown);
        let task = tokio::spawn(follow(self.client.clone(), key.clone(), latest_in));
        let watched = Arc::new(Watched {
            latest,
            _task: AbortOnDropHandle::new(task),
        });
        entries.insert(key.clone(), Arc::downgrade(&watched));
        watched
    }
}

impl Watched {
    /// What is known once anything is.
    pub(crate) async fn known(&self) -> Seen {
        let mut latest = self.latest.clone();
        let known = latest.wait_for(|seen| !matches!(seen, Seen::Unknown)).await;
        known.map_or(Seen::Unknown, |seen| seen.clone())
    }

    /// An item for each change from now on.
    pub(crate) fn changes(&self) -> BoxStream<'static, ()> {
        WatchStream::from_changes(self.latest.clone()).map(drop).boxed()
    }
}

async fn follow(client: Client, key: Key, latest: watch::Sender<Seen>) {
    match &key {
        Key::ConfigMap(ns, name) => follow_api(Api::namespaced(client, ns), name, Object::ConfigMap, latest).await,
        Key::Secret(ns, name) => follow_api(Api::namespaced(client, ns), name, Object::Secret, latest).await,
        Key::Claim(ns, name) => {
            follow_api(
                Api::namespaced(client, ns),
                name,
                |o| Object::Claim(Box::new(o)),
                latest,
            )
            .await
        }
        Key::Volume(name) => follow_api(Api::all(client), name, |o| Object::Volume(Box::new(o)), latest).await,
    }
}

async fn follow_api<K>(api: Api<K>, name: &str, wrap: fn(K) -> Object, latest: watch::Sender<Seen>)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    let mut found = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => found = None,
            Ok(Event::InitApply(object)) => found = Some(object),
            Ok(Event::InitDone) => {
                let seen = found.take().map_or(Seen::Absent, |o| Seen::Here(Arc::new(wrap(o))));
                latest.send_replace(seen);
            }
            Ok(Event::Apply(object)) => {
                latest.send_replace(Seen::Here(Arc::new(wrap(object))));
            }
            Ok(Event::Delete(_)) => {
                latest.send_replace(Seen::Absent);
            }
            Err(error) => tracing::debug!(%error, name, "watching an object failed, trying again"),
        }
    }
}
