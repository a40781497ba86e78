//! What valid Services, Endpoints and EndpointSlices are.

use super::place::{Errors, Place};
use super::{families, metadata, names};
use crate::error::FieldError;
use serde_json::json;
use std::collections::BTreeSet;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// The longest that a client may stay with one endpoint: a day.
const AFFINITY_S_MAX: i64 = 86_400;

pub(super) fn create(service: &Place<'_>, errors: &mut Errors) {
    let spec = service.at("spec");
    let kind = spec.at("type").text();
    let is_headless = spec.at("clusterIP").text() == "None";
    if spec.at("ports").len() == 0 && !is_headless && kind != "ExternalName" {
        errors.push(spec.at("ports").required(""));
    }
    by_type(&spec, kind, is_headless, errors);
    metadata::labels(&spec.at("selector"), errors);
    affinity(&spec, errors);
    ports(&spec, kind, errors);
    families::check(service, errors);
    for ip in spec.at("externalIPs").items() {
        ip.must_be_ip(errors);
    }
    spec.at("type").must_be_given_of(&TYPES, errors);
    policies(&spec, kind, errors);
}

fn by_type(spec: &Place<'_>, kind: &str, is_headless: bool, errors: &mut Errors) {
    let name = spec.at("externalName");
    match kind {
        "LoadBalancer" | "NodePort" if is_headless => {
            let path = format!("{}[0]", spec.at("clusterIPs").path);
            errors.push(FieldError::invalid(
                path,
                "None",
                format!("may not be set to 'None' for {kind} services"),
            ));
        }
        "ExternalName" => {
            if spec.at("clusterIPs").len() > 0 || !spec.at("clusterIP").text().is_empty() {
                errors.push(
                    spec.at("clusterIPs")
                        .forbidden("may not be set for ExternalName services"),
                );
            }
            for field in ["ipFamilies", "ipFamilyPolicy"] {
                if spec.at(field).is_set() {
                    errors.push(spec.at(field).forbidden("may not be set for ExternalName services"));
                }
            }
            let host = name.text().strip_suffix('.').unwrap_or(name.text());
            if host.is_empty() {
                errors.push(name.required(""));
            } else {
                for why in names::subdomain_errors(host) {
                    errors.push(name.invalid(why));
                }
            }
        }
        _ => {}
    }
}

fn affinity(spec: &Place<'_>, errors: &mut Errors) {
    let affinity = spec.at("sessionAffinity");
    affinity.must_be_given_of(&["ClientIP", "None"], errors);
    let timeout = spec.at("sessionAffinityConfig").at("clientIP").at("timeoutSeconds");
    if affinity.text() == "ClientIP" {
        if timeout
            .number()
            .is_none_or(|timeout_s| !(1..=AFFINITY_S_MAX).contains(&timeout_s))
        {
            errors.push(timeout.invalid(format!("must be greater than 0 and less than {AFFINITY_S_MAX}")));
        }
    } else if spec.at("sessionAffinityConfig").is_set() {
        let why = "must not be set when session affinity is None";
        errors.push(spec.at("sessionAffinityConfig").forbidden(why));
    }
}

fn ports(spec: &Place<'_>, kind: &str, errors: &mut Errors) {
    let ports = spec.at("ports");
    let must_be_named = ports.len() > 1;
    let (mut seen_names, mut seen_ports, mut seen_node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for port in ports.items() {
        let (name, number, protocol) = (port.at("name"), port.at("port"), port.at("protocol"));
        if name.text().is_empty() {
            if must_be_named {
                errors.push(name.required(""));
            }
        } else {
            name.must_have_form(names::label_errors, errors);
            if !seen_names.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        if number.number().is_none() {
            errors.push(number.required(""));
        }
        number.must_be_port(errors);
        protocol.must_be_given_of(&PROTOCOLS, errors);
        port.at("targetPort").must_be_port_or_name(errors);
        if !seen_ports.insert((number.number(), protocol.text())) {
            let pair = json!({"protocol": protocol.text(), "port": number.value});
            errors.push(FieldError::duplicate(&port.path, pair));
        }
        let node_port = port.at("nodePort");
        if let Some(number) = node_port.number().filter(|number| *number != 0) {
            if matches!(kind, "ClusterIP" | "ExternalName") {
                errors.push(node_port.forbidden(format!("may not be used when `type` is '{kind}'")));
            }
            node_port.must_be_port(errors);
            if !seen_node_ports.insert((number, protocol.text())) {
                errors.push(node_port.duplicate());
            }
        }
    }
}

fn policies(spec: &Place<'_>, kind: &str, errors: &mut Errors) {
    let external = spec.at("externalTrafficPolicy");
    let is_external =
        matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && spec.at("externalIPs").len() > 0);
    if !external.text().is_empty() && !is_external {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&external.path, external.text(), why));
    }
    if is_external {
        external.must_be_given_of(&["Cluster", "Local"], errors);
    }
    spec.at("internalTrafficPolicy")
        .must_be_one_of(&["Cluster", "Local"], errors);
    if spec.at("allocateLoadBalancerNodePorts").is_set() && kind != "LoadBalancer" {
        let why = "may only be used when `type` is 'LoadBalancer'";
        errors.push(spec.at("allocateLoadBalancerNodePorts").forbidden(why));
    }
    if spec.at("loadBalancerClass").is_set() && kind != "LoadBalancer" {
        errors.push(
            spec.at("loadBalancerClass")
                .forbidden("may only be used when `type` is 'LoadBalancer'"),
        );
    }
    spec.at("healthCheckNodePort").must_not_be_negative(errors);
    let distribution = spec.at("trafficDistribution");
    distribution.must_be_one_of(&["PreferClose", "PreferSameNode", "PreferSameZone"], errors);
}

