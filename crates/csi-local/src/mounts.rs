//! What is mounted where, and mounting.

use mountinfo::{Mounted, all};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::io;
use std::path::Path;
use tonic::Status;

/// A mount at a path or somewhere below it: what lies there is not all of the directory's own. The path has no links on
/// the way, as the kernel tells of mount points.
pub(crate) fn within(path: &Path) -> io::Result<Option<Mounted>> {
    Ok(all()?.into_iter().find(|mounted| mounted.point.starts_with(path)))
}

/// A directory at which the file system of a device can be reached: nothing else is mounted over it.
pub(crate) fn of_device(device: &Path) -> io::Result<Option<Mounted>> {
    let all = all()?;
    let uppermost = |point: &Path| all.iter().rev().find(|mounted| mounted.point == point);
    let mut found = all
        .iter()
        .filter(|mounted| mounted.source == device && mounted.point.is_dir())
        .filter(|mounted| uppermost(&mounted.point).is_some_and(|upper| upper.source == device));
    Ok(found.next().cloned())
}

/// Options of a file system, which a mount cannot have for itself.
const OF_FILE_SYSTEM: MsFlags = MsFlags::MS_SYNCHRONOUS
    .union(MsFlags::MS_DIRSYNC)
    .union(MsFlags::MS_LAZYTIME);

/// Mount options in the kernel's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    flags: MsFlags,
    data: Vec<String>,
}

impl Options {
    /// Reads options as `mount -o` has them.
    pub(crate) fn of(words: &[String]) -> Self {
        let mut options = Self {
            flags: MsFlags::empty(),
            data: Vec::new(),
        };
        for word in words.iter().flat_map(|word| word.split(',')).filter(|w| !w.is_empty()) {
            let flag = match word {
                "rw" | "defaults" => MsFlags::empty(),
                "ro" => MsFlags::MS_RDONLY,
                "nosuid" => MsFlags::MS_NOSUID,
                "nodev" => MsFlags::MS_NODEV,
                "noexec" => MsFlags::MS_NOEXEC,
                "noatime" => MsFlags::MS_NOATIME,
                "nodiratime" => MsFlags::MS_NODIRATIME,
                "relatime" => MsFlags::MS_RELATIME,
                "strictatime" => MsFlags::MS_STRICTATIME,
                "sync" => MsFlags::MS_SYNCHRONOUS,
                "dirsync" => MsFlags::MS_DIRSYNC,
                "lazytime" => MsFlags::MS_LAZYTIME,
                other => {
                    options.data.push(other.to_owned());
                    continue;
                }
            };
            options.flags |= flag;
        }
        options
    }

    /// The same, and nobody may write.
    pub(crate) fn read_only(mut self, is_read_only: bool) -> Self {
        self.flags.set(
            MsFlags::MS_RDONLY,
            is_read_only || self.flags.contains(MsFlags::MS_RDONLY),
        );
        self
    }

    /// What a directory cannot be mounted with, for it has no file system of its own.
    pub(crate) fn check_for_bind(&self) -> Result<(), Status> {
        if self.data.is_empty() && !self.flags.intersects(OF_FILE_SYSTEM) {
            return Ok(());
        }
        Err(Status::invalid_argument(
            "mount flags of a file system: this volume is a directory",
        ))
    }
}

/// Mounts a device's file system.
pub(crate) fn mount_device(device: &Path, point: &Path, file_system: &str, options: &Options) -> io::Result<()> {
    let data = options.data.join(",");
    let data = Some(data.as_str()).filter(|data| !data.is_empty());
    mount(Some(device), point, Some(file_system), options.flags, data)?;
    Ok(())
}

/// Shows `source` at `point`, too, with the options that a mount can have for itself.
pub(crate) fn bind(source: &Path, point: &Path, options: &Options) -> io::Result<()> {
    mount(Some(source), point, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let flags = options.flags - OF_FILE_SYSTEM;
    if flags.is_empty() {
        return Ok(());
    }
    let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
    let done = mount(None::<&str>, point, None::<&str>, again, None::<&str>);
    if done.is_err() {
        unmount(point)?;
    }
    Ok(done?)
}

/// Unmounts all that is mounted at a path, however often.
pub(crate) fn unmount(point: &Path) -> io::Result<()> {
    while mountinfo::at(point)?.is_some() {
        umount2(point, MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let words = ["ro,noatime", "discard", "data=ordered"].map(str::to_owned);
        let options = Options::of(&words);
        assert_eq!(options.flags, MsFlags::MS_RDONLY | MsFlags::MS_NOATIME);
        assert_eq!(options.data, ["discard", "data=ordered"]);
        assert!(options.check_for_bind().is_err());
        assert!(Options::of(&["nosuid".to_owned()]).check_for_bind().is_ok());
    }
}
