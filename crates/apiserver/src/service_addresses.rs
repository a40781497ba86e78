//! Cluster addresses and node ports of Services: each is held by one Service at a time.
//!
//! What a Service holds are keys in the store, written and removed in the transaction that writes the Service, so that
//! two Services never hold the same address and nothing leaks, whatever crashes when. Each cluster address is shown as an
//! IPAddress besides, which goes and comes in the same transactions; one that somebody else has made keeps its address
//! from being given out.

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
use bytes::Bytes;
use rand::Rng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// How many random picks are tried before the range is searched in order.
const RANDOM_PICKS: usize = 32;

/// The first addresses of the range are left to those who ask for one by name.
const STATIC_BAND: u32 = 256;

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
    let labels = json!({"ipaddress.kubernetes.io/ip-family": "IPv4",
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

fn is_service(kind: &Kind) -> bool {
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
    cluster_ip(server, kind, service, &before, &mut claims).await?;
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
    keys.extend(
        text(&spec["clusterIP"])
            .filter(|ip| *ip != "None")
            .map(|ip| format!("{IP_KEYS}{ip}")),
    );
    keys.remove(&port_key(0));
    keys
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

fn needs_cluster_ip(service: &Value) -> bool {
    service_type(service) != "ExternalName"
}

fn needs_node_ports(service: &Value) -> bool {
    match service_type(service) {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"] != json!(false),
        _ => false,
    }
}

async fn cluster_ip(
    server: &Server,
    kind: &Kind,
    service: &mut Value,
    before: &BTreeSet<String>,
    claims: &mut Claims,
) -> Outcome<()> {
    if !needs_cluster_ip(service) {
        return Ok(());
    }
    let name = service["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let spec = &mut service["spec"];
    let given = text(&spec["clusterIP"])
        .or_else(|| text(&spec["clusterIPs"][0]))
        .map(str::to_owned);
    let chosen = match &given {
        Some(ip) if ip == "None" || before.contains(&format!("{IP_KEYS}{ip}")) => ip.clone(),
        Some(ip) => {
            let refused = |why: &str| address_error(ip, why);
            let in_range = ip
                .parse()
                .is_ok_and(|ip: Ipv4Addr| server.config.service_cidr.contains(&ip));
            // What is no address at all is reported by validation.
            if !in_range && ip.parse::<std::net::IpAddr>().is_ok() {
                let error = refused("the provided network does not match the current range");
                return Err(Box::new(Status::invalid(kind, &name, &[error])));
            }
            claims.taken.insert(
                format!("{IP_KEYS}{ip}"),
                Some(refused("provided IP is already allocated")),
            );
            ip.clone()
        }
        None => {
            let ip = free_address(server).await?;
            claims.taken.insert(format!("{IP_KEYS}{ip}"), None);
            ip.to_string()
        }
    };
    spec["clusterIP"] = json!(chosen);
    if !spec["clusterIPs"].is_array() {
        spec["clusterIPs"] = json!([chosen]);
    }
    if !spec["ipFamilies"].is_array() {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
    if text(&spec["ipFamilyPolicy"]).is_none() {
        spec["ipFamilyPolicy"] = json!("SingleStack");
    }
    Ok(())
}

fn address_error(ip: &str, why: &str) -> FieldError {
    FieldError {
        error: FieldErrorType::Invalid,
        field: "spec.clusterIPs".to_owned(),
        value: Some(json!([ip])),
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

async fn free_address(server: &Server) -> Outcome<Ipv4Addr> {
    let range = server.config.service_cidr;
    let (first, last) = (
        u32::from(range.network()) + 1,
        u32::from(range.broadcast()).saturating_sub(1),
    );
    let size = last.saturating_sub(first) + 1;
    let band = STATIC_BAND.min(size / 16);
    let picks: Vec<u32> = {
        let mut rng = ambient::rng();
        (0..RANDOM_PICKS)
            .map(|_| rng.random_range(first + band..=last))
            .collect()
    };
    for pick in picks.into_iter().chain(first..=last) {
        let ip = Ipv4Addr::from(pick);
        // The addresses with a fixed meaning are free only until their Services are made at the first start.
        let reserved = ip == server.config.dns_ip || pick == first;
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
