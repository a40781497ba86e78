//! The master end of a terminal, without blocking.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;

/// Read at once.
const READ_SIZE_BYTES: usize = 16 * 1024;

pub(super) struct Terminal {
    master: AsyncFd<OwnedFd>,
}

impl Terminal {
    pub(super) fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&master, FcntlArg::F_GETFL)?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: an `OwnedFd` owns one open descriptor and always answers with that one.
        #[expect(unsafe_code, reason = "registering a descriptor has no safe form")]
        let master = unsafe { AsyncFd::register(master) }?;
        Ok(Self { master })
    }

    /// What the process shows; nothing when it has gone.
    pub(super) async fn read(&self) -> io::Result<Option<Bytes>> {
        let mut bytes = vec![0; READ_SIZE_BYTES];
        loop {
            let mut ready = self.master.readable().await?;
            match ready.try_io(|fd| Ok(nix::unistd::read(fd, &mut bytes)?)) {
                // A terminal without a process answers EIO.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::EIO as i32) => return Ok(None),
                Ok(Ok(0)) => return Ok(None),
                Ok(size) => {
                    bytes.truncate(size?);
                    return Ok(Some(bytes.into()));
                }
                Err(_) => {}
            }
        }
    }

    /// What is typed.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.master.writable().await?;
            if let Ok(size) = ready.try_io(|fd| Ok(nix::unistd::write(fd, bytes)?)) {
                bytes = &bytes[size?..];
            }
        }
        Ok(())
    }

    pub(super) fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        crate::monitor::pty::resize(&self.master, width, height)
    }
}
