//! What of Services and EndpointSlices matters to packets.

use api::k8s::api::core::v1 as core;
use api::k8s::api::discovery::v1 as discovery;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How long a client is remembered if the Service does not say (seconds).
const AFFINITY_SECONDS: i32 = 10_800;

/// Labels of Services that are left alone, whatever their values: another proxy has them, or none.
const NOT_OURS: [&str; 2] = [
    "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/headless",
];

/// Which addresses a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn read(name: Option<&str>) -> Option<Self> {
        match name.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// As nftables writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
}

/// A Service that has addresses of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) cluster_ips: BTreeSet<IpAddr>,
    pub(crate) external_ips: BTreeSet<IpAddr>,
    pub(crate) balancer_ips: BTreeSet<IpAddr>,
    /// Who may reach the balancer's addresses, as CIDRs; empty: everybody.
    pub(crate) balancer_sources: Vec<String>,
    pub(crate) ports: Vec<Port>,
    /// For how many seconds a client stays with its endpoint.
    pub(crate) affinity_seconds: Option<u32>,
    /// Packets from within the cluster go to endpoints of this node only.
    pub(crate) is_internal_local: bool,
    /// Packets from outside go to endpoints of this node only, and keep their source.
    pub(crate) is_external_local: bool,
    /// Where a load balancer asks whether this node has endpoints.
    pub(crate) health_port: Option<u16>,
}

/// One endpoint of an EndpointSlice, with the state that decides whether it gets packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) is_ready: bool,
    /// It still answers although it is being shut down.
    pub(crate) is_leaving: bool,
    pub(crate) is_here: bool,
    /// Whether it is meant for this node; `None`: nobody said for which nodes it is meant.
    pub(crate) is_for_node: Option<bool>,
    /// The zones that it is meant for; `None`: nobody said.
    pub(crate) for_zones: Option<BTreeSet<String>>,
}

/// What of an EndpointSlice matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Name, protocol, number.
    pub(crate) ports: Vec<(String, Protocol, u16)>,
    pub(crate) endpoints: Vec<Endpoint>,
}

impl Service {
    /// Reads a Service; `None` if no packets are to be led anywhere for it: it is headless or stands for another name,
    /// it is left to another proxy or to none by its label, or it has no address yet.
    pub(crate) fn read(service: &core::Service) -> Option<Self> {
        let labels = service.metadata.labels.as_ref();
        if labels.is_some_and(|labels| NOT_OURS.iter().any(|label| labels.contains_key(*label))) {
            return None;
        }
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") || spec.cluster_ip.as_deref() == Some("None") {
            return None;
        }
        let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let cluster_ips: BTreeSet<IpAddr> = listed.filter_map(|address| address.parse().ok()).collect();
        if cluster_ips.is_empty() {
            return None;
        }
        let has_affinity = spec.session_affinity.as_deref() == Some("ClientIP");
        let seconds = spec
            .session_affinity_config
            .as_ref()
            .and_then(|config| config.client_ip.as_ref());
        let seconds = seconds
            .and_then(|config| config.timeout_seconds)
            .unwrap_or(AFFINITY_SECONDS);
        let is_external_local = spec.external_traffic_policy.as_deref() == Some("Local");
        Some(Self {
            cluster_ips,
            external_ips: addresses(spec.external_ips.iter().flatten()),
            balancer_ips: balancer_ips(service),
            balancer_sources: spec.load_balancer_source_ranges.clone().unwrap_or_default(),
            ports: spec.ports.iter().flatten().filter_map(Port::read).collect(),
            affinity_seconds: has_affinity.then(|| u32::try_from(seconds).unwrap_or_default()),
            is_internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            is_external_local,
            health_port: spec
                .health_check_node_port
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| *number != 0 && is_external_local && spec.type_.as_deref() == Some("LoadBalancer")),
        })
    }
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> BTreeSet<IpAddr> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// The addresses that a load balancer announced, unless it ends connections itself (`ipMode: Proxy`).
fn balancer_ips(service: &core::Service) -> BTreeSet<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status
        .into_iter()
        .flat_map(|balancer| balancer.ingress.iter().flatten());
    addresses(
        ingress
            .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|ingress| ingress.ip.as_ref()),
    )
}

impl Port {
    fn read(port: &core::ServicePort) -> Option<Self> {
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            protocol: Protocol::read(port.protocol.as_deref())?,
            port: u16::try_from(port.port).ok()?,
            node_port: port
                .node_port
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| *number != 0),
        })
    }
}

impl Slice {
    /// The port's number here.
    pub(crate) fn number_of(&self, port: &Port) -> Option<u16> {
        let is_it = |(name, protocol, _): &&(String, Protocol, u16)| *name == port.name && *protocol == port.protocol;
        self.ports.iter().find(is_it).map(|(_, _, number)| *number)
    }

    /// Reads an EndpointSlice as this node sees it.
    pub(crate) fn read(slice: &discovery::EndpointSlice, node_name: &str) -> Self {
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            let protocol = Protocol::read(port.protocol.as_deref())?;
            Some((port.name.clone().unwrap_or_default(), protocol, number))
        });
        Self {
            ports: ports.collect(),
            endpoints: slice
                .endpoints
                .iter()
                .flatten()
                .filter_map(|endpoint| Endpoint::read(endpoint, node_name))
                .collect(),
        }
    }
}

impl Endpoint {
    /// `None` if it never gets packets. An unknown state counts as ready, as the API says.
    fn read(endpoint: &discovery::Endpoint, node_name: &str) -> Option<Self> {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let is_ready = conditions.ready.unwrap_or(true);
        let is_leaving = conditions.serving.unwrap_or(is_ready) && conditions.terminating.unwrap_or(false);
        // All addresses of an endpoint stand for the same pod; consumers use the first.
        let address = endpoint.addresses.first()?.parse().ok()?;
        let hints = endpoint.hints.as_ref();
        let for_nodes = hints
            .and_then(|hints| hints.for_nodes.as_ref())
            .filter(|nodes| !nodes.is_empty());
        let for_zones = hints
            .and_then(|hints| hints.for_zones.as_ref())
            .filter(|zones| !zones.is_empty());
        (is_ready || is_leaving).then(|| Self {
            address,
            is_ready,
            is_leaving,
            is_here: endpoint.node_name.as_deref() == Some(node_name),
            is_for_node: for_nodes.map(|nodes| nodes.iter().any(|node| node.name == node_name)),
            for_zones: for_zones.map(|zones| zones.iter().map(|zone| zone.name.clone()).collect()),
        })
    }
}
