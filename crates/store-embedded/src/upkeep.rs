//! What is done to a store from outside: checking it, saving it, beginning it anew from a snapshot.

use crate::{EmbeddedStore, FILE_NAME, OpenError, failed, layout, lock, open_error, storage};
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};
use store::index::Loaded;
use store::{Error, Revision};

/// How far the revision jumps when a snapshot is restored. Whatever a client has seen of what came after the snapshot is
/// then in the past, so that it lists anew, rather than in a future that will be different.
const RESTORED_REVISIONS: Revision = 1_000_000_000;

/// Pages are read from the file in this size at least.
const BLOCK_BYTES: usize = 4096;

impl EmbeddedStore {
    /// Everything that the store holds now.
    pub fn contents(&self) -> Loaded {
        self.index.contents()
    }

    /// Checks every checksum of the store in `dir`, which nobody may use meanwhile, and reads all of it. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Storage`] with an [`OpenError`] that says what is wrong.
    pub fn check(dir: &Path) -> Result<Loaded, Error> {
        let path = dir.join(FILE_NAME);
        if !path.try_exists().map_err(|source| failed(&path, source))? {
            return Err(failed(&path, io::ErrorKind::NotFound.into()));
        }
        let _lock = lock(dir).map_err(storage)?;
        let file = File::open(&path).map_err(|source| failed(&path, source))?;
        let mut builder = redb::Builder::new();
        builder.set_check_integrity_on_open(true);
        // What opening repairs after a hard stop is repaired in memory only.
        let database = builder.create_with_backend(Overlay::new(file).map_err(|source| failed(&path, source))?);
        let database = database.map_err(|error| open_error(&path, error))?;
        let loaded = layout::load(&database)?;
        crate::mark::check(dir, loaded.revision).map_err(storage)?;
        Ok(loaded)
    }

    /// Makes the store in `dir` hold `contents`. What it held is kept beside it, in the folder that is returned.
    ///
    /// # Errors
    /// [`Error::Storage`] with an [`OpenError`] if the store is in use or cannot be written.
    pub fn restore(dir: &Path, mut contents: Loaded) -> Result<Option<PathBuf>, Error> {
        let before = if dir.exists() {
            // Readable or not: this is how one gets rid of a damaged store.
            match Self::check(dir) {
                Ok(before) => contents.revision = contents.revision.max(before.revision),
                Err(Error::Storage(error)) if is_in_use(&*error) => return Err(Error::Storage(error)),
                Err(_) => {}
            }
            Some(aside(dir).map_err(|source| failed(dir, source))?)
        } else {
            None
        };
        contents.revision += RESTORED_REVISIONS;
        let new = dir.with_extension("restoring");
        if new.exists() {
            std::fs::remove_dir_all(&new).map_err(|source| failed(&new, source))?;
        }
        Self::make(&new, &contents)?;
        if let Some(before) = &before {
            std::fs::rename(dir, before).map_err(|source| failed(before, source))?;
        }
        std::fs::rename(&new, dir).map_err(|source| failed(dir, source))?;
        crate::sync_folders(dir)?;
        Ok(before)
    }
}

fn is_in_use(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(OpenError::InUse { .. }))
}

/// A name beside the folder that is not taken.
fn aside(dir: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let name = dir
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    for number in now.. {
        let path = dir.with_file_name(format!("{name}.before-restore-{number}"));
        if !path.try_exists()? {
            return Ok(path);
        }
    }
    unreachable!("some number is free")
}

/// A file whose changes stay in memory.
#[derive(Debug)]
struct Overlay {
    file: File,
    state: Mutex<Changed>,
}

#[derive(Debug)]
struct Changed {
    length: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let state = Mutex::new(Changed {
            length,
            blocks: BTreeMap::new(),
        });
        Ok(Self { file, state })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Changed> {
        self.state.lock().expect("nothing panics while it holds the changes")
    }

    /// A block as the file has it; zeros behind its end.
    fn block(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut block = vec![0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            let offset = number * BLOCK_BYTES as u64 + filled as u64;
            match self.file.read_at(&mut block[filled..], offset)? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(block)
    }
}

/// The parts of blocks that lie between two offsets: block, offset in it, offset in the data, length.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let inside = usize::try_from(at % BLOCK_BYTES as u64).expect("less than a block");
        let count = (BLOCK_BYTES - inside).min(length - done);
        let part = (at / BLOCK_BYTES as u64, inside, done, count);
        done += count;
        (count > 0).then_some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset + out.len() as u64 > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, inside, at, count) in parts(offset, out.len()) {
            let target = &mut out[at..at + count];
            match state.blocks.get(&number) {
                Some(block) => target.copy_from_slice(&block[inside..inside + count]),
                None => target.copy_from_slice(&self.block(number)?[inside..inside + count]),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.state().length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.length = state.length.max(offset + data.len() as u64);
        for (number, inside, at, count) in parts(offset, data.len()) {
            let block = match state.blocks.entry(number) {
                std::collections::btree_map::Entry::Occupied(block) => block.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => place.insert(self.block(number)?),
            };
            block[inside..inside + count].copy_from_slice(&data[at..at + count]);
        }
        Ok(())
    }
}
