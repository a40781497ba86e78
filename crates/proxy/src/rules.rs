//! What one Service needs of the packet filter. Pure: a Service and its endpoints in, map elements out.
//!
//! A map leads a packet's destination to a chain that is shared by all Services with as many endpoints (`shape`), and
//! that finds one of them in another map. Only Services that remember their clients (`affinity`), or that not everybody
//! may reach, have chains of their own.

use crate::affinity::Affinity;
use crate::element::{Among, Destination, Element, Lead};
use crate::ruleset::Part;
use crate::service::{Endpoint, Family, Port, Service, Slice};
use crate::shape::{Kind, Shape};
use crate::topology;
use service_watch::Key;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// nftables takes names of up to 127 characters; the rest is for our prefixes and an endpoint's address.
const ID_MAX: usize = 60;

/// What is the same for all Services.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Where pods are, as CIDRs; packets from elsewhere to a Service's own address come back through this machine.
    pub(crate) pod_cidrs: Vec<(Family, String)>,
    /// Addresses of Services that this machine itself answers on: led to endpoints where there are some, else left
    /// alone.
    pub(crate) own: BTreeSet<IpAddr>,
    /// The pod network does not lead replies between pods through this machine, so every packet's source is replaced.
    pub(crate) masquerade_all: bool,
    /// The zone that this node is in, if it has a label that says so.
    pub(crate) zone: Option<String>,
}

/// An endpoint's address and port.
pub(crate) type Target = (IpAddr, u16);

/// What one Service needs, for the addresses of one family.
pub(crate) fn of_service<'a>(
    around: &Surroundings,
    family: Family,
    key: &Key,
    service: &Service,
    slices: impl IntoIterator<Item = &'a Slice> + Clone,
) -> Part {
    let mut part = Part::default();
    let of_family = service
        .cluster_ips
        .iter()
        .filter(|address| Family::of(**address) == family);
    let cluster_ips: Vec<IpAddr> = of_family.copied().collect();
    for address in cluster_ips.iter().filter(|address| !around.own.contains(*address)) {
        part.elements.insert(Element::ClusterIp(*address), Lead::Nowhere);
    }
    for port in &service.ports {
        let rules = PortRules {
            around,
            family,
            key,
            service,
            port,
            targets: Targets::choose(around.zone.as_deref(), family, port, slices.clone()),
        };
        rules.add_to(&mut part, &cluster_ips);
    }
    part
}

/// A short name that is unique, then as much of the long one as fits, for people.
fn id(key: &Key, port: &Port) -> String {
    let protocol = port.protocol.name();
    let long = format!("{}/{}/{protocol}/{}", key.namespace, key.name, port.name);
    let digest = Sha256::digest(long.as_bytes());
    let short: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("{short}-{long}").chars().take(ID_MAX).collect()
}

/// Who gets the packets of one port.
#[derive(Debug)]
pub(crate) struct Targets {
    /// On any node.
    pub(crate) all: BTreeSet<Target>,
    /// On this node.
    pub(crate) here: BTreeSet<Target>,
}

impl Targets {
    fn of(&self, among: Among) -> &BTreeSet<Target> {
        match among {
            Among::All => &self.all,
            Among::Here => &self.here,
        }
    }

    /// The ready endpoints; if there are none, those that still answer while they are shut down.
    fn choose<'a>(
        zone: Option<&str>,
        family: Family,
        port: &Port,
        slices: impl IntoIterator<Item = &'a Slice>,
    ) -> Self {
        let mut candidates: BTreeMap<Target, Endpoint> = BTreeMap::new();
        for slice in slices {
            let Some(number) = slice.number_of(port) else { continue };
            for endpoint in slice
                .endpoints
                .iter()
                .filter(|endpoint| Family::of(endpoint.address) == family)
            {
                let target = (endpoint.address, number);
                // Two slices may name one pod while it moves from one to the other: the better state counts.
                let known = candidates.entry(target).or_insert_with(|| endpoint.clone());
                if endpoint.is_ready {
                    *known = endpoint.clone();
                }
            }
        }
        let near = topology::near(zone, candidates.values());
        Self {
            all: usable(candidates.iter().filter(|(_, endpoint)| near.takes(endpoint))),
            here: usable(candidates.iter().filter(|(_, endpoint)| endpoint.is_here)),
        }
    }
}

fn usable<'a>(candidates: impl Iterator<Item = (&'a Target, &'a Endpoint)> + Clone) -> BTreeSet<Target> {
    let of = |wanted: fn(&Endpoint) -> bool| {
        let chosen = candidates.clone().filter(move |(_, endpoint)| wanted(endpoint));
        chosen.map(|(target, _)| *target).collect::<BTreeSet<_>>()
    };
    let ready = of(|endpoint| endpoint.is_ready);
    if ready.is_empty() {
        of(|endpoint| endpoint.is_leaving)
    } else {
        ready
    }
}

/// One port of a Service, on its way into a [`Part`].
struct PortRules<'a> {
    around: &'a Surroundings,
    family: Family,
    key: &'a Key,
    service: &'a Service,
    port: &'a Port,
    targets: Targets,
}

