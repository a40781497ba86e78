//! ResourceQuota: a namespace holds no more than its quotas allow.
//!
//! The new usage is written in the same transaction as the object, on condition that the quota has not changed in the
//! meantime. So two writes can never both take the last of something, and a write that fails takes nothing. What
//! deleted objects give back, the quota controller counts.

use super::{Operation, Review, kind};
use crate::clock;
use crate::commit::Change;
use crate::status::Outcome;
use crate::stored::Stored;
use api::quota::Charge;
use serde_json::Value;

pub(super) async fn validate(review: &Review<'_>, object: &Value, change: &mut Change) -> Outcome<()> {
    let call = review.call;
    if !call.kind.namespaced || !can_grow(review) {
        return Ok(());
    }
    let charge = Charge {
        group: call.kind.group,
        plural: call.kind.plural,
        object,
        old: review.old,
        now_s: clock::now_s(),
    };
    let quotas = kind("", "resourcequotas");
    for kv in review.server.read_namespace(quotas, &call.namespace).await? {
        let mut quota = Stored::from(&kv).object(quotas)?;
        let charged = charge.to(&quota).map_err(|why| review.forbidden(object, &why))?;
        if let Some(used) = charged {
            quota["status"]["used"] = used;
            change.require(kv.key.to_string(), kv.mod_revision);
            change.put(kv.key.to_string(), Stored::encode(quotas, &quota), kv.lease);
        }
    }
    Ok(())
}

/// Whether the write can add to what is used: every new object does, and a few kinds can grow.
fn can_grow(review: &Review<'_>) -> bool {
    let grows = [("", "Service"), ("", "PersistentVolumeClaim")];
    let is_new = review.operation == Operation::Create && review.call.subresource.is_empty();
    is_new
        || grows
            .iter()
            .any(|(group, kind)| review.is(group, kind, &[Operation::Update]))
        || review.is_of("", "Pod", "resize", &[Operation::Update])
}
