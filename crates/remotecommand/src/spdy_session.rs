//! Sessions over SPDY: one stream each for input, output, errors, resizes and the result.

use crate::protocol::{ResizeReader, ResultForm, SpdyProtocol};
use crate::session::{
    ClientEnds, ClientSession, ServerEnds, ServerSession, SessionError, StreamOptions, TerminalSize, client_session,
    server_session,
};
use crate::spdy::{self, Connection, Incoming, Reader, Role, Stream, Writer};
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a client may take to open its streams.
const STREAMS_PATIENCE: Duration = Duration::from_secs(30);

/// How long the other end may take to close after the result.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// The longest result that is taken.
const RESULT_BYTES_MAX: usize = 1 << 20;

const STREAM_TYPE: &str = "streamtype";

/// The streams of one session, by their `streamtype`.
#[derive(Default)]
struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Streams {
    fn place(&mut self, name: &str) -> Option<&mut Option<Stream>> {
        match name {
            "error" => Some(&mut self.error),
            "stdin" => Some(&mut self.stdin),
            "stdout" => Some(&mut self.stdout),
            "stderr" => Some(&mut self.stderr),
            "resize" => Some(&mut self.resize),
            _ => None,
        }
    }
}

/// The streams that a session needs, in the order in which clients open them.
fn needed(streams: StreamOptions, protocol: SpdyProtocol) -> Vec<&'static str> {
    let all = [
        ("error", true),
        ("stdin", streams.stdin),
        ("stdout", streams.stdout),
        ("stderr", streams.stderr && !streams.tty),
        ("resize", streams.tty && protocol.resizes),
    ];
    all.into_iter()
        .filter(|(_, is_needed)| *is_needed)
        .map(|(name, _)| name)
        .collect()
}

pub(crate) async fn serve<T>(
    connection: T,
    protocol: SpdyProtocol,
    options: StreamOptions,
) -> Result<ServerSession, SessionError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (connection, mut incoming) = Connection::start(connection, Role::Server);
    let accepting = accept_streams(&mut incoming, needed(options, protocol));
    let streams = tokio::time::timeout(STREAMS_PATIENCE, accepting).await;
    let streams = streams.map_err(|_| SessionError::Protocol("not all streams were opened in time".into()))??;
    Ok(server_session(options, |ends| {
        run_server(connection, streams, protocol, ends)
    }))
}

async fn accept_streams(incoming: &mut Incoming, mut missing: Vec<&'static str>) -> Result<Streams, SessionError> {
    let mut streams = Streams::default();
    while !missing.is_empty() {
        let stream = incoming.next().await.ok_or(SessionError::ConnectionLost)?;
        let name = stream.header(STREAM_TYPE).unwrap_or_default().to_owned();
        missing.retain(|missing| *missing != name);
        let place = streams.place(&name);
        *place.ok_or_else(|| SessionError::Protocol(format!("unknown stream type {name:?}")))? = Some(stream);
    }
    Ok(streams)
}

async fn run_server(connection: Connection, streams: Streams, protocol: SpdyProtocol, ends: ServerEnds) {
    let ServerEnds {
        stdin,
        mut stdout,
        mut stderr,
        resize,
        finish,
        gone,
    } = ends;
    let ending = CancellationToken::new();
    let outputs = async {
        let write_stdout = output(streams.stdout, &mut stdout, &ending);
        let write_stderr = output(streams.stderr, &mut stderr, &ending);
        tokio::join!(write_stdout, write_stderr);
    };
    let result = async {
        // A session that is dropped unfinished ends this task.
        let result = finish.await;
        ending.cancel();
        result.unwrap_or_else(|_| crate::status::internal_error("the session was given up"))
    };
    let command = async {
        let (result, ()) = tokio::join!(result, outputs);
        if let Err(error) = tell_result(streams.error, protocol, &result).await {
            tracing::debug!(%error, "client does not take the result");
        }
        if connection.go_away().await.is_ok() {
            // The client closes when it has read everything; if it does not, we do.
            drop(tokio::time::timeout(CLOSE_PATIENCE, connection.closed()).await);
        }
    };
    let input = async {
        tokio::join!(input(streams.stdin, stdin), resizes(streams.resize, resize));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = command => {}
        () = input => {}
        () = connection.closed() => {}
    }
    gone.cancel();
}

/// Writes one stream until it ends. What was sent before `ending` is still written.
async fn output(stream: Option<Stream>, from: &mut Option<mpsc::Receiver<Bytes>>, ending: &CancellationToken) {
    let (Some(Stream { mut writer, .. }), Some(from)) = (stream, from) else {
        return;
    };
    loop {
        let bytes = tokio::select! {
            bytes = from.recv() => bytes,
            () = ending.cancelled(), if !from.is_closed() => {
                from.close();
                continue;
            }
        };
        let Some(bytes) = bytes else { break };
        if let Err(error) = writer.send(bytes).await {
            tracing::debug!(%error, "output is not taken");
            return;
        }
    }
    finish(writer).await;
}

