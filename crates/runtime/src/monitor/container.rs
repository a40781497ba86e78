//! `monitor container`: owns one container from before its creation until its end is on disk.
//!
//! ```text
//! Creating --oci create done--> Created --Start, oci start done--> Running --init reaped--> Draining --> record, exit
//!     `--oci create failed--> report, exit          `--oci start failed--> init killed, recorded as StartError
//! ```
//! One loop over poll(2); every descriptor is non-blocking, so nobody can make it wait but the kernel.

mod streams;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use self::streams::Streams;
use super::client::Client;
use super::plan::{CREATED, Created, EXIT, Exit, MONITOR, PLAN, Plan, SOCKET, STARTED, Started, now};
use super::runtime_command::{command, failure, spawn};
use super::wire::Kind;
use super::{daemon, pty};
use crate::disk;
use crate::process::Process;

/// How long output that outlives the first process is waited for. Only processes of a foreign PID namespace can hold it.
const DRAIN: Duration = Duration::from_secs(2);

/// How long clients may take to read the last frames.
const FAREWELL: Duration = Duration::from_secs(1);

const OCI_LOG: &str = "oci.log";
const ERRORS: &str = "monitor.log";

/// Owns the container whose plan is in `folder`.
///
/// Returns in a process that is a child of init; the caller's child ends as soon as that exists, while the outcome of
/// the creation is printed as [`Created`] on what was standard output.
pub(super) fn run(folder: &Path) -> io::Result<()> {
    // Paths below are relative: a socket's path may not be longer than 107 bytes.
    std::env::set_current_dir(folder)?;
    let plan: Plan = disk::read_json(Path::new(PLAN))?.ok_or_else(|| io::Error::other("the folder has no plan"))?;
    daemon::detach()?;
    let ready = daemon::leave_stdio(Path::new(ERRORS))?;
    let outcome = Monitor::new(plan, ready).and_then(Monitor::run);
    if let Err(error) = &outcome {
        eprintln!("monitor: {error}");
    }
    outcome
}

/// What a descriptor in the loop stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Socket,
    Console,
    Stdout,
    Stderr,
    Stdin,
    Client(u64),
}

struct Monitor {
    plan: Plan,
    signals: SignalFd,
    socket: UnixListener,
    console: Option<UnixListener>,
    streams: Streams,
    clients: BTreeMap<u64, Client>,
    clients_seen: u64,
    /// Where the outcome of the creation is told, until it is.
    ready: Option<File>,
    /// The running `oci create`.
    creating: Option<Pid>,
    /// The running `oci start` and who asked for it.
    starting: Option<(Pid, u64)>,
    init: Option<Pid>,
    /// Children that ended before we knew who they are.
    strangers: Vec<(Pid, i32)>,
    exit: Option<Exit>,
    /// Once the container has ended: until when its output is waited for.
    drain_until: Option<Instant>,
    over: bool,
}

