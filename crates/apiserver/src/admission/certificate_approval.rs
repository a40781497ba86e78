//! CertificateApproval: only who may `approve` for a signer decides about requests to it.

use super::{Operation, Review};
use crate::authz::{self, Action};
use crate::certificate_requests::{GROUP, KIND};
use crate::status::Outcome;
use serde_json::Value;

pub(super) async fn validate(review: &Review<'_>, object: &Value) -> Outcome<()> {
    if !review.is_of(GROUP, KIND, "approval", &[Operation::Update]) {
        return Ok(());
    }
    let signer = object["spec"]["signerName"].as_str().unwrap_or("");
    if may(review, "approve", signer).await {
        return Ok(());
    }
    let why = format!("user not permitted to approve requests with signerName {signer:?}");
    Err(review.forbidden(object, &why))
}

/// Whether the user has a verb on a signer, or on all of its domain.
pub(super) async fn may(review: &Review<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let action = Action {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            resource: "signers".to_owned(),
            name,
            ..Action::default()
        };
        if authz::may(review.server, &review.call.user, &action).await {
            return true;
        }
    }
    false
}
