//! Sessions over a websocket: each message is one piece of one channel.

use crate::protocol::{ResizeReader, ResultForm, WebSocketProtocol, channel};
use crate::session::{
    ClientEnds, ClientSession, ServerEnds, ServerSession, SessionError, StreamOptions, TerminalSize, client_session,
    server_session,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

/// The longest message that is taken. Clients send some tens of KiB, a few send a whole file at once.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How long the other end may take to answer our close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// How often a client hears of us while its input is not read, and so its pings are not either. kubectl gives up
/// after 61 s of silence.
const STALLED_PONG_INTERVAL: Duration = Duration::from_secs(15);

type Sender<T> = SplitSink<WebSocketStream<T>, Message>;
type Receiver<T> = SplitStream<WebSocketStream<T>>;

pub(crate) async fn serve<T>(connection: T, protocol: WebSocketProtocol, streams: StreamOptions) -> ServerSession
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, receiver) = open(connection, Role::Server).await.split();
    server_session(streams, |ends| run_server(Writer { sender, protocol }, receiver, ends))
}

pub(crate) async fn connect<T>(connection: T, protocol: WebSocketProtocol, streams: StreamOptions) -> ClientSession
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, receiver) = open(connection, Role::Client).await.split();
    client_session(streams, |ends| run_client(Writer { sender, protocol }, receiver, ends))
}

/// Begins to speak websocket on a connection whose handshake is done.
pub(crate) async fn open<T: AsyncRead + AsyncWrite + Unpin>(connection: T, role: Role) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(connection, role, Some(config)).await
}

async fn run_server<T>(mut writer: Writer<T>, mut receiver: Receiver<T>, ends: ServerEnds)
where
    T: AsyncRead + AsyncWrite + Send + Unpin,
{
    let ServerEnds {
        stdin,
        stdout,
        stderr,
        resize,
        finish,
        gone,
    } = ends;
    let stalled = AtomicBool::new(false);
    let protocol = writer.protocol;
    let mut reading = Box::pin(async {
        read_input(&mut receiver, protocol, stdin, resize, &stalled).await;
        gone.cancel();
    });
    let writing = writer.write_command(stdout, stderr, finish, &stalled);
    tokio::select! {
        () = &mut reading => {}
        written = writing => if written.is_ok() {
            // The client's answer to our close; if it does not come, the connection is dropped.
            drop(tokio::time::timeout(CLOSE_PATIENCE, reading).await);
        }
    }
}

/// Reads what a client sends until it closes.
async fn read_input<T>(
    receiver: &mut Receiver<T>,
    protocol: WebSocketProtocol,
    mut stdin: Option<mpsc::Sender<Bytes>>,
    resize: Option<mpsc::Sender<TerminalSize>>,
    stalled: &AtomicBool,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut resizes = ResizeReader::default();
    while let Some((number, payload)) = next_piece(receiver, protocol).await {
        match number {
            channel::STDIN => {
                stalled.store(true, Ordering::Relaxed);
                forward(&mut stdin, payload).await;
                stalled.store(false, Ordering::Relaxed);
            }
            channel::CLOSE if protocol.half_close && payload.first() == Some(&channel::STDIN) => stdin = None,
            channel::RESIZE => {
                for size in resizes.read(&payload) {
                    if resize.as_ref().is_some_and(|resize| resize.try_send(size).is_err()) {
                        tracing::debug!(?size, "nobody takes the terminal's new size");
                    }
                }
            }
            // Other channels belong to us.
            _ => {}
        }
    }
}

/// Hands a piece over; a stream that nobody takes is thrown away.
async fn forward(to: &mut Option<mpsc::Sender<Bytes>>, payload: Bytes) {
    if let Some(sender) = to
        && !payload.is_empty()
        && sender.send(payload).await.is_err()
    {
        *to = None;
    }
}

async fn run_client<T>(
    mut writer: Writer<T>,
    mut receiver: Receiver<T>,
    ends: ClientEnds,
) -> Result<Value, SessionError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin,
{
    let ClientEnds {
        stdin,
        mut stdout,
        mut stderr,
        resize,
    } = ends;
    let protocol = writer.protocol;
    let reading = async {
        let mut result = BytesMut::new();
        while let Some((number, payload)) = next_piece(&mut receiver, protocol).await {
            match number {
                channel::STDOUT => forward(&mut stdout, payload).await,
                channel::STDERR => forward(&mut stderr, payload).await,
                channel::ERROR => {
                    result.extend_from_slice(&payload);
                    // Nothing follows a status. A text may go on.
                    if let (ResultForm::Status, Some(status)) = (protocol.result, protocol.result.decode(&result)) {
                        return Ok(status);
                    }
                }
                _ => {}
            }
        }
        protocol.result.decode(&result).ok_or(SessionError::ConnectionLost)
    };
    let result = tokio::select! {
        result = reading => result,
        // Only a broken connection ends the writer.
        () = writer.write_input(stdin, resize) => Err(SessionError::ConnectionLost),
    };
    drop(tokio::time::timeout(CLOSE_PATIENCE, writer.close()).await);
    result
}

