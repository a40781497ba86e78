//! Calls the OCI runtime command line and starts monitors.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::Config;
use crate::config::OciRuntime;
use crate::monitor::plan::{Created, RuntimeCommand};

/// How this server calls the OCI runtime and its own binary.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    executable: PathBuf,
    runtime: RuntimeCommand,
    is_embedded: bool,
    logs: PathBuf,
}

impl Driver {
    pub(crate) fn new(config: &Config) -> Self {
        let program = match &config.oci_runtime {
            OciRuntime::Embedded => vec![config.executable.display().to_string(), "oci".to_owned()],
            OciRuntime::External(path) => vec![path.display().to_string()],
        };
        let runtime = RuntimeCommand {
            program,
            root: config.state.join("oci"),
        };
        Self {
            executable: config.executable.clone(),
            runtime,
            is_embedded: config.oci_runtime == OciRuntime::Embedded,
            logs: config.state.join("logs"),
        }
    }

    /// What monitors are told.
    pub(crate) fn runtime(&self) -> &RuntimeCommand {
        &self.runtime
    }

    /// Removes what the OCI runtime keeps of a container that has ended; its cgroup is removed by us in any case.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), String> {
        if !self.is_embedded {
            return self.call(&["delete", "--force", id]).await;
        }
        // Ours keeps a folder of this name and nothing else.
        let folder = self.runtime.root.join(id);
        crate::disk::remove_folder(&folder).map_err(|error| format!("cannot remove {}: {error}", folder.display()))
    }

    async fn call(&self, words: &[&str]) -> Result<(), String> {
        let what = words.first().copied().unwrap_or_default();
        let log = self.logs.join(uuid::Uuid::new_v4().to_string());
        tokio::fs::create_dir_all(&self.logs)
            .await
            .map_err(|error| format!("cannot make {}: {error}", self.logs.display()))?;
        let mut command = Command::new(&self.runtime.program[0]);
        command
            .args(&self.runtime.program[1..])
            .arg("--root")
            .arg(&self.runtime.root);
        command
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json"])
            .args(words);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let status = command.status().await;
        let failed = match status {
            Ok(status) if status.success() => None,
            Ok(_) => Some(crate::monitor::failure(&log, what)),
            Err(error) => Some(format!(
                "cannot run the OCI runtime {:?}: {error}",
                self.runtime.program[0]
            )),
        };
        // The reason has been read; a file that stays goes with the next boot.
        tokio::fs::remove_file(&log).await.unwrap_or_default();
        failed.map_or(Ok(()), Err)
    }

    /// Starts a monitor of the given kind on a folder; returns the process id of what it created.
    pub(crate) async fn monitor(&self, kind: &str, folder: &Path) -> Result<i32, String> {
        let mut command = Command::new(&self.executable);
        command.args(["monitor", kind]).arg(folder);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start a monitor: {error}"))?;
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut line = String::new();
        let read = stdout.read_line(&mut line).await;
        let status = child
            .wait()
            .await
            .map_err(|error| format!("cannot wait for a monitor: {error}"))?;
        read.map_err(|error| format!("cannot hear a monitor: {error}"))?;
        match serde_json::from_str(&line) {
            Ok(Created::Pid(pid)) => Ok(pid),
            Ok(Created::Failed(reason)) => Err(reason),
            Err(_) => {
                let mut errors = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    stderr
                        .read_to_string(&mut errors)
                        .await
                        .map_err(|error| format!("cannot hear a monitor: {error}"))?;
                }
                let log = tokio::fs::read_to_string(folder.join("monitor.log"))
                    .await
                    .unwrap_or_default();
                Err(format!(
                    "the monitor ended without a result ({status}): {} {}",
                    errors.trim(),
                    log.trim()
                ))
            }
        }
    }

    /// A command that runs the monitor of an exec.
    pub(crate) fn exec_monitor(&self, plan: &str) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(["monitor", "exec", plan]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(false);
        command
    }
}
