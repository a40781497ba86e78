//! The chains that Services share. Pure.
//!
//! How a packet is led to one of three endpoints is the same for every Service that has three: where these are stands
//! in a map, by the packet's destination and a random number. So there are as many chains as there are different
//! numbers of endpoints, not as there are Services, and a change of a Service is one of a few elements of maps. (The
//! kernel goes through all anonymous sets of a table for each new one, and `nft` reads all chains at each start: a chain
//! for each Service and endpoint makes a table of 10,000 Services one of minutes.)

use crate::element::{Among, Map, Way};
use crate::service::{Family, Protocol};
use std::fmt;

/// What the chain does, and among how many endpoints it chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) protocol: Protocol,
    /// How many endpoints there are.
    pub(crate) all: usize,
}

/// What the chain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// For packets to the Service's own address.
    Inside,
    /// For packets from outside.
    Outside(Way),
    /// For packets from outside that are to stay on this node, which has so many endpoints, and keep their source.
    OutsideLocal(Way, usize),
}

/// The chain's name.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Inside => "inside",
            Kind::Outside(Way::Address) => "outside",
            Kind::Outside(Way::NodePort) => "nodeport",
            Kind::OutsideLocal(Way::Address, _) => "outside-local",
            Kind::OutsideLocal(Way::NodePort, _) => "nodeport-local",
        };
        write!(f, "{kind}-{}-{}", self.protocol.name(), self.all)?;
        match self.kind {
            Kind::OutsideLocal(_, here) => write!(f, "-{here}"),
            _ => Ok(()),
        }
    }
}

impl Shape {
    /// The chain's rules.
    pub(crate) fn rules(self, family: Family) -> Vec<String> {
        let choice = |way, among, count| choice(family, way, self.protocol, among, count);
        match self.kind {
            Kind::Inside => inside(choice(Way::Address, Among::All, self.all)),
            Kind::Outside(way) => outside(choice(way, Among::All, self.all)),
            Kind::OutsideLocal(way, here) => {
                let here = (here > 0).then(|| choice(way, Among::Here, here));
                outside_local(family, &choice(way, Among::All, self.all), here)
            }
        }
    }
}

/// The end of a rule that leads to one of `count` endpoints, each as often as the others.
fn choice(family: Family, way: Way, protocol: Protocol, among: Among, count: usize) -> String {
    let map = Map::Endpoints(way, protocol, among).name();
    let (ip, protocol) = (family.header(), protocol.name());
    let address = match way {
        Way::Address => format!("{ip} daddr . "),
        Way::NodePort => String::new(),
    };
    format!("dnat {ip} to {address}{protocol} dport . numgen random mod {count} map @{map}")
}

/// The rules for packets to the Service's own address; `choice` is the end of a rule.
pub(crate) fn inside(choice: String) -> Vec<String> {
    vec!["jump mark-strangers".to_owned(), choice]
}

/// The rules for packets from outside.
pub(crate) fn outside(choice: String) -> Vec<String> {
    vec!["jump mark-for-masquerade".to_owned(), choice]
}

/// The rules for packets from outside that are to stay on this node. Pods and this machine are inside, by whatever
/// address they come: for them the policy does not count.
pub(crate) fn outside_local(family: Family, all: &str, here: Option<String>) -> Vec<String> {
    let mut rules = vec![
        format!("{} saddr @pods {all}", family.header()),
        "fib saddr type local jump mark-for-masquerade".to_owned(),
        format!("fib saddr type local {all}"),
    ];
    rules.extend(here);
    rules
}