impl PortRules<'_> {
    fn add_to(&self, part: &mut Part, cluster_ips: &[IpAddr]) {
        for (address, _) in self.targets.all.union(&self.targets.here) {
            part.elements.insert(Element::Hairpin(*address), Lead::Nowhere);
        }
        self.add_internal(part, cluster_ips);
        self.add_external(part);
    }

    /// Packets to the Service's own addresses.
    fn add_internal(&self, part: &mut Part, cluster_ips: &[IpAddr]) {
        let among = match self.service.is_internal_local {
            true => Among::Here,
            false => Among::All,
        };
        let targets = self.targets.of(among);
        for address in cluster_ips {
            let to = self.to(Some(*address));
            if targets.is_empty() {
                if !self.around.own.contains(address) {
                    part.elements.insert(Element::NoEndpoint(to), self.no_endpoint());
                }
                continue;
            }
            let lead = if let Some(affinity) = self.affinity() {
                affinity.inside(part, among, &self.targets)
            } else {
                number(part, Among::All, to, targets);
                self.shape(Kind::Inside, targets.len())
            };
            part.elements.insert(Element::Service(to), lead);
        }
    }

    /// Packets from outside: node port, external addresses, addresses of a load balancer.
    fn add_external(&self, part: &mut Part) {
        let of_family = |address: &&IpAddr| Family::of(**address) == self.family;
        let external = self.service.external_ips.iter().filter(of_family);
        let balancer: BTreeSet<IpAddr> = self.service.balancer_ips.iter().filter(of_family).copied().collect();
        let addresses: BTreeSet<IpAddr> = external.copied().chain(balancer.iter().copied()).collect();
        for address in addresses {
            self.add_outside(part, self.to(Some(address)));
        }
        if let Some(port) = self.port.node_port {
            let to = Destination { port, ..self.to(None) };
            self.add_outside(part, to);
        }
        self.add_firewall(part, &balancer);
    }

    fn add_outside(&self, part: &mut Part, to: Destination) {
        let way = to.way();
        let is_local = self.service.is_external_local;
        let chosen = match is_local {
            true => &self.targets.here,
            false => &self.targets.all,
        };
        if chosen.is_empty() {
            part.elements.insert(Element::NoEndpoint(to), self.no_endpoint());
        }
        if self.targets.all.is_empty() {
            return;
        }
        let lead = if let Some(affinity) = self.affinity() {
            affinity.outside(part, is_local, &self.targets)
        } else {
            number(part, Among::All, to, &self.targets.all);
            if is_local {
                number(part, Among::Here, to, &self.targets.here);
            }
            let (all, here) = (self.targets.all.len(), self.targets.here.len());
            match is_local {
                true => self.shape(Kind::OutsideLocal(way, here), all),
                false => self.shape(Kind::Outside(way), all),
            }
        };
        part.elements.insert(Element::Service(to), lead);
    }

    /// Only some may reach the addresses of the load balancer.
    fn add_firewall(&self, part: &mut Part, balancer: &BTreeSet<IpAddr>) {
        let sources = self.service.balancer_sources.iter().map(|source| source.trim());
        let sources: Vec<&str> = sources
            .filter(|source| source.contains(':') == (self.family == Family::V6))
            .collect();
        if balancer.is_empty() || self.service.balancer_sources.is_empty() {
            return;
        }
        let chain = format!("firewall-{}", id(self.key, self.port));
        let rule = match sources.is_empty() {
            true => "drop".to_owned(),
            false => format!("{} saddr != {{ {} }} drop", self.family.header(), sources.join(", ")),
        };
        part.chains.insert(chain.clone(), vec![rule]);
        let chain: Arc<str> = chain.into();
        for address in balancer {
            let element = Element::Firewall(self.to(Some(*address)));
            part.elements.insert(element, Lead::Chain(chain.clone()));
        }
    }

    /// Refused if there is no endpoint at all; dropped if there are some, but not for this packet.
    fn no_endpoint(&self) -> Lead {
        match self.targets.all.is_empty() {
            true => Lead::Reject,
            false => Lead::Drop,
        }
    }

    fn shape(&self, kind: Kind, all: usize) -> Lead {
        let protocol = self.port.protocol;
        Lead::Shape(Shape { kind, protocol, all })
    }

    fn to(&self, address: Option<IpAddr>) -> Destination {
        Destination {
            address,
            protocol: self.port.protocol,
            port: self.port.port,
        }
    }

    fn affinity(&self) -> Option<Affinity> {
        Some(Affinity {
            family: self.family,
            id: id(self.key, self.port),
            protocol: self.port.protocol,
            seconds: self.service.affinity_seconds?,
        })
    }
}

/// Gives each endpoint behind a destination a number, by which it is found.
fn number(part: &mut Part, among: Among, to: Destination, targets: &BTreeSet<Target>) {
    for (number, (address, port)) in targets.iter().enumerate() {
        let element = Element::Endpoint(among, to, number);
        part.elements.insert(element, Lead::Place(*address, *port));
    }
}

#[cfg(test)]
mod tests;
