//! Snapshots and clones: data as it was at one moment.

use crate::content::{self, Pace};
use crate::controller::page;
use crate::devices::Frozen;
use crate::disk::{Busy, Disk, failed};
use crate::volume::{Kind, Snapshot, Source, Volume, id_of, is_id};
use csi::v1;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::Status;

/// How long those who write to a volume wait for its copy, at most: what watches over them has patience for so much.
const STILL_SECONDS_MAX: u32 = 20;

/// Why something was not made.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The machine.
    Io(io::Error),
    /// The rules.
    Status(Box<Status>),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Failure {
    /// What the caller is told.
    pub(crate) fn status(self, what: &'static str) -> Status {
        match self {
            Self::Io(error) => failed(what)(error),
            Self::Status(status) => *status,
        }
    }
}

/// What a volume is filled from. Nobody changes it while this is there, so what is told here stays true of what is copied.
#[derive(Debug)]
pub(crate) struct Origin {
    /// How its data is kept.
    pub(crate) kind: Kind,
    /// Its size.
    pub(crate) bytes: i64,
    /// How large the file system in its image is, which may be smaller than the image: it grows where it is mounted.
    pub(crate) formatted_bytes: i64,
    place: PathBuf,
    volume: Option<(String, Volume)>,
    _busy: Busy,
}

/// Finds and takes what a volume is to be filled from.
pub(crate) fn origin(disk: &Arc<Disk>, source: &Source) -> Result<Origin, Status> {
    match source {
        Source::Snapshot(id) => {
            let get = || find(disk, id)?.ok_or_else(|| Status::not_found(format!("snapshot {id} does not exist")));
            get()?;
            let busy = disk.take(&snapshot_lock(id))?;
            let snapshot = get()?;
            Ok(Origin {
                kind: snapshot.kind,
                bytes: snapshot.bytes,
                formatted_bytes: snapshot.formatted_bytes,
                place: disk.snapshots.place(id),
                volume: None,
                _busy: busy,
            })
        }
        Source::Volume(id) => {
            disk.volume(id)?;
            let busy = disk.take(id)?;
            let volume = disk.volume(id)?;
            Ok(Origin {
                kind: volume.kind,
                bytes: volume.bytes,
                formatted_bytes: volume.formatted_bytes,
                place: disk.volumes.place(id),
                volume: Some((id.clone(), volume)),
                _busy: busy,
            })
        }
    }
}

impl Origin {
    /// Copies the data as it is at one moment. Files of a directory that are written meanwhile are the exception: a
    /// directory cannot be held still.
    pub(crate) fn copy_to(&self, disk: &Arc<Disk>, at: &Path) -> Result<(), Failure> {
        self.copy_unsettled(disk, at)?;
        // Nobody is held still for this.
        Ok(content::settle(at, self.kind)?)
    }

    fn copy_unsettled(&self, disk: &Disk, at: &Path) -> Result<(), Failure> {
        let Some((id, volume)) = &self.volume else {
            return Ok(content::copy(&self.place, at, self.kind, Pace::Any)?);
        };
        let is_block_in_use = self.kind == Kind::Block && disk.is_in_use(id, volume)?;
        if is_block_in_use {
            let shared = content::copy(&self.place, at, self.kind, Pace::Shared);
            return shared.map_err(|_| {
                let why = "a block volume that is in use can be copied only on a disk that shares blocks between files";
                Status::failed_precondition(why).into()
            });
        }
        let mounted = match self.kind.file_system() {
            Some(_) => disk.mounted_image(id, self.kind)?,
            None => None,
        };
        match mounted {
            Some(mounted) => self.copy_held_still(&mounted.point, at),
            None => Ok(content::copy(&self.place, at, self.kind, Pace::Any)?),
        }
    }

    /// All who write wait meanwhile, so it may not take long.
    fn copy_held_still(&self, point: &Path, at: &Path) -> Result<(), Failure> {
        let _still = Frozen::freeze(point)?;
        let copied = content::copy(&self.place, at, self.kind, Pace::Seconds(STILL_SECONDS_MAX));
        copied.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Status::failed_precondition(format!(
                "the volume is in use, and copying it on this disk, which does not share blocks between files, takes \
                 longer than the {STILL_SECONDS_MAX} seconds for which its users can be made to wait"
            ))
            .into(),
            _ => error.into(),
        })
    }
}

