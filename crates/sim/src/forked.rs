//! Episodes in processes of their own that begin warm: what a process makes once (tables, schemas, the first state of a
//! cluster) is there already when it is forked.
//!
//! Every process is forked from the same state, so an episode is the same whichever others were run before it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::FromRawFd;
use std::panic::AssertUnwindSafe;

/// A process that writes down what it finds and ends.
#[derive(Debug)]
pub struct Forked {
    process: libc::pid_t,
    paper: File,
}

impl Forked {
    /// Starts a process that does `work`, which may write to the paper that it is given.
    ///
    /// # Safety
    /// This process must have no other thread: one that is not there in the new process might hold a lock.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub unsafe fn begin(work: impl FnOnce(&mut File)) -> std::io::Result<Self> {
        let mut paper = paper()?;
        // SAFETY: no other thread exists, as the caller promises, so the child may do whatever the parent may.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()),
            0 => {
                let done = std::panic::catch_unwind(AssertUnwindSafe(|| work(&mut paper)));
                drop(paper.flush());
                // SAFETY: ends this process and nothing else; what the parent has yet to write stays the parent's.
                unsafe { libc::_exit(i32::from(done.is_err())) }
            }
            process => Ok(Self { process, paper }),
        }
    }

    /// The process.
    pub fn id(&self) -> i32 {
        self.process
    }

    /// What it wrote, once it has ended.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(mut self) -> std::io::Result<String> {
        let mut text = Vec::new();
        self.paper.seek(SeekFrom::Start(0))?;
        self.paper.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Waits until any process ends that was begun here.
///
/// # Errors
/// When there is none.
pub fn wait() -> std::io::Result<i32> {
    loop {
        // SAFETY: waitpid(2) allows a null pointer for a status that nobody wants.
        let process = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        let error = std::io::Error::last_os_error();
        if process >= 0 {
            return Ok(process);
        }
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A file without a name that two processes share.
fn paper() -> std::io::Result<File> {
    // SAFETY: the name is a C string, and what comes back is a new descriptor of ours or -1.
    let descriptor = unsafe { libc::memfd_create(c"episode".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open and nobody else's.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}
