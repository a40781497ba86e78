//! Makes the driver known to the node agent that watches a directory of registration sockets.

use crate::DRIVER;
use csi::registration::registration_server::Registration;
use csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use std::path::PathBuf;
use tonic::{Request, Response, Status};

/// Tells where the driver listens.
#[derive(Debug)]
pub(crate) struct RegistrationService {
    /// The driver's socket.
    pub(crate) endpoint: PathBuf,
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: DRIVER.to_owned(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if status.plugin_registered {
            tracing::info!(driver = DRIVER, "the node agent knows the driver");
        } else {
            tracing::error!(
                driver = DRIVER,
                error = status.error,
                "the node agent refuses the driver"
            );
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
