//! The directory in which drivers make themselves known: one registration socket each, as for a kubelet.

use super::{Driver, node_info};
use crate::run::Node;
use csi::registration::registration_client::RegistrationClient;
use csi::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use csi::v1;
use csi::v1::node_client::NodeClient;
use csi::v1::node_service_capability::{Type, rpc};
use futures::future::join_all;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

/// Below the agent's root.
const DIRECTORY: &str = "plugins_registry";
/// What of a plug-in's kinds is ours.
const CSI: &str = "CSIPlugin";
/// A driver that could not be taken up is asked again after this time.
const RETRY: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(10);

/// What tells one socket from another that was made in its place.
type Identity = (u64, i64, i64);

/// Follows the directory until shutdown.
pub(crate) async fn run(node: Arc<Node>, shutdown: CancellationToken) {
    let dir = node.config.root_dir.join(DIRECTORY);
    let changes = match Changes::of(&dir) {
        Ok(changes) => changes,
        Err(error) => {
            tracing::error!(%error, dir = %dir.display(), "CSI drivers cannot make themselves known");
            return shutdown.cancelled().await;
        }
    };
    let mut known: BTreeMap<PathBuf, Identity> = BTreeMap::new();
    loop {
        let found = sockets(&dir);
        let gone: Vec<PathBuf> = known
            .keys()
            .filter(|path| !found.contains_key(*path))
            .cloned()
            .collect();
        for socket in gone {
            known.remove(&socket);
            forget(&node, &socket).await;
        }
        let mut is_complete = true;
        let new = found
            .into_iter()
            .filter(|(socket, identity)| known.get(socket) != Some(identity));
        // One that does not answer keeps no other waiting.
        let taken = join_all(new.map(async |(socket, identity)| (take_up(&node, &socket).await, socket, identity)));
        for (taken, socket, identity) in taken.await {
            match taken {
                Ok(()) => drop(known.insert(socket, identity)),
                Err(why) => {
                    is_complete = false;
                    tracing::debug!(why, socket = %socket.display(), "a plug-in was not taken up, trying again");
                }
            }
        }
        let retry = async {
            if is_complete {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(RETRY).await;
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changes.next() => {}
            () = retry => {}
        }
    }
}

/// Changes of a directory, told by the kernel.
struct Changes(Receiver);

impl Changes {
    fn of(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let what = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
        inotify.add_watch(dir, what)?;
        // It is no pipe, but read like one.
        Ok(Self(Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify))?))
    }

    /// Waits for any; those that came together are one, whatever they are.
    async fn next(&self) {
        let mut events = [0; 4096];
        if self.0.readable().await.is_err() {
            return tokio::time::sleep(RETRY).await;
        }
        while self.0.try_read(&mut events).is_ok_and(|read| read > 0) {}
    }
}

fn sockets(dir: &Path) -> BTreeMap<PathBuf, Identity> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sockets = entries.filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        let identity = (meta.ino(), meta.ctime(), meta.ctime_nsec());
        meta.file_type().is_socket().then(|| (entry.path(), identity))
    });
    sockets.collect()
}

/// Asks a plug-in who it is, makes it known, and tells it so.
async fn take_up(node: &Node, socket: &Path) -> Result<(), String> {
    let mut registration = RegistrationClient::new(csi::connect(socket));
    let info = registration.get_info(csi::timed(InfoRequest {}, TIMEOUT)).await;
    let info = info.map_err(|status| status.to_string())?.into_inner();
    if info.r#type != CSI {
        // Plug-ins of other kinds (devices, resources) are nobody's here.
        return Ok(());
    }
    let taken = async {
        let driver = ask(&info, socket).await?;
        let name = driver.name.clone();
        let topology = driver.topology.clone();
        node.drivers.add(driver);
        node_info::publish(node, &topology, None).await?;
        Ok(name)
    };
    let taken: Result<String, String> = taken.await;
    let status = RegistrationStatus {
        plugin_registered: taken.is_ok(),
        error: taken.as_ref().err().cloned().unwrap_or_default(),
    };
    let told = registration
        .notify_registration_status(csi::timed(status, TIMEOUT))
        .await;
    let name = taken?;
    told.map_err(|status| status.to_string())?;
    tracing::info!(driver = name, "a CSI driver is registered");
    Ok(())
}

/// Asks a driver what it can do.
async fn ask(info: &PluginInfo, socket: &Path) -> Result<Driver, String> {
    let is_ours = |version: &String| version.trim_start_matches('v').split('.').next() == Some("1");
    if !info.supported_versions.iter().any(is_ours) {
        return Err(format!(
            "none of the versions {:?} is supported",
            info.supported_versions
        ));
    }
    let endpoint = csi::path_of(&info.endpoint).map_err(|error| error.to_string())?;
    let channel = csi::connect(&endpoint);
    let mut client = NodeClient::new(channel.clone());
    let failed = |status: tonic::Status| format!("error retrieving node info: {}", status.message());
    let node = client
        .node_get_info(csi::timed(v1::NodeGetInfoRequest {}, TIMEOUT))
        .await
        .map_err(failed)?;
    let capabilities = client
        .node_get_capabilities(csi::timed(v1::NodeGetCapabilitiesRequest {}, TIMEOUT))
        .await
        .map_err(failed)?;
    let capabilities = capabilities.into_inner().capabilities;
    let can = |wanted: rpc::Type| {
        let is_it = |c: &v1::NodeServiceCapability| matches!(&c.r#type, Some(Type::Rpc(rpc)) if rpc.r#type() == wanted);
        capabilities.iter().any(is_it)
    };
    let node = node.into_inner();
    Ok(Driver {
        name: info.name.clone(),
        registered_by: socket.to_path_buf(),
        channel,
        node_id: node.node_id,
        topology: node
            .accessible_topology
            .map(|topology| topology.segments.into_iter().collect())
            .unwrap_or_default(),
        volumes_max: i32::try_from(node.max_volumes_per_node).ok().filter(|max| *max > 0),
        stages: can(rpc::Type::StageUnstageVolume),
        expands: can(rpc::Type::ExpandVolume),
        mounts_for_group: can(rpc::Type::VolumeMountGroup),
        tells_stats: can(rpc::Type::GetVolumeStats),
        knows_single_writer: can(rpc::Type::SingleNodeMultiWriter),
    })
}

/// Forgets the driver of a socket that is gone.
async fn forget(node: &Node, socket: &Path) {
    let gone = node.drivers.all().into_iter().find(|d| d.registered_by == socket);
    let Some(driver) = gone else { return };
    node.drivers.remove(&driver.name);
    tracing::info!(driver = driver.name, "a CSI driver has gone");
    if let Err(why) = node_info::publish(node, &BTreeMap::new(), Some(&driver.name)).await {
        tracing::warn!(why, "the CSINode does not tell that a driver has gone");
    }
}