impl Monitor {
    fn new(plan: Plan, ready: File) -> io::Result<Self> {
        let me =
            Process::of(std::process::id().cast_signed()).ok_or_else(|| io::Error::other("/proc is not mounted"))?;
        disk::replace_json(Path::new(MONITOR), &me)?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        // Only a SIGKILL may part us from the container.
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        disk::remove_file(Path::new(SOCKET))?;
        let socket = UnixListener::bind(SOCKET)?;
        socket.set_nonblocking(true)?;
        let console = plan.console_socket.as_deref().map(listen).transpose()?;
        let streams = Streams::new(&plan)?;
        Ok(Self {
            plan,
            signals,
            socket,
            console,
            streams,
            clients: BTreeMap::new(),
            clients_seen: 0,
            ready: Some(ready),
            creating: None,
            starting: None,
            init: None,
            strangers: Vec::new(),
            exit: None,
            drain_until: None,
            over: false,
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.create()?;
        while !self.over {
            let timeout = self.drain_until.map_or(PollTimeout::NONE, remaining);
            for (source, events) in self.wait(timeout)? {
                self.handle(source, events)?;
            }
            self.forget_clients();
            let drained = self.streams.are_closed() || self.drain_until.is_some_and(|until| Instant::now() >= until);
            // The outcome of a start that is under way belongs on disk before the end does.
            if self.exit.is_some() && self.starting.is_none() && drained {
                self.finish()?;
            }
        }
        Ok(())
    }

    fn create(&mut self) -> io::Result<()> {
        let mut create = command(&self.plan.runtime, Path::new(OCI_LOG));
        create
            .arg("create")
            .arg("--bundle")
            .arg(&self.plan.bundle)
            .args(["--pid-file", "init.pid"]);
        if let Some(console) = &self.plan.console_socket {
            create.arg("--console-socket").arg(console);
        }
        self.streams.give(&mut create)?;
        let child = create.arg(&self.plan.id).spawn()?;
        self.creating = Some(pid_of(child.id()));
        Ok(())
    }

    fn wait(&mut self, timeout: PollTimeout) -> io::Result<Vec<(Source, PollFlags)>> {
        let stdin_is_full = self.streams.stdin_is_full();
        let mut sources = vec![(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN)];
        sources.push((Source::Socket, self.socket.as_fd(), PollFlags::POLLIN));
        if let Some(console) = &self.console {
            sources.push((Source::Console, console.as_fd(), PollFlags::POLLIN));
        }
        sources.extend(self.streams.sources());
        sources.extend(
            self.clients
                .iter()
                .map(|(&id, client)| (Source::Client(id), client.fd(), client.interest(stdin_is_full))),
        );
        let mut fds: Vec<PollFd<'_>> = sources
            .iter()
            .map(|&(_, fd, interest)| PollFd::new(fd, interest))
            .collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        Ok(sources
            .iter()
            .map(|source| source.0)
            .zip(events)
            .filter(|(_, events)| !events.is_empty())
            .collect())
    }

    fn handle(&mut self, source: Source, events: PollFlags) -> io::Result<()> {
        match source {
            Source::Signals => {
                while self.signals.read_signal()?.is_some() {}
                self.reap()?;
            }
            Source::Socket => {
                if let Ok((stream, _)) = self.socket.accept() {
                    self.clients_seen += 1;
                    self.clients.insert(self.clients_seen, Client::new(stream)?);
                }
            }
            Source::Console => self.take_terminal()?,
            Source::Stdout | Source::Stderr => {
                if let Some((kind, bytes)) = self.streams.read(source) {
                    self.clients
                        .values_mut()
                        .filter(|client| client.attached)
                        .for_each(|client| client.send(kind, &bytes));
                }
            }
            Source::Stdin => self.streams.flush_stdin(),
            Source::Client(id) => self.hear(id, events),
        }
        Ok(())
    }

    fn take_terminal(&mut self) -> io::Result<()> {
        let Some(console) = &self.console else { return Ok(()) };
        let Ok((connection, _)) = console.accept() else {
            return Ok(());
        };
        connection.set_nonblocking(false)?;
        // A failing OCI runtime closes the connection without sending anything, and reports the reason itself.
        if let Ok(master) = pty::receive_master(&connection) {
            self.streams.set_terminal(master)?;
            self.console = None;
        }
        Ok(())
    }

    fn hear(&mut self, id: u64, events: PollFlags) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if events.contains(PollFlags::POLLOUT) {
            client.flush();
        }
        let frames = if events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            client.receive()
        } else {
            Vec::new()
        };
        for (kind, payload) in frames {
            self.obey(id, kind, &payload);
        }
    }

    fn obey(&mut self, id: u64, kind: Kind, payload: &[u8]) {
        match kind {
            Kind::Stdin if payload.is_empty() => self.streams.close_stdin(),
            Kind::Stdin => self.streams.write_stdin(payload),
            Kind::Resize => {
                if let [w0, w1, h0, h1] = *payload {
                    self.streams
                        .resize(u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
                }
            }
            Kind::Reopen => {
                let done = self.streams.reopen_log().map_err(|error| error.to_string());
                self.answer(id, done);
            }
            Kind::Start => self.start(id),
            Kind::Attach => {
                self.answer(id, Ok(()));
                if let Some(client) = self.clients.get_mut(&id) {
                    client.attached = true;
                }
            }
            Kind::Watch => {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.watching = true;
                }
            }
            // Only we send the others.
            _ => self.answer(id, Err("not a request".to_owned())),
        }
    }

