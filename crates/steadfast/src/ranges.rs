//! The ranges of addresses of pods and of Services: one, or one of each family.

use anyhow::{Context, bail, ensure};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One range, or one of each family; the first one is that of whoever does not say which family it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<IpNet>);

impl Ranges {
    /// Parses `10.244.0.0/16` or `10.244.0.0/16,fd00:10:244::/64`: host bits clear, at least 16 addresses each.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let ranges: Vec<IpNet> = text
            .split(',')
            .map(|range| parse(range.trim()))
            .collect::<Result<_, _>>()?;
        if let [first, second, more @ ..] = ranges.as_slice() {
            ensure!(more.is_empty(), "there can be two ranges at most, one of each family");
            ensure!(
                first.addr().is_ipv4() != second.addr().is_ipv4(),
                "two ranges must be of different families"
            );
        }
        Ok(Self(ranges))
    }

    /// Each range, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.0.iter().copied()
    }

    /// The address `n` places behind the first one of the first range.
    pub(crate) fn nth(&self, n: u32) -> IpAddr {
        // A list that was parsed is never empty.
        self.each_nth(n)[0]
    }

    /// The addresses `n` places behind the first one of each range.
    pub(crate) fn each_nth(&self, n: u32) -> Vec<IpAddr> {
        let nth = |range: IpNet| match range {
            IpNet::V4(range) => IpAddr::V4(Ipv4Addr::from_bits(range.network().to_bits() + n)),
            IpNet::V6(range) => IpAddr::V6(Ipv6Addr::from_bits(range.network().to_bits() + u128::from(n))),
        };
        self.iter().map(nth).collect()
    }

    /// Whether an address lies in one of the ranges.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.iter().any(|range| range.contains(&address))
    }

    /// Whether there is a range of this address' family.
    pub(crate) fn has_family_of(&self, other: IpNet) -> bool {
        self.iter()
            .any(|range| range.addr().is_ipv4() == other.addr().is_ipv4())
    }

    /// Whether an address could be of both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let overlap = |a: IpNet, b: IpNet| a.contains(&b.network()) || b.contains(&a.network());
        self.iter().any(|a| other.iter().any(|b| overlap(a, b)))
    }
}

fn parse(text: &str) -> anyhow::Result<IpNet> {
    let (base, prefix) = text
        .split_once('/')
        .context("must look like 10.244.0.0/16, or 10.244.0.0/16,fd00:10:244::/64 for both families")?;
    let base: IpAddr = base.parse().with_context(|| format!("{base:?} is no IP address"))?;
    let prefix: u8 = prefix
        .parse()
        .with_context(|| format!("{prefix:?} is no prefix length"))?;
    let allowed = if base.is_ipv4() { 8..=28 } else { 64..=124 };
    if !allowed.contains(&prefix) {
        bail!(
            "the prefix length must be from {} to {}",
            allowed.start(),
            allowed.end()
        );
    }
    let range = IpNet::new(base, prefix)?;
    ensure!(
        range.network() == base,
        "the address has bits set behind its first {prefix}"
    );
    Ok(range)
}

impl std::fmt::Display for Ranges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ranges: Vec<String> = self.iter().map(|range| range.to_string()).collect();
        f.write_str(&ranges.join(","))
    }
}

/// Parses the addresses of a node: one, or one of each family.
pub(crate) fn node_addresses(text: &str) -> anyhow::Result<Vec<IpAddr>> {
    let parse = |text: &str| {
        text.trim()
            .parse()
            .with_context(|| format!("{text:?} is no IP address"))
    };
    let addresses: Vec<IpAddr> = text.split(',').map(parse).collect::<Result<_, _>>()?;
    match addresses.as_slice() {
        [_] => Ok(addresses),
        [first, second] if first.is_ipv4() != second.is_ipv4() => Ok(addresses),
        _ => bail!("there can be one address, or one of each family"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_back_as_themselves() {
        for text in [
            "10.96.0.0/16",
            "fd00:10:96::/108",
            "10.96.0.0/16,fd00:10:96::/108",
            "fd00::/64,10.0.0.0/8",
        ] {
            assert_eq!(Ranges::parse(text).unwrap().to_string(), text);
        }
        for bad in [
            "10.96.0.0",
            "10.96.0.1/16",
            "10.0.0.0/4",
            "fd00::1/64",
            "fd00::/48",
            "10.1.0.0/16,10.2.0.0/16",
            "10.1.0.0/16,fd00::/64,fd01::/64",
            "",
        ] {
            assert!(Ranges::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_contain_their_own_addresses_only() {
        let ranges = Ranges::parse("10.244.0.0/16,fd00:10:244::/64").unwrap();
        let inside = |text: &str| ranges.contains(text.parse().unwrap());
        assert!(inside("10.244.0.0") && inside("10.244.255.255") && inside("fd00:10:244::7"));
        assert!(!inside("10.245.0.0") && !inside("10.243.255.255") && !inside("fd00:10:245::7"));
        assert_eq!(
            ranges.each_nth(10),
            ["10.244.0.10", "fd00:10:244::a"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        let overlaps = |text: &str| ranges.overlaps(&Ranges::parse(text).unwrap());
        assert!(overlaps("fd00:10:244::/108") && overlaps("10.244.128.0/20,fd01::/64") && !overlaps("fd01::/64"));
    }

    #[test]
    fn a_node_has_an_address_of_each_family_at_most() {
        assert_eq!(node_addresses("192.0.2.7,fd00::7").unwrap().len(), 2);
        assert_eq!(node_addresses("fd00::7").unwrap().len(), 1);
        for bad in ["192.0.2.7,192.0.2.8", "a", "", "192.0.2.7,fd00::7,fd00::8"] {
            assert!(node_addresses(bad).is_err(), "{bad}");
        }
    }
}
