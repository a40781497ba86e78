//! The server's side of the conversation with a container's monitor.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::monitor::plan::SOCKET;
use crate::monitor::wire::{self, HEADER_SIZE_BYTES, Kind};

/// A connection to a monitor.
pub(crate) struct Connection {
    pub(crate) frames: Frames,
    pub(crate) requests: Requests,
}

/// What the monitor sends.
pub(crate) struct Frames(OwnedReadHalf);

/// What the monitor is told.
pub(crate) struct Requests(OwnedWriteHalf);

impl Connection {
    /// Connects to the monitor of the container in `folder`.
    pub(crate) async fn open(folder: &Path) -> io::Result<Self> {
        // A socket's path has 107 bytes at most, which the way through the folder's descriptor always fits into.
        let folder = File::open(folder)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        let (read, write) = UnixStream::connect(path).await?.into_split();
        Ok(Self {
            frames: Frames(read),
            requests: Requests(write),
        })
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn request(&mut self, kind: Kind, payload: &[u8]) -> Result<(), String> {
        let lost = |error: io::Error| format!("the container's monitor does not answer: {error}");
        self.requests.send(kind, payload).await.map_err(lost)?;
        loop {
            match self.frames.next().await.map_err(lost)? {
                Some((Kind::Done, _)) => return Ok(()),
                Some((Kind::Failed, reason)) => return Err(String::from_utf8_lossy(&reason).into_owned()),
                Some(_) => {}
                None => return Err("the container's monitor has ended".to_owned()),
            }
        }
    }
}

impl Requests {
    pub(crate) async fn send(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        self.0.write_all(&wire::encode(kind, payload)).await
    }
}

impl Frames {
    /// The next frame; nothing when the monitor has ended.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(Kind, Vec<u8>)>> {
        let mut header = [0; HEADER_SIZE_BYTES];
        match self.0.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let (kind, length) =
            wire::header(header).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, wire::NotAFrame))?;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await?;
        Ok(Some((kind, payload)))
    }
}
