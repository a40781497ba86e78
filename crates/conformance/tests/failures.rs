//! What breaks on a node and what then becomes of it: killed monitors and processes, processes that do not want to end,
//! pods that take too much, a machine that starts anew. After each nothing is left that has no owner.

use anyhow::{Context, bail, ensure};
use conformance::cluster::{Cluster, Runtime};
use conformance::kubectl::Kubectl;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the node may take to clear up after a pod that is gone from the API.
const PATIENCE: Duration = Duration::from_secs(20);

fn pod(name: &str, more: &str, script: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  {more}
  containers:
  - name: main
    image: steadfast.local/web:1
    command: [/bin/sh, -c, {script:?}]
    resources: {{limits: {{memory: 64Mi}}}}
    volumeMounts: [{{name: scratch, mountPath: /scratch}}, {{name: memory, mountPath: /memory}}]
  volumes:
  - {{name: scratch, emptyDir: {{sizeLimit: 1Mi}}}}
  - {{name: memory, emptyDir: {{medium: Memory}}}}
"#
    )
}

#[test]
fn a_node_gets_over_failures_and_leaves_nothing_behind() {
    run().unwrap();
}

fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Runtime::Embedded)?;
    let kubectl = cluster.kubectl();
    killed_processes_are_replaced(&cluster, &kubectl).context("killed processes")?;
    the_unwilling_end(&kubectl).context("processes that do not want to end")?;
    the_greedy_are_evicted(&kubectl).context("a volume beyond its limit")?;
    what_does_not_fit_is_refused(&kubectl).context("pods that the scheduler did not see")?;
    nothing_is_left(&cluster).context("after all pods are gone")?;
    pods_outlive_a_reboot(&mut cluster, &kubectl).context("a machine that starts anew")?;
    nothing_is_left(&cluster).context("after the reboot and the end of all pods")
}

/// The folder of the pod's running container.
fn container(cluster: &Cluster, kubectl: &Kubectl, name: &str) -> anyhow::Result<PathBuf> {
    let status = &kubectl.get(&format!("pod {name}"))?["status"]["containerStatuses"][0];
    let id = status["containerID"].as_str().context("no container")?;
    let id = id.rsplit('/').next().unwrap_or_default();
    Ok(cluster.data_dir().join("runtime/containers").join(id))
}

