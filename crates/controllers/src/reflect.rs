//! Keeps one cache in step with the server by one watch, and wakes the controllers that a change concerns.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use controllers_plan::{AnyObject, Kind};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tracing::warn;

use crate::cache::{Cache, Change};
use crate::caches::{Caches, Watched, kind_of};
use crate::head::Head;
use crate::queue::{Queue, WorkId};

/// The task that feeds one cache, before it is started.
pub(crate) type Reflection = Box<dyn FnOnce(Client, Arc<Caches>, Arc<Queue>) -> BoxFuture<'static, ()> + Send>;

/// Feeds a cache of whole objects.
pub(crate) fn typed<T: Watched>(cache: Arc<Cache<T>>) -> Reflection {
    Box::new(move |client, caches, queue| {
        let all = watcher::Config::default();
        let config = match cache.only() {
            Some(name) => all.fields(&format!("metadata.name={name}")),
            None => all,
        };
        let events = kube::runtime::watcher(Api::<T>::all(client), config)
            .default_backoff()
            .map(|event| event.map(|event| event.modify(|object| object.meta_mut().managed_fields = None)));
        Box::pin(follow(kind_of::<T>(), cache, events, caches, queue))
    })
}

/// Feeds a cache of metadata.
pub(crate) fn metadata(kind: Kind, cache: Arc<Cache<AnyObject>>) -> Reflection {
    Box::new(move |client, caches, queue| {
        let resource = ApiResource {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            api_version: kind.api_version(),
            kind: kind.kind.to_owned(),
            plural: kind.plural.to_owned(),
        };
        let api = Api::<Head>::all_with(client, &resource);
        let events = kube::runtime::watcher(api, watcher::Config::default()).default_backoff();
        let shared = Arc::new(kind);
        let events = events.map(move |event| event.map(|event| known(&shared, event)));
        Box::pin(follow(kind, cache, events, caches, queue))
    })
}

fn known(kind: &Arc<Kind>, event: Event<Head>) -> Event<AnyObject> {
    let known = |head: Head| AnyObject::new(kind.clone(), head.metadata);
    match event {
        Event::Apply(head) => Event::Apply(known(head)),
        Event::Delete(head) => Event::Delete(known(head)),
        Event::Init => Event::Init,
        Event::InitApply(head) => Event::InitApply(known(head)),
        Event::InitDone => Event::InitDone,
    }
}

async fn follow<T: Debug>(
    kind: Kind,
    cache: Arc<Cache<T>>,
    events: impl Stream<Item = watcher::Result<Event<T>>>,
    caches: Arc<Caches>,
    queue: Arc<Queue>,
) {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        let changes = match event {
            Ok(event) => take_in(&cache, event),
            Err(error) => lament(kind, &cache, &error),
        };
        for change in changes {
            for (row, key) in cache.concerned(&caches, &change) {
                queue.add(WorkId { row, key });
            }
        }
    }
}

fn take_in<T>(cache: &Cache<T>, event: Event<T>) -> Vec<Change<T>> {
    match event {
        Event::Init => {
            cache.begin_list();
            Vec::new()
        }
        Event::InitApply(object) | Event::Apply(object) => cache.apply(object).into_iter().collect(),
        Event::InitDone => cache.end_list(),
        Event::Delete(object) => vec![cache.remove(object)],
    }
}

/// Says what is wrong; the watcher itself goes on after a pause. A kind that is not served has no objects.
fn lament<T>(kind: Kind, cache: &Cache<T>, error: &watcher::Error) -> Vec<Change<T>> {
    if let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error
        && status.code == 404
    {
        cache.begin_list();
        return cache.end_list();
    }
    // kube's watch errors print their own source, so the chain would say everything twice.
    warn!(kind = kind.kind, %error, "watching goes on after a pause");
    Vec::new()
}
