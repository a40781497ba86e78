//! What the server must be told.

use crate::audit::AuditLog;
use crate::tokens::keys::TokenKeys;
use ipnet::IpNet;
use jiff::Timestamp;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// The complete configuration of the API server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where Services get their addresses from: one range, or one of each family, that of Services which do not say
    /// otherwise first. The first address of the first range is the API server's own (`default/kubernetes`).
    pub service_cidrs: Vec<IpNet>,
    /// The addresses of the Service `kube-system/kube-dns`, one within each of `service_cidrs`.
    pub dns_ips: Vec<IpAddr>,
    /// Where node ports of Services come from.
    pub node_ports: RangeInclusive<u16>,
    /// Where pods could reach this server. A loopback address is not published in `default/kubernetes`.
    pub advertise: SocketAddr,
    /// The directory of local volumes, the parameter `path` of StorageClass `standard`.
    pub volumes_path: String,
    /// How kubelets are called for logs, exec and attach; `None` if there are no nodes to call.
    pub kubelet_client: Option<Arc<rustls::ClientConfig>>,
    /// The issuer of service-account tokens, and the audience of those that name none.
    pub token_issuer: String,
    /// The keys of service-account tokens; `None` makes one that ends with this server, and all its tokens with it.
    pub token_keys: Option<TokenKeys>,
    /// The authority's certificate in PEM, by which pods know this server. Without one no tokens are mounted into them:
    /// whoever runs controllers gives each namespace a ConfigMap `kube-root-ca.crt` with it, for which pods wait.
    pub root_ca: Option<String>,
    /// Which feature gates are on.
    pub gates: api::gates::Gates,
    /// How many requests that read, and that write, are worked on at a time; more are asked to come again.
    pub max_requests_inflight: usize,
    /// See `max_requests_inflight`.
    pub max_mutating_requests_inflight: usize,
    /// How long anything but a watch or a stream may take.
    pub request_timeout: Duration,
    /// Where requests are logged; `None` logs none.
    pub audit: Option<AuditLog>,
    /// `gitVersion` in `/version`: a semantic version.
    pub git_version: String,
    /// The parts of the control plane that run in this process and end with it, as `componentstatuses` calls them.
    pub parts: Vec<String>,
    /// What else `/version` tells of the build.
    pub build: Build,
    /// How long past states can be read and watched from.
    pub history: Duration,
    /// How many bytes past states may take; more of them are forgotten sooner.
    pub history_bytes: usize,
    /// How often a watch without events hears how far it has come.
    pub bookmark_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_cidrs: vec![IpNet::new_assert(Ipv4Addr::new(10, 96, 0, 0).into(), 16)],
            dns_ips: vec![Ipv4Addr::new(10, 96, 0, 10).into()],
            node_ports: 30000..=32767,
            advertise: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6443),
            volumes_path: "/var/lib/steadfast/volumes".to_owned(),
            kubelet_client: None,
            token_issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            token_keys: None,
            root_ca: None,
            gates: api::gates::Gates::default(),
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            request_timeout: Duration::from_secs(60),
            audit: None,
            git_version: "v1.36.1+steadfast".to_owned(),
            parts: Vec::new(),
            build: Build::default(),
            history: Duration::from_secs(5 * 60),
            history_bytes: 128 << 20,
            bookmark_interval: Duration::from_secs(60),
        }
    }
}

/// What a server was built from.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// The commit, all of its digits; empty if that is not known.
    pub commit: String,
    /// `clean`, or `dirty` if the sources were not those of the commit; empty if that is not known.
    pub tree_state: String,
    /// When the sources were made.
    pub date: Timestamp,
}
