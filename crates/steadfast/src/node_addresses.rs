//! Under which addresses this machine is known as a node, where nobody says so: one of each family that pods have.

use crate::config::Config;
use nix::net::if_::InterfaceFlags;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The node's addresses, the main one first; never empty.
pub(crate) fn of(config: &Config) -> Vec<IpAddr> {
    if !config.node_ips.is_empty() {
        return config.node_ips.clone();
    }
    let found = config.pod_cidrs.iter().filter_map(|range| match range.addr() {
        IpAddr::V4(_) => four(),
        IpAddr::V6(_) => six(),
    });
    let found: Vec<IpAddr> = found.collect();
    if !found.is_empty() {
        return found;
    }
    // Pods of a family that this machine does not have still run on it.
    vec![four().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))]
}

/// The IPv4 address that the default route goes out from; without one, any that others could have for this machine.
fn four() -> Option<IpAddr> {
    // Nothing is sent: this only asks the kernel for the way to an address that is nobody's (RFC 5737).
    let nobody = Ipv4Addr::new(192, 0, 2, 1);
    going_to(Ipv4Addr::UNSPECIFIED.into(), nobody.into()).or_else(any_four)
}

/// The IPv6 address that the default route goes out from, if others could have it for this machine.
fn six() -> Option<IpAddr> {
    // The same, of RFC 3849.
    let nobody = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    going_to(Ipv6Addr::UNSPECIFIED.into(), nobody.into())
        .filter(|address| !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()))
}

fn going_to(from: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then_some(address)
}

/// An IPv4 address of an interface that is up, other than those that belong to Services.
fn any_four() -> Option<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().ok()?;
    let is_up =
        |flags: InterfaceFlags| flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK);
    let mut usable =
        interfaces.filter(|interface| is_up(interface.flags) && interface.interface_name != dns::LINK_NAME);
    let address = usable.find_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))?;
    Some(IpAddr::V4(address))
}
