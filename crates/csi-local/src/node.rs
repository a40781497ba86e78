//! The node service: volumes are attached, mounted, and shown to those who use them.

use crate::capability;
use crate::content;
use crate::controller::condition;
use crate::devices::{Loop, device_of};
use crate::disk::{Disk, blocking, failed};
use crate::mounts::{self, Options};
use crate::volume::{Kind, Publication, Volume, id_of};
use csi::v1;
use csi::v1::node_server::Node;
use csi::v1::node_service_capability::{Rpc, Type, rpc};
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_usage::Unit;
use nix::sys::statvfs::statvfs;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tonic::{Code, Request, Response, Status};

/// Set by the caller for volumes that live and die with their publication.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
/// Of such a volume: its size, in bytes.
const SIZE: &str = "size";

/// The node service.
#[derive(Debug)]
pub(crate) struct NodeService {
    /// What it works on.
    pub(crate) disk: Arc<Disk>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<v1::NodeStageVolumeRequest>,
    ) -> Answer<v1::NodeStageVolumeResponse> {
        let disk = self.disk.clone();
        blocking(move || stage(&disk, &request.into_inner())).await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<v1::NodeUnstageVolumeRequest>,
    ) -> Answer<v1::NodeUnstageVolumeResponse> {
        let disk = self.disk.clone();
        blocking(move || unstage(&disk, &request.into_inner())).await
    }

    async fn node_publish_volume(
        &self,
        request: Request<v1::NodePublishVolumeRequest>,
    ) -> Answer<v1::NodePublishVolumeResponse> {
        let disk = self.disk.clone();
        blocking(move || publish(&disk, &request.into_inner())).await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<v1::NodeUnpublishVolumeRequest>,
    ) -> Answer<v1::NodeUnpublishVolumeResponse> {
        let disk = self.disk.clone();
        blocking(move || unpublish(&disk, &request.into_inner())).await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<v1::NodeGetVolumeStatsRequest>,
    ) -> Answer<v1::NodeGetVolumeStatsResponse> {
        let disk = self.disk.clone();
        blocking(move || stats(&disk, &request.into_inner())).await
    }

    async fn node_expand_volume(
        &self,
        request: Request<v1::NodeExpandVolumeRequest>,
    ) -> Answer<v1::NodeExpandVolumeResponse> {
        let disk = self.disk.clone();
        blocking(move || expand(&disk, &request.into_inner())).await
    }

    async fn node_get_capabilities(
        &self,
        _: Request<v1::NodeGetCapabilitiesRequest>,
    ) -> Answer<v1::NodeGetCapabilitiesResponse> {
        let all = [
            rpc::Type::StageUnstageVolume,
            rpc::Type::GetVolumeStats,
            rpc::Type::ExpandVolume,
            rpc::Type::VolumeCondition,
            rpc::Type::SingleNodeMultiWriter,
        ];
        let capabilities = all.map(|one| v1::NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: one.into() })),
        });
        Ok(Response::new(v1::NodeGetCapabilitiesResponse {
            capabilities: capabilities.into(),
        }))
    }

    async fn node_get_info(&self, _: Request<v1::NodeGetInfoRequest>) -> Answer<v1::NodeGetInfoResponse> {
        Ok(Response::new(v1::NodeGetInfoResponse {
            node_id: self.disk.node_id.clone(),
            max_volumes_per_node: 0,
            accessible_topology: Some(capability::topology(&self.disk.node_id)),
        }))
    }
}

fn required(value: &str, what: &str) -> Result<(), Status> {
    if value.is_empty() {
        return Err(Status::invalid_argument(format!("{what} is required")));
    }
    Ok(())
}

/// A path as the kernel tells of it: without links on the way.
fn real(path: &str) -> Result<PathBuf, Status> {
    let path = Path::new(path);
    let (Some(parent), Some(name), true) = (path.parent(), path.file_name(), path.is_absolute()) else {
        return Err(Status::invalid_argument(format!(
            "{} is no absolute path",
            path.display()
        )));
    };
    match parent.canonicalize() {
        Ok(parent) => Ok(parent.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.to_path_buf()),
        Err(error) => Err(failed("resolve a path")(error)),
    }
}

