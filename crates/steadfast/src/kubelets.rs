//! Whom the API server believes to be a kubelet when it calls one.
//!
//! Ours shows a certificate of the cluster's CA. Kubelets of other nodes make one for themselves unless told otherwise;
//! upstream's API server takes any unless it is given `--kubelet-certificate-authority`, and so does this one. What a
//! certificate of the cluster's CA says is checked always.

use crate::pki::{Authority, Leaf, provider, roots_of};
use anyhow::Context;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::path::Path;
use std::sync::Arc;

/// TLS of calls to kubelets, which shows `leaf`.
///
/// # Errors
/// When the file cannot be read or has no certificates.
pub(crate) fn client_tls(
    authority: &Authority,
    leaf: &Leaf,
    signed_by: Option<&Path>,
) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let roots = match signed_by {
        Some(path) => roots_of(path)?,
        None => authority.roots()?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .context("kubelets' certificates cannot be checked")?;
    let verifier = Kubelets {
        known: verifier,
        takes_unknown: signed_by.is_none(),
    };
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(leaf.chain(), leaf.key())?;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Kubelets {
    known: Arc<WebPkiServerVerifier>,
    takes_unknown: bool,
}

impl ServerCertVerifier for Kubelets {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.known.verify_server_cert(leaf, chain, name, ocsp, now) {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) if self.takes_unknown => {
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.known.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.known.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::net::IpAddr;

    fn is_taken(tls: &rustls::ClientConfig, server: Arc<rustls::ServerConfig>) -> bool {
        let name = ServerName::from("127.0.0.1".parse::<IpAddr>().unwrap());
        let mut client = rustls::ClientConnection::new(Arc::new(tls.clone()), name).unwrap();
        let mut server = rustls::ServerConnection::new(server).unwrap();
        let mut wire = Vec::new();
        for _ in 0..8 {
            wire.clear();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        !client.is_handshaking()
    }

    #[test]
    fn kubelets_with_certificates_of_their_own_are_taken_unless_a_ca_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path()).unwrap();
        let leaf = authority.client("caller", "group").unwrap();
        let by_default = client_tls(&authority, &leaf, None).unwrap();
        let strict = client_tls(&authority, &leaf, Some(&dir.path().join("ca.crt"))).unwrap();

        let ours = authority.server("node", &["127.0.0.1".to_owned()]).unwrap();
        let ours = authority.server_tls(&ours).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["kl".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let own = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], key.into())
            .unwrap();
        let own = Arc::new(own);
        assert!(is_taken(&by_default, ours.clone()) && is_taken(&strict, ours));
        assert!(is_taken(&by_default, own.clone()) && !is_taken(&strict, own));

        let other_name = authority.server("node", &["127.0.0.2".to_owned()]).unwrap();
        let other_name = authority.server_tls(&other_name).unwrap();
        assert!(!is_taken(&by_default, other_name), "what the CA signed is checked");
        assert!(client_tls(&authority, &leaf, Some(&dir.path().join("ca.key"))).is_err());
    }
}
