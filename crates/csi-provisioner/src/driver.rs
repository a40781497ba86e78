//! The driver, asked.

use csi::v1;
use csi::v1::controller_client::ControllerClient;
use csi::v1::identity_client::IdentityClient;
use csi::v1::node_client::NodeClient;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tonic::Status;
use tonic::transport::Channel;

/// Copies may take long.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A driver that answers.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    /// Its name.
    pub(crate) name: String,
    /// Where it is, in its own terms.
    pub(crate) topology: BTreeMap<String, String>,
    channel: Channel,
}

impl Driver {
    /// Asks who it is and where.
    pub(crate) async fn reach(socket: &Path) -> Result<Self, Status> {
        let channel = csi::connect(socket);
        let mut identity = IdentityClient::new(channel.clone());
        let info = identity
            .get_plugin_info(v1::GetPluginInfoRequest {})
            .await?
            .into_inner();
        let mut node = NodeClient::new(channel.clone());
        let node = node.node_get_info(v1::NodeGetInfoRequest {}).await?.into_inner();
        Ok(Self {
            name: info.name,
            topology: node
                .accessible_topology
                .map(|topology| topology.segments.into_iter().collect())
                .unwrap_or_default(),
            channel,
        })
    }

    /// Makes a volume.
    pub(crate) async fn create(&self, request: v1::CreateVolumeRequest) -> Result<v1::Volume, Status> {
        let answer = self.controller().create_volume(csi::timed(request, TIMEOUT)).await?;
        let volume = answer.into_inner().volume;
        volume.ok_or_else(|| Status::internal("the driver's answer has no volume"))
    }

    /// Removes a volume.
    pub(crate) async fn delete(&self, volume_id: &str) -> Result<(), Status> {
        let request = v1::DeleteVolumeRequest {
            volume_id: volume_id.to_owned(),
            ..v1::DeleteVolumeRequest::default()
        };
        self.controller()
            .delete_volume(csi::timed(request, TIMEOUT))
            .await
            .map(drop)
    }

    /// Lets a volume grow: its size then, and whether the node has to do its part.
    pub(crate) async fn expand(&self, volume_id: &str, bytes: i64) -> Result<(i64, bool), Status> {
        let request = v1::ControllerExpandVolumeRequest {
            volume_id: volume_id.to_owned(),
            capacity_range: Some(v1::CapacityRange {
                required_bytes: bytes,
                limit_bytes: 0,
            }),
            ..v1::ControllerExpandVolumeRequest::default()
        };
        let answer = self
            .controller()
            .controller_expand_volume(csi::timed(request, TIMEOUT))
            .await?;
        let answer = answer.into_inner();
        Ok((answer.capacity_bytes, answer.node_expansion_required))
    }

    fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone())
    }
}
