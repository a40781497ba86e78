//! Unpacks layers: a tar of files and whiteouts becomes a folder that overlayfs understands.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use sha2::{Digest, Sha256};
use tar::{Entry, EntryType};

use super::Error;
use super::manifest::unusable;
use crate::within::{Folder, Root, clean, remove, split};

/// OCI image spec, layers: a file of this prefix removes its namesake from the layers below.
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// Reads a blob uncompressed, whatever it is compressed with.
pub(super) fn reader(file: File) -> io::Result<Box<dyn Read>> {
    let mut reader = BufReader::with_capacity(128 * 1024, file);
    let start = io::BufRead::fill_buf(&mut reader)?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(reader)?),
        _ => Box::new(reader),
    })
}

/// Unpacks `blob` into `target`; the lower layers lend their folders' owners and modes where the layer names none.
///
/// # Errors
/// If the blob does not unpack to `diff_id`, or holds something that has no place in a layer.
pub(super) fn layer(blob: &Path, diff_id: &str, target: &Path, lower: &[PathBuf]) -> Result<(), Error> {
    let what = format!("layer {diff_id}");
    let file = File::open(blob).map_err(super::at("open", blob))?;
    let reader = reader(file).map_err(|error| unusable(&what, &error))?;
    let mut reader = Hashed {
        inner: reader,
        hash: Sha256::new(),
    };
    fs::create_dir_all(target).map_err(super::at("make", target))?;
    let root = Root::open(target).map_err(super::at("open", target))?;
    let mut unpacker = Unpacker {
        root,
        lower,
        times: BTreeMap::new(),
    };
    let mut archive = tar::Archive::new(&mut reader);
    for entry in archive.entries().map_err(|error| unusable(&what, &error))? {
        let mut entry = entry.map_err(|error| unusable(&what, &error))?;
        unpacker.unpack(&mut entry).map_err(|error| {
            let path = entry
                .path()
                .map_or_else(|_| "?".to_owned(), |path| path.display().to_string());
            unusable(&format!("entry {path} of {what}"), &error)
        })?;
    }
    // The digest covers what follows the end of the archive too.
    io::copy(&mut reader, &mut io::sink()).map_err(|error| unusable(&what, &error))?;
    unpacker.finish().map_err(super::at("finish", target))?;
    let actual = format!("sha256:{}", hex(&reader.hash.finalize()));
    if actual != diff_id {
        return Err(Error::Digest {
            what: "an unpacked layer".to_owned(),
            expected: diff_id.to_owned(),
            actual,
        });
    }
    Ok(())
}

/// Unpacks any tar into `target`, as [`layer`] does, but keeps no owners.
pub(super) fn plain(reader: impl Read, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let mut unpacker = Unpacker {
        root: Root::open(target)?,
        lower: &[],
        times: BTreeMap::new(),
    };
    for entry in tar::Archive::new(reader).entries()? {
        unpacker.unpack(&mut entry?)?;
    }
    Ok(())
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.inner.read(buffer)?;
        self.hash.update(&buffer[..size]);
        Ok(size)
    }
}

struct Unpacker<'a> {
    root: Root,
    lower: &'a [PathBuf],
    /// Folders' times are set last: filling a folder changes them.
    times: BTreeMap<PathBuf, i64>,
}

