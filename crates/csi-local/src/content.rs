//! The data of a volume or snapshot: made, copied.

use crate::volume::Kind;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the data is within the directory of a volume or snapshot.
pub(crate) fn within(place: &Path, kind: Kind) -> PathBuf {
    place.join(if kind.is_image() { "image" } else { "data" })
}

/// What is in an image, files of other users among it, is read through its mount only.
const IMAGE_MODE: u32 = 0o600;

/// Makes empty data.
pub(crate) fn make(place: &Path, kind: Kind, bytes: i64) -> io::Result<()> {
    let path = within(place, kind);
    if !kind.is_image() {
        return fs::DirBuilder::new().mode(0o755).create(path);
    }
    File::options()
        .create_new(true)
        .write(true)
        .mode(IMAGE_MODE)
        .open(&path)?;
    resize(&path, bytes)?;
    match kind {
        // All of it is the volume's own: nothing is kept back for root.
        Kind::Ext4 => run("mkfs.ext4", &["-q", "-F", "-m", "0"], &[path.as_os_str()])?,
        Kind::Btrfs => run("mkfs.btrfs", &["-q", "-f"], &[path.as_os_str()])?,
        Kind::Directory | Kind::Block => {}
    }
    File::open(path)?.sync_all()
}

/// How long a copy may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// No longer than sharing blocks takes.
    Shared,
    /// Only for so many seconds, for somebody waits.
    Seconds(u32),
    /// As long as it takes.
    Any,
}

/// Makes data that is the same as other data of its kind, sharing its blocks where the disk can. It is durable after
/// [`settle`].
pub(crate) fn copy(from: &Path, to: &Path, kind: Kind, pace: Pace) -> io::Result<()> {
    let (source, target) = (within(from, kind), within(to, kind));
    let must_share = pace == Pace::Shared;
    let share = if must_share {
        "--reflink=always"
    } else {
        "--reflink=auto"
    };
    if !kind.is_image() {
        fs::DirBuilder::new().mode(0o755).create(&target)?;
        // With a dot, what is in the directory and the directory's own attributes are copied.
        let inside = source.join(".");
        return run("cp", &["-a", share, "--"], &[inside.as_os_str(), target.as_os_str()]);
    }
    let sparse = if must_share { "--sparse=auto" } else { "--sparse=always" };
    let paths = [source.as_os_str(), target.as_os_str()];
    match pace {
        Pace::Seconds(seconds) => run("timeout", &[&seconds.to_string(), "cp", share, sparse, "--"], &paths),
        Pace::Shared | Pace::Any => run("cp", &[share, sparse, "--"], &paths),
    }
}

/// Makes a copy durable: the record that follows says that all of it is there, also after a power cut.
pub(crate) fn settle(place: &Path, kind: Kind) -> io::Result<()> {
    let file = File::open(within(place, kind))?;
    if !kind.is_image() {
        return Ok(nix::unistd::syncfs(file)?);
    }
    // Those of earlier versions were open to all, and cp keeps that.
    file.set_permissions(fs::Permissions::from_mode(IMAGE_MODE))?;
    file.sync_all()
}

/// Gives a copied file system an identity of its own, where two with one identity cannot be mounted at a time.
pub(crate) fn set_apart(place: &Path, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::Btrfs => run("btrfstune", &["-f", "-m"], &[within(place, kind).as_os_str()]),
        _ => Ok(()),
    }
}

/// Lets an image that is there have a size at least; what is new takes no room on the disk until it is written. It is
/// never cut: whatever a record says of its size, what lies in it is somebody's data.
pub(crate) fn resize(image: &Path, bytes: i64) -> io::Result<()> {
    let bytes = u64::try_from(bytes).map_err(io::Error::other)?;
    let file = File::options().write(true).open(image)?;
    if file.metadata()?.len() < bytes {
        file.set_len(bytes)?;
    }
    file.sync_all()
}

/// The exit code of timeout(1) when the time is over.
const TIMED_OUT: i32 = 124;

/// Runs a program of the system; its last words are the error.
pub(crate) fn run(program: &str, options: &[&str], paths: &[&OsStr]) -> io::Result<()> {
    run_to(program, options, paths, 0)
}

/// Lets the file system of an ext4 image that nobody uses have the image's size. It is repaired first, which resize2fs
/// insists on.
pub(crate) fn grow_unused_ext4(image: &Path) -> io::Result<()> {
    // 1 says that something was repaired.
    run_to("e2fsck", &["-f", "-p"], &[image.as_os_str()], 1)?;
    run("resize2fs", &[], &[image.as_os_str()])
}

/// The same for a program whose exit codes up to one are good.
fn run_to(program: &str, options: &[&str], paths: &[&OsStr], code_max: i32) -> io::Result<()> {
    // Where systems keep these programs, whatever the path of our process is.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    let output = Command::new(program)
        .args(options)
        .args(paths)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{program} cannot be run ({error})")))?;
    if output.status.code().is_some_and(|code| code <= code_max) {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let text = format!(
        "{program} failed ({}): {}",
        output.status,
        words.trim().replace('\n', "; ")
    );
    let says = |what: &str| words.contains(what);
    let kind = match () {
        () if program == "timeout" && output.status.code() == Some(TIMED_OUT) => io::ErrorKind::TimedOut,
        () if says("No space left on device") => io::ErrorKind::StorageFull,
        () if says("Permission denied") => io::ErrorKind::PermissionDenied,
        () => io::ErrorKind::Other,
    };
    Err(io::Error::new(kind, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_told_apart() {
        let too_long = run("timeout", &["0.1", "sleep", "60"], &[]);
        assert_eq!(too_long.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let fails = run("timeout", &["60", "cp"], &[]);
        assert_eq!(fails.unwrap_err().kind(), io::ErrorKind::Other);
    }

    #[test]
    fn images_grow_only() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        assert_eq!(resize(&image, 4096).unwrap_err().kind(), io::ErrorKind::NotFound);
        make(dir.path(), Kind::Block, 8192).unwrap();
        for (asked, expected) in [(4096, 8192), (8192, 8192), (12288, 12288)] {
            resize(&image, asked).unwrap();
            assert_eq!(fs::metadata(&image).unwrap().len(), expected);
        }
    }
}
