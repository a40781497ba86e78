//! What somebody meets first: help, configuration, and errors that say what to do next.

use anyhow::ensure;
use conformance::cluster::{Cluster, Runtime, binary, lock_machine};
use conformance::kubectl::PATIENCE;
use conformance::process::{Process, within};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: "steadfast.local/web:1", volumeMounts: [{name: www, mountPath: /www}]}
  volumeClaimTemplates:
  - metadata: {name: www}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
"#;

fn steadfast(words: &[&str]) -> Output {
    Command::new(binary()).args(words).output().expect("the binary starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_names_every_command() {
    let help = String::from_utf8(steadfast(&["--help"]).stdout).unwrap();
    for word in ["up", "down", "reset", "image", "export KUBECONFIG="] {
        assert!(help.contains(word), "{help}");
    }
}

#[test]
fn the_printed_configuration_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    let words = ["up", "--print-config", "--cluster-domain", "example.org"];
    let first = steadfast(&words).stdout;
    std::fs::write(&path, &first).unwrap();
    let second = steadfast(&["up", "--print-config", "--config", path.to_str().unwrap()]);
    assert!(second.status.success(), "{}", stderr(&second));
    assert_eq!(String::from_utf8_lossy(&first), String::from_utf8_lossy(&second.stdout));
}

#[test]
fn a_port_in_use_is_said_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let output = steadfast(&[
        "up",
        "--no-node",
        "--listen",
        &address,
        "--data-dir",
        dir.path().to_str().unwrap(),
    ]);
    let said = stderr(&output);
    assert!(
        !output.status.success() && said.contains("listens on") && said.contains("--listen"),
        "{said}"
    );
}

#[test]
fn a_device_with_an_address_of_the_pods_is_named() {
    let _machine = lock_machine().unwrap();
    let ip = |line: &str| Command::new("ip").args(line.split(' ')).status().unwrap().success();
    assert!(ip("link add sftest0 type bridge") && ip("address add 10.244.9.1/24 dev sftest0"));
    let dir = tempfile::tempdir().unwrap();
    let output = steadfast(&[
        "up",
        "--data-dir",
        dir.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ]);
    assert!(ip("link delete sftest0"));
    let said = stderr(&output);
    assert!(
        !output.status.success() && said.contains("sftest0 has the address 10.244.9.1"),
        "{said}"
    );
    assert!(said.contains("--pod-cidr"), "{said}");
}

#[test]
fn a_user_who_is_not_root_is_told_what_root_is_needed_for() {
    let dir = tempfile::tempdir().unwrap();
    // The build may lie where others cannot read.
    let copy = dir.path().join("steadfast");
    std::fs::copy(binary(), &copy).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .arg("up")
        .output()
        .unwrap();
    let said = stderr(&output);
    assert!(
        !output.status.success() && said.contains("needs root") && said.contains("sudo"),
        "{said}"
    );
}

#[test]
fn a_bad_manifest_is_told_with_its_field() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("bad.yaml");
    std::fs::write(&manifest, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: UPPER}\n").unwrap();
    let data = dir.path().join("data");
    let output = steadfast(&[
        "up",
        "--no-node",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
        "-f",
        manifest.to_str().unwrap(),
    ]);
    let said = stderr(&output);
    assert!(
        !output.status.success() && said.contains("metadata.name: Invalid value: \"UPPER\""),
        "{said}"
    );
}

#[test]
fn a_second_daemon_and_a_foreign_directory_are_refused() {
    refused().unwrap();
}

fn refused() -> anyhow::Result<()> {
    let cluster = Cluster::start(Runtime::None)?;
    let second = cluster.steadfast(&["up"]).output()?;
    ensure!(stderr(&second).contains("running already"), "{}", stderr(&second));
    let mode = std::fs::metadata(cluster.kubeconfig())?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "the kubeconfig has mode {mode:o}");
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("mine"), "dear")?;
    let reset = steadfast(&["reset", "--yes", "--data-dir", dir.path().to_str().unwrap_or_default()]);
    ensure!(
        !reset.status.success() && dir.path().join("mine").exists(),
        "{}",
        stderr(&reset)
    );
    Ok(())
}

#[test]
fn up_with_a_manifest_shows_the_rollout() {
    up_with_manifest().unwrap();
}

fn up_with_manifest() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Runtime::Embedded)?;
    cluster.stop()?;
    let manifest = cluster.data_dir().join("web.yaml");
    std::fs::write(&manifest, MANIFEST)?;
    let path = manifest.to_str().expect("the path is ASCII");
    let mut command = cluster.steadfast(&["up", "-f", path]);
    let mut daemon = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let out = daemon.child().stdout.take().expect("it is piped");
    let lines = within(PATIENCE, "the rollout", move || {
        let mut lines = Vec::new();
        for line in BufReader::new(out).lines() {
            lines.push(line?);
            if lines.last().is_some_and(|line| line.contains("Ctrl-C stops it")) {
                break;
            }
        }
        Ok(lines)
    })?;
    let shown = lines.join("\n");
    for words in [
        "applied statefulset.apps/web",
        "web-0        is Ready",
        "www-web-0    claim bound to volume",
    ] {
        ensure!(shown.contains(words), "no {words:?} in\n{shown}");
    }
    daemon.signal("INT")?;
    ensure!(daemon.wait(PATIENCE)?.success());
    cluster.up()
}

#[test]
fn down_keeps_the_volumes_and_up_brings_everything_back() {
    down_and_up().unwrap();
}

fn down_and_up() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Runtime::Embedded)?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset web --timeout=120s")?;
    kubectl.shell("web-0", "echo kept > /www/page")?;
    let container = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    let before = container(&kubectl.get("pod web-0")?);
    let pid = cluster.pid();
    let down = cluster.steadfast(&["down"]).output()?;
    ensure!(down.status.success(), "{}", stderr(&down));
    ensure!(pid.is_none_or(|pid| !is_alive(pid)), "the daemon still runs");
    cluster.up()?;
    kubectl.watch("pod web-0", move |_, pod| {
        let conditions = pod["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready && container(pod).is_string() && container(pod) != before
    })?;
    ensure!(kubectl.shell("web-0", "cat /www/page")?.trim() == "kept");
    Ok(())
}

/// Whether a process runs; one that ended but was not waited for yet does not.
fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
