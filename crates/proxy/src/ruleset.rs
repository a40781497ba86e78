//! The rules that are in force, and the transaction that leads from them to others.
//!
//! A table has a fixed frame, made at the start, and one [`Part`] for each Service. Changing a Service is a transaction
//! of just what differs between two parts, so its size does not depend on the number of other Services.

use crate::service::Family;
use service_watch::Key;
use std::collections::{BTreeMap, HashMap};

/// The name of our tables, one in the family `ip` and one in `ip6`.
pub(crate) const TABLE: &str = "steadfast-proxy";

/// The mark on packets whose source is to be replaced; the bit that kube-proxy uses, too.
const MASQUERADE: &str = "0x4000";

impl Family {
    /// As the rules call the header, and as nft calls the table's family.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// As nft calls the type of an address.
    pub(crate) fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }
}

/// The maps and sets of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Map {
    /// Addresses of Services: packets to them that no other rule wants are refused. A set.
    ClusterIps,
    /// Address, protocol and port to a chain.
    Services,
    /// Protocol and port of this machine to a chain.
    NodePorts,
    /// Address, protocol and port for which there is nobody.
    NoEndpointServices,
    /// Protocol and port of this machine for which there is nobody.
    NoEndpointNodePorts,
    /// Address, protocol and port that not everybody may reach.
    Firewall,
}

impl Map {
    const ALL: [Self; 6] = [
        Self::ClusterIps,
        Self::Services,
        Self::NodePorts,
        Self::NoEndpointServices,
        Self::NoEndpointNodePorts,
        Self::Firewall,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::Services => "service-ips",
            Self::NodePorts => "service-nodeports",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::Firewall => "firewall-ips",
        }
    }

    fn declaration(self, family: Family) -> String {
        let address = family.address_type();
        let name = self.name();
        match self {
            Self::ClusterIps => format!("set {name} {{ type {address}; }}"),
            Self::NodePorts | Self::NoEndpointNodePorts => {
                format!("map {name} {{ type inet_proto . inet_service : verdict; }}")
            }
            Self::Services | Self::NoEndpointServices | Self::Firewall => {
                format!("map {name} {{ type {address} . inet_proto . inet_service : verdict; }}")
            }
        }
    }
}

/// A key in one of the maps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    map: Map,
    key: String,
}

impl Element {
    pub(crate) fn new(map: Map, key: String) -> Self {
        Self { map, key }
    }

    /// The command's rest for adding or deleting this.
    fn text(&self, table: &str, verdict: &str) -> String {
        let Self { map, key } = self;
        let name = map.name();
        match verdict {
            "" => format!("element {table} {name} {{ {key} }}"),
            verdict => format!("element {table} {name} {{ {key} : {verdict} }}"),
        }
    }
}

/// What one Service adds to the frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Sets by name, with their declaration.
    pub(crate) sets: BTreeMap<String, String>,
    /// Chains by name, with their rules.
    pub(crate) chains: BTreeMap<String, Vec<String>>,
    /// Elements with what they lead to.
    pub(crate) elements: BTreeMap<Element, String>,
}

/// A client that stays with one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The set of the endpoint's clients.
    pub(crate) set: String,
    pub(crate) client: String,
    /// For how long clients of this set are remembered.
    pub(crate) timeout_s: u64,
    /// For how much longer this one is.
    pub(crate) expires_s: u64,
}

impl Remembered {
    fn command(&self, table: &str) -> String {
        let Self {
            set,
            client,
            timeout_s,
            expires_s,
        } = self;
        let expires = expires_s.clamp(&1, timeout_s);
        format!("add element {table} {set} {{ {client} timeout {timeout_s}s expires {expires}s }}\n")
    }
}

/// All parts of one family as they are in force.
#[derive(Clone, Debug)]
pub(crate) struct Ruleset {
    family: Family,
    parts: HashMap<Key, Part>,
    /// Who wants an element to lead where. Two Services may claim the same external address and port: the first by
    /// name has it, and the next gets it when the first gives it up.
    claims: HashMap<Element, BTreeMap<Key, String>>,
}

