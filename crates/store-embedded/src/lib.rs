//! The durable store of one machine: the index of `store` over one redb file.
//!
//! Guarantees: an acknowledged write survives the end of the process at any instruction, and the loss of power if the
//! disk keeps what it has synced. Reads are answered from memory and never wait for the disk.
//!
//! The file holds the present only. History lives in memory: after opening, the past before that is
//! [`store::Error::Compacted`], and the revision goes on where it was.

mod committer;
mod layout;
mod queue;

use crate::committer::{Command, Committer};
use async_trait::async_trait;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::index::Index;
use store::{Error, LeaseId, RangeRequest, RangeResponse, Revision, Store, Txn, TxnResponse, Watch};
use tokio::sync::oneshot;

/// The file inside the store's folder.
const FILE_NAME: &str = "store.redb";

/// Pages that redb keeps in memory. All reads go to the index, so this only saves writers from reading back.
const CACHE_BYTES: usize = 8 << 20;

/// Why the file could not be opened; the source of a [`store::Error::Storage`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another part of this one) uses the file.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
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
    committer: Committer,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, or makes a new one. Both are readable by their owner only.
    ///
    /// # Errors
    /// [`Error::Storage`] with an [`OpenError`] if the folder cannot be used, or is used by another process.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE_NAME);
        let file = open_file(dir, &path).map_err(storage)?;
        let mut builder = redb::Builder::new();
        let note = path.clone();
        builder.set_cache_size(CACHE_BYTES);
        builder.set_repair_callback(move |_| tracing::debug!(path = %note.display(), "checking after a hard stop"));
        let backend = redb::backends::FileBackend::new(file);
        let database = backend.and_then(|backend| builder.create_with_backend(backend));
        let database = database.map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => storage(OpenError::InUse { path }),
            error => storage(OpenError::Read {
                path,
                source: error.into(),
            }),
        })?;
        Self::start(database)
    }

    /// Opens the store on a medium of the caller, such as one that breaks on purpose.
    ///
    /// # Errors
    /// [`Error::Storage`] if the medium fails or holds something else.
    pub fn open_backend(backend: impl redb::StorageBackend) -> Result<Self, Error> {
        let mut builder = redb::Builder::new();
        let database = builder.set_cache_size(CACHE_BYTES).create_with_backend(backend);
        Self::start(database.map_err(|error| storage(redb::Error::from(error)))?)
    }

    fn start(database: redb::Database) -> Result<Self, Error> {
        let index = Index::new(layout::load(&database)?);
        let committer = Committer::start(index.clone(), database).map_err(storage)?;
        Ok(Self { index, committer })
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.committer.send(command(reply)).await?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// Makes and opens the file, so that it will still be there after a loss of power.
fn open_file(dir: &Path, path: &Path) -> Result<File, OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| OpenError::Open { path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed(dir))?;
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let file = file.map_err(failed(path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))?;
    Ok(file)
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
