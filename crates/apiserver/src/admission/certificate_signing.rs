//! CertificateSigning: only who may `sign` for a signer answers requests to it.

use super::certificate_approval::may;
use super::{Operation, Review};
use crate::certificate_requests::{GROUP, KIND};
use crate::status::Outcome;
use serde_json::Value;

pub(super) async fn validate(review: &Review<'_>, object: &Value) -> Outcome<()> {
    let Some(old) = review
        .old
        .filter(|_| review.is_of(GROUP, KIND, "status", &[Operation::Update]))
    else {
        return Ok(());
    };
    let is_same = |part: &str| old["status"][part] == object["status"][part];
    if is_same("certificate") && is_same("conditions") {
        return Ok(());
    }
    let signer = old["spec"]["signerName"].as_str().unwrap_or("");
    if may(review, "sign", signer).await {
        return Ok(());
    }
    let why = format!("user not permitted to sign requests with signerName {signer:?}");
    Err(review.forbidden(object, &why))
}