fn stage(disk: &Arc<Disk>, request: &v1::NodeStageVolumeRequest) -> Result<v1::NodeStageVolumeResponse, Status> {
    let id = &request.volume_id;
    required(id, "a volume id")?;
    required(&request.staging_target_path, "a staging target path")?;
    let capability = request.volume_capability.as_ref();
    if capability.is_none() {
        return Err(Status::invalid_argument("a volume capability is required"));
    }
    disk.volume(id)?;
    let _busy = disk.take(id)?;
    let mut volume = disk.volume(id)?;
    capability::check_use(&volume, capability)?;
    let point = real(&request.staging_target_path)?;
    let options = Options::of(capability::mount_flags(capability));
    if let Some(other) = volume.staged.as_ref().filter(|staged| **staged != point) {
        let is_there = mountinfo::at(other).map_err(failed("look at the mounts"))?.is_some();
        if is_there {
            let message = format!("volume {id} is staged at {} already", other.display());
            return Err(Status::failed_precondition(message));
        }
    }
    volume.staged = Some(point.clone());
    disk.note(id, &volume)?;
    disk.grow_before_mounting(id, &mut volume)?;
    show(disk, id, &volume, &point, &options).map_err(failed("stage a volume"))?;
    match disk.grow_file_system(id, &mut volume) {
        // It has grown as far as it can while it is used, and may be used.
        Err(status) if status.code() == Code::FailedPrecondition => tracing::debug!(id, %status, "not grown"),
        grown => grown?,
    }
    Ok(v1::NodeStageVolumeResponse {})
}

/// Mounts a volume's data; a block volume's device is attached only.
fn show(disk: &Disk, id: &str, volume: &Volume, point: &Path, options: &Options) -> io::Result<()> {
    let data = disk.content(id, volume.kind);
    if volume.kind == Kind::Block {
        // It has no user of its own that would keep it, so it stays until it is unstaged.
        Loop::attach(&data, false)?;
        return Ok(());
    }
    if mountinfo::at(point)?.is_some() {
        return Ok(());
    }
    fs::create_dir_all(point)?;
    match volume.kind.file_system() {
        None => {
            options
                .check_for_bind()
                .map_err(|s| io::Error::new(io::ErrorKind::InvalidInput, s.message()))?;
            mounts::bind(&data, point, options)
        }
        Some(file_system) => {
            let device = Loop::attach(&data, true)?;
            mounts::mount_device(&device.path, point, file_system, options)
        }
    }
}

fn unstage(disk: &Arc<Disk>, request: &v1::NodeUnstageVolumeRequest) -> Result<v1::NodeUnstageVolumeResponse, Status> {
    let id = &request.volume_id;
    required(id, "a volume id")?;
    required(&request.staging_target_path, "a staging target path")?;
    let _busy = disk.take(id)?;
    let point = real(&request.staging_target_path)?;
    let volume = disk.find(id)?;
    let is_ours = volume
        .as_ref()
        .is_some_and(|volume| volume.staged.as_ref() == Some(&point));
    if let (Some(mut volume), true) = (volume, is_ours) {
        mounts::unmount(&point).map_err(failed("unmount a staged volume"))?;
        if volume.kind == Kind::Block {
            detach(disk, id).map_err(failed("detach a block volume"))?;
        }
        volume.staged = None;
        disk.note(id, &volume)?;
    }
    Ok(v1::NodeUnstageVolumeResponse {})
}

fn detach(disk: &Disk, id: &str) -> io::Result<()> {
    let image = disk.content(id, Kind::Block);
    if device_of(&image)?.is_some() {
        Loop::attach(&image, false)?.detach()?;
    }
    Ok(())
}

fn publish(disk: &Arc<Disk>, request: &v1::NodePublishVolumeRequest) -> Result<v1::NodePublishVolumeResponse, Status> {
    let id = &request.volume_id;
    required(id, "a volume id")?;
    required(&request.target_path, "a target path")?;
    let capability = request.volume_capability.as_ref();
    if capability.is_none() {
        return Err(Status::invalid_argument("a volume capability is required"));
    }
    let is_ephemeral = request.volume_context.get(EPHEMERAL).is_some_and(|is| is == "true");
    if !is_ephemeral {
        disk.volume(id)?;
        if request.staging_target_path.is_empty() {
            return Err(Status::failed_precondition("a staging target path is required"));
        }
    }
    let _busy = disk.take(id)?;
    let mut volume = match disk.find(id)? {
        None if is_ephemeral => make_ephemeral(disk, request)?,
        found => found.ok_or_else(|| Status::not_found(format!("volume {id} does not exist")))?,
    };
    if volume.ephemeral != is_ephemeral {
        return Err(Status::invalid_argument(format!(
            "volume {id} is of another life cycle"
        )));
    }
    let mode = capability::check_use(&volume, capability)?;
    let target = real(&request.target_path)?;
    if is_published(&volume, &target, request.readonly)? {
        return Ok(v1::NodePublishVolumeResponse {});
    }
    let alone = mode == Mode::SingleNodeSingleWriter;
    check_alone(id, &volume, alone)?;
    volume.published.retain(|published| published.target != target);
    volume.published.push(Publication {
        target: target.clone(),
        readonly: request.readonly,
        alone,
    });
    disk.note(id, &volume)?;
    let options = Options::of(capability::mount_flags(capability)).read_only(request.readonly);
    if is_ephemeral && volume.kind.is_image() {
        show(disk, id, &volume, &target, &options).map_err(failed("mount a volume"))?;
        return Ok(v1::NodePublishVolumeResponse {});
    }
    let source = shown_at(disk, id, &volume, request)?;
    let shown = publish_at(&source, &target, &options);
    shown.map_err(failed("publish a volume"))?;
    Ok(v1::NodePublishVolumeResponse {})
}

