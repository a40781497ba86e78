//! A Steadfast of the test's own: started, killed, restarted and removed through its command line.

use crate::apart::Controllers;
use crate::containerd::Containerd;
use crate::kubectl::Kubectl;
use crate::process::Process;
use anyhow::{Context, bail, ensure};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Address of the DNS server with the default Service range.
pub const DNS: &str = "10.96.0.10";

/// Which runtime runs the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Our own.
    Embedded,
    /// A containerd that the harness starts.
    Containerd,
    /// None: `--no-node`.
    None,
}

/// A running Steadfast. Dropping it removes everything it made.
#[derive(Debug)]
pub struct Cluster {
    daemon: Option<Process>,
    controllers: Option<Controllers>,
    has_own_controllers: bool,
    containerd: Option<Containerd>,
    dir: TempDir,
    port: u16,
    runtime: Runtime,
    options: Vec<String>,
    // Bridge and DNS address are the machine's: one cluster at a time. Declared last, so released last.
    _machine: File,
}

/// The binary under test: `STEADFAST_BIN`, else the newest build in the target folder.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("STEADFAST_BIN") {
        return path.into();
    }
    let target = target();
    let built = ["release", "debug"].map(|profile| target.join(profile).join("steadfast"));
    let newest = built
        .into_iter()
        .filter_map(|p| Some((p.metadata().ok()?.modified().ok()?, p)))
        .max();
    newest
        .expect("no steadfast binary: run `cargo xtask test`, or build one and set STEADFAST_BIN")
        .1
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(default, PathBuf::from)
}

