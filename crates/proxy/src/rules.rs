//! What one Service needs of the packet filter. Pure: a Service and its endpoints in, chains and map elements out.
//!
//! The shape is that of upstream's nftables proxy: maps lead a packet's destination to the chain of a Service's port,
//! which leads it to the chain of one endpoint, which rewrites its destination.

use crate::ruleset::{Element, Map, Part};
use crate::service::{Endpoint, Family, Port, Service, Slice};
use crate::topology;
use service_watch::Key;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

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
type Target = (IpAddr, u16);

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
        let element = Element::new(Map::ClusterIps, address.to_string());
        part.elements.insert(element, String::new());
    }
    for port in &service.ports {
        let rules = PortRules {
            around,
            family,
            service,
            port,
            cluster_ips: &cluster_ips,
            id: id(key, port),
            targets: Targets::choose(around.zone.as_deref(), family, port, slices.clone()),
        };
        rules.add_to(&mut part);
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
struct Targets {
    /// On any node.
    all: BTreeSet<Target>,
    /// On this node.
    here: BTreeSet<Target>,
}

impl Targets {
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
    service: &'a Service,
    port: &'a Port,
    cluster_ips: &'a [IpAddr],
    id: String,
    targets: Targets,
}

impl PortRules<'_> {
    fn add_to(&self, part: &mut Part) {
        for target in self.targets.all.union(&self.targets.here) {
            self.add_endpoint(part, *target);
        }
        self.add_choice(part, "service", &self.targets.all);
        if self.service.is_internal_local || self.service.is_external_local {
            self.add_choice(part, "local", &self.targets.here);
        }
        self.add_internal(part);
        self.add_external(part);
    }

    /// The chain that leads to one endpoint.
    fn add_endpoint(&self, part: &mut Part, target: Target) {
        let (address, port) = target;
        let ip = self.ip();
        // A pod that is led back to itself must see somebody else as the sender, or it answers itself directly.
        let mut rules = vec![format!("{ip} saddr {address} jump mark-for-masquerade")];
        if let Some(seconds) = self.service.affinity_seconds {
            let set = self.affinity(target);
            rules.push(format!("update @{set} {{ {ip} saddr }}"));
            part.sets.insert(
                set,
                format!(
                    "type {}; flags dynamic,timeout; timeout {seconds}s;",
                    self.address_type()
                ),
            );
        }
        let to = match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        rules.push(format!("meta l4proto {} dnat to {to}", self.port.protocol.name()));
        part.chains.insert(self.endpoint(target), rules);
    }

    /// The chain that leads to one of several endpoints, each as often as the others.
    fn add_choice(&self, part: &mut Part, kind: &str, targets: &BTreeSet<Target>) {
        if targets.is_empty() {
            return;
        }
        let ip = self.ip();
        let mut rules = Vec::new();
        for address in self.cluster_ips {
            let to = format!(
                "{ip} daddr {address} {} dport {}",
                self.port.protocol.name(),
                self.port.port
            );
            if self.around.masquerade_all {
                rules.push(format!("{to} jump mark-for-masquerade"));
                continue;
            }
            let cidrs: Vec<&str> = self.pod_cidrs().collect();
            if !cidrs.is_empty() {
                let cidrs = cidrs.join(", ");
                rules.push(format!("{to} {ip} saddr != {{ {cidrs} }} jump mark-for-masquerade"));
            }
        }
        if self.service.affinity_seconds.is_some() {
            rules.extend(
                targets
                    .iter()
                    .map(|target| format!("{ip} saddr @{} goto {}", self.affinity(*target), self.endpoint(*target))),
            );
        }
        let choices = targets.iter().enumerate();
        let choices: Vec<String> = choices
            .map(|(i, target)| format!("{i} : goto {}", self.endpoint(*target)))
            .collect();
        rules.push(format!(
            "numgen random mod {} vmap {{ {} }}",
            targets.len(),
            choices.join(", ")
        ));
        part.chains.insert(self.chain(kind), rules);
    }

    /// Packets to the Service's own addresses.
    fn add_internal(&self, part: &mut Part) {
        let (kind, targets) = match self.service.is_internal_local {
            true => ("local", &self.targets.here),
            false => ("service", &self.targets.all),
        };
        for address in self.cluster_ips {
            let destination = self.destination(*address);
            let (map, verdict) = match targets.is_empty() {
                false => (Map::Services, format!("goto {}", self.chain(kind))),
                true if self.around.own.contains(address) => continue,
                true => (Map::NoEndpointServices, self.no_endpoint()),
            };
            part.elements.insert(Element::new(map, destination), verdict);
        }
    }

    /// Packets from outside: node port, external addresses, addresses of a load balancer.
    fn add_external(&self, part: &mut Part) {
        let of_family = |address: &&IpAddr| Family::of(**address) == self.family;
        let external: BTreeSet<IpAddr> = self.service.external_ips.iter().filter(of_family).copied().collect();
        let balancer: BTreeSet<IpAddr> = self.service.balancer_ips.iter().filter(of_family).copied().collect();
        let destinations: BTreeSet<String> = external
            .union(&balancer)
            .map(|address| self.destination(*address))
            .collect();
        let node_port = self
            .port
            .node_port
            .map(|port| format!("{} . {port}", self.port.protocol.name()));
        if destinations.is_empty() && node_port.is_none() {
            return;
        }
        let chosen = if self.service.is_external_local {
            &self.targets.here
        } else {
            &self.targets.all
        };
        let ways = [
            (
                Map::Services,
                Map::NoEndpointServices,
                destinations.into_iter().collect::<Vec<_>>(),
            ),
            (
                Map::NodePorts,
                Map::NoEndpointNodePorts,
                node_port.into_iter().collect(),
            ),
        ];
        for (map, none, keys) in ways {
            for key in keys {
                if chosen.is_empty() {
                    part.elements
                        .insert(Element::new(none, key.clone()), self.no_endpoint());
                }
                if !self.targets.all.is_empty() {
                    let verdict = format!("goto {}", self.chain("external"));
                    part.elements.insert(Element::new(map, key), verdict);
                }
            }
        }
        if !self.targets.all.is_empty() {
            part.chains.insert(self.chain("external"), self.external_rules());
        }
        self.add_firewall(part, &balancer);
    }

    fn external_rules(&self) -> Vec<String> {
        let (ip, all) = (self.ip(), self.chain("service"));
        if !self.service.is_external_local {
            return vec!["jump mark-for-masquerade".to_owned(), format!("goto {all}")];
        }
        // Pods and this machine are inside, by whatever address they come: for them the policy does not count.
        let mut rules: Vec<String> = Vec::new();
        let cidrs: Vec<&str> = self.pod_cidrs().collect();
        if !cidrs.is_empty() {
            rules.push(format!("{ip} saddr {{ {} }} goto {all}", cidrs.join(", ")));
        }
        rules.push("fib saddr type local jump mark-for-masquerade".to_owned());
        rules.push(format!("fib saddr type local goto {all}"));
        if !self.targets.here.is_empty() {
            rules.push(format!("goto {}", self.chain("local")));
        }
        rules
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
        let chain = self.chain("firewall");
        let rule = match sources.is_empty() {
            true => "drop".to_owned(),
            false => format!("{} saddr != {{ {} }} drop", self.ip(), sources.join(", ")),
        };
        part.chains.insert(chain.clone(), vec![rule]);
        for address in balancer {
            let element = Element::new(Map::Firewall, self.destination(*address));
            part.elements.insert(element, format!("goto {chain}"));
        }
    }

    /// Refused if there is no endpoint at all; dropped if there are some, but not for this packet.
    fn no_endpoint(&self) -> String {
        match self.targets.all.is_empty() {
            true => "goto reject-chain".to_owned(),
            false => "drop".to_owned(),
        }
    }

    fn destination(&self, address: IpAddr) -> String {
        format!("{address} . {} . {}", self.port.protocol.name(), self.port.port)
    }

    fn chain(&self, kind: &str) -> String {
        format!("{kind}-{}", self.id)
    }

    fn endpoint(&self, (address, port): Target) -> String {
        format!("endpoint-{}-{}/{port}", self.id, dotted(address))
    }

    fn affinity(&self, (address, port): Target) -> String {
        format!("affinity-{}-{}/{port}", self.id, dotted(address))
    }

    fn pod_cidrs(&self) -> impl Iterator<Item = &str> {
        let cidrs = self.around.pod_cidrs.iter();
        cidrs
            .filter(|(family, _)| *family == self.family)
            .map(|(_, cidr)| cidr.as_str())
    }

    /// How rules of this family name the header.
    fn ip(&self) -> &'static str {
        self.family.header()
    }

    fn address_type(&self) -> &'static str {
        self.family.address_type()
    }
}

/// An address as a part of a name, where colons may not be.
fn dotted(address: IpAddr) -> String {
    address.to_string().replace(':', ".")
}

#[cfg(test)]
mod tests;