impl Unpacker<'_> {
    fn unpack(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let path = clean(&entry.path()?)?;
        if matches!(entry.header().entry_type(), EntryType::XGlobalHeader) {
            return Ok(());
        }
        if path.as_os_str().is_empty() {
            let folder = self.root.folder(Path::new(""))?;
            return self.dress(entry, &folder.path(), &path);
        }
        let (parent, name) = split(&path)?;
        let parent = self
            .root
            .make_folder(&parent, &|path, folder| self.dress_like_below(path, folder))?;
        let text = name.as_os_str().as_bytes();
        if text == OPAQUE.as_bytes() {
            return xattr::set(parent.path(), "trusted.overlay.opaque", b"y");
        }
        if let Some(hidden) = text.strip_prefix(WHITEOUT.as_bytes()) {
            let hidden = parent.entry(Path::new(std::ffi::OsStr::from_bytes(hidden)));
            remove(&hidden)?;
            return Ok(mknod(&hidden, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?);
        }
        self.place(entry, &parent.entry(&name), &path)
    }

    fn place(&mut self, entry: &mut Entry<'_, impl Read>, target: &Path, path: &Path) -> io::Result<()> {
        let kind = entry.header().entry_type();
        let keep = kind.is_dir() && fs::symlink_metadata(target).is_ok_and(|metadata| metadata.is_dir());
        if !keep {
            remove(target)?;
        }
        match kind {
            EntryType::Directory if keep => {}
            EntryType::Directory => fs::create_dir(target)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut file = File::options().write(true).create_new(true).mode(0o600).open(target)?;
                io::copy(entry, &mut file)?;
            }
            EntryType::Symlink => symlink(link_of(entry)?, target)?,
            EntryType::Link => {
                // A hard link shares the owner, mode and times of its target.
                let (parent, name) = split(&clean(&link_of(entry)?)?)?;
                let source = self.root.folder(&parent)?.entry(&name);
                return fs::hard_link(source, target);
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let kind = match kind {
                    EntryType::Char => SFlag::S_IFCHR,
                    EntryType::Block => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                let (major, minor) = (entry.header().device_major()?, entry.header().device_minor()?);
                let device = makedev(major.unwrap_or(0).into(), minor.unwrap_or(0).into());
                mknod(target, kind, Mode::from_bits_truncate(0o600), device)?;
            }
            other => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("unknown kind of entry {other:?}"),
                ));
            }
        }
        self.dress(entry, target, path)
    }

    /// Owner, mode, extended attributes and time, in the order in which none undoes another.
    fn dress(&mut self, entry: &mut Entry<'_, impl Read>, target: &Path, path: &Path) -> io::Result<()> {
        let header = entry.header();
        // Some writers leave numbers blank, which tar(1) takes for 0.
        let (uid, gid) = (id_of(header.uid().unwrap_or(0))?, id_of(header.gid().unwrap_or(0))?);
        let (mode, mtime) = (
            header.mode()? & 0o7777,
            i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0),
        );
        let kind = header.entry_type();
        lchown(target, Some(uid), Some(gid))?;
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            let key = extension.key_bytes().strip_prefix(b"SCHILY.xattr.");
            if let Some(name) = key.filter(|name| !name.starts_with(b"trusted.overlay.")) {
                set_attribute(target, std::ffi::OsStr::from_bytes(name), extension.value_bytes())?;
            }
        }
        if kind.is_symlink() {
            return set_time(target, mtime);
        }
        // chown clears the set-id bits, so the mode comes after it.
        fs::set_permissions(target, fs::Permissions::from_mode(mode))?;
        if kind.is_dir() {
            self.times.insert(path.to_owned(), mtime);
            return Ok(());
        }
        set_time(target, mtime)
    }

    /// A folder the layer uses but does not name looks as it does below, or `/tmp` would lose its mode.
    fn dress_like_below(&self, path: &Path, folder: &Folder) -> io::Result<()> {
        let below = self.lower.iter().rev().find_map(|lower| {
            let folder = Root::open(lower).and_then(|root| root.folder(path)).ok()?;
            fs::metadata(folder.path()).ok()
        });
        if let Some(below) = below {
            chown(folder.path(), Some(below.uid()), Some(below.gid()))?;
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(below.mode() & 0o7777))?;
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        for (path, &mtime) in self.times.iter().rev() {
            // A later entry may have replaced the folder.
            if let Ok(folder) = self.root.folder(path) {
                set_time(&folder.path(), mtime)?;
            }
        }
        Ok(())
    }
}

fn link_of(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let link = entry
        .link_name()?
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a link without a target"))?;
    Ok(link.into_owned())
}

fn id_of(id: u64) -> io::Result<u32> {
    u32::try_from(id).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("owner {id} is too large")))
}

