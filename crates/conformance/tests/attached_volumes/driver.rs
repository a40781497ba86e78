//! A CSI driver for one volume, which is a directory, and its attacher. It writes down what it is asked out of order.

use anyhow::Context;
use csi::registration::registration_server::{Registration, RegistrationServer};
use csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use csi::v1;
use csi::v1::node_server::{Node, NodeServer};
use csi::v1::node_service_capability::{Rpc, Type, rpc};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// The driver's name.
pub(crate) const DRIVER: &str = "attached.example.com";

/// How often the attacher looks.
const PERIOD: Duration = Duration::from_millis(50);

/// What the node finds only if it was told what attaching gave.
const DEVICE: &str = "/dev/attached-1";

/// A running driver; it ends when dropped.
pub(crate) struct Driver {
    state: Shared,
    _runtime: Runtime,
    _dir: TempDir,
}

type Shared = Arc<Mutex<State>>;

#[derive(Default)]
struct State {
    /// Whether the attacher works.
    attaches: bool,
    is_attached: bool,
    is_staged: bool,
    published: BTreeSet<PathBuf>,
    wrong: Vec<String>,
}

fn locked(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    /// Serves the driver, makes it known, and waits with attaching.
    pub(crate) fn start(registry: &Path, kubeconfig: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let dir = tempfile::Builder::new().prefix("sf-csi-").tempdir_in("/var/tmp")?;
        let state = Shared::default();
        let socket = dir.path().join("csi.sock");
        let volume = dir.path().join("volume");
        std::fs::create_dir(&volume)?;
        let node = NodeService {
            state: state.clone(),
            volume,
        };
        let registration = RegistrationService {
            endpoint: socket.clone(),
        };
        let _entered = runtime.enter();
        let driver = Server::builder().add_service(NodeServer::new(node));
        runtime.spawn(driver.serve_with_incoming(csi::listen(&socket)?));
        let registration = Server::builder().add_service(RegistrationServer::new(registration));
        let place = registry.join("attached.example.com-reg.sock");
        runtime.spawn(registration.serve_with_incoming(csi::listen(&place)?));
        let config = Kubeconfig::read_from(kubeconfig).context("no kubeconfig")?;
        let config = runtime.block_on(kube::Config::from_custom_kubeconfig(
            config,
            &KubeConfigOptions::default(),
        ))?;
        runtime.spawn(act(Client::try_from(config)?, state.clone()));
        Ok(Self {
            state,
            _runtime: runtime,
            _dir: dir,
        })
    }

    /// Lets the attacher work from now on.
    pub(crate) fn attach(&self) {
        locked(&self.state).attaches = true;
    }

    /// Whether anything is staged or published.
    pub(crate) fn has_any(&self) -> bool {
        let state = locked(&self.state);
        state.is_staged || !state.published.is_empty()
    }

    /// What it was asked out of order.
    pub(crate) fn wrong(&self) -> Vec<String> {
        locked(&self.state).wrong.clone()
    }
}

/// Acts on VolumeAttachments. While the API server is not there, there is nothing to do.
async fn act(client: Client, state: Shared) {
    let attachments: Api<VolumeAttachment> = Api::all(client);
    loop {
        tokio::time::sleep(PERIOD).await;
        if !locked(&state).attaches {
            continue;
        }
        let found = attachments.list(&ListParams::default()).await;
        for one in found.into_iter().flatten() {
            // What fails is tried again at the next look.
            drop(act_on(&attachments, &state, &one).await);
        }
    }
}

async fn act_on(api: &Api<VolumeAttachment>, state: &Shared, one: &VolumeAttachment) -> kube::Result<()> {
    let (name, params) = (one.name_any(), PatchParams::default());
    let held = |finalizers: serde_json::Value| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    if one.metadata.deletion_timestamp.is_some() {
        {
            let mut state = locked(state);
            if state.is_staged || !state.published.is_empty() {
                state.wrong.push("detached while it was in use".to_owned());
            }
            state.is_attached = false;
        }
        api.patch(&name, &params, &held(json!(null))).await?;
    } else if !one.status.as_ref().is_some_and(|status| status.attached) {
        api.patch(&name, &params, &held(json!([format!("external-attacher/{DRIVER}")])))
            .await?;
        locked(state).is_attached = true;
        let status = json!({"status": {"attached": true, "attachmentMetadata": {"device": DEVICE}}});
        api.patch_status(&name, &params, &Patch::Merge(status)).await?;
    }
    Ok(())
}

