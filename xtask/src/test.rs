//! `cargo xtask test`: installs what the tests need and runs all of them, the same here and in CI.

use crate::{check, debian, fuzz, go_client, image, shell};
use std::path::PathBuf;
use std::process::Command;

/// (program that shows it is there, Debian package)
const PACKAGES: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("docker-registry", "docker-registry"),
    ("dig", "bind9-dnsutils"),
    ("etcd", "etcd-server"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("script", "bsdutils"),
    ("/usr/sbin/mkfs.ext4", "e2fsprogs"),
    ("/usr/sbin/mkfs.btrfs", "btrfs-progs"),
    ("/bin/bash-static", "bash-static"),
    ("/bin/busybox", "busybox-static"),
    // libFuzzer is C++.
    ("c++", "g++"),
    debian::TO_BUILD,
];

/// Images that the tests run.
const IMAGES: &[&str] = &["web", "pause", "redis", "postgresql", "zookeeper", "etcd"];

/// Runs everything; with a filter only the tests of that name, without the checks.
///
/// # Errors
/// The first thing that fails.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    debian::install(PACKAGES)?;
    let old_kubectl = debian::unpack("kubernetes-client", &["kubernetes-client"])?.join("usr/bin/kubectl");
    if !shell::has_program("kubectl") {
        debian::install(&[("kubectl", "kubernetes-client")])?;
    }
    for name in IMAGES {
        image::build(name, &shell::target().join("images").join(format!("{name}.tar")))?;
    }
    debian::unpack("musl", &["musl-dev"])?;
    let python = python_client()?;
    let go_client = go_client::build()?;
    if words.is_empty() {
        check::run()?;
    }
    shell::run(shell::cargo().args(["build", "--release", "--package", "steadfast"]))?;
    let mut test = shell::cargo();
    test.env("STEADFAST_BIN", shell::target().join("release/steadfast"))
        .env("STEADFAST_OLD_KUBECTL", old_kubectl)
        .env("STEADFAST_GO_CLIENT", go_client)
        .env("STEADFAST_PYTHON", python);
    if shell::has_program("cargo-nextest") {
        shell::run(
            test.args([
                "nextest",
                "run",
                "--workspace",
                "--no-fail-fast",
                "--failure-output",
                "immediate-final",
            ])
            .args(words),
        )?;
    } else {
        shell::run(test.args(["test", "--workspace", "--no-fail-fast", "--"]).args(words))?;
    }
    if words.is_empty() { fuzz::shortly() } else { Ok(()) }
}

/// A Python with the `kubernetes` client, in a virtual environment of our own.
fn python_client() -> anyhow::Result<PathBuf> {
    let environment = shell::target().join("python");
    let python = environment.join("bin/python");
    if !environment.join("complete").exists() {
        debian::install(&[
            ("/usr/share/doc/python3-venv", "python3-venv"),
            ("/usr/bin/python3", "python3"),
        ])?;
        shell::run(
            Command::new("/usr/bin/python3")
                .args(["-m", "venv", "--clear"])
                .arg(&environment),
        )?;
        shell::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "kubernetes==36.0.3"]))?;
        std::fs::write(environment.join("complete"), "")?;
    }
    Ok(python)
}