/// Whether a volume is at a target already, as it is to be there.
fn is_published(volume: &Volume, target: &Path, readonly: bool) -> Result<bool, Status> {
    let Some(there) = mountinfo::at(target).map_err(failed("look at the mounts"))? else {
        return Ok(false);
    };
    let known = volume.published.iter().find(|known| known.target == target);
    if known.is_none_or(|known| known.readonly != readonly) {
        let message = format!("something else is mounted at {}", target.display());
        return Err(Status::already_exists(message));
    }
    if readonly && !there.is_read_only {
        // We were killed before it was read-only: nobody has been given it yet.
        mounts::unmount(target).map_err(failed("unmount what is half published"))?;
        return Ok(false);
    }
    Ok(true)
}

/// A volume that may have one user at a time has no second one.
fn check_alone(id: &str, volume: &Volume, alone: bool) -> Result<(), Status> {
    let mounts = mountinfo::all().map_err(failed("look at the mounts"))?;
    let others = volume.published.iter().filter(|p| alone || p.alone);
    let mut active = others.filter(|p| mounts.iter().any(|mounted| mounted.point == p.target));
    match active.next() {
        None => Ok(()),
        Some(other) => Err(Status::failed_precondition(format!(
            "volume {id} is published at {} and may be at one place only",
            other.target.display()
        ))),
    }
}

/// What is to be shown at the target.
fn shown_at(disk: &Disk, id: &str, volume: &Volume, request: &v1::NodePublishVolumeRequest) -> Result<PathBuf, Status> {
    let not_staged = || Status::failed_precondition(format!("volume {id} is not staged"));
    if volume.kind == Kind::Block {
        let device = device_of(&disk.content(id, volume.kind)).map_err(failed("look for a device"))?;
        return device.ok_or_else(not_staged);
    }
    if volume.ephemeral {
        return Ok(disk.content(id, volume.kind));
    }
    let staged = real(&request.staging_target_path)?;
    let is_staged = volume.staged.as_ref() == Some(&staged)
        && mountinfo::at(&staged).map_err(failed("look at the mounts"))?.is_some();
    is_staged.then_some(staged).ok_or_else(not_staged)
}

fn publish_at(source: &Path, target: &Path, options: &Options) -> io::Result<()> {
    if fs::metadata(source)?.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        fs::OpenOptions::new().create(true).append(true).open(target)?;
    }
    mounts::bind(source, target, options)
}

fn make_ephemeral(disk: &Disk, request: &v1::NodePublishVolumeRequest) -> Result<Volume, Status> {
    let id = &request.volume_id;
    if id_of(id)? != *id {
        return Err(Status::invalid_argument("this cannot be the id of an ephemeral volume"));
    }
    let mut parameters = HashMap::new();
    for (name, value) in &request.volume_context {
        if name != SIZE && !name.starts_with("csi.storage.k8s.io/") {
            parameters.insert(name.clone(), value.clone());
        }
    }
    let capabilities: Vec<_> = request.volume_capability.iter().cloned().collect();
    let kind = capability::wanted(&capabilities, &parameters)?.kind(None)?;
    let asked = request.volume_context.get(SIZE).map(|size| size.parse::<i64>());
    let asked = asked
        .transpose()
        .map_err(|_| Status::invalid_argument("the size of an ephemeral volume is a number of bytes"))?;
    let range = asked.map(|required_bytes| v1::CapacityRange {
        required_bytes,
        limit_bytes: 0,
    });
    let bytes = capability::size(kind, range.as_ref(), 0)?;
    let volume = Volume {
        name: id.clone(),
        kind,
        bytes,
        formatted_bytes: bytes,
        source: None,
        ephemeral: true,
        staged: None,
        published: Vec::new(),
    };
    let made = disk.volumes.add(id, &volume, |at| content::make(at, kind, bytes));
    made.map_err(failed("make an ephemeral volume"))?;
    Ok(volume)
}

