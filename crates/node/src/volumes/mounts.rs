//! What is mounted where, read from the kernel.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::io;
use std::path::{Path, PathBuf};

/// All mount points of this process' namespace, in mount order.
pub(crate) fn mount_points() -> io::Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(parse(&text))
}

/// proc(5): the fifth field is the mount point, with octal escapes.
fn parse(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| PathBuf::from(unescape(field)))
        .collect()
}

fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether something is mounted at exactly this path.
pub(crate) fn is_mount_point(path: &Path) -> io::Result<bool> {
    Ok(mount_points()?.iter().any(|point| point == path))
}

/// Mounts a tmpfs, unless there is a mount already.
pub(crate) fn mount_tmpfs(path: &Path, size_bytes: Option<u64>) -> io::Result<()> {
    if is_mount_point(path)? {
        return Ok(());
    }
    let options = size_bytes.map(|size| format!("size={size}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, options.as_deref())?;
    Ok(())
}

/// Makes `source` visible at `target` too.
pub(crate) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?;
    Ok(())
}

/// Unmounts everything at or below a path, the innermost first.
pub(crate) fn unmount_below(path: &Path) -> io::Result<()> {
    // Mounts may be stacked on one point: look again until nothing is left.
    loop {
        let mut points = mount_points()?;
        points.retain(|point| point.starts_with(path));
        let Some(last) = points.last() else { return Ok(()) };
        umount2(last, MntFlags::UMOUNT_NOFOLLOW)
            .map_err(|errno| io::Error::other(format!("cannot unmount {}: {errno}", last.display())))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let text = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                    30 27 0:9 /a /mnt/a\\040b\\134c rw shared:1 - ext4 /dev/vda rw\n";
        assert_eq!(parse(text), [PathBuf::from("/proc"), PathBuf::from("/mnt/a b\\c")]);
    }
}
