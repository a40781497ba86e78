//! The store of images on disk, shared by all processes that use the same root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::manifest::ImageConfig;
use super::reference::{Reference, is_digest};
use super::unpack::{self, hex};
use super::{Error, at};
use crate::disk;

/// An image that can be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Image {
    /// The digest of its configuration.
    pub(crate) id: String,
    /// Full names with tags.
    pub(crate) tags: BTreeSet<String>,
    /// Full names with digests.
    pub(crate) digests: BTreeSet<String>,
    /// Names of layer folders, lowest first.
    pub(crate) layers: Vec<String>,
    /// What a pull transfers.
    pub(crate) size: u64,
    /// Where the configuration came from, as it is.
    pub(crate) config: ImageConfig,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<String, Image>,
}

/// Beside each layer's files: what it is, since the folder's name is only the beginning of its digest.
#[derive(Debug, Serialize, Deserialize)]
struct LayerRecord {
    chain: String,
}

/// The images below one root.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    folder: PathBuf,
}

/// While one exists, nothing that no image uses yet is swept away.
pub(crate) struct Lease {
    _lock: Flock<File>,
}

impl Store {
    /// Opens the store below `root`, making it if need be.
    ///
    /// # Errors
    /// If the folders cannot be made.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let store = Self {
            folder: root.join("images"),
        };
        for folder in [store.content(), store.layers()] {
            fs::create_dir_all(&folder).map_err(at("make", &folder))?;
        }
        Ok(store)
    }

    /// All images.
    pub(crate) fn list(&self) -> Result<Vec<Image>, Error> {
        Ok(self.index()?.images.into_values().collect())
    }

    /// The image called `name`: an id, the beginning of one, or a name.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Image>, Error> {
        let mut images = self.index()?.images;
        let id = if is_digest(name) {
            name.to_owned()
        } else {
            format!("sha256:{name}")
        };
        if is_digest(&id) {
            return Ok(images.remove(&id));
        }
        let reference = Reference::parse(name)?;
        let by_digest = reference
            .digest
            .as_ref()
            .map(|digest| format!("{}@{digest}", reference.place()));
        Ok(images
            .into_values()
            .find(|image| match (&by_digest, reference.tagged()) {
                (Some(digest), _) => image.digests.contains(digest),
                (None, tag) => tag.is_some_and(|tag| image.tags.contains(&tag)),
            }))
    }

    /// Keeps the sweeper away while layers are added.
    pub(super) fn lease(&self) -> Result<Lease, Error> {
        Ok(Lease {
            _lock: self.lock("sweep.lock", FlockArg::LockShared)?,
        })
    }

    /// Adds an image whose layers are there, or the names of one that is there.
    pub(super) fn add(&self, mut image: Image) -> Result<Image, Error> {
        self.change(|index| {
            for other in index.images.values_mut() {
                // A tag names one image only; the other goes on under its digests.
                other.tags.retain(|tag| !image.tags.contains(tag));
            }
            if let Some(known) = index.images.remove(&image.id) {
                image.tags.extend(known.tags);
                image.digests.extend(known.digests);
            }
            index.images.insert(image.id.clone(), image.clone());
            image
        })
    }

    /// Removes a name, and the image with its last tag; or the image, if `name` is its id.
    ///
    /// `used` are the layers of containers.
    pub(crate) fn remove(&self, name: &str, used: &BTreeSet<String>) -> Result<(), Error> {
        let Some(image) = self.find(name)? else { return Ok(()) };
        let by_id = name.strip_prefix("sha256:").unwrap_or(name) == image.id.trim_start_matches("sha256:");
        let tag = Reference::parse(name)
            .ok()
            .filter(|_| !by_id)
            .and_then(|reference| reference.tagged());
        self.change(|index| {
            let Some(image) = index.images.get_mut(&image.id) else {
                return;
            };
            if let Some(tag) = tag.filter(|_| image.tags.len() > 1) {
                image.tags.remove(&tag);
            } else {
                let id = image.id.clone();
                index.images.remove(&id);
            }
        })?;
        self.sweep(used)
    }

    /// Removes content and layers that no image and none of `used` needs.
    pub(crate) fn sweep(&self, used: &BTreeSet<String>) -> Result<(), Error> {
        let path = self.folder.join("sweep.lock");
        let file = open_lock(&path).map_err(at("open", &path))?;
        // Somebody is adding an image right now: what is left is swept another time.
        let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return Ok(());
        };
        let index = self.index()?;
        let layers = index
            .images
            .values()
            .flat_map(|image| &image.layers)
            .chain(used)
            .cloned()
            .collect();
        let content = index
            .images
            .keys()
            .map(|id| id.trim_start_matches("sha256:").to_owned())
            .collect();
        sweep_folder(&self.layers(), &layers)?;
        sweep_folder(&self.content(), &content)?;
        Ok(())
    }

    /// Where a blob is, or will be.
    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        self.content().join(digest.trim_start_matches("sha256:"))
    }

    /// Keeps `bytes` as the blob of `digest`.
    pub(super) fn keep(&self, digest: &str, bytes: &[u8]) -> Result<(), Error> {
        check("a blob", digest, bytes)?;
        let path = self.blob(digest);
        disk::write(&path, bytes).map_err(at("write", &path))
    }

    /// The folder that holds the layers' folders.
    pub(crate) fn layers(&self) -> PathBuf {
        self.folder.join("layers")
    }

    /// The folder of the layer that `chain` leads to, if it is unpacked.
    pub(super) fn layer(&self, chain: &str) -> Result<Option<String>, Error> {
        let name = layer_name(chain);
        let path = self.layers().join(&name).join("layer.json");
        let record: Option<LayerRecord> = disk::read_json(&path).map_err(at("read", &path))?;
        match record {
            Some(record) if record.chain != chain => Err(Error::Content {
                what: path.display().to_string(),
                reason: "two layers want the same folder".to_owned(),
            }),
            found => Ok(found.map(|_| name)),
        }
    }

    /// Unpacks the blob at `path` as the layer `chain` on top of `lower`; returns its folder.
    pub(super) fn unpack(&self, path: &Path, diff_id: &str, chain: &str, lower: &[String]) -> Result<String, Error> {
        if let Some(name) = self.layer(chain)? {
            return Ok(name);
        }
        let temporary = self.layers().join(format!(".{}", uuid::Uuid::new_v4()));
        let below: Vec<PathBuf> = lower.iter().map(|name| self.layers().join(name).join("fs")).collect();
        let done =
            unpack::layer(path, diff_id, &temporary.join("fs"), &below).and_then(|()| self.settle(&temporary, chain));
        if done.is_err() {
            disk::remove_folder(&temporary).map_err(at("remove", &temporary))?;
        }
        done
    }

    fn settle(&self, temporary: &Path, chain: &str) -> Result<String, Error> {
        let record = LayerRecord {
            chain: chain.to_owned(),
        };
        disk::write_json(&temporary.join("layer.json"), &record).map_err(at("write", temporary))?;
        let file = File::open(temporary).map_err(at("open", temporary))?;
        // Otherwise a power cut could leave a layer whose folder is there and whose files are empty.
        nix::unistd::syncfs(&file).map_err(|error| at("write", temporary)(error.into()))?;
        let name = layer_name(chain);
        let path = self.layers().join(&name);
        match fs::rename(temporary, &path) {
            // Somebody else was faster with the same layer.
            Err(_) if path.join("layer.json").exists() => {
                disk::remove_folder(temporary).map_err(at("remove", temporary))?
            }
            done => done.map_err(at("make", &path))?,
        }
        disk::sync_parent(&path).map_err(at("make", &path))?;
        Ok(name)
    }

    fn content(&self) -> PathBuf {
        self.folder.join("content")
    }

    fn index(&self) -> Result<Index, Error> {
        let path = self.folder.join("index.json");
        Ok(disk::read_json(&path).map_err(at("read", &path))?.unwrap_or_default())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T, Error> {
        let _lock = self.lock("index.lock", FlockArg::LockExclusive)?;
        let mut index = self.index()?;
        let result = change(&mut index);
        let path = self.folder.join("index.json");
        disk::write_json(&path, &index).map_err(at("write", &path))?;
        Ok(result)
    }

    fn lock(&self, name: &str, how: FlockArg) -> Result<Flock<File>, Error> {
        let path = self.folder.join(name);
        let file = open_lock(&path).map_err(at("open", &path))?;
        Flock::lock(file, how).map_err(|(_, error)| at("lock", &path)(error.into()))
    }
}

