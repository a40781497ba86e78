//! Terminals: receiving the master end from the OCI runtime, and its size.
#![expect(
    unsafe_code,
    reason = "file descriptors from messages and terminal ioctls have no safe form"
)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::libc::{TIOCSWINSZ, ioctl, winsize};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Receives the terminal's master end from a connection to the console socket.
pub(crate) fn receive_master(connection: &impl AsFd) -> io::Result<OwnedFd> {
    let mut name = [0; 4096];
    let mut parts = [IoSliceMut::new(&mut name)];
    let mut space = cmsg_space!([i32; 1]);
    let socket = connection.as_fd().as_raw_fd();
    let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(&fd) = fds.first()
        {
            // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the OCI runtime sent no terminal",
    ))
}

/// Tells the terminal its size in characters.
pub(crate) fn resize(master: &impl AsFd, width: u16, height: u16) -> io::Result<()> {
    let size = winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request reads one winsize, which outlives the call.
    let done = unsafe { ioctl(master.as_fd().as_raw_fd(), TIOCSWINSZ, &raw const size) };
    nix::errno::Errno::result(done)?;
    Ok(())
}
