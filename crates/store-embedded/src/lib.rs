//! The durable store of one machine: the index of `store` over one redb file.
//!
//! Guarantees: an acknowledged write survives the end of the process at any instruction, and the loss of power if the
//! disk keeps what it has synced. Reads are answered from memory and never wait for the disk.
//!
//! The file holds the present only. History lives in memory: after opening, the past before that is
//! [`store::Error::Compacted`], and the revision goes on where it was.

mod committer;
mod layout;
mod mark;
mod pace;
mod queue;
pub mod snapshot;
mod upkeep;

use crate::committer::{Command, Committer};
use async_trait::async_trait;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::index::{Index, Loaded};
use store::{Error, LeaseId, RangeRequest, RangeResponse, Revision, Store, Txn, TxnResponse, Watch};
use tokio::sync::oneshot;

/// The database inside the store's folder.
const FILE_NAME: &str = "store.redb";

/// The database while it is made: one that power failed on is not readable, and holds nothing.
const NEW_FILE_NAME: &str = "store.redb.new";

/// Locked by the process that uses the folder.
const LOCK_NAME: &str = "lock";

/// Pages that redb keeps in memory. All reads go to the index, so this only saves writers from reading back.
const CACHE_BYTES: usize = 8 << 20;

/// Why the file could not be opened; the source of a [`store::Error::Storage`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another part of this one) uses the folder.
    #[error("{} is in use by another process", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder or file cannot be made or opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a redb file that this program can read.
    #[error("cannot read {} as a database", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What redb said.
        source: redb::Error,
    },
    /// A checksum does not fit what is there.
    #[error(
        "the database {} is damaged and is not used; `steadfast snapshot restore` begins anew from a snapshot",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What redb found.
        source: redb::Error,
    },
    /// The newest changes are gone.
    #[error(
        "the database in {} is damaged and is not used: it was closed at revision {noted} and is at {found}",
        dir.display()
    )]
    Lost {
        /// The folder.
        dir: PathBuf,
        /// How far it had come.
        noted: Revision,
        /// How far it comes now.
        found: Revision,
    },
    /// The file was written by a later version of this program.
    #[error("layout {found} of the database is not known to this version, which knows {known}")]
    Layout {
        /// What the file says.
        found: u64,
        /// What this program writes.
        known: u64,
    },
}

/// A durable [`Store`] in a folder of its own.
#[derive(Debug)]
pub struct EmbeddedStore {
    index: Arc<Index>,
    /// `None` when closing.
    committer: Option<Committer>,
    /// Where it lies, with the right to be there; none for a medium of the caller.
    place: Option<Place>,
}

/// A folder that nobody else uses.
#[derive(Debug)]
struct Place {
    dir: PathBuf,
    _lock: File,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, or makes a new one. Its files are readable by their owner only.
    ///
    /// # Errors
    /// [`Error::Storage`] with an [`OpenError`] if the folder cannot be used, or is used by another process.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| failed(dir, source))?;
        let lock = lock(dir).map_err(storage)?;
        let path = dir.join(FILE_NAME);
        let exists = path.try_exists().map_err(|source| failed(&path, source))?;
        if !exists {
            create(dir, &path, &Loaded::default())?;
        }
        let place = Place {
            dir: dir.to_owned(),
            _lock: lock,
        };
        Self::start(open_file(&path)?, Some(place))
    }

    /// Makes a store that holds `contents` in a folder that does not exist.
    fn make(dir: &Path, contents: &Loaded) -> Result<(), Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| failed(dir, source))?;
        create(dir, &dir.join(FILE_NAME), contents)
    }

    /// Opens the store on a medium of the caller, such as one that breaks on purpose.
    ///
    /// # Errors
    /// [`Error::Storage`] if the medium fails or holds something else.
    pub fn open_backend(backend: impl redb::StorageBackend) -> Result<Self, Error> {
        let mut builder = redb::Builder::new();
        let database = builder.set_cache_size(CACHE_BYTES).create_with_backend(backend);
        Self::start(database.map_err(|error| storage(redb::Error::from(error)))?, None)
    }

    fn start(database: redb::Database, place: Option<Place>) -> Result<Self, Error> {
        let loaded = layout::load(&database)?;
        if let Some(place) = &place {
            mark::check(&place.dir, loaded.revision).map_err(storage)?;
        }
        let index = Index::new(loaded);
        let committer = Committer::start(index.clone(), database).map_err(storage)?;
        Ok(Self {
            index,
            committer: Some(committer),
            place,
        })
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let committer = self.committer.as_ref().ok_or(Error::Closed)?;
        committer.send(command(reply)).await?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // Waits for the last write.
        self.committer = None;
        if let Some(place) = &self.place
            && let Err(error) = mark::set(&place.dir, self.index.revision())
        {
            tracing::warn!(%error, "cannot note how far the store has come");
        }
    }
}

/// Makes sure that nobody else uses the folder.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_NAME);
    let file = options().truncate(false).open(&path);
    let file = file.map_err(|source| OpenError::Open {
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Open { path, source }),
    }
}

/// Makes a database that is there completely or not at all, whenever power fails.
fn create(dir: &Path, path: &Path, contents: &Loaded) -> Result<(), Error> {
    let new = dir.join(NEW_FILE_NAME);
    options()
        .truncate(true)
        .open(&new)
        .map_err(|source| failed(&new, source))?;
    let database = open_file(&new)?;
    layout::create(&database, contents).map_err(storage)?;
    // Closing syncs.
    drop(database);
    std::fs::rename(&new, path).map_err(|source| failed(path, source))?;
    sync_folders(dir)
}

fn sync_folders(dir: &Path) -> Result<(), Error> {
    // The names are data, too: the file's in its folder, and the folder's in its parent.
    let parent = dir.canonicalize().ok().and_then(|dir| dir.parent().map(Path::to_owned));
    for folder in [Some(dir.to_owned()), parent].into_iter().flatten() {
        let synced = File::open(&folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| failed(&folder, source))?;
    }
    Ok(())
}

fn open_file(path: &Path) -> Result<redb::Database, Error> {
    let file = options()
        .truncate(false)
        .open(path)
        .map_err(|source| failed(path, source))?;
    let note = path.to_owned();
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    // Everything is read now and never again: what is damaged must be found now.
    builder.set_check_integrity_on_open(true);
    builder.set_repair_callback(move |_| tracing::debug!(path = %note.display(), "checking after a hard stop"));
    let backend = redb::backends::FileBackend::new(file);
    let database = backend.and_then(|backend| builder.create_with_backend(backend));
    database.map_err(|error| open_error(path, error))
}

fn open_error(path: &Path, error: redb::DatabaseError) -> Error {
    let path = path.to_owned();
    storage(match redb::Error::from(error) {
        source @ redb::Error::Corrupted(_) => OpenError::Damaged { path, source },
        source => OpenError::Read { path, source },
    })
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

fn failed(path: &Path, source: io::Error) -> Error {
    storage(OpenError::Open {
        path: path.to_owned(),
        source,
    })
}

fn storage(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Storage(Box::new(error))
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.index.revision())
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        self.index.range(&request)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        self.ask(|reply| Command::Txn(txn, reply)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, Error> {
        Ok(Box::new(self.index.watch(prefix, after)?))
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        // The file holds no history.
        self.index.compact(revision)
    }

    fn history(&self) -> store::History {
        self.index.history()
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.ask(|reply| Command::Grant(ttl, reply)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        self.index.keep_alive(lease)
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), Error> {
        self.ask(|reply| Command::Revoke(lease, reply)).await
    }
}
