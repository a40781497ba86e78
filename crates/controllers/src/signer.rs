//! The cluster's certificate authority as the signing controller has it: reads requests, signs what the plan says.
//!
//! Of a request, the subject and the key are taken over byte for byte, and the names that Kubernetes knows; every other
//! extension that it asks for is left out.

use std::sync::Arc;

use api::certificate_requests;
use controllers_plan::certificates::{Contents, Limits, Template};
use jiff::{SignedDuration, Timestamp};
use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{AlgorithmIdentifier, CertificateDer, PrivateKeyDer, alg_id};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

mod certificate;

/// How long a certificate lasts unless less is asked for, as upstream's default.
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);

/// The signatures that we make, the first that the key can.
const SCHEMES: [(SignatureScheme, AlgorithmIdentifier); 4] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, alg_id::ECDSA_SHA256),
    (SignatureScheme::ECDSA_NISTP384_SHA384, alg_id::ECDSA_SHA384),
    (SignatureScheme::RSA_PKCS1_SHA256, alg_id::RSA_PKCS1_SHA256),
    (SignatureScheme::ED25519, alg_id::ED25519),
];

/// Why there is no signer.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The certificate cannot be read.
    #[error("the certificate of the authority is none in PEM form")]
    Certificate,
    /// The key cannot be read.
    #[error("the key of the authority is none in PEM form: {0:?}")]
    Key(rustls_pki_types::pem::Error),
    /// The key is of a kind that is not known.
    #[error("the key of the authority cannot sign")]
    Unusable(#[source] rustls::Error),
    /// The two are not of one authority.
    #[error("the key of the authority is not that of its certificate")]
    Mismatch,
}

/// Why a request was not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// It cannot be read.
    #[error("it is no certificate request: {0}")]
    Unreadable(&'static str),
    /// Who made it does not have the key.
    #[error("unable to verify certificate request signature")]
    Signature,
    /// The key of the authority failed.
    #[error("failed to sign certificate")]
    Sign(#[source] rustls::Error),
}

/// Signs with the cluster's CA.
#[derive(Clone)]
pub struct Signer {
    key: Arc<dyn SigningKey>,
    issuer: Issuer,
}

/// What certificates say of who signed them.
#[derive(Clone, Debug)]
struct Issuer {
    /// The subject of its certificate, in DER.
    name: Vec<u8>,
    /// The identifier of its key, if its certificate has one.
    key_identifier: Option<Vec<u8>>,
    ends: Timestamp,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// The authority with this certificate and this private key (PKCS #1, PKCS #8 or SEC 1), both in PEM.
    ///
    /// # Errors
    /// When one cannot be read, or the two do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, SignerError> {
        let certificate =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| SignerError::Certificate)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| SignerError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(SignerError::Key)?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(SignerError::Unusable)?;
        let public = key.public_key();
        if public.is_none_or(|public| public.as_ref() != parsed.public_key().raw) {
            return Err(SignerError::Mismatch);
        }
        let key_identifier = parsed
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
                _ => None,
            });
        let ends = parsed.validity().not_after.timestamp();
        let issuer = Issuer {
            name: parsed.subject().as_raw().to_vec(),
            key_identifier,
            ends: Timestamp::from_second(ends).unwrap_or(Timestamp::MAX),
        };
        Ok(Self { key, issuer })
    }

    /// What bounds the life of what is signed.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            life: LIFE,
            authority_ends: self.issuer.ends,
        }
    }

    /// The certificate (PEM) for a request (PEM), as the template says.
    pub(crate) fn sign(&self, request: &[u8], template: &Template) -> Result<String, SignError> {
        let der = certificate_requests::der(request).map_err(SignError::Unreadable)?;
        let parsed = parse(&der).map_err(SignError::Unreadable)?;
        parsed.verify_signature().map_err(|_| SignError::Signature)?;
        let (key, algorithm) = SCHEMES
            .into_iter()
            .find_map(|(scheme, algorithm)| Some((self.key.choose_scheme(&[scheme])?, algorithm)))
            .ok_or_else(|| SignError::Sign(rustls::Error::General("no signature that we know".to_owned())))?;
        let signed = certificate::to_be_signed(&parsed, template, &self.issuer, algorithm);
        let signature = key.sign(&signed).map_err(SignError::Sign)?;
        Ok(certificate::pem(&certificate::signed(&signed, algorithm, &signature)))
    }
}

/// What a request (PEM) says.
pub(crate) fn contents(request: &[u8]) -> Result<Contents, &'static str> {
    let der = certificate_requests::der(request)?;
    let parsed = parse(&der)?;
    let subject = &parsed.certification_request_info.subject;
    let texts = |attributes: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| {
        let texts: Result<Vec<String>, _> = attributes.map(|value| value.as_str().map(str::to_owned)).collect();
        texts.map_err(|_| "the subject has a name that is no text")
    };
    let mut contents = Contents {
        common_names: texts(&mut subject.iter_common_name())?,
        organizations: texts(&mut subject.iter_organization())?,
        ..Contents::default()
    };
    for name in names(&parsed) {
        match name {
            GeneralName::DNSName(_) => contents.dns_names += 1,
            GeneralName::IPAddress(_) => contents.ip_addresses += 1,
            GeneralName::RFC822Name(_) => contents.email_addresses += 1,
            GeneralName::URI(_) => contents.uris += 1,
            _ => {}
        }
    }
    Ok(contents)
}

/// When a certificate (PEM) ends.
pub(crate) fn end_of(certificate: &[u8]) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(certificate).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

fn parse(der: &[u8]) -> Result<X509CertificationRequest<'_>, &'static str> {
    match X509CertificationRequest::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("something follows the request"),
        Err(_) => Err("it is not what RFC 2986 says"),
    }
}

/// The names besides the subject that a request asks for.
fn names<'a>(request: &'a X509CertificationRequest<'a>) -> impl Iterator<Item = &'a GeneralName<'a>> {
    let attributes = request.certification_request_info.iter_attributes();
    let extensions = attributes.filter_map(|attribute| match attribute.parsed_attribute() {
        ParsedCriAttribute::ExtensionRequest(asked) => Some(&asked.extensions),
        _ => None,
    });
    extensions
        .flatten()
        .flat_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => names.general_names.as_slice(),
            _ => &[],
        })
}

#[cfg(test)]
mod tests;
