//! Pod sandboxes: namespaces, an address and a few files that the containers of a pod share.
//!
//! ```text
//! RunPodSandbox: Making --namespaces, files, network--> Ready --StopPodSandbox--> Stopped --RemovePodSandbox--> gone
//!                   `--failed, or the server was killed--> gone
//! ```
//! Each step is on disk before the next one, so a restart knows what to undo.

mod files;
mod status;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cri::v1::{NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxState};
use prost::Message;
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::disk;
use crate::failure::{blocking, internal};
use crate::monitor::plan::{CREATED, now};
use crate::namespaces;
use crate::network::{HostPort, wanted_host_ports};
use crate::process::Process;
use crate::spec::{Namespaces, PidNamespace, SandboxFiles};
use crate::state::{Runtime, new_id};

pub(crate) use files::shm;

const CONFIG: &str = "config.pb";
const RECORD: &str = "record.json";

/// How far a sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Making,
    Ready,
    Stopped,
}

/// What is known of a sandbox beside its configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) created_at: i64,
    pub(crate) phase: Phase,
    /// Its own main address; none in the host's network.
    address: Option<IpAddr>,
    /// Its addresses of the other family.
    #[serde(default)]
    more_addresses: Vec<IpAddr>,
    pub(crate) runtime_handler: String,
    /// The length of its configuration: a file of another was cut short.
    config_size_bytes: usize,
}

impl Record {
    /// Its own addresses, the main one first; none in the host's network.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.address.iter().chain(&self.more_addresses).copied().collect()
    }
}

/// A pod sandbox.
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) folder: PathBuf,
    pub(crate) config: PodSandboxConfig,
    record: Mutex<Record>,
    /// Containers are made in it by any number of calls, or it is stopped by one.
    pub(crate) changing: tokio::sync::RwLock<()>,
}

impl Sandbox {
    /// Reads a sandbox from its folder; nothing if it was never complete.
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
        let config = PodSandboxConfig::decode(config.as_slice()).map_err(io::Error::other)?;
        Ok(Some(Self::new(id.to_owned(), folder.to_owned(), config, record)))
    }

    fn new(id: String, folder: PathBuf, config: PodSandboxConfig, record: Record) -> Self {
        Self {
            id,
            folder,
            config,
            record: Mutex::new(record),
            changing: tokio::sync::RwLock::default(),
        }
    }

    pub(crate) fn record(&self) -> Record {
        self.record.lock().expect("no holder panics").clone()
    }

    /// Changes the record, on disk first.
    pub(crate) fn set_phase(&self, phase: Phase) -> io::Result<()> {
        let mut record = self.record.lock().expect("no holder panics");
        let changed = Record {
            phase,
            ..record.clone()
        };
        disk::replace_json(&self.folder.join(RECORD), &changed)?;
        *record = changed;
        Ok(())
    }

    pub(crate) fn state(&self) -> PodSandboxState {
        match self.record().phase {
            Phase::Ready => PodSandboxState::SandboxReady,
            Phase::Making | Phase::Stopped => PodSandboxState::SandboxNotready,
        }
    }

    /// Which namespaces it wants.
    pub(crate) fn options(&self) -> NamespaceOption {
        options(&self.config)
    }

    /// The name in its UTS namespace; none in the host's.
    pub(crate) fn own_hostname(&self) -> Option<String> {
        let own = self.options().network() != NamespaceMode::Node;
        own.then(|| {
            if self.config.hostname.is_empty() {
                "localhost".to_owned()
            } else {
                self.config.hostname.clone()
            }
        })
    }

    /// The parent of its containers' cgroups.
    pub(crate) fn cgroup_parent<'a>(&'a self, default: &'a str) -> &'a str {
        let parent = self
            .config
            .linux
            .as_ref()
            .map_or("", |linux| linux.cgroup_parent.as_str());
        if parent.is_empty() { default } else { parent }
    }

    /// The files its containers see.
    pub(crate) fn files(&self) -> SandboxFiles {
        files::of(&self.folder, self.options().ipc() == NamespaceMode::Node)
    }

    /// The namespaces its containers join, held in `held`; `pid` is the container's own wish.
    pub(crate) fn namespaces(&self, held: &Path, pid: PidNamespace) -> Namespaces {
        let options = self.options();
        let own = |mode: NamespaceMode, path: PathBuf| (mode != NamespaceMode::Node).then_some(path);
        Namespaces {
            network: own(options.network(), namespaces::network(held)),
            ipc: own(options.ipc(), namespaces::ipc(held)),
            uts: self.own_hostname().map(|_| namespaces::uts(held)),
            pid,
        }
    }

    /// The ports of the node that lead to it.
    pub(crate) fn host_ports(&self) -> Vec<HostPort> {
        // What cannot be was refused before the sandbox was made.
        wanted_host_ports(&self.config, &self.record().addresses()).unwrap_or_default()
    }

    fn name(&self) -> String {
        name(&self.config)
    }
}

