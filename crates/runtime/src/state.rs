//! The server's view of what is on disk, shared by all calls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use cri::v1::ContainerEventResponse;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::Config;
use crate::container::Container;
use crate::driver::Driver;
use crate::failure::no_such;
use crate::images;
use crate::network::{Addresses, Network, Ranges};
use crate::sandbox::Sandbox;
use crate::spec::Machine;
use crate::streaming::Streaming;

/// Events a slow listener may be behind before it loses some; kubelets list again then.
const EVENTS_MAX: usize = 1024;

/// Everything calls work with.
pub(crate) struct Runtime {
    pub(crate) config: Config,
    pub(crate) driver: Driver,
    pub(crate) network: Network,
    pub(crate) addresses: Addresses,
    pub(crate) images: images::Store,
    pub(crate) machine: Machine,
    pub(crate) streaming: Streaming,
    pub(crate) events: broadcast::Sender<ContainerEventResponse>,
    /// Watchers of containers, streams, and other work that ends with the server.
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    pub(crate) sandboxes: Mutex<BTreeMap<String, Arc<Sandbox>>>,
    pub(crate) containers: Mutex<BTreeMap<String, Arc<Container>>>,
    /// Names of sandboxes and containers that are being made.
    reserved: Mutex<BTreeSet<String>>,
    /// Images that are being pulled.
    pulls: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// A name nobody else can use until this is dropped.
pub(crate) struct Reservation {
    runtime: Arc<Runtime>,
    name: String,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.runtime
            .reserved
            .lock()
            .expect("no holder panics")
            .remove(&self.name);
    }
}

/// The parts a [`Runtime`] is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) addresses: Addresses,
    pub(crate) images: images::Store,
    pub(crate) machine: Machine,
    pub(crate) streaming: Streaming,
    pub(crate) shutdown: CancellationToken,
    pub(crate) sandboxes: BTreeMap<String, Arc<Sandbox>>,
    pub(crate) containers: BTreeMap<String, Arc<Container>>,
}

impl Runtime {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let network = network_of(&parts.config);
        Arc::new(Self {
            driver: Driver::new(&parts.config),
            network,
            addresses: parts.addresses,
            images: parts.images,
            machine: parts.machine,
            streaming: parts.streaming,
            events: broadcast::Sender::new(EVENTS_MAX),
            tasks: TaskTracker::new(),
            shutdown: parts.shutdown,
            sandboxes: Mutex::new(parts.sandboxes),
            containers: Mutex::new(parts.containers),
            reserved: Mutex::default(),
            pulls: Mutex::default(),
            config: parts.config,
        })
    }

    /// The sandbox with this id, or the only one whose id begins so.
    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Status> {
        find(&self.sandboxes.lock().expect("no holder panics"), id).ok_or_else(|| no_such("pod sandbox", id))
    }

    /// The container with this id, or the only one whose id begins so.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>, Status> {
        find(&self.containers.lock().expect("no holder panics"), id).ok_or_else(|| no_such("container", id))
    }

    pub(crate) fn all_sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.sandboxes
            .lock()
            .expect("no holder panics")
            .values()
            .cloned()
            .collect()
    }

    pub(crate) fn all_containers(&self) -> Vec<Arc<Container>> {
        self.containers
            .lock()
            .expect("no holder panics")
            .values()
            .cloned()
            .collect()
    }

    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        let containers = self.all_containers().into_iter();
        containers
            .filter(|container| container.record.sandbox_id == sandbox)
            .collect()
    }

    /// Reserves a name for as long as something of this name is being made.
    pub(crate) fn reserve(self: &Arc<Self>, name: String) -> Result<Reservation, Status> {
        if !self.reserved.lock().expect("no holder panics").insert(name.clone()) {
            return Err(Status::unavailable(format!("{name} is being made by an earlier call")));
        }
        Ok(Reservation {
            runtime: Arc::clone(self),
            name,
        })
    }

    /// What pulls of the same image take in turn: the second one finds everything there.
    pub(crate) fn turn_to_pull(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulls = self.pulls.lock().expect("no holder panics");
        pulls.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = pulls.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        pulls.insert(name.to_owned(), Arc::downgrade(&turn));
        turn
    }

    pub(crate) fn sandbox_folder(&self, id: &str) -> PathBuf {
        self.config.root.join("sandboxes").join(id)
    }

    pub(crate) fn container_folder(&self, id: &str) -> PathBuf {
        self.config.root.join("containers").join(id)
    }

    /// Where a sandbox's namespaces are held.
    pub(crate) fn namespaces_folder(&self, id: &str) -> PathBuf {
        self.config.state.join("ns").join(id)
    }

    /// The layers that containers stand on.
    pub(crate) fn layers_in_use(&self) -> BTreeSet<String> {
        self.all_containers()
            .iter()
            .flat_map(|container| container.record.layers.clone())
            .collect()
    }
}

/// The network a configuration describes.
pub(crate) fn network_of(config: &Config) -> Network {
    Network {
        bridge: config.bridge.clone(),
        ranges: Ranges::new(&config.pod_cidrs),
    }
}

/// 64 hexadecimal digits that nobody had before.
pub(crate) fn new_id() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

fn find<T>(map: &BTreeMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if id.is_empty() {
        return None;
    }
    let mut matches = map.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
    match (matches.next(), matches.next()) {
        (Some((key, found)), other) if key == id || other.is_none() => Some(Arc::clone(found)),
        _ => None,
    }
}
