//! Everything the runtime is told from outside, complete and validated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use sha2::{Digest, Sha256};

/// Which program creates and runs containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OciRuntime {
    /// `<executable> oci`, our own binary re-executed.
    Embedded,
    /// An OCI runtime with runc's command line, such as `/usr/sbin/runc`.
    External(PathBuf),
}

/// How the container runtime runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder for images, sandboxes and containers; outlives a reboot.
    pub root: PathBuf,
    /// Folder for what ends with a reboot: namespaces, sockets, the OCI runtime's own state.
    pub state: PathBuf,
    /// The unix socket on which CRI is served.
    pub socket: PathBuf,
    /// Our own binary, whose words `oci` and `monitor` lead to `oci::main` and `runtime::monitor::main`.
    pub executable: PathBuf,
    /// The program that creates and runs containers.
    pub oci_runtime: OciRuntime,
    /// Other OCI runtimes, by the name under which pods ask for them (the handler of a RuntimeClass).
    pub handlers: BTreeMap<String, PathBuf>,
    /// The addresses of pods: one range, or one of each family, the main one first. The first address of each is the
    /// gateway's.
    pub pod_cidrs: Vec<IpNet>,
    /// Name of the bridge that pods are connected to, and of the nft table.
    pub bridge: String,
    /// Parent of the cgroups of containers whose sandbox names none.
    pub cgroup_parent: String,
}

impl Config {
    /// The usual configuration of a runtime that keeps its files below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        // Two runtimes on one machine must not meet in /run, nor may socket paths grow with the root's.
        let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
        let name: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let state = Path::new("/run/steadfast").join(name);
        Self {
            root: root.to_owned(),
            socket: state.join("cri.sock"),
            state,
            executable: PathBuf::from("/proc/self/exe"),
            oci_runtime: OciRuntime::Embedded,
            handlers: BTreeMap::new(),
            pod_cidrs: vec![Ipv4Net::new_assert([10, 244, 0, 0].into(), 16).into()],
            bridge: "steadfast0".to_owned(),
            cgroup_parent: "/steadfast".to_owned(),
        }
    }
}
