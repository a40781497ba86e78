//! Leaving the server's process tree.
#![expect(unsafe_code, reason = "fork has no safe form")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::prctl::set_child_subreaper;
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// Becomes a child of init in a session of its own that adopts the orphans below it.
///
/// The original process ends here with exit code 0, so whoever started it can wait for it at once.
pub(super) fn detach() -> io::Result<()> {
    fork_and_leave()?;
    setsid()?;
    // A session leader could acquire a terminal; its child cannot.
    fork_and_leave()?;
    set_child_subreaper(true)?;
    Ok(())
}

/// Becomes the first process of the PID namespace made by the last `unshare`, in a session of its own.
///
/// The original process calls `parent` with its id and ends here; if that fails, both end.
pub(super) fn detach_into_namespace(parent: impl FnOnce(i32) -> io::Result<()>) -> io::Result<()> {
    // SAFETY: monitors run before any thread is made, so the child may run any code.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            let done = parent(child.as_raw());
            if let Err(error) = &done {
                eprintln!("monitor: {error}");
                nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL)?;
            }
            std::process::exit(i32::from(done.is_err()))
        }
        ForkResult::Child => {
            setsid()?;
            Ok(())
        }
    }
}

fn fork_and_leave() -> io::Result<()> {
    // SAFETY: monitors run before any thread is made, so the child may run any code.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => std::process::exit(0),
        ForkResult::Child => Ok(()),
    }
}

/// Gives up the standard streams of whoever started us; returns what was standard output.
pub(super) fn leave_stdio(errors: &Path) -> io::Result<File> {
    let ready: OwnedFd = io::stdout().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&File::options().append(true).create(true).open(errors)?)?;
    Ok(File::from(ready))
}
