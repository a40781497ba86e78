//! Who the driver is and what it can do.

use crate::DRIVER;
use csi::v1;
use csi::v1::identity_server::Identity;
use csi::v1::plugin_capability::{Service, Type, VolumeExpansion, service, volume_expansion};
use tonic::{Request, Response, Status};

/// The identity service.
#[derive(Debug)]
pub(crate) struct IdentityService;

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _: Request<v1::GetPluginInfoRequest>,
    ) -> Result<Response<v1::GetPluginInfoResponse>, Status> {
        Ok(Response::new(v1::GetPluginInfoResponse {
            name: DRIVER.to_owned(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..v1::GetPluginInfoResponse::default()
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<v1::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<v1::GetPluginCapabilitiesResponse>, Status> {
        let service = |kind: service::Type| Type::Service(Service { r#type: kind.into() });
        let online = volume_expansion::Type::Online;
        let all = [
            service(service::Type::ControllerService),
            service(service::Type::VolumeAccessibilityConstraints),
            Type::VolumeExpansion(VolumeExpansion { r#type: online.into() }),
        ];
        let capabilities = all.map(|one| v1::PluginCapability { r#type: Some(one) });
        Ok(Response::new(v1::GetPluginCapabilitiesResponse {
            capabilities: capabilities.into(),
        }))
    }

    async fn probe(&self, _: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeResponse>, Status> {
        Ok(Response::new(v1::ProbeResponse { ready: Some(true) }))
    }
}
