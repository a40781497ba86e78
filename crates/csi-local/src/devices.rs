//! Loop devices, and file systems held still: the kernel's calls for them.
#![expect(unsafe_code, reason = "ioctls have no safe form")]

use crate::mounts;
use nix::errno::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const LOOP_CLR_FD: u16 = 0x4C01;
const LOOP_SET_CAPACITY: u16 = 0x4C07;
const LOOP_CONFIGURE: u16 = 0x4C0A;
const LOOP_CTL_GET_FREE: u16 = 0x4C82;
/// Detached when nobody has it open any longer.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Others may take the free device first; more often than this it is no chance.
const TRIES: usize = 64;

nix::ioctl_none_bad!(loop_clear, LOOP_CLR_FD);
nix::ioctl_none_bad!(loop_set_capacity, LOOP_SET_CAPACITY);
nix::ioctl_write_ptr_bad!(loop_configure, LOOP_CONFIGURE, LoopConfig);
nix::ioctl_none_bad!(loop_free, LOOP_CTL_GET_FREE);
// They take a pointer by their number, but the kernel does not look at it.
nix::ioctl_none_bad!(freeze, nix::request_code_readwrite!(b'X', 119, 4));
nix::ioctl_none_bad!(thaw, nix::request_code_readwrite!(b'X', 120, 4));

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    numbers: [u64; 5],
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
pub(crate) struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// A loop device that shows a file.
#[derive(Debug)]
pub(crate) struct Loop {
    /// Its node below `/dev`.
    pub(crate) path: PathBuf,
    device: File,
}

impl Loop {
    /// The device that shows `image`; attached now if there is none. One that clears itself is detached when it is
    /// neither open nor mounted any longer.
    pub(crate) fn attach(image: &Path, clears_itself: bool) -> io::Result<Self> {
        if let Some(path) = device_of(image)? {
            let device = open(&path)?;
            // It may have been cleared between the look and the opening.
            if device_of(image)?.as_ref() == Some(&path) {
                return Ok(Self { path, device });
            }
        }
        let file = open(image)?;
        for _ in 0..TRIES {
            let control = open(Path::new("/dev/loop-control"))?;
            // SAFETY: LOOP_CTL_GET_FREE takes no argument.
            let number = unsafe { loop_free(control.as_raw_fd()) }?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open(&path)?;
            match configure(&device, &file, clears_itself) {
                Ok(()) => return Ok(Self { path, device }),
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other("no loop device is free"))
    }

    /// Lets the device have the size that its file has now.
    pub(crate) fn grow(&self) -> io::Result<()> {
        // SAFETY: LOOP_SET_CAPACITY takes no argument.
        unsafe { loop_set_capacity(self.device.as_raw_fd()) }?;
        Ok(())
    }

    /// Detaches the device, now or when its last user lets it go.
    pub(crate) fn detach(&self) -> io::Result<()> {
        // SAFETY: LOOP_CLR_FD takes no argument.
        match unsafe { loop_clear(self.device.as_raw_fd()) } {
            Ok(_) | Err(Errno::ENXIO) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn configure(device: &File, file: &File, clears_itself: bool) -> nix::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(|_| Errno::EBADF)?,
        block_size: 0,
        info: LoopInfo {
            numbers: [0; 5],
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: if clears_itself { LO_FLAGS_AUTOCLEAR } else { 0 },
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: the argument is a `struct loop_config` that outlives the call, and the kernel only reads it.
    unsafe { loop_configure(device.as_raw_fd(), &raw const config) }?;
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("cannot open {}: {error}", path.display())))
}

/// All loop devices and the files they show, as the kernel tells.
fn attached() -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        if let Ok(file) = fs::read_to_string(entry.path().join("loop/backing_file")) {
            let file = PathBuf::from(file.trim_end_matches('\n'));
            all.push((Path::new("/dev").join(entry.file_name()), file));
        }
    }
    Ok(all)
}

/// The loop device that shows a file.
pub(crate) fn device_of(image: &Path) -> io::Result<Option<PathBuf>> {
    let image = image.canonicalize()?;
    let found = attached()?.into_iter().find(|(_, file)| *file == image);
    Ok(found.map(|(device, _)| device))
}

/// Detaches all loop devices that show files below a directory, whoever attached them.
///
/// # Errors
/// The kernel does not tell, or refuses.
pub fn detach_below(dir: &Path) -> io::Result<()> {
    for (path, _) in attached_below(dir)? {
        let device = open(&path)?;
        Loop { path, device }.detach()?;
    }
    Ok(())
}

fn attached_below(dir: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let dir = match dir.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut all = attached()?;
    all.retain(|(_, file)| file.starts_with(&dir));
    Ok(all)
}

/// A file system that holds still, its disk complete, until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen(File);

impl Frozen {
    /// Freezes what is mounted here.
    pub(crate) fn freeze(mount_point: &Path) -> io::Result<Self> {
        let file = File::open(mount_point)?;
        // SAFETY: FIFREEZE does not look at its argument.
        unsafe { freeze(file.as_raw_fd()) }?;
        Ok(Self(file))
    }
}

/// Lets go on what a process that was killed or has left held still: file systems in files below a directory.
///
/// # Errors
/// The kernel does not tell.
pub fn thaw_below(dir: &Path) -> io::Result<()> {
    for (device, _) in attached_below(dir)? {
        if let Some(mounted) = mounts::of_device(&device)? {
            // One that is not well keeps nobody from the others.
            match File::open(&mounted.point) {
                Ok(file) => drop(Frozen(file)),
                Err(error) => tracing::error!(%error, point = %mounted.point.display(), "cannot look at a volume"),
            }
        }
    }
    Ok(())
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: FITHAW does not look at its argument.
        match unsafe { thaw(self.0.as_raw_fd()) } {
            // It was not frozen.
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(error) => tracing::error!(%error, "a file system stays frozen"),
        }
    }
}
