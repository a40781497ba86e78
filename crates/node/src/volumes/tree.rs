//! Removing directories without ever reaching through a mount or a symbolic link.

use super::mounts;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Removes a directory and what is in it. What is mounted in it is left alone and is an error; an absent directory is
/// fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let root = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let real = fs::canonicalize(path)?;
    if let Some(point) = mounts::mount_points()?.iter().find(|point| point.starts_with(&real)) {
        return Err(io::Error::other(format!("{} is still mounted", point.display())));
    }
    if !root.is_dir() {
        return fs::remove_file(path);
    }
    remove_on_device(path, root.dev())
}

fn remove_on_device(dir: &Path, device: u64) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let meta = fs::symlink_metadata(&path)?;
        if !meta.is_dir() {
            fs::remove_file(&path)?;
        } else if meta.dev() == device {
            remove_on_device(&path, device)?;
        } else {
            return Err(io::Error::other(format!(
                "{} is on another file system",
                path.display()
            )));
        }
    }
    fs::remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_removed_but_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("data"), "x").unwrap();
        let gone = dir.path().join("gone");
        fs::create_dir_all(gone.join("a/b")).unwrap();
        std::os::unix::fs::symlink(&kept, gone.join("a/link")).unwrap();
        remove(&gone).unwrap();
        remove(&gone).unwrap();
        assert!(!gone.exists() && kept.join("data").exists());
    }

    #[test]
    fn mounts_are_not_reached_through() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let inner = root.join("inner");
        fs::create_dir_all(&inner).unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("data"), "x").unwrap();
        mounts::bind(&outside, &inner).unwrap();
        let refused = remove(&root);
        mounts::unmount_below(&root).unwrap();
        assert!(refused.is_err() && outside.join("data").exists());
        remove(&root).unwrap();
    }
}
