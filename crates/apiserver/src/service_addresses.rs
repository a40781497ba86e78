//! Cluster addresses and node ports of Services: each is held by one Service at a time.
//!
//! What a Service holds are keys in the store, written and removed in the transaction that writes the Service, so that
//! two Services never hold the same address and nothing leaks, whatever crashes when. Each cluster address is shown as an
//! IPAddress besides, which goes and comes in the same transactions; one that somebody else has made keeps its address
//! from being given out.

use crate::address_ranges;
use crate::admission;
use crate::clock;
use crate::commit::Change;
use crate::create::text;
use crate::names;
use crate::server::Server;
use crate::status::{Outcome, internal};
use crate::stored::Stored;
use api::error::{FieldError, FieldErrorType, Status};
use api::kinds::Kind;
use api::strategy;
use bytes::Bytes;
use ipnet::IpNet;
use rand::Rng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How many random picks are tried before the range is searched in order.
const RANDOM_PICKS: usize = 32;

const IP_KEYS: &str = "/registry/ranges/serviceips/";
const PORT_KEYS: &str = "/registry/ranges/servicenodeports/";

/// What a write of a Service takes and gives back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// Keys taken, with the error to give if the Service asked for just that one and it is held.
    taken: BTreeMap<String, Option<FieldError>>,
    released: BTreeSet<String>,
}

impl Claims {
    /// Everything that a Service holds is given back.
    pub(crate) fn release(kind: &Kind, object: &Value) -> Self {
        let released = if is_service(kind) {
            held(object)
        } else {
            BTreeSet::new()
        };
        Self {
            taken: BTreeMap::new(),
            released,
        }
    }

    /// Makes the claims part of a transaction.
    pub(crate) fn enter(&self, change: &mut Change, holder: &str) {
        for key in self.taken.keys() {
            change.require(key.clone(), 0);
            change.put(key.clone(), Bytes::from(holder.to_owned()), None);
            if let Some(ip) = key.strip_prefix(IP_KEYS) {
                let (key, address) = shown(ip, holder);
                change.require(key.clone(), 0);
                change.put(key, address, None);
            }
        }
        for key in &self.released {
            change.delete(key.clone());
            if let Some(ip) = key.strip_prefix(IP_KEYS) {
                change.delete(shown_key(ip));
            }
        }
    }

    /// Whether keys that turned out to be held were asked for by name: then the write fails, else it is tried again.
    pub(crate) fn refused(&self, kind: &Kind, name: &str, lost: &[&str]) -> Outcome<()> {
        let shown = |key: &str| key.strip_prefix(&shown_key("")).map(|ip| format!("{IP_KEYS}{ip}"));
        let asked_for = |key: &str| self.taken.get(shown(key).as_deref().unwrap_or(key))?.clone();
        let errors: Vec<FieldError> = lost.iter().filter_map(|key| asked_for(key)).collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Box::new(Status::invalid(kind, name, &errors)))
        }
    }
}

fn addresses() -> &'static Kind {
    admission::kind("networking.k8s.io", "ipaddresses")
}

fn shown_key(ip: &str) -> String {
    names::key(addresses(), "", ip)
}

