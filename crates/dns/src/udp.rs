//! Answers datagrams.

use crate::answerer::{Answered, Answerer};
use crate::response::Transport;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// The largest query that is looked at; a name, a question and a few options need far less.
const QUERY_BYTES_MAX: usize = 4096;

/// Datagrams that are answered before other tasks get a turn.
const BATCH: usize = 64;

/// Questions that wait for other servers, for each socket; those beyond fail at once.
const WAITING_MAX: usize = 1024;

/// The pause after an error of the socket itself, such as a lack of memory.
const PAUSE: Duration = Duration::from_millis(10);

/// Serves until the task is dropped.
pub(crate) async fn serve(socket: UdpSocket, answerer: Arc<Answerer>) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let (mut packet, mut out) = ([0; QUERY_BYTES_MAX], Vec::with_capacity(2048));
    loop {
        socket.readable().await?;
        for _ in 0..BATCH {
            let (length, from) = match socket.try_recv_from(&mut packet) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "cannot receive datagrams");
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
            };
            match answerer.answer(&packet[..length], Transport::Udp, &mut out) {
                Answered::Now => send(&socket, &answerer, &out, from),
                Answered::Not => {}
                Answered::Later(question) if waiting.len() >= WAITING_MAX => {
                    answerer.fail(&question, &mut out);
                    send(&socket, &answerer, &out, from);
                }
                Answered::Later(question) => {
                    let (socket, answerer) = (socket.clone(), answerer.clone());
                    waiting.spawn(async move {
                        let out = answerer.ask(&question).await;
                        send(&socket, &answerer, &out, from);
                    });
                }
            }
        }
        while waiting.try_join_next().is_some() {}
        tokio::task::yield_now().await;
    }
}

/// Sends or, as the network may do anyway, loses an answer.
fn send(socket: &UdpSocket, answerer: &Answerer, out: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(out, to) {
        answerer.metrics.dropped();
        tracing::debug!(%error, %to, "an answer is lost");
    }
}
