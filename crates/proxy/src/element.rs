//! What is in the maps and sets of a table: where packets are sent, and what that leads to. Pure.

use crate::service::{Family, Protocol};
use crate::shape::Shape;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Where packets to a Service are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Destination {
    /// `None`: any address of this machine.
    pub(crate) address: Option<IpAddr>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// By what packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Way {
    /// An address of the Service.
    Address,
    /// A port of this machine.
    NodePort,
}

impl Destination {
    pub(crate) fn way(&self) -> Way {
        match self.address {
            Some(_) => Way::Address,
            None => Way::NodePort,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{address} . ")?;
        }
        write!(f, "{} . {}", self.protocol.name(), self.port)
    }
}

/// The endpoints among which one is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Among {
    /// Those that get the packets in general.
    All,
    /// Those of this node, where packets from outside must not leave it.
    Here,
}

/// A key in one of the maps or sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Element {
    /// An address of Services: packets to it that no other rule wants are refused.
    ClusterIp(IpAddr),
    /// The address of an endpoint: packets that are led from it to itself need another sender.
    Hairpin(IpAddr),
    /// Leads to a chain.
    Service(Destination),
    /// Here is nobody.
    NoEndpoint(Destination),
    /// Not everybody may come here.
    Firewall(Destination),
    /// The endpoint of this number.
    Endpoint(Among, Destination, usize),
}

impl Element {
    pub(crate) fn map(&self) -> Map {
        match self {
            Self::ClusterIp(_) => Map::ClusterIps,
            Self::Hairpin(_) => Map::Hairpins,
            Self::Service(to) if to.address.is_some() => Map::Services,
            Self::Service(_) => Map::NodePorts,
            Self::NoEndpoint(to) if to.address.is_some() => Map::NoEndpointServices,
            Self::NoEndpoint(_) => Map::NoEndpointNodePorts,
            Self::Firewall(_) => Map::Firewall,
            Self::Endpoint(among, to, _) => Map::Endpoints(to.way(), to.protocol, *among),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIp(address) => write!(f, "{address}"),
            Self::Hairpin(address) => write!(f, "{address} . {address}"),
            Self::Service(to) | Self::NoEndpoint(to) | Self::Firewall(to) => write!(f, "{to}"),
            Self::Endpoint(_, to, number) => {
                if let Some(address) = to.address {
                    write!(f, "{address} . ")?;
                }
                write!(f, "{} . {number}", to.port)
            }
        }
    }
}

/// What an element leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// It is there, and that is all.
    Nowhere,
    /// A chain that Services share.
    Shape(Shape),
    /// A chain of the Service's own.
    Chain(Arc<str>),
    Reject,
    Drop,
    /// An endpoint.
    Place(IpAddr, u16),
}

impl fmt::Display for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => Ok(()),
            Self::Shape(shape) => write!(f, " : goto {shape}"),
            Self::Chain(name) => write!(f, " : goto {name}"),
            Self::Reject => f.write_str(" : goto reject-chain"),
            Self::Drop => f.write_str(" : drop"),
            Self::Place(address, port) => write!(f, " : {address} . {port}"),
        }
    }
}

/// The maps and sets of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Map {
    ClusterIps,
    Hairpins,
    Services,
    NodePorts,
    NoEndpointServices,
    NoEndpointNodePorts,
    Firewall,
    Endpoints(Way, Protocol, Among),
}

impl Map {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let fixed = [
            Self::ClusterIps,
            Self::Hairpins,
            Self::Services,
            Self::NodePorts,
            Self::NoEndpointServices,
            Self::NoEndpointNodePorts,
            Self::Firewall,
        ];
        let kinds = [Way::Address, Way::NodePort].into_iter().flat_map(|way| {
            let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter();
            protocols.map(move |protocol| (way, protocol))
        });
        let endpoints = kinds
            .flat_map(|(way, protocol)| [Among::All, Among::Here].map(|among| Self::Endpoints(way, protocol, among)));
        fixed.into_iter().chain(endpoints)
    }

    pub(crate) fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::ClusterIps => "cluster-ips",
            Self::Hairpins => "hairpins",
            Self::Services => "service-ips",
            Self::NodePorts => "service-nodeports",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::Firewall => "firewall-ips",
            Self::Endpoints(way, protocol, among) => {
                let way = match way {
                    Way::Address => "",
                    Way::NodePort => "nodeport-",
                };
                let here = match among {
                    Among::All => "",
                    Among::Here => "-here",
                };
                return Cow::Owned(format!("{way}endpoints-{}{here}", protocol.name()));
            }
        })
    }

    pub(crate) fn declaration(self, family: Family) -> String {
        let (ip, address, name) = (family.header(), family.address_type(), self.name());
        match self {
            Self::ClusterIps => format!("set {name} {{ type {address}; }}"),
            Self::Hairpins => format!("set {name} {{ type {address} . {address}; }}"),
            Self::NodePorts | Self::NoEndpointNodePorts => {
                format!("map {name} {{ type inet_proto . inet_service : verdict; }}")
            }
            Self::Services | Self::NoEndpointServices | Self::Firewall => {
                format!("map {name} {{ type {address} . inet_proto . inet_service : verdict; }}")
            }
            Self::Endpoints(way, protocol, _) => {
                // There is no word for the type of a random number, so these are declared by what looks them up. (One
                // map for all protocols would need `th dport`, which nft 1.0.6 does not take from a map that is
                // already in the kernel.)
                let protocol = protocol.name();
                let address = match way {
                    Way::Address => format!("{ip} daddr . "),
                    Way::NodePort => String::new(),
                };
                let key = format!("{address}{protocol} dport . numgen random mod 2");
                format!("map {name} {{ typeof {key} : {ip} daddr . {protocol} dport; }}")
            }
        }
    }
}
