//! All volumes and snapshots of a data directory, and who works on which.

use crate::mounts;
use crate::shelf::Shelf;
use crate::volume::{Kind, Snapshot, Volume, is_id};
use crate::{content, devices};
use mountinfo::Mounted;
use std::collections::BTreeSet;
use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::Status;

/// How often is looked whether a device goes.
const LOOKS: usize = 50;

/// The data directory.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Where everything is.
    pub(crate) root: PathBuf,
    /// The node that it is on.
    pub(crate) node_id: String,
    /// The volumes.
    pub(crate) volumes: Shelf<Volume>,
    /// The snapshots.
    pub(crate) snapshots: Shelf<Snapshot>,
    busy: Mutex<BTreeSet<String>>,
    /// Locked for as long as this is there.
    _lock: File,
}

/// The right to work on one id, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    disk: Arc<Disk>,
    id: String,
}

impl Disk {
    /// Opens a data directory and ends what an earlier process left half done.
    pub(crate) fn open(root: &Path, node_id: &str) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        let lock = lock(&root)?;
        // Users of volumes come in through mounts; nobody but us has a way through here.
        std::fs::set_permissions(&root, Permissions::from_mode(0o700))?;
        let disk = Self {
            volumes: Shelf::open(root.join("volumes"))?,
            snapshots: Shelf::open(root.join("snapshots"))?,
            node_id: node_id.to_owned(),
            _lock: lock,
            busy: Mutex::default(),
            root,
        };
        devices::thaw_below(&disk.root)?;
        Ok(disk)
    }

    /// Where the file system in an image can be reached, if it is in use. That is found by the device, for a volume that
    /// is not staged can be mounted where it is published.
    ///
    /// # Errors
    /// It is in use where we cannot see it, so nobody can hold it still.
    pub(crate) fn mounted_image(&self, id: &str, kind: Kind) -> io::Result<Option<Mounted>> {
        for _ in 0..LOOKS {
            let Some(device) = devices::device_of(&self.content(id, kind))? else {
                return Ok(None);
            };
            if let Some(mounted) = mounts::of_device(&device)? {
                return Ok(Some(mounted));
            }
            // A device goes a moment after its last user.
            std::thread::sleep(Duration::from_millis(20));
        }
        let why = "its image is attached and nowhere to be seen mounted";
        Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
    }

    /// Takes an id for work; the interface lets callers try again who are told that it is taken.
    pub(crate) fn take(self: &Arc<Self>, id: &str) -> Result<Busy, Status> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(id.to_owned()) {
            return Err(Status::aborted(format!("an operation on {id} is under way")));
        }
        Ok(Busy {
            disk: self.clone(),
            id: id.to_owned(),
        })
    }

    /// A volume, or that there is none.
    pub(crate) fn find(&self, id: &str) -> Result<Option<Volume>, Status> {
        if is_id(id) {
            self.volumes.get(id).map_err(failed("read the record of a volume"))
        } else {
            Ok(None)
        }
    }

    /// A volume that must be there.
    pub(crate) fn volume(&self, id: &str) -> Result<Volume, Status> {
        self.find(id)?
            .ok_or_else(|| Status::not_found(format!("volume {id} does not exist")))
    }

    /// Writes down what changed.
    pub(crate) fn note(&self, id: &str, volume: &Volume) -> Result<(), Status> {
        let noted = self.volumes.update(id, volume);
        noted.map_err(failed("write the record of a volume"))
    }

    /// The directory or image of a volume.
    pub(crate) fn content(&self, id: &str, kind: Kind) -> PathBuf {
        content::within(&self.volumes.place(id), kind)
    }

    /// Whether somebody may be using a volume now.
    pub(crate) fn is_in_use(&self, id: &str, volume: &Volume) -> Result<bool, Status> {
        let look = || -> io::Result<bool> {
            let mounts = mountinfo::all()?;
            let targets = volume.published.iter().map(|published| &published.target);
            let place = self.volumes.place(id);
            let mut points = targets.chain(&volume.staged).chain([&place]);
            // Users can mount below what they were given, and that can show up below the data.
            let is_mounted = points.any(|point| mounts.iter().any(|mounted| mounted.point.starts_with(point)));
            let image = self.content(id, volume.kind);
            let is_attached = volume.kind.is_image() && image.exists() && devices::device_of(&image)?.is_some();
            Ok(is_mounted || is_attached)
        };
        look().map_err(failed("look whether a volume is in use"))
    }
}

/// Keeps other drivers out: each would take what the other is making for rubbish. The kernel lets the lock go when we are
/// killed.
fn lock(root: &Path) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(root.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("another driver is at work in {}", root.display()),
        )),
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy = self.disk.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.id);
    }
}

/// What the caller is told of an error of the machine; a full disk and one in use have codes of their own.
pub(crate) fn failed(what: &'static str) -> impl Fn(io::Error) -> Status {
    move |error| {
        let message = format!("cannot {what}: {error}");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Status::resource_exhausted(message),
            io::ErrorKind::ResourceBusy => Status::failed_precondition(message),
            _ => Status::internal(message),
        }
    }
}

/// Work on files away from the tasks that answer. It goes on when the caller goes away.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<tonic::Response<T>, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Status::internal(error.to_string()))?
        .map(tonic::Response::new)
}
