//! A connection and its streams: one task reads, one writes, and the streams' handles talk to both.

use super::frame::{DATA_PIECE_BYTES, Frame, FrameReader, FrameWriter, reset};
use super::state::{Delivery, Shared};
use super::{Error, Headers, Role};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Data frames of all streams that may wait to be written.
const WAITING_FRAMES_MAX: usize = 8;

/// Streams that may wait to be accepted; more are refused.
const WAITING_STREAMS_MAX: usize = 64;

/// How long the other side may take to answer the opening of a stream.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);

/// Buffers of the socket.
const BUFFER_BYTES: usize = 16 * 1024;

/// A handle of a connection. The connection ends when the last handle and the last stream are dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    frames: mpsc::Sender<Frame>,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
}

/// The streams that the other side opens.
#[derive(Debug)]
pub struct Incoming {
    connection: Connection,
    streams: mpsc::Receiver<(u32, Headers, mpsc::Receiver<Bytes>)>,
}

impl Connection {
    /// Begins to speak SPDY.
    pub fn start<T>(connection: T, role: Role) -> (Self, Incoming)
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (from, to) = tokio::io::split(connection);
        let shared = Arc::new(Shared::new(role));
        let (frames, frames_to_write) = mpsc::channel(WAITING_FRAMES_MAX);
        let (streams, accepted) = mpsc::channel(WAITING_STREAMS_MAX);
        let reader = read(
            shared.clone(),
            FrameReader::new(BufReader::with_capacity(BUFFER_BYTES, from)),
            streams,
        );
        let writer = FrameWriter::new(BufWriter::with_capacity(BUFFER_BYTES, to));
        let writer = write(shared.clone(), writer, frames_to_write);
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(reader)),
            AbortOnDropHandle::new(tokio::spawn(writer)),
        ];
        let connection = Self {
            shared,
            frames,
            _tasks: Arc::new(tasks),
        };
        (
            connection.clone(),
            Incoming {
                connection,
                streams: accepted,
            },
        )
    }

    /// Opens a stream and waits until the other side agrees.
    ///
    /// # Errors
    /// [`Error::Reset`] if it does not, [`Error::Closed`] if the connection has ended.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Error> {
        let (id, received, is_open) = self.shared.open(headers.clone())?;
        let stream = self.stream(id, headers, received);
        match tokio::time::timeout(OPEN_PATIENCE, is_open).await {
            Ok(Ok(())) => Ok(stream),
            _ if self.shared.closed.is_cancelled() => Err(Error::Closed),
            _ => Err(Error::Reset),
        }
    }

    /// Says that no more streams are wanted; those that exist go on.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection has ended.
    pub async fn go_away(&self) -> Result<(), Error> {
        let last_stream = self.shared.last_peer_stream();
        self.frames
            .send(Frame::GoAway { last_stream })
            .await
            .map_err(|_| Error::Closed)
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    fn stream(&self, id: u32, headers: Headers, received: mpsc::Receiver<Bytes>) -> Stream {
        let reader = Reader {
            id,
            received,
            connection: self.clone(),
        };
        let writer = Writer {
            id,
            connection: self.clone(),
            is_finished: false,
        };
        Stream {
            headers,
            reader,
            writer,
        }
    }
}

impl Incoming {
    /// The next stream, which is accepted by this; drop it to reset it. `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Stream> {
        let (id, headers, received) = self.streams.recv().await?;
        let stream = self.connection.stream(id, headers, received);
        self.connection.shared.reply(id).ok()?;
        Some(stream)
    }
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    /// What was said at its opening; names are in lower case.
    pub headers: Headers,
    /// Its bytes that come.
    pub reader: Reader,
    /// Its bytes that go.
    pub writer: Writer,
}

impl Stream {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The bytes that come on a stream. After dropping it, more of them are thrown away.
#[derive(Debug)]
pub struct Reader {
    id: u32,
    received: mpsc::Receiver<Bytes>,
    connection: Connection,
}

impl Reader {
    /// The next bytes; `None` at the end of the stream, after a reset, and when the connection has ended. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Bytes> {
        let bytes = self.received.recv().await?;
        self.connection.shared.taken(self.id, bytes.len());
        Some(bytes)
    }
}

/// The bytes that go on a stream. Dropping it before [`Writer::finish`] resets the stream.
#[derive(Debug)]
pub struct Writer {
    id: u32,
    connection: Connection,
    is_finished: bool,
}

