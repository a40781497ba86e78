//! Watches one kind and tells what changed, one object at a time, also across a broken watch.

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use tokio::sync::mpsc;

/// A change of one object of a kind.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// It exists, as it is here.
    Is(Box<K>),
    /// It is gone: namespace (empty if it had none) and name.
    Gone(scheduler_plan::Key),
    /// All objects that exist have been told.
    Synced,
}

/// Follows all objects of a kind until nobody listens; `wrap` makes the message out of a change.
pub(crate) async fn follow<K, T>(api: Api<K>, changes: mpsc::Sender<T>, wrap: impl Fn(Change<K>) -> T + Send)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    let mut stream = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut known = BTreeSet::new();
    let mut listed = BTreeSet::new();
    while let Some(event) = stream.next().await {
        let news = match event {
            Err(error) => {
                tracing::warn!(%kind, error = format!("{:#}", anyhow::Error::new(error)), "the watch broke and is renewed");
                continue;
            }
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(key_of(&object));
                known.insert(key_of(&object));
                vec![Change::Is(Box::new(without_managed_fields(object)))]
            }
            // What was there before the watch broke and is not listed now went away in between.
            Ok(watcher::Event::InitDone) => {
                let gone: Vec<_> = known.difference(&listed).cloned().collect();
                known = std::mem::take(&mut listed);
                gone.into_iter().map(Change::Gone).chain([Change::Synced]).collect()
            }
            Ok(watcher::Event::Apply(object)) => {
                known.insert(key_of(&object));
                vec![Change::Is(Box::new(without_managed_fields(object)))]
            }
            Ok(watcher::Event::Delete(object)) => {
                known.remove(&key_of(&object));
                vec![Change::Gone(key_of(&object))]
            }
        };
        for change in news {
            if changes.send(wrap(change)).await.is_err() {
                return;
            }
        }
    }
}

fn key_of<K: Resource>(object: &K) -> scheduler_plan::Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn without_managed_fields<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}