/// The next message that carries a channel; `None` when the websocket is closed or broken.
async fn next_piece<T>(receiver: &mut Receiver<T>, protocol: WebSocketProtocol) -> Option<(u8, Bytes)>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let bytes = match receiver.next().await? {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(text)) => Bytes::from(text),
            // Pings are answered by the next read.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Ok(Message::Close(_)) => return None,
            Err(error) => {
                tracing::debug!(%error, "websocket ended");
                return None;
            }
        };
        let Some((number, payload)) = bytes.split_first() else {
            continue;
        };
        if !protocol.base64 {
            return Some((*number, bytes.slice(1..)));
        }
        match STANDARD.decode(payload) {
            Ok(payload) => return Some((number.wrapping_sub(b'0'), payload.into())),
            Err(error) => tracing::debug!(%error, "message is not base64"),
        }
    }
}

/// The next piece of a stream; waits forever if there is none any more.
async fn next_of<P>(stream: &mut Option<mpsc::Receiver<P>>) -> Option<P> {
    match stream {
        Some(stream) => stream.recv().await,
        None => std::future::pending().await,
    }
}

struct Writer<T> {
    sender: Sender<T>,
    protocol: WebSocketProtocol,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Writer<T> {
    /// Writes output until it and the command have ended, then the result and the close.
    async fn write_command(
        &mut self,
        mut stdout: Option<mpsc::Receiver<Bytes>>,
        mut stderr: Option<mpsc::Receiver<Bytes>>,
        finish: tokio::sync::oneshot::Receiver<Value>,
        stalled: &AtomicBool,
    ) -> Result<(), tungstenite::Error> {
        // Tells clients that wait for a sign that we are there.
        let first = match (&stdout, &stderr) {
            (Some(_), _) => channel::STDOUT,
            (None, Some(_)) => channel::STDERR,
            (None, None) => channel::ERROR,
        };
        self.piece(first, &[]).await?;
        let mut pongs = tokio::time::interval(STALLED_PONG_INTERVAL);
        pongs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut result = None;
        let mut finish = std::pin::pin!(finish);
        while result.is_none() || stdout.is_some() || stderr.is_some() {
            tokio::select! {
                piece = next_of(&mut stdout) => match piece {
                    Some(piece) => self.piece(channel::STDOUT, &piece).await?,
                    None => stdout = None,
                },
                piece = next_of(&mut stderr) => match piece {
                    Some(piece) => self.piece(channel::STDERR, &piece).await?,
                    None => stderr = None,
                },
                status = &mut finish, if result.is_none() => {
                    // A session that is dropped unfinished ends this task.
                    result = Some(status.unwrap_or_else(|_| crate::status::internal_error("the session was given up")));
                    // What was sent before the end is still written.
                    for stream in [&mut stdout, &mut stderr].into_iter().flatten() {
                        stream.close();
                    }
                }
                _ = pongs.tick() => if stalled.load(Ordering::Relaxed) {
                    self.sender.send(Message::Pong(Bytes::new())).await?;
                },
            }
        }
        if let Some(bytes) = result.and_then(|result| self.protocol.result.encode(&result)) {
            self.piece(channel::ERROR, &bytes).await?;
        }
        self.close().await
    }

    /// Writes input and resizes; returns only if the connection breaks.
    async fn write_input(
        &mut self,
        mut stdin: Option<mpsc::Receiver<Bytes>>,
        mut resize: Option<mpsc::Receiver<TerminalSize>>,
    ) {
        loop {
            let written = tokio::select! {
                piece = next_of(&mut stdin) => match piece {
                    Some(piece) => self.piece(channel::STDIN, &piece).await,
                    None => {
                        stdin = None;
                        self.end_input().await
                    }
                },
                size = next_of(&mut resize) => match size {
                    Some(size) => {
                        let text = serde_json::to_vec(&size).expect("two numbers are JSON");
                        self.piece(channel::RESIZE, &text).await
                    }
                    None => {
                        resize = None;
                        Ok(())
                    }
                },
            };
            if let Err(error) = written {
                tracing::debug!(%error, "websocket ended");
                return;
            }
        }
    }

    async fn end_input(&mut self) -> Result<(), tungstenite::Error> {
        if !self.protocol.half_close {
            tracing::debug!(protocol = self.protocol.name, "the end of input cannot be told");
            return Ok(());
        }
        self.piece(channel::CLOSE, &[channel::STDIN]).await
    }

    async fn piece(&mut self, number: u8, payload: &[u8]) -> Result<(), tungstenite::Error> {
        let message = if self.protocol.base64 {
            let mut text = String::from(char::from(b'0' + number));
            STANDARD.encode_string(payload, &mut text);
            Message::text(text)
        } else {
            let mut bytes = BytesMut::with_capacity(1 + payload.len());
            bytes.put_u8(number);
            bytes.put_slice(payload);
            Message::Binary(bytes.freeze())
        };
        self.sender.send(message).await
    }

    async fn close(&mut self) -> Result<(), tungstenite::Error> {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        self.sender.send(Message::Close(Some(frame))).await
    }
}