/// The archive of the test image `name`, which `cargo xtask test` has built.
pub fn image(name: &str) -> PathBuf {
    let path = target().join("images").join(format!("{name}.tar"));
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask image {name} {0}`",
        path.display()
    );
    path
}

/// The right to use what the machine has only once: the bridge, the pods' addresses, the DNS server's address.
///
/// # Errors
/// When the lock file cannot be made.
pub fn lock_machine() -> anyhow::Result<File> {
    let lock = File::create("/tmp/steadfast-conformance.lock")?;
    lock.lock()?;
    Ok(lock)
}

impl Cluster {
    /// Starts Steadfast on a new data directory and loads the images that most tests need.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(runtime: Runtime) -> anyhow::Result<Self> {
        Self::begin(runtime, true, &[])
    }

    /// The same with further options of `steadfast up`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_with_options(runtime: Runtime, options: &[&str]) -> anyhow::Result<Self> {
        Self::begin(runtime, true, options)
    }

    /// The same with the controllers in a process of their own, which has only the rights shipped for it.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_with_controllers_apart(runtime: Runtime) -> anyhow::Result<Self> {
        let mut this = Self::begin(runtime, false, &[])?;
        let (server, authority) = (
            format!("https://127.0.0.1:{}", this.port),
            this.data_dir().join("pki/ca.crt"),
        );
        let controllers = Controllers::start(this.dir.path(), &this.kubectl(), &server, &authority)?;
        this.controllers = Some(controllers);
        Ok(this)
    }

    fn begin(runtime: Runtime, has_own_controllers: bool, options: &[&str]) -> anyhow::Result<Self> {
        let lock = lock_machine()?;
        // A short path: unix socket paths are limited to 107 bytes.
        let dir = tempfile::Builder::new().prefix("sf-").tempdir_in("/var/tmp")?;
        let mut this = Self {
            daemon: None,
            controllers: None,
            has_own_controllers,
            containerd: None,
            port: free_port()?,
            runtime,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            dir,
            _machine: lock,
        };
        if runtime == Runtime::Containerd {
            let ranges = options.iter().find_map(|option| option.strip_prefix("--pod-cidr="));
            let ranges = ranges.unwrap_or("10.244.0.0/16");
            this.containerd = Some(Containerd::start(&this.dir.path().join("ctd"), "sfcni0", ranges)?);
            this.load(&image("pause"))?;
        }
        if runtime != Runtime::None {
            this.load(&image("web"))?;
        }
        this.up()?;
        Ok(this)
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where the daemon's log goes.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("steadfast.log")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    /// The controllers, if they are in a process of their own.
    pub fn controllers(&mut self) -> Option<&mut Controllers> {
        self.controllers.as_mut()
    }

    /// The API server's port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `steadfast WORDS` with this cluster's options.
    pub fn steadfast(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(words).arg("--data-dir").arg(self.data_dir());
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        command.args(&self.options);
        match (&self.containerd, self.runtime) {
            (Some(containerd), _) => {
                command.args(["--container-runtime-endpoint", &containerd.endpoint()]);
            }
            (None, Runtime::None) => {
                command.arg("--no-node");
            }
            (None, _) => {}
        }
        if !self.has_own_controllers {
            // None of them, that is.
            command.arg("--controllers=");
        }
        command.stdin(Stdio::null());
        command
    }

    /// Sets further options for the next start of the daemon.
    pub fn change_options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
    }

    /// Starts the daemon (again) and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends or does not become ready in time.
    pub fn up(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = self.steadfast(&["up"]);
        let mut daemon = Process::start(command.stdout(Stdio::piped()).stderr(log))?;
        let ready = daemon.wait_until_ready();
        self.daemon = Some(daemon);
        ready.with_context(|| format!("log:\n{}", tail(&self.log())))
    }

    /// Ends the daemon as a crash would.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.daemon.take().context("the daemon is not running")?.kill()
    }

    /// Ends the daemon as Ctrl-C does.
    ///
    /// # Errors
    /// When it is not running or does not end with success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut daemon = self.daemon.take().context("the daemon is not running")?;
        daemon.signal("INT")?;
        let status = daemon.wait(Duration::from_secs(30))?;
        if !status.success() {
            bail!("the daemon ended with {status}; log:\n{}", tail(&self.log()));
        }
        Ok(())
    }

    /// The daemon's process id.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Process::pid)
    }

    /// Brings an image archive into whichever runtime it is.
    ///
    /// # Errors
    /// When the runtime refuses it.
    pub fn load(&self, archive: &Path) -> anyhow::Result<()> {
        if let Some(containerd) = &self.containerd {
            return containerd.import(archive);
        }
        let output = Command::new(binary())
            .args(["image", "load", "--data-dir"])
            .arg(self.data_dir())
            .arg(archive)
            .output()?;
        if !output.status.success() {
            bail!("steadfast image load: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// The machine's kubectl against this cluster.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new("kubectl", &self.kubeconfig())
    }

    /// `dig` until the answers, sorted, please `expected`: a name follows its pod within moments, not at once.
    ///
    /// # Errors
    /// When they do not within half a minute, with what they were.
    pub fn dig_until(&self, name: &str, kind: &str, expected: impl Fn(&[String]) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let found = self.dig(name, kind)?;
            if expected(&found) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{name} {kind} gives {found:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `dig` against the cluster's DNS server, one answer a line.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn dig(&self, name: &str, kind: &str) -> anyhow::Result<Vec<String>> {
        let output = Command::new("dig")
            .arg(format!("@{DNS}"))
            .args(["+short", "+time=2", "+tries=2", name, kind])
            .output()?;
        if !output.status.success() {
            bail!("dig {name} {kind}: {}", String::from_utf8_lossy(&output.stdout));
        }
        let mut lines: Vec<String> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Always: a test that returns an error has dropped its cluster before it panics, and of one that passes nobody
        // sees the output.
        eprintln!("the daemon's log ends:\n{}", tail(&self.log()));
        if let Some(controllers) = self.controllers.take() {
            eprintln!("the controllers' log:\n{}", controllers.log());
        }
        drop(self.daemon.take());
        if self.runtime == Runtime::None {
            return;
        }
        match self.steadfast(&["reset", "--yes"]).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("steadfast reset: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("steadfast reset: {error}"),
        }
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