fn unpublish(
    disk: &Arc<Disk>,
    request: &v1::NodeUnpublishVolumeRequest,
) -> Result<v1::NodeUnpublishVolumeResponse, Status> {
    let id = &request.volume_id;
    required(id, "a volume id")?;
    required(&request.target_path, "a target path")?;
    let _busy = disk.take(id)?;
    let target = real(&request.target_path)?;
    let Some(mut volume) = disk.find(id)? else {
        // It went with an earlier call.
        return Ok(v1::NodeUnpublishVolumeResponse {});
    };
    if volume.published.iter().any(|published| published.target == target) {
        take_back(&target).map_err(failed("unpublish a volume"))?;
        volume.published.retain(|published| published.target != target);
        disk.note(id, &volume)?;
    }
    if volume.ephemeral && volume.published.is_empty() {
        disk.volumes.remove(id).map_err(failed("remove an ephemeral volume"))?;
    }
    Ok(v1::NodeUnpublishVolumeResponse {})
}

fn take_back(target: &Path) -> io::Result<()> {
    mounts::unmount(target)?;
    let removed = match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() => fs::remove_dir(target),
        Ok(_) => fs::remove_file(target),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Checks that a volume is at a path.
fn check_there(id: &str, volume: &Volume, path: &str) -> Result<PathBuf, Status> {
    // Where nothing can be published, nothing is.
    let path = real(path).map_err(|_| Status::not_found(format!("volume {id} is not at {path}")))?;
    let known = volume.published.iter().any(|p| p.target == path) || volume.staged.as_ref() == Some(&path);
    let is_there = known && mountinfo::at(&path).map_err(failed("look at the mounts"))?.is_some();
    let message = || Status::not_found(format!("volume {id} is not at {}", path.display()));
    is_there.then(|| path.clone()).ok_or_else(message)
}

fn stats(disk: &Disk, request: &v1::NodeGetVolumeStatsRequest) -> Result<v1::NodeGetVolumeStatsResponse, Status> {
    let id = &request.volume_id;
    required(id, "a volume id")?;
    required(&request.volume_path, "a volume path")?;
    let volume = disk.volume(id)?;
    let path = check_there(id, &volume, &request.volume_path)?;
    let usage = |unit: Unit, total: u64, available: u64, used: u64| {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        v1::VolumeUsage {
            unit: unit.into(),
            total: number(total),
            available: number(available),
            used: number(used),
        }
    };
    let usage = if volume.kind == Kind::Block {
        vec![usage(Unit::Bytes, u64::try_from(volume.bytes).unwrap_or(0), 0, 0)]
    } else {
        let stat = statvfs(&path).map_err(|errno| failed("look at a file system")(errno.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        let used = stat.blocks().saturating_sub(stat.blocks_free());
        let inodes_used = stat.files().saturating_sub(stat.files_free());
        vec![
            usage(
                Unit::Bytes,
                bytes(stat.blocks()),
                bytes(stat.blocks_available()),
                bytes(used),
            ),
            usage(Unit::Inodes, stat.files(), stat.files_free(), inodes_used),
        ]
    };
    Ok(v1::NodeGetVolumeStatsResponse {
        usage,
        volume_condition: Some(condition(disk, id, &volume)),
    })
}

fn expand(disk: &Arc<Disk>, request: &v1::NodeExpandVolumeRequest) -> Result<v1::NodeExpandVolumeResponse, Status> {
    let id = &request.volume_id;
    required(id, "a volume id")?;
    required(&request.volume_path, "a volume path")?;
    let range = request.capacity_range.as_ref();
    range.map_or(Ok(()), capability::check_range)?;
    disk.volume(id)?;
    let _busy = disk.take(id)?;
    let mut volume = disk.volume(id)?;
    if request.volume_capability.is_some() {
        capability::check_use(&volume, request.volume_capability.as_ref())?;
    }
    check_there(id, &volume, &request.volume_path)?;
    if let Some(range) = range {
        let bytes = capability::size(volume.kind, Some(range), volume.bytes)?;
        disk.enlarge(id, &mut volume, bytes)?;
    }
    disk.grow_file_system(id, &mut volume)?;
    Ok(v1::NodeExpandVolumeResponse {
        capacity_bytes: volume.bytes,
    })
}