/// The IPAddress of a Service: its key and its value. `holder` is the Service's namespace and name.
fn shown(ip: &str, holder: &str) -> (String, Bytes) {
    let (namespace, name) = holder.split_once('/').unwrap_or(("", holder));
    let family = ip.parse().map_or("IPv4", strategy::family);
    let labels = json!({"ipaddress.kubernetes.io/ip-family": family,
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    let address = json!({
        "metadata": {"name": ip, "uid": names::uid(), "creationTimestamp": clock::now_text(), "labels": labels},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    });
    (shown_key(ip), Stored::encode(addresses(), &address))
}

/// Shows the addresses of all Services that are not shown: those of a server that did not do so yet, and those whose
/// IPAddress somebody has deleted.
pub(crate) async fn show_all(server: &Server) -> Outcome<()> {
    let services = admission::kind("", "services");
    for kv in server.read_namespace(services, "").await? {
        let service = Stored::from(&kv).object(services)?;
        let holder = ["namespace", "name"].map(|field| service["metadata"][field].as_str().unwrap_or_default());
        let holder = holder.join("/");
        for ip in held(&service).iter().filter_map(|key| key.strip_prefix(IP_KEYS)) {
            let (key, address) = shown(ip, &holder);
            if server.read_key(key.clone()).await?.is_some() {
                continue;
            }
            let mut change = Change::default();
            // Only while the Service holds it.
            change.require(kv.key.to_string(), kv.mod_revision);
            change.require(key.clone(), 0);
            change.put(key, address, None);
            server.commit(&change).await?;
        }
    }
    Ok(())
}

pub(crate) fn is_service(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Service"
}

/// Gives a Service (new, or replacing `old`) the addresses and ports it needs and has not asked for by name. What it
/// keeps of `old` has been settled before (`api::strategy`).
pub(crate) async fn claim(server: &Server, kind: &Kind, service: &mut Value, old: Option<&Value>) -> Outcome<Claims> {
    if !is_service(kind) {
        return Ok(Claims::default());
    }
    let before = old.map(held).unwrap_or_default();
    let mut claims = Claims::default();
    cluster_ips(server, kind, service, old, &mut claims).await?;
    node_ports(server, kind, service, &before, &mut claims).await?;
    let after = held(service);
    claims.released = before.difference(&after).cloned().collect();
    Ok(claims)
}

/// The keys of what a Service holds.
fn held(service: &Value) -> BTreeSet<String> {
    let spec = &service["spec"];
    let mut keys: BTreeSet<String> = ports(spec)
        .filter_map(|port| port["nodePort"].as_u64())
        .map(port_key)
        .collect();
    keys.extend(
        spec["healthCheckNodePort"]
            .as_u64()
            .filter(|port| *port > 0)
            .map(port_key),
    );
    let listed = strategy::listed(service, "clusterIPs");
    let ips = text(&spec["clusterIP"])
        .into_iter()
        .chain(listed.iter().map(String::as_str));
    keys.extend(ips.filter_map(ip_key));
    keys.remove(&port_key(0));
    keys
}

/// One address has one key, however it is written.
fn ip_key(ip: &str) -> Option<String> {
    let address: IpAddr = ip.parse().ok()?;
    Some(format!("{IP_KEYS}{}", address.to_canonical()))
}

fn port_key(port: u64) -> String {
    format!("{PORT_KEYS}{port}")
}

fn ports(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["ports"].as_array().into_iter().flatten()
}

fn service_type(service: &Value) -> &str {
    text(&service["spec"]["type"]).unwrap_or("ClusterIP")
}

fn needs_node_ports(service: &Value) -> bool {
    match service_type(service) {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"] != json!(false),
        _ => false,
    }
}

/// Settles which families the Service has, and gives it an address of each.
async fn cluster_ips(
    server: &Server,
    kind: &Kind,
    service: &mut Value,
    old: Option<&Value>,
    claims: &mut Claims,
) -> Outcome<()> {
    let refused = |service: &Value, error: FieldError| {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        Box::new(Status::invalid(kind, name, &[error]))
    };
    let ranges = &server.config.service_cidrs;
    let offered: Vec<&str> = ranges.iter().map(|range| strategy::family(range.addr())).collect();
    let errors = strategy::settle_families(service, old, &offered);
    if !errors.is_empty() {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Box::new(Status::invalid(kind, name, &errors)));
    }
    let families = strategy::listed(service, "ipFamilies");
    let Some(first) = first_to_give(service, old, &families) else {
        return Ok(());
    };
    let mut ips = strategy::listed(service, "clusterIPs");
    ips.resize(families.len().max(ips.len()), String::new());
    for (index, family) in families.iter().enumerate().skip(first) {
        let range = ranges.iter().find(|range| strategy::family(range.addr()) == family);
        // Families that the cluster does not have were refused before.
        let Some(range) = range.copied() else { continue };
        let Some(key) = ip_key(&ips[index]) else {
            let ip = free_address(server, range).await?;
            claims.taken.insert(format!("{IP_KEYS}{ip}"), None);
            ips[index] = ip.to_string();
            continue;
        };
        let error = |why: &str| address_error(&ips, &ips[index], why);
        if !ips[index]
            .parse()
            .is_ok_and(|ip: IpAddr| range.contains(&ip.to_canonical()))
        {
            return Err(refused(
                service,
                error("the provided network does not match the current range"),
            ));
        }
        claims
            .taken
            .insert(key, Some(error("provided IP is already allocated")));
    }
    service["spec"]["clusterIP"] = json!(ips.first());
    service["spec"]["clusterIPs"] = json!(ips);
    Ok(())
}

/// From which of its families on a Service gets addresses; `None` if it needs none, or has what it is going to have.
fn first_to_give(service: &Value, old: Option<&Value>, families: &[String]) -> Option<usize> {
    if service_type(service) == "ExternalName" || strategy::is_headless(service) {
        return None;
    }
    match old {
        None => Some(0),
        Some(old) if service_type(old) == "ExternalName" => Some(0),
        Some(old) if strategy::is_headless(old) => None,
        Some(old) => {
            let had = strategy::listed(old, "ipFamilies").len();
            (had == 1 && families.len() == 2).then_some(1)
        }
    }
}

fn address_error(ips: &[String], ip: &str, why: &str) -> FieldError {
    FieldError {
        error: FieldErrorType::Invalid,
        field: "spec.clusterIPs".to_owned(),
        value: Some(json!(ips)),
        detail: format!("failed to allocate IP {ip}: {why}"),
    }
}

async fn node_ports(
    server: &Server,
    kind: &Kind,
    service: &mut Value,
    before: &BTreeSet<String>,
    claims: &mut Claims,
) -> Outcome<()> {
    if !needs_node_ports(service) {
        return Ok(());
    }
    let name = service["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let given: Vec<u64> = ports(&service["spec"])
        .map(|port| port["nodePort"].as_u64().unwrap_or(0))
        .collect();
    for (index, port) in given.iter().copied().enumerate() {
        if port == 0 || before.contains(&port_key(port)) {
            continue;
        }
        let range = &server.config.node_ports;
        if !u16::try_from(port).is_ok_and(|port| range.contains(&port)) {
            let (first, last) = (range.start(), range.end());
            let why = format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
            return Err(Box::new(Status::invalid(kind, &name, &[port_error(index, port, &why)])));
        }
        let error = port_error(index, port, "provided port is already allocated");
        claims.taken.insert(port_key(port), Some(error));
    }
    // Only now is it known which ports are asked for by number.
    for index in (0..given.len()).filter(|index| given[*index] == 0) {
        let port = free_port(server, claims).await?;
        claims.taken.insert(port_key(port.into()), None);
        service["spec"]["ports"][index]["nodePort"] = json!(port);
    }
    let local = service["spec"]["externalTrafficPolicy"] == "Local" && service_type(service) == "LoadBalancer";
    let health = service["spec"]["healthCheckNodePort"].as_u64().filter(|port| *port > 0);
    match health {
        None if local => {
            let port = free_port(server, claims).await?;
            claims.taken.insert(port_key(port.into()), None);
            service["spec"]["healthCheckNodePort"] = json!(port);
        }
        Some(port) if !before.contains(&port_key(port)) => {
            let mut error = port_error(0, port, "provided port is already allocated");
            error.field = "spec.healthCheckNodePort".to_owned();
            claims.taken.insert(port_key(port), Some(error));
        }
        _ => {}
    }
    Ok(())
}

fn port_error(index: usize, port: u64, why: &str) -> FieldError {
    FieldError {
        error: FieldErrorType::Invalid,
        field: format!("spec.ports[{index}].nodePort"),
        value: Some(json!(port)),
        detail: why.to_owned(),
    }
}

async fn free_address(server: &Server, range: IpNet) -> Outcome<IpAddr> {
    let (first, last) = address_ranges::bounds(range);
    let from = address_ranges::first_to_pick(range);
    let picks: Vec<u128> = {
        let mut rng = ambient::rng();
        (0..RANDOM_PICKS).map(|_| rng.random_range(from..=last)).collect()
    };
    for pick in picks.into_iter().chain(first..=last) {
        let ip = address_ranges::address(range, pick);
        // The addresses with a fixed meaning are free only until their Services are made at the first start.
        let reserved = server.config.dns_ips.contains(&ip) || pick == first;
        if reserved || server.read_key(format!("{IP_KEYS}{ip}")).await?.is_some() {
            continue;
        }
        if server.read_key(shown_key(&ip.to_string())).await?.is_none() {
            return Ok(ip);
        }
    }
    Err(internal(format!(
        "failed to allocate a serviceIP: range {range} is full"
    )))
}

async fn free_port(server: &Server, claims: &Claims) -> Outcome<u16> {
    let range = server.config.node_ports.clone();
    let picks: Vec<u16> = {
        let mut rng = ambient::rng();
        (0..RANDOM_PICKS).map(|_| rng.random_range(range.clone())).collect()
    };
    for port in picks.into_iter().chain(range) {
        let key = port_key(port.into());
        if !claims.taken.contains_key(&key) && server.read_key(key).await?.is_none() {
            return Ok(port);
        }
    }
    Err(internal("failed to allocate a nodePort: range is full"))
}
