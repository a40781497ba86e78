//! A cluster of Debian's etcd, each member a process that can be killed.

use crate::process::Process;
use anyhow::Context;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;

/// Clusters that this process has started.
static STARTED: AtomicU8 = AtomicU8::new(0);

/// Certificates of a cluster that speaks TLS and takes only clients with a certificate; paths of PEM files.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority that signed the members' and clients' certificates.
    pub ca: PathBuf,
    /// The members' certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A cluster; its processes and files go with it.
#[derive(Debug)]
pub struct Etcd {
    dir: TempDir,
    address: Ipv4Addr,
    members: Vec<Option<Process>>,
    certificates: Option<Certificates>,
}

impl Etcd {
    /// Starts a cluster of `count` members; it may take a second until it answers.
    ///
    /// # Errors
    /// When etcd cannot be started, as when Debian's package etcd-server is missing.
    pub fn start(count: usize) -> anyhow::Result<Self> {
        Self::start_with(count, Self::address(), None)
    }

    /// An address of this machine that no other cluster uses, for certificates that must name it.
    pub fn address() -> Ipv4Addr {
        // The whole of 127/8 is this machine. So nobody has to look for free ports, and lose the race for them.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        Ipv4Addr::new(
            127,
            100 + STARTED.fetch_add(1, Ordering::Relaxed) % 150,
            high,
            low.max(1),
        )
    }

    /// Starts a cluster on an address, with TLS if there are certificates.
    ///
    /// # Errors
    /// When etcd cannot be started.
    pub fn start_with(count: usize, address: Ipv4Addr, certificates: Option<Certificates>) -> anyhow::Result<Self> {
        let mut cluster = Self {
            dir: tempfile::tempdir()?,
            address,
            members: Vec::new(),
            certificates,
        };
        cluster.members.resize_with(count, || None);
        for member in 0..count {
            cluster.start_member(member)?;
        }
        Ok(cluster)
    }

    /// The client URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|member| self.client_url(member)).collect()
    }

    /// Where a member keeps its data.
    pub fn data_dir(&self, member: usize) -> PathBuf {
        self.dir.path().join(format!("member{member}"))
    }

    /// Starts a member that was killed.
    ///
    /// # Errors
    /// When etcd cannot be started.
    pub fn start_member(&mut self, member: usize) -> anyhow::Result<()> {
        let log = File::create(self.dir.path().join(format!("member{member}.log")))?;
        let all: Vec<String> = (0..self.members.len())
            .map(|other| format!("member{other}={}", self.peer_url(other)))
            .collect();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("member{member}"), "--data-dir"])
            .arg(self.data_dir(member))
            .args(["--initial-cluster", &all.join(",")])
            .args(["--listen-client-urls", &self.client_url(member)])
            .args(["--advertise-client-urls", &self.client_url(member)])
            .args(["--listen-peer-urls", &self.peer_url(member)])
            .args(["--initial-advertise-peer-urls", &self.peer_url(member)])
            // Short times find a new leader soon, and allow short leases.
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(Certificates { ca, certificate, key }) = &self.certificates {
            let path = |option: &str, path: &Path| format!("--{option}={}", path.display());
            command
                .arg("--client-cert-auth")
                .arg(path("trusted-ca-file", ca))
                .arg(path("cert-file", certificate))
                .arg(path("key-file", key));
        }
        let started = Process::start(&mut command).context("is Debian's package etcd-server installed?")?;
        self.members[member] = Some(started);
        Ok(())
    }

    /// Kills a member, as a crash of its machine would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_member(&mut self, member: usize) -> anyhow::Result<()> {
        self.members[member].take().context("it does not run")?.kill()
    }

    fn client_url(&self, member: usize) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.address, 2379 + 10 * member)
    }

    fn peer_url(&self, member: usize) -> String {
        format!("http://{}:{}", self.address, 2380 + 10 * member)
    }
}
