//! Reading and changing single objects in the store.

use crate::names;
use crate::server::Server;
use crate::status::{Outcome, store_failed};
use crate::stored::Stored;
use api::error::Status;
use api::kinds::Kind;
use bytes::Bytes;
use std::sync::Arc;
use store::{Compare, KeyValue, LeaseId, Op, RangeRequest, Revision, Txn, TxnResponse};

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It took effect at this revision.
    At(Revision),
    /// Another writer was first; these conditions (by their place) did not hold.
    Lost(Vec<usize>),
}

/// A write of one object with whatever must change along with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    txn: Txn,
}

impl Change {
    /// Requires that a key is at a revision; 0 means absent.
    pub(crate) fn require(&mut self, key: String, mod_revision: Revision) {
        self.txn.compare.push(Compare { key, mod_revision });
    }

    pub(crate) fn put(&mut self, key: String, value: Bytes, lease: Option<LeaseId>) {
        self.txn.ops.push(Op::Put { key, value, lease });
    }

    pub(crate) fn delete(&mut self, key: String) {
        self.txn.ops.push(Op::Delete { key });
    }

    /// The key of a condition, by its place.
    pub(crate) fn required_key(&self, place: usize) -> &str {
        self.txn.compare.get(place).map_or("", |compare| &compare.key)
    }
}

impl Server {
    /// Reads a key.
    pub(crate) async fn read_key(&self, key: String) -> Outcome<Option<Arc<KeyValue>>> {
        let request = RangeRequest {
            start: key,
            end: None,
            revision: None,
            limit: 1,
        };
        let mut response = self.store.range(request).await.map_err(|error| store_failed(&error))?;
        Ok(response.kvs.pop())
    }

    /// Reads an object.
    pub(crate) async fn read(&self, kind: &Kind, namespace: &str, name: &str) -> Outcome<Option<Arc<KeyValue>>> {
        self.read_key(names::key(kind, namespace, name)).await
    }

    /// Reads an object that must exist.
    pub(crate) async fn existing(&self, kind: &Kind, namespace: &str, name: &str) -> Outcome<Arc<KeyValue>> {
        let found = self.read(kind, namespace, name).await?;
        found.ok_or_else(|| Box::new(Status::not_found(kind, name)))
    }

    /// Reads all objects of a kind.
    pub(crate) async fn read_all(&self, kind: &Kind) -> Outcome<Vec<Stored>> {
        let kvs = self.read_namespace(kind, "").await?;
        Ok(kvs.iter().map(Stored::from).collect())
    }

    /// Reads all objects of a kind in a namespace (an empty one stands for all).
    pub(crate) async fn read_namespace(&self, kind: &Kind, namespace: &str) -> Outcome<Vec<Arc<KeyValue>>> {
        let start = names::collection_prefix(kind, namespace);
        let end = store::prefix_end(&start);
        let request = RangeRequest {
            start,
            end,
            revision: None,
            limit: 0,
        };
        let response = self.store.range(request).await.map_err(|error| store_failed(&error))?;
        Ok(response.kvs)
    }

    /// Makes a change, if its conditions hold.
    pub(crate) async fn commit(&self, change: &Change) -> Outcome<Committed> {
        let response = self
            .store
            .txn(change.txn.clone())
            .await
            .map_err(|error| store_failed(&error))?;
        let current = match response {
            TxnResponse::Committed { revision } => return Ok(Committed::At(revision)),
            TxnResponse::Conflict { current, .. } => current,
        };
        let required = change.txn.compare.iter().map(|compare| compare.mod_revision);
        let found = current.iter().map(|kv| kv.as_ref().map_or(0, |kv| kv.mod_revision));
        let lost = required
            .zip(found)
            .enumerate()
            .filter(|(_, (required, found))| required != found);
        Ok(Committed::Lost(lost.map(|(place, _)| place).collect()))
    }
}