struct RegistrationService {
    endpoint: PathBuf,
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
        _: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

struct NodeService {
    state: Shared,
    volume: PathBuf,
}

impl NodeService {
    /// Writes down what is not right.
    fn expect(&self, what: &str, is_right: impl FnOnce(&State) -> bool) -> Result<(), Status> {
        let mut state = locked(&self.state);
        if is_right(&state) {
            return Ok(());
        }
        state.wrong.push(what.to_owned());
        Err(Status::failed_precondition(what))
    }
}

fn mount(words: &[&std::ffi::OsStr]) -> Result<(), Status> {
    let ran = Command::new(words[0]).args(&words[1..]).status();
    match ran {
        Ok(status) if status.success() => Ok(()),
        other => Err(Status::internal(format!("{words:?}: {other:?}"))),
    }
}

fn is_mounted(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

fn internal(error: std::io::Error) -> Status {
    Status::internal(error.to_string())
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<v1::NodeStageVolumeRequest>,
    ) -> Result<Response<v1::NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        self.expect("staged without what attaching gave", |state| {
            state.is_attached && request.publish_context.get("device").map(String::as_str) == Some(DEVICE)
        })?;
        locked(&self.state).is_staged = true;
        Ok(Response::new(v1::NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        _: Request<v1::NodeUnstageVolumeRequest>,
    ) -> Result<Response<v1::NodeUnstageVolumeResponse>, Status> {
        self.expect("unstaged while it was published", |state| state.published.is_empty())?;
        locked(&self.state).is_staged = false;
        Ok(Response::new(v1::NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<v1::NodePublishVolumeRequest>,
    ) -> Result<Response<v1::NodePublishVolumeResponse>, Status> {
        let target = PathBuf::from(request.into_inner().target_path);
        self.expect("published before it was staged", |state| {
            state.is_staged && state.is_attached
        })?;
        std::fs::create_dir_all(&target).map_err(internal)?;
        if !is_mounted(&target) {
            mount(&[
                "mount".as_ref(),
                "--bind".as_ref(),
                self.volume.as_ref(),
                target.as_ref(),
            ])?;
        }
        locked(&self.state).published.insert(target);
        Ok(Response::new(v1::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<v1::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<v1::NodeUnpublishVolumeResponse>, Status> {
        let target = PathBuf::from(request.into_inner().target_path);
        if is_mounted(&target) {
            mount(&["umount".as_ref(), target.as_ref()])?;
        }
        if target.exists() {
            std::fs::remove_dir(&target).map_err(internal)?;
        }
        locked(&self.state).published.remove(&target);
        Ok(Response::new(v1::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        _: Request<v1::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<v1::NodeGetVolumeStatsResponse>, Status> {
        Err(Status::unimplemented("no statistics"))
    }

    async fn node_expand_volume(
        &self,
        _: Request<v1::NodeExpandVolumeRequest>,
    ) -> Result<Response<v1::NodeExpandVolumeResponse>, Status> {
        Err(Status::unimplemented("it does not grow"))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<v1::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<v1::NodeGetCapabilitiesResponse>, Status> {
        let stages = Type::Rpc(Rpc {
            r#type: rpc::Type::StageUnstageVolume.into(),
        });
        Ok(Response::new(v1::NodeGetCapabilitiesResponse {
            capabilities: vec![v1::NodeServiceCapability { r#type: Some(stages) }],
        }))
    }

    async fn node_get_info(
        &self,
        _: Request<v1::NodeGetInfoRequest>,
    ) -> Result<Response<v1::NodeGetInfoResponse>, Status> {
        Ok(Response::new(v1::NodeGetInfoResponse {
            node_id: "the-node".to_owned(),
            ..v1::NodeGetInfoResponse::default()
        }))
    }
}
