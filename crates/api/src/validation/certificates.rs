//! What valid CertificateSigningRequests are, and which conditions of them each subresource may change.

use super::place::{Errors, Place};
use crate::certificate_requests;
use crate::error::FieldError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;

/// What a certificate may be asked for, in order.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The signer of `v1beta1` that signed anything.
const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

/// The shortest life that may be asked for.
const EXPIRATION_SECONDS_MIN: i64 = 600;

/// Conditions that only `/approval` may add, and nobody may take away.
const DECIDED: [&str; 2] = ["Approved", "Denied"];

pub(super) fn create(request: &Place<'_>, errors: &mut Errors) {
    let spec = request.at("spec");
    if spec.at("usages").len() == 0 {
        errors.push(spec.at("usages").required("usages must be provided"));
    }
    let mut seen = BTreeSet::new();
    for usage in spec.at("usages").items() {
        usage.must_be_one_of(&USAGES, errors);
        if !seen.insert(usage.text().to_owned()) {
            errors.push(usage.duplicate());
        }
    }
    signer(&spec.at("signerName"), errors);
    let body = spec.at("request");
    if let Err(why) = certificate_request(body.text()) {
        errors.push(body.invalid(why));
    }
    let expiration = spec.at("expirationSeconds");
    if expiration
        .number()
        .is_some_and(|seconds| seconds < EXPIRATION_SECONDS_MIN)
    {
        errors.push(expiration.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
    }
    conditions(&request.at("status").at("conditions"), errors);
}

/// `domain/path`
fn signer(name: &Place<'_>, errors: &mut Errors) {
    if name.text().is_empty() {
        errors.push(name.required(""));
        return;
    }
    if name.text() == LEGACY_UNKNOWN {
        errors.push(name.invalid("the legacy signerName is not allowed via this API version"));
        return;
    }
    let Some((domain, path)) = name.text().split_once('/') else {
        errors.push(name.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'"));
        return;
    };
    for why in super::names::subdomain_errors(domain) {
        errors.push(name.invalid(format!("validating label {domain:?}: {why}")));
    }
    if !domain.contains('.') {
        errors.push(name.invalid("should be a domain with at least two segments separated by dots"));
    }
    if path.is_empty() || path.split('.').any(|part| !super::names::label_errors(part).is_empty()) {
        errors.push(name.invalid(format!("validating path {path:?}: must be dot-separated labels")));
    }
}

/// Whether Base64 text holds a PEM block with a certificate request.
fn certificate_request(text: &str) -> Result<(), &'static str> {
    // What is not even Base64 has no block either.
    let pem = STANDARD.decode(text).unwrap_or_default();
    certificate_requests::der(&pem).map(|_| ())
}

fn conditions(conditions: &Place<'_>, errors: &mut Errors) {
    let of = |wanted: &str| {
        conditions
            .items()
            .any(|condition| condition.at("type").text() == wanted)
    };
    let mut seen = BTreeSet::new();
    for condition in conditions.items() {
        if !seen.insert(condition.at("type").text().to_owned()) {
            errors.push(condition.at("type").duplicate());
        }
        let (name, status) = (condition.at("type"), condition.at("status"));
        if name.text().is_empty() {
            errors.push(name.required(""));
        }
        match (name.text(), status.text()) {
            (_, "") => errors.push(status.required("")),
            ("Approved" | "Denied" | "Failed", status_text) if status_text != "True" => {
                errors.push(status.not_supported(&["True"]));
            }
            _ => status.must_be_one_of(&["False", "True", "Unknown"], errors),
        }
    }
    if of("Approved") && of("Denied") {
        errors.push(conditions.invalid("Approved and Denied conditions are mutually exclusive"));
    }
}

/// What an update may not do to the conditions; `adds` is whether it may decide (`/approval`).
pub(super) fn update(new: &Place<'_>, old: &Place<'_>, adds: bool, errors: &mut Errors) {
    let has = |request: &Place<'_>, wanted: &str| {
        let conditions = request.at("status").at("conditions");
        conditions
            .items()
            .any(|condition| condition.at("type").text() == wanted)
    };
    let place = new.at("status").at("conditions");
    if has(old, "Failed") && !has(new, "Failed") {
        let why = "updates may not remove a condition of type \"Failed\"";
        errors.push(FieldError::forbidden(&place.path, why));
    }
    for decided in DECIDED {
        match (has(old, decided), has(new, decided)) {
            (true, false) => {
                let why = format!("updates may not remove a condition of type {decided:?}");
                errors.push(FieldError::forbidden(&place.path, why));
            }
            (false, true) if !adds => {
                let why = format!("updates may not add a condition of type {decided:?}");
                errors.push(FieldError::forbidden(&place.path, why));
            }
            _ => {}
        }
    }
    let (certificate, before) = (new.at("status").at("certificate"), old.at("status").at("certificate"));
    if !before.text().is_empty() && certificate.value != before.value {
        errors.push(FieldError::forbidden(
            &certificate.path,
            "updates may not modify existing certificate content",
        ));
    }
    conditions(&new.at("status").at("conditions"), errors);
}
