//! A CRI server: images, snapshots, sandboxes, containers, logs, exec.
//!
//! Containers are made by an OCI runtime command line in a process of its own and owned by a `monitor` process each,
//! so that they and their exit codes outlive this server. The truth about everything is on disk, never only here.
//! This crate must not know Kubernetes' API: its only surface is CRI v1 on a unix socket.

#![deny(unsafe_code)]

mod config;
mod server;
mod state;

mod container;
mod exec;
mod recover;
mod sandbox;
mod streaming;

mod cgroup;
mod driver;
mod monitor_client;
mod namespaces;
mod network;
mod rootfs;
mod signals;
mod spec;
mod user;
mod within;

mod disk;
mod failure;
mod process;

pub mod images;
pub mod monitor;

pub use config::{Config, OciRuntime};
pub use network::NetworkError;
pub use server::{remove_all, serve};

use std::path::PathBuf;

/// Why the runtime could not be started, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server uses the same folder.
    #[error("the container runtime's data in {root} is in use by another process")]
    InUse {
        /// The folder.
        root: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The socket could not be bound.
    #[error("cannot serve CRI on {path}")]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server broke.
    #[error("cannot go on serving CRI on {path}")]
    Serve {
        /// The socket.
        path: PathBuf,
        /// What the server said.
        source: tonic::transport::Error,
    },
    /// A file, a folder or a port could not be used.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something could not be removed.
    #[error("cannot remove {what}")]
    Remove {
        /// What resisted.
        what: String,
        /// Why.
        source: Box<tonic::Status>,
    },
    /// The pod network could not be set up.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The image store could not be opened.
    #[error(transparent)]
    Images(#[from] images::Error),
}
