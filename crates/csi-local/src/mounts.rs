//! What is mounted where, and mounting.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tonic::Status;

/// A mount point as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Where.
    pub(crate) point: PathBuf,
    /// The device.
    pub(crate) source: PathBuf,
    /// Whether the mount is read-only.
    pub(crate) readonly: bool,
    /// Whether the file system itself is read-only.
    pub(crate) is_failed: bool,
}

/// All mounts, in the order of their making.
pub(crate) fn all() -> io::Result<Vec<Mounted>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?
        .lines()
        .filter_map(parse)
        .collect())
}

/// The uppermost mount at exactly this path.
pub(crate) fn at(path: &Path) -> io::Result<Option<Mounted>> {
    Ok(all()?.into_iter().rev().find(|mounted| mounted.point == path))
}

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

/// proc(5): `36 35 98:0 /root /point options [fields] - type source options`.
fn parse(line: &str) -> Option<Mounted> {
    let (first, last) = line.split_once(" - ")?;
    let mut first = first.split(' ').skip(4);
    let (point, options) = (first.next()?, first.next()?);
    let mut last = last.split(' ').skip(1);
    let (source, of_all) = (last.next()?, last.next()?);
    let is_readonly = |options: &str| options.split(',').any(|option| option == "ro");
    Some(Mounted {
        point: unescape(point),
        source: unescape(source),
        readonly: is_readonly(options),
        is_failed: is_readonly(of_all),
    })
}

/// Blanks and the like are written as octal numbers.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
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
    while at(point)?.is_some() {
        umount2(point, MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo() {
        let line = r"36 35 7:3 /data/pvc\0401 /mnt/a\134b ro,noatime shared:1 - ext4 /dev/loop3 rw,errors=continue";
        let mounted = parse(line).unwrap();
        assert_eq!(mounted.point, Path::new(r"/mnt/a\b"));
        assert_eq!(mounted.source, Path::new("/dev/loop3"));
        assert!(mounted.readonly && !mounted.is_failed);
    }

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
