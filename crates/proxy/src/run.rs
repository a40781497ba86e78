//! Keeps the kernel's rules equal to what the API says.

use crate::cluster::Shared;
use crate::health::{Check, Health};
use crate::nft::{self, NftError};
use crate::rules::{self, Surroundings};
use crate::ruleset::{self, Part, Ruleset};
use crate::service::{Family, Service, Slice};
use crate::stale::Answering;
use crate::{conntrack, zone};
use anyhow::Context;
use kube::Client;
use service_watch::Key;
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Changes that come within this time of each other are applied together: `nft` reads all rules at each start.
const GATHER: Duration = Duration::from_millis(10);

/// The pause after rules could not be applied, before the whole ruleset is tried.
const RETRY: Duration = Duration::from_secs(1);

/// How the proxy is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node, for policies that keep packets on it.
    pub node_name: String,
    /// Where pods are, as CIDRs: packets to a Service's own address from elsewhere come back through this machine.
    pub pod_cidrs: Vec<String>,
    /// Addresses of Services that this machine itself answers on, such as that of DNS: led to endpoints where there
    /// are some, else left alone.
    pub own_addresses: Vec<IpAddr>,
    /// Replace the source of every packet to a Service's own address. Needed where replies between two pods do not
    /// come through this machine, as on a bridge whose packets the kernel does not show to its filter.
    pub masquerade_all: bool,
}

impl Config {
    fn surroundings(&self) -> Surroundings {
        let family = |cidr: &String| if cidr.contains(':') { Family::V6 } else { Family::V4 };
        Surroundings {
            pod_cidrs: self.pod_cidrs.iter().map(|cidr| (family(cidr), cidr.clone())).collect(),
            own: self.own_addresses.iter().copied().collect(),
            masquerade_all: self.masquerade_all,
            zone: None,
        }
    }
}

/// Runs until `shutdown`; the rules stay. The API need not be there yet.
///
/// # Errors
/// When following the API stops, which has no reason to.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let shared = Shared::default();
    let mut followers = JoinSet::new();
    let (zoned, node_name) = (shared.clone(), config.node_name.clone());
    followers.spawn(zone::follow(client.clone(), node_name, move |zone| {
        zoned.set_zone(zone)
    }));
    let (told, node_name) = (shared.clone(), config.node_name.clone());
    followers.spawn(service_watch::follow(
        client,
        Service::read,
        move |slice| Some(Slice::read(slice, &node_name)),
        move |what| told.tell(what),
    ));
    let mut proxy = Proxy::new(config.surroundings());
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = proxy.follow(&shared) => Ok(()),
        ended = followers.join_next() => {
            ended.transpose().context("following the API stopped")?;
            anyhow::bail!("following the API stopped without a reason")
        }
    }
}

/// One family's rules, and whether the kernel has them.
#[derive(Debug)]
struct Half {
    family: Family,
    ruleset: Ruleset,
    is_in_force: bool,
    /// What an earlier start left behind was removed.
    is_cleared: bool,
}

#[derive(Debug)]
struct Proxy {
    around: Surroundings,
    halves: [Half; 2],
    health: Health,
    /// Looks for UDP clients that are led to where nobody is. There may be many, and rules do not wait for that.
    forgetting: JoinSet<()>,
    has_complained: bool,
}

/// What follows from the Services that changed.
#[derive(Debug, Default)]
struct Changes {
    parts: [Vec<(Key, Part)>; 2],
    checks: Vec<(Key, Option<Check>)>,
    /// Who may answer now for the Services that changed.
    answering: Answering,
}

impl Proxy {
    fn new(around: Surroundings) -> Self {
        let halves = Family::BOTH.map(|family| Half {
            family,
            ruleset: Ruleset::new(family, &around),
            is_in_force: false,
            is_cleared: false,
        });
        Self {
            around,
            halves,
            health: Health::default(),
            forgetting: JoinSet::new(),
            has_complained: false,
        }
    }

