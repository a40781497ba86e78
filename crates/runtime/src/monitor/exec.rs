//! `monitor exec`: owns one further process of a container for as long as the server holds our standard input open.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::Stdio;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::plan::{ExecEvent, ExecPlan};
use super::runtime_command::{command, failure};

/// Runs the process of the plan given as JSON, and prints [`ExecEvent`]s.
pub(super) fn run(plan: &str) -> io::Result<()> {
    let plan: ExecPlan = serde_json::from_str(plan)?;
    set_child_subreaper(true)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let runtime = spawn(&plan)?;
    Exec {
        plan,
        signals,
        runtime,
        process: None,
        ended: Vec::new(),
        held: true,
    }
    .run()
}

fn spawn(plan: &ExecPlan) -> io::Result<Pid> {
    let mut exec = command(&plan.runtime, &plan.folder.join("oci.log"));
    exec.args(["exec", "--detach", "--process"])
        .arg(plan.folder.join("process.json"));
    exec.arg("--pid-file").arg(plan.folder.join("pid"));
    match (&plan.console_socket, &plan.stdio) {
        (Some(socket), _) => {
            exec.arg("--console-socket").arg(socket);
            exec.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        (None, Some([stdin, stdout, stderr])) => {
            exec.stdin(File::open(stdin)?);
            exec.stdout(File::options().write(true).open(stdout)?)
                .stderr(File::options().write(true).open(stderr)?);
        }
        (None, None) => return Err(io::Error::other("the plan names neither streams nor a terminal")),
    }
    Ok(Pid::from_raw(exec.arg(&plan.id).spawn()?.id().cast_signed()))
}

struct Exec {
    plan: ExecPlan,
    signals: SignalFd,
    /// The running `oci exec`.
    runtime: Pid,
    process: Option<Pid>,
    /// Children that ended before we knew who they are.
    ended: Vec<(Pid, i32)>,
    /// The server still wants the process.
    held: bool,
}

impl Exec {
    fn run(mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                match status {
                    WaitStatus::Exited(pid, code) => self.ended.push((pid, code)),
                    WaitStatus::Signaled(pid, signal, _) => self.ended.push((pid, 128 + signal as i32)),
                    WaitStatus::StillAlive => break,
                    _ => {}
                }
            }
            if let (None, Some(code)) = (self.process, self.code_of(self.runtime)) {
                let pid = std::fs::read_to_string(self.plan.folder.join("pid"))
                    .ok()
                    .and_then(|text| text.trim().parse().ok());
                let (0, Some(pid)) = (code, pid) else {
                    return tell(&ExecEvent::Failed(failure(&self.plan.folder.join("oci.log"), "exec")));
                };
                self.process = Some(Pid::from_raw(pid));
                tell(&ExecEvent::Started)?;
            }
            if let Some(process) = self.process {
                if let Some(code) = self.code_of(process) {
                    return tell(&ExecEvent::Exited(code));
                }
                if !self.held {
                    // Gone meanwhile is what we want.
                    kill(process, Signal::SIGKILL).unwrap_or_default();
                }
            }
        }
    }

    fn code_of(&self, pid: Pid) -> Option<i32> {
        self.ended
            .iter()
            .find(|(ended, _)| *ended == pid)
            .map(|(_, code)| *code)
    }

    /// Until a child ends or the server lets go.
    fn wait(&mut self) -> io::Result<()> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if self.held {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Nothing is ever sent: any event is the end.
        self.held &= fds
            .get(1)
            .is_none_or(|fd| fd.revents().is_none_or(|events| events.is_empty()));
        while self.signals.read_signal()?.is_some() {}
        Ok(())
    }
}

fn tell(event: &ExecEvent) -> io::Result<()> {
    let line = serde_json::to_string(event)?;
    let mut stdout = io::stdout();
    // When the server has gone there is nobody left to tell.
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .or_else(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error),
        })
}
