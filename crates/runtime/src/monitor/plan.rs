//! What the server tells a monitor, and the records a monitor leaves for the server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The file in a container's folder that holds its [`Plan`].
pub(crate) const PLAN: &str = "monitor.json";
/// The monitor's own [`crate::process::Process`].
pub(crate) const MONITOR: &str = "monitor.pid";
/// The [`crate::process::Process`] of the container, once the OCI runtime has created it.
pub(crate) const CREATED: &str = "created.json";
/// When it was started: [`Started`].
pub(crate) const STARTED: &str = "started.json";
/// How it ended: [`Exit`].
pub(crate) const EXIT: &str = "exit.json";
/// The monitor's unix socket.
pub(crate) const SOCKET: &str = "monitor.sock";

/// How to call the OCI runtime.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RuntimeCommand {
    /// The program and its first words.
    pub(crate) program: Vec<String>,
    /// Its `--root`.
    pub(crate) root: PathBuf,
}

/// All that a container's monitor needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) runtime: RuntimeCommand,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    /// The CRI log file; without one, output goes only to those attached.
    pub(crate) log: Option<PathBuf>,
    /// Keep standard input open for those who attach.
    pub(crate) stdin: bool,
    /// Close standard input when the first who attached leaves.
    pub(crate) stdin_once: bool,
    /// Where the terminal is handed over, if there is one.
    pub(crate) console_socket: Option<PathBuf>,
    /// Files of the container's cgroup that count processes killed for want of memory.
    pub(crate) oom_files: Vec<PathBuf>,
}

/// All that the monitor of an exec needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExecPlan {
    pub(crate) runtime: RuntimeCommand,
    pub(crate) id: String,
    /// Folder for this exec, holding `process.json`.
    pub(crate) folder: PathBuf,
    pub(crate) console_socket: Option<PathBuf>,
    /// Files to open as standard input, output and error; none for a terminal.
    pub(crate) stdio: Option<[PathBuf; 3]>,
}

/// What the monitor of an exec prints, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExecEvent {
    /// The process runs.
    Started,
    /// The OCI runtime could not run it.
    Failed(String),
    /// It ended.
    Exited(i32),
}

/// What the monitor of a container prints once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Created {
    Pid(i32),
    Failed(String),
}

/// When a container was started.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Started {
    /// Nanoseconds after 1970.
    pub(crate) at: i64,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// The exit code, or 128 plus the signal.
    pub(crate) code: i32,
    /// A process of the container was killed for want of memory.
    pub(crate) oom: bool,
    /// Nanoseconds after 1970.
    pub(crate) at: i64,
    /// CRI's reason, where the code does not tell it.
    pub(crate) reason: Option<String>,
    pub(crate) message: String,
}

/// Now, in nanoseconds after 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).expect("the year is before 2262")
}
