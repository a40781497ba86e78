//! What a command's streams look like on either end, whatever the wire is.
//!
//! A session is a set of bounded channels; a task of the wire moves bytes between them and the connection. A full
//! channel makes the sender wait, through the connection to the other end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Pieces of one stream that may wait between a session and its wire. A piece is at most some tens of KiB.
const WAITING_PIECES_MAX: usize = 8;

/// Resizes that may wait; each replaces the one before, so few are enough.
const WAITING_RESIZES_MAX: usize = 8;

/// How much is read from a program at once.
const READ_BYTES: usize = 32 * 1024;

/// Which streams a command has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// The client sends standard input.
    pub stdin: bool,
    /// The client wants standard output.
    pub stdout: bool,
    /// The client wants standard error; not with a terminal, which mixes the two.
    pub stderr: bool,
    /// The command has a terminal, so it can be resized.
    pub tty: bool,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// The other end no longer takes this stream.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the stream is closed by the other end")]
pub struct Closed;

/// Why a session ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection broke, or the other end closed it, before the result was known.
    #[error("connection lost before the command ended")]
    ConnectionLost,
    /// The HTTP connection could not be taken over.
    #[error("upgrade failed")]
    Upgrade(#[source] hyper::Error),
    /// The other end broke the protocol.
    #[error("protocol violated: {0}")]
    Protocol(String),
}

/// Bytes that come from the other end.
#[derive(Debug)]
pub struct Input(mpsc::Receiver<Bytes>);

impl Input {
    /// The next bytes; `None` at the end of the stream, and when the connection is lost.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }

    /// Writes the whole stream to `writer`, flushing each piece.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn copy_to(&mut self, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
        while let Some(bytes) = self.recv().await {
            writer.write_all(&bytes).await?;
            writer.flush().await?;
        }
        Ok(())
    }
}

/// Bytes that go to the other end. Dropping it ends the stream; what was sent still arrives.
#[derive(Debug)]
pub struct Output(mpsc::Sender<Bytes>);

impl Output {
    /// Sends bytes; waits while the other end is slow.
    ///
    /// # Errors
    /// [`Closed`] if the other end is gone.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Closed> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.send(bytes).await.map_err(|_| Closed)
    }

    /// Sends all that `reader` gives.
    ///
    /// # Errors
    /// Those of the reader, and `BrokenPipe` if the other end is gone.
    pub async fn copy_from(&self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut buffer = bytes::BytesMut::new();
        loop {
            buffer.reserve(READ_BYTES);
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            let sent = self.send(buffer.split().freeze()).await;
            sent.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?;
        }
    }

    /// Waits until the other end does not take this stream any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The serving end of a command: it gets input and gives output and a result.
///
/// Take the streams out of it (`session.stdin.take()`), serve them, then call [`ServerSession::finish`].
/// Dropping it without that breaks the connection.
#[derive(Debug)]
pub struct ServerSession {
    /// Standard input, if the command has one.
    pub stdin: Option<Input>,
    /// Standard output, if the client wants it.
    pub stdout: Option<Output>,
    /// Standard error, if the client wants it.
    pub stderr: Option<Output>,
    /// New sizes of the terminal, if there is one.
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
    finish: oneshot::Sender<Value>,
    gone: CancellationToken,
    wire: AbortOnDropHandle<()>,
}

impl ServerSession {
    /// Fires when the client is gone: nobody reads the output any more.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Sends what is left of the output, then the result (a `Status` object, see [`crate::status`]), and closes.
    ///
    /// Output sent after this call is lost. Never fails: a client that is gone does not want the result.
    pub async fn finish(self, status: Value) {
        let Self {
            stdin,
            stdout,
            stderr,
            resize,
            finish,
            gone: _,
            wire,
        } = self;
        drop((stdin, stdout, stderr, resize));
        // The wire may have ended with the client.
        drop(finish.send(status));
        drop(wire.await);
    }
}

/// The wire's ends of a [`ServerSession`].
pub(crate) struct ServerEnds {
    pub(crate) stdin: Option<mpsc::Sender<Bytes>>,
    pub(crate) stdout: Option<mpsc::Receiver<Bytes>>,
    pub(crate) stderr: Option<mpsc::Receiver<Bytes>>,
    pub(crate) resize: Option<mpsc::Sender<TerminalSize>>,
    pub(crate) finish: oneshot::Receiver<Value>,
    pub(crate) gone: CancellationToken,
}