fn find(disk: &Disk, id: &str) -> Result<Option<Snapshot>, Status> {
    if is_id(id) {
        disk.snapshots.get(id).map_err(failed("read the record of a snapshot"))
    } else {
        Ok(None)
    }
}

/// Snapshots and volumes may have the same id.
fn snapshot_lock(id: &str) -> String {
    format!("snapshot {id}")
}

/// Takes a snapshot.
pub(crate) fn create(
    disk: &Arc<Disk>,
    request: &v1::CreateSnapshotRequest,
) -> Result<v1::CreateSnapshotResponse, Status> {
    let id = id_of(&request.name)?;
    let source = &request.source_volume_id;
    if source.is_empty() {
        return Err(Status::invalid_argument("the id of the source volume is required"));
    }
    if let Some(name) = request
        .parameters
        .keys()
        .find(|name| !name.starts_with("csi.storage.k8s.io/"))
    {
        return Err(Status::invalid_argument(format!(
            "snapshots have no parameter {name:?}"
        )));
    }
    let _busy = disk.take(&snapshot_lock(&id))?;
    let snapshot = match find(disk, &id)? {
        Some(snapshot) if snapshot.volume == *source => snapshot,
        Some(_) => {
            let message = format!("snapshot {id} exists and is of another volume");
            return Err(Status::already_exists(message));
        }
        None => {
            let origin = origin(disk, &Source::Volume(source.clone()))?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let snapshot = Snapshot {
                name: request.name.clone(),
                volume: source.clone(),
                kind: origin.kind,
                bytes: origin.bytes,
                formatted_bytes: origin.formatted_bytes,
                seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            };
            disk.snapshots
                .add(&id, &snapshot, |at| origin.copy_to(disk, at))
                .map_err(|failure| failure.status("take a snapshot"))?;
            tracing::info!(id, volume = source, "took a snapshot");
            snapshot
        }
    };
    Ok(v1::CreateSnapshotResponse {
        snapshot: Some(message(&id, &snapshot)),
    })
}

fn message(id: &str, snapshot: &Snapshot) -> v1::Snapshot {
    v1::Snapshot {
        size_bytes: snapshot.bytes,
        snapshot_id: id.to_owned(),
        source_volume_id: snapshot.volume.clone(),
        creation_time: Some(prost_types::Timestamp {
            seconds: snapshot.seconds,
            nanos: 0,
        }),
        ready_to_use: true,
        group_snapshot_id: String::new(),
    }
}

/// Removes a snapshot; none is fine.
pub(crate) fn delete(disk: &Arc<Disk>, id: &str) -> Result<v1::DeleteSnapshotResponse, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("a snapshot id is required"));
    }
    if is_id(id) {
        let _busy = disk.take(&snapshot_lock(id))?;
        disk.snapshots.remove(id).map_err(failed("remove a snapshot"))?;
    }
    Ok(v1::DeleteSnapshotResponse {})
}

/// Lists snapshots: all, one, or those of one volume.
pub(crate) fn list(disk: &Disk, request: &v1::ListSnapshotsRequest) -> Result<v1::ListSnapshotsResponse, Status> {
    let ids = disk.snapshots.ids().map_err(failed("list the snapshots"))?;
    let mut found = Vec::new();
    for id in ids {
        let Some(snapshot) = disk.snapshots.get_of_many(&id) else {
            continue;
        };
        let is_asked = |asked: &str, is: &str| asked.is_empty() || asked == is;
        if is_asked(&request.snapshot_id, &id) && is_asked(&request.source_volume_id, &snapshot.volume) {
            found.push((id, snapshot));
        }
    }
    let ids = found.iter().map(|(id, _)| id.clone()).collect();
    let (ids, next_token) = page(ids, request.max_entries, &request.starting_token)?;
    let entries =
        found
            .iter()
            .filter(|(id, _)| ids.contains(id))
            .map(|(id, snapshot)| v1::list_snapshots_response::Entry {
                snapshot: Some(message(id, snapshot)),
            });
    Ok(v1::ListSnapshotsResponse {
        entries: entries.collect(),
        next_token,
    })
}
