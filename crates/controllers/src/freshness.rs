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
            let of_kind = caches.freshness_of(written.key.kind);
            let lists_begun = of_kind
                .iter()
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
                let of_kind = caches.freshness_of(one.written.key.kind);
                for (cache, lists_begun) in of_kind.iter().zip(&one.lists_begun) {
                    wait_for(cache, &one.written, *lists_begun).await;
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
