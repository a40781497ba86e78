//! fsGroup: the pod's group may read and write what is in a volume.

use nix::unistd::{Gid, Uid, chown};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Gives a volume to a group: owner group, read and write for it, setgid on directories. With `only_if_root_differs`
/// nothing is touched below a root that is right already.
pub(crate) fn give_to_group(root: &Path, gid: u32, only_if_root_differs: bool) -> io::Result<()> {
    let meta = fs::metadata(root)?;
    if only_if_root_differs && meta.gid() == gid && meta.mode() & 0o2770 == 0o2770 {
        return Ok(());
    }
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_symlink() {
            continue;
        }
        let wanted = if meta.is_dir() {
            meta.mode() | 0o2770
        } else {
            meta.mode() | 0o660
        };
        // chown clears setgid, so it comes first.
        if meta.gid() != gid {
            chown(&path, None::<Uid>, Some(Gid::from_raw(gid)))?;
        }
        if meta.gid() != gid || meta.mode() != wanted {
            fs::set_permissions(&path, fs::Permissions::from_mode(wanted & 0o7777))?;
        }
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
    }
    Ok(())
}
