//! Loads archives: OCI layouts and what `docker save` writes, plain or compressed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::manifest::{Descriptor, Document, ImageConfig, for_this_machine, unusable};
use super::reference::{Reference, is_digest};
use super::store::{Image, Store, chain_ids, check};
use super::unpack::{self, hex};
use super::{Error, at};
use crate::disk;
use crate::within::Root;

/// Loads an OCI-layout or `docker save` archive, plain or compressed, into the store below `root` (that of
/// [`crate::Config`]); returns the names loaded.
///
/// May run beside the server: what is not complete cannot be seen.
///
/// # Errors
/// If the archive cannot be read, holds no image, or something in it is not what its digest says.
pub fn load_archive(root: &Path, archive: &Path) -> Result<Vec<String>, Error> {
    let store = Store::open(root)?;
    let lease = store.lease()?;
    let file = File::open(archive).map_err(at("open", archive))?;
    let folder = store.layers().join(format!(".{}", uuid::Uuid::new_v4()));
    let what = archive.display().to_string();
    let unpacked = unpack::reader(file)
        .and_then(|reader| unpack::plain(reader, &folder))
        .map_err(|error| unusable(&what, &error));
    let loaded = unpacked.and_then(|()| {
        let root = Root::open(&folder).map_err(at("open", &folder))?;
        Loader {
            store: &store,
            what,
            root,
            archive,
        }
        .load()
    });
    disk::remove_folder(&folder).map_err(at("remove", &folder))?;
    drop(lease);
    loaded
}

/// One entry of `manifest.json`, the table of contents of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

struct Loader<'a> {
    store: &'a Store,
    what: String,
    /// The unpacked archive.
    root: Root,
    archive: &'a Path,
}

impl Loader<'_> {
    fn load(&self) -> Result<Vec<String>, Error> {
        // Newer `docker save` writes both; its own table has the names that people gave.
        if let Some(bytes) = self.read_if_there("manifest.json")? {
            let saved: Vec<Saved> =
                serde_json::from_slice(&bytes).map_err(|error| unusable("manifest.json", &error))?;
            return self.all(saved.iter().map(|saved| self.load_saved(saved)));
        }
        let Some(bytes) = self.read_if_there("index.json")? else {
            return Err(unusable(
                &self.what,
                &"it is neither an OCI layout nor made by docker save",
            ));
        };
        match Document::parse(&bytes)? {
            Document::Index { manifests } => self.all(manifests.iter().map(|entry| self.load_entry(entry))),
            Document::Manifest { .. } => Err(unusable("index.json", &"it is not an index")),
        }
    }

    fn all(&self, images: impl Iterator<Item = Result<Vec<String>, Error>>) -> Result<Vec<String>, Error> {
        let names = images.collect::<Result<Vec<_>, _>>()?.concat();
        if names.is_empty() {
            Err(unusable(&self.what, &"it holds no image"))
        } else {
            Ok(names)
        }
    }

    fn load_saved(&self, saved: &Saved) -> Result<Vec<String>, Error> {
        let config = self.read(&saved.config)?;
        let layers = saved.layers.iter().map(PathBuf::from).collect();
        let tags = saved.repo_tags.iter().flatten().cloned().collect();
        self.add(&config, layers, tags, BTreeSet::new())
    }

    fn load_entry(&self, entry: &Descriptor) -> Result<Vec<String>, Error> {
        let bytes = self.blob(entry)?;
        let (config, layers) = match Document::parse(&bytes)? {
            Document::Manifest { config, layers } => (config, layers),
            Document::Index { manifests } => {
                let chosen = for_this_machine(&manifests)
                    .ok_or_else(|| unusable(&self.what, &"it has no image for this machine"))?;
                match Document::parse(&self.blob(chosen)?)? {
                    Document::Manifest { config, layers } => (config, layers),
                    Document::Index { .. } => return Err(unusable(&self.what, &"an index leads to another index")),
                }
            }
        };
        let tag = self.name(entry);
        let digests = Reference::parse(&tag).map(|reference| format!("{}@{}", reference.place(), entry.digest));
        let layers = layers.iter().map(|layer| blob_path(&layer.digest)).collect();
        self.add(&self.blob(&config)?, layers, vec![tag], digests.into_iter().collect())
    }

    /// The name an index entry gives itself, or the archive's file name.
    fn name(&self, entry: &Descriptor) -> String {
        if let Some(name) = entry.annotations.get("io.containerd.image.name") {
            return name.clone();
        }
        let stem = self
            .archive
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("image");
        let stem = stem.split('.').next().unwrap_or("image").to_lowercase();
        match entry.annotations.get("org.opencontainers.image.ref.name") {
            // A name by itself, or just a tag.
            Some(name) if name.contains(['/', ':']) => name.clone(),
            Some(tag) => format!("{stem}:{tag}"),
            None => stem,
        }
    }

    fn add(
        &self,
        config_bytes: &[u8],
        layers: Vec<PathBuf>,
        tags: Vec<String>,
        digests: BTreeSet<String>,
    ) -> Result<Vec<String>, Error> {
        let config = ImageConfig::parse(config_bytes)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            return Err(unusable(
                &self.what,
                &"the number of layers differs from the configuration's",
            ));
        }
        let mut names: Vec<String> = Vec::new();
        let mut size = config_bytes.len() as u64;
        for ((diff_id, chain), layer) in diff_ids.iter().zip(chain_ids(diff_ids)).zip(&layers) {
            let file = self.root.file(layer).map_err(at("find the layer", layer))?;
            size += file.metadata().map_err(at("read", layer))?.len();
            let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
            names.push(self.store.unpack(&path, diff_id, &chain, &names)?);
        }
        let id = format!("sha256:{}", hex(&<sha2::Sha256 as sha2::Digest>::digest(config_bytes)));
        self.store.keep(&id, config_bytes)?;
        let tags = tags
            .iter()
            .map(|tag| Reference::parse(tag))
            .collect::<Result<Vec<_>, _>>()?;
        let tags: BTreeSet<String> = tags.iter().filter_map(Reference::tagged).collect();
        let loaded = if tags.is_empty() {
            vec![id.clone()]
        } else {
            tags.iter().cloned().collect()
        };
        self.store.add(Image {
            id,
            tags,
            digests,
            layers: names,
            size,
            config,
        })?;
        Ok(loaded)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        if !is_digest(&descriptor.digest) {
            return Err(unusable(
                &self.what,
                &format!("{:?} is not a sha256 digest", descriptor.digest),
            ));
        }
        let bytes = self.read(&blob_path(&descriptor.digest).to_string_lossy())?;
        check("a blob", &descriptor.digest, &bytes)?;
        Ok(bytes)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.read_if_there(path)?
            .ok_or_else(|| unusable(&self.what, &format!("it lacks {path}")))
    }

    fn read_if_there(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let file = match self.root.file(Path::new(path)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(at("read", Path::new(path)))?,
        };
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        fs::read(link).map(Some).map_err(at("read", Path::new(path)))
    }
}

