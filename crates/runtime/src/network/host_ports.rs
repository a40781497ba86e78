//! Ports of the node that lead to pods (`hostPort`): which a sandbox wants, and the rules and elements for them.
//!
//! The table is rebuilt from the sandboxes' records when the runtime starts, so a crash leaves no port open.

use std::fmt::Write;
use std::net::Ipv4Addr;

use cri::v1::{PodSandboxConfig, PortMapping, Protocol};

use super::Network;

/// One port of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// The node's address; none: any of them.
    host_ip: Option<Ipv4Addr>,
    protocol: &'static str,
    host_port: u16,
    address: Ipv4Addr,
    port: u16,
}

/// The ports that a sandbox with `address` wants.
///
/// # Errors
/// A text for people, if one cannot be.
pub(crate) fn wanted(config: &PodSandboxConfig, address: Ipv4Addr) -> Result<Vec<HostPort>, String> {
    let mappings = config.port_mappings.iter().filter(|mapping| mapping.host_port > 0);
    mappings.map(|mapping| parse(mapping, address)).collect()
}

fn parse(mapping: &PortMapping, address: Ipv4Addr) -> Result<HostPort, String> {
    let number = |port: i32| {
        u16::try_from(port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("{port} is not a port"))
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" | "0.0.0.0" => None,
        text => Some(text.parse().map_err(|_| {
            format!("the hostIP {text:?} is no IPv4 address, and the built-in pod network has no others")
        })?),
    };
    Ok(HostPort {
        host_ip,
        protocol: match mapping.protocol() {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        },
        host_port: number(mapping.host_port)?,
        address,
        port: number(mapping.container_port)?,
    })
}

/// The parts of our table that host ports need.
pub(super) fn rules(network: &Network) -> String {
    let bridge = &network.bridge;
    // -300 is "raw" and -100 "dstnat"; nft has these names not for all hooks.
    format!(
        "
  map ports_of_address {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
  map ports {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  set itself {{ type ipv4_addr . ipv4_addr; }}
  chain strangers {{
    type filter hook prerouting priority -300; policy accept;
    iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop
  }}
  chain host_ports {{
    dnat ip to ip daddr . meta l4proto . th dport map @ports_of_address
    fib daddr type local dnat ip to meta l4proto . th dport map @ports
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    jump host_ports
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    jump host_ports
  }}
  chain answers {{
    type nat hook postrouting priority 99; policy accept;
    oifname \"{bridge}\" ip saddr 127.0.0.0/8 masquerade
    ip saddr . ip daddr @itself masquerade
  }}
"
    )
}

/// Opens ports.
pub(super) fn open(table: &str, ports: &[HostPort]) -> String {
    elements("add", table, ports)
}

/// Closes ports, whether they are open or not.
pub(super) fn close(table: &str, ports: &[HostPort]) -> String {
    elements("add", table, ports) + &elements("delete", table, ports)
}

fn elements(verb: &str, table: &str, ports: &[HostPort]) -> String {
    let mut text = String::new();
    let mut own = Vec::new();
    for port in ports {
        let HostPort {
            host_ip,
            protocol,
            host_port,
            address,
            port,
        } = port;
        let target = format!("{protocol} . {host_port} : {address} . {port}");
        let line = match host_ip {
            None => writeln!(text, "{verb} element ip {table} ports {{ {target} }}"),
            Some(ip) => writeln!(text, "{verb} element ip {table} ports_of_address {{ {ip} . {target} }}"),
        };
        line.expect("writing to a string cannot fail");
        if !own.contains(address) {
            own.push(*address);
        }
    }
    for address in own {
        writeln!(text, "{verb} element ip {table} itself {{ {address} . {address} }}")
            .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_ip: &str, host_port: i32) -> PortMapping {
        PortMapping {
            protocol: Protocol::Udp.into(),
            container_port: 80,
            host_port,
            host_ip: host_ip.to_owned(),
        }
    }

    #[test]
    fn ports_become_elements() {
        let config = PodSandboxConfig {
            port_mappings: vec![mapping("", 8080), mapping("127.0.0.1", 8081), mapping("", 0)],
            ..PodSandboxConfig::default()
        };
        let ports = wanted(&config, Ipv4Addr::new(10, 244, 0, 5)).expect("ports");
        assert_eq!(
            open("t", &ports),
            "add element ip t ports { udp . 8080 : 10.244.0.5 . 80 }
add element ip t ports_of_address { 127.0.0.1 . udp . 8081 : 10.244.0.5 . 80 }
add element ip t itself { 10.244.0.5 . 10.244.0.5 }
"
        );
        for bad in [mapping("::1", 1), mapping("", 70_000)] {
            assert!(parse(&bad, Ipv4Addr::LOCALHOST).is_err());
        }
    }
}
