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
        self.forget_others().await;
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

    /// Removes what an earlier configuration has left of families that pods do not have any more.
    async fn forget_others(&self) {
        let own: Vec<Family> = self.ranges.iter().map(Family::of).collect();
        for family in Family::BOTH.into_iter().filter(|family| !own.contains(family)) {
            self.forget(family).await;
        }
    }

    async fn forget(&self, family: Family) {
        if let Err(error) = self.nft(&rules::none(family, &self.bridge)).await {
            let error = crate::failure::chain(&error);
            tracing::debug!(error, ?family, "cannot remove the rules of a family, so there are none");
        }
    }

    /// Opens ports of the node that lead to a pod. A family that this machine could not make rules of is left out, as
    /// long as there is another one.
    pub(crate) async fn open_ports(&self, ports: &[HostPort]) -> Result<(), NetworkError> {
        let (mut is_open, mut missing) = (false, None);
        for (family, rules) in self.each_family(ports, host_ports::open) {
            match self.nft(&rules).await {
                Ok(()) => is_open = true,
                Err(error) if self.has_table(family).await => return Err(error),
                Err(error) => missing = Some(error),
            }
        }
        match missing {
            Some(error) if is_open => {
                let error = crate::failure::chain(&error);
                tracing::warn!(error, "host ports are open to one family only");
                Ok(())
            }
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Closes ports of the node; closed already is fine.
    pub(crate) async fn close_ports(&self, ports: &[HostPort]) -> Result<(), NetworkError> {
        let mut closed = Ok(());
        for (family, rules) in self.each_family(ports, host_ports::close) {
            // What stays open of one family must not keep the other one open.
            if let Err(error) = self.nft(&rules).await
                && self.has_table(family).await
            {
                closed = Err(error);
            }
        }
        closed
    }

    /// What to tell nft of ports, one family at a time: one that fails does not take the other one with it. Pods of an
    /// earlier configuration may have addresses of a family that there are no rules of any more.
    fn each_family(&self, ports: &[HostPort], rules: fn(Family, &str, &[HostPort]) -> String) -> Vec<(Family, String)> {
        let families = self.ranges.iter().map(Family::of);
        families
            .map(|family| (family, rules(family, &self.bridge, ports)))
            .filter(|(_, rules)| !rules.is_empty())
            .collect()
    }

    async fn has_table(&self, family: Family) -> bool {
        self.nft(&rules::look(family, &self.bridge)).await.is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use cri::v1::{PodSandboxConfig, PortMapping};
    use nix::sched::{CloneFlags, unshare};

    fn network(ranges: &[&str]) -> Network {
        let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        Network {
            bridge: "steadfast-test".to_owned(),
            ranges: Ranges::new(&ranges),
        }
    }

    const FOUR: &str = "10.9.0.0/24";
    const SIX: &str = "fd00:9::/64";

    fn ports(addresses: &[&str]) -> Vec<HostPort> {
        let mapping = PortMapping {
            container_port: 80,
            host_port: 8080,
            ..PortMapping::default()
        };
        let config = PodSandboxConfig {
            port_mappings: vec![mapping],
            ..PodSandboxConfig::default()
        };
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().expect("an address")).collect();
        wanted_host_ports(&config, &addresses).expect("ports")
    }

    #[test]
    fn nft_is_told_of_the_families_of_the_ranges() {
        let families = |ranges: &[&str], addresses: &[&str]| -> Vec<Family> {
            let told = network(ranges).each_family(&ports(addresses), host_ports::close);
            told.into_iter().map(|(family, _)| family).collect()
        };
        let both = ["10.9.0.5", "fd00:9::5"];
        assert_eq!(families(&[FOUR], &both), [Family::Four]);
        assert_eq!(families(&[SIX], &both), [Family::Six]);
        assert_eq!(families(&[FOUR, SIX], &both), [Family::Four, Family::Six]);
        assert_eq!(families(&[FOUR, SIX], &["10.9.0.5"]), [Family::Four]);
        assert_eq!(families(&[FOUR, SIX], &[]), []);
    }

    /// Runs in a network of its own, which ends with the thread; not where there is no nft.
    fn in_a_network_of_its_own(test: impl Future<Output = ()> + Send + 'static) {
        let thread = std::thread::spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                println!("no network of its own: {error}");
                return;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                match network(&[]).nft("list tables\n").await {
                    Ok(()) => test.await,
                    Err(error) => println!("no nft: {error}"),
                }
            });
        });
        thread.join().expect("no panic");
    }

    async fn make_table(network: &Network, range: &str) {
        let range: IpNet = range.parse().expect("a range");
        let rules = rules::table(Family::of(range), &network.bridge, range);
        network.nft(&rules).await.expect("a table");
    }

    #[test]
    fn a_family_without_rules_leaves_the_other_one_alone() {
        in_a_network_of_its_own(async {
            let network = network(&[FOUR, SIX]);
            let both = ports(&["10.9.0.5", "fd00:9::5"]);
            assert!(network.open_ports(&both).await.is_err(), "no family has rules");
            make_table(&network, FOUR).await;
            network.open_ports(&both).await.expect("open for one family");
            let others = ports(&["10.9.0.6", "fd00:9::6"]);
            assert!(network.open_ports(&others).await.is_err(), "the port is taken");
            network.close_ports(&both).await.expect("closed");
            network.open_ports(&others).await.expect("the port is free again");
        });
    }

    #[test]
    fn rules_of_families_that_pods_do_not_have_any_more_go() {
        in_a_network_of_its_own(async {
            for (kept, gone) in [(FOUR, SIX), (SIX, FOUR)] {
                let network = network(&[kept]);
                make_table(&network, kept).await;
                make_table(&network, gone).await;
                network.forget_others().await;
                let family = |range: &str| Family::of(range.parse().expect("a range"));
                assert!(network.has_table(family(kept)).await && !network.has_table(family(gone)).await);
            }
        });
    }
}