/// kill -9 of the process that a record names.
fn kill(record: &Path) -> anyhow::Result<()> {
    let record: Value = serde_json::from_slice(&fs::read(record)?)?;
    let pid = record["pid"].as_i64().context("no pid")?.to_string();
    ensure!(
        Command::new("kill").args(["-9", &pid]).status()?.success(),
        "kill -9 {pid}"
    );
    Ok(())
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_i64()
        .unwrap_or(0)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// The first restart comes at once, and the container's work goes on.
fn killed_processes_are_replaced(cluster: &Cluster, kubectl: &Kubectl) -> anyhow::Result<()> {
    for (name, record) in [("no-monitor", "monitor.pid"), ("no-init", "created.json")] {
        kubectl.run_with("apply -f -", &pod(name, "", "sleep 1000"))?;
        kubectl.run(&format!("wait --for=condition=Ready pod/{name} --timeout=60s"))?;
        kill(&container(cluster, kubectl, name)?.join(record))?;
        let again = kubectl.watch(&format!("pod {name}"), |_, pod| restarts(pod) == 1 && is_ready(pod))?;
        let last = &again["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"];
        ensure!(*last == 137, "{name} ended with {last}");
    }
    kubectl.run("delete pod no-monitor no-init --timeout=60s")?;
    Ok(())
}

/// One that ignores SIGTERM, and one that forks without end, are gone after their grace.
fn the_unwilling_end(kubectl: &Kubectl) -> anyhow::Result<()> {
    let forks = "f() { while :; do sleep 1000 & done; }; f & f & wait";
    for (name, script) in [("deaf", "trap '' TERM; while :; do sleep 1; done"), ("forks", forks)] {
        kubectl.run_with("apply -f -", &pod(name, "restartPolicy: Never", script))?;
        kubectl.watch(&format!("pod {name}"), |_, pod| pod["status"]["phase"] != "Pending")?;
    }
    kubectl.run("delete pod deaf forks --timeout=60s")?;
    Ok(())
}

/// What writes more to a volume than it may is ended, and said to be.
fn the_greedy_are_evicted(kubectl: &Kubectl) -> anyhow::Result<()> {
    let script = "head -c 4000000 /dev/zero >/scratch/much; sleep 1000";
    kubectl.run_with("apply -f -", &pod("greedy", "", script))?;
    let evicted = kubectl.watch("pod greedy", |_, pod| pod["status"]["phase"] == "Failed")?;
    let status = &evicted["status"];
    ensure!(status["reason"] == "Evicted", "{status}");
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(
        message == "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ",
        "{message}"
    );
    kubectl.run("delete pod greedy --timeout=60s")?;
    Ok(())
}

/// Who names the node passes the scheduler by, but not the node's own checks.
fn what_does_not_fit_is_refused(kubectl: &Kubectl) -> anyhow::Result<()> {
    let node = kubectl.run("get nodes -o name")?;
    let node = node.trim().trim_start_matches("node/");
    let bound = |name: &str, more: &str| {
        let image = "image: steadfast.local/web:1";
        let script = format!("nodeName: {node}\n  {more}");
        pod(name, &script, "sleep 1000").replace(
            image,
            &format!("{image}\n    ports: [{{containerPort: 80, hostPort: 18080}}]"),
        )
    };
    kubectl.run_with("apply -f -", &bound("first", ""))?;
    kubectl.run("wait --for=condition=Ready pod/first --timeout=60s")?;
    for (name, more, reason) in [
        ("second", "", "NodePorts"),
        ("astray", "nodeSelector: {no: such}", "NodeAffinity"),
    ] {
        kubectl.run_with("apply -f -", &bound(name, more))?;
        let refused = kubectl.watch(&format!("pod {name}"), |_, pod| pod["status"]["phase"] == "Failed")?;
        ensure!(refused["status"]["reason"] == reason, "{}", refused["status"]);
    }
    kubectl.run("delete pod first second astray --timeout=60s")?;
    Ok(())
}

/// As after a power cut: no process, no mount and no namespace of before is there any more.
fn pods_outlive_a_reboot(cluster: &mut Cluster, kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.run_with("apply -f -", &pod("lives", "", "sleep 1000"))?;
    kubectl.run("wait --for=condition=Ready pod/lives --timeout=60s")?;
    let folder = container(cluster, kubectl, "lives")?;
    cluster.kill()?;
    kill(&folder.join("monitor.pid"))?;
    kill(&folder.join("created.json"))?;
    for mount in mounts(&cluster.data_dir())?.iter().rev() {
        ensure!(
            Command::new("umount").args(["-l", mount]).status()?.success(),
            "umount {mount}"
        );
    }
    let held: Vec<String> = mounts(Path::new("/run/steadfast"))?;
    for mount in held.iter().rev() {
        ensure!(
            Command::new("umount").args(["-l", mount]).status()?.success(),
            "umount {mount}"
        );
    }
    fs::remove_dir_all("/run/steadfast")?;
    Command::new("ip").args(["link", "delete", "steadfast0"]).status()?;
    fs::write(cluster.data_dir().join("runtime/boot"), "\"another\"")?;
    // What a power cut does to a file that was just written.
    fs::write(folder.join("started.json"), "")?;
    cluster.up()?;
    kubectl.watch("pod lives", |_, pod| restarts(pod) >= 1 && is_ready(pod))?;
    kubectl.run("delete pod lives --timeout=60s")?;
    Ok(())
}

fn mounts(below: &Path) -> anyhow::Result<Vec<String>> {
    let below = below.canonicalize()?;
    let all = fs::read_to_string("/proc/self/mounts")?;
    let places = all.lines().filter_map(|line| line.split(' ').nth(1));
    Ok(places
        .filter(|place| Path::new(place).starts_with(&below))
        .map(str::to_owned)
        .collect())
}

/// Waits until mounts, namespaces, control groups, interfaces, folders and monitors are as before the first pod.
fn nothing_is_left(cluster: &Cluster) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = left(cluster)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("these are left: {left:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn left(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let data = cluster.data_dir();
    let mut left = mounts(&data)?;
    left.extend(mounts(Path::new("/run/steadfast"))?);
    for folder in ["runtime/containers", "runtime/sandboxes", "node/pods"] {
        left.extend(entries(&data.join(folder)));
    }
    left.extend(entries(Path::new("/sys/class/net/steadfast0/brif")));
    for hierarchy in entries(Path::new("/sys/fs/cgroup")) {
        for class in ["", "burstable", "besteffort"] {
            let pods = entries(&Path::new(&hierarchy).join("steadfast").join(class));
            left.extend(pods.into_iter().filter(|path| path.contains("/pod")));
        }
    }
    for process in entries(Path::new("/proc")) {
        let words = fs::read_to_string(Path::new(&process).join("cmdline")).unwrap_or_default();
        if words.contains("\0monitor\0") && words.contains(&data.display().to_string()) {
            left.push(format!("{process}: {}", words.replace('\0', " ")));
        }
    }
    Ok(left)
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}
