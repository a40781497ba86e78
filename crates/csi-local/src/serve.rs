//! Puts the driver together and serves it.

use crate::controller::ControllerService;
use crate::disk::Disk;
use crate::identity::IdentityService;
use crate::node::NodeService;
use crate::registration::RegistrationService;
use csi::registration::registration_server::RegistrationServer;
use csi::v1::controller_server::ControllerServer;
use csi::v1::identity_server::IdentityServer;
use csi::v1::node_server::NodeServer;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// What the driver is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The socket it serves.
    pub socket: PathBuf,
    /// Where volumes and snapshots are kept.
    pub data_dir: PathBuf,
    /// The node that they are on.
    pub node_id: String,
    /// The socket by which it makes itself known to a node agent, if to any.
    pub registration: Option<PathBuf>,
}

/// Why the driver does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be used.
    #[error("cannot open the driver's data directory {0}")]
    Open(PathBuf, #[source] io::Error),
    /// A socket cannot be made.
    #[error("cannot listen on {0}")]
    Listen(PathBuf, #[source] io::Error),
    /// Serving ended.
    #[error("the driver's server failed")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves the driver until `shutdown`. Volumes stay as they are, mounted ones too.
///
/// # Errors
/// [`Error`].
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let (root, node_id) = (config.data_dir.clone(), config.node_id.clone());
    let opened = tokio::task::spawn_blocking(move || Disk::open(&root, &node_id)).await;
    let opened = opened.unwrap_or_else(|error| Err(io::Error::other(error)));
    let disk = Arc::new(opened.map_err(|error| Error::Open(config.data_dir.clone(), error))?);
    let listen = |socket: &PathBuf| csi::listen(socket).map_err(|error| Error::Listen(socket.clone(), error));
    let driver = Server::builder()
        .add_service(IdentityServer::new(IdentityService))
        .add_service(ControllerServer::new(ControllerService { disk: disk.clone() }))
        .add_service(NodeServer::new(NodeService { disk }))
        .serve_with_incoming_shutdown(listen(&config.socket)?, shutdown.clone().cancelled_owned());
    let Some(socket) = &config.registration else {
        return Ok(driver.await?);
    };
    let service = RegistrationService {
        endpoint: config.socket.clone(),
    };
    let registration = Server::builder()
        .add_service(RegistrationServer::new(service))
        .serve_with_incoming_shutdown(listen(socket)?, shutdown.clone().cancelled_owned());
    tokio::try_join!(driver, registration)?;
    Ok(())
}
