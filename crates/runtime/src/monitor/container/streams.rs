//! The standard streams of a container: pipes or a terminal on one side, the log and clients on the other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use nix::unistd::pipe2;

use super::{Plan, Source, nonblocking};
use crate::monitor::log::{Log, Stream};
use crate::monitor::pty;
use crate::monitor::wire::Kind;

/// Input that the container does not read is kept up to here; then those who send it have to wait.
const STDIN_SIZE_BYTES_MAX: usize = 64 * 1024;

/// Output is read in pieces of this size.
const READ_SIZE_BYTES: usize = 16 * 1024;

pub(super) struct Streams {
    log: Log,
    terminal: bool,
    /// Our ends. For a terminal, standard output is its master end.
    stdout: Option<File>,
    stderr: Option<File>,
    stdin: Option<File>,
    /// Input on its way.
    input: Vec<u8>,
    /// Close standard input once that is written.
    closing: bool,
    /// The container holds its ends. Before that, a terminal seems hung up.
    given: bool,
    /// The container's ends, until it has them.
    theirs: Option<[Option<OwnedFd>; 3]>,
}

impl Streams {
    pub(super) fn new(plan: &Plan) -> io::Result<Self> {
        let mut streams = Self {
            log: Log::open(plan.log.clone())?,
            terminal: plan.console_socket.is_some(),
            stdout: None,
            stderr: None,
            stdin: None,
            input: Vec::new(),
            closing: false,
            given: false,
            theirs: None,
        };
        if !streams.terminal {
            let (out, theirs_out) = pipe2(OFlag::O_CLOEXEC)?;
            let (err, theirs_err) = pipe2(OFlag::O_CLOEXEC)?;
            streams.stdout = Some(File::from(nonblocking(out)?));
            streams.stderr = Some(File::from(nonblocking(err)?));
            let mut theirs_in = None;
            if plan.stdin {
                let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
                streams.stdin = Some(File::from(nonblocking(write)?));
                theirs_in = Some(read);
            }
            streams.theirs = Some([theirs_in, Some(theirs_out), Some(theirs_err)]);
        }
        Ok(streams)
    }

    /// Makes the container's ends the standard streams of `command`.
    pub(super) fn give(&mut self, command: &mut Command) -> io::Result<()> {
        let stdio = |end: Option<OwnedFd>| end.map_or_else(Stdio::null, Stdio::from);
        let [stdin, stdout, stderr] = self.theirs.take().unwrap_or_default();
        if self.terminal {
            // The container gets the terminal; the OCI runtime itself has nothing to say outside its log.
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        } else {
            command.stdin(stdio(stdin)).stdout(stdio(stdout)).stderr(stdio(stderr));
        }
        Ok(())
    }

    /// The container has its ends.
    pub(super) fn given(&mut self) {
        self.theirs = None;
        self.given = true;
    }

    pub(super) fn set_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        let master = nonblocking(master)?;
        self.stdin = Some(File::from(master.try_clone()?));
        self.stdout = Some(File::from(master));
        Ok(())
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>, PollFlags)> {
        let stdout = self.stdout.as_ref().filter(|_| self.given || !self.terminal);
        let stdout = stdout.map(|file| (Source::Stdout, file.as_fd(), PollFlags::POLLIN));
        let stderr = self
            .stderr
            .as_ref()
            .map(|file| (Source::Stderr, file.as_fd(), PollFlags::POLLIN));
        let stdin = self.stdin.as_ref().filter(|_| !self.input.is_empty());
        let stdin = stdin.map(|file| (Source::Stdin, file.as_fd(), PollFlags::POLLOUT));
        [stdout, stderr, stdin].into_iter().flatten()
    }

    /// Reads output and logs it; returns it for those attached.
    pub(super) fn read(&mut self, source: Source) -> Option<(Kind, Vec<u8>)> {
        let (file, stream, kind) = match source {
            Source::Stderr => (&mut self.stderr, Stream::Err, Kind::Stderr),
            _ => (&mut self.stdout, Stream::Out, Kind::Stdout),
        };
        let mut bytes = vec![0; READ_SIZE_BYTES];
        match file.as_mut()?.read(&mut bytes) {
            Ok(size) if size > 0 => {
                bytes.truncate(size);
                self.log.add(stream, &bytes, time);
                Some((kind, bytes))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            // A terminal whose other end is closed answers EIO, a pipe nothing.
            _ => {
                *file = None;
                None
            }
        }
    }

    pub(super) fn are_closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    pub(super) fn stdin_is_full(&self) -> bool {
        self.input.len() >= STDIN_SIZE_BYTES_MAX
    }

    pub(super) fn write_stdin(&mut self, bytes: &[u8]) {
        if self.stdin.is_some() && !self.closing {
            self.input.extend_from_slice(bytes);
            self.flush_stdin();
        }
    }

    /// Closes standard input when what came before is written. A terminal stays open: others may attach to it.
    pub(super) fn close_stdin(&mut self) {
        if !self.terminal {
            self.closing = true;
            self.flush_stdin();
        }
    }

    pub(super) fn flush_stdin(&mut self) {
        while let (Some(file), false) = (self.stdin.as_mut(), self.input.is_empty()) {
            match file.write(&self.input) {
                Ok(size) => drop(self.input.drain(..size)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Nobody reads it any more.
                Err(_) => {
                    self.input.clear();
                    self.stdin = None;
                }
            }
        }
        if self.closing {
            self.stdin = None;
        }
    }

    pub(super) fn resize(&self, width: u16, height: u16) {
        if let (true, Some(master)) = (self.terminal, &self.stdout)
            && let Err(error) = pty::resize(master, width, height)
        {
            eprintln!("monitor: cannot resize the terminal: {error}");
        }
    }

    pub(super) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.reopen()
    }

    pub(super) fn finish_log(&mut self) {
        self.log.finish(Stream::Out, time);
        self.log.finish(Stream::Err, time);
    }
}

fn time() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}
