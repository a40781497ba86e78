//! Ports of the node that lead to pods (`hostPort`): which a sandbox wants, and the rules and elements for them.
//!
//! The table is rebuilt from the sandboxes' records when the runtime starts, so a crash leaves no port open.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cri::v1::{PodSandboxConfig, PortMapping, Protocol};

use super::rules::Family;

/// One port of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// The node's address; none: any of them.
    host_ip: Option<IpAddr>,
    protocol: &'static str,
    host_port: u16,
    address: IpAddr,
    port: u16,
}

/// The ports that a sandbox with `addresses` wants.
///
/// # Errors
/// A text for people, if one cannot be.
pub(crate) fn wanted(config: &PodSandboxConfig, addresses: &[IpAddr]) -> Result<Vec<HostPort>, String> {
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let mut ports = Vec::new();
    for mapping in config.port_mappings.iter().filter(|mapping| mapping.host_port > 0) {
        ports.extend(parse(mapping, addresses)?);
    }
    Ok(ports)
}

/// One for each of the addresses that may be meant.
fn parse(mapping: &PortMapping, addresses: &[IpAddr]) -> Result<Vec<HostPort>, String> {
    let number = |port: i32| {
        u16::try_from(port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("{port} is not a port"))
    };
    let (host_ip, family) = host_ip(&mapping.host_ip)?;
    let meant: Vec<IpAddr> = addresses
        .iter()
        .copied()
        .filter(|address| family.is_none_or(|family| family == Family::of_address(*address)))
        .collect();
    if meant.is_empty() {
        let text = &mapping.host_ip;
        return Err(format!(
            "the hostIP {text:?} is of a family that pods have no addresses of"
        ));
    }
    let (host_port, port) = (number(mapping.host_port)?, number(mapping.container_port)?);
    let protocol = match mapping.protocol() {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let to = |address| HostPort {
        host_ip,
        protocol,
        host_port,
        address,
        port,
    };
    Ok(meant.into_iter().map(to).collect())
}

/// Which of the node's addresses is meant, and the family if any of one will do.
fn host_ip(text: &str) -> Result<(Option<IpAddr>, Option<Family>), String> {
    if text.is_empty() {
        return Ok((None, None));
    }
    let address: IpAddr = text.parse().map_err(|_| format!("the hostIP {text:?} is no address"))?;
    if address == IpAddr::V6(Ipv6Addr::LOCALHOST) {
        return Err("the hostIP ::1 cannot be: the kernel lets nothing go from IPv6's loopback to a pod".to_owned());
    }
    let is_any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)].contains(&address);
    Ok(((!is_any).then_some(address), Some(Family::of_address(address))))
}

/// The parts of our table that host ports need.
pub(super) fn rules(family: Family, bridge: &str) -> String {
    let (ip, address) = (family.word(), family.address_type());
    // -300 is "raw" and -100 "dstnat"; nft has these names not for all hooks.
    let (loopback, from_loopback, not_loopback) = match family {
        Family::Four => (
            format!(
                "  chain strangers {{
    type filter hook prerouting priority -300; policy accept;
    iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop
  }}
"
            ),
            format!("    oifname \"{bridge}\" ip saddr 127.0.0.0/8 masquerade\n"),
            "",
        ),
        // IPv6 has no way from its loopback to elsewhere.
        Family::Six => (String::new(), String::new(), "ip6 daddr != ::1 "),
    };
    format!(
        "
  map ports_of_address {{ type {address} . inet_proto . inet_service : {address} . inet_service; }}
  map ports {{ type inet_proto . inet_service : {address} . inet_service; }}
  set itself {{ type {address} . {address}; }}
{loopback}  chain host_ports {{
    dnat {ip} to {ip} daddr . meta l4proto . th dport map @ports_of_address
    {not_loopback}fib daddr type local dnat {ip} to meta l4proto . th dport map @ports
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
{from_loopback}    {ip} saddr . {ip} daddr @itself masquerade
  }}
"
    )
}

/// Opens the ports of a family.
pub(super) fn open(family: Family, table: &str, ports: &[HostPort]) -> String {
    elements("add", family, table, ports)
}

/// Closes the ports of a family, whether they are open or not.
pub(super) fn close(family: Family, table: &str, ports: &[HostPort]) -> String {
    elements("add", family, table, ports) + &elements("delete", family, table, ports)
}

fn elements(verb: &str, family: Family, table: &str, ports: &[HostPort]) -> String {
    let ip = family.word();
    let mut text = String::new();
    let mut own = Vec::new();
    for port in ports.iter().filter(|port| Family::of_address(port.address) == family) {
        let HostPort {
            host_ip,
            protocol,
            host_port,
            address,
            port,
        } = port;
        let target = format!("{protocol} . {host_port} : {address} . {port}");
        let line = match host_ip {
            None => writeln!(text, "{verb} element {ip} {table} ports {{ {target} }}"),
            Some(host) => writeln!(
                text,
                "{verb} element {ip} {table} ports_of_address {{ {host} . {target} }}"
            ),
        };
        line.expect("writing to a string cannot fail");
        if !own.contains(address) {
            own.push(*address);
        }
    }
    for address in own {
        writeln!(text, "{verb} element {ip} {table} itself {{ {address} . {address} }}")
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

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn ports_become_elements() {
        let config = PodSandboxConfig {
            port_mappings: vec![mapping("", 8080), mapping("127.0.0.1", 8081), mapping("", 0)],
            ..PodSandboxConfig::default()
        };
        let ports = wanted(&config, &addresses(&["10.244.0.5", "fd00::5"])).expect("ports");
        assert_eq!(
            open(Family::Four, "t", &ports),
            "add element ip t ports { udp . 8080 : 10.244.0.5 . 80 }
add element ip t ports_of_address { 127.0.0.1 . udp . 8081 : 10.244.0.5 . 80 }
add element ip t itself { 10.244.0.5 . 10.244.0.5 }
"
        );
        assert_eq!(
            open(Family::Six, "t", &ports),
            "add element ip6 t ports { udp . 8080 : fd00::5 . 80 }
add element ip6 t itself { fd00::5 . fd00::5 }
"
        );
    }

    #[test]
    fn an_address_of_the_node_is_of_a_family_that_pods_have() {
        let (four, both) = (addresses(&["10.244.0.5"]), addresses(&["10.244.0.5", "fd00::5"]));
        let check = |host_ip: &str, addresses: &[IpAddr], expected: Option<usize>| {
            let ports = parse(&mapping(host_ip, 1), addresses);
            assert_eq!(ports.ok().map(|ports| ports.len()), expected, "{host_ip}");
        };
        check("", &both, Some(2));
        check("0.0.0.0", &both, Some(1));
        check("::", &both, Some(1));
        check("fd00::1", &both, Some(1));
        check("fd00::1", &four, None);
        check("::", &four, None);
        check("::1", &both, None);
        check("a", &both, None);
        assert!(parse(&mapping("", 70_000), &four).is_err());
    }
}
