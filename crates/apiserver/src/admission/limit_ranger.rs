//! LimitRanger: containers that say nothing get what their namespace gives; nobody gets more or less than it allows.

use super::{Operation, Review, kind};
use crate::status::Outcome;
use crate::stored::Stored;
use api::limit_range;
use serde_json::Value;

pub(super) async fn mutate(review: &Review<'_>, pod: &mut Value) -> Outcome<()> {
    if is_pod(review) {
        for range in ranges(review).await? {
            limit_range::fill(&range, pod);
        }
    }
    Ok(())
}

pub(super) async fn validate(review: &Review<'_>, object: &Value) -> Outcome<()> {
    let both = [Operation::Create, Operation::Update];
    if !is_pod(review) && !review.is("", "PersistentVolumeClaim", &both) {
        return Ok(());
    }
    for range in ranges(review).await? {
        let violations = limit_range::violations(&range, review.call.kind.plural, object, review.old);
        match violations.as_slice() {
            [] => {}
            [one] => return Err(review.forbidden(object, one)),
            many => return Err(review.forbidden(object, &format!("[{}]", many.join(", ")))),
        }
    }
    Ok(())
}

/// Whether the write can change what a pod's containers ask for.
fn is_pod(review: &Review<'_>) -> bool {
    review.is("", "Pod", &[Operation::Create]) || review.is_of("", "Pod", "resize", &[Operation::Update])
}

async fn ranges(review: &Review<'_>) -> Outcome<Vec<Value>> {
    let ranges = kind("", "limitranges");
    let found = review.server.read_namespace(ranges, &review.call.namespace).await?;
    found.iter().map(|kv| Stored::from(kv).object(ranges)).collect()
}
