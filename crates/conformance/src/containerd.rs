//! A containerd of our own, beside any that the machine runs: its own socket, state, pod network and images.

use crate::process::{Process, within};
use anyhow::{Context, bail};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A running containerd, ended when dropped (its containers with it).
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    bridge: String,
    process: Process,
}

impl Containerd {
    /// Starts containerd with everything it keeps below `dir`, pods on the bridge `bridge` with an address of each of
    /// `pod_cidrs`, which are separated by commas.
    ///
    /// Sandboxes need an image of the name `steadfast.local/pause:1`: see [`Containerd::import`].
    ///
    /// # Errors
    /// When containerd is not installed or does not come up.
    pub fn start(dir: &Path, bridge: &str, pod_cidrs: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir.join("cni"))?;
        std::fs::write(dir.join("config.toml"), config(dir))?;
        std::fs::write(dir.join("cni/10-steadfast.conflist"), network(dir, bridge, pod_cidrs))?;
        let log = File::create(dir.join("containerd.log"))?;
        let mut command = Command::new("containerd");
        command
            .arg("--config")
            .arg(dir.join("config.toml"))
            .stdout(log.try_clone()?)
            .stderr(log);
        let this = Self {
            dir: dir.to_owned(),
            bridge: bridge.to_owned(),
            process: Process::start(&mut command)?,
        };
        let socket = this.socket();
        within(Duration::from_secs(30), "containerd's socket", move || {
            while UnixStream::connect(&socket).is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })
        .with_context(|| format!("see {}", dir.join("containerd.log").display()))?;
        Ok(this)
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// The CRI endpoint.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Ends containerd and removes everything it kept.
    ///
    /// # Errors
    /// When its files cannot be removed.
    pub fn remove(self) -> anyhow::Result<()> {
        let dir = self.dir.clone();
        drop(self);
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))
    }

    /// The id of the daemon's process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Imports an image archive for pods.
    ///
    /// # Errors
    /// When `ctr` refuses it.
    pub fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io", "images", "import", "--all-platforms"])
            .arg(archive)
            .output()
            .context("cannot start ctr")?;
        if !output.status.success() {
            bail!(
                "ctr images import {}: {}",
                archive.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Shims outlive containerd; what is left of them here is what a test did not remove. A socket in each shim's
        // folder is not needed: asking containerd to delete the tasks ends them.
        let ctr = |words: &[&str]| {
            Command::new("ctr")
                .arg("--address")
                .arg(self.socket())
                .args(["--namespace", "k8s.io"])
                .args(words)
                .output()
        };
        let Ok(tasks) = ctr(&["tasks", "list", "--quiet"]) else {
            return;
        };
        for id in String::from_utf8_lossy(&tasks.stdout).split_whitespace() {
            if let Err(error) = ctr(&["tasks", "delete", "--force", id]) {
                eprintln!("container {id} is left behind: {error}");
            }
        }
        if self.process.signal("TERM").is_ok() && self.process.wait(Duration::from_secs(10)).is_err() {
            eprintln!("containerd did not end by itself");
        }
        // The plug-in never removes its bridge; left behind, it would take the packets for a later pod network.
        match Command::new("ip").args(["link", "delete", &self.bridge]).output() {
            Ok(_) => {}
            Err(error) => eprintln!("the bridge {} is left behind: {error}", self.bridge),
        }
    }
}

fn config(dir: &Path) -> String {
    let dir = dir.display();
    // Negative OOM scores need CAP_SYS_RESOURCE, which a machine may lack.
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
[grpc]
  address = "{dir}/containerd.sock"
[ttrpc]
  address = "{dir}/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "steadfast.local/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#
    )
}

fn network(dir: &Path, bridge: &str, pod_cidrs: &str) -> String {
    let ranges = pod_cidrs.split(',').map(|range| serde_json::json!([{"subnet": range}]));
    let everywhere = pod_cidrs
        .split(',')
        .map(|range| if range.contains(':') { "::/0" } else { "0.0.0.0/0" });
    let routes = everywhere.map(|all| serde_json::json!({"dst": all}));
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "steadfast",
        "plugins": [{
            "type": "bridge",
            "bridge": bridge,
            "isGateway": true,
            // Where the kernel shows bridged packets to its filter, a pod that reaches itself by a Service needs this.
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": dir.join("addresses"),
                "ranges": ranges.collect::<Vec<_>>(),
                "routes": routes.collect::<Vec<_>>(),
            },
        }],
    })
    .to_string()
}
