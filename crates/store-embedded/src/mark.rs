//! A note beside the database that says how far it had come when it was closed.
//!
//! After a hard stop the database may hold two states, and takes the older one if the younger is damaged. That is right
//! for a commit that power failed on, and wrong for one that was acknowledged: the note tells them apart.

use crate::OpenError;
use std::io;
use std::path::{Path, PathBuf};
use store::Revision;

const MARK_NAME: &str = "closed-at";

fn path(dir: &Path) -> PathBuf {
    dir.join(MARK_NAME)
}

/// Notes that everything up to `revision` is in the database.
pub(crate) fn set(dir: &Path, revision: Revision) -> io::Result<()> {
    let (path, new) = (path(dir), dir.join(format!("{MARK_NAME}.new")));
    std::fs::write(&new, revision.to_string())?;
    std::fs::rename(new, path)
}

/// Compares what was read with the note. An unreadable note says nothing: it is not what is protected.
pub(crate) fn check(dir: &Path, revision: Revision) -> Result<(), OpenError> {
    let noted = std::fs::read_to_string(path(dir)).ok();
    let noted: Revision = noted.and_then(|noted| noted.trim().parse().ok()).unwrap_or(0);
    // A store that was never written is at the first revision, and its database at none.
    if revision.max(store::index::FIRST_REVISION) < noted {
        return Err(OpenError::Lost {
            dir: dir.to_owned(),
            noted,
            found: revision,
        });
    }
    Ok(())
}
