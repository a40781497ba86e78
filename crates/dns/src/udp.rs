//! Answers datagrams.

use crate::answerer::{Answered, Answerer};
use crate::datagrams::{Outgoing, Received, socket_address};
use crate::response::Transport;
use nix::sys::socket::SockaddrStorage;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Batches of datagrams that are answered before other tasks get a turn.
const BATCHES: usize = 4;

/// Questions that wait for other servers, for each socket; those beyond fail at once.
const WAITING_MAX: usize = 1024;

/// The pause after an error of the socket itself, such as a lack of memory.
const PAUSE: Duration = Duration::from_millis(10);

/// Serves until the task is dropped.
pub(crate) async fn serve(socket: UdpSocket, answerer: Arc<Answerer>) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let (mut received, mut outgoing) = (Received::default(), Outgoing::default());
    loop {
        socket.readable().await?;
        for _ in 0..BATCHES {
            let read = || received.read(socket.as_raw_fd()).map_err(io::Error::from);
            let may_be_more = match socket.try_io(Interest::READABLE, read) {
                Ok(may_be_more) => may_be_more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "cannot receive datagrams");
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
            };
            for (packet, from) in received.iter() {
                answer(&socket, &answerer, (packet, from), &mut outgoing, &mut waiting);
            }
            outgoing.send(socket.as_raw_fd(), |error| lost(&answerer, &error.into()));
            if !may_be_more {
                break;
            }
        }
        while waiting.try_join_next().is_some() {}
        tokio::task::yield_now().await;
    }
}

/// Answers one datagram with the others, or later if others must be asked.
fn answer(
    socket: &Arc<UdpSocket>,
    answerer: &Arc<Answerer>,
    (packet, from): (&[u8], &SockaddrStorage),
    outgoing: &mut Outgoing,
    waiting: &mut JoinSet<()>,
) {
    match answerer.answer(packet, Transport::Udp, outgoing.buffer()) {
        Answered::Now => outgoing.push(*from),
        Answered::Not => {}
        Answered::Later(question) if waiting.len() >= WAITING_MAX => {
            answerer.fail(&question, outgoing.buffer());
            outgoing.push(*from);
        }
        Answered::Later(question) => {
            let Some(from) = socket_address(from) else { return };
            let (socket, answerer) = (socket.clone(), answerer.clone());
            waiting.spawn(async move {
                let out = answerer.ask(&question).await;
                if let Err(error) = socket.try_send_to(&out, from) {
                    lost(&answerer, &error);
                }
            });
        }
    }
}

/// The network loses answers, too.
fn lost(answerer: &Answerer, error: &io::Error) {
    answerer.metrics.dropped();
    tracing::debug!(%error, "an answer is lost");
}