/// An address, once given, stays for as long as the type has one.
pub(super) fn update(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    families::update(new, old, errors);
    create(new, errors);
}

pub(super) fn status_update(new: &Place<'_>, errors: &mut Errors) {
    let ingress = new.at("status").at("loadBalancer").at("ingress");
    if ingress.len() > 0 && new.at("spec").at("type").text() != "LoadBalancer" {
        errors.push(ingress.forbidden("may only be used when `spec.type` is 'LoadBalancer'"));
    }
}

pub(super) fn endpoints(endpoints: &Place<'_>, errors: &mut Errors) {
    for subset in endpoints.at("subsets").items() {
        if subset.at("addresses").len() + subset.at("notReadyAddresses").len() == 0 {
            errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.at(list).items() {
                address.at("ip").must_be_ip(errors);
                if !address.at("hostname").text().is_empty() {
                    address.at("hostname").must_have_form(names::label_errors, errors);
                }
            }
        }
        let must_be_named = subset.at("ports").len() > 1;
        for port in subset.at("ports").items() {
            let name = port.at("name");
            if name.text().is_empty() {
                if must_be_named {
                    errors.push(name.required(""));
                }
            } else {
                name.must_have_form(names::label_errors, errors);
            }
            port.at("port").must_be_port(errors);
            port.at("protocol").must_be_given_of(&PROTOCOLS, errors);
        }
    }
}

pub(super) fn slice(slice: &Place<'_>, errors: &mut Errors) {
    const ENDPOINTS_MAX: usize = 1000;
    const ADDRESSES_MAX: usize = 100;
    const PORTS_MAX: usize = 20_000;
    let kind = slice.at("addressType");
    kind.must_be_given_of(&["FQDN", "IPv4", "IPv6"], errors);
    let endpoints = slice.at("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.push(FieldError::too_many(&endpoints.path, endpoints.len(), ENDPOINTS_MAX));
        return;
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.at("addresses");
        if addresses.len() == 0 {
            errors.push(addresses.required("must contain at least 1 address"));
        } else if addresses.len() > ADDRESSES_MAX {
            errors.push(FieldError::too_many(&addresses.path, addresses.len(), ADDRESSES_MAX));
        }
        for address in addresses.items() {
            match kind.text() {
                "IPv4" if address.text().parse::<std::net::Ipv4Addr>().is_err() => {
                    errors.push(address.invalid("must be a valid IPv4 address"));
                }
                "IPv6" if address.text().parse::<std::net::Ipv6Addr>().is_err() => {
                    errors.push(address.invalid("must be a valid IPv6 address"));
                }
                "FQDN" => address.must_have_form(names::subdomain_errors, errors),
                _ => {}
            }
        }
        let hostname = endpoint.at("hostname");
        if hostname.is_set() {
            hostname.must_have_form(names::label_errors, errors);
        }
    }
    let ports = slice.at("ports");
    if ports.len() > PORTS_MAX {
        errors.push(FieldError::too_many(&ports.path, ports.len(), PORTS_MAX));
        return;
    }
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let name = port.at("name");
        if !name.text().is_empty() {
            name.must_have_form(names::label_errors, errors);
        }
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(&name.path, name.text()));
        }
        port.at("protocol").must_be_given_of(&PROTOCOLS, errors);
    }
}

pub(super) fn update_slice(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    slice(new, errors);
    new.at("addressType").must_not_change(&old.at("addressType"), errors);
}