impl Ruleset {
    pub(crate) fn new(family: Family) -> Self {
        Self {
            family,
            parts: HashMap::new(),
            claims: HashMap::new(),
        }
    }

    /// There is nothing but the frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The commands that put this whole ruleset in the place of whatever is there. Clients that were remembered stay
    /// with their endpoints.
    pub(crate) fn whole(&self, remembered: &[Remembered]) -> String {
        let table = self.table();
        let mut transaction = Transaction::default();
        for part in self.parts.values() {
            transaction.replace_part(&table, &Part::default(), part);
        }
        for element in self.claims.keys() {
            transaction.replace_element(&table, element, None, self.verdict(element));
        }
        let mut text = format!("add table {table}\ndelete table {table}\n{}", frame(self.family));
        transaction.write(&mut text);
        for client in remembered {
            let timeout = format!(" timeout {}s;", client.timeout_s);
            let mut sets = self.parts.values().filter_map(|part| part.sets.get(&client.set));
            if sets.any(|declaration| declaration.contains(&timeout)) {
                text.push_str(&client.command(&table));
            }
        }
        text
    }

    /// Takes new parts over and returns the commands that make them true; empty if nothing changes.
    ///
    /// The part of a Service that is gone is an empty one.
    pub(crate) fn change(&mut self, changes: impl IntoIterator<Item = (Key, Part)>) -> String {
        let table = self.table();
        let mut transaction = Transaction::default();
        let mut verdicts: BTreeMap<Element, Option<String>> = BTreeMap::new();
        for (key, part) in changes {
            let before = self.parts.remove(&key).unwrap_or_default();
            if before == part {
                self.keep(key, part);
                continue;
            }
            for element in before.elements.keys().chain(part.elements.keys()) {
                if !verdicts.contains_key(element) {
                    verdicts.insert(element.clone(), self.verdict(element).map(str::to_owned));
                }
            }
            self.claim(&key, &before, &part);
            transaction.replace_part(&table, &before, &part);
            self.keep(key, part);
        }
        for (element, before) in &verdicts {
            transaction.replace_element(&table, element, before.as_deref(), self.verdict(element));
        }
        let mut text = String::new();
        transaction.write(&mut text);
        text
    }

    fn keep(&mut self, key: Key, part: Part) {
        if part != Part::default() {
            self.parts.insert(key, part);
        }
    }

    fn claim(&mut self, key: &Key, before: &Part, part: &Part) {
        for element in before
            .elements
            .keys()
            .filter(|element| !part.elements.contains_key(element))
        {
            if let Some(claims) = self.claims.get_mut(element) {
                claims.remove(key);
                if claims.is_empty() {
                    self.claims.remove(element);
                }
            }
        }
        for (element, verdict) in &part.elements {
            let claims = self.claims.entry(element.clone()).or_default();
            claims.insert(key.clone(), verdict.clone());
        }
    }

    /// Where an element leads.
    fn verdict(&self, element: &Element) -> Option<&str> {
        let claims = self.claims.get(element)?;
        claims.first_key_value().map(|(_, verdict)| verdict.as_str())
    }

    fn table(&self) -> String {
        table(self.family)
    }
}

/// The commands that remove our table of a family, whether it is there or not.
pub(crate) fn removal(family: Family) -> String {
    let table = table(family);
    format!("add table {table}\ndelete table {table}\n")
}

fn table(family: Family) -> String {
    format!("{} {TABLE}", family.header())
}

/// Commands in an order in which nothing is named before it is there or removed while it is named.
#[derive(Debug, Default)]
struct Transaction {
    made: Vec<String>,
    forgotten: Vec<String>,
    emptied: Vec<String>,
    filled: Vec<String>,
    learnt: Vec<String>,
    removed: Vec<String>,
}

