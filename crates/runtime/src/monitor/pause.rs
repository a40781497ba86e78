//! `monitor pause`: the first process of a PID namespace that the containers of a pod share.

use std::io::{self, Write};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::daemon;
use super::plan::{CREATED, Created};
use crate::disk;
use crate::process::Process;

/// Makes the namespace, records its first process in `folder` and reaps there until killed.
///
/// As with a container, the caller's child ends at once and [`Created`] is printed.
pub(super) fn run(folder: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    daemon::detach_into_namespace(|pid| {
        let process = Process::of(pid).ok_or_else(|| io::Error::other("the pause process has ended"))?;
        disk::replace_json(&folder.join(CREATED), &process)?;
        let line = serde_json::to_string(&Created::Pid(pid))?;
        writeln!(io::stdout(), "{line}")
    })?;
    drop(daemon::leave_stdio(&folder.join("pause.log"))?);
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    loop {
        mask.wait()?;
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
    }
}
