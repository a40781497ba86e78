//! Follows Services and EndpointSlices of all namespaces.

use crate::cluster::{Cluster, SliceKey};
use crate::service::{Key, Service, Slice, key_of};
use api::k8s::api::core::v1 as core;
use api::k8s::api::discovery::v1 as discovery;
use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector::Lookup};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// The cluster as both followers and the applier share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    cluster: Arc<Mutex<Cluster>>,
    changed: Arc<Notify>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().expect("nothing panics while it holds the cluster")
    }

    /// Waits until something was told since the last wait.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn tell<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let told = change(&mut self.lock());
        self.changed.notify_one();
        told
    }
}

/// Follows Services until the task is dropped.
pub(crate) async fn services(client: Client, shared: Shared) {
    follow(
        Api::<core::Service>::all(client),
        "services",
        |service| {
            let key = key_of(&service)?;
            shared.tell(|cluster| cluster.set_service(key.clone(), Service::read(&service)));
            Some(key)
        },
        |service| {
            if let Some(key) = key_of(&service) {
                shared.tell(|cluster| cluster.set_service(key, None));
            }
        },
        |seen: &HashSet<Key>| shared.tell(|cluster| cluster.services_are_known(|key| seen.contains(key))),
    )
    .await;
}

/// Follows EndpointSlices until the task is dropped.
pub(crate) async fn slices(client: Client, shared: Shared, node_name: String) {
    follow(
        Api::<discovery::EndpointSlice>::all(client),
        "endpointslices",
        |slice| {
            let key = slice_key(&slice)?;
            shared.tell(|cluster| match Slice::read(&slice, &node_name) {
                Some((owner, slice)) => cluster.set_slice(key.clone(), owner, slice),
                None => cluster.remove_slice(&key),
            });
            Some(key)
        },
        |slice| {
            if let Some(key) = slice_key(&slice) {
                shared.tell(|cluster| cluster.remove_slice(&key));
            }
        },
        |seen: &HashSet<SliceKey>| shared.tell(|cluster| cluster.slices_are_known(|key| seen.contains(key))),
    )
    .await;
}

fn slice_key(slice: &discovery::EndpointSlice) -> Option<SliceKey> {
    Some((slice.namespace()?.into_owned(), slice.name()?.into_owned()))
}

/// Reads a watch, which is made anew with growing pauses as long as the API cannot be reached.
async fn follow<K, I>(
    api: Api<K>,
    what: &str,
    mut applied: impl FnMut(K) -> Option<I>,
    mut deleted: impl FnMut(K),
    mut listed: impl FnMut(&HashSet<I>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    I: Eq + Hash,
{
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut seen = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => seen.clear(),
            Ok(Event::InitApply(object)) => seen.extend(applied(object)),
            Ok(Event::InitDone) => listed(&std::mem::take(&mut seen)),
            Ok(Event::Apply(object)) => drop(applied(object)),
            Ok(Event::Delete(object)) => deleted(object),
            Err(error) => tracing::debug!(what, %error, "watch is interrupted"),
        }
    }
}