/// kubelets say what they want; a caller that says nothing wants PID namespaces per container.
fn options(config: &PodSandboxConfig) -> NamespaceOption {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let default = NamespaceOption {
        pid: NamespaceMode::Container.into(),
        ..NamespaceOption::default()
    };
    security
        .and_then(|security| security.namespace_options.clone())
        .unwrap_or(default)
}

/// What must be unique among sandboxes.
fn name(config: &PodSandboxConfig) -> String {
    let metadata = config.metadata.clone().unwrap_or_default();
    format!(
        "pod sandbox {}/{} (uid {}, attempt {})",
        metadata.namespace, metadata.name, metadata.uid, metadata.attempt
    )
}

impl Runtime {
    /// Makes a sandbox; the same one again if it exists already.
    pub(crate) async fn run_sandbox(
        self: &Arc<Self>,
        config: PodSandboxConfig,
        handler: String,
    ) -> Result<String, Status> {
        check(&config, &self.network.ranges.gateways())?;
        let name = name(&config);
        let _reserved = self.reserve(name.clone())?;
        // CRI: the call may be repeated when its answer was lost.
        if let Some(known) = self.all_sandboxes().into_iter().find(|sandbox| sandbox.name() == name) {
            if known.record().phase == Phase::Ready {
                return Ok(known.id.clone());
            }
            return Err(Status::already_exists(format!(
                "{name} exists already and is stopped: remove it first"
            )));
        }
        let sandbox = self.begin_sandbox(config, handler)?;
        if let Err(status) = self.make_sandbox(&sandbox).await {
            if let Err(error) = self.undo_sandbox(&sandbox).await {
                tracing::warn!(sandbox = sandbox.id, %error, "cannot clean up a sandbox that failed");
            }
            return Err(status);
        }
        let id = sandbox.id.clone();
        self.sandboxes
            .lock()
            .expect("no holder panics")
            .insert(id.clone(), sandbox);
        Ok(id)
    }

    /// Takes an address and writes down what is going to be made.
    fn begin_sandbox(&self, config: PodSandboxConfig, runtime_handler: String) -> Result<Arc<Sandbox>, Status> {
        let id = new_id();
        let folder = self.sandbox_folder(&id);
        let own_network = options(&config).network() != NamespaceMode::Node;
        let addresses = own_network
            .then(|| self.addresses.take())
            .transpose()
            .map_err(internal("no address for the pod"))?
            .unwrap_or_default();
        let record = Record {
            created_at: now(),
            phase: Phase::Making,
            address: addresses.first().copied(),
            more_addresses: addresses.iter().skip(1).copied().collect(),
            runtime_handler,
            config_size_bytes: config.encoded_len(),
        };
        let write = || {
            std::fs::create_dir_all(&folder)?;
            disk::replace(&folder.join(CONFIG), &config.encode_to_vec())?;
            disk::replace_json(&folder.join(RECORD), &record)
        };
        if let Err(error) = write() {
            self.addresses.release(&addresses);
            return Err(internal("cannot write the sandbox")(error));
        }
        Ok(Arc::new(Sandbox::new(id, folder, config, record)))
    }

    async fn make_sandbox(&self, sandbox: &Arc<Sandbox>) -> Result<(), Status> {
        let options = sandbox.options();
        let wanted = namespaces::Wanted {
            network: options.network() != NamespaceMode::Node,
            ipc: options.ipc() != NamespaceMode::Node,
            hostname: sandbox.own_hostname(),
            sysctls: sandbox
                .config
                .linux
                .clone()
                .unwrap_or_default()
                .sysctls
                .into_iter()
                .collect(),
        };
        for name in wanted.sysctls.keys() {
            namespaces::check_sysctl(name, wanted.network, wanted.ipc).map_err(Status::invalid_argument)?;
        }
        let (held, making) = (self.namespaces_folder(&sandbox.id), Arc::clone(sandbox));
        blocking(move || {
            namespaces::make(&held, wanted).map_err(internal("cannot make the pod's namespaces"))?;
            files::make(&making).map_err(internal("cannot make the pod's files"))
        })
        .await?;
        let held = self.namespaces_folder(&sandbox.id);
        if options.pid() == NamespaceMode::Pod {
            self.driver.monitor("pause", &held).await.map_err(Status::internal)?;
        }
        let addresses = sandbox.record().addresses();
        if !addresses.is_empty() {
            let connected = self
                .network
                .connect(&sandbox.id, namespaces::network(&held), addresses)
                .await;
            connected.map_err(internal("cannot connect the pod to the network"))?;
            let opened = self.network.open_ports(&sandbox.host_ports()).await;
            opened.map_err(internal("cannot open the pod's host ports"))?;
        }
        sandbox
            .set_phase(Phase::Ready)
            .map_err(internal("cannot write the sandbox"))
    }

