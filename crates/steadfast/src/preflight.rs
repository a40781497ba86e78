//! What the machine must offer, looked at before anything is started, each lack told with what to do about it.

use crate::config::{Config, Runtime};
use anyhow::bail;
use nix::ifaddrs::InterfaceAddress;
use std::net::IpAddr;
use std::path::Path;

/// Fails with everything that this machine lacks for `config`.
///
/// # Errors
/// One line for each lack.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    if config.no_node {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "running pods needs root (namespaces, cgroups, mounts, network devices): use sudo, or --no-node for the control plane alone"
        );
    }
    let mut lacks = Vec::new();
    if let Runtime::Endpoint(endpoint) = &config.runtime {
        let path = endpoint.trim_start_matches("unix://");
        if !Path::new(path).exists() {
            lacks.push(format!(
                "nothing is at {path}: start that container runtime, or leave out --container-runtime-endpoint"
            ));
        }
    } else {
        lacks.extend(kernel_lacks());
        lacks.extend(six_lacks(config, Path::new("/proc/sys/net/ipv6")));
        lacks.extend(taken(config, &runtime_bridge(config)?, nix::ifaddrs::getifaddrs()?));
    }
    if !lacks.is_empty() {
        bail!("this machine cannot run pods:\n  {}", lacks.join("\n  "));
    }
    Ok(())
}

fn kernel_lacks() -> Vec<String> {
    let mut lacks = Vec::new();
    for namespace in ["net", "mnt", "pid", "ipc", "uts"] {
        if !Path::new("/proc/self/ns").join(namespace).exists() {
            lacks.push(format!(
                "the kernel has no {namespace} namespaces: use one built with CONFIG_NAMESPACES"
            ));
        }
    }
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let v1 = Path::new("/sys/fs/cgroup/memory").exists() && Path::new("/sys/fs/cgroup/pids").exists();
    if !v1 && !v2 {
        lacks.push("no control groups at /sys/fs/cgroup: mount cgroup2 there (or the v1 controllers)".to_owned());
    }
    lacks
}

/// IPv6 may be left out of a kernel, or switched off where it starts.
fn six_lacks(config: &Config, settings: &Path) -> Option<String> {
    let range = config.pod_cidrs.iter().find(|range| range.addr().is_ipv6())?;
    (!settings.exists()).then(|| {
        format!("--pod-cidr has {range}, but the kernel has no IPv6: start it without ipv6.disable=1, or leave that range out")
    })
}

fn runtime_bridge(config: &Config) -> anyhow::Result<String> {
    Ok(crate::services::runtime_config(config)?.bridge)
}

/// Devices other than our own bridge that have an address of the pods' range: they would take packets meant for pods.
fn taken(config: &Config, bridge: &str, devices: impl Iterator<Item = InterfaceAddress>) -> Vec<String> {
    let others = devices.filter(|device| device.interface_name != bridge);
    let addressed = others.filter_map(|device| {
        let address = device.address?;
        let four = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let address = four.or_else(|| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())))?;
        config
            .pod_cidrs
            .contains(address)
            .then_some((device.interface_name, address))
    });
    addressed
        .map(|(name, address)| {
            format!(
                "the device {name} has the address {address} of the pods' range {}: choose another --pod-cidr, or remove it (ip link delete {name})",
                config.pod_cidrs
            )
        })
        .collect()
}
