//! The controller service: volumes are made, found, grown and removed.

use crate::capability::{self, Wanted};
use crate::content;
use crate::disk::{Disk, blocking, failed};
use crate::snapshots;
use crate::volume::{Source, Volume, id_of, is_id};
use csi::v1;
use csi::v1::controller_server::Controller;
use csi::v1::controller_service_capability::{Rpc, Type, rpc};
use csi::v1::volume_content_source as source;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The controller service.
#[derive(Debug)]
pub(crate) struct ControllerService {
    /// What it works on.
    pub(crate) disk: Arc<Disk>,
}

type Answer<T> = Result<Response<T>, Status>;

fn unimplemented<T>(what: &str) -> Answer<T> {
    Err(Status::unimplemented(format!(
        "{what} is not needed: volumes are where they are used"
    )))
}

#[tonic::async_trait]
impl Controller for ControllerService {
    async fn create_volume(&self, request: Request<v1::CreateVolumeRequest>) -> Answer<v1::CreateVolumeResponse> {
        let disk = self.disk.clone();
        blocking(move || create(&disk, &request.into_inner())).await
    }

    async fn delete_volume(&self, request: Request<v1::DeleteVolumeRequest>) -> Answer<v1::DeleteVolumeResponse> {
        let disk = self.disk.clone();
        blocking(move || delete(&disk, &request.into_inner().volume_id)).await
    }

    async fn controller_publish_volume(
        &self,
        _: Request<v1::ControllerPublishVolumeRequest>,
    ) -> Answer<v1::ControllerPublishVolumeResponse> {
        unimplemented("ControllerPublishVolume")
    }

    async fn controller_unpublish_volume(
        &self,
        _: Request<v1::ControllerUnpublishVolumeRequest>,
    ) -> Answer<v1::ControllerUnpublishVolumeResponse> {
        unimplemented("ControllerUnpublishVolume")
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<v1::ValidateVolumeCapabilitiesRequest>,
    ) -> Answer<v1::ValidateVolumeCapabilitiesResponse> {
        let disk = self.disk.clone();
        blocking(move || validate(&disk, request.into_inner())).await
    }

    async fn list_volumes(&self, request: Request<v1::ListVolumesRequest>) -> Answer<v1::ListVolumesResponse> {
        let disk = self.disk.clone();
        blocking(move || list(&disk, &request.into_inner())).await
    }

    async fn get_capacity(&self, request: Request<v1::GetCapacityRequest>) -> Answer<v1::GetCapacityResponse> {
        let disk = self.disk.clone();
        blocking(move || capacity(&disk, &request.into_inner())).await
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<v1::ControllerGetCapabilitiesRequest>,
    ) -> Answer<v1::ControllerGetCapabilitiesResponse> {
        let all = [
            rpc::Type::CreateDeleteVolume,
            rpc::Type::ListVolumes,
            rpc::Type::GetCapacity,
            rpc::Type::CreateDeleteSnapshot,
            rpc::Type::ListSnapshots,
            rpc::Type::CloneVolume,
            rpc::Type::ExpandVolume,
            rpc::Type::VolumeCondition,
            rpc::Type::GetVolume,
            rpc::Type::SingleNodeMultiWriter,
        ];
        let capabilities = all.map(|one| v1::ControllerServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: one.into() })),
        });
        Ok(Response::new(v1::ControllerGetCapabilitiesResponse {
            capabilities: capabilities.into(),
        }))
    }

    async fn create_snapshot(&self, request: Request<v1::CreateSnapshotRequest>) -> Answer<v1::CreateSnapshotResponse> {
        let disk = self.disk.clone();
        blocking(move || snapshots::create(&disk, &request.into_inner())).await
    }

    async fn delete_snapshot(&self, request: Request<v1::DeleteSnapshotRequest>) -> Answer<v1::DeleteSnapshotResponse> {
        let disk = self.disk.clone();
        blocking(move || snapshots::delete(&disk, &request.into_inner().snapshot_id)).await
    }

    async fn list_snapshots(&self, request: Request<v1::ListSnapshotsRequest>) -> Answer<v1::ListSnapshotsResponse> {
        let disk = self.disk.clone();
        blocking(move || snapshots::list(&disk, &request.into_inner())).await
    }

    async fn get_snapshot(&self, _: Request<v1::GetSnapshotRequest>) -> Answer<v1::GetSnapshotResponse> {
        unimplemented("GetSnapshot")
    }

    async fn controller_expand_volume(
        &self,
        request: Request<v1::ControllerExpandVolumeRequest>,
    ) -> Answer<v1::ControllerExpandVolumeResponse> {
        let disk = self.disk.clone();
        blocking(move || expand(&disk, &request.into_inner())).await
    }

    async fn controller_get_volume(
        &self,
        request: Request<v1::ControllerGetVolumeRequest>,
    ) -> Answer<v1::ControllerGetVolumeResponse> {
        let disk = self.disk.clone();
        blocking(move || get(&disk, &request.into_inner().volume_id)).await
    }

    async fn controller_modify_volume(
        &self,
        _: Request<v1::ControllerModifyVolumeRequest>,
    ) -> Answer<v1::ControllerModifyVolumeResponse> {
        unimplemented("ControllerModifyVolume")
    }
}