impl Writer {
    /// Sends bytes; waits for the other side's window and for the connection.
    ///
    /// # Errors
    /// [`Error::Reset`] or [`Error::Closed`] if they can no longer be sent.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let wanted = u32::try_from(bytes.len().min(DATA_PIECE_BYTES)).expect("a piece is short");
            self.wait_for_window(wanted).await?;
            let place = self.connection.frames.reserve().await.map_err(|_| Error::Closed)?;
            // Other streams share the connection's window, so it may have shrunk again.
            let length = self
                .connection
                .shared
                .spend(self.id, wanted)
                .ok_or_else(|| self.why_ended())?;
            if length > 0 {
                let piece = bytes.split_to(length as usize);
                place.send(Frame::Data {
                    stream: self.id,
                    fin: false,
                    bytes: piece,
                });
            }
        }
        Ok(())
    }

    /// Says that nothing more comes. What was sent before still arrives.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection has ended.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.is_finished = true;
        if self.connection.shared.finish(self.id) {
            let fin = Frame::Data {
                stream: self.id,
                fin: true,
                bytes: Bytes::new(),
            };
            self.connection.frames.send(fin).await.map_err(|_| Error::Closed)?;
        }
        Ok(())
    }

    /// Waits until the stream can take nothing more: it was reset, or the connection has ended.
    pub async fn closed(&self) {
        loop {
            let mut changed = std::pin::pin!(self.connection.shared.windows_changed.notified());
            changed.as_mut().enable();
            if self.connection.shared.window(self.id, 1).is_none() {
                return;
            }
            changed.await;
        }
    }

    async fn wait_for_window(&self, wanted: u32) -> Result<(), Error> {
        loop {
            let mut changed = std::pin::pin!(self.connection.shared.windows_changed.notified());
            changed.as_mut().enable();
            match self.connection.shared.window(self.id, wanted) {
                None => return Err(self.why_ended()),
                Some(0) => changed.await,
                Some(_) => return Ok(()),
            }
        }
    }

    fn why_ended(&self) -> Error {
        if self.connection.shared.closed.is_cancelled() {
            Error::Closed
        } else {
            Error::Reset
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A flooded connection is about to end anyway.
        if !self.is_finished && self.connection.shared.reset(self.id, reset::CANCEL).is_err() {
            self.connection.shared.close();
        }
    }
}

async fn read<R: AsyncRead + Unpin>(
    shared: Arc<Shared>,
    mut from: FrameReader<R>,
    streams: mpsc::Sender<(u32, Headers, mpsc::Receiver<Bytes>)>,
) {
    let reading = async {
        while let Some(frame) = from.next().await? {
            match shared.receive(frame)? {
                Delivery::Nothing => {}
                Delivery::Data(to, stream, bytes) => {
                    let length = bytes.len();
                    if to.send(bytes).await.is_err() {
                        shared.taken(stream, length);
                    }
                }
                Delivery::Opened(stream, headers, received) => {
                    if streams.try_send((stream, headers, received)).is_err() {
                        shared.reset(stream, reset::REFUSED_STREAM)?;
                    }
                }
            }
        }
        Ok::<(), Error>(())
    };
    tokio::select! {
        ended = reading => if let Err(error) = ended {
            tracing::debug!(%error, "spdy connection ended");
        },
        () = shared.closed.cancelled() => {}
    }
    shared.close();
}

async fn write<W: AsyncWrite + Unpin>(shared: Arc<Shared>, mut to: FrameWriter<W>, mut frames: mpsc::Receiver<Frame>) {
    let writing = async {
        loop {
            for frame in shared.take_control() {
                to.write(&frame).await?;
            }
            if frames.is_empty() {
                to.flush().await?;
            }
            let frame = tokio::select! {
                biased;
                () = shared.control_waits.notified() => continue,
                frame = frames.recv() => frame,
            };
            let Some(frame) = frame else { return to.shutdown().await };
            // A reply goes before the first data of its stream.
            for frame in shared.take_control() {
                to.write(&frame).await?;
            }
            to.write(&frame).await?;
        }
    };
    tokio::select! {
        ended = writing => if let Err(error) = ended {
            tracing::debug!(%error, "spdy connection cannot be written");
        },
        () = shared.closed.cancelled() => {}
    }
    shared.close();
}