    /// Applies changes as they come.
    async fn follow(&mut self, shared: &Shared) {
        loop {
            shared.changed().await;
            while !self.step(shared).await {
                tokio::time::sleep(RETRY).await;
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Applies what changed; `false` if that must be tried again.
    async fn step(&mut self, shared: &Shared) -> bool {
        let Some(changes) = self.changes(shared) else {
            return true;
        };
        let mut is_done = true;
        for (half, parts) in self.halves.iter_mut().zip(changes.parts) {
            if let Err(error) = half.apply(parts).await {
                is_done = false;
                if !std::mem::replace(&mut self.has_complained, true) {
                    complain(&error);
                }
            }
        }
        for (key, check) in changes.checks {
            if !self.health.set(&key, check).await {
                shared.lock().again(key);
                is_done = false;
            }
        }
        if !changes.answering.is_empty() {
            // One after the other: what the later one knows is what counts.
            while self.forgetting.join_next().await.is_some() {}
            self.forgetting.spawn(forget(changes.answering));
        }
        if is_done && std::mem::take(&mut self.has_complained) {
            tracing::info!("packets to Services are led again");
        }
        is_done
    }

    /// What changed; `None` before everything was listed.
    fn changes(&mut self, shared: &Shared) -> Option<Changes> {
        let mut cluster = shared.lock();
        if !cluster.services.is_known() {
            return None;
        }
        let changed = cluster.take_changed();
        self.around.zone.clone_from(&cluster.zone);
        let (around, services) = (&self.around, &cluster.services);
        let parts = Family::BOTH.map(|family| {
            let part = |key: &Key| match services.service(key) {
                Some(service) => rules::of_service(around, family, key, service, services.slices(key)),
                None => Part::default(),
            };
            changed.iter().map(|key| (key.clone(), part(key))).collect()
        });
        let check = |key: &Key| {
            let port = services.service(key)?.health_port?;
            let endpoints = endpoints_here(services.slices(key));
            Some(Check { port, endpoints })
        };
        let mut answering = Answering::default();
        for key in &changed {
            if let Some(service) = services.service(key) {
                answering.add(service, services.slices(key), |address| around.own.contains(address));
            }
        }
        Some(Changes {
            parts,
            answering,
            checks: changed.iter().map(|key| (key.clone(), check(key))).collect(),
        })
    }
}

/// The ready endpoints on this node, each once.
fn endpoints_here<'a>(slices: impl Iterator<Item = &'a Slice>) -> usize {
    let endpoints = slices.flat_map(|slice| &slice.endpoints);
    let here = endpoints.filter(|endpoint| endpoint.is_here && endpoint.is_ready);
    here.map(|endpoint| endpoint.address).collect::<HashSet<_>>().len()
}

/// Makes the kernel lead UDP clients of endpoints that are gone to others.
async fn forget(answering: Answering) {
    let work = move || Family::BOTH.map(|family| conntrack::forget(family, |flow| answering.is_stale(flow)));
    let Ok(outcomes) = tokio::task::spawn_blocking(work).await else {
        return;
    };
    for outcome in outcomes {
        match outcome {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "UDP clients are led to other endpoints"),
            Err(error) => tracing::debug!(%error, "the kernel does not tell of UDP clients"),
        }
    }
}

impl Half {
    async fn apply(&mut self, parts: Vec<(Key, Part)>) -> Result<(), NftError> {
        let commands = self.ruleset.change(parts);
        if !self.is_in_force {
            // A machine without IPv6 need not be able to have rules for it.
            if self.family == Family::V6 && self.ruleset.is_empty() {
                if !std::mem::replace(&mut self.is_cleared, true) {
                    let cleared = nft::apply(&ruleset::removal(self.family)).await;
                    tracing::debug!(?cleared, "rules of an earlier start are removed");
                }
                return Ok(());
            }
            return self.apply_whole().await;
        }
        if commands.is_empty() {
            return Ok(());
        }
        tracing::trace!(commands, "rules change");
        if let Err(error) = nft::apply(&commands).await {
            // Somebody else may have changed our table: the whole ruleset does not depend on what is there.
            tracing::debug!(%error, "a change of rules was refused, all are replaced");
            self.is_in_force = false;
            self.apply_whole().await?;
        }
        Ok(())
    }

    async fn apply_whole(&mut self) -> Result<(), NftError> {
        let remembered = nft::remembered(self.family).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "it is not known which clients are remembered");
            Vec::new()
        });
        nft::apply(&self.ruleset.whole(&remembered)).await?;
        self.is_in_force = true;
        Ok(())
    }
}

fn complain(error: &NftError) {
    if error.is_missing() {
        tracing::warn!("nft is not installed: addresses of Services lead nowhere (install the package nftables)");
        return;
    }
    tracing::warn!(%error, "packets to Services are not led: the rules cannot be applied");
}