async fn finish(writer: Writer) {
    if let Err(error) = writer.finish().await {
        tracing::debug!(%error, "stream ended before its end was told");
    }
}

async fn tell_result(stream: Option<Stream>, protocol: SpdyProtocol, result: &Value) -> Result<(), spdy::Error> {
    let Some(Stream { mut writer, .. }) = stream else {
        return Ok(());
    };
    if let Some(bytes) = protocol.result.encode(result) {
        writer.send(bytes).await?;
    }
    writer.finish().await
}

/// Hands one stream's bytes to `to` until either ends.
async fn forward(mut reader: Reader, to: Option<mpsc::Sender<Bytes>>) {
    let Some(to) = to else { return };
    while let Some(bytes) = reader.recv().await {
        if to.send(bytes).await.is_err() {
            return;
        }
    }
}

async fn input(stream: Option<Stream>, to: Option<mpsc::Sender<Bytes>>) {
    let Some(Stream { reader, writer, .. }) = stream else {
        return;
    };
    forward(reader, to).await;
    // Nothing is ever sent here; ended only now, so that a client does not take it for the end of the session.
    finish(writer).await;
}

async fn resizes(stream: Option<Stream>, to: Option<mpsc::Sender<TerminalSize>>) {
    let (Some(Stream { mut reader, writer, .. }), Some(to)) = (stream, to) else {
        return;
    };
    let mut sizes = ResizeReader::default();
    while let Some(bytes) = reader.recv().await {
        for size in sizes.read(&bytes) {
            if to.try_send(size).is_err() {
                tracing::debug!(?size, "nobody takes the terminal's new size");
            }
        }
    }
    finish(writer).await;
}

pub(crate) async fn connect<T>(
    connection: T,
    protocol: SpdyProtocol,
    options: StreamOptions,
) -> Result<ClientSession, SessionError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (connection, _) = Connection::start(connection, Role::Client);
    let mut streams = Streams::default();
    for name in needed(options, protocol) {
        let headers = vec![(STREAM_TYPE.to_owned(), name.to_owned())];
        let stream = connection.open(headers).await.map_err(|error| match error {
            spdy::Error::Reset => SessionError::Protocol(format!("stream {name} was refused")),
            _ => SessionError::ConnectionLost,
        })?;
        if let Some(place) = streams.place(name) {
            *place = Some(stream);
        }
    }
    Ok(client_session(options, |ends| {
        run_client(connection, streams, protocol, ends)
    }))
}

async fn run_client(
    connection: Connection,
    streams: Streams,
    protocol: SpdyProtocol,
    ends: ClientEnds,
) -> Result<Value, SessionError> {
    let ClientEnds {
        mut stdin,
        stdout,
        stderr,
        resize,
    } = ends;
    // Kept open until the end: some servers take the end of one direction for the end of the stream.
    let (stdout_reader, _stdout) = halves(streams.stdout);
    let (stderr_reader, _stderr) = halves(streams.stderr);
    let (error_reader, _error) = halves(streams.error);
    let outputs = async {
        tokio::join!(
            read_output(stdout_reader, stdout),
            read_output(stderr_reader, stderr),
            read_all(error_reader)
        )
        .2
    };
    let never = CancellationToken::new();
    let inputs = async {
        tokio::join!(
            output(streams.stdin, &mut stdin, &never),
            send_resizes(streams.resize, resize)
        );
        std::future::pending().await
    };
    let result = tokio::select! {
        result = outputs => result,
        () = inputs => BytesMut::new(),
    };
    if result.is_empty() && protocol.result == ResultForm::Text && connection.go_away().await.is_err() {
        return Err(SessionError::ConnectionLost);
    }
    protocol.result.decode(&result).ok_or(SessionError::ConnectionLost)
}

fn halves(stream: Option<Stream>) -> (Option<Reader>, Option<Writer>) {
    stream.map(|Stream { reader, writer, .. }| (reader, writer)).unzip()
}

async fn read_output(reader: Option<Reader>, to: Option<mpsc::Sender<Bytes>>) {
    let Some(mut reader) = reader else { return };
    let mut to = to;
    while let Some(bytes) = reader.recv().await {
        if let Some(sender) = &to
            && sender.send(bytes).await.is_err()
        {
            // Nobody wants it, but the command must not be stopped by that.
            to = None;
        }
    }
}

async fn read_all(reader: Option<Reader>) -> BytesMut {
    let mut all = BytesMut::new();
    let Some(mut reader) = reader else { return all };
    while let Some(bytes) = reader.recv().await {
        if all.len() + bytes.len() <= RESULT_BYTES_MAX {
            all.extend_from_slice(&bytes);
        }
    }
    all
}

async fn send_resizes(stream: Option<Stream>, from: Option<mpsc::Receiver<TerminalSize>>) {
    let (Some(Stream { mut writer, .. }), Some(mut from)) = (stream, from) else {
        return;
    };
    while let Some(size) = from.recv().await {
        let text = serde_json::to_vec(&size).expect("two numbers are JSON");
        if writer.send(text.into()).await.is_err() {
            return;
        }
    }
    finish(writer).await;
}
