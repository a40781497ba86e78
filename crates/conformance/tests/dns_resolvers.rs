//! Names as programs in pods find them: the resolvers of glibc, of musl and of Go, with the pod's own resolv.conf.
//!
//! They differ in what matters here: musl ends its search at the first name that exists, even if it has no address of
//! the kind that is asked for, while glibc and Go go on; so a name that does not exist must be denied as such.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime, image, target};
use conformance::kubectl::{Kubectl, PATIENCE};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = include_str!("dns_resolvers/lookup.c");
const PROGRAM_IN_GO: &str = include_str!("dns_resolvers/lookup.go");

const MANIFEST: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: web-1.web.default.svc.cluster.local}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: steadfast.local/redis:7
        command: [/bin/sh, -c, "sleep 3600"]
        volumeMounts: [{name: lookup, mountPath: /lookup, readOnly: true}]
      volumes:
      - name: lookup
        hostPath: {path: DIR, type: Directory}
"#;

#[test]
fn resolvers_of_programs_find_pods_and_services() {
    run().unwrap();
}

fn run() -> anyhow::Result<()> {
    let programs = programs()?;
    let cluster = Cluster::start(Runtime::Embedded)?;
    cluster.load(&image("redis"))?;
    let kubectl = cluster.kubectl();
    kubectl.run_with(
        "apply -f -",
        &MANIFEST.replace("DIR", &programs.path().display().to_string()),
    )?;
    kubectl.run("rollout status statefulset web --timeout=180s")?;
    let ip = |pod: &str| {
        let pod = kubectl.get(&format!("pod {pod}"))?;
        anyhow::Ok(pod["status"]["podIP"].as_str().context("no address")?.to_owned())
    };
    let (zero, one) = (ip("web-0")?, ip("web-1")?);
    let expected: [(&str, &[&str]); 8] = [
        ("web-1.web", &[&one]),
        ("web-1.web.default", &[&one]),
        ("web-1.web.default.svc", &[&one]),
        ("web-1.web.default.svc.cluster.local.", &[&one]),
        ("web", &[&zero, &one]),
        ("kubernetes.default", &["10.96.0.1"]),
        ("alias", &[&one]),
        ("web-9.web", &["-"]),
    ];
    for library in ["glibc", "musl", "go"] {
        check(&kubectl, library, &expected).with_context(|| library.to_owned())?;
    }
    Ok(())
}

/// Looks all names up at once, until the answers are right: names follow their pods within moments.
fn check(kubectl: &Kubectl, library: &str, expected: &[(&str, &[&str])]) -> anyhow::Result<()> {
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    let script = format!("/lookup/{library} {}", names.join(" "));
    let wanted: Vec<BTreeSet<&str>> = expected
        .iter()
        .map(|(_, found)| found.iter().copied().collect())
        .collect();
    let end = Instant::now() + PATIENCE;
    loop {
        let said = kubectl.shell("web-0", &script)?;
        let found: Vec<BTreeSet<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
        if found == wanted {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{names:?} give\n{said}instead of {wanted:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The same program for all libraries, in a folder that pods can see.
fn programs() -> anyhow::Result<TempDir> {
    let dir = tempfile::tempdir()?;
    let source = dir.path().join("lookup.c");
    std::fs::write(&source, PROGRAM)?;
    compile(Command::new("cc").arg(&source).arg("-o").arg(dir.path().join("glibc")))?;
    let triple = format!("{}-linux-musl", std::env::consts::ARCH);
    // `cargo xtask test` has unpacked Debian's musl-dev there.
    let musl: PathBuf = target().join("debian/musl/usr");
    let lib = |file: &str| musl.join("lib").join(&triple).join(file);
    let mut command = Command::new("cc");
    command.args(["-static", "-nostdlib", "-nostdinc", "-isystem"]);
    command.arg(musl.join("include").join(&triple));
    command.args([lib("crt1.o"), lib("crti.o"), source, lib("libc.a")]);
    command
        .arg("-lgcc")
        .arg(lib("crtn.o"))
        .arg("-o")
        .arg(dir.path().join("musl"));
    compile(&mut command)?;
    compile(&mut in_go(dir.path())?)?;
    open_to_all(dir.path())?;
    Ok(dir)
}

/// Without C, so that names are looked up by Go itself.
fn in_go(dir: &Path) -> anyhow::Result<Command> {
    let source = dir.join("lookup.go");
    std::fs::write(&source, PROGRAM_IN_GO)?;
    // `cargo xtask test` has unpacked Debian's Go there, and compiled its library into the cache.
    let debian = target().join("debian");
    let root = debian.join("golang/usr/lib/go-1.19");
    let mut command = Command::new(root.join("bin/go"));
    command
        .env("GOROOT", &root)
        .env("GOPATH", dir.join("gopath"))
        .env("GOCACHE", debian.join("go-cache"))
        .env("GO111MODULE", "off")
        .env("CGO_ENABLED", "0");
    command.args(["build", "-o"]).arg(dir.join("go")).arg(&source);
    Ok(command)
}

fn compile(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("is there a compiler?")?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn open_to_all(dir: &Path) -> anyhow::Result<()> {
    let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(dir).status()?;
    ensure!(opened.success(), "chmod");
    Ok(())
}
