//! Nothing acknowledged is lost: not when the process is killed, not when it is killed at any of its writes, and not when
//! the disk forgets what was not synced.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

mod cut;
mod disk;
mod kill;

use bytes::Bytes;
use std::collections::BTreeMap;
use store::{Op, RangeRequest, Revision, Store, Txn, TxnResponse};
use store_embedded::EmbeddedStore;

type Model = BTreeMap<String, String>;

/// The transactions that a writer makes, one after the other, below its prefix: it adds keys and removes older ones.
fn step(prefix: &str, number: usize) -> Vec<Op> {
    let value = format!("{number}").repeat(1 + number % 700);
    let mut ops = vec![Op::Put {
        key: format!("{prefix}{number}"),
        value: Bytes::from(value),
        lease: None,
    }];
    if number.is_multiple_of(3) {
        ops = vec![Op::Delete {
            key: format!("{prefix}{}", number.saturating_sub(4)),
        }];
    }
    if number.is_multiple_of(5) {
        let value = Bytes::from(number.to_string());
        ops.push(Op::Put {
            key: format!("{prefix}latest"),
            value,
            lease: None,
        });
    }
    ops
}

/// What a writer's keys are after its first `steps` transactions.
fn model(prefix: &str, steps: usize) -> Model {
    let mut model = Model::new();
    for op in (0..steps).flat_map(|number| step(prefix, number)) {
        match op {
            Op::Put { key, value, .. } => drop(model.insert(key, String::from_utf8_lossy(&value).into_owned())),
            Op::Delete { key } => drop(model.remove(&key)),
        }
    }
    model
}

async fn found(store: &EmbeddedStore, prefix: &str) -> Model {
    let request = RangeRequest {
        start: prefix.to_owned(),
        end: store::prefix_end(prefix),
        revision: None,
        limit: 0,
    };
    let found = store.range(request).await.expect("the present can be read");
    found
        .kvs
        .into_iter()
        .map(|kv| (kv.key.to_string(), String::from_utf8_lossy(&kv.value).into_owned()))
        .collect()
}

/// The writer's keys show all acknowledged transactions, and perhaps the one that was under way; how many they show.
async fn check(store: &EmbeddedStore, prefix: &str, acknowledged: usize, context: &str) -> usize {
    let found = found(store, prefix).await;
    let shown = (acknowledged..=acknowledged + 1).find(|steps| found == model(prefix, *steps));
    shown.unwrap_or_else(|| panic!("{context}: {prefix} lost something after {acknowledged} transactions: {found:?}"))
}

async fn write_until_failure(store: &EmbeddedStore, prefix: &str, mut acknowledged: impl FnMut(usize, Revision)) {
    for number in 0.. {
        let txn = Txn {
            compare: Vec::new(),
            ops: step(prefix, number),
        };
        let Ok(TxnResponse::Committed { revision }) = store.txn(txn).await else {
            return;
        };
        acknowledged(number + 1, revision);
    }
}