fn create(disk: &Arc<Disk>, request: &v1::CreateVolumeRequest) -> Result<v1::CreateVolumeResponse, Status> {
    let id = id_of(&request.name)?;
    let wanted = capability::wanted(&request.volume_capabilities, &request.parameters)?;
    if let Some(name) = request.mutable_parameters.keys().next() {
        return Err(Status::invalid_argument(format!(
            "no parameter {name:?} can be changed"
        )));
    }
    let range = request.capacity_range.as_ref();
    range.map_or(Ok(()), capability::check_range)?;
    capability::check_place(request.accessibility_requirements.as_ref(), &disk.node_id)?;
    let source = source_of(request.volume_content_source.as_ref())?;
    let _busy = disk.take(&id)?;
    let volume = match disk.find(&id)? {
        Some(volume) => {
            let is_same = wanted.is_met_by(volume.kind)
                && volume.source == source
                && volume.name == request.name
                && capability::is_within(volume.bytes, range);
            if !is_same {
                let message = format!("volume {id} exists and is not as asked for");
                return Err(Status::already_exists(message));
            }
            volume
        }
        None => make(disk, &id, request, wanted, source)?,
    };
    Ok(v1::CreateVolumeResponse {
        volume: Some(message(disk, &id, &volume)),
    })
}

fn make(
    disk: &Arc<Disk>,
    id: &str,
    request: &v1::CreateVolumeRequest,
    wanted: Wanted,
    source: Option<Source>,
) -> Result<Volume, Status> {
    let range = request.capacity_range.as_ref();
    let origin = source
        .as_ref()
        .map(|source| snapshots::origin(disk, source))
        .transpose()?;
    let kind = wanted.kind(origin.as_ref().map(|origin| origin.kind))?;
    let least = origin.as_ref().map_or(0, |origin| origin.bytes);
    let bytes = capability::size(kind, range, least)?;
    let volume = Volume {
        name: request.name.clone(),
        kind,
        bytes,
        formatted_bytes: match &origin {
            Some(origin) if kind.is_image() => origin.formatted_bytes,
            _ => bytes,
        },
        source,
        ephemeral: false,
        staged: None,
        published: Vec::new(),
    };
    let place = |at: &std::path::Path| -> Result<(), snapshots::Failure> {
        match &origin {
            None => Ok(content::make(at, kind, bytes)?),
            Some(origin) => {
                origin.copy_to(disk, at)?;
                content::set_apart(at, kind)?;
                if kind.is_image() {
                    content::resize(&content::within(at, kind), bytes)?;
                }
                Ok(())
            }
        }
    };
    disk.volumes
        .add(id, &volume, place)
        .map_err(|failure| failure.status("make a volume"))?;
    tracing::info!(id, ?kind, bytes, "made a volume");
    Ok(volume)
}

