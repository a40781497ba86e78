//! Between the store's words and etcd's: keys with the prefix in front, numbers that are never negative.

use crate::etcdserverpb as pb;
use bytes::Bytes;
use pb::request_op::Request;
use store::replica::Change;
use store::{KeyValue, LeaseId, Op, Revision, Txn};

/// etcd's way to say "the first key" and "behind the last key".
const EVERYTHING: &[u8] = b"\0";

/// How our keys are told from others' in the same cluster.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    pub(crate) fn there(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.prefix).into_bytes()
    }

    /// `None` if the key is not ours.
    pub(crate) fn here<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key).ok()?.strip_prefix(self.prefix.as_str())
    }

    /// The range of all our keys.
    pub(crate) fn ours(&self) -> (Vec<u8>, Vec<u8>) {
        if self.prefix.is_empty() {
            return everything();
        }
        let end = store::prefix_end(&self.prefix).map_or_else(|| EVERYTHING.to_vec(), String::into_bytes);
        (self.prefix.clone().into_bytes(), end)
    }

    /// `None` if the key is not ours.
    pub(crate) fn kv(&self, kv: pb::KeyValue) -> Option<KeyValue> {
        Some(KeyValue {
            key: self.here(&kv.key)?.into(),
            value: Bytes::from(kv.value),
            create_revision: number(kv.create_revision),
            mod_revision: number(kv.mod_revision),
            version: number(kv.version),
            lease: Some(number(kv.lease)).filter(|lease| *lease != 0),
        })
    }

    /// `None` if the key is not ours.
    pub(crate) fn change(&self, event: pb::Event) -> Option<Change> {
        let is_delete = event.r#type() == pb::event::EventType::Delete;
        let kv = event.kv?;
        if is_delete {
            let revision = number(kv.mod_revision);
            let key = self.here(&kv.key)?.to_owned();
            return Some(Change::Delete { key, revision });
        }
        self.kv(kv).map(Change::Put)
    }

    /// A transaction that tells what the compared keys hold if a condition fails.
    pub(crate) fn txn(&self, txn: &Txn) -> pb::TxnRequest {
        let compare = txn.compare.iter().map(|compare| pb::Compare {
            result: pb::compare::CompareResult::Equal.into(),
            target: pb::compare::CompareTarget::Mod.into(),
            key: self.there(&compare.key),
            target_union: Some(pb::compare::TargetUnion::ModRevision(signed(compare.mod_revision))),
        });
        let success = txn.ops.iter().map(|op| match op {
            Op::Put { key, value, lease } => Request::RequestPut(pb::PutRequest {
                key: self.there(key),
                value: value.to_vec(),
                lease: signed(lease.unwrap_or(0)),
            }),
            Op::Delete { key } => Request::RequestDeleteRange(pb::DeleteRangeRequest { key: self.there(key) }),
        });
        let failure = txn
            .compare
            .iter()
            .map(|compare| Request::RequestRange(self.one(&compare.key)));
        let op = |request| pb::RequestOp { request: Some(request) };
        pb::TxnRequest {
            compare: compare.collect(),
            success: success.map(op).collect(),
            failure: failure.map(op).collect(),
        }
    }

    /// Reads one key.
    pub(crate) fn one(&self, key: &str) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.there(key),
            ..pb::RangeRequest::default()
        }
    }
}

/// The range of all keys, also those of others.
pub(crate) fn everything() -> (Vec<u8>, Vec<u8>) {
    (EVERYTHING.to_vec(), EVERYTHING.to_vec())
}

/// etcd's numbers are signed, but never negative.
pub(crate) fn number(wire: i64) -> u64 {
    u64::try_from(wire).unwrap_or(0)
}

/// Ours are far below the point where they would not fit.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn revision(header: Option<&pb::ResponseHeader>) -> Revision {
    header.map_or(0, |header| number(header.revision))
}

/// The first lease that the transaction names.
pub(crate) fn lease(txn: &Txn) -> LeaseId {
    let leases = txn.ops.iter().filter_map(|op| match op {
        Op::Put { lease, .. } => *lease,
        Op::Delete { .. } => None,
    });
    leases.min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_below_the_prefix_are_ours() {
        let keys = Keys::new("/here");
        assert_eq!(keys.there("/a"), b"/here/a");
        assert_eq!(keys.here(b"/here/a"), Some("/a"));
        assert_eq!(keys.here(b"/there/a"), None);
        assert_eq!(keys.here(b"/here/\xff"), None);
        assert_eq!(keys.ours(), (b"/here".to_vec(), b"/herf".to_vec()));
        assert_eq!(Keys::new("").ours(), everything());
    }
}
