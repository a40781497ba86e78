//! A key-value store with the semantics of etcd v3: one revision counter, compare-and-swap transactions,
//! watches from any revision that is not compacted, leases.
//!
//! Guarantees every backend gives (and `contract` checks):
//! - A transaction is atomic and durable when its future resolves; it takes exactly one revision if it changes anything.
//! - A range at a revision sees precisely the writes up to it.
//! - A watch sees every change after its start once, in order, never half a transaction.
//!
//! This crate must not know what the values mean.

pub mod contract;
mod history;
pub mod index;
mod lease;
pub mod memory;
pub mod replica;
mod stage;
mod watch;

pub use stage::Stage;
pub use watch::IndexWatch;

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The number of a state of the store. 1 is the empty store; every effective transaction adds one.
pub type Revision = u64;

/// The id of a lease; never 0.
pub type LeaseId = u64;

/// One key with its value and history marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Arc<str>,
    /// The value as written.
    pub value: Bytes,
    /// The revision that made the key (after its last deletion).
    pub create_revision: Revision,
    /// The revision of the last write of the key.
    pub mod_revision: Revision,
    /// Writes since creation; 1 for a new key.
    pub version: u64,
    /// The lease that deletes the key when it ends.
    pub lease: Option<LeaseId>,
}

/// Which keys a range reads. Keys are ordered bytewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRequest {
    /// First key.
    pub start: String,
    /// First key that is not read any more; `None` reads just `start`.
    pub end: Option<String>,
    /// The state to read; `None` is the latest.
    pub revision: Option<Revision>,
    /// The most keys to return; 0 is no limit.
    pub limit: usize,
}

/// What a range read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's revision that the answer shows: the one asked for, or the latest.
    pub revision: Revision,
    /// Keys found, in order, at most `limit`.
    pub kvs: Vec<Arc<KeyValue>>,
    /// Keys in the range at that revision, also those beyond `limit`.
    pub count: usize,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key looked at.
    pub key: String,
    /// What its `mod_revision` must be; 0 means that the key must not exist.
    pub mod_revision: Revision,
}

/// A change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: Bytes,
        /// The lease it hangs on from now on.
        lease: Option<LeaseId>,
    },
    /// Removes a key; nothing happens if it is absent.
    Delete {
        /// The key.
        key: String,
    },
}

/// Changes made all together, if every condition holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Conditions, all of which must hold.
    pub compare: Vec<Compare>,
    /// Changes; no key may appear twice.
    pub ops: Vec<Op>,
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// About what it takes, beside the present.
    pub bytes: usize,
    /// The revision that half of its changes came before.
    pub middle: Revision,
    /// The latest revision known here.
    pub latest: Revision,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnResponse {
    /// All conditions held; the changes are durable at `revision`.
    Committed {
        /// The revision of the changes (the latest one if nothing changed).
        revision: Revision,
    },
    /// A condition failed and nothing changed.
    Conflict {
        /// The store's revision when the conditions were looked at.
        revision: Revision,
        /// What each compared key held then, in the order of `compare`.
        current: Vec<Option<Arc<KeyValue>>>,
    },
}

/// A change that a watch reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key was written.
    Put {
        /// What it holds now.
        kv: Arc<KeyValue>,
        /// What it held before; `None` if it was made by this write.
        previous: Option<Arc<KeyValue>>,
    },
    /// A key was removed.
    Delete {
        /// The revision of the removal.
        revision: Revision,
        /// What it held last.
        previous: Arc<KeyValue>,
    },
}

impl Event {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { kv, .. } => &kv.key,
            Self::Delete { previous, .. } => &previous.key,
        }
    }

    /// The revision of the change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { kv, .. } => kv.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// Changes handed over together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// The changes in order; may be empty (then the batch only tells progress).
    pub events: Vec<Arc<Event>>,
    /// The watch has now seen every change up to this revision.
    pub revision: Revision,
}

/// A stream of changes under a prefix. Dropping it ends the watch.
#[async_trait]
pub trait Watch: Send {
    /// The next changes; waits for some. `None` when the store is closed.
    ///
    /// While only keys of other prefixes change, a batch without events tells now and then (at least every 100 ms) how
    /// far the watch has seen. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the watch fell so far behind that its history is gone.
    async fn next(&mut self) -> Option<Result<WatchBatch, Error>>;
}

/// Why a store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The revision asked for is older than the oldest one kept.
    #[error("required revision {requested} has been compacted, the oldest kept is {oldest}")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// The oldest revision that can be read or watched from.
        oldest: Revision,
    },
    /// The revision asked for does not exist yet.
    #[error("required revision {requested} is a future revision, the latest is {latest}")]
    Future {
        /// What was asked for.
        requested: Revision,
        /// The latest revision.
        latest: Revision,
    },
    /// No lease has that id (any more).
    #[error("lease {0} not found")]
    LeaseNotFound(LeaseId),
    /// The medium failed; the transaction may or may not have taken effect.
    #[error("storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The medium cannot be reached; nothing was changed, and it may be tried again.
    #[error("storage cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The transaction is larger than the medium takes; nothing was changed.
    #[error("the transaction is too large for the storage")]
    TooLarge,
    /// The store is shut down.
    #[error("store is closed")]
    Closed,
}

/// A store with etcd v3 semantics.
///
/// Nothing is forgotten by itself: whoever uses the store calls [`Store::compact`] from time to time.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The latest revision.
    async fn revision(&self) -> Result<Revision, Error>;

    /// Reads keys.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::Future`] for a revision that cannot be read.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error>;

    /// Changes keys, if the conditions hold. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] for a put on an unknown lease; [`Error::Storage`] when the medium failed.
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error>;

    /// Reports each change of keys that start with `prefix`, made after revision `after`.
    ///
    /// # Errors
    /// [`Error::Compacted`] if changes after `after` are no longer kept, [`Error::Future`] if `after` does not exist yet.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, Error>;

    /// Forgets the history before `revision`: older states cannot be read nor watched from any more.
    ///
    /// # Errors
    /// [`Error::Compacted`] if more was forgotten already, [`Error::Future`] if `revision` does not exist yet.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// How much of the past is kept, for whoever decides how much to forget.
    fn history(&self) -> History;

    /// Makes a lease that ends after `ttl` unless it is kept alive; its keys are deleted then.
    ///
    /// As with etcd, the time starts anew when the store is opened again.
    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, Error>;

    /// Starts the lease's time anew.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] if it has ended.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error>;

    /// Ends a lease now and deletes its keys.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] if it has ended already.
    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), Error>;
}

/// The first key after all keys that start with `prefix`; `None` if there is none.
pub fn prefix_end(prefix: &str) -> Option<String> {
    // Keys are ASCII, so the last byte can be raised without leaving UTF-8.
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < 0x7f {
            bytes.push(last + 1);
            return String::from_utf8(bytes).ok();
        }
    }
    None
}
