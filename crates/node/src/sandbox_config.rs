//! The sandbox of a pod, in CRI's words.

use crate::run::Node;
use crate::runtime::{GRACE, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::security;
use api::k8s::api::core::v1::{ContainerPort, Pod, PodSpec};
use cri::v1::{
    self, LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping,
};
use node_plan::{Cluster, HostResolver, cgroup_parent, dns_config, pod_hostname, pod_resources, qos_class};
use std::collections::HashMap;
use std::path::PathBuf;

/// Sysctls that stay within a pod; others are refused.
const SAFE_SYSCTLS: [&str; 13] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_max_syn_backlog",
];

/// The directory of a pod's logs.
pub(crate) fn log_dir(node: &Node, pod: &Pod) -> PathBuf {
    let meta = &pod.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    node.config.log_dir.join(format!(
        "{}_{}_{}",
        part(&meta.namespace),
        part(&meta.name),
        part(&meta.uid)
    ))
}

/// A sysctl of the pod that this node refuses.
pub(crate) fn forbidden_sysctl(spec: &PodSpec) -> Option<&str> {
    let all = spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    all.map(|s| s.name.as_str())
        .find(|name| !SAFE_SYSCTLS.contains(&name.replace('/', ".").as_str()))
}

/// What a pod asks for that this node cannot give, and that must not be left out in silence.
fn unsupported(spec: &PodSpec) -> Option<&'static str> {
    if spec.host_users == Some(false) {
        return Some("user namespaces (hostUsers: false) are not supported by this node");
    }
    if spec.resource_claims.iter().flatten().next().is_some() {
        return Some("resourceClaims are not supported by this node");
    }
    None
}

/// The configuration of a pod's sandbox.
///
/// # Errors
/// A host name that cannot be, or something this node cannot give.
pub(crate) fn sandbox_config(node: &Node, pod: &Pod, attempt: u32) -> Result<PodSandboxConfig, String> {
    let no_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    if let Some(why) = unsupported(spec) {
        return Err(why.to_owned());
    }
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    let (hostname, _) = pod_hostname(pod, &node.config.cluster_domain)?;
    let own = [
        (POD_NAME.to_owned(), text(&meta.name)),
        (POD_NAMESPACE.to_owned(), text(&meta.namespace)),
        (POD_UID.to_owned(), text(&meta.uid)),
        node.runtime.own_label(),
    ];
    let labels: HashMap<String, String> = meta.labels.clone().unwrap_or_default().into_iter().chain(own).collect();
    let mut annotations: HashMap<String, String> = meta.annotations.clone().unwrap_or_default().into_iter().collect();
    annotations.insert(
        GRACE.into(),
        spec.termination_grace_period_seconds.unwrap_or(30).to_string(),
    );
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: text(&meta.name),
            uid: text(&meta.uid),
            namespace: text(&meta.namespace),
            attempt,
        }),
        hostname: if host_network { String::new() } else { hostname },
        log_directory: log_dir(node, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns(node, pod)),
        port_mappings: if host_network { Vec::new() } else { port_mappings(spec) },
        labels,
        annotations,
        linux: Some(linux(node, pod, spec)),
        windows: None,
    })
}

fn linux(node: &Node, pod: &Pod, spec: &PodSpec) -> LinuxPodSandboxConfig {
    let sum = pod_resources(spec);
    let sysctls = spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    LinuxPodSandboxConfig {
        cgroup_parent: cgroup_parent(
            &node.config.cgroup_root,
            qos_class(spec),
            pod.metadata.uid.as_deref().unwrap_or_default(),
        ),
        security_context: Some(security::of_sandbox(spec)),
        sysctls: sysctls.map(|s| (s.name.replace('/', "."), s.value.clone())).collect(),
        overhead: None,
        resources: Some(LinuxContainerResources {
            cpu_shares: sum.cpu_shares,
            cpu_quota: sum.cpu_quota,
            cpu_period: sum.cpu_period,
            memory_limit_in_bytes: sum.memory_bytes,
            ..LinuxContainerResources::default()
        }),
    }
}

fn dns(node: &Node, pod: &Pod) -> v1::DnsConfig {
    // Read each time: the machine may have moved to another network.
    let text = std::fs::read_to_string(&node.config.resolv_conf).unwrap_or_default();
    let cluster = Cluster {
        servers: node.config.cluster_dns.iter().map(ToString::to_string).collect(),
        domain: node.config.cluster_domain.clone(),
    };
    let config = dns_config(pod, &cluster, &HostResolver::parse(&text));
    v1::DnsConfig {
        servers: config.servers,
        searches: config.searches,
        options: config.options,
    }
}

fn port_mappings(spec: &PodSpec) -> Vec<PortMapping> {
    let mapping = |port: &ContainerPort| {
        let host_port = port.host_port.filter(|p| *p > 0)?;
        Some(PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp as i32,
                Some("SCTP") => v1::Protocol::Sctp as i32,
                _ => v1::Protocol::Tcp as i32,
            },
            container_port: port.container_port,
            host_port,
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
    };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.flat_map(|c| c.ports.iter().flatten()).filter_map(mapping).collect()
}
