//! Our own table of nftables, one for each family that pods have.

use std::net::IpAddr;

use ipnet::IpNet;

use super::host_ports;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Four,
    Six,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::Four, Self::Six];

    /// That of a range.
    pub(super) fn of(range: IpNet) -> Self {
        Self::of_address(range.addr())
    }

    /// That of an address.
    pub(super) fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Four } else { Self::Six }
    }

    /// The family's name in nft's language.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Four => "ip",
            Self::Six => "ip6",
        }
    }

    /// The type of its addresses there.
    pub(super) fn address_type(self) -> &'static str {
        match self {
            Self::Four => "ipv4_addr",
            Self::Six => "ipv6_addr",
        }
    }
}

/// Replaces our own table, and nobody else's.
pub(super) fn table(family: Family, bridge: &str, range: IpNet) -> String {
    let ip = family.word();
    format!(
        "{}table {ip} {bridge} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {ip} saddr {range} {ip} daddr != {range} oifname != \"{bridge}\" masquerade
  }}
{}}}
",
        none(family, bridge),
        host_ports::rules(family, bridge)
    )
}

/// Fails if there is no table of ours.
pub(super) fn look(family: Family, bridge: &str) -> String {
    format!("list table {} {bridge}\n", family.word())
}

/// Removes our own table, if there is one.
pub(super) fn none(family: Family, bridge: &str) -> String {
    let ip = family.word();
    format!("add table {ip} {bridge}\ndelete table {ip} {bridge}\n")
}
