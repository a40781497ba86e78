//! Which names a Service gives. Kubernetes DNS specification 1.1.
//!
//! Pure: objects in, records out. Must not know of the DNS wire format.

use api::k8s::api::core::v1 as core;
use api::k8s::api::discovery::v1 as discovery;
use service_watch::Key;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The version of the specification that the records follow.
const SCHEMA_VERSION: &str = "1.1.0";

/// What a name leads to. Names are in lower case and without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Alias(String),
    /// SRV.
    Port { port: u16, target: String },
    /// PTR.
    Pointer(String),
    /// TXT.
    Text(String),
}

/// One name with one thing it leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) data: Data,
}

/// A named port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    name: String,
    protocol: String,
    number: u16,
}

/// What of a Service matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// It has addresses of its own.
    Cluster { addresses: Vec<IpAddr>, ports: Vec<Port> },
    /// Its name leads to its endpoints.
    Headless,
    /// Its name stands for another one.
    External(String),
}

/// What of an EndpointSlice matters here: its ready endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    ports: Vec<Port>,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    hostname: Option<String>,
    addresses: Vec<IpAddr>,
}

impl Service {
    /// Reads a Service; `None` if it gives no names (yet).
    pub(crate) fn read(service: &core::Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            let external = spec
                .external_name
                .as_deref()?
                .trim_end_matches('.')
                .to_ascii_lowercase();
            return (!external.is_empty()).then_some(Self::External(external));
        }
        if spec.cluster_ip.as_deref() == Some("None") {
            return Some(Self::Headless);
        }
        let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let addresses: BTreeSet<IpAddr> = listed.filter_map(|address| address.parse().ok()).collect();
        let ports = spec.ports.iter().flatten();
        let ports =
            ports.filter_map(|port| Port::read(port.name.as_deref(), port.protocol.as_deref(), Some(port.port)));
        Some(Self::Cluster {
            addresses: addresses.into_iter().collect(),
            ports: ports.collect(),
        })
    }
}

impl Slice {
    /// Reads an EndpointSlice.
    pub(crate) fn read(slice: &discovery::EndpointSlice) -> Self {
        let ports = slice.ports.iter().flatten();
        let ports = ports.filter_map(|port| Port::read(port.name.as_deref(), port.protocol.as_deref(), port.port));
        Self {
            ports: ports.collect(),
            endpoints: slice.endpoints.iter().flatten().filter_map(Endpoint::read).collect(),
        }
    }
}

impl Endpoint {
    /// `None` if it is not ready. An unknown state counts as ready, as the API says.
    fn read(endpoint: &discovery::Endpoint) -> Option<Self> {
        let is_ready = endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true);
        is_ready.then(|| Self {
            hostname: endpoint
                .hostname
                .as_ref()
                .filter(|name| !name.is_empty())
                .map(|name| name.to_ascii_lowercase()),
            addresses: endpoint
                .addresses
                .iter()
                .filter_map(|address| address.parse().ok())
                .collect(),
        })
    }
}

impl Port {
    /// `None` for a port without a name or number: it has no SRV record.
    fn read(name: Option<&str>, protocol: Option<&str>, number: Option<i32>) -> Option<Self> {
        Some(Self {
            name: name.filter(|name| !name.is_empty())?.to_ascii_lowercase(),
            protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
            number: u16::try_from(number?).ok()?,
        })
    }
}

/// The records of one Service, each once, in order.
pub(crate) fn of_service<'a>(
    domain: &str,
    key: &Key,
    service: &Service,
    slices: impl IntoIterator<Item = &'a Slice>,
) -> Vec<Record> {
    let name = format!("{}.{}.svc.{domain}", key.name, key.namespace);
    let mut records = BTreeSet::new();
    match service {
        Service::Cluster { addresses, ports } => of_cluster(&name, addresses, ports, &mut records),
        Service::Headless => slices
            .into_iter()
            .for_each(|slice| of_slice(&name, slice, &mut records)),
        Service::External(external) => drop(records.insert(Record {
            name,
            data: Data::Alias(external.clone()),
        })),
    }
    records.into_iter().collect()
}

/// Section 2.3.
fn of_cluster(name: &str, addresses: &[IpAddr], ports: &[Port], records: &mut BTreeSet<Record>) {
    for address in addresses {
        records.insert(Record {
            name: name.to_owned(),
            data: Data::Address(*address),
        });
        records.insert(Record {
            name: reverse(*address),
            data: Data::Pointer(name.to_owned()),
        });
    }
    if !addresses.is_empty() {
        records.extend(ports.iter().map(|port| port.record(name, name)));
    }
}

/// Section 2.4.
fn of_slice(name: &str, slice: &Slice, records: &mut BTreeSet<Record>) {
    for endpoint in &slice.endpoints {
        for address in &endpoint.addresses {
            let own = match &endpoint.hostname {
                Some(hostname) => format!("{hostname}.{name}"),
                None => format!("{}.{name}", dashed(*address)),
            };
            records.insert(Record {
                name: name.to_owned(),
                data: Data::Address(*address),
            });
            records.extend(slice.ports.iter().map(|port| port.record(name, &own)));
            records.insert(Record {
                name: reverse(*address),
                data: Data::Pointer(own.clone()),
            });
            records.insert(Record {
                name: own,
                data: Data::Address(*address),
            });
        }
    }
}

impl Port {
    fn record(&self, service: &str, target: &str) -> Record {
        Record {
            name: format!("_{}._{}.{service}", self.name, self.protocol),
            data: Data::Port {
                port: self.number,
                target: target.to_owned(),
            },
        }
    }
}

/// The records that are there without any Service.
pub(crate) fn of_domain(domain: &str, servers: &[IpAddr]) -> Vec<Record> {
    let version = Record {
        name: format!("dns-version.{domain}"),
        data: Data::Text(SCHEMA_VERSION.to_owned()),
    };
    let servers = servers.iter().map(|address| Record {
        name: server_name(domain),
        data: Data::Address(*address),
    });
    servers.chain([version]).collect()
}

/// The name of the server itself, for SOA and NS records.
pub(crate) fn server_name(domain: &str) -> String {
    format!("ns.dns.{domain}")
}

/// The address in a pod's name such as `10-244-0-5.default.pod.cluster.local` (section 2.6), which is its own proof.
pub(crate) fn pod_address(domain: &str, name: &str) -> Option<IpAddr> {
    let rest = name.strip_suffix(domain)?.strip_suffix(".pod.")?;
    let (address, namespace) = rest.split_once('.')?;
    if namespace.is_empty() || namespace.contains('.') {
        return None;
    }
    let v4 = address.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
    let v6 = || address.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from);
    v4.or_else(|_| v6()).ok()
}

/// An address as one label.
fn dashed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string().replace('.', "-"),
        // All eight groups: the short form could begin or end with a dash, which no label may.
        IpAddr::V6(address) => address.segments().map(|group| format!("{group:x}")).join("-"),
    }
}

/// The name under which an address is looked up backwards.
pub(crate) fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let nibbles = octets.iter().rev().flat_map(|octet| [octet & 0xf, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests;