impl Transaction {
    fn replace_part(&mut self, table: &str, before: &Part, after: &Part) {
        for (name, declaration) in &after.sets {
            match before.sets.get(name) {
                Some(known) if known == declaration => {}
                // What a set holds cannot outlive a change of its own kind.
                Some(_) => self.made.push(format!("flush set {table} {name}")),
                None => self.made.push(format!("add set {table} {name} {{ {declaration} }}")),
            }
        }
        for (name, rules) in &after.chains {
            match before.chains.get(name) {
                Some(known) if known == rules => continue,
                Some(_) => self.emptied.push(format!("flush chain {table} {name}")),
                None => self.made.push(format!("add chain {table} {name}")),
            }
            self.filled
                .extend(rules.iter().map(|rule| format!("add rule {table} {name} {rule}")));
        }
        for name in before.chains.keys().filter(|name| !after.chains.contains_key(*name)) {
            self.emptied.push(format!("flush chain {table} {name}"));
            self.removed.push(format!("delete chain {table} {name}"));
        }
        for name in before.sets.keys().filter(|name| !after.sets.contains_key(*name)) {
            self.removed.push(format!("delete set {table} {name}"));
        }
    }

    fn replace_element(&mut self, table: &str, element: &Element, before: Option<&str>, after: Option<&str>) {
        if before == after {
            return;
        }
        if let Some(verdict) = before {
            self.forgotten.push(format!("delete {}", element.text(table, verdict)));
        }
        if let Some(verdict) = after {
            self.learnt.push(format!("add {}", element.text(table, verdict)));
        }
    }

    fn write(&self, text: &mut String) {
        let commands = [
            &self.made,
            &self.forgotten,
            &self.emptied,
            &self.filled,
            &self.learnt,
            &self.removed,
        ];
        for command in commands.into_iter().flatten() {
            text.push_str(command);
            text.push('\n');
        }
    }
}

/// What is there without any Service: maps, hooks, and the chains that lead from one to the other.
fn frame(family: Family) -> String {
    let ip = family.header();
    let maps: String = Map::ALL
        .iter()
        .map(|map| format!("  {}\n", map.declaration(family)))
        .collect();
    let loopback = match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1",
    };
    let here = format!("fib daddr type local {ip} daddr != {loopback} meta l4proto . th dport");
    let there = format!("{ip} daddr . meta l4proto . th dport");
    let no_endpoint = format!(
        "    ct state new {there} vmap @no-endpoint-services\n    ct state new {here} vmap @no-endpoint-nodeports\n"
    );
    let refuse = "    ct state new jump cluster-ips-check\n";
    format!(
        "table {table} {{
  comment \"packets to Services; made by steadfast, replaced at its next start\"
{maps}
  chain mark-for-masquerade {{
    meta mark set meta mark | {MASQUERADE}
  }}
  chain reject-chain {{
    reject
  }}
  chain cluster-ips-check {{
    {ip} daddr @cluster-ips reject
  }}
  chain services {{
    {there} vmap @service-ips
    {here} vmap @service-nodeports
  }}
  chain firewall {{ type filter hook prerouting priority -110; policy accept;
    ct state new {there} vmap @firewall-ips
  }}
  chain filter-input {{ type filter hook input priority -110; policy accept;
{no_endpoint}  }}
  chain filter-forward {{ type filter hook forward priority -110; policy accept;
{no_endpoint}{refuse}  }}
  chain filter-output {{ type filter hook output priority -110; policy accept;
{no_endpoint}  }}
  chain filter-output-late {{ type filter hook output priority -90; policy accept;
{refuse}  }}
  chain nat-prerouting {{ type nat hook prerouting priority -100; policy accept;
    jump services
  }}
  chain nat-output {{ type nat hook output priority -100; policy accept;
    jump services
  }}
  chain nat-postrouting {{ type nat hook postrouting priority 100; policy accept;
    meta mark & {MASQUERADE} == 0 return
    meta mark set meta mark ^ {MASQUERADE}
    masquerade fully-random
  }}
}}
",
        table = table(family)
    )
}

#[cfg(test)]
mod tests;
