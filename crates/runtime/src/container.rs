//! Containers: a folder each, a monitor each, and the calls that change them.
//!
//! ```text
//! CreateContainer: folder, root filesystem, monitor, `oci create` --record.json--> Created
//!     Created --StartContainer--> Running --process ends, exit.json--> Exited --RemoveContainer--> gone
//! ```
//! A folder without record.json is half-made, and removed at the next start. What happened after that is written by the
//! monitor, so this server only ever reads it.

mod create;
mod status;
mod stop;
mod watch;

pub(crate) use watch::lost;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cri::v1::{ContainerConfig, ContainerState, LinuxContainerResources};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::disk;
use crate::monitor::plan::{CREATED, EXIT, Exit, STARTED, Started};
use crate::process::Process;

const CONFIG: &str = "config.pb";
const RECORD: &str = "record.json";
/// Limits that were changed after the creation.
const RESOURCES: &str = "resources.pb";

/// What is known of a container beside its configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) sandbox_id: String,
    pub(crate) created_at: i64,
    pub(crate) image_id: String,
    /// The image's name with its digest, or its id.
    pub(crate) image_ref: String,
    /// The layers below its root filesystem.
    pub(crate) layers: Vec<String>,
    pub(crate) cgroup: String,
    pub(crate) log_path: PathBuf,
    /// What ends it in good order.
    pub(crate) stop_signal: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// The length of its configuration: a file of another was cut short.
    pub(crate) config_size_bytes: usize,
}

/// How far a container's process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) started_at: Option<i64>,
    pub(crate) exit: Option<Exit>,
}

/// A container.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) folder: PathBuf,
    pub(crate) config: ContainerConfig,
    pub(crate) record: Record,
    pub(crate) progress: tokio::sync::watch::Sender<Progress>,
    resources: Mutex<Option<LinuxContainerResources>>,
    /// One call at a time starts or removes it.
    changing: tokio::sync::Mutex<()>,
}

impl Container {
    /// Reads a container from its folder; nothing if it was never complete.
    pub(crate) fn load(folder: &Path) -> io::Result<Option<Self>> {
        let Some(record) = disk::read_json::<Record>(&folder.join(RECORD))? else {
            return Ok(None);
        };
        let Some(id) = folder.file_name().and_then(|name| name.to_str()) else {
            return Ok(None);
        };
        let config = std::fs::read(folder.join(CONFIG))?;
        if config.len() != record.config_size_bytes {
            return Ok(None);
        }
        let config = ContainerConfig::decode(config.as_slice()).map_err(io::Error::other)?;
        let container = Self::new(id.to_owned(), folder.to_owned(), config, record);
        match std::fs::read(folder.join(RESOURCES)) {
            Ok(bytes) => {
                container.keep_resources(LinuxContainerResources::decode(bytes.as_slice()).map_err(io::Error::other)?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        container.refresh()?;
        Ok(Some(container))
    }

    fn new(id: String, folder: PathBuf, config: ContainerConfig, record: Record) -> Self {
        Self {
            id,
            folder,
            resources: Mutex::new(config.linux.as_ref().and_then(|linux| linux.resources.clone())),
            config,
            record,
            progress: tokio::sync::watch::Sender::new(Progress::default()),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Changes its limits, now and in what is told of it.
    pub(crate) fn update(&self, resources: LinuxContainerResources) -> io::Result<()> {
        Cgroup::new(&self.record.cgroup).update(&resources)?;
        disk::replace(&self.folder.join(RESOURCES), &resources.encode_to_vec())?;
        self.keep_resources(resources);
        Ok(())
    }

    fn keep_resources(&self, resources: LinuxContainerResources) {
        *self.resources.lock().expect("no holder panics") = Some(resources);
    }

    /// Its limits.
    pub(crate) fn resources(&self) -> Option<LinuxContainerResources> {
        self.resources.lock().expect("no holder panics").clone()
    }

    /// Reads what the monitor has written.
    pub(crate) fn refresh(&self) -> io::Result<Progress> {
        let started: Option<Started> = disk::read_json(&self.folder.join(STARTED))?;
        let exit: Option<Exit> = disk::read_json(&self.folder.join(EXIT))?;
        let progress = Progress {
            started_at: started.map(|started| started.at),
            exit,
        };
        self.progress.send_replace(progress.clone());
        Ok(progress)
    }

    /// Its first process, as long as the machine has not been started anew.
    pub(crate) fn process(&self) -> io::Result<Option<Process>> {
        disk::read_json(&self.folder.join(CREATED))
    }

    pub(crate) fn state(&self) -> ContainerState {
        match &*self.progress.borrow() {
            Progress { exit: Some(_), .. } => ContainerState::ContainerExited,
            Progress {
                started_at: Some(_), ..
            } => ContainerState::ContainerRunning,
            Progress { .. } => ContainerState::ContainerCreated,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state() == ContainerState::ContainerRunning
    }

    pub(crate) fn name(&self) -> String {
        name(&self.record.sandbox_id, &self.config)
    }
}

/// What must be unique among containers.
fn name(sandbox: &str, config: &ContainerConfig) -> String {
    let metadata = config.metadata.clone().unwrap_or_default();
    format!(
        "container {} (attempt {}) of sandbox {sandbox}",
        metadata.name, metadata.attempt
    )
}
