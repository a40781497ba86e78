//! What `kubectl get` shows of Services and what stands behind or before them.

use super::{Row, text};
use serde_json::{Value, json};

/// How many endpoints or ports are shown.
const SHOWN_MAX: usize = 3;

pub(super) fn service(row: Row<'_>) -> Vec<Value> {
    let ip = match row.text("/spec/clusterIPs/0") {
        "" => row.text_or_none("/spec/clusterIP"),
        ip => ip,
    };
    vec![
        row.name(),
        json!(row.text("/spec/type")),
        json!(ip),
        json!(external_ip(row)),
        json!(ports(row)),
        row.age(),
        json!(text::labels(&row.object["spec"]["selector"])),
    ]
}

fn external_ip(row: Row<'_>) -> String {
    let own: Vec<&str> = row
        .items("/spec/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let own = own.join(",");
    match row.text("/spec/type") {
        "ClusterIP" | "NodePort" => text::or_none(&own).to_owned(),
        "ExternalName" => row.text("/spec/externalName").to_owned(),
        "LoadBalancer" => match (balancer(row), own.as_str()) {
            (ips, "") if ips.is_empty() => "<pending>".to_owned(),
            (ips, "") => ips,
            (ips, own) if ips.is_empty() => own.to_owned(),
            (ips, own) => format!("{ips},{own}"),
        },
        _ => "<unknown>".to_owned(),
    }
}

/// Addresses or names that a load balancer has given.
fn balancer(row: Row<'_>) -> String {
    let mut all: Vec<&str> = Vec::new();
    for ingress in row.items("/status/loadBalancer/ingress") {
        let name = ingress["ip"]
            .as_str()
            .filter(|ip| !ip.is_empty())
            .or(ingress["hostname"].as_str());
        if let Some(name) = name.filter(|name| !name.is_empty() && !all.contains(name)) {
            all.push(name);
        }
    }
    all.join(",")
}

fn ports(row: Row<'_>) -> String {
    let port = |port: &Value| {
        let (number, protocol) = (
            port["port"].as_i64().unwrap_or(0),
            port["protocol"].as_str().unwrap_or_default(),
        );
        match port["nodePort"].as_i64() {
            Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    };
    let all: Vec<String> = row.items("/spec/ports").iter().map(port).collect();
    text::or_none(&all.join(",")).to_owned()
}

pub(super) fn endpoints(row: Row<'_>) -> Vec<Value> {
    let subsets = row.items("/subsets");
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = || {
            subset["addresses"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|a| a["ip"].as_str().unwrap_or_default())
        };
        match subset["ports"].as_array().filter(|ports| !ports.is_empty()) {
            None => all.extend(addresses().map(str::to_owned)),
            Some(ports) => {
                for port in ports {
                    let number = port["port"].as_i64().unwrap_or(0);
                    all.extend(addresses().map(|ip| host_port(ip, number)));
                }
            }
        }
    }
    let shown = if subsets.is_empty() {
        "<none>".to_owned()
    } else {
        text::first(&all, SHOWN_MAX)
    };
    vec![row.name(), json!(shown), row.age()]
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

pub(super) fn slice(row: Row<'_>) -> Vec<Value> {
    let port = |port: &Value| match (port["port"].as_i64(), port["name"].as_str()) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    };
    let ports: Vec<String> = row.items("/ports").iter().map(port).collect();
    let addresses = row
        .items("/endpoints")
        .iter()
        .flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten());
    let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
    vec![
        row.name(),
        json!(row.text("/addressType")),
        json!(text::or_unset(&text::first(&ports, SHOWN_MAX))),
        json!(text::or_unset(&text::first(&addresses, SHOWN_MAX))),
        row.age(),
    ]
}

pub(super) fn policy(row: Row<'_>) -> Vec<Value> {
    vec![
        row.name(),
        json!(text::selector(&row.object["spec"]["podSelector"])),
        row.age(),
    ]
}

pub(super) fn ingress(row: Row<'_>) -> Vec<Value> {
    let hosts: Vec<&str> = row
        .items("/spec/rules")
        .iter()
        .filter_map(|rule| rule["host"].as_str())
        .filter(|host| !host.is_empty())
        .collect();
    let hosts = if hosts.is_empty() {
        "*".to_owned()
    } else {
        text::first(&hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>(), SHOWN_MAX)
    };
    let ports = if row.items("/spec/tls").is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        row.name(),
        json!(row.text_or_none("/spec/ingressClassName")),
        json!(hosts),
        json!(balancer(row)),
        json!(ports),
        row.age(),
    ]
}

pub(super) fn ingress_class(row: Row<'_>) -> Vec<Value> {
    let parameters = &row.object["spec"]["parameters"];
    let part = |field: &str| parameters[field].as_str().unwrap_or_default();
    let shown = match (parameters.is_object(), part("apiGroup")) {
        (false, _) => "<none>".to_owned(),
        (true, "") => format!("{}/{}", part("kind"), part("name")),
        (true, group) => format!("{}.{group}/{}", part("kind"), part("name")),
    };
    vec![row.name(), json!(row.text("/spec/controller")), json!(shown), row.age()]
}
