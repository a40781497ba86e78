//! Where the server is and who we are, as a kubeconfig says.

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;

/// A server and the way to be let in.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Host and port.
    pub(crate) authority: String,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: String,
    contexts: Vec<Named>,
    clusters: Vec<Named>,
    users: Vec<Named>,
}

/// An entry of one of the three lists; which field is there depends on the list.
#[derive(Deserialize)]
struct Named {
    name: String,
    context: Option<ContextEntry>,
    cluster: Option<Cluster>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct ContextEntry {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: Option<String>,
    certificate_authority: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_certificate: Option<String>,
    client_key_data: Option<String>,
    client_key: Option<String>,
}

impl Target {
    /// Reads the current context.
    ///
    /// # Errors
    /// When the file has no such thing, or what it names cannot be read.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Kubeconfig = serde_saphyr::from_str(&text)?;
        let context = find(&config.contexts, &config.current_context)?;
        let context = context.context.as_ref().context("the context is empty")?;
        let cluster = find(&config.clusters, &context.cluster)?;
        let cluster = cluster.cluster.as_ref().context("the cluster is empty")?;
        let none = User::default();
        let user = find(&config.users, &context.user)?.user.as_ref().unwrap_or(&none);
        let Some(authority) = cluster.server.strip_prefix("https://") else {
            bail!("{} is not https://", cluster.server);
        };
        let authority = authority.trim_end_matches('/').to_owned();
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        Ok(Self {
            server_name: ServerName::try_from(host.to_owned())?,
            tls: Arc::new(tls(cluster, user)?),
            token: user.token.clone(),
            authority,
        })
    }
}

fn find<'a>(list: &'a [Named], name: &str) -> anyhow::Result<&'a Named> {
    let found = list.iter().find(|entry| entry.name == name);
    found.with_context(|| format!("the kubeconfig has no {name:?}"))
}

fn tls(cluster: &Cluster, user: &User) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = pem(
        cluster.certificate_authority_data.as_ref(),
        cluster.certificate_authority.as_ref(),
    )?;
    for certificate in CertificateDer::pem_slice_iter(&ca.context("the cluster names no authority")?) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let certificate = pem(user.client_certificate_data.as_ref(), user.client_certificate.as_ref())?;
    let key = pem(user.client_key_data.as_ref(), user.client_key.as_ref())?;
    let mut tls = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?
        }
        _ => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}

fn pem(data: Option<&String>, path: Option<&String>) -> anyhow::Result<Option<Vec<u8>>> {
    match (data, path) {
        (Some(data), _) => Ok(Some(STANDARD.decode(data)?)),
        (None, Some(path)) => Ok(Some(
            std::fs::read(path).with_context(|| format!("cannot read {path}"))?,
        )),
        (None, None) => Ok(None),
    }
}
