//! Which process is meant, however often its number is used again.
#![expect(unsafe_code, reason = "real-time signals have no safe form")]

use std::fs;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// A process id with the time the process began, so that a reused id is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks after boot; nothing else has the same pair until the next boot, and files below `state` end with it.
    start: u64,
}

impl Process {
    /// The living process `pid`.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        start_time(pid).map(|start| Self { pid, start })
    }

    /// Whether the process still exists and is more than a zombie.
    pub(crate) fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start)
    }

    /// Kills it if it still exists.
    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL as i32);
    }

    /// Sends it a signal, a real-time one perhaps, if it still exists.
    pub(crate) fn signal(&self, number: i32) {
        if self.is_alive() {
            // Already gone is as good. nix knows no real-time signals.
            // SAFETY: kill(2) touches no memory of ours.
            unsafe { nix::libc::kill(self.pid, number) };
        }
    }
}

fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; fields are counted after it. proc(5): state is 3, starttime is 22.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Process;

    #[test]
    fn a_process_is_known_by_its_start() {
        let me = Process::of(std::process::id().cast_signed()).expect("this process exists");
        assert!(me.is_alive());
        assert!(
            !Process {
                start: me.start + 1,
                ..me
            }
            .is_alive()
        );
        assert_eq!(Process::of(0), None);
    }
}