    fn answer(&mut self, id: u64, done: Result<(), String>) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match done {
            Ok(()) => client.send(Kind::Done, &[]),
            Err(reason) => client.send(Kind::Failed, reason.as_bytes()),
        }
    }

    fn start(&mut self, id: u64) {
        if self.starting.is_some() || Path::new(STARTED).exists() {
            return self.answer(id, Err("the container has been started already".to_owned()));
        }
        if self.init.is_none() || self.exit.is_some() {
            return self.answer(id, Err("the container is not waiting to be started".to_owned()));
        }
        let mut start = command(&self.plan.runtime, Path::new(OCI_LOG));
        start.arg("start").arg(&self.plan.id);
        match spawn(start) {
            Ok(child) => self.starting = Some((pid_of(child.id()), id)),
            Err(error) => self.answer(id, Err(format!("cannot run the OCI runtime: {error}"))),
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            let (pid, code) = match status {
                WaitStatus::Exited(pid, code) => (pid, code),
                WaitStatus::Signaled(pid, signal, _) => (pid, 128 + signal as i32),
                WaitStatus::StillAlive => break,
                _ => continue,
            };
            if self.creating == Some(pid) {
                self.creating = None;
                self.created(code)?;
            } else if let Some((start, id)) = self.starting
                && start == pid
            {
                self.starting = None;
                self.started(id, code)?;
            } else if self.init == Some(pid) {
                self.ended(code);
            } else if self.init.is_none() {
                self.strangers.push((pid, code));
            }
        }
        Ok(())
    }

    fn created(&mut self, code: i32) -> io::Result<()> {
        self.streams.given();
        self.console = None;
        if let Some(socket) = &self.plan.console_socket {
            disk::remove_file(socket)?;
        }
        let pid = std::fs::read_to_string("init.pid")
            .ok()
            .and_then(|text| text.trim().parse::<i32>().ok());
        let (0, Some(pid)) = (code, pid) else {
            self.tell(&Created::Failed(failure(Path::new(OCI_LOG), "create")));
            self.over = true;
            return Ok(());
        };
        self.init = Some(Pid::from_raw(pid));
        if let Some(process) = Process::of(pid) {
            disk::replace_json(Path::new(CREATED), &process)?;
        }
        self.tell(&Created::Pid(pid));
        let code = self
            .strangers
            .drain(..)
            .find(|(stranger, _)| stranger.as_raw() == pid)
            .map(|(_, code)| code);
        if let Some(code) = code {
            self.ended(code);
        }
        Ok(())
    }

    fn tell(&mut self, created: &Created) {
        if let Some(mut ready) = self.ready.take() {
            let line = serde_json::to_string(created).expect("the outcome is plain data");
            // The server may be gone; it will find us by our folder.
            writeln!(ready, "{line}").unwrap_or_default();
        }
    }

    fn started(&mut self, id: u64, code: i32) -> io::Result<()> {
        if code == 0 {
            // A short-lived process may have ended before the OCI runtime said that it runs.
            let at = self.exit.as_ref().map_or_else(now, |exit| exit.at);
            disk::replace_json(Path::new(STARTED), &Started { at })?;
            self.answer(id, Ok(()));
            return Ok(());
        }
        let reason = failure(Path::new(OCI_LOG), "start");
        if let Some(init) = self.init {
            // It may have ended by itself.
            nix::sys::signal::kill(init, Signal::SIGKILL).unwrap_or_default();
        }
        let exit = Exit {
            code: 128,
            oom: false,
            at: now(),
            reason: Some("StartError".to_owned()),
            message: reason.clone(),
        };
        self.exit = Some(exit);
        self.drain_until = Some(Instant::now() + DRAIN);
        self.answer(id, Err(reason));
        Ok(())
    }

    fn ended(&mut self, code: i32) {
        if self.exit.is_some() {
            return;
        }
        let oom = code != 0 && self.plan.oom_files.iter().any(|file| killed_for_memory(file));
        self.exit = Some(Exit {
            code,
            oom,
            at: now(),
            reason: None,
            message: String::new(),
        });
        self.drain_until = Some(Instant::now() + DRAIN);
    }

    fn forget_clients(&mut self) {
        let before = self.clients.values().filter(|client| client.attached).count();
        self.clients.retain(|_, client| !client.gone);
        let after = self.clients.values().filter(|client| client.attached).count();
        if self.plan.stdin_once && after < before && after == 0 {
            self.streams.close_stdin();
        }
    }

    /// Writes the exit record, then tells who waits for it, then makes it durable.
    fn finish(&mut self) -> io::Result<()> {
        let Some(exit) = self.exit.take() else { return Ok(()) };
        self.streams.finish_log();
        disk::replace_json(Path::new(EXIT), &exit)?;
        for client in self
            .clients
            .values_mut()
            .filter(|client| client.attached || client.watching)
        {
            client.send(Kind::Exited, &[]);
        }
        let until = Instant::now() + FAREWELL;
        while Instant::now() < until && self.clients.values().any(|client| !client.is_flushed()) {
            for (source, events) in self.wait(remaining(until))? {
                if let Source::Client(id) = source {
                    self.hear(id, events);
                }
            }
            self.forget_clients();
        }
        self.over = true;
        // Nobody waits for the disk any more, but a power cut should not turn a success into a failure. The server may
        // have removed the container meanwhile.
        disk::sync(Path::new(EXIT)).or_else(gone_is_fine)?;
        disk::remove_file(Path::new(SOCKET))
    }
}

fn gone_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    disk::remove_file(path)?;
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn remaining(until: Instant) -> PollTimeout {
    let left = until.saturating_duration_since(Instant::now());
    // One more, or the last fraction of a millisecond would be a busy loop.
    PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed())
}

/// cgroup v1's memory.oom_control and v2's memory.events have the same line.
fn killed_for_memory(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .any(|count| count.trim() != "0")
}

/// A descriptor set non-blocking.
fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(fd)
}
