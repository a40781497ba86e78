//! The store that forgets everything at its end: for tests, for simulation, and for control planes that are thrown away.

use crate::index::{Index, Loaded};
use crate::{Error, LeaseId, RangeRequest, RangeResponse, Revision, Store, Txn, TxnResponse, Watch};
use async_trait::async_trait;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A [`Store`] in memory.
#[derive(Debug)]
pub struct MemoryStore {
    inner: Arc<Inner>,
    /// Holds the task that ends leases, once there was a lease.
    expiry: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Inner {
    index: Arc<Index>,
    /// Held by the one writer.
    writer: Mutex<()>,
    granted: Notify,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Loaded::default())
    }

    /// A store that begins with what another one held.
    #[must_use]
    pub fn of(loaded: Loaded) -> Self {
        let index = Index::new(loaded);
        let inner = Inner {
            index,
            writer: Mutex::default(),
            granted: Notify::new(),
        };
        Self {
            inner: Arc::new(inner),
            expiry: Mutex::default(),
        }
    }

    fn end_leases_in_time(&self) {
        let mut expiry = self.expiry.lock().expect("nothing panics while it holds the set");
        if expiry.is_empty() {
            expiry.spawn(end_leases(Arc::downgrade(&self.inner)));
        }
        self.inner.granted.notify_one();
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.inner.index.close();
    }
}

impl Inner {
    fn writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().expect("nothing panics while it writes")
    }

    fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        let _writer = self.writer();
        let mut stage = self.index.stage();
        let response = self.index.stage_txn(&mut stage, txn)?;
        if !stage.is_empty() {
            self.index.apply(stage);
        }
        Ok(response)
    }

    fn grant(&self, ttl: Duration) -> LeaseId {
        let _writer = self.writer();
        let mut stage = self.index.stage();
        let lease = stage.grant(ttl);
        self.index.apply(stage);
        lease
    }

    fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let _writer = self.writer();
        let mut stage = self.index.stage();
        self.index.stage_revoke(&mut stage, lease)?;
        self.index.apply(stage);
        Ok(())
    }

    /// Ends the leases whose time is over; says when to look again.
    fn end_leases(&self) -> Option<Instant> {
        for lease in self.index.ended_leases(Instant::now()) {
            if let Err(error) = self.revoke(lease) {
                // Somebody revoked it in between.
                tracing::debug!(lease, %error, "lease was already ended");
            }
        }
        self.index.next_lease_end()
    }
}

/// Ends leases until the store is dropped (which aborts this task, too).
async fn end_leases(store: Weak<Inner>) {
    while let Some(inner) = store.upgrade() {
        match inner.end_leases() {
            None => inner.granted.notified().await,
            Some(end) => tokio::select! {
                biased;
                () = tokio::time::sleep_until(end) => {}
                () = inner.granted.notified() => {}
            },
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.inner.index.revision())
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        self.inner.index.range(&request)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        self.inner.txn(txn)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, Error> {
        Ok(Box::new(self.inner.index.watch(prefix, after)?))
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let _writer = self.inner.writer();
        self.inner.index.compact(revision)
    }

    fn history(&self) -> crate::History {
        self.inner.index.history()
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let lease = self.inner.grant(ttl);
        self.end_leases_in_time();
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner.index.keep_alive(lease)
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner.revoke(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_contract() {
        for (name, check) in crate::contract::checks() {
            println!("{name}");
            check(Arc::new(MemoryStore::new())).await;
        }
    }
}
