//! Volumes that become larger, also while they are used.

use crate::content;
use crate::devices::{self, Loop};
use crate::disk::{Disk, failed};
use crate::mounts;
use crate::volume::{Kind, Volume};
use std::io;
use std::path::Path;
use tonic::Status;

impl Disk {
    /// Lets a volume have a larger size; its file system follows with [`Disk::grow_file_system`].
    pub(crate) fn enlarge(&self, id: &str, volume: &mut Volume, bytes: i64) -> Result<(), Status> {
        if bytes <= volume.bytes {
            return Ok(());
        }
        if volume.kind.is_image() {
            let grown = content::resize(&self.content(id, volume.kind), bytes);
            grown.map_err(failed("enlarge an image"))?;
        } else {
            volume.formatted_bytes = bytes;
        }
        volume.bytes = bytes;
        self.note(id, volume)
    }

    /// Lets the file system of a volume that is about to be mounted have the size that the image has, if that can be
    /// done before it is: ext4 grows under its users only where we have CAP_SYS_RESOURCE, which containers seldom have.
    pub(crate) fn grow_before_mounting(&self, id: &str, volume: &mut Volume) -> Result<(), Status> {
        let image = self.content(id, volume.kind);
        let grow = || -> io::Result<bool> {
            let is_due = volume.kind == Kind::Ext4 && volume.formatted_bytes < volume.bytes;
            if !is_due || devices::device_of(&image)?.is_some() {
                return Ok(false);
            }
            content::grow_unused_ext4(&image)?;
            Ok(true)
        };
        if grow().map_err(failed("grow a file system"))? {
            volume.formatted_bytes = volume.bytes;
            self.note(id, volume)?;
        }
        Ok(())
    }

    /// Lets the device and the file system of a volume have the size that the image has, under their users.
    pub(crate) fn grow_file_system(&self, id: &str, volume: &mut Volume) -> Result<(), Status> {
        if !volume.kind.is_image() || volume.formatted_bytes >= volume.bytes {
            return Ok(());
        }
        let image = self.content(id, volume.kind);
        let grown = grow(&image, volume).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Status::failed_precondition(format!(
                "the volume grows when nobody uses it, for this machine does not allow more: {error}"
            )),
            _ => failed("grow a file system")(error),
        })?;
        if grown {
            volume.formatted_bytes = volume.bytes;
            self.note(id, volume)?;
        }
        Ok(())
    }
}

/// Whether it was possible now.
fn grow(image: &Path, volume: &Volume) -> io::Result<bool> {
    if devices::device_of(image)?.is_none() {
        return Ok(false);
    }
    // The one that was just seen may be gone and its number another image's; this one stays ours while it is open.
    let device = Loop::attach(image, volume.kind != Kind::Block)?;
    device.grow()?;
    if volume.kind == Kind::Block {
        return Ok(true);
    }
    let Some(mounted) = mounts::of_device(&device.path)? else {
        return Ok(false);
    };
    match volume.kind {
        Kind::Ext4 => content::run("resize2fs", &[], &[device.path.as_os_str()])?,
        Kind::Btrfs => content::run("btrfs", &["filesystem", "resize", "max"], &[mounted.point.as_os_str()])?,
        Kind::Directory | Kind::Block => {}
    }
    Ok(true)
}
