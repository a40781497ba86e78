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
use x509_parser::x509::AttributeTypeAndValue;

/// The group of the kind of requests.
pub(crate) const GROUP: &str = "certificates.k8s.io";
/// The kind of requests.
pub(crate) const KIND: &str = "CertificateSigningRequest";

const NO_REQUEST: &str = "asn1: structure error: it is no certificate request";

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

/// Who a request is about.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) common_names: Vec<String>,
    pub(crate) organizations: Vec<String>,
}

/// The PKCS #10 request within a request, in DER, as the signer reads it too.
fn der(object: &Value) -> Result<Vec<u8>, &'static str> {
    // What is not even Base64 has no block either.
    let pem = STANDARD.decode(object["spec"]["request"].as_str().unwrap_or_default());
    api::certificate_requests::der(&pem.unwrap_or_default())
}

/// The subject of what is asked for; whoever cannot tell what it is must refuse the request.
pub(crate) fn subject(object: &Value) -> Result<Subject, &'static str> {
    let der = der(object)?;
    let (_, request) = X509CertificationRequest::from_der(&der).map_err(|_| NO_REQUEST)?;
    let subject = &request.certification_request_info.subject;
    Ok(Subject {
        common_names: texts(subject.iter_common_name())?,
        organizations: texts(subject.iter_organization())?,
    })
}

fn texts<'a>(attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Result<Vec<String>, &'static str> {
    let texts: Result<_, _> = attributes.map(|value| value.as_str().map(str::to_owned)).collect();
    texts.map_err(|_| "the subject has a name that is no text")
}

/// What is wrong with a new request: it must be one, and signed by who has its key.
pub(crate) fn check(kind: &Kind, object: &Value) -> Option<FieldError> {
    let why = Some(object).filter(|_| is_request(kind)).and_then(request_error)?;
    Some(FieldError::invalid(
        "spec.request",
        object["spec"]["request"].clone(),
        why,
    ))
}

fn request_error(object: &Value) -> Option<&'static str> {
    let der = match der(object) {
        Ok(der) => der,
        Err(why) => return Some(why),
    };
    match X509CertificationRequest::from_der(&der) {
        Err(_) => Some(NO_REQUEST),
        Ok((rest, _)) if !rest.is_empty() => Some("asn1: syntax error: trailing data"),
        Ok((_, request)) => match request.verify_signature() {
            Err(X509Error::SignatureVerificationError) => Some("x509: the signature is not of the key in the request"),
            // Other signers may know signatures that we do not.
            _ => None,
        },
    }
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