/// Makes a session whose wire is the task that `start` gives.
pub(crate) fn server_session<F>(streams: StreamOptions, start: impl FnOnce(ServerEnds) -> F) -> ServerSession
where
    F: Future<Output = ()> + Send + 'static,
{
    let (stdin_from_wire, stdin) = channel(streams.stdin);
    let (stdout, stdout_to_wire) = channel(streams.stdout);
    let (stderr, stderr_to_wire) = channel(streams.stderr && !streams.tty);
    let (resize_from_wire, resize) = resizes(streams.tty);
    let (finish, finished) = oneshot::channel();
    let gone = CancellationToken::new();
    let wire = start(ServerEnds {
        stdin: stdin_from_wire,
        stdout: stdout_to_wire,
        stderr: stderr_to_wire,
        resize: resize_from_wire,
        finish: finished,
        gone: gone.clone(),
    });
    // However the wire ends, those who wait for the client must hear of it.
    let guard = gone.clone().drop_guard();
    let wire = AbortOnDropHandle::new(tokio::spawn(async move {
        wire.await;
        drop(guard);
    }));
    let (stdin, stdout, stderr) = (stdin.map(Input), stdout.map(Output), stderr.map(Output));
    ServerSession {
        stdin,
        stdout,
        stderr,
        resize,
        finish,
        gone,
        wire,
    }
}

/// The asking end of a command: it gives input and gets output and a result.
///
/// Take the streams out of it, serve them at the same time, and wait for [`ClientSession::status`]. Streams that
/// are left in it when `status` is called are ended (input) and thrown away (output).
#[derive(Debug)]
pub struct ClientSession {
    /// Standard input, if the command has one. Dropping it is the end of input, where the protocol can say that.
    pub stdin: Option<Output>,
    /// Standard output.
    pub stdout: Option<Input>,
    /// Standard error.
    pub stderr: Option<Input>,
    /// Takes new sizes of the terminal.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    status: oneshot::Receiver<Result<Value, SessionError>>,
    _wire: AbortOnDropHandle<()>,
}

impl ClientSession {
    /// Waits for the command's result, a `Status` object.
    ///
    /// # Errors
    /// [`SessionError`] if the connection ended without one.
    pub async fn status(self) -> Result<Value, SessionError> {
        let Self {
            stdin,
            stdout,
            stderr,
            resize,
            status,
            _wire,
        } = self;
        drop((stdin, stdout, stderr, resize));
        status.await.unwrap_or(Err(SessionError::ConnectionLost))
    }
}

/// The wire's ends of a [`ClientSession`].
pub(crate) struct ClientEnds {
    pub(crate) stdin: Option<mpsc::Receiver<Bytes>>,
    pub(crate) stdout: Option<mpsc::Sender<Bytes>>,
    pub(crate) stderr: Option<mpsc::Sender<Bytes>>,
    pub(crate) resize: Option<mpsc::Receiver<TerminalSize>>,
}

/// Makes a session whose wire is the task that `start` gives; it returns the command's result.
pub(crate) fn client_session<F>(streams: StreamOptions, start: impl FnOnce(ClientEnds) -> F) -> ClientSession
where
    F: Future<Output = Result<Value, SessionError>> + Send + 'static,
{
    let (stdin, stdin_to_wire) = channel(streams.stdin);
    let (stdout_from_wire, stdout) = channel(streams.stdout);
    let (stderr_from_wire, stderr) = channel(streams.stderr && !streams.tty);
    let (resize, resize_to_wire) = resizes(streams.tty);
    let (result, status) = oneshot::channel();
    let wire = start(ClientEnds {
        stdin: stdin_to_wire,
        stdout: stdout_from_wire,
        stderr: stderr_from_wire,
        resize: resize_to_wire,
    });
    let wire = AbortOnDropHandle::new(tokio::spawn(async move {
        // The session may have been dropped.
        drop(result.send(wire.await));
    }));
    let (stdin, stdout, stderr) = (stdin.map(Output), stdout.map(Input), stderr.map(Input));
    ClientSession {
        stdin,
        stdout,
        stderr,
        resize,
        status,
        _wire: wire,
    }
}

fn channel(wanted: bool) -> (Option<mpsc::Sender<Bytes>>, Option<mpsc::Receiver<Bytes>>) {
    wanted.then(|| mpsc::channel(WAITING_PIECES_MAX)).unzip()
}

fn resizes(wanted: bool) -> (Option<mpsc::Sender<TerminalSize>>, Option<mpsc::Receiver<TerminalSize>>) {
    wanted.then(|| mpsc::channel(WAITING_RESIZES_MAX)).unzip()
}