fn source_of(source: Option<&v1::VolumeContentSource>) -> Result<Option<Source>, Status> {
    let Some(source) = source else { return Ok(None) };
    match &source.r#type {
        Some(source::Type::Snapshot(snapshot)) => Ok(Some(Source::Snapshot(snapshot.snapshot_id.clone()))),
        Some(source::Type::Volume(volume)) => Ok(Some(Source::Volume(volume.volume_id.clone()))),
        None => Err(Status::invalid_argument(
            "a volume is filled from a snapshot or a volume",
        )),
    }
}

/// A volume as callers know it.
fn message(disk: &Disk, id: &str, volume: &Volume) -> v1::Volume {
    let content_source = volume.source.as_ref().map(|source| {
        let kind = match source {
            Source::Snapshot(id) => source::Type::Snapshot(source::SnapshotSource {
                snapshot_id: id.clone(),
            }),
            Source::Volume(id) => source::Type::Volume(source::VolumeSource { volume_id: id.clone() }),
        };
        v1::VolumeContentSource { r#type: Some(kind) }
    });
    v1::Volume {
        capacity_bytes: volume.bytes,
        volume_id: id.to_owned(),
        content_source,
        accessible_topology: vec![capability::topology(&disk.node_id)],
        ..v1::Volume::default()
    }
}

fn delete(disk: &Arc<Disk>, id: &str) -> Result<v1::DeleteVolumeResponse, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("a volume id is required"));
    }
    if is_id(id) {
        let _busy = disk.take(id)?;
        if let Some(volume) = disk.find(id)? {
            if disk.is_in_use(id, &volume)? {
                return Err(Status::failed_precondition(format!("volume {id} is in use")));
            }
            disk.volumes.remove(id).map_err(failed("remove a volume"))?;
            tracing::info!(id, "removed a volume");
        }
    }
    Ok(v1::DeleteVolumeResponse {})
}

fn validate(
    disk: &Disk,
    request: v1::ValidateVolumeCapabilitiesRequest,
) -> Result<v1::ValidateVolumeCapabilitiesResponse, Status> {
    if request.volume_id.is_empty() {
        return Err(Status::invalid_argument("a volume id is required"));
    }
    if request.volume_capabilities.is_empty() {
        return Err(Status::invalid_argument("volume capabilities are required"));
    }
    let volume = disk.volume(&request.volume_id)?;
    let wanted = capability::wanted(&request.volume_capabilities, &request.parameters);
    let why = match wanted {
        Ok(wanted) if wanted.is_met_by(volume.kind) && request.mutable_parameters.is_empty() => None,
        Ok(_) => Some("the volume is of another kind".to_owned()),
        Err(status) => Some(status.message().to_owned()),
    };
    let confirmed = why
        .is_none()
        .then_some(v1::validate_volume_capabilities_response::Confirmed {
            volume_context: request.volume_context,
            volume_capabilities: request.volume_capabilities,
            parameters: request.parameters,
            mutable_parameters: request.mutable_parameters,
        });
    Ok(v1::ValidateVolumeCapabilitiesResponse {
        confirmed,
        message: why.unwrap_or_default(),
    })
}

/// One page of ids. A token is the last id of the page before.
pub(crate) fn page(ids: Vec<String>, max_entries: i32, token: &str) -> Result<(Vec<String>, String), Status> {
    let max = usize::try_from(max_entries).map_err(|_| Status::invalid_argument("max_entries is negative"))?;
    let after = match token.strip_prefix("after:") {
        Some(id) => id,
        None if token.is_empty() => "",
        None => return Err(Status::aborted("the starting token is none of ours")),
    };
    let mut rest: Vec<String> = ids.into_iter().filter(|id| id.as_str() > after).collect();
    if max == 0 || rest.len() <= max {
        return Ok((rest, String::new()));
    }
    rest.truncate(max);
    let next = rest.last().map(|id| format!("after:{id}")).unwrap_or_default();
    Ok((rest, next))
}

fn list(disk: &Disk, request: &v1::ListVolumesRequest) -> Result<v1::ListVolumesResponse, Status> {
    let ids = disk.volumes.ids().map_err(failed("list the volumes"))?;
    let (ids, next_token) = page(ids, request.max_entries, &request.starting_token)?;
    let mut entries = Vec::new();
    for id in ids {
        // One that went meanwhile is not listed.
        let Some(volume) = disk.volumes.get_of_many(&id) else {
            continue;
        };
        let status = v1::list_volumes_response::VolumeStatus {
            volume_condition: Some(condition(disk, &id, &volume)),
            ..v1::list_volumes_response::VolumeStatus::default()
        };
        entries.push(v1::list_volumes_response::Entry {
            volume: Some(message(disk, &id, &volume)),
            status: Some(status),
        });
    }
    Ok(v1::ListVolumesResponse { entries, next_token })
}

