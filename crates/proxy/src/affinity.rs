//! What a Service with `sessionAffinity` needs beyond others: chains of its own and, for each endpoint, a set of the
//! clients that stay with it. Pure.

use crate::element::{Among, Lead};
use crate::rules::{Target, Targets};
use crate::ruleset::Part;
use crate::service::{Family, Protocol};
use crate::shape;
use std::net::IpAddr;

/// One port of such a Service.
#[derive(Debug)]
pub(crate) struct Affinity {
    pub(crate) family: Family,
    /// Tells the port's chains and sets from those of others.
    pub(crate) id: String,
    pub(crate) protocol: Protocol,
    /// For how long a client is remembered.
    pub(crate) seconds: u32,
}

impl Affinity {
    /// Where packets to the Service's own address go.
    pub(crate) fn inside(&self, part: &mut Part, among: Among, targets: &Targets) -> Lead {
        let choice = self.choice(part, among, targets);
        self.chain(part, "inside", shape::inside(choice))
    }

    /// Where packets from outside go.
    pub(crate) fn outside(&self, part: &mut Part, is_local: bool, targets: &Targets) -> Lead {
        let all = self.choice(part, Among::All, targets);
        let rules = match is_local {
            false => shape::outside(all),
            true => {
                let here = (!targets.here.is_empty()).then(|| self.choice(part, Among::Here, targets));
                shape::outside_local(self.family, &all, here)
            }
        };
        self.chain(part, "outside", rules)
    }

    fn chain(&self, part: &mut Part, kind: &str, rules: Vec<String>) -> Lead {
        let name = format!("{kind}-{}", self.id);
        part.chains.insert(name.clone(), rules);
        Lead::Chain(name.into())
    }

    /// Adds the chain that leads to the client's endpoint, or to one of several, each as often as the others; returns
    /// the end of a rule that leads there.
    fn choice(&self, part: &mut Part, among: Among, targets: &Targets) -> String {
        let (kind, targets) = match among {
            Among::All => ("all", &targets.all),
            Among::Here => ("here", &targets.here),
        };
        let ip = self.family.header();
        let known = |target: &Target| format!("{ip} saddr @{} goto {}", self.set(*target), self.endpoint(*target));
        let mut rules: Vec<String> = targets.iter().map(known).collect();
        let numbered = targets.iter().enumerate();
        let choices: Vec<String> = numbered
            .map(|(number, target)| format!("{number} : goto {}", self.endpoint(*target)))
            .collect();
        let (count, choices) = (targets.len(), choices.join(", "));
        rules.push(format!("numgen random mod {count} vmap {{ {choices} }}"));
        for target in targets {
            self.add_endpoint(part, *target);
        }
        let name = format!("choose-{kind}-{}", self.id);
        part.chains.insert(name.clone(), rules);
        format!("goto {name}")
    }

    /// The chain that leads to one endpoint and remembers who came.
    fn add_endpoint(&self, part: &mut Part, target: Target) {
        let (address, port) = target;
        let (ip, kind, seconds) = (self.family.header(), self.family.address_type(), self.seconds);
        let (set, protocol) = (self.set(target), self.protocol.name());
        let to = match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        let rules = vec![
            format!("update @{set} {{ {ip} saddr }}"),
            format!("meta l4proto {protocol} dnat to {to}"),
        ];
        part.chains.insert(self.endpoint(target), rules);
        let declaration = format!("type {kind}; flags dynamic,timeout; timeout {seconds}s;");
        part.sets.insert(set, declaration);
    }

    fn endpoint(&self, (address, port): Target) -> String {
        format!("endpoint-{}-{}/{port}", self.id, dotted(address))
    }

    fn set(&self, (address, port): Target) -> String {
        format!("affinity-{}-{}/{port}", self.id, dotted(address))
    }
}

/// An address as a part of a name, where colons may not be.
fn dotted(address: IpAddr) -> String {
    address.to_string().replace(':', ".")
}
