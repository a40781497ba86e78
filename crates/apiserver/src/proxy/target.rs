//! What runs behind a pod, a Service or a node.

use crate::backend::{self, Backend};
use crate::call::Call;
use crate::create::text;
use crate::kubelet;
use crate::names;
use crate::server::Server;
use crate::status::{Outcome, bad_request, status};
use crate::stored::Stored;
use api::error::Status;
use serde_json::Value;
use std::net::IpAddr;

/// A name in a proxy's path: `name`, `name:port` or `scheme:name:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    is_tls: bool,
    name: String,
    /// A number or a name; empty if there is none.
    port: String,
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let is_known = matches!(scheme, "" | "http" | "https") && !name.is_empty();
        is_known.then(|| Self {
            is_tls: scheme == "https",
            name: name.to_owned(),
            port: port.to_owned(),
        })
    }

    fn backend(&self, host: String, port: u16) -> Backend {
        let tls = if self.is_tls { backend::unchecked_tls() } else { None };
        Backend {
            host,
            port,
            tls,
            server_name: None,
        }
    }

    fn default_port(&self) -> u16 {
        if self.is_tls { 443 } else { 80 }
    }
}

/// The server behind the object that a call names.
pub(super) async fn of(server: &Server, call: &Call) -> Outcome<Backend> {
    let kind = call.kind.singular;
    let address = Address::parse(&call.name);
    let address = address.ok_or_else(|| bad_request(format!("invalid {kind} request {:?}", call.name)))?;
    match kind {
        "pod" => pod(server, call, &address).await,
        "service" => service(server, call, &address).await,
        _ => node(server, &address).await,
    }
}

async fn pod(server: &Server, call: &Call, address: &Address) -> Outcome<Backend> {
    let kv = server.existing(&call.kind, &call.namespace, &address.name).await?;
    let pod = Stored::from(&kv).object(&call.kind)?;
    let ip = text(&pod["status"]["podIP"]).filter(|ip| is_allowed(ip));
    let ip = ip.ok_or_else(|| bad_request("address not allowed"))?;
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut declared = containers.filter_map(|container| container["ports"][0]["containerPort"].as_u64());
    let port = match address.port.as_str() {
        "" => declared.next().and_then(|port| u16::try_from(port).ok()),
        port => Some(number(port)?),
    };
    Ok(address.backend(ip.to_owned(), port.unwrap_or(address.default_port())))
}

/// One of the pods behind a Service that are ready, by chance.
async fn service(server: &Server, call: &Call, address: &Address) -> Outcome<Backend> {
    let kv = server.existing(&call.kind, &call.namespace, &address.name).await?;
    let service = Stored::from(&kv).object(&call.kind)?;
    let name = &address.name;
    let port = match address.port.parse::<u64>() {
        Ok(number) => {
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let mut declared = ports.filter(|port| port["port"].as_u64() == Some(number));
            let declared = declared
                .next()
                .ok_or_else(|| unavailable(format!("no service port {number} found for service {name:?}")))?;
            declared["name"].as_str().unwrap_or_default().to_owned()
        }
        Err(_) => address.port.clone(),
    };
    let mut found = endpoints(server, call, name, &port).await?;
    if found.is_empty() {
        return Err(unavailable(format!("no endpoints available for service {name:?}")));
    }
    let (ip, port) = found.swap_remove(rand::Rng::random_range(&mut ambient::rng(), 0..found.len()));
    Ok(address.backend(ip, port))
}

/// The ready pods of a Service that serve a port, by the port's name.
async fn endpoints(server: &Server, call: &Call, service: &str, port: &str) -> Outcome<Vec<(String, u16)>> {
    let slices = crate::admission::kind("discovery.k8s.io", "endpointslices");
    let mut found = Vec::new();
    for kv in server.read_namespace(slices, &call.namespace).await? {
        let slice = Stored::from(&kv).object(slices)?;
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != service {
            continue;
        }
        let ports = slice["ports"].as_array().into_iter().flatten();
        let mut of_name = ports.filter(|candidate| candidate["name"].as_str().unwrap_or_default() == port);
        let number = of_name
            .next()
            .and_then(|port| u16::try_from(port["port"].as_u64()?).ok());
        let Some(number) = number else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            // Nothing but pods is reached through here, so that no Service can point the proxy elsewhere.
            let is_pod = endpoint["targetRef"]["kind"] == "Pod";
            let is_ready = endpoint["conditions"]["ready"] != false;
            if let Some(ip) = text(&endpoint["addresses"][0])
                && is_pod
                && is_ready
                && is_of_pod(server, call, &endpoint["targetRef"], ip).await?
            {
                found.push((ip.to_owned(), number));
            }
        }
    }
    Ok(found)
}

/// Whether an address belongs to the pod that it is said to belong to.
async fn is_of_pod(server: &Server, call: &Call, reference: &Value, ip: &str) -> Outcome<bool> {
    let pods = crate::admission::kind("", "pods");
    let name = reference["name"].as_str().unwrap_or_default();
    let found = server.read_key(names::key(pods, &call.namespace, name)).await?;
    let Some(kv) = found else { return Ok(false) };
    let pod = Stored::from(&kv).object(pods)?;
    let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
    let by_list = ips.map(|entry| &entry["ip"]).any(|own| own == ip);
    Ok((by_list || pod["status"]["podIP"] == ip) && is_allowed(ip))
}

async fn node(server: &Server, address: &Address) -> Outcome<Backend> {
    let kubelet = kubelet::of_node(server, &address.name).await?;
    match address.port.as_str() {
        "" => Ok(kubelet),
        port if number(port)? == kubelet.port => Ok(kubelet),
        port if is_allowed(&kubelet.host) => Ok(address.backend(kubelet.host, number(port)?)),
        _ => Err(bad_request("address not allowed")),
    }
}

fn number(port: &str) -> Outcome<u16> {
    port.parse().map_err(|_| bad_request(format!("invalid port {port:?}")))
}

/// Whether an address may be proxied to: never to this machine's own loopback or to the link's.
fn is_allowed(ip: &str) -> bool {
    match ip.parse() {
        Ok(IpAddr::V4(ip)) => {
            !(ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_unspecified() || ip.is_broadcast())
        }
        Ok(IpAddr::V6(ip)) => {
            let is_link_local = ip.segments()[0] & 0xffc0 == 0xfe80;
            !(ip.is_loopback() || is_link_local || ip.is_multicast() || ip.is_unspecified())
        }
        Err(_) => false,
    }
}

fn unavailable(message: String) -> Box<Status> {
    status(503, "ServiceUnavailable", message, Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_scheme_and_port() {
        let address = |is_tls, name: &str, port: &str| Address {
            is_tls,
            name: name.to_owned(),
            port: port.to_owned(),
        };
        for (text, expected) in [
            ("a", Some(address(false, "a", ""))),
            ("a:80", Some(address(false, "a", "80"))),
            ("https:a:web", Some(address(true, "a", "web"))),
            ("http:a:", Some(address(false, "a", ""))),
            ("ftp:a:1", None),
            (":80", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(Address::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_servers_own_loopback_is_out_of_reach() {
        for (ip, expected) in [
            ("10.244.0.2", true),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("fd00::1", true),
            ("fe80::1", false),
            ("::1", false),
            ("x", false),
        ] {
            assert_eq!(is_allowed(ip), expected, "{ip}");
        }
    }
}
