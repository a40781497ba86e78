//! What can be typed: the words of runc that we honour, under runc's names.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// An OCI container runtime on libcontainer.
#[derive(Debug, Parser)]
#[command(name = "oci", no_binary_name = true)]
pub(crate) struct Args {
    /// Folder for the state of containers; should not outlive a reboot.
    #[arg(long, default_value = "/run/steadfast/oci")]
    pub(crate) root: PathBuf,
    /// File to which errors are appended, beside standard error.
    #[arg(long)]
    pub(crate) log: Option<PathBuf>,
    /// How lines of the log file look.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a container; its process waits for `start`.
    Create(Create),
    /// Let the process of a created container run.
    Start { id: String },
    /// Print the state of a container as JSON.
    State { id: String },
    /// Send a signal to the container's first process.
    Kill {
        /// To every process of the container.
        #[arg(long, short)]
        all: bool,
        id: String,
        #[arg(default_value = "SIGTERM")]
        signal: String,
    },
    /// Remove what is left of a stopped container.
    Delete {
        /// Kill it first if it runs; no error if it does not exist.
        #[arg(long, short)]
        force: bool,
        id: String,
    },
    /// Run another process in a running container.
    Exec(Exec),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Folder with config.json and the root filesystem.
    #[arg(long, short, default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// File to write the process id to.
    #[arg(long)]
    pub(crate) pid_file: Option<PathBuf>,
    /// Unix socket that receives the terminal's master end.
    #[arg(long)]
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) id: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// File with the OCI process to run.
    #[arg(long, short)]
    pub(crate) process: PathBuf,
    /// File to write the process id to.
    #[arg(long)]
    pub(crate) pid_file: Option<PathBuf>,
    /// Unix socket that receives the terminal's master end.
    #[arg(long)]
    pub(crate) console_socket: Option<PathBuf>,
    /// Return when the process runs instead of waiting for its end.
    #[arg(long, short)]
    pub(crate) detach: bool,
    pub(crate) id: String,
}
