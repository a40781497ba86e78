//! Sockets at an address that somebody else gives to the host: now, later, or anew.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

/// Connections that wait to be taken.
const BACKLOG: u32 = 1024;

/// Binds both sockets, whether the host has the address or not.
///
/// # Errors
/// When the kernel refuses, because somebody else listens there, for one.
pub(crate) fn ahead(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = udp(address)?;
    let tcp = tcp(udp.local_addr()?)?;
    Ok((udp, tcp))
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    UdpSocket::from_std(socket.into())
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_that_the_host_does_not_have_are_bound() {
        for address in ["192.0.2.99:0", "[2001:db8::99]:0"] {
            let (udp, tcp) = ahead(address.parse().unwrap()).unwrap();
            assert_eq!(udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        }
    }
}
