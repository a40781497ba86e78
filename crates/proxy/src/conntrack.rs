//! The kernel's memory of UDP flows: read through netlink (nfnetlink, subsystem conntrack), and made to forget.

use crate::service::Family;
use crate::stale::{Flow, Place};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Messages of the subsystem: the number of the subsystem in the upper byte.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;

/// Messages of netlink itself.
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;

/// Header of netlink and of nfnetlink.
const HEADER_BYTES: usize = 16;
const FAMILY_BYTES: usize = 4;

/// Attributes of a flow.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// Of a tuple, and of its parts.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_V4_SOURCE: u16 = 1;
const IP_V4_DESTINATION: u16 = 2;
const IP_V6_SOURCE: u16 = 3;
const IP_V6_DESTINATION: u16 = 4;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

const NESTED: u16 = 0x8000;
const KIND: u16 = 0x3fff;

const UDP: u8 = 17;

/// As large as netlink's messages get.
const BUFFER_BYTES: usize = 1 << 16;

const ENOENT: i32 = 2;

/// A flow as the kernel names it.
struct Known {
    flow: Flow,
    /// The attributes that name it.
    name: Vec<u8>,
}

/// Makes the kernel forget the UDP flows that `is_stale` holds for, and says how many there were. Blocks.
///
/// # Errors
/// When the kernel refuses, as it does without CAP_NET_ADMIN.
pub(crate) fn forget(family: Family, is_stale: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let stale: Vec<Known> = flows(&socket, family)?
        .into_iter()
        .filter(|known| is_stale(&known.flow))
        .collect();
    for known in &stale {
        send(&socket, family, DELETE, REQUEST | ACKNOWLEDGE, &known.name)?;
        let answered = receive(&socket, |_, _| {});
        // It may have ended by itself.
        answered.or_else(|error| {
            if error.raw_os_error() == Some(ENOENT) {
                Ok(())
            } else {
                Err(error)
            }
        })?;
    }
    Ok(stale.len())
}

fn flows(socket: &Socket, family: Family) -> io::Result<Vec<Known>> {
    send(socket, family, GET, REQUEST | DUMP, &[])?;
    let mut flows = Vec::new();
    receive(socket, |_, body| flows.extend(read(body)))?;
    Ok(flows)
}

fn send(socket: &Socket, family: Family, kind: u16, flags: u16, attributes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(HEADER_BYTES + FAMILY_BYTES + attributes.len()).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port numbers: there is one question at a time.
    message.extend([0; 8]);
    let family = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    message.extend([family, 0, 0, 0]);
    message.extend(attributes);
    socket.send(&message, 0).map(drop)
}

/// Reads messages until the answer is complete.
fn receive(socket: &Socket, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = socket.recv(&mut &mut buffer[..], 0)?;
        let mut rest = &buffer[..length];
        while let Some((kind, body, behind)) = message(rest) {
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let code = body
                        .get(..4)
                        .and_then(|code| code.try_into().ok())
                        .map_or(0, i32::from_ne_bytes);
                    return match code {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                kind => each(kind, body),
            }
            rest = behind;
        }
    }
}

/// The first message: its kind, what is in it, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    Some((kind, body, bytes.get(aligned(length)..).unwrap_or_default()))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Attributes one after the other: kind, content, and the whole with its header.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & KIND;
        let whole = bytes.get(..length)?;
        let content = whole.get(4..)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, content, whole))
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(kind, _, _)| *kind == wanted)
        .map(|(_, content, _)| content)
}

/// A flow, if it is one of UDP.
fn read(body: &[u8]) -> Option<Known> {
    let body = body.get(FAMILY_BYTES..)?;
    let (original, reply) = (attribute(body, TUPLE_ORIGINAL)?, attribute(body, TUPLE_REPLY)?);
    let protocol = attribute(original, TUPLE_PROTOCOL)?;
    if attribute(protocol, PROTOCOL_NUMBER)? != [UDP] {
        return None;
    }
    let mut name = Vec::new();
    for (kind, _, whole) in attributes(body) {
        if matches!(kind, TUPLE_ORIGINAL | ID | ZONE) {
            let start = name.len();
            name.extend(whole);
            if kind == TUPLE_ORIGINAL {
                let kind = (kind | NESTED).to_ne_bytes();
                name[start + 2..start + 4].copy_from_slice(&kind);
            }
            name.resize(aligned(name.len()), 0);
        }
    }
    let flow = Flow {
        to: place(original, [IP_V4_DESTINATION, IP_V6_DESTINATION], DESTINATION_PORT)?,
        from: place(reply, [IP_V4_SOURCE, IP_V6_SOURCE], SOURCE_PORT)?,
    };
    Some(Known { flow, name })
}

fn place(tuple: &[u8], [v4, v6]: [u16; 2], port: u16) -> Option<Place> {
    let ip = attribute(tuple, TUPLE_IP)?;
    let v4 = attribute(ip, v4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let v6 = attribute(ip, v6).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    let address = v4
        .map(|octets| IpAddr::from(Ipv4Addr::from(octets)))
        .or_else(|| v6.map(|octets| IpAddr::from(Ipv6Addr::from(octets))))?;
    let port = attribute(attribute(tuple, TUPLE_PROTOCOL)?, port)?;
    Some((address, u16::from_be_bytes(port.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use std::net::UdpSocket;
    use std::process::Command;

    #[test]
    fn flow_to_an_endpoint_that_is_gone_is_forgotten_and_no_other() {
        let thread = std::thread::spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                println!("no network of its own: {error}");
                return;
            }
            let run = |line: &str| {
                let words: Vec<&str> = line.split(' ').collect();
                assert!(
                    Command::new(words[0]).args(&words[1..]).status().unwrap().success(),
                    "{line}"
                );
            };
            run("ip link set lo up");
            run("nft add table ip t");
            run("nft add chain ip t out { type nat hook output priority -100 ; }");
            for (from, to) in [("127.0.0.2", "127.0.0.12"), ("127.0.0.3", "127.0.0.13")] {
                run(&format!(
                    "nft add rule ip t out ip daddr {from} udp dport 53 dnat to {to}:1053"
                ));
            }
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            for to in ["127.0.0.2:53", "127.0.0.3:53"] {
                client.send_to(b"?", to).unwrap();
            }
            let socket = Socket::new(NETLINK_NETFILTER).unwrap();
            let all = || flows(&socket, Family::V4).unwrap().into_iter().map(|known| known.flow);
            let gone = ("127.0.0.12".parse().unwrap(), 1053);
            assert_eq!(all().count(), 2, "{:?}", all().collect::<Vec<_>>());
            assert_eq!(forget(Family::V4, |flow| flow.from == gone).unwrap(), 1);
            let left: Vec<Flow> = all().collect();
            assert!(
                left.len() == 1 && left[0].to == ("127.0.0.3".parse().unwrap(), 53),
                "{left:?}"
            );
            assert_eq!(forget(Family::V4, |flow| flow.from == gone).unwrap(), 0);
        });
        thread.join().unwrap();
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let mut bytes = [0xff_u8; 64];
        for i in 0..64 {
            bytes[i] = u8::try_from(i).unwrap();
            assert!(read(&bytes).is_none());
            assert!(message(&bytes[i..]).is_none_or(|(_, body, _)| body.len() < 64));
        }
    }
}
