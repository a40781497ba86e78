//! CertificateSubjectRestriction: nobody asks for a certificate of the group that may do everything.

use super::{Operation, Review};
use crate::authz::MASTERS;
use crate::certificate_requests::{GROUP, KIND, subject};
use crate::status::Outcome;
use serde_json::Value;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) fn validate(review: &Review<'_>, object: &Value) -> Outcome<()> {
    if !review.is(GROUP, KIND, &[Operation::Create]) || object["spec"]["signerName"] != SIGNER {
        return Ok(());
    }
    let subject = subject(object).map_err(|why| review.forbidden(object, &format!("unable to parse csr: {why}")))?;
    if subject.organizations.iter().any(|group| group == MASTERS) {
        let why = format!("use of {SIGNER} signer with {MASTERS} group is not allowed");
        return Err(review.forbidden(object, &why));
    }
    Ok(())
}
