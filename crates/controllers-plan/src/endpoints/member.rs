//! What a pod contributes to a Service: addresses, ports, conditions.

use api::k8s::api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort};
use api::k8s::api::discovery::v1::EndpointPort;
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;

/// The family of an address, in the words of EndpointSlice.
pub(super) fn family_of(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

/// The families that a Service is served in; the first is its main one.
pub(super) fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let mut families: Vec<&'static str> = Vec::new();
    let mut add = |family| {
        if !families.contains(&family) {
            families.push(family);
        }
    };
    for family in spec.and_then(|spec| spec.ip_families.as_ref()).into_iter().flatten() {
        add(if family == "IPv6" { "IPv6" } else { "IPv4" });
    }
    if families.is_empty() {
        let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
        families.push(family_of(address));
    }
    families
}

/// The pod's addresses.
pub(super) fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut addresses: Vec<&str> = all.filter(|address| !address.is_empty()).collect();
    if addresses.is_empty() {
        addresses.extend(status.pod_ip.as_deref().filter(|address| !address.is_empty()));
    }
    addresses
}

/// The pod's first address of a family.
pub(super) fn address_in<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    addresses(pod).into_iter().find(|address| family_of(address) == family)
}

/// Whether the pod has come to its end.
pub(super) fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the pod's Ready condition is true.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether the pod's deletion was asked for.
pub(super) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The name the pod has under the Service, if it has one (Kubernetes DNS: it needs hostname and subdomain).
pub(super) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is_ours = spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.clone().filter(|name| is_ours && !name.is_empty())
}

/// A reference to the pod, without a version: its every status change would rewrite the object that holds it.
pub(super) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The Service's ports as this pod serves them: a named target port is looked up in its containers, and left out if
/// none has it. Sorted, so that equal sets are equal.
pub(super) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let mut ports: Vec<EndpointPort> = ports
        .into_iter()
        .flatten()
        .filter_map(|port| resolve(port, pod))
        .collect();
    sort_ports(&mut ports);
    ports
}

/// Puts ports in the one order in which they are compared and written.
pub(super) fn sort_ports(ports: &mut [EndpointPort]) {
    ports.sort_by(|a, b| {
        (&a.name, a.port, &a.protocol, &a.app_protocol).cmp(&(&b.name, b.port, &b.protocol, &b.app_protocol))
    });
}

fn resolve(port: &ServicePort, pod: &Pod) -> Option<EndpointPort> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) if name.is_empty() => port.port,
        Some(IntOrString::String(name)) => named_port(pod, name, &protocol)?,
    };
    Some(EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(protocol),
        app_protocol: port.app_protocol.clone(),
    })
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let is_sidecar = |init: &&Container| init.restart_policy.as_deref() == Some("Always");
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten().filter(is_sidecar));
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let is_it = |port: &&api::k8s::api::core::v1::ContainerPort| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.find(is_it).map(|port| port.container_port)
}

/// Whether a change of a pod can change anything behind a Service; most changes of status cannot.
pub fn concerns_endpoints(old: &Pod, new: &Pod) -> bool {
    let facts = |pod: &Pod| (is_finished(pod), is_ready(pod), is_terminating(pod));
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    facts(old) != facts(new)
        || old.metadata.uid != new.metadata.uid
        || old.metadata.labels != new.metadata.labels
        || addresses(old) != addresses(new)
        || node(old) != node(new)
}
