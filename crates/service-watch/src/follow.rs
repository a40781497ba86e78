//! Follows Services and EndpointSlices of all namespaces.

use crate::services::{Key, SliceKey, Told, owner_of};
use api::k8s::api::core::v1::Service;
use api::k8s::api::discovery::v1::EndpointSlice;
use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector::Lookup};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// Follows both until the future is dropped, and tells what there is, at first and whenever it changes.
///
/// `service` and `slice` read what the caller needs of an object; `None`: it is of no interest.
pub async fn follow<S, L>(
    client: Client,
    service: impl Fn(&Service) -> Option<S>,
    slice: impl Fn(&EndpointSlice) -> Option<L>,
    tell: impl Fn(Told<S, L>),
) {
    let services = follow_kind(
        Api::<Service>::all(client.clone()),
        "services",
        |object, is_there| {
            let (namespace, name) = names(object)?;
            let key = Key { namespace, name };
            let service = if is_there { service(object) } else { None };
            tell(Told::Service(key.clone(), service));
            Some(key)
        },
        |seen: HashSet<Key>| tell(Told::Services(seen)),
    );
    let slices = follow_kind(
        Api::<EndpointSlice>::all(client),
        "endpointslices",
        |object, is_there| {
            let key = names(object)?;
            let read = || Some((owner_of(object)?, slice(object)?));
            tell(Told::Slice(key.clone(), if is_there { read() } else { None }));
            Some(key)
        },
        |seen: HashSet<SliceKey>| tell(Told::Slices(seen)),
    );
    futures::join!(services, slices);
}

fn names<K: Resource<DynamicType = ()>>(object: &K) -> Option<(String, String)> {
    Some((object.namespace()?.into_owned(), object.name()?.into_owned()))
}

/// Reads a watch, which is made anew with growing pauses as long as the API cannot be reached.
async fn follow_kind<K, I>(
    api: Api<K>,
    what: &str,
    mut told: impl FnMut(&K, bool) -> Option<I>,
    mut listed: impl FnMut(HashSet<I>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    I: Eq + Hash,
{
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut seen = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => seen.clear(),
            Ok(Event::InitApply(object)) => seen.extend(told(&object, true)),
            Ok(Event::InitDone) => listed(std::mem::take(&mut seen)),
            Ok(Event::Apply(object)) => drop(told(&object, true)),
            Ok(Event::Delete(object)) => drop(told(&object, false)),
            Err(error) => tracing::debug!(what, error = %error_chain(&error), "watch is interrupted"),
        }
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
