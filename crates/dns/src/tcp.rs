//! Answers queries on connections (RFC 7766): one after the other on each.

use crate::answerer::{Answered, Answerer};
use crate::response::Transport;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a client may be silent, or not take its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections at a time; more wait until one ends, which none puts off for longer than [`PATIENCE`] without asking.
const CONNECTIONS_MAX: usize = 256;

/// The pause after a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, answerer: Arc<Answerer>) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let answerer = answerer.clone();
                    connections.spawn(async move {
                        if let Err(error) = converse(stream, &answerer).await {
                            tracing::debug!(%error, "a connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot take a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(mut stream: TcpStream, answerer: &Answerer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut packet, mut out) = (Vec::new(), Vec::new());
    while timeout(PATIENCE, read(&mut stream, &mut packet)).await?? {
        match answerer.answer(&packet, Transport::Tcp, &mut out) {
            Answered::Now => {}
            Answered::Later(question) => out = answerer.ask(&question).await,
            // Whoever sends rubbish has lost the thread.
            Answered::Not => return Ok(()),
        }
        let length = u16::try_from(out.len()).map_err(io::Error::other)?;
        let message = [&length.to_be_bytes()[..], &out].concat();
        timeout(PATIENCE, stream.write_all(&message)).await??;
    }
    Ok(())
}

/// Reads one message; `false` at the end.
async fn read(stream: &mut TcpStream, packet: &mut Vec<u8>) -> io::Result<bool> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    };
    packet.resize(length.into(), 0);
    stream.read_exact(packet).await?;
    Ok(true)
}
