//! Which client certificates are taken: those that the cluster's CA signed, of version 3 as rustls judges them, and of
//! version 1, as `openssl x509 -req` makes them, which rustls refuses and upstream takes.
//!
//! A certificate of version 1 has no extensions, so there is little to judge: the CA itself must have signed it, with
//! an algorithm that is not broken, and it must be valid now. It can never stand between another certificate and the
//! CA, as it cannot say that it may.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use std::sync::Arc;
use webpki::RawPublicKeyEntity;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ED25519, Oid,
};
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

/// The signatures of a CA that count; those over SHA-1 do not.
const ALGORITHMS: [Oid<'static>; 6] = [
    OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ED25519,
    OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA,
];

/// Judges client certificates.
#[derive(Debug)]
pub(crate) struct ClientCertificates {
    /// Judges those of version 3.
    pub(crate) webpki: Arc<dyn ClientCertVerifier>,
    /// The CA's certificate.
    pub(crate) authority: CertificateDer<'static>,
    /// The signatures with which a client proves that it has the key.
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertificates {
    fn verify_version_1(&self, certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), CertificateError> {
        let (_, authority) =
            x509_parser::parse_x509_certificate(&self.authority).map_err(|_| CertificateError::BadEncoding)?;
        if certificate.issuer().as_raw() != authority.subject().as_raw() {
            return Err(CertificateError::UnknownIssuer);
        }
        let algorithm = &certificate.signature_algorithm;
        if certificate.signature != *algorithm || !ALGORITHMS.contains(&algorithm.algorithm) {
            return Err(CertificateError::BadSignature);
        }
        if certificate.verify_signature(Some(authority.public_key())).is_err() {
            return Err(CertificateError::BadSignature);
        }
        let now = i64::try_from(now.as_secs()).map_err(|_| CertificateError::Expired)?;
        let now = ASN1Time::from_timestamp(now).map_err(|_| CertificateError::Expired)?;
        if now < certificate.validity().not_before {
            return Err(CertificateError::NotValidYet);
        }
        if now > certificate.validity().not_after {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }
}

/// A certificate of version 1 and nothing but that.
fn version_1<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let ([], certificate) = x509_parser::parse_x509_certificate(der).ok()? else {
        return None;
    };
    let is_plain =
        certificate.extensions().is_empty() && certificate.issuer_uid.is_none() && certificate.subject_uid.is_none();
    (certificate.version() == X509Version::V1 && is_plain).then_some(certificate)
}

impl ClientCertVerifier for ClientCertificates {
    fn offer_client_auth(&self) -> bool {
        self.webpki.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let Some(certificate) = version_1(end_entity) else {
            return self.webpki.verify_client_cert(end_entity, intermediates, now);
        };
        self.verify_version_1(&certificate, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(parsed) = version_1(certificate) else {
            return self.webpki.verify_tls12_signature(message, certificate, signed);
        };
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        // TLS 1.2 names no curve, so a scheme has an algorithm for each.
        let known = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme);
        let (_, algorithms) = known.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let is_valid = |algorithm: &&dyn rustls_pki_types::SignatureVerificationAlgorithm| {
            key.verify_signature(*algorithm, message, signed.signature()).is_ok()
        };
        if algorithms.iter().any(is_valid) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(parsed) = version_1(certificate) else {
            return self.webpki.verify_tls13_signature(message, certificate, signed);
        };
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, provider};
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConnection, RootCertStore, ServerConnection, SupportedProtocolVersion};
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;

    // Made with `openssl` (`make.sh` beside them), as no library at hand makes certificates of version 1.
    const CA_CERTIFICATE: &str = include_str!("client_certificates/ca.crt");
    const CA_KEY: &str = include_str!("client_certificates/ca.key");
    const KEY: &str = include_str!("client_certificates/client.key");

    /// Whether a client with that certificate is let in.
    fn meet(certificate: &str, version: &'static SupportedProtocolVersion) -> Result<(), Error> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), CA_CERTIFICATE).unwrap();
        std::fs::write(dir.path().join("ca.key"), CA_KEY).unwrap();
        let authority = Authority::open(dir.path()).unwrap();
        let server = authority.server("kube-apiserver", &["localhost".to_owned()]).unwrap();
        let roots: RootCertStore = authority.roots().unwrap();
        // Not through `with_client_auth_cert`, which reads the certificate, and looks whether the key is that of it.
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let client = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(shown));
        let mut client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(authority.server_tls(&server).unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert_eq!(server.peer_certificates().unwrap().len(), 1);
        Ok(())
    }

    #[test]
    fn a_certificate_of_version_1_is_taken_if_the_authority_signed_it() {
        for version in [&TLS12, &TLS13] {
            meet(include_str!("client_certificates/client.crt"), version).unwrap();
        }
    }

    #[test]
    fn others_of_version_1_are_not() {
        let cases = [
            (
                include_str!("client_certificates/expired.crt"),
                CertificateError::Expired,
            ),
            (
                include_str!("client_certificates/sha1.crt"),
                CertificateError::BadSignature,
            ),
            // Another authority of the same name, and one of another name.
            (
                include_str!("client_certificates/forged.crt"),
                CertificateError::BadSignature,
            ),
            (
                include_str!("client_certificates/foreign.crt"),
                CertificateError::UnknownIssuer,
            ),
        ];
        for (certificate, why) in cases {
            assert_eq!(meet(certificate, &TLS13), Err(why.into()));
        }
    }

    #[test]
    fn who_has_the_certificate_without_its_key_is_not_let_in() {
        // Version 3 and version 1 alike: the client signs with another key than that of the certificate.
        for version in [&TLS12, &TLS13] {
            let refused = meet(include_str!("client_certificates/other_key.crt"), version);
            assert!(refused.is_err(), "{refused:?}");
        }
    }
}
