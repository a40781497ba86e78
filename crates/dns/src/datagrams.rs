//! Many datagrams with one system call, which costs more than an answer does.

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// Datagrams that are read, or sent, at once.
const BATCH: usize = 64;

/// The largest query that is looked at; a name, a question and a few options need far less.
const QUERY_BYTES_MAX: usize = 4096;

/// Datagrams that came together.
#[derive(Debug)]
pub(crate) struct Received {
    /// Room for [`BATCH`] datagrams.
    bytes: Vec<u8>,
    /// How long each is and who sent it.
    each: Vec<(usize, SockaddrStorage)>,
    /// How many to ask for: when few come, preparing for many is the larger part of the work.
    expected: usize,
}

impl Default for Received {
    fn default() -> Self {
        Self {
            bytes: vec![0; BATCH * QUERY_BYTES_MAX],
            each: Vec::with_capacity(BATCH),
            expected: 1,
        }
    }
}

impl Received {
    /// Reads what is there, in the place of what was read before; says whether there may be more.
    pub(crate) fn read(&mut self, socket: RawFd) -> nix::Result<bool> {
        self.each.clear();
        let expected = self.expected;
        let room = self.bytes.chunks_exact_mut(QUERY_BYTES_MAX).take(expected);
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = room.map(|room| [IoSliceMut::new(room)]).collect();
        let mut headers = MultiHeaders::preallocate(expected, None);
        let received = recvmmsg(socket, &mut headers, &mut slices, MsgFlags::MSG_DONTWAIT, None)?;
        for datagram in received {
            // Who sends without an address wants no answer.
            if let Some(from) = datagram.address {
                self.each.push((datagram.bytes, from));
            }
        }
        let is_full = self.each.len() == expected;
        self.expected = match is_full {
            true => (expected * 2).min(BATCH),
            false => self.each.len().max(1),
        };
        Ok(is_full)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &SockaddrStorage)> {
        let packets = self.bytes.chunks_exact(QUERY_BYTES_MAX).zip(&self.each);
        packets.map(|(room, (length, from))| (&room[..(*length).min(room.len())], from))
    }
}

/// Datagrams that go together.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Buffers, of which the first so many are in use.
    bytes: Vec<Vec<u8>>,
    to: Vec<Option<SockaddrStorage>>,
}

impl Outgoing {
    /// An empty buffer for the next datagram, which counts from [`Self::push`] on.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        let next = self.to.len();
        if self.bytes.len() == next {
            self.bytes.push(Vec::with_capacity(QUERY_BYTES_MAX));
        }
        &mut self.bytes[next]
    }

    pub(crate) fn push(&mut self, to: SockaddrStorage) {
        self.to.push(Some(to));
    }

    /// Sends all or, as the network may do anyway, loses some; tells of each loss.
    pub(crate) fn send(&mut self, socket: RawFd, mut lost: impl FnMut(nix::Error)) {
        let mut at = 0;
        while at < self.to.len() {
            let (bytes, to) = (&self.bytes[at..self.to.len()], &self.to[at..]);
            let slices: Vec<[IoSlice<'_>; 1]> = bytes.iter().map(|bytes| [IoSlice::new(bytes)]).collect();
            let mut headers = MultiHeaders::preallocate(slices.len(), None);
            match sendmmsg(socket, &mut headers, &slices, to, [], MsgFlags::MSG_DONTWAIT) {
                // That it sent none and has no reason is not to be, and must not keep us here.
                Ok(sent) => at += sent.count().max(1),
                Err(error) => {
                    lost(error);
                    at += 1;
                }
            }
        }
        self.to.clear();
    }
}

/// The address as others write it.
pub(crate) fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    #[test]
    fn all_that_came_is_read_and_each_gets_its_answer() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(server) = UdpSocket::bind(host) else {
                println!("no {host} here");
                continue;
            };
            let to = server.local_addr().unwrap();
            let clients: Vec<UdpSocket> = (0..100).map(|_| UdpSocket::bind(host).unwrap()).collect();
            for (i, client) in clients.iter().enumerate() {
                client.send_to(&vec![b'x'; i], to).unwrap();
            }
            let (mut received, mut outgoing) = (Received::default(), Outgoing::default());
            let mut count = 0;
            while received.read(server.as_raw_fd()).is_ok() {
                for (packet, from) in received.iter() {
                    outgoing.buffer().clear();
                    outgoing.buffer().extend(packet.len().to_be_bytes());
                    outgoing.push(*from);
                    count += 1;
                }
                outgoing.send(server.as_raw_fd(), |error| panic!("{error}"));
            }
            assert_eq!(count, clients.len());
            for (i, client) in clients.iter().enumerate() {
                let mut answer = [0; 9];
                let (length, from) = client.recv_from(&mut answer).unwrap();
                assert_eq!((&answer[..length], from), (&i.to_be_bytes()[..], to));
            }
        }
    }

    #[test]
    fn what_cannot_be_sent_does_not_keep_the_rest() {
        let (socket, good) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let mut outgoing = Outgoing::default();
        let bad: SocketAddr = "127.0.0.1:0".parse().unwrap();
        for to in [bad, good.local_addr().unwrap(), bad, good.local_addr().unwrap()] {
            outgoing.buffer().clear();
            outgoing.buffer().push(b'!');
            outgoing.push(to.into());
        }
        let mut lost = 0;
        outgoing.send(socket.as_raw_fd(), |_| lost += 1);
        assert_eq!(lost, 2);
        for _ in 0..2 {
            assert_eq!(good.recv(&mut [0; 9]).unwrap(), 1);
        }
        assert_eq!(socket_address(&bad.into()), Some(bad));
    }
}
