//! subPath: a part of a volume, found without leaving the volume whatever links are in it.
//!
//! The part is opened below the volume's root by the kernel (openat2, RESOLVE_BENEATH) and then bound to a place of our
//! own, so that nobody can exchange it between check and use.

use super::mounts;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Binds `sub_path` of the volume at `target`, making it as a directory if it is not there.
pub(crate) fn bind(volume: &Path, sub_path: &str, target: &Path) -> Result<PathBuf, String> {
    let relative = Path::new(sub_path);
    let is_inside = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !is_inside {
        return Err(format!(
            "failed to prepare subPath: {sub_path:?} must be relative and may not contain '..'"
        ));
    }
    bind_part(volume, relative, target).map_err(|e| format!("failed to prepare subPath {sub_path:?}: {e}"))?;
    Ok(target.to_path_buf())
}

/// The text of a file of the volume; `None` if it is not there. Whoever writes to the volume may have put anything there.
pub(crate) fn read(volume: &Path, relative: &str, bytes_max: u64) -> io::Result<Option<String>> {
    let part = match open_in(&open_root(volume)?, Path::new(relative)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    // Looked at before it is opened for reading, which may wait for a writer or do worse.
    if !fs::metadata(through(&part))?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    let mut file = fs::File::open(through(&part))?.take(bytes_max + 1);
    file.read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes > bytes_max) {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(Some(text))
}

fn bind_part(volume: &Path, relative: &Path, target: &Path) -> io::Result<()> {
    if mounts::is_mount_point(target)? {
        mounts::unmount_below(target)?;
    }
    let root = open_root(volume)?;
    let part = match open_in(&root, relative) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dirs(&root, relative)?;
            open_in(&root, relative)?
        }
        other => other?,
    };
    let source = through(&part);
    if fs::metadata(&source)?.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::OpenOptions::new().create(true).append(true).open(target)?;
    }
    mounts::bind(&source, target)
}

fn open_root(volume: &Path) -> io::Result<OwnedFd> {
    Ok(open(
        volume,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?)
}

fn open_in(root: &OwnedFd, relative: &Path) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    match openat2(root, relative, how) {
        Err(nix::errno::Errno::EXDEV) => Err(io::Error::other("a link leads out of the volume")),
        opened => Ok(opened?),
    }
}

/// Makes what is missing with the mode of the volume itself, so that whoever may write there may write here.
fn make_dirs(root: &OwnedFd, relative: &Path) -> io::Result<()> {
    let mode = fs::metadata(through(root))?.permissions();
    let mut made = PathBuf::new();
    for component in relative.components() {
        let parent = open_in(root, &made)?;
        made.push(component);
        match mkdirat(&parent, component.as_os_str(), Mode::from_bits_truncate(0o750)) {
            Ok(()) => fs::set_permissions(through(&open_in(root, &made)?), mode.clone())?,
            Err(nix::errno::Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// A path to what is open, whatever its name is by now.
fn through(open: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_small_files_of_the_volume_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("deep")).unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        fs::write(volume.join("deep/f"), "inside").unwrap();
        std::os::unix::fs::symlink("deep/f", volume.join("link")).unwrap();
        std::os::unix::fs::symlink("../secret", volume.join("out")).unwrap();
        nix::unistd::mkfifo(&volume.join("fifo"), Mode::S_IRWXU).unwrap();
        let read_here = |path: &str| read(&volume, path, 6).map_err(|error| error.to_string());
        assert_eq!(read_here("deep/f"), Ok(Some("inside".into())));
        assert_eq!(read_here("link"), Ok(Some("inside".into())));
        assert_eq!(read_here("deep/none"), Ok(None));
        assert_eq!(read_here("out"), Err("a link leads out of the volume".into()));
        assert_eq!(read_here("fifo"), Err("it is no regular file".into()));
        assert_eq!(read_here("deep"), Err("it is no regular file".into()));
        fs::write(volume.join("deep/f"), "inside it").unwrap();
        assert_eq!(read_here("deep/f"), Err("it has more than 6 bytes".into()));
        fs::write(volume.join("deep/f"), b"\xff").unwrap();
        read_here("deep/f").unwrap_err();
    }

    #[test]
    fn links_do_not_lead_out_of_the_volume() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("real")).unwrap();
        fs::write(volume.join("real/f"), "inside").unwrap();
        for (name, to) in [
            ("out", "/"),
            ("up", "../"),
            ("nothing", "/bin/nothing"),
            ("deep", "real/../../x"),
        ] {
            std::os::unix::fs::symlink(to, volume.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("real", volume.join("link")).unwrap();
        let target = dir.path().join("target");
        bind(&volume, "link", &target).unwrap();
        assert_eq!(fs::read_to_string(target.join("f")).unwrap(), "inside");
        for name in ["out", "up", "nothing", "deep", "out/etc"] {
            let error = bind(&volume, name, &target).unwrap_err();
            assert!(
                error.contains("subPath") && error.contains("leads out"),
                "{name}: {error}"
            );
        }
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2775)).unwrap();
        bind(&volume, "new/deep", &target).unwrap();
        assert_eq!(
            fs::metadata(volume.join("new/deep")).unwrap().permissions().mode() & 0o7777,
            0o2775
        );
        assert!(bind(&volume, "../x", &target).is_err());
        mounts::unmount_below(&target).unwrap();
    }
}
