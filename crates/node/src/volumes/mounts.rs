//! What is mounted where, and mounting.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::io;
use std::path::{Path, PathBuf};

/// All mount points of this process' namespace, in mount order.
pub(crate) fn mount_points() -> io::Result<Vec<PathBuf>> {
    Ok(mountinfo::all()?.into_iter().map(|mounted| mounted.point).collect())
}

/// Whether something is mounted at exactly this path.
pub(crate) fn is_mount_point(path: &Path) -> io::Result<bool> {
    Ok(mountinfo::at(path)?.is_some())
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
