//! A driver that serves, and requests that are right.

use csi::v1;
use csi::v1::controller_client::ControllerClient;
use csi::v1::node_client::NodeClient;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use csi_local::{Config, serve};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

pub(crate) const MIB: i64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);

/// A driver and the directory of everything it makes.
pub(crate) struct Driver {
    dir: TempDir,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), csi_local::Error>>,
    pub(crate) controller: ControllerClient<Channel>,
    pub(crate) node: NodeClient<Channel>,
}

/// Whether the tests can run at all.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

impl Driver {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("sf-csi-")
            // Others pass through where volumes are published.
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in("/var/tmp")
            .unwrap();
        Self::serve_in(dir).await
    }

    async fn serve_in(dir: TempDir) -> Self {
        let config = Config {
            socket: dir.path().join("csi.sock"),
            data_dir: dir.path().join("data"),
            node_id: "n1".into(),
            registration: None,
        };
        let channel = csi::connect(&config.socket);
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(config, shutdown.clone()));
        let mut node = NodeClient::new(channel.clone());
        let answers = async {
            while node.node_get_info(v1::NodeGetInfoRequest {}).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, answers).await.expect("the driver answers");
        Self {
            dir,
            shutdown,
            serving,
            controller: ControllerClient::new(channel),
            node,
        }
    }

    /// Ends the driver and starts another one in the same place.
    pub(crate) async fn restart(self) -> Self {
        let dir = self.end().await;
        Self::serve_in(dir).await
    }

    async fn end(self) -> TempDir {
        self.shutdown.cancel();
        drop((self.controller, self.node));
        self.serving.await.unwrap().unwrap();
        self.dir
    }

    /// Ends the driver; nothing of it may be left attached or mounted.
    pub(crate) async fn stop(self) {
        let dir = self.end().await;
        assert_eq!(left_below(dir.path()).await, Vec::<String>::new());
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(crate) async fn create(&mut self, name: &str, kind: &str, bytes: i64) -> v1::Volume {
        let request = create(name, kind, bytes);
        let answer = self.controller.create_volume(request).await.unwrap().into_inner();
        answer.volume.unwrap()
    }

    pub(crate) async fn delete(&mut self, id: &str) {
        let request = v1::DeleteVolumeRequest {
            volume_id: id.into(),
            ..Default::default()
        };
        self.controller.delete_volume(request).await.unwrap();
    }

    /// Stages and publishes; the path.
    pub(crate) async fn mount(&mut self, id: &str, kind: &str) -> PathBuf {
        self.node.node_stage_volume(self.stage(id, kind)).await.unwrap();
        self.node.node_publish_volume(self.publish(id, kind)).await.unwrap();
        PathBuf::from(self.path("target"))
    }

    pub(crate) async fn unmount(&mut self, id: &str) {
        let request = v1::NodeUnpublishVolumeRequest {
            volume_id: id.into(),
            target_path: self.path("target"),
        };
        self.node.node_unpublish_volume(request).await.unwrap();
        let request = v1::NodeUnstageVolumeRequest {
            volume_id: id.into(),
            staging_target_path: self.path("staging"),
        };
        self.node.node_unstage_volume(request).await.unwrap();
    }

    pub(crate) fn stage(&self, id: &str, kind: &str) -> v1::NodeStageVolumeRequest {
        v1::NodeStageVolumeRequest {
            volume_id: id.into(),
            staging_target_path: self.path("staging"),
            volume_capability: Some(capability(kind)),
            ..Default::default()
        }
    }

    pub(crate) fn publish(&self, id: &str, kind: &str) -> v1::NodePublishVolumeRequest {
        v1::NodePublishVolumeRequest {
            volume_id: id.into(),
            staging_target_path: self.path("staging"),
            target_path: self.path("target"),
            volume_capability: Some(capability(kind)),
            ..Default::default()
        }
    }

    /// Publishes a volume of 8 MiB that goes with its publication.
    pub(crate) fn publish_ephemeral(&self, id: &str, kind: &str) -> v1::NodePublishVolumeRequest {
        let context = [
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("fs", kind),
            ("size", "8388608"),
        ];
        v1::NodePublishVolumeRequest {
            staging_target_path: String::new(),
            volume_context: HashMap::from(context.map(|(k, v)| (k.to_owned(), v.to_owned()))),
            ..self.publish(id, kind)
        }
    }

    pub(crate) async fn bytes_at(&mut self, id: &str, path: &str) -> Result<i64, Status> {
        let request = v1::NodeGetVolumeStatsRequest {
            volume_id: id.into(),
            volume_path: path.into(),
            ..Default::default()
        };
        let stats = self.node.node_get_volume_stats(request).await?.into_inner();
        assert!(!stats.volume_condition.unwrap().abnormal);
        Ok(stats.usage[0].total)
    }
}

/// Mounts and loop devices of a directory. A loop device goes a moment after its last user.
async fn left_below(dir: &Path) -> Vec<String> {
    let look = || {
        let name = dir.display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut left: Vec<String> = mounts
            .lines()
            .filter(|l| l.contains(&name))
            .map(str::to_owned)
            .collect();
        for block in std::fs::read_dir("/sys/block").unwrap() {
            let file = block.unwrap().path().join("loop/backing_file");
            left.extend(std::fs::read_to_string(file).ok().filter(|file| file.contains(&name)));
        }
        left
    };
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let left = look();
        if left.is_empty() || tokio::time::Instant::now() > end {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn capability(kind: &str) -> v1::VolumeCapability {
    let access_type = if kind == "block" {
        AccessType::Block(BlockVolume {})
    } else {
        AccessType::Mount(MountVolume::default())
    };
    v1::VolumeCapability {
        access_mode: Some(AccessMode {
            mode: Mode::SingleNodeWriter.into(),
        }),
        access_type: Some(access_type),
    }
}

pub(crate) fn create(name: &str, kind: &str, bytes: i64) -> v1::CreateVolumeRequest {
    let fs = (kind != "block").then(|| ("fs".to_owned(), kind.to_owned()));
    v1::CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(v1::CapacityRange {
            required_bytes: bytes,
            limit_bytes: 0,
        }),
        volume_capabilities: vec![capability(kind)],
        parameters: HashMap::from_iter(fs),
        ..Default::default()
    }
}

/// The code of a refusal.
pub(crate) fn code<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> Code {
    answer.expect_err("a refusal").code()
}
