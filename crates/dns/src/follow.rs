//! Follows Services and EndpointSlices of all namespaces.

use crate::cluster::{Cluster, SliceKey};
use crate::records::{Key, Service, Slice};
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
use std::sync::{Arc, RwLock};

/// The cluster as both followers and the handler share it.
pub(crate) type Shared = Arc<RwLock<Cluster>>;

/// Why the lock is never poisoned.
pub(crate) const NO_PANIC: &str = "nothing panics while it holds the cluster";

/// Follows Services until the task is dropped.
pub(crate) async fn services(client: Client, cluster: Shared) {
    follow(
        Api::<core::Service>::all(client),
        "services",
        |service| {
            let mut cluster = cluster.write().expect(NO_PANIC);
            let key = service_key(&service)?;
            match Service::read(&service) {
                Some((key, service)) => cluster.set_service(key, service),
                None => cluster.remove_service(&key),
            }
            Some(key)
        },
        |service| {
            if let Some(key) = service_key(&service) {
                cluster.write().expect(NO_PANIC).remove_service(&key);
            }
        },
        |seen| {
            cluster
                .write()
                .expect(NO_PANIC)
                .services_are_known(|key| seen.contains(key))
        },
    )
    .await;
}

/// Follows EndpointSlices until the task is dropped.
pub(crate) async fn slices(client: Client, cluster: Shared) {
    follow(
        Api::<discovery::EndpointSlice>::all(client),
        "endpointslices",
        |slice| {
            let mut cluster = cluster.write().expect(NO_PANIC);
            let key = slice_key(&slice)?;
            match Slice::read(&slice) {
                Some((owner, slice)) => cluster.set_slice(key.clone(), owner, slice),
                None => cluster.remove_slice(&key),
            }
            Some(key)
        },
        |slice| {
            if let Some(key) = slice_key(&slice) {
                cluster.write().expect(NO_PANIC).remove_slice(&key);
            }
        },
        |seen| {
            cluster
                .write()
                .expect(NO_PANIC)
                .slices_are_known(|key| seen.contains(key))
        },
    )
    .await;
}

fn service_key(service: &core::Service) -> Option<Key> {
    let (namespace, name) = names(service)?;
    Some(Key { namespace, name })
}

fn slice_key(slice: &discovery::EndpointSlice) -> Option<SliceKey> {
    names(slice)
}

fn names<K: Resource<DynamicType = ()>>(object: &K) -> Option<(String, String)> {
    Some((object.namespace()?.into_owned(), object.name()?.into_owned()))
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
            Err(error) => tracing::debug!(what, error = %error_chain(&error), "watch is interrupted"),
        }
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
