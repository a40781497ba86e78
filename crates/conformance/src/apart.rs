//! The controllers in a process of their own, with no right beyond those of the manifest that is shipped for them.

use crate::cluster::binary;
use crate::kubectl::{Kubectl, PATIENCE};
use crate::process::Process;
use anyhow::{Context, ensure};
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Their ServiceAccount, and the name of what binds it.
const ACCOUNT: &str = "steadfast-controllers";

/// A running `steadfast controllers`; ended when dropped.
#[derive(Debug)]
pub struct Controllers {
    _process: Process,
    log: PathBuf,
}

impl Controllers {
    /// Applies the manifest, gets a token of the ServiceAccount in it and starts the controllers with that token.
    ///
    /// # Errors
    /// When the manifest is not accepted or the process cannot be started.
    pub fn start(dir: &Path, admin: &Kubectl, server: &str, authority: &Path) -> anyhow::Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/controllers.yaml");
        apply(admin, &manifest)?;
        let token = admin.run(&format!("create token {ACCOUNT} -n kube-system"))?;
        let kubeconfig = dir.join("controllers.kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": ACCOUNT } }],
            "clusters": [{ "name": "c", "cluster": { "server": server, "certificate-authority": authority } }],
            "users": [{ "name": ACCOUNT, "user": { "token": token.trim() } }],
        });
        std::fs::write(&kubeconfig, config.to_string())?;
        let log = dir.join("controllers.log");
        let mut command = Command::new(binary());
        command
            .args(["controllers", "--listen", "127.0.0.1:0", "--kubeconfig"])
            .arg(&kubeconfig)
            .arg("--root-ca-file")
            .arg(authority)
            .stdin(Stdio::null())
            .stderr(File::create(&log)?);
        Ok(Self {
            _process: Process::start(&mut command)?,
            log,
        })
    }

    /// What they have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails if anything that they asked for was more than they may do.
    ///
    /// # Errors
    /// When something was, with what it was.
    pub fn were_refused_nothing(&self) -> anyhow::Result<()> {
        let log = self.log();
        let refusals: Vec<&str> = log
            .lines()
            .filter(|line| line.to_lowercase().contains("forbidden"))
            .collect();
        ensure!(refusals.is_empty(), "they lack rights:\n{}", refusals.join("\n"));
        Ok(())
    }
}

/// The namespace of the manifest comes with the server, but not at the very moment at which it begins to answer.
fn apply(admin: &Kubectl, manifest: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let end = Instant::now() + PATIENCE;
    loop {
        match admin.run_with("apply -f -", &text) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(200)),
        }
    }
}
