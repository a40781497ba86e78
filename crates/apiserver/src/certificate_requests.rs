//! What the server adds to CertificateSigningRequests (who asks, and when conditions changed), and what it checks of the
//! certificates and requests within them.

use crate::clock;
use crate::create::{remove, text};
use crate::user::User;
use api::error::FieldError;
use api::kinds::Kind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

/// The group of the kind of requests.
pub(crate) const GROUP: &str = "certificates.k8s.io";
/// The kind of requests.
pub(crate) const KIND: &str = "CertificateSigningRequest";

/// Whether the kind is that of requests.
pub(crate) fn is_request(kind: &Kind) -> bool {
    kind.group == GROUP && kind.kind == KIND
}

/// Writes down who asks; what the client says of it does not count.
pub(crate) fn sign(kind: &Kind, object: &mut Value, user: &User) {
    if !is_request(kind) || !object["spec"].is_object() {
        return;
    }
    let spec = &mut object["spec"];
    for field in ["uid", "groups", "extra"] {
        remove(spec, field);
    }
    spec["username"] = json!(user.name);
    if !user.uid.is_empty() {
        spec["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        spec["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
}

/// Fills in the times of conditions that come without.
pub(crate) fn date_conditions(kind: &Kind, new: &mut Value, old: &Value) {
    if !is_request(kind) {
        return;
    }
    let before = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let now = clock::now_text();
    for condition in new["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if text(&condition["lastUpdateTime"]).is_none() {
            condition["lastUpdateTime"] = json!(now);
        }
        if text(&condition["lastTransitionTime"]).is_none() {
            let same = |old: &&Value| old["type"] == condition["type"] && old["status"] == condition["status"];
            let since = before
                .iter()
                .find(same)
                .and_then(|old| text(&old["lastTransitionTime"]));
            condition["lastTransitionTime"] = json!(since.unwrap_or(&now));
        }
    }
}

/// The PKCS #10 request within a request, in DER.
fn der(object: &Value) -> Option<Vec<u8>> {
    let pem = STANDARD.decode(object["spec"]["request"].as_str()?).ok()?;
    let block = Pem::iter_from_buffer(&pem).next()?.ok()?;
    Some(block.contents).filter(|_| block.label == "CERTIFICATE REQUEST")
}

/// The organizations in the subject of what is asked for.
pub(crate) fn organizations(object: &Value) -> Vec<String> {
    let der = der(object).unwrap_or_default();
    let Ok((_, request)) = X509CertificationRequest::from_der(&der) else {
        return Vec::new();
    };
    let organizations = request.certification_request_info.subject.iter_organization();
    organizations
        .map(|group| String::from_utf8_lossy(group.as_slice()).into_owned())
        .collect()
}

/// What is wrong with a new request: it must be one, and signed by who has its key.
pub(crate) fn check(kind: &Kind, object: &Value) -> Option<FieldError> {
    // What is no PEM block at all is told by the kind's own rules.
    let der = Some(object).filter(|_| is_request(kind)).and_then(der)?;
    let why = match X509CertificationRequest::from_der(&der) {
        Err(_) => "asn1: structure error: it is no certificate request",
        Ok((rest, _)) if !rest.is_empty() => "asn1: syntax error: trailing data",
        Ok((_, request)) => match request.verify_signature() {
            Err(X509Error::SignatureVerificationError) => "x509: the signature is not of the key in the request",
            // Other signers may know signatures that we do not.
            _ => return None,
        },
    };
    Some(FieldError::invalid(
        "spec.request",
        object["spec"]["request"].clone(),
        why,
    ))
}

/// What is wrong with the certificate that is handed over.
pub(crate) fn check_certificate(kind: &Kind, new: &Value, old: &Value) -> Option<FieldError> {
    let certificate = &new["status"]["certificate"];
    let text = text(certificate).filter(|_| is_request(kind) && *certificate != old["status"]["certificate"])?;
    let why = certificate_error(&STANDARD.decode(text).unwrap_or_default())?;
    Some(FieldError::invalid("status.certificate", certificate.clone(), why))
}

fn certificate_error(pem: &[u8]) -> Option<String> {
    let mut blocks = 0;
    // As in Go, what follows the last block that can be read is not looked at.
    for block in Pem::iter_from_buffer(pem).map_while(Result::ok) {
        if block.label != "CERTIFICATE" {
            return Some(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        if block.parse_x509().is_err() {
            return Some("x509: malformed certificate".to_owned());
        }
        blocks += 1;
    }
    (blocks == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}
