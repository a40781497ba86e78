//! Transactions, and what became of one whose answer was lost.
//!
//! A member that dies may have done what it was asked, or not. The transaction is then asked of another member, too:
//! its conditions make sure that it is not done twice, and what the keys hold tells whether the first try was done.

use crate::calls;
use crate::etcdserverpb as pb;
use crate::failure::Failure;
use crate::members::Members;
use crate::wire::{self, Keys};
use pb::response_op::Response;
use std::sync::Arc;
use store::{Error, KeyValue, Op, Revision, Txn, TxnResponse};

pub(crate) async fn txn(members: &Members, keys: &Keys, txn: &Txn) -> Result<TxnResponse, Error> {
    let called = calls::txn(members, keys.txn(txn)).await;
    let response = match called.outcome {
        Ok(response) => response,
        Err(failure) if failure.is_lease_not_found() => return Err(Error::LeaseNotFound(wire::lease(txn))),
        // A refusal says what became of this try only.
        Err(failure) if called.repeated => return Err(Error::Storage(Box::new(failure))),
        Err(failure) => return Err(failure.of_write()),
    };
    let revision = wire::revision(response.header.as_ref());
    if response.succeeded {
        return Ok(TxnResponse::Committed { revision });
    }
    if called.repeated
        && let Some(revision) = done_before(members, keys, txn).await?
    {
        return Ok(TxnResponse::Committed { revision });
    }
    Ok(TxnResponse::Conflict {
        revision,
        current: current(keys, response),
    })
}

/// What each compared key holds.
fn current(keys: &Keys, response: pb::TxnResponse) -> Vec<Option<Arc<KeyValue>>> {
    let responses = response.responses.into_iter().map(|response| response.response);
    let found = responses.map(|response| match response {
        Some(Response::ResponseRange(mut range)) => range.kvs.pop().and_then(|kv| keys.kv(kv)).map(Arc::new),
        _ => None,
    });
    found.collect()
}

/// The revision at which an earlier try of the transaction was done: all it would write is there, written at once and
/// after what it compared. Nobody else writes the same, since objects tell their uid, manager and time.
async fn done_before(members: &Members, keys: &Keys, txn: &Txn) -> Result<Option<Revision>, Error> {
    let mut done_at = None;
    for op in &txn.ops {
        let (Op::Put { key, .. } | Op::Delete { key }) = op;
        let found = calls::range(members, keys.one(key)).await;
        // Not knowing is an answer, too, and the only honest one here.
        let found = found.map_err(Failure::of_write)?.kvs.pop().and_then(|kv| keys.kv(kv));
        let revision = match (op, found) {
            (Op::Put { value, lease, .. }, Some(kv)) if kv.value == value && kv.lease == *lease => kv.mod_revision,
            (Op::Delete { .. }, None) => continue,
            _ => return Ok(None),
        };
        if done_at.is_some_and(|at| at != revision) {
            return Ok(None);
        }
        done_at = Some(revision);
    }
    let compared = txn.compare.iter().map(|compare| compare.mod_revision).max();
    match done_at {
        Some(at) => Ok((compared < Some(at)).then_some(at)),
        // Keys that are gone do not say who removed them.
        None if txn.ops.is_empty() => Ok(None),
        None => Err(Error::Storage(Box::new(Failure::unknown()))),
    }
}
