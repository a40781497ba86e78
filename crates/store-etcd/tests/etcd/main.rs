//! The store on real etcd: Debian's package, each member a process.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

mod contract;
mod failures;
#[path = "../../../store/tests/support/linearizability.rs"]
mod linearizability;
mod order;
mod sharing;
mod tls;

use bytes::Bytes;
use conformance::etcd::Etcd;
use std::sync::Arc;
use std::time::Duration;
use store::{Compare, KeyValue, Op, RangeRequest, Revision, Store, Txn, TxnResponse};
use store_etcd::{Config, EtcdStore};

/// Far more than anything here takes; only a hang is stopped by it.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(etcd: &Etcd) -> EtcdStore {
    connect_to(etcd.endpoints(), "").await
}

async fn connect_to(endpoints: Vec<String>, prefix: &str) -> EtcdStore {
    let config = Config {
        endpoints,
        prefix: prefix.to_owned(),
        ..Config::default()
    };
    EtcdStore::connect(&config).await.unwrap()
}

/// A transaction that writes a key, if it is at a revision.
fn put(key: &str, value: &str, at: Option<Revision>) -> Txn {
    let compare = at.map(|mod_revision| Compare {
        key: key.to_owned(),
        mod_revision,
    });
    Txn {
        compare: compare.into_iter().collect(),
        ops: vec![Op::Put {
            key: key.to_owned(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease: None,
        }],
    }
}

async fn commit(store: &EtcdStore, txn: Txn) -> Revision {
    match store.txn(txn).await.unwrap() {
        TxnResponse::Committed { revision } => revision,
        TxnResponse::Conflict { .. } => panic!("the condition holds"),
    }
}

async fn all(store: &EtcdStore, revision: Option<Revision>) -> Vec<Arc<KeyValue>> {
    let request = RangeRequest {
        start: "/".into(),
        end: Some("0".into()),
        revision,
        limit: 0,
    };
    store.range(request).await.unwrap().kvs
}

fn texts(kvs: &[Arc<KeyValue>]) -> Vec<String> {
    let text = |kv: &Arc<KeyValue>| format!("{}={}", kv.key, String::from_utf8_lossy(&kv.value));
    kvs.iter().map(text).collect()
}
