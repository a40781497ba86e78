//! A control plane without a node: alone, or one of several on one etcd cluster.

use crate::cluster::binary;
use crate::etcd::Etcd;
use crate::kubectl::Kubectl;
use crate::process::Process;
use anyhow::{Context, ensure};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A running `steadfast up --no-node`; ended and forgotten when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    daemon: Option<Process>,
    dir: TempDir,
    listen: SocketAddr,
}

impl ControlPlane {
    /// Starts one on an address of its own, with a store of its own.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn alone(name: &str) -> anyhow::Result<Self> {
        Self::start_with(name, &[], None)
    }

    /// Starts one on an address of its own. It takes over the authority of `other`, so that clients of one may turn to
    /// the other.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(name: &str, etcd: &Etcd, other: Option<&Self>) -> anyhow::Result<Self> {
        Self::start_with(name, &["--etcd-servers", &etcd.endpoints().join(",")], other)
    }

    fn start_with(name: &str, store: &[&str], other: Option<&Self>) -> anyhow::Result<Self> {
        let mut this = Self {
            daemon: None,
            dir: tempfile::tempdir()?,
            listen: SocketAddr::new(Etcd::address().into(), 6443),
        };
        if let Some(other) = other {
            std::fs::create_dir(this.data_dir())?;
            let (from, to) = (other.data_dir().join("pki"), this.data_dir().join("pki"));
            let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
            ensure!(copied.success(), "the authority cannot be copied");
        }
        let log = File::create(this.dir.path().join("log"))?;
        let mut command = Command::new(binary());
        command
            .args(["up", "--no-node", "--node-name", name, "--data-dir"])
            .arg(this.data_dir())
            .args(["--listen", &this.listen.to_string()])
            .args(store)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut daemon = Process::start(&mut command)?;
        let ready = daemon.wait_until_ready();
        this.daemon = Some(daemon);
        ready.with_context(|| format!("log of {name}:\n{}", this.log()))?;
        Ok(this)
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.daemon.take().context("it is not running")?.kill()
    }

    /// The machine's kubectl against it.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new("kubectl", &self.kubeconfig())
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    /// Its address, which nobody else uses: other ports there are free.
    pub fn address(&self) -> IpAddr {
        self.listen.ip()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}
