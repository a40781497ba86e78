//! A Secret of type `kubernetes.io/service-account-token` gets its token with the write that makes it.

use super::{Operation, Review};
use crate::status::Outcome;
use crate::tokens::legacy;
use serde_json::Value;

pub(super) async fn mutate(review: &Review<'_>, secret: &mut Value) -> Outcome<()> {
    if !review.is("", "Secret", &[Operation::Create, Operation::Update]) {
        return Ok(());
    }
    legacy::fill(review.server, secret).await
}
