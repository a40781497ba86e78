//! A certificate authority for tests: a server's TLS configuration and kubeconfigs of its clients.

#![forbid(unsafe_code)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A certificate authority of a test's own.
#[allow(missing_debug_implementations, reason = "it holds a private key")]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// Makes an authority of its own.
    ///
    /// # Errors
    /// When a key or a certificate cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate: der,
            pem,
        })
    }

    fn roots(&self) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(roots)
    }

    /// The TLS of a server at an address, which asks for client certificates of this authority.
    ///
    /// # Errors
    /// When a key or a certificate cannot be made.
    pub fn server(&self, ip: IpAddr) -> anyhow::Result<ServerConfig> {
        self.server_named(vec!["localhost".to_owned(), ip.to_string()])
    }

    /// The authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The TLS of a server of these names and addresses, which asks for client certificates of this authority.
    ///
    /// # Errors
    /// When a key or a certificate cannot be made.
    pub fn server_named(&self, names: Vec<String>) -> anyhow::Result<ServerConfig> {
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider.clone());
        let clients = clients.allow_unauthenticated().build()?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn client_pems(&self, user: &str, group: &str) -> anyhow::Result<(String, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// The TLS of a client that has a certificate of this authority and trusts it.
    ///
    /// # Errors
    /// When a key or a certificate cannot be made.
    pub fn client(&self, user: &str, group: &str) -> anyhow::Result<rustls::ClientConfig> {
        use rustls_pki_types::pem::PemObject;
        let (certificate, key) = self.client_pems(user, group)?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![certificate], key)?)
    }

    /// A kubeconfig for a user in a group.
    ///
    /// # Errors
    /// When a key or a certificate cannot be made.
    pub fn kubeconfig(&self, server: SocketAddr, user: &str, group: &str) -> anyhow::Result<String> {
        let (certificate, key) = self.client_pems(user, group)?;
        let [ca, certificate, key] = [&self.pem, &certificate, &key].map(|pem| STANDARD.encode(pem));
        Ok(format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster: {{server: \"https://{server}\", certificate-authority-data: {ca}}}\n\
             users:\n- name: test\n  user: {{client-certificate-data: {certificate}, client-key-data: {key}}}\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: test}}\n"
        ))
    }
}
