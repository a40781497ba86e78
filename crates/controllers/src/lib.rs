//! One executor and a table of controllers, clients of any Kubernetes API server.
//!
//! The data's way: one watch per kind feeds a cache ([`reflect`]), a change wakes the keys that it concerns
//! ([`queue`]), a worker plans from the caches once they show its own last writes ([`freshness`], [`table`]), and the
//! executor carries the plan out ([`execute`]). What is decided is decided in `controllers-plan`; this crate must not
//! know of a store, of the apiserver, or of any other service.

use std::sync::Arc;

use anyhow::Context;
use controllers_plan::Kind;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use controllers_plan::statefulset::Gates;
pub use metrics::Metrics;
pub use signer::{Signer, SignerError};

mod cache;
mod caches;
mod custom;
mod execute;
mod freshness;
mod head;
mod metrics;
mod names;
mod queue;
mod record;
mod reflect;
mod refusals;
mod rests;
mod send;
mod served;
mod signer;
mod table;
mod work;

use crate::caches::Watchlist;
use crate::execute::Executor;
use crate::names::is_meant;
use crate::queue::Queue;
use crate::table::Row;
use crate::work::{Running, Works};

/// What the controllers are to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which controllers run, in the syntax of kube-controller-manager's `--controllers`: `*` is all, `name` one,
    /// `-name` not that one; the later entry wins.
    pub controllers: Vec<String>,
    /// Feature gates of the StatefulSet controller.
    pub gates: Gates,
    /// The authority's certificate in PEM, which every namespace gets a copy of (ConfigMap `kube-root-ca.crt`); none
    /// are made without it.
    pub root_ca: Option<String>,
    /// The authority that signs approved certificate signing requests; none are signed without it.
    pub signer: Option<Signer>,
    /// Where what the queue does is counted.
    pub metrics: Metrics,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_owned()],
            gates: Gates::default(),
            root_ca: None,
            signer: None,
            metrics: Metrics::default(),
        }
    }
}

impl Config {
    /// Whether a controller runs. It may be called by an alias, too: mostly its name without `-controller`.
    pub fn is_enabled(&self, name: &str) -> bool {
        let verdict = |entry: &String| match entry.strip_prefix('-') {
            _ if entry == "*" => Some(true),
            Some(entry) => is_meant(entry, name).then_some(false),
            None => is_meant(entry, name).then_some(true),
        };
        self.controllers.iter().rev().find_map(verdict).unwrap_or(false)
    }

    /// The entries that mean no controller that there is.
    pub fn unknown_controllers(&self) -> Vec<&str> {
        let all = Self {
            controllers: vec!["*".to_owned()],
            root_ca: Some(String::new()),
            ..Self::default()
        };
        let rows = table::rows(&all);
        // Its row takes an authority.
        let known: Vec<&str> = rows.iter().map(|row| row.name).chain([names::SIGNING]).collect();
        let bare = |entry: &'_ str| entry.strip_prefix('-').unwrap_or(entry).to_owned();
        let is_known = |entry: &str| entry == "*" || known.iter().any(|name| is_meant(&bare(entry), name));
        self.controllers
            .iter()
            .map(String::as_str)
            .filter(|entry| !is_known(entry))
            .collect()
    }
}

/// Runs the controllers until shutdown.
///
/// # Errors
/// If a task of theirs ends though nobody asked it to.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut watchlist = Watchlist::default();
    let table = table::rows(&config);
    let custom: Vec<_> = table
        .iter()
        .enumerate()
        .filter_map(|(row, what)| Some((row, table::of_custom(what.name)?)))
        .collect();
    let running = table
        .into_iter()
        .enumerate()
        .map(|(row, what)| start(&mut watchlist, row, what));
    let rows: Vec<Running> = running.collect();
    let Watchlist { caches, reflections } = watchlist;
    let metrics = rows.iter().map(|row| config.metrics.of(row.name)).collect();
    let (caches, queue) = (Arc::new(caches), Arc::new(Queue::new(metrics)));
    let (recorder, writer) = record::channel(client.clone());
    let mut tasks = JoinSet::new();
    for reflection in reflections {
        tasks.spawn(reflection(client.clone(), caches.clone(), queue.clone()));
    }
    if !custom.is_empty() {
        tasks.spawn(custom::follow(client.clone(), caches.clone(), queue.clone(), custom));
    }
    tasks.spawn(writer.run());
    let works = Arc::new(Works::new(rows, caches, queue, Executor { client, recorder }));
    tokio::select! {
        biased;
        ended = work::work(works, shutdown.clone()) => ended.context("a controller's turn failed"),
        Some(ended) = tasks.join_next() => {
            ended.context("a task of the controllers failed")?;
            anyhow::ensure!(shutdown.is_cancelled(), "a task of the controllers ended");
            Ok(())
        }
    }
}

fn start(watchlist: &mut Watchlist, row: usize, what: Row) -> Running {
    let kinds: Vec<Kind> = what.watches.iter().map(|watch| watch.kind).collect();
    for watch in what.watches {
        (watch.enlist)(watchlist, row);
    }
    Running {
        name: what.name,
        kinds,
        prepare: table::preparation(what.name),
        decide: what.decide,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_no_controller_is_unknown() {
        let entries = [
            "*",
            "statefulset",
            "-podgc",
            "root-ca-certificate-publisher-controller",
            "-nobody",
            "nothing",
        ];
        let config = Config {
            controllers: entries.map(str::to_owned).to_vec(),
            ..Config::default()
        };
        assert_eq!(config.unknown_controllers(), ["-nobody", "nothing"]);
    }

    #[test]
    fn a0_4_a_controller_is_called_by_its_name_or_its_alias() {
        let config = |entries: &[&str]| Config {
            controllers: entries.iter().map(|&entry| entry.to_owned()).collect(),
            ..Config::default()
        };
        for name in ["statefulset-controller", "statefulset"] {
            assert!(config(&[name]).is_enabled("statefulset-controller"));
            assert!(!config(&["*", &format!("-{name}")]).is_enabled("statefulset-controller"));
            assert!(!config(&[name]).is_enabled("namespace-controller"));
        }
    }

    #[test]
    fn the_later_entry_of_the_controllers_list_wins() {
        let config = |entries: &[&str]| Config {
            controllers: entries.iter().map(|&entry| entry.to_owned()).collect(),
            ..Config::default()
        };
        assert!(Config::default().is_enabled("statefulset-controller"));
        assert!(!config(&["*", "-statefulset-controller"]).is_enabled("statefulset-controller"));
        assert!(config(&["*", "-statefulset-controller"]).is_enabled("namespace-controller"));
        assert!(!config(&["namespace-controller"]).is_enabled("statefulset-controller"));
        assert!(config(&["-namespace-controller", "*"]).is_enabled("namespace-controller"));
    }
}
