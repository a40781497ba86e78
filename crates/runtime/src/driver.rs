//! Calls the OCI runtime command line and starts monitors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::Config;
use crate::config::OciRuntime;
use crate::monitor::plan::{Created, RuntimeCommand};

/// The word that makes our own binary an OCI runtime.
const EMBEDDED: &str = "oci";

/// How this server calls the OCI runtime and its own binary.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    executable: PathBuf,
    runtime: RuntimeCommand,
    handlers: BTreeMap<String, RuntimeCommand>,
    logs: PathBuf,
}

impl Driver {
    pub(crate) fn new(config: &Config) -> Self {
        let program = match &config.oci_runtime {
            OciRuntime::Embedded => vec![config.executable.display().to_string(), EMBEDDED.to_owned()],
            OciRuntime::External(path) => vec![path.display().to_string()],
        };
        let runtime = RuntimeCommand {
            program,
            root: config.state.join("oci"),
        };
        // Each keeps what it knows in its own form.
        let handlers = config.handlers.iter().map(|(name, path)| {
            let command = RuntimeCommand {
                program: vec![path.display().to_string()],
                root: config.state.join(format!("oci-{name}")),
            };
            (name.clone(), command)
        });
        Self {
            executable: config.executable.clone(),
            runtime,
            handlers: handlers.collect(),
            logs: config.state.join("logs"),
        }
    }

    /// The OCI runtime that a handler means, of which monitors are told; none if nothing of the name is configured.
    pub(crate) fn runtime(&self, handler: &str) -> Option<&RuntimeCommand> {
        if handler.is_empty() {
            return Some(&self.runtime);
        }
        self.handlers.get(handler)
    }

    /// The names of all handlers; that of the one that is meant where none is named is empty.
    pub(crate) fn handlers(&self) -> impl Iterator<Item = &str> {
        std::iter::once("").chain(self.handlers.keys().map(String::as_str))
    }

    /// Removes what the OCI runtime keeps of a container that has ended; its cgroup is removed by us in any case.
    pub(crate) async fn delete(&self, runtime: &RuntimeCommand, id: &str) -> Result<(), String> {
        let is_embedded = runtime.program.get(1).is_some_and(|word| word == EMBEDDED);
        if !is_embedded {
            return self.call(runtime, &["delete", "--force", id]).await;
        }
        // Ours keeps a folder of this name and nothing else.
        let folder = runtime.root.join(id);
        crate::disk::remove_folder(&folder).map_err(|error| format!("cannot remove {}: {error}", folder.display()))
    }

    async fn call(&self, runtime: &RuntimeCommand, words: &[&str]) -> Result<(), String> {
        let what = words.first().copied().unwrap_or_default();
        let log = self.logs.join(uuid::Uuid::new_v4().to_string());
        tokio::fs::create_dir_all(&self.logs)
            .await
            .map_err(|error| format!("cannot make {}: {error}", self.logs.display()))?;
        let mut command = Command::new(&runtime.program[0]);
        command.args(&runtime.program[1..]).arg("--root").arg(&runtime.root);
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
            Err(error) => Some(format!("cannot run the OCI runtime {:?}: {error}", runtime.program[0])),
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
