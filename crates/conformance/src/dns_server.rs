//! A `steadfast dns` of the test's own, which follows some API server by its kubeconfig.

use crate::cluster::binary;
use crate::kubectl::PATIENCE;
use crate::process::Process;
use anyhow::{Context, ensure};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where DNS is served, and where numbers are.
const DNS_PORT: u16 = 1053;
const METRICS_PORT: u16 = 9153;

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct DnsServer {
    process: Process,
    ip: IpAddr,
}

impl DnsServer {
    /// Starts one at an address where its ports are free, and waits until it knows the cluster.
    ///
    /// # Errors
    /// When it ends or does not become ready.
    pub fn start(kubeconfig: &Path, ip: IpAddr, upstream: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(binary());
        command.arg("dns").arg("--kubeconfig").arg(kubeconfig);
        command.args(["--listen", &SocketAddr::new(ip, DNS_PORT).to_string()]);
        command.args(["--metrics-listen", &SocketAddr::new(ip, METRICS_PORT).to_string()]);
        command.args(["--dns-upstream", upstream]).stdin(Stdio::null());
        let process = Process::start(&mut command)?;
        let this = Self { process, ip };
        let end = Instant::now() + PATIENCE;
        while !this
            .get("/readyz")
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {
            ensure!(Instant::now() < end, "steadfast dns does not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(this)
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, DNS_PORT)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A number of `/metrics`, by its name with labels.
    ///
    /// # Errors
    /// When there is none.
    pub fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let text = self.get("/metrics")?;
        let mut rows = text.lines().filter_map(|line| line.split_once(' '));
        let row = rows
            .find(|(row, _)| *row == name)
            .with_context(|| format!("no {name} in {text}"))?;
        Ok(row.1.trim().parse()?)
    }

    fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(SocketAddr::new(self.ip, METRICS_PORT))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: dns\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
