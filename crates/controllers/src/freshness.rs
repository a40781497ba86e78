//! Reading one's own writes: no plan is made from caches that do not show yet what the last plan did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cache::Progress;
use crate::caches::{Caches, Freshness};
use crate::queue::WorkId;
use crate::send::{Effect, Written};

/// How long to wait for a write to show up before the key goes back to the queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// A write that a cache has to show.
#[derive(Clone, Debug)]
struct Expected {
    written: Written,
    /// How many lists each cache of the kind had begun: any later one shows the write.
    lists_begun: Vec<u64>,
}

/// The last writes of each key.
#[derive(Default)]
pub(crate) struct Ledger {
    expected: Mutex<HashMap<WorkId, Vec<Expected>>>,
}

impl Ledger {
    /// Remembers what was done for a key.
    pub(crate) fn note(&self, caches: &Caches, id: &WorkId, writes: Vec<Written>) {
        let expect = |written: Written| {
            let lists_begun = showing(caches, &written)
                .map(|cache| cache.follow().borrow().lists_begun)
                .collect();
            Expected { written, lists_begun }
        };
        let expected: Vec<_> = writes.into_iter().map(expect).collect();
        if !expected.is_empty() {
            self.expected
                .lock()
                .expect("no panic while held")
                .insert(id.clone(), expected);
        }
    }

    /// Waits until the caches show all that was done for a key. `false` if they do not in reasonable time.
    pub(crate) async fn caught_up(&self, caches: &Caches, id: &WorkId) -> bool {
        let expected = self.expected.lock().expect("no panic while held").get(id).cloned();
        let Some(expected) = expected else { return true };
        let all = async {
            for one in &expected {
                for (cache, lists_begun) in showing(caches, &one.written).zip(&one.lists_begun) {
                    wait_for(&cache, &one.written, *lists_begun).await;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, all).await.is_ok();
        if in_time {
            self.expected.lock().expect("no panic while held").remove(id);
        }
        in_time
    }
}

/// The caches in which a write will show up.
fn showing(caches: &Caches, written: &Written) -> impl Iterator<Item = Arc<dyn Freshness>> {
    let name = written.key.name.clone();
    let of_kind = caches.freshness_of(written.key.kind).into_iter();
    of_kind.filter(move |cache| cache.shows(&name))
}

async fn wait_for(cache: &Arc<dyn Freshness>, written: &Written, lists_begun: u64) {
    let mut progress = cache.follow();
    let shows = |progress: &Progress| {
        progress.lists_done > lists_begun
            || match &written.effect {
                Effect::Version(version) => progress.newest >= *version,
                Effect::Deleted(uid) => cache
                    .glimpse(&written.key)
                    .is_none_or(|(known, deleting)| known != *uid || deleting),
            }
    };
    // The cache lives as long as the table, so its progress never ends.
    if progress.wait_for(shows).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caches::{Watch, Watchlist};
    use api::k8s::api::core::v1::Pod;
    use controllers_plan::{Key, Kind};
    use futures::FutureExt;
    use serde_json::json;

    fn pod(name: &str, version: &str, deleting: bool) -> Pod {
        let deletion = deleting.then_some("2026-11-22T12:00:00Z");
        let metadata = json!({
            "namespace": "default", "name": name, "uid": format!("uid of {name}"), "resourceVersion": version,
            "deletionTimestamp": deletion,
        });
        serde_json::from_value(json!({ "metadata": metadata })).expect("a pod")
    }

    fn caches() -> Caches {
        let mut watchlist = Watchlist::default();
        (Watch::on::<Pod>(|_, _| Vec::new()).enlist)(&mut watchlist, 0);
        watchlist.caches
    }

    fn id() -> WorkId {
        WorkId {
            row: 0,
            key: key("web"),
        }
    }

    fn key(name: &str) -> Key {
        Key::new(Kind::of::<Pod>(), "default", name)
    }

    async fn is_current(ledger: &Ledger, caches: &Caches) -> bool {
        ledger.caught_up(caches, &id()).now_or_never().unwrap_or(false)
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_must_show_up_before_the_next_plan() {
        let (ledger, caches) = (Ledger::default(), caches());
        assert!(is_current(&ledger, &caches).await);
        let written = Written {
            key: key("a"),
            effect: Effect::Version(5),
        };
        ledger.note(&caches, &id(), vec![written]);
        caches.of::<Pod>().apply(pod("b", "4", false));
        assert!(!is_current(&ledger, &caches).await);
        caches.of::<Pod>().apply(pod("b", "6", false));
        assert!(is_current(&ledger, &caches).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_has_shown_up_when_the_object_is_gone_or_going() {
        let (ledger, caches) = (Ledger::default(), caches());
        caches.of::<Pod>().apply(pod("a", "4", false));
        let deleted = Written {
            key: key("a"),
            effect: Effect::Deleted("uid of a".to_owned()),
        };
        ledger.note(&caches, &id(), vec![deleted.clone()]);
        assert!(!is_current(&ledger, &caches).await);
        caches.of::<Pod>().apply(pod("a", "5", true));
        assert!(is_current(&ledger, &caches).await);
        caches.of::<Pod>().apply(pod("a", "6", false));
        ledger.note(&caches, &id(), vec![deleted]);
        caches.of::<Pod>().remove(pod("a", "7", false));
        assert!(is_current(&ledger, &caches).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_begun_after_the_write_shows_it_and_one_begun_before_does_not() {
        let (ledger, caches) = (Ledger::default(), caches());
        let pods = caches.of::<Pod>();
        pods.begin_list();
        let written = Written {
            key: key("a"),
            effect: Effect::Version(5),
        };
        ledger.note(&caches, &id(), vec![written]);
        pods.end_list();
        assert!(!is_current(&ledger, &caches).await);
        pods.begin_list();
        pods.end_list();
        assert!(is_current(&ledger, &caches).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cache_of_one_name_is_not_waited_for_when_another_is_written() {
        let mut watchlist = Watchlist::default();
        (Watch::named::<Pod>("a", |_, _| Vec::new()).enlist)(&mut watchlist, 0);
        let (ledger, caches) = (Ledger::default(), watchlist.caches);
        let written = |name| Written {
            key: key(name),
            effect: Effect::Version(5),
        };
        ledger.note(&caches, &id(), vec![written("b")]);
        assert!(is_current(&ledger, &caches).await);
        ledger.note(&caches, &id(), vec![written("a")]);
        assert!(!is_current(&ledger, &caches).await);
        caches.of::<Pod>().apply(pod("a", "5", false));
        assert!(is_current(&ledger, &caches).await);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_the_write_is_not_forgotten() {
        let (ledger, caches) = (Ledger::default(), caches());
        let written = Written {
            key: key("a"),
            effect: Effect::Version(5),
        };
        ledger.note(&caches, &id(), vec![written]);
        assert!(!ledger.caught_up(&caches, &id()).await);
        assert!(!is_current(&ledger, &caches).await);
    }
}
