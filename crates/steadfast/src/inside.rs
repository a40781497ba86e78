//! How pods reach the API server and Services: an address of this machine for the one, the packet filter for the other.

use crate::config::{Config, Runtime};
use anyhow::Context;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// The port of `default/kubernetes`.
const HTTPS: u16 = 443;

/// Where pods reach the API server.
pub(crate) struct Inside {
    /// What the endpoint of `default/kubernetes` says.
    pub(crate) advertise: SocketAddr,
    /// A listener besides the one of the administrator; `None` if that one serves pods, too, or there are no pods.
    pub(crate) listener: Option<TcpListener>,
}

impl Inside {
    /// Puts the address of `default/kubernetes` on this machine and listens there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        if config.no_node {
            return Ok(Self {
                advertise: config.listen,
                listener: None,
            });
        }
        let ip = config.service_cidrs.nth(1);
        dns::ensure_addresses([ip])
            .await
            .context("cannot make the API server reachable for pods")?;
        for range in config.service_cidrs.iter() {
            dns::ensure_route(range.addr(), range.prefix_len())
                .await
                .context("cannot make Services reachable for this machine")?;
        }
        if config.listen.ip().is_unspecified() {
            return Ok(Self {
                advertise: SocketAddr::new(ip, config.listen.port()),
                listener: None,
            });
        }
        // A web server of this machine may have the port on all addresses; packets are led to another one then.
        let mut outcome = Err(io::Error::from(io::ErrorKind::AddrInUse));
        for port in [HTTPS, config.listen.port(), 0] {
            outcome = TcpListener::bind(SocketAddr::new(ip, port)).await;
            if !matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
        }
        let listener = outcome.with_context(|| format!("cannot listen on {ip} for pods"))?;
        Ok(Self {
            advertise: listener.local_addr()?,
            listener: Some(listener),
        })
    }
}

/// How packets are led to Services.
pub(crate) fn proxy_config(config: &Config) -> proxy::Config {
    proxy::Config {
        node_name: config.node_name.clone(),
        pod_cidrs: config.pod_cidrs.iter().map(|range| range.to_string()).collect(),
        own_addresses: [vec![config.service_cidrs.nth(1)], config.cluster_dns()].concat(),
        masquerade_all: matches!(config.runtime, Runtime::Endpoint(_)) && !is_bridge_filtered(config),
    }
}

/// Whether the kernel shows packets between two ports of a bridge to its filter, in each family that pods have. The pods
/// of our own network send everything through this machine, but those of a network plug-in may be neighbours on a
/// bridge.
fn is_bridge_filtered(config: &Config) -> bool {
    config.pod_cidrs.iter().all(|range| {
        let tables = if range.addr().is_ipv4() {
            "iptables"
        } else {
            "ip6tables"
        };
        let setting = std::fs::read_to_string(format!("/proc/sys/net/bridge/bridge-nf-call-{tables}"));
        setting.is_ok_and(|value| value.trim() == "1")
    })
}
