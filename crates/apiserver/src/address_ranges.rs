//! Ranges of addresses of either family, as numbers to choose from.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first addresses of a range are left to those who ask for one by name: at most as many as these.
const STATIC_BAND: u128 = 256;

/// The first and the last address that can be given out. That of the network itself cannot, nor can IPv4's broadcast.
pub(crate) fn bounds(range: IpNet) -> (u128, u128) {
    let (first, last) = match range {
        IpNet::V4(range) => {
            let last = u128::from(range.broadcast().to_bits());
            (u128::from(range.network().to_bits()), last.saturating_sub(1))
        }
        IpNet::V6(range) => (range.network().to_bits(), range.broadcast().to_bits()),
    };
    (first + 1, last)
}

/// Where the addresses begin that are given to those who do not ask for one by name, while there are any.
pub(crate) fn first_to_pick(range: IpNet) -> u128 {
    let (first, last) = bounds(range);
    let size = last.saturating_sub(first) + 1;
    first + STATIC_BAND.min(size / 16)
}

/// The address with this number.
pub(crate) fn address(range: IpNet, number: u128) -> IpAddr {
    match range {
        IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

/// The first address, which is the API server's own.
pub(crate) fn first(range: IpNet) -> IpAddr {
    address(range, bounds(range).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_first_a_last_and_a_band() {
        let check = |range: &str, expected: [&str; 3]| {
            let range: IpNet = range.parse().unwrap();
            let (first, last) = bounds(range);
            let found = [first, first_to_pick(range), last].map(|number| address(range, number).to_string());
            assert_eq!(found, expected, "{range}");
        };
        check("10.96.0.0/16", ["10.96.0.1", "10.96.1.1", "10.96.255.254"]);
        check("10.0.0.0/28", ["10.0.0.1", "10.0.0.1", "10.0.0.14"]);
        check(
            "fd00:10:96::/108",
            ["fd00:10:96::1", "fd00:10:96::101", "fd00:10:96::f:ffff"],
        );
        check("fd00::/64", ["fd00::1", "fd00::101", "fd00::ffff:ffff:ffff:ffff"]);
    }
}