fn capacity(disk: &Disk, request: &v1::GetCapacityRequest) -> Result<v1::GetCapacityResponse, Status> {
    let is_here = request
        .accessible_topology
        .as_ref()
        .is_none_or(|topology| capability::is_here(topology, &disk.node_id));
    let can = request.volume_capabilities.is_empty()
        || capability::wanted(&request.volume_capabilities, &request.parameters).is_ok();
    let available = if is_here && can {
        let stat = nix::sys::statvfs::statvfs(&disk.root);
        let stat = stat.map_err(|errno| failed("look at the disk")(errno.into()))?;
        stat.blocks_available().saturating_mul(stat.fragment_size())
    } else {
        0
    };
    Ok(v1::GetCapacityResponse {
        available_capacity: i64::try_from(available).unwrap_or(i64::MAX),
        ..v1::GetCapacityResponse::default()
    })
}

fn expand(
    disk: &Arc<Disk>,
    request: &v1::ControllerExpandVolumeRequest,
) -> Result<v1::ControllerExpandVolumeResponse, Status> {
    let id = &request.volume_id;
    if id.is_empty() {
        return Err(Status::invalid_argument("a volume id is required"));
    }
    let Some(range) = &request.capacity_range else {
        return Err(Status::invalid_argument("a capacity range is required"));
    };
    capability::check_range(range)?;
    disk.volume(id)?;
    let _busy = disk.take(id)?;
    let mut volume = disk.volume(id)?;
    let bytes = capability::size(volume.kind, Some(range), volume.bytes)?;
    disk.enlarge(id, &mut volume, bytes)?;
    Ok(v1::ControllerExpandVolumeResponse {
        capacity_bytes: volume.bytes,
        node_expansion_required: volume.formatted_bytes < volume.bytes,
    })
}

fn get(disk: &Disk, id: &str) -> Result<v1::ControllerGetVolumeResponse, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("a volume id is required"));
    }
    let volume = disk.volume(id)?;
    let status = v1::controller_get_volume_response::VolumeStatus {
        volume_condition: Some(condition(disk, id, &volume)),
        ..v1::controller_get_volume_response::VolumeStatus::default()
    };
    Ok(v1::ControllerGetVolumeResponse {
        volume: Some(message(disk, id, &volume)),
        status: Some(status),
    })
}

/// Whether a volume is well: its data is there, and its file system has not given up.
pub(crate) fn condition(disk: &Disk, id: &str, volume: &Volume) -> v1::VolumeCondition {
    let ill = |message: &str| v1::VolumeCondition {
        abnormal: true,
        message: message.to_owned(),
    };
    if !disk.content(id, volume.kind).exists() {
        return ill("the volume's data is gone");
    }
    let staged = volume.staged.as_ref().filter(|_| volume.kind.file_system().is_some());
    if staged.is_some_and(|point| {
        mountinfo::at(point)
            .ok()
            .flatten()
            .is_some_and(|m| m.is_file_system_read_only && !m.is_read_only)
    }) {
        return ill("the volume's file system has become read-only after errors");
    }
    v1::VolumeCondition {
        abnormal: false,
        message: "the volume's data is there".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let ids = || ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(page(ids(), 0, "").unwrap(), (ids(), String::new()));
        let (first, next) = page(ids(), 2, "").unwrap();
        assert_eq!(
            (first, next.as_str()),
            (vec!["a".to_owned(), "b".to_owned()], "after:b")
        );
        assert_eq!(page(ids(), 2, &next).unwrap(), (vec!["c".to_owned()], String::new()));
        assert_eq!(page(ids(), 1, "nonsense").unwrap_err().code(), tonic::Code::Aborted);
        assert_eq!(page(ids(), -1, "").unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
