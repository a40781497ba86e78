//! Certificates: one CA per data directory, everything else signed anew at each start.

use crate::client_certificates::ClientCertificates;
use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// Signs certificates; its key lives in `DATA_DIR/pki/ca.key`.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The CA's certificate as PEM.
    pub(crate) certificate_pem: String,
    /// The same CA, for the controller that signs what was approved.
    pub(crate) signer: controllers::Signer,
    certificate_der: CertificateDer<'static>,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    /// The certificate as PEM.
    pub(crate) certificate_pem: String,
    /// The key as PEM (PKCS #8).
    pub(crate) key_pem: String,
    certificate_der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    /// Loads the CA below `dir`, or makes one.
    ///
    /// # Errors
    /// When the files cannot be read or written, or are damaged.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let (key_path, certificate_path) = (dir.join("ca.key"), dir.join("ca.crt"));
        if !certificate_path.exists() {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let key = KeyPair::generate()?;
            let certificate = ca_params().self_signed(&key)?;
            // The certificate is written last: where it exists, the key does too.
            write_private(&key_path, key.serialize_pem().as_bytes())?;
            write_private(&certificate_path, certificate.pem().as_bytes())?;
        }
        let read =
            |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let certificate_pem = read(&certificate_path)?;
        let key_pem = read(&key_path)?;
        let key = KeyPair::from_pem(&key_pem).with_context(|| format!("{} is damaged", key_path.display()))?;
        let signer = controllers::Signer::from_pem(&certificate_pem, &key_pem).with_context(|| {
            format!(
                "{} and {} do not go together",
                certificate_path.display(),
                key_path.display()
            )
        })?;
        let certificate_der =
            pem_to_der(&certificate_pem).with_context(|| format!("{} is damaged", certificate_path.display()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate_der, key)
            .with_context(|| format!("{} is damaged", certificate_path.display()))?;
        Ok(Self {
            issuer,
            certificate_pem,
            signer,
            certificate_der,
        })
    }

    /// A certificate for `user` in `group`, to show to the API server or a kubelet.
    ///
    /// One group only: rcgen keeps a single organization in a name.
    ///
    /// # Errors
    /// When signing fails.
    pub(crate) fn client(&self, user: &str, group: &str) -> anyhow::Result<Leaf> {
        let mut params = leaf_params(user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// A certificate for a server reached under `names` (DNS names or addresses).
    ///
    /// # Errors
    /// When a name cannot stand in a certificate or signing fails.
    pub(crate) fn server(&self, user: &str, names: &[String]) -> anyhow::Result<Leaf> {
        let mut params = leaf_params(user);
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    name.as_str()
                        .try_into()
                        .with_context(|| format!("server name {name:?}"))?,
                ),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> anyhow::Result<Leaf> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate_der: certificate.der().clone(),
            key_der: key.serialize_der(),
        })
    }

    /// TLS of a server: shows `leaf`, and looks at client certificates of this CA when they are given.
    ///
    /// # Errors
    /// When the certificate is refused by the TLS library.
    pub(crate) fn server_tls(&self, leaf: &Leaf) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider());
        let verifier = verifier.allow_unauthenticated();
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(ClientCertificates {
                webpki: verifier.build()?,
                authority: self.certificate_der.clone(),
                algorithms: provider().signature_verification_algorithms,
            }))
            .with_single_cert(vec![leaf.certificate_der.clone()], leaf.key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The keys of service-account tokens: `sa.key` below `dir` signs, made where it is absent; tokens signed by the
    /// private half of any `sa-*.pub` beside it are taken, too.
    ///
    /// # Errors
    /// When the files cannot be read or written, or hold no keys.
    pub(crate) fn token_keys(dir: &Path) -> anyhow::Result<apiserver::TokenKeys> {
        let path = dir.join("sa.key");
        if !path.exists() {
            write_private(&path, KeyPair::generate()?.serialize_pem().as_bytes())?;
        }
        let read =
            |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let mut older = Vec::new();
        for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("sa-") && name.ends_with(".pub"))
            {
                older.push(read(&entry.path())?);
            }
        }
        apiserver::TokenKeys::from_pem(&read(&path)?, &older)
            .with_context(|| format!("the token keys in {} cannot be used", dir.display()))
    }

    /// This CA, for those who trust it alone.
    ///
    /// # Errors
    /// When the TLS library refuses the CA's certificate.
    pub(crate) fn roots(&self) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate_der.clone())?;
        Ok(roots)
    }
}

/// The certificates in a PEM file, to trust them.
///
/// # Errors
/// When the file cannot be read, or has no certificates that can be trusted.
pub(crate) fn roots_of(path: &Path) -> anyhow::Result<RootCertStore> {
    use rustls_pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    let unreadable = |why| anyhow::anyhow!("cannot read certificates from {}: {why:?}", path.display());
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots
            .add(certificate)
            .with_context(|| format!("{} has no CA", path.display()))?;
    }
    anyhow::ensure!(!roots.is_empty(), "{} has no certificates", path.display());
    Ok(roots)
}

impl Leaf {
    /// The certificate, as it is shown.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate_der.clone()]
    }

    /// The key, as the TLS library takes it.
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }
}

/// The cryptography of all our TLS.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "steadfast-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn leaf_params(user: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params
}

fn pem_to_der(pem: &str) -> anyhow::Result<CertificateDer<'static>> {
    use rustls_pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| anyhow::anyhow!("no certificate in PEM form: {e:?}"))
}

/// Writes a file that only its owner may read, atomically.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        // A left-over of a crash may have other rights than those asked for below.
        match std::fs::remove_file(&new) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path()).unwrap();
        let second = Authority::open(dir.path()).unwrap();
        assert_eq!(first.certificate_pem, second.certificate_pem);
        let mode = std::fs::metadata(dir.path().join("ca.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn token_keys_stay_and_older_ones_can_be_kept_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        Authority::token_keys(dir.path()).unwrap();
        let first = std::fs::read_to_string(dir.path().join("sa.key")).unwrap();
        Authority::token_keys(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("sa.key")).unwrap(), first);
        let mode = std::fs::metadata(dir.path().join("sa.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let old = KeyPair::from_pem(&first).unwrap().public_key_pem();
        std::fs::write(dir.path().join("sa-2025.pub"), old).unwrap();
        Authority::token_keys(dir.path()).unwrap();
        std::fs::write(dir.path().join("sa-2024.pub"), "x").unwrap();
        assert!(Authority::token_keys(dir.path()).is_err());
    }

    #[test]
    fn a_client_certificate_carries_user_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let leaf = Authority::open(dir.path())
            .unwrap()
            .client("anna", "system:masters")
            .unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&leaf.certificate_der).unwrap();
        let groups: Vec<_> = certificate
            .subject()
            .iter_organization()
            .map(|o| o.as_str().unwrap())
            .collect();
        let user = certificate
            .subject()
            .iter_common_name()
            .next()
            .unwrap()
            .as_str()
            .unwrap();
        assert_eq!((user, groups), ("anna", vec!["system:masters"]));
    }

    #[test]
    fn a_server_certificate_and_a_client_meet() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::open(dir.path()).unwrap();
        let server = ca
            .server("kube-apiserver", &["127.0.0.1".into(), "localhost".into()])
            .unwrap();
        let client = ca.client("anna", "people").unwrap();
        let (server, client) = (
            ca.server_tls(&server).unwrap(),
            crate::kubelets::client_tls(&ca, &client, None).unwrap(),
        );
        let mut client = rustls::ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
        let mut server = rustls::ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        assert_eq!(server.peer_certificates().unwrap().len(), 1);
    }
}
