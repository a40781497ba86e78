//! The root filesystem of a container: its image's layers below, one writable layer on top.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::namespaces::{on_a_thread, unmount};

/// Where the root filesystem of the container in `folder` appears.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("rootfs")
}

/// The folder that holds what the container writes.
pub(crate) fn writable(folder: &Path) -> PathBuf {
    folder.join("upper")
}

/// Mounts the layers, lowest first and named relative to `layers`, below the container's folder.
///
/// Without overlayfs the files are copied, which costs space and time but runs everywhere.
pub(crate) fn mount_layers(layers: &Path, names: &[String], folder: &Path) -> io::Result<()> {
    let (upper, work, merged) = (writable(folder), folder.join("work"), path(folder));
    for path in [&upper, &work, &merged] {
        fs::create_dir_all(path)?;
    }
    // The root folder's own owner and mode are the upper one's; images rarely say more than this.
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
    match overlay(layers, names, &upper, &work, &merged) {
        Err(error)
            if matches!(
                error.raw_os_error().map(Errno::from_raw),
                Some(Errno::ENODEV | Errno::EINVAL | Errno::EPERM | Errno::EOPNOTSUPP)
            ) =>
        {
            tracing::warn!(%error, "overlayfs is not available here, so images are copied");
            copy(layers, names, &merged)
        }
        done => done,
    }
}

fn overlay(layers: &Path, names: &[String], upper: &Path, work: &Path, merged: &Path) -> io::Result<()> {
    if names.is_empty() {
        return mount(Some(upper), merged, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(Into::into);
    }
    let lower: Vec<String> = names.iter().rev().map(|name| format!("{name}/fs")).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        escape(upper)?,
        escape(work)?
    );
    let (layers, merged) = (layers.to_owned(), merged.to_owned());
    on_a_thread(move || {
        // Options must fit into a page, so layers are named relative to a working folder of this thread's own.
        unshare(CloneFlags::CLONE_FS)?;
        nix::unistd::chdir(&layers)?;
        Ok(mount(
            Some("overlay"),
            &merged,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )?)
    })
}

fn escape(path: &Path) -> io::Result<String> {
    let text = path
        .to_str()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the data folder's path is not UTF-8"))?;
    Ok(text.replace('\\', "\\\\").replace(',', "\\,").replace(':', "\\:"))
}

/// Undoes [`mount_layers`]; what was written stays in the folder.
pub(crate) fn unmount_layers(folder: &Path) -> io::Result<()> {
    unmount(&path(folder))
}

/// Copies layers over each other, doing what whiteouts ask for.
fn copy(layers: &Path, names: &[String], target: &Path) -> io::Result<()> {
    for name in names {
        merge(&layers.join(name).join("fs"), target)?;
    }
    Ok(())
}

fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        let is_whiteout = metadata.file_type().is_char_device() && metadata.rdev() == 0;
        let keep = metadata.is_dir()
            && fs::symlink_metadata(&target).is_ok_and(|target| target.is_dir())
            && !is_opaque(&source);
        if !keep {
            crate::within::remove(&target)?;
        }
        if is_whiteout {
            continue;
        }
        if metadata.is_dir() {
            if !keep {
                fs::create_dir(&target)?;
            }
            merge(&source, &target)?;
        } else if metadata.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if metadata.is_file() {
            fs::copy(&source, &target)?;
        } else {
            special(&source, &target)?;
        }
        lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
        if !metadata.is_symlink() {
            fs::set_permissions(&target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
        }
    }
    Ok(())
}

fn is_opaque(folder: &Path) -> bool {
    xattr::get(folder, "trusted.overlay.opaque").ok().flatten().is_some()
}

fn special(source: &Path, target: &Path) -> io::Result<()> {
    let done = Command::new("cp").arg("-a").arg("--").args([source, target]).status()?;
    if done.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("cannot copy the device {}", source.display())))
    }
}

/// The bytes and inodes below a folder.
pub(crate) fn usage(folder: &Path) -> (u64, u64) {
    fs::metadata(folder).map_or((0, 0), |metadata| usage_on(folder, metadata.dev()))
}

/// What is mounted there is on another device, and not counted.
fn usage_on(folder: &Path, device: u64) -> (u64, u64) {
    let mut sum = (0, 0);
    let Ok(entries) = fs::read_dir(folder) else { return sum };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.dev() != device {
            continue;
        }
        sum = (sum.0 + metadata.blocks() * 512, sum.1 + 1);
        if metadata.is_dir() {
            let below = usage_on(&entry.path(), device);
            sum = (sum.0 + below.0, sum.1 + below.1);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};

    /// Two layers: the upper one hides a file, replaces a folder's content and changes a file.
    fn layers() -> (tempfile::TempDir, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let (low, high) = (folder.path().join("a/fs"), folder.path().join("b/fs"));
        for path in [low.join("kept"), low.join("opaque"), high.join("opaque")] {
            fs::create_dir_all(path).expect("made");
        }
        for (path, text) in [("gone", "1"), ("changed", "1"), ("kept/one", "1"), ("opaque/old", "1")] {
            fs::write(low.join(path), text).expect("written");
        }
        for (path, text) in [("changed", "2"), ("opaque/new", "2")] {
            fs::write(high.join(path), text).expect("written");
        }
        mknod(&high.join("gone"), SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).expect("a whiteout");
        xattr::set(high.join("opaque"), "trusted.overlay.opaque", b"y").expect("opaque");
        (folder, vec!["a".to_owned(), "b".to_owned()])
    }

    fn check(root: &Path) {
        assert!(!root.join("gone").exists());
        assert_eq!(fs::read_to_string(root.join("changed")).expect("read"), "2");
        assert!(root.join("kept/one").exists());
        assert!(root.join("opaque/new").exists() && !root.join("opaque/old").exists());
    }

    #[test]
    fn copying_gives_what_overlayfs_gives() {
        let (layers, names) = layers();
        let copied = tempfile::tempdir().expect("a folder");
        copy(layers.path(), &names, copied.path()).expect("copied");
        check(copied.path());
        let mounted = tempfile::tempdir().expect("a folder");
        mount_layers(layers.path(), &names, mounted.path()).expect("mounted");
        check(&path(mounted.path()));
        unmount_layers(mounted.path()).expect("unmounted");
        assert_eq!(fs::read_dir(path(mounted.path())).expect("listed").count(), 0);
    }
}
