//! A connection from the server to a monitor.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::poll::PollFlags;

use super::wire::{self, Kind};

/// Who reads its connection slower than this is disconnected: the container must not wait for it.
const PENDING_SIZE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes read from a client at once.
const READ_SIZE_BYTES: usize = 8 * 1024;

/// One connection and what is on its way over it.
pub(super) struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    pending: Vec<u8>,
    /// It wants the container's output.
    pub(super) attached: bool,
    /// It wants to be told of the container's end.
    pub(super) watching: bool,
    /// It cannot be talked to any more.
    pub(super) gone: bool,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            pending: Vec::new(),
            attached: false,
            watching: false,
            gone: false,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// What to wait for; nothing is read while the container's standard input is full.
    pub(super) fn interest(&self, stdin_is_full: bool) -> PollFlags {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::POLLIN, !(stdin_is_full && self.attached));
        interest.set(PollFlags::POLLOUT, !self.pending.is_empty());
        interest
    }

    /// Queues a frame and sends as much as can be sent.
    pub(super) fn send(&mut self, kind: Kind, payload: &[u8]) {
        self.pending.extend(wire::encode(kind, payload));
        self.flush();
        self.gone |= self.pending.len() > PENDING_SIZE_BYTES_MAX;
    }

    /// Whether everything queued has been sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.gone || self.pending.is_empty()
    }

    /// Sends what is queued, as far as the connection takes it.
    pub(super) fn flush(&mut self) {
        while !self.pending.is_empty() && !self.gone {
            match self.stream.write(&self.pending) {
                Ok(0) => self.gone = true,
                Ok(sent) => drop(self.pending.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
    }

    /// Reads what has come and returns the whole frames in it.
    pub(super) fn receive(&mut self) -> Vec<(Kind, Vec<u8>)> {
        let mut bytes = [0; READ_SIZE_BYTES];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.gone = true,
            Ok(size) => self.received.extend_from_slice(&bytes[..size]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.gone = true,
        }
        let mut frames = Vec::new();
        loop {
            match wire::decode(&self.received) {
                Ok(Some((kind, payload, used))) => {
                    frames.push((kind, payload.to_vec()));
                    self.received.drain(..used);
                }
                Ok(None) => return frames,
                Err(_) => {
                    self.gone = true;
                    return frames;
                }
            }
        }
    }
}
