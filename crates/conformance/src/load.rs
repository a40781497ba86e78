//! Writes to a database without end from a pod of their own, and what a database must outlive meanwhile.
//!
//! The pod prints `ack KEY` for every write that the database has acknowledged, so the list of them is the pod's log,
//! which neither the database nor our daemon can lose.

use crate::cluster::Cluster;
use crate::kubectl::{Kubectl, PATIENCE};
use anyhow::{Context, ensure};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// From one kill of the daemon to the next.
const BETWEEN_KILLS: Duration = Duration::from_secs(5);
const KILLS: usize = 3;
/// So many new acknowledgements show that the database takes writes again.
const PROGRESS: usize = 5;

/// A pod that writes.
#[derive(Debug)]
pub struct Load {
    kubectl: Kubectl,
}

impl Load {
    /// Starts `script` in a pod with `image`; it writes until the file `/tmp/stop` is there.
    ///
    /// # Errors
    /// When the pod cannot be made or does not start.
    pub fn start(kubectl: &Kubectl, image: &str, script: &str) -> anyhow::Result<Self> {
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "load"},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "load", "image": image, "command": ["/bin/bash", "-c", script]}],
            },
        });
        kubectl.run_with("create -f -", &pod.to_string())?;
        kubectl.run("wait --for=condition=Ready pod/load --timeout=120s")?;
        Ok(Self {
            kubectl: kubectl.clone(),
        })
    }

    /// The keys of all writes acknowledged so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn acknowledged(&self) -> anyhow::Result<BTreeSet<String>> {
        let log = self.kubectl.run("logs load")?;
        Ok(log
            .lines()
            .filter_map(|line| line.strip_prefix("ack "))
            .map(str::to_owned)
            .collect())
    }

    /// Waits until writes are acknowledged that were not before.
    ///
    /// # Errors
    /// When there are none in time.
    pub fn goes_on(&self) -> anyhow::Result<()> {
        let mut before = None;
        let end = Instant::now() + PATIENCE;
        loop {
            // For a moment after a restart of the daemon the API may send us to where logs were read before.
            let count = self.acknowledged().map(|all| all.len());
            if let Ok(count) = count {
                if count >= before.unwrap_or(count) + PROGRESS {
                    return Ok(());
                }
                before.get_or_insert(count);
            }
            let log = || self.kubectl.run("logs load --tail=20");
            ensure!(Instant::now() < end, "no writes go through ({count:?}): {:?}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends the writing; the keys of all acknowledged writes.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(self) -> anyhow::Result<BTreeSet<String>> {
        self.kubectl.shell("load", ": > /tmp/stop")?;
        self.kubectl
            .run("wait --for=jsonpath={.status.phase}=Succeeded pod/load --timeout=60s")?;
        self.acknowledged()
    }
}

/// What the StatefulSet `set` has to go through while `load` writes: each of its pods is deleted in turn, the daemon is
/// killed again and again, all pods are replaced by a rolling update.
///
/// # Errors
/// When the set does not recover, or writes do not go on, after any of it.
pub fn ordeal(cluster: &mut Cluster, set: &str, replicas: usize, load: &Load) -> anyhow::Result<()> {
    let kubectl = cluster.kubectl();
    let recovered = || -> anyhow::Result<()> {
        let status = kubectl.run(&format!("rollout status statefulset {set} --timeout=120s"));
        status.with_context(|| what_is_wrong(&kubectl, set))?;
        load.goes_on()
    };
    recovered().context("at the start")?;
    for ordinal in 0..replicas {
        kubectl.run(&format!("delete pod {set}-{ordinal}"))?;
        recovered().with_context(|| format!("after {set}-{ordinal} was deleted"))?;
    }
    for kill in 1..=KILLS {
        let next = Instant::now() + BETWEEN_KILLS;
        cluster.kill()?;
        cluster.up()?;
        load.goes_on()
            .with_context(|| format!("after kill {kill} of the daemon"))?;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    recovered().context("after the daemon was killed")?;
    kubectl.run(&format!("rollout restart statefulset {set}"))?;
    recovered().context("after the rolling update")
}

/// The pods and the ends of their logs.
fn what_is_wrong(kubectl: &Kubectl, set: &str) -> String {
    let ask = |line: &str| kubectl.run(line).unwrap_or_else(|error| format!("{error:#}"));
    let pods = ask("get pods -o wide");
    let logs = pods.lines().filter_map(|line| line.split(' ').next());
    let logs = logs.filter(|name| name.starts_with(set));
    let logs: Vec<String> = logs.map(|name| ask(&format!("logs {name} --tail=10"))).collect();
    format!("{pods}\n{}", logs.join("\n"))
}

/// Every acknowledged write is among those `found` in the database.
///
/// # Errors
/// When one is missing.
pub fn none_is_lost(acknowledged: &BTreeSet<String>, found: &BTreeSet<String>) -> anyhow::Result<()> {
    let lost: Vec<&String> = acknowledged.difference(found).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} acknowledged writes are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    eprintln!("{} acknowledged writes, none lost", acknowledged.len());
    Ok(())
}