/// Removes what is not to be kept from a folder.
fn sweep_folder(folder: &Path, keep: &BTreeSet<String>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(at("list", folder))? {
        let entry = entry.map_err(at("list", folder))?;
        if !entry.file_name().to_str().is_some_and(|name| keep.contains(name)) {
            crate::within::remove(&entry.path()).map_err(at("remove", &entry.path()))?;
        }
    }
    Ok(())
}

fn open_lock(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(false).open(path)
}

/// Fails unless `bytes` have this digest.
pub(super) fn check(what: &str, digest: &str, bytes: &[u8]) -> Result<(), Error> {
    let actual = format!("sha256:{}", hex(&Sha256::digest(bytes)));
    if actual == digest {
        return Ok(());
    }
    Err(Error::Digest {
        what: what.to_owned(),
        expected: digest.to_owned(),
        actual,
    })
}

/// OCI image spec: the identity of a layer applied on top of others.
pub(super) fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chains: Vec<String> = Vec::new();
    for diff_id in diff_ids {
        let chain = match chains.last() {
            Some(below) => format!(
                "sha256:{}",
                hex(&Sha256::digest(format!("{below} {diff_id}").as_bytes()))
            ),
            None => diff_id.clone(),
        };
        chains.push(chain);
    }
    chains
}

/// Short, because all layers' names of an image must fit into one page of mount options.
fn layer_name(chain: &str) -> String {
    chain.trim_start_matches("sha256:").chars().take(16).collect()
}
