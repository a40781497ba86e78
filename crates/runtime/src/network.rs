//! The built-in pod network: one bridge, one veth pair per sandbox with an address of each family that pods have,
//! masquerading towards the outside.

mod addresses;
mod forwarding;
mod host_ports;
mod links;
mod ranges;
mod rules;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;

use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub(crate) use addresses::Addresses;
pub(crate) use host_ports::{HostPort, wanted as wanted_host_ports};
pub(crate) use ranges::Ranges;
use rules::Family;

/// The network of one runtime.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) bridge: String,
    pub(crate) ranges: Ranges,
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
    /// Every address of the ranges is in use.
    #[error("no address is left in {ranges}")]
    NoAddress {
        /// The ranges.
        ranges: String,
    },
    /// A range is too small to hold a gateway and a pod.
    #[error("the pod address range {ranges} holds no pod")]
    TooSmall {
        /// The ranges.
        ranges: String,
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
        let (first, end) = self.ranges.places();
        if first >= end {
            let ranges = self.ranges.to_string();
            return Err(NetworkError::TooSmall { ranges });
        }
        links::make_bridge(self).await?;
        let six = self.ranges.six();
        if self.ranges.four().is_some() {
            forwarding::turn_on_four()?;
        }
        if six.is_some() {
            forwarding::turn_on_six(&self.bridge)?;
        }
        for range in self.ranges.iter() {
            self.set_up_rules(Family::of(range), range, ports).await?;
        }
        if six.is_none() {
            self.forget(Family::Six).await;
        }
        Ok(())
    }

    async fn set_up_rules(&self, family: Family, range: IpNet, ports: &[HostPort]) -> Result<(), NetworkError> {
        let rules = rules::table(family, &self.bridge, range) + &host_ports::open(family, &self.bridge, ports);
        // A machine that cannot masquerade still has a network that its pods can use among themselves.
        match self.nft(&rules).await {
            Ok(()) if family == Family::Four => forwarding::allow_loopback(&self.bridge)?,
            Ok(()) => {}
            Err(NetworkError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                tracing::warn!("nft is not installed: pods reach each other and this machine, but nothing beyond it");
            }
            Err(error) => {
                let error = crate::failure::chain(&error);
                tracing::warn!(
                    error,
                    %range,
                    "cannot masquerade: pods reach each other and this machine, but nothing beyond it"
                );
            }
        }
        Ok(())
    }

    /// Removes what an earlier configuration has left of a family that pods do not have any more.
    async fn forget(&self, family: Family) {
        if let Err(error) = self.nft(&rules::none(family, &self.bridge)).await {
            let error = crate::failure::chain(&error);
            tracing::debug!(error, "cannot remove the rules of IPv6, so there are none");
        }
    }

    /// Opens ports of the node that lead to a pod.
    pub(crate) async fn open_ports(&self, ports: &[HostPort]) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        self.nft(
            &Family::BOTH
                .map(|family| host_ports::open(family, &self.bridge, ports))
                .concat(),
        )
        .await
    }

    /// Closes ports of the node; closed already is fine.
    pub(crate) async fn close_ports(&self, ports: &[HostPort]) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        self.nft(
            &Family::BOTH
                .map(|family| host_ports::close(family, &self.bridge, ports))
                .concat(),
        )
        .await
    }

    /// Connects the network namespace held by `namespace`: its eth0 gets `addresses`.
    pub(crate) async fn connect(
        &self,
        id: &str,
        namespace: PathBuf,
        addresses: Vec<IpAddr>,
    ) -> Result<(), NetworkError> {
        links::make_pair(self, &host_end(id), &namespace, &addresses).await?;
        let network = self.clone();
        let inside = move || links::configure_inside(&network, &addresses);
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
        self.forget(Family::Six).await;
        match self.nft(&rules::none(Family::Four, &self.bridge)).await {
            Err(NetworkError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
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

/// The same addresses always have the same MAC, so no neighbour remembers a wrong one. The end of an address tells it
/// from all others of its range.
fn mac(addresses: &[IpAddr]) -> Vec<u8> {
    let end = match addresses.first() {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => *address.octets().last_chunk().expect("it has 16"),
        None => [0; 4],
    };
    [[0x0a, 0x58].as_slice(), &end].concat()
}