    /// Removes all traces of a sandbox that has no containers.
    pub(crate) async fn undo_sandbox(&self, sandbox: &Sandbox) -> Result<(), Status> {
        self.release_sandbox(sandbox).await?;
        disk::remove_folder(&sandbox.folder).map_err(internal("cannot remove the sandbox"))
    }

    /// Gives back what a sandbox holds of the machine.
    async fn release_sandbox(&self, sandbox: &Sandbox) -> Result<(), Status> {
        if let Err(error) = self.network.close_ports(&sandbox.host_ports()).await {
            // Without nft there are none; with it, they are closed at the next start at the latest.
            tracing::warn!(
                sandbox = sandbox.id,
                error = crate::failure::chain(&error),
                "cannot close the pod's host ports"
            );
        }
        self.network
            .disconnect(&sandbox.id)
            .await
            .map_err(internal("cannot disconnect the pod"))?;
        let (held, folder) = (self.namespaces_folder(&sandbox.id), sandbox.folder.clone());
        blocking(move || {
            if let Ok(Some(pause)) = disk::read_json::<Process>(&held.join(CREATED)) {
                pause.kill();
            }
            namespaces::release(&held).map_err(internal("cannot let the pod's namespaces go"))?;
            namespaces::unmount(&shm(&folder)).map_err(internal("cannot unmount the pod's shared memory"))
        })
        .await?;
        let record = sandbox.record();
        if record.phase != Phase::Stopped {
            self.addresses.release(&record.addresses());
        }
        Ok(())
    }

    /// Kills the sandbox's containers and gives back its network; done already is fine.
    pub(crate) async fn stop_sandbox(self: &Arc<Self>, sandbox: &Sandbox) -> Result<(), Status> {
        let _changing = sandbox.changing.write().await;
        let stops = self.containers_of(&sandbox.id);
        let stops = stops
            .iter()
            .map(|container| self.stop_container(container, std::time::Duration::ZERO));
        futures::future::try_join_all(stops).await?;
        if sandbox.record().phase == Phase::Stopped {
            return Ok(());
        }
        self.release_sandbox(sandbox).await?;
        sandbox
            .set_phase(Phase::Stopped)
            .map_err(internal("cannot write the sandbox"))
    }

    /// Removes a sandbox with its containers.
    pub(crate) async fn remove_sandbox(self: &Arc<Self>, sandbox: &Sandbox) -> Result<(), Status> {
        self.stop_sandbox(sandbox).await?;
        for container in self.containers_of(&sandbox.id) {
            self.remove_container(&container).await?;
        }
        let _changing = sandbox.changing.write().await;
        disk::remove_folder(&sandbox.folder).map_err(internal("cannot remove the sandbox"))?;
        self.sandboxes.lock().expect("no holder panics").remove(&sandbox.id);
        crate::cgroup::Cgroup::new(sandbox.cgroup_parent(&self.config.cgroup_parent)).remove_if_empty();
        Ok(())
    }
}

/// Refuses what this runtime cannot do; `addresses` are of the families that pods have.
fn check(config: &PodSandboxConfig, addresses: &[IpAddr]) -> Result<(), Status> {
    if config.metadata.as_ref().is_none_or(|metadata| metadata.name.is_empty()) {
        return Err(Status::invalid_argument("the sandbox's configuration has no name"));
    }
    wanted_host_ports(config, addresses).map_err(Status::invalid_argument)?;
    let options = options(config);
    let user = options.userns_options.as_ref().map(cri::v1::UserNamespace::mode);
    if user == Some(NamespaceMode::Pod) {
        return Err(Status::unimplemented(
            "user namespaces (hostUsers: false) are not supported by this runtime",
        ));
    }
    Ok(())
}
