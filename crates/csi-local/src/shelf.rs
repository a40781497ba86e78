//! A directory of things that are there whole or not at all: each is a directory of its own with a record and content.
//!
//! A new one is made aside and renamed to its place; one that goes is renamed away first. So whatever is killed and
//! when, what is found under an id is complete, and what lies aside is rubbish.

use crate::mounts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// The record within a thing's directory.
const RECORD: &str = "record.json";
/// Where things are made.
const MAKING: &str = ".making";
/// Where things go.
const GOING: &str = ".going";

/// The things of one sort.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    dir: PathBuf,
    sort: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Shelf<T> {
    /// Opens the directory and removes what an earlier process left unfinished. The path has no links on the way.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        for aside in [MAKING, GOING] {
            let aside = dir.join(aside);
            fs::create_dir_all(&aside)?;
            for left in fs::read_dir(&aside)? {
                let left = left?.path();
                // It is in nobody's way but that of a thing with its id.
                if let Err(error) = remove(&left) {
                    tracing::error!(path = %left.display(), %error, "what was left unfinished stays");
                }
            }
        }
        Ok(Self { dir, sort: PhantomData })
    }

    /// The directory of one thing.
    pub(crate) fn place(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// The record of one thing, if it is there.
    pub(crate) fn get(&self, id: &str) -> io::Result<Option<T>> {
        match fs::read(self.place(id).join(RECORD)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The record of one of many, of which one that cannot be read keeps nobody from the rest; it stays where it is.
    pub(crate) fn get_of_many(&self, id: &str) -> Option<T> {
        let read = self.get(id);
        read.inspect_err(|error| tracing::error!(id, %error, "a record in {} cannot be read", self.dir.display()))
            .unwrap_or_default()
    }

    /// All ids, in order.
    pub(crate) fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                ids.push(name);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Adds a thing: `fill` makes its content in the directory it is given.
    pub(crate) fn add<E: From<io::Error>>(
        &self,
        id: &str,
        record: &T,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let aside = self.dir.join(MAKING).join(id);
        remove(&aside)?;
        fs::create_dir_all(&aside)?;
        let filled = fill(&aside).and_then(|()| {
            write_record(&aside, record)?;
            fs::rename(&aside, self.place(id))?;
            Ok(sync(&self.dir)?)
        });
        if filled.is_err() {
            remove(&aside)?;
        }
        filled
    }

    /// Replaces the record of a thing that is there.
    pub(crate) fn update(&self, id: &str, record: &T) -> io::Result<()> {
        write_record(&self.place(id), record)
    }

    /// Removes a thing; none is fine. One that something is mounted in stays as it is.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        let aside = self.dir.join(GOING).join(id);
        remove(&aside)?;
        check_not_mounted(&self.place(id))?;
        match fs::rename(self.place(id), &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        sync(&self.dir)?;
        remove(&aside)
    }
}

/// Written aside, made durable, renamed.
fn write_record<T: Serialize>(dir: &Path, record: &T) -> io::Result<()> {
    let aside = dir.join(".record.json");
    let mut file = File::create(&aside)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()?;
    fs::rename(&aside, dir.join(RECORD))?;
    sync(dir)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Refuses where something is mounted: its files are somebody else's, and removal would go through them.
fn check_not_mounted(dir: &Path) -> io::Result<()> {
    match mounts::within(dir)? {
        None => Ok(()),
        Some(mounted) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("something is mounted at {}", mounted.point.display()),
        )),
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    check_not_mounted(dir)?;
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let shelf: Shelf<String> = Shelf::open(dir.path().join("things")).unwrap();
        shelf
            .add("a", &"first".to_owned(), |at| fs::write(at.join("data"), "x"))
            .unwrap();
        let failed = shelf.add("b", &"second".to_owned(), |_| Err(io::Error::other("full")));
        assert_eq!(failed.unwrap_err().to_string(), "full");
        assert_eq!(shelf.ids().unwrap(), ["a"]);
        assert_eq!(shelf.get("a").unwrap().as_deref(), Some("first"));
        assert_eq!(shelf.get("b").unwrap(), None);

        // What a process left when it was killed on the way is gone after the next start.
        fs::create_dir_all(dir.path().join("things/.making/c")).unwrap();
        fs::create_dir_all(dir.path().join("things/.going/d")).unwrap();
        let shelf: Shelf<String> = Shelf::open(dir.path().join("things")).unwrap();
        assert!(!dir.path().join("things/.making/c").exists() && !dir.path().join("things/.going/d").exists());
        shelf.update("a", &"changed".to_owned()).unwrap();
        assert_eq!(shelf.get("a").unwrap().as_deref(), Some("changed"));
        assert_eq!(fs::read_to_string(shelf.place("a").join("data")).unwrap(), "x");
        shelf.remove("a").unwrap();
        shelf.remove("a").unwrap();
        assert!(shelf.ids().unwrap().is_empty());
    }
}
