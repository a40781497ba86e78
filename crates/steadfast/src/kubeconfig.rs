//! The administrator's kubeconfig.

use crate::pki::{Authority, Leaf, write_private};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::SocketAddr;
use std::path::Path;

/// Writes a kubeconfig for `leaf` against the API server at `listen`, readable by its owner alone.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(path: &Path, listen: SocketAddr, authority: &Authority, leaf: &Leaf) -> anyhow::Result<()> {
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    write_private(path, text(listen, authority, leaf).as_bytes())
}

fn text(listen: SocketAddr, authority: &Authority, leaf: &Leaf) -> String {
    // A server that listens everywhere is reached through loopback from here.
    let host = if listen.ip().is_unspecified() {
        "127.0.0.1".to_owned()
    } else {
        listen.ip().to_string()
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let (ca, certificate, key) = (
        STANDARD.encode(&authority.certificate_pem),
        STANDARD.encode(&leaf.certificate_pem),
        STANDARD.encode(&leaf.key_pem),
    );
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: steadfast
  cluster:
    server: https://{host}:{port}
    certificate-authority-data: {ca}
users:
- name: steadfast-admin
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: steadfast
  context:
    cluster: steadfast
    user: steadfast-admin
current-context: steadfast
",
        port = listen.port()
    )
}