fn set_attribute(target: &Path, name: &std::ffi::OsStr, value: &[u8]) -> io::Result<()> {
    match xattr::set(target, name, value) {
        // The filesystem has none, or not here; the image works without, as it does elsewhere.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        done => done,
    }
}

fn set_time(target: &Path, seconds: i64) -> io::Result<()> {
    let time = TimeSpec::new(seconds, 0);
    Ok(utimensat(
        nix::fcntl::AT_FDCWD,
        target,
        &time,
        &time,
        UtimensatFlags::NoFollowSymlink,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Member<'a> = (&'a str, EntryType, &'a str);

    /// A tar whose members are files with content, links to somewhere, or folders.
    fn tar_of(members: &[Member<'_>]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, text) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_size(0);
            // The builder's own way refuses the paths that we must survive.
            header.as_gnu_mut().expect("a GNU header").name[..path.len()].copy_from_slice(path.as_bytes());
            let mut content = &b""[..];
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.as_gnu_mut().expect("a GNU header").linkname[..text.len()].copy_from_slice(text.as_bytes());
            } else {
                header.set_size(text.len() as u64);
                content = text.as_bytes();
            }
            header.set_cksum();
            builder.append(&header, content).expect("memory");
        }
        builder.into_inner().expect("memory")
    }

    fn unpack(members: &[Member<'_>], folder: &Path) -> Result<PathBuf, Error> {
        let bytes = tar_of(members);
        let (blob, target) = (folder.join("blob"), folder.join("deep/inside/fs"));
        fs::write(&blob, &bytes).expect("written");
        layer(&blob, &format!("sha256:{}", hex(&Sha256::digest(&bytes))), &target, &[])?;
        Ok(target)
    }

    #[test]
    fn nothing_is_written_outside() {
        use EntryType::{Link, Regular, Symlink};
        for members in [
            &[("../../escaped", Regular, "x")][..],
            &[("a/../../../escaped", Regular, "x")],
            &[("out", Symlink, "../.."), ("out/escaped", Regular, "x")],
            &[("out", Symlink, "/"), ("out/escaped", Regular, "x")],
            &[("link", Link, "../../blob")],
            &[
                ("out", Symlink, "../.."),
                ("link", Link, "out/blob"),
                ("link", Regular, "x"),
            ],
            &[("etc", Symlink, "/etc"), ("etc/escaped-from-a-layer", Regular, "x")],
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let done = unpack(members, folder.path());
            for path in ["escaped", "deep/escaped", "deep/inside/escaped"] {
                assert!(!folder.path().join(path).exists(), "{members:?}");
            }
            assert!(
                !Path::new("/escaped").exists() && !Path::new("/etc/escaped-from-a-layer").exists(),
                "{members:?}"
            );
            assert_ne!(
                fs::read(folder.path().join("blob")).expect("still there"),
                b"x",
                "{members:?} {done:?}"
            );
        }
    }

    #[test]
    fn whiteouts_take_overlayfs_form() {
        use EntryType::{Directory, Regular};
        let folder = tempfile::tempdir().expect("a folder");
        let members = [
            ("d", Directory, ""),
            ("d/.wh..wh..opq", Regular, ""),
            ("d/f", Regular, "x"),
            (".wh.gone", Regular, ""),
        ];
        let target = unpack(&members, folder.path()).expect("unpacked");
        assert_eq!(
            xattr::get(target.join("d"), "trusted.overlay.opaque")
                .expect("readable")
                .as_deref(),
            Some(&b"y"[..])
        );
        let gone = fs::symlink_metadata(target.join("gone")).expect("there");
        assert_eq!((gone.rdev(), gone.mode() & 0o170_000), (0, 0o020_000));
        assert_eq!(fs::read_to_string(target.join("d/f")).expect("read"), "x");
    }

    #[test]
    fn a_wrong_digest_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let blob = folder.path().join("blob");
        fs::write(&blob, tar_of(&[])).expect("written");
        let done = layer(&blob, "sha256:0", &folder.path().join("fs"), &[]);
        assert!(matches!(done, Err(Error::Digest { .. })), "{done:?}");
    }
}
