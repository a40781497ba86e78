//! All objects saved to a file, checked, and brought back, through the command line.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime, binary};
use std::path::Path;
use std::process::{Command, Output};

fn run(cluster: &Cluster, words: &[&str], file: Option<&Path>) -> anyhow::Result<Output> {
    let mut command = Command::new(binary());
    command.args(words).arg("--data-dir").arg(cluster.data_dir()).args(file);
    Ok(command.output()?)
}

fn succeed(cluster: &Cluster, words: &[&str], file: Option<&Path>) -> anyhow::Result<String> {
    let output = run(cluster, words, file)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn objects_are_saved_by_a_running_daemon_and_restored_into_a_stopped_one() {
    save_and_restore().unwrap();
}

fn save_and_restore() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Runtime::None)?;
    let kubectl = cluster.kubectl();
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("objects.snapshot");
    kubectl.run("create configmap kept --from-literal=k=v")?;
    let uid = kubectl.get("configmap kept")?["metadata"]["uid"].clone();
    let said = succeed(&cluster, &["snapshot", "save"], Some(&file))?;
    ensure!(said.starts_with("saved ") && said.contains("revision"), "{said}");
    let said = succeed(&cluster, &["check"], Some(&file))?;
    ensure!(said.contains("is sound"), "{said}");
    kubectl.run("delete configmap kept")?;
    kubectl.run("create configmap later --from-literal=k=v")?;

    let busy = run(&cluster, &["check"], None)?;
    let said = String::from_utf8_lossy(&busy.stderr);
    ensure!(!busy.status.success() && said.contains("snapshot save"), "{said}");
    let busy = run(&cluster, &["snapshot", "restore"], Some(&file))?;
    ensure!(!busy.status.success(), "a store in use was replaced");
    cluster.stop()?;
    let said = succeed(&cluster, &["check"], None)?;
    ensure!(said.contains("is sound"), "{said}");
    let said = succeed(&cluster, &["snapshot", "restore"], Some(&file))?;
    ensure!(said.contains("before-restore"), "{said}");
    cluster.up()?;
    let kubectl = cluster.kubectl();
    ensure!(kubectl.get("configmap kept")?["metadata"]["uid"] == uid);
    ensure!(!kubectl.output("get configmap later")?.status.success());

    cluster.stop()?;
    // Saved without a daemon, too; and what is no snapshot changes nothing.
    succeed(&cluster, &["snapshot", "save"], Some(&file))?;
    let mut damaged = std::fs::read(&file)?;
    let middle = damaged.len() / 2;
    *damaged.get_mut(middle).context("it is not empty")? ^= 1;
    std::fs::write(&file, damaged)?;
    let refused = run(&cluster, &["snapshot", "restore"], Some(&file))?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("damaged"), "{said}");
    cluster.up()?;
    cluster.kubectl().run("get configmap kept")?;
    Ok(())
}
