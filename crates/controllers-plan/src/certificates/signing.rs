//! What is signed: approved requests that are what their signer signs, for as long as was asked and is allowed.

use api::k8s::ByteString;
use api::k8s::api::certificates::v1::CertificateSigningRequest;
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::{SignedDuration, Timestamp};

use super::{
    API_CLIENT, Contents, KUBELET_CLIENT, KUBELET_SERVING, add_condition, certificate, condition, has, replace,
};
use crate::pods::name_of;
use crate::{Plan, Reason, Step};

/// Certificates begin this long before they are signed: clocks differ.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);
/// A certificate of less than this lasts as long as was asked from now on, not from when it begins.
const SHORT: SignedDuration = SignedDuration::from_hours(8);
/// No certificate lasts less.
const LIFE_MIN: SignedDuration = SignedDuration::from_mins(10);

/// What bounds the life of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a certificate lasts unless less is asked for.
    pub life: SignedDuration,
    /// When the certificate of the authority ends: none that it signs lasts longer.
    pub authority_ends: Timestamp,
}

/// What a certificate says beside the subject, names and key that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The numbers of the bits of the extension keyUsage (RFC 5280, 4.2.1.3), in order.
    pub key_usages: Vec<usize>,
    /// The object identifiers of the extension extKeyUsage, in upstream's order.
    pub extended_key_usages: Vec<&'static [u64]>,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing now.
    Rest,
    /// It can never be signed; this is why.
    Refuse(String),
    /// It cannot be signed now; this is why.
    Hold(String),
    /// It is to be signed.
    Sign(Template),
}

/// Whether a request waits for this signer at all.
pub fn awaits(request: &CertificateSigningRequest) -> bool {
    let is_ours = [API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING];
    has(request, "Approved")
        && !has(request, "Denied")
        && !has(request, "Failed")
        && certificate(request).is_none()
        && is_ours.contains(&request.spec.signer_name.as_str())
}

/// Judges a request by what the shell found in it (or why it is none).
pub fn judge(
    request: &CertificateSigningRequest,
    contents: Result<&Contents, &str>,
    limits: Limits,
    now: Timestamp,
) -> Verdict {
    if !awaits(request) {
        return Verdict::Rest;
    }
    let contents = match contents {
        Ok(contents) => contents,
        Err(why) => return Verdict::Hold(format!("unable to parse csr {:?}: {why}", name_of(&request.metadata))),
    };
    let usages = request.spec.usages.as_deref().unwrap_or_default();
    let checked = match request.spec.signer_name.as_str() {
        API_CLIENT => api_client_usages(usages).and_then(|()| contents.check_api_client()),
        KUBELET_CLIENT => contents.check_kubelet_client(usages),
        KUBELET_SERVING => contents.check_kubelet_serving(usages),
        other => Err(format!("no rules are known for what {other} signs")),
    };
    // Whoever reads such a certificate could take one name or the other.
    let one_name = || match contents.common_names.len() {
        0 | 1 => Ok(()),
        _ => Err("subject has more than one common name".to_owned()),
    };
    if let Err(why) = checked.and_then(|()| one_name()) {
        return Verdict::Refuse(why);
    }
    match template(usages, request.spec.expiration_seconds, limits, now) {
        Ok(template) => Verdict::Sign(template),
        Err(why) => Verdict::Hold(format!("error auto signing csr: {why}")),
    }
}

fn api_client_usages(usages: &[String]) -> Result<(), String> {
    const OPTIONAL: [&str; 2] = ["digital signature", "key encipherment"];
    const REQUIRED: &str = "client auth";
    let is_wrong = |usage: &&String| *usage != REQUIRED && !OPTIONAL.contains(&usage.as_str());
    if let Some(usage) = usages.iter().find(is_wrong) {
        return Err(format!("invalid usage for client certificate: {usage}"));
    }
    if usages.iter().any(|usage| usage == REQUIRED) {
        Ok(())
    } else {
        Err(format!("missing required usage for client certificate: {REQUIRED}"))
    }
}

