//! The ranges that pods have addresses of, and where in them a pod is: at the same place in each.
//!
//! So one number stands for all addresses of a pod, and whoever has an address of one family again has that of the other
//! family again, too, and the same MAC with both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The place of the gateway; that before it is the network's.
const GATEWAY: u32 = 1;

/// One range, or one of each family, the main one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<IpNet>);

impl Ranges {
    pub(crate) fn new(ranges: &[IpNet]) -> Self {
        Self(ranges.iter().map(IpNet::trunc).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.0.iter().copied()
    }

    /// The range of IPv4 addresses.
    pub(crate) fn four(&self) -> Option<IpNet> {
        self.iter().find(|range| range.addr().is_ipv4())
    }

    /// The range of IPv6 addresses.
    pub(crate) fn six(&self) -> Option<IpNet> {
        self.iter().find(|range| range.addr().is_ipv6())
    }

    /// The address of pods' gateway in each range.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        self.at(GATEWAY)
    }

    /// The address that pods reach the gateway by which have this one.
    pub(crate) fn gateway_of(&self, pod: IpAddr) -> Option<IpAddr> {
        let mut gateways = self.gateways().into_iter();
        gateways.find(|gateway| gateway.is_ipv4() == pod.is_ipv4())
    }

    /// The places of pods: the first one, and the one behind the last. There are none in ranges that are too small.
    pub(crate) fn places(&self) -> (u32, u32) {
        let size = self.iter().map(|range| {
            let bits = u32::from(range.max_prefix_len() - range.prefix_len());
            1_u32.checked_shl(bits).unwrap_or(u32::MAX)
        });
        // The last place is IPv4's broadcast.
        let end = size.min().map_or(0, |size| size - 1);
        (GATEWAY + 1, end)
    }

    /// The addresses at a place.
    pub(crate) fn at(&self, place: u32) -> Vec<IpAddr> {
        let address = |range: IpNet| match range {
            IpNet::V4(range) => IpAddr::V4(Ipv4Addr::from_bits(range.network().to_bits() + place)),
            IpNet::V6(range) => IpAddr::V6(Ipv6Addr::from_bits(range.network().to_bits() + u128::from(place))),
        };
        self.iter().map(address).collect()
    }

    /// The place of an address, if it is one of these ranges.
    pub(crate) fn place(&self, address: IpAddr) -> Option<u32> {
        let range = self.iter().find(|range| range.contains(&address))?;
        match (address, range.network()) {
            (IpAddr::V4(address), IpAddr::V4(network)) => Some(address.to_bits() - network.to_bits()),
            (IpAddr::V6(address), IpAddr::V6(network)) => u32::try_from(address.to_bits() - network.to_bits()).ok(),
            _ => None,
        }
    }
}

impl std::fmt::Display for Ranges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ranges: Vec<String> = self.iter().map(|range| range.to_string()).collect();
        f.write_str(&ranges.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_in_each_range() {
        let ranges = ["10.9.0.0/29", "fd00:9::/64"].map(|range| range.parse().expect("a range"));
        let ranges = Ranges::new(&ranges);
        let ips = |texts: [&str; 2]| texts.map(|ip| ip.parse::<IpAddr>().expect("an address")).to_vec();
        assert_eq!(ranges.gateways(), ips(["10.9.0.1", "fd00:9::1"]));
        assert_eq!(ranges.places(), (2, 7));
        let at = ips(["10.9.0.6", "fd00:9::6"]);
        assert_eq!(ranges.at(6), at);
        assert_eq!(
            at.iter().map(|ip| ranges.place(*ip)).collect::<Vec<_>>(),
            [Some(6), Some(6)]
        );
        assert_eq!(ranges.place("10.9.1.6".parse().expect("an address")), None);
        let six = Ranges::new(&["fd00:9::/64".parse().expect("a range")]);
        assert_eq!(six.places(), (2, u32::MAX - 1));
    }
}
