//! The first state of every cluster, made once: what an API server puts into an empty store.

use std::sync::{Arc, OnceLock};

use apiserver::ApiServer;
use store::index::Loaded;
use store::memory::MemoryStore;
use store::{KeyValue, RangeRequest, Revision, Store};

/// What the store of every cluster holds in the beginning.
struct Dawn {
    revision: Revision,
    keys: Vec<KeyValue>,
}

static DAWN: OnceLock<Dawn> = OnceLock::new();

/// A store as it is after the first start of an API server.
///
/// # Panics
/// If [`prepare`] was not called before.
pub(crate) fn store() -> MemoryStore {
    let dawn = DAWN.get().expect("prepared before any episode");
    MemoryStore::of(Loaded {
        revision: dawn.revision,
        keys: dawn.keys.clone(),
        ..Loaded::default()
    })
}

/// The plural names of the kinds of which there are objects in the beginning; some more than once.
///
/// # Panics
/// As [`store`].
pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
    let dawn = DAWN.get().expect("prepared before any episode");
    dawn.keys.iter().filter_map(|kv| crate::check::kind_of(&kv.key))
}

/// The first revision.
///
/// # Panics
/// As [`store`].
pub(crate) fn revision() -> Revision {
    DAWN.get().expect("prepared before any episode").revision
}

/// Makes the first state, unless it is made.
pub(crate) async fn prepare() {
    if DAWN.get().is_some() {
        return;
    }
    let store = Arc::new(MemoryStore::new());
    let server = ApiServer::new(store.clone(), apiserver::Config::default()).await;
    drop(server.expect("an empty store is fine"));
    let everything = RangeRequest {
        start: "/".to_owned(),
        end: Some("0".to_owned()),
        revision: None,
        limit: 0,
    };
    let held = store.range(everything).await.expect("a store in memory answers");
    // What is leased speaks of a server that is gone.
    let keys = held
        .kvs
        .into_iter()
        .filter(|kv| kv.lease.is_none())
        .map(|kv| KeyValue::clone(&kv))
        .collect();
    let revision = held.revision;
    drop(DAWN.set(Dawn { revision, keys }));
}
