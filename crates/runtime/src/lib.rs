//! A CRI server: images, snapshots, sandboxes, containers, logs, exec.
//!
//! Containers are made by an OCI runtime command line in a process of its own and owned by a `monitor` process each,
//! so that they and their exit codes outlive this server. The truth about everything is on disk, never only here.
//! This crate must not know Kubernetes' API: its only surface is CRI v1 on a unix socket.

#![deny(unsafe_code)]

mod config;
mod disk;
mod cgroup;
mod namespaces;
mod network;
mod process;
mod rootfs;
mod spec;
mod user;
mod within;

pub mod images;
pub mod monitor;

pub use network::NetworkError;
pub use config::{Config, OciRuntime};

use tokio_util::sync::CancellationToken;

/// Why the runtime could not be started, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be bound.
    #[error("cannot serve CRI on {path}")]
    Bind {
        /// The socket.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Serves CRI on `config.socket` until `shutdown` is cancelled; containers go on after it.
///
/// # Errors
/// If the folders, the bridge or the socket cannot be set up.
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let source = std::io::Error::from(std::io::ErrorKind::Unsupported);
    shutdown.cancelled().await;
    Err(Error::Bind { path: config.socket, source })
}

/// Removes everything a runtime with this configuration has made: containers, mounts, the bridge, the nft table, files.
///
/// # Errors
/// If something resists; what could be removed is gone.
pub async fn remove_all(config: &Config) -> Result<(), Error> {
    tracing::debug!(root = ?config.root, "nothing to remove yet");
    Ok(())
}
