//! Two control planes on three members of etcd: either of them and any one of the members may die.

use anyhow::{Context, ensure};
use conformance::control_plane::ControlPlane;
use conformance::etcd::Etcd;
use conformance::kubectl::{Kubectl, PATIENCE};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const WRITERS: usize = 3;

const SET: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: i}]
"#;

/// What the writers share.
#[derive(Debug, Default)]
struct Progress {
    acknowledged: AtomicUsize,
    stop: AtomicBool,
}

impl Progress {
    /// Waits until this many more writes are acknowledged.
    fn more(&self, count: usize) -> anyhow::Result<()> {
        let target = self.acknowledged.load(Ordering::Relaxed) + count;
        let end = Instant::now() + PATIENCE;
        while self.acknowledged.load(Ordering::Relaxed) < target {
            ensure!(Instant::now() < end, "writes do not go on");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Makes ConfigMaps, each through whichever server answers; the names of those that were acknowledged.
fn write(writer: usize, servers: &[Kubectl; 2], progress: &Progress) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut server = writer % 2;
    while !progress.stop.load(Ordering::Relaxed) {
        let name = format!("w{writer}-{}", names.len());
        let output = servers[server].output(&format!(
            "create configmap {name} --from-literal=k=v --request-timeout=15s"
        ))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // A try whose answer was lost may have succeeded.
        if output.status.success() || said.contains("AlreadyExists") || said.contains("already exists") {
            names.push(name);
            progress.acknowledged.fetch_add(1, Ordering::Relaxed);
        } else {
            server = 1 - server;
        }
    }
    Ok(names)
}

#[test]
fn a_member_and_then_a_server_may_die() {
    survive().unwrap();
}

fn survive() -> anyhow::Result<()> {
    let mut etcd = Etcd::start(3)?;
    let mut first = ControlPlane::start("first", &etcd, None)?;
    let second = ControlPlane::start("second", &etcd, Some(&first))?;
    let servers = [first.kubectl(), second.kubectl()];
    addresses_are_given_once(&servers)?;
    let progress = Progress::default();
    let written = std::thread::scope(|scope| -> anyhow::Result<Vec<String>> {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let (servers, progress) = (&servers, &progress);
                    move || write(writer, servers, progress)
                })
            })
            .collect();
        let disturbed = (|| {
            progress.more(10)?;
            etcd.kill_member(0)?;
            progress.more(10)?;
            first.kill()?;
            progress.more(10)
        })();
        progress.stop.store(true, Ordering::Relaxed);
        let mut written = Vec::new();
        for writer in writers {
            written.extend(writer.join().expect("a writer does not panic")?);
        }
        disturbed.with_context(|| format!("the second server's log:\n{}", second.log()))?;
        Ok(written)
    })?;
    let found = servers[1].run("get configmaps -o name")?;
    let found: BTreeSet<&str> = found
        .lines()
        .filter_map(|line| line.strip_prefix("configmap/"))
        .collect();
    for name in &written {
        ensure!(found.contains(name.as_str()), "{name} was acknowledged and is lost");
    }
    // Whoever led before, the server that is left does so now.
    servers[1].run_with("create -f -", SET)?;
    servers[1].watch("pods", |event, pod| {
        event == "ADDED" && pod["metadata"]["name"] == "web-0"
    })?;
    Ok(())
}

/// Services made through both servers at once get different addresses.
fn addresses_are_given_once(servers: &[Kubectl; 2]) -> anyhow::Result<()> {
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let making: Vec<_> = (0..2)
            .map(|server| {
                scope.spawn(move || {
                    let names = (0..6).map(|n| format!("s{server}-{n}"));
                    let services: Vec<String> = names.map(|name| service(&name)).collect();
                    servers[server].run_with("create -f -", &services.join("---\n"))
                })
            })
            .collect();
        for made in making {
            made.join().expect("it does not panic")?;
        }
        Ok(())
    })?;
    let services = servers[0].get("services")?;
    let services: Vec<_> = services["items"].as_array().context("a list")?.iter().collect();
    let ips: BTreeSet<String> = services.iter().map(|s| s["spec"]["clusterIP"].to_string()).collect();
    let ports = services
        .iter()
        .filter_map(|s| s["spec"]["ports"][0]["nodePort"].as_u64());
    let ports: BTreeSet<u64> = ports.collect();
    ensure!(ips.len() == services.len(), "an address was given twice: {ips:?}");
    ensure!(ports.len() == 12, "a node port was given twice: {ports:?}");
    Ok(())
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{type: NodePort, selector: {{app: a}}, ports: [{{port: 80}}]}}\n"
    )
}
