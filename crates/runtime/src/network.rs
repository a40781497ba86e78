//! The built-in pod network: one bridge, one address and one veth pair per sandbox, masquerading towards the outside.

mod addresses;
mod host_ports;
mod links;

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ipnet::Ipv4Net;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub(crate) use addresses::Addresses;
pub(crate) use host_ports::{HostPort, wanted as wanted_host_ports};

/// The network of one runtime.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) bridge: String,
    pub(crate) pod_cidr: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
}

/// Why a network could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused over netlink.
    #[error("cannot {action}")]
    Netlink {
        /// What was tried.
        action: String,
        /// What the kernel said.
        source: Box<rtnetlink::Error>,
    },
    /// A file or a socket could not be used.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// nft did not accept our rules.
    #[error("nft failed: {reason}")]
    Nft {
        /// What it printed.
        reason: String,
    },
    /// Every address of the range is in use.
    #[error("no address is left in {cidr}")]
    NoAddress {
        /// The range.
        cidr: Ipv4Net,
    },
    /// The range is too small to hold a gateway and a pod.
    #[error("the pod address range {cidr} holds no pod")]
    TooSmall {
        /// The range.
        cidr: Ipv4Net,
    },
}

fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> NetworkError {
    let action = action.into();
    move |source| NetworkError::System { action, source }
}

impl Network {
    /// Makes the bridge and all that is needed to leave it, as far as it is not there yet.
    ///
    /// `ports` are those of the sandboxes that are connected already.
    pub(crate) async fn set_up(&self, ports: &[HostPort]) -> Result<(), NetworkError> {
        if self.pod_cidr.prefix_len() > 30 {
            return Err(NetworkError::TooSmall { cidr: self.pod_cidr });
        }
        links::make_bridge(self).await?;
        let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
        if !std::fs::read_to_string(forward).is_ok_and(|text| text.trim() == "1") {
            std::fs::write(forward, "1").map_err(system("turn IP forwarding on"))?;
        }
        // For 127.0.0.1:hostPort; that nobody else gets at what listens there, our rules see to.
        let localnet = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", self.bridge);
        let rules = self.rules() + &host_ports::open(&self.bridge, ports);
        // A machine that cannot masquerade still has a network that its pods can use among themselves.
        match self.nft(&rules).await {
            Ok(()) => std::fs::write(&localnet, "1").map_err(system(format!("write {localnet}")))?,
            Err(NetworkError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                tracing::warn!("nft is not installed: pods reach each other and this machine, but nothing beyond it");
            }
            Err(error) => {
                let error = crate::failure::chain(&error);
                tracing::warn!(
                    error,
                    "cannot masquerade: pods reach each other and this machine, but nothing beyond it"
                );
            }
        }
        Ok(())
    }

    /// Opens ports of the node that lead to a pod.
    pub(crate) async fn open_ports(&self, ports: &[HostPort]) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        self.nft(&host_ports::open(&self.bridge, ports)).await
    }

    /// Closes ports of the node; closed already is fine.
    pub(crate) async fn close_ports(&self, ports: &[HostPort]) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        self.nft(&host_ports::close(&self.bridge, ports)).await
    }

    /// Connects the network namespace held by `namespace`: its eth0 gets `address`.
    pub(crate) async fn connect(&self, id: &str, namespace: PathBuf, address: Ipv4Addr) -> Result<(), NetworkError> {
        links::make_pair(self, &host_end(id), &namespace, address).await?;
        let network = self.clone();
        let inside = move || links::configure_inside(&network, address);
        tokio::task::spawn_blocking(move || crate::namespaces::within_network(&namespace, inside))
            .await
            .map_err(|error| system("configure the pod's interface")(error.into()))?
            .map_err(system("configure the pod's interface"))
    }

    /// Removes what [`Network::connect`] made on this side; the other end goes with it.
    pub(crate) async fn disconnect(&self, id: &str) -> Result<(), NetworkError> {
        links::remove(&host_end(id)).await
    }

    /// Removes the bridge and the rules.
    pub(crate) async fn tear_down(&self) -> Result<(), NetworkError> {
        links::remove(&self.bridge).await?;
        match self
            .nft(&format!("add table ip {0}\ndelete table ip {0}\n", self.bridge))
            .await
        {
            Err(NetworkError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Replaces our own table, and nobody else's.
    fn rules(&self) -> String {
        let Self { bridge, pod_cidr, .. } = self;
        format!(
            "add table ip {bridge}
delete table ip {bridge}
table ip {bridge} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {pod_cidr} ip daddr != {pod_cidr} oifname != \"{bridge}\" masquerade
  }}
{}}}
",
            host_ports::rules(self)
        )
    }

    async fn nft(&self, rules: &str) -> Result<(), NetworkError> {
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut nft = nft.spawn().map_err(system("run nft"))?;
        let mut stdin = nft.stdin.take().expect("standard input is piped");
        stdin
            .write_all(rules.as_bytes())
            .await
            .map_err(system("write to nft"))?;
        drop(stdin);
        let output = nft.wait_with_output().await.map_err(system("wait for nft"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(NetworkError::Nft {
            reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// The host's end of a sandbox's veth pair; interface names have 15 bytes at most.
fn host_end(id: &str) -> String {
    format!("veth{}", id.chars().take(11).collect::<String>())
}

/// The same address always has the same MAC, so no neighbour remembers a wrong one.
fn mac(address: Ipv4Addr) -> Vec<u8> {
    [[0x0a, 0x58].as_slice(), &address.octets()].concat()
}