fn blob_path(digest: &str) -> PathBuf {
    Path::new("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(bytes: &[u8]) -> String {
        hex(&<sha2::Sha256 as sha2::Digest>::digest(bytes))
    }

    /// An OCI layout whose manifest has these annotations; `break_it` is put before the layer.
    fn layout(annotations: serde_json::Value, break_it: &[u8]) -> Vec<u8> {
        let layer = tar::Builder::new(Vec::new()).into_inner().expect("memory");
        let config = json!({"rootfs": {"diff_ids": [format!("sha256:{}", digest(&layer))]}}).to_string();
        let descriptor = |bytes: &[u8]| json!({"digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()});
        let manifest = json!({"config": descriptor(config.as_bytes()), "layers": [descriptor(&layer)]}).to_string();
        let mut entry = descriptor(manifest.as_bytes());
        entry["annotations"] = annotations;
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let mut builder = tar::Builder::new(Vec::new());
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes));
        let broken = [break_it, &layer].concat();
        for (path, bytes) in [
            ("index.json".to_owned(), index.as_bytes()),
            (blob(config.as_bytes()), config.as_bytes()),
            (blob(manifest.as_bytes()), manifest.as_bytes()),
            (blob(&layer), &broken),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, bytes).expect("memory");
        }
        builder.into_inner().expect("memory")
    }

    fn load(name: &str, archive: &[u8]) -> (tempfile::TempDir, Result<Vec<String>, Error>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        fs::write(&path, archive).expect("written");
        let loaded = load_archive(&folder.path().join("root"), &path);
        (folder, loaded)
    }

    #[test]
    fn layouts_are_loaded_under_their_names() {
        for (annotations, expected) in [
            (
                json!({"org.opencontainers.image.ref.name": "v2"}),
                "docker.io/library/my-app:v2",
            ),
            (
                json!({"org.opencontainers.image.ref.name": "localhost:5000/x:v3"}),
                "localhost:5000/x:v3",
            ),
            (
                json!({"io.containerd.image.name": "quay.io/a/b:c", "org.opencontainers.image.ref.name": "c"}),
                "quay.io/a/b:c",
            ),
            (json!({}), "docker.io/library/my-app:latest"),
        ] {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gzip, &layout(annotations, b"")).expect("memory");
            let (folder, loaded) = load("My-App.tar.gz", &gzip.finish().expect("memory"));
            assert_eq!(loaded.expect("loaded"), [expected]);
            let store = Store::open(&folder.path().join("root")).expect("opened");
            assert!(
                store
                    .find(expected)
                    .expect("read")
                    .is_some_and(|image| image.layers.len() == 1)
            );
        }
    }

    #[test]
    fn a_broken_archive_leaves_nothing() {
        let mut block = [0; 512];
        block[0] = b'x';
        for archive in [
            &b"no tar at all"[..],
            &layout(json!({}), &block),
            &tar::Builder::new(Vec::new()).into_inner().expect("memory"),
        ] {
            let (folder, loaded) = load("x.tar", archive);
            assert!(
                matches!(loaded, Err(Error::Content { .. } | Error::Digest { .. })),
                "{loaded:?}"
            );
            let store = Store::open(&folder.path().join("root")).expect("opened");
            assert!(store.list().expect("read").is_empty());
            assert_eq!(fs::read_dir(store.layers()).expect("listed").count(), 0);
        }
    }
}