pub(super) fn template(
    usages: &[String],
    expiration_seconds: Option<i32>,
    limits: Limits,
    now: Timestamp,
) -> Result<Template, String> {
    let life = expiration_seconds.map_or(limits.life, |seconds| {
        let asked = SignedDuration::from_secs(i64::from(seconds));
        asked.max(LIFE_MIN).min(limits.life)
    });
    if now >= limits.authority_ends {
        return Err(format!("the signer has expired: NotAfter={}", limits.authority_ends));
    }
    let not_before = now.checked_sub(BACKDATED).unwrap_or(Timestamp::MIN);
    let begin = if life < SHORT { now } else { not_before };
    let not_after = begin.checked_add(life).unwrap_or(Timestamp::MAX);
    let unknown: Vec<&str> = usages
        .iter()
        .map(String::as_str)
        .filter(|usage| key_usage(usage).is_none() && extended_key_usage(usage).is_none())
        .collect();
    if !unknown.is_empty() {
        return Err(format!("unrecognized usage values: {unknown:?}"));
    }
    let mut key_usages: Vec<usize> = usages.iter().filter_map(|usage| key_usage(usage)).collect();
    key_usages.sort_unstable();
    key_usages.dedup();
    let mut extended: Vec<_> = usages.iter().filter_map(|usage| extended_key_usage(usage)).collect();
    extended.sort_unstable();
    extended.dedup();
    Ok(Template {
        key_usages,
        extended_key_usages: extended.into_iter().map(|(_, identifier)| identifier).collect(),
        not_before,
        not_after: not_after.min(limits.authority_ends),
    })
}

/// The bit of a usage in the extension keyUsage.
fn key_usage(usage: &str) -> Option<usize> {
    Some(match usage {
        "signing" | "digital signature" => 0,
        "content commitment" => 1,
        "key encipherment" => 2,
        "data encipherment" => 3,
        "key agreement" => 4,
        "cert sign" => 5,
        "crl sign" => 6,
        "encipher only" => 7,
        "decipher only" => 8,
        _ => return None,
    })
}

/// The place of a usage in the extension extKeyUsage, and its identifier.
fn extended_key_usage(usage: &str) -> Option<(usize, &'static [u64])> {
    Some(match usage {
        "any" => (0, &[2, 5, 29, 37, 0]),
        "server auth" => (1, &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
        "client auth" => (2, &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
        "code signing" => (3, &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
        "email protection" | "s/mime" => (4, &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
        "ipsec end system" => (5, &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
        "ipsec tunnel" => (6, &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
        "ipsec user" => (7, &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
        "timestamping" => (8, &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
        "ocsp signing" => (9, &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
        "microsoft sgc" => (10, &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
        "netscape sgc" => (11, &[2, 16, 840, 1, 113_730, 4, 1]),
        _ => return None,
    })
}

/// Writes down that a request can never be signed.
pub fn plan_refused(request: &CertificateSigningRequest, why: &str, now: Timestamp) -> Plan {
    let mut failed = request.clone();
    let mut condition = condition("Failed", "SignerValidationFailure", why);
    condition.last_update_time = Some(Time(now));
    add_condition(&mut failed, condition);
    Plan {
        steps: vec![Step::One(replace(&failed, "status"))],
        because: vec![Reason::acts(name_of(&request.metadata), "SignerValidationFailure", why)],
        ..Plan::default()
    }
}

/// Hands the certificate (PEM) over.
pub fn plan_issued(request: &CertificateSigningRequest, certificate_pem: String) -> Plan {
    let mut issued = request.clone();
    issued.status.get_or_insert_default().certificate = Some(ByteString(certificate_pem.into_bytes()));
    let name = name_of(&request.metadata);
    Plan {
        steps: vec![Step::One(replace(&issued, "status"))],
        because: vec![Reason::acts(name, "Issued", format!("{name} is approved"))],
        ..Plan::default()
    }
}
