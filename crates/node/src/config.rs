//! What the node agent is told when it starts; complete and without hidden defaults.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// The cgroup below which pods live, unless another is configured.
pub const DEFAULT_CGROUP_ROOT: &str = "/steadfast";

/// Configuration of the node agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the Node object, normally the host name.
    pub node_name: String,
    /// Labels of the Node besides `kubernetes.io/hostname`, `kubernetes.io/os` and `kubernetes.io/arch`.
    pub node_labels: BTreeMap<String, String>,
    /// Directory of the pods' volumes (`pods/<uid>/…`); also marks what the agent makes in the runtime as its own.
    pub root_dir: PathBuf,
    /// Directory of container logs, laid out as kubelets do (`<namespace>_<pod>_<uid>/<container>/<restart>.log`).
    pub log_dir: PathBuf,
    /// Where the container runtime listens, e.g. `unix:///run/containerd/containerd.sock`.
    pub runtime_endpoint: String,
    /// Addresses of the node (`InternalIP`, `status.hostIPs`): one, or one of each family, the main one first.
    pub node_ips: Vec<IpAddr>,
    /// The ranges of pods' addresses (`spec.podCIDRs`), in the order of pods' addresses; none where others know them.
    pub pod_cidrs: Vec<String>,
    /// Name servers of pods with `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster, e.g. `cluster.local`.
    pub cluster_domain: String,
    /// The file with the node's own name servers, normally `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Where the kubelet API listens; with port 0, or one that is taken, a free one is found and told in the Node's
    /// status.
    pub listen: SocketAddr,
    /// TLS of the kubelet API; it must require client certificates.
    pub tls: Arc<rustls::ServerConfig>,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// What is kept back for the system: allocatable is capacity less this.
    pub reserved: Reserved,
    /// The cgroup below which pods live, e.g. `/steadfast`.
    pub cgroup_root: String,
    /// How many processes and threads a pod may have; 0: any number.
    pub pod_pids_max: u32,
    /// The version the Node tells, e.g. `v1.36.1+steadfast`.
    pub version: String,
}

impl Config {
    /// The node's addresses as texts.
    pub(crate) fn node_addresses(&self) -> Vec<String> {
        self.node_ips.iter().map(IpAddr::to_string).collect()
    }
}

/// Resources kept back for the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a CPU.
    pub cpu_milli: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
}
