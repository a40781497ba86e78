//! What the node has seen of one pod when it plans: the object, its sandboxes and containers, and what only this
//! process remembers (failed starts, probe verdicts).

use crate::resize::{Granted, Pending};
use api::k8s::api::core::v1::{Pod, PodStatus, ResourceRequirements};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The key of [`Observed::busy`] for work on the pod as a whole (volumes, sandbox); no container has an empty name.
pub const POD_SUBJECT: &str = "";

/// All that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The pod as the API last gave it, with the resources it was granted.
    pub pod: &'a Pod,
    /// Whether the object is gone from the API: what is left of it must stop, and nobody reads its status any more.
    pub removed: bool,
    /// The pod's sandboxes, in any order.
    pub sandboxes: &'a [Sandbox],
    /// The pod's containers of all sandboxes, in any order.
    pub containers: &'a [Container],
    /// What this process remembers.
    pub memory: &'a Memory,
    /// How far the volumes are.
    pub volumes: &'a Volumes,
    /// Work that is under way, by container name or [`POD_SUBJECT`].
    pub busy: &'a BTreeMap<String, Job>,
    /// The node's addresses, the main one first.
    pub host_ips: &'a [String],
    /// Name of the runtime, the scheme of container ids (`containerd://…`).
    pub runtime: &'a str,
}

/// A pod sandbox as the runtime reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's id.
    pub id: String,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// Whether it is ready (its namespaces live).
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// The pod's addresses in it, the main one first.
    pub ips: Vec<String>,
}

/// What a container does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainerState {
    /// Made but not started.
    Created,
    /// Its process lives.
    Running,
    /// Its process has ended.
    Exited,
    /// The runtime has lost it.
    #[default]
    Unknown,
}

/// A container as the runtime reports it, with what the node wrote on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    /// The runtime's id.
    pub id: String,
    /// The sandbox it lives in.
    pub sandbox_id: String,
    /// Its name in the pod.
    pub name: String,
    /// How many times the name was started before.
    pub restart_count: i32,
    /// What it does.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its process was started.
    pub started_at: Option<Timestamp>,
    /// When its process ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub exit_code: i32,
    /// The runtime's word for how it ended, e.g. `OOMKilled`.
    pub reason: String,
    /// The termination message.
    pub message: String,
    /// The image as the runtime names it.
    pub image: String,
    /// The image's digest reference.
    pub image_id: String,
    /// [`crate::container_hash`] of the definition it was made from.
    pub hash: String,
    /// Seconds to wait after its end before the next start; what the node wrote on it.
    pub backoff_s: u32,
    /// The resources it was made with, as the node wrote them on it.
    pub resources: Option<ResourceRequirements>,
    /// Where what is mounted is read-only recursively.
    pub recursive_read_only: BTreeSet<String>,
    /// uid, gid and groups of its first process, where the runtime tells.
    pub user: Option<(i64, i64, Vec<i64>)>,
}

/// What only this process remembers of a pod.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// When this node first worked on the pod.
    pub seen_at: Timestamp,
    /// When this process first saw that the pod must stop, and the grace it got; see [`crate::stopping`].
    pub stopping: Option<Stopping>,
    /// Failed starts by container name; removed when a start succeeds.
    pub failures: BTreeMap<String, StartFailure>,
    /// Why the sandbox could not be made.
    pub sandbox_failure: Option<Failure>,
    /// Sandboxes that were stopped for good by this process (their network is released).
    pub stopped_sandboxes: BTreeSet<String>,
    /// Probe verdicts by container id.
    pub verdicts: BTreeMap<String, Verdicts>,
    /// Why a running container must die (probe, hook), by container id.
    pub condemned: BTreeMap<String, crate::KillReason>,
    /// The status when everything had stopped; kept while records are removed.
    pub last_status: Option<PodStatus>,
    /// Whether the final DELETE was answered.
    pub deleted: bool,
    /// The pod was refused by this node: reason and message.
    pub refused: Option<(&'static str, String)>,
    /// The resources it was granted.
    pub granted: Granted,
    /// Why it is not granted what it wants.
    pub resize_pending: Option<Pending>,
    /// Why its containers have not got what it was granted.
    pub resize_failure: Option<Failure>,
}

/// A shutdown under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// When it was first seen, or last shortened.
    pub since: Timestamp,
    /// From then to SIGKILL, in seconds.
    pub grace_s: i64,
}

/// Something that failed and is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For people.
    pub message: String,
    /// When it may be tried again.
    pub retry_at: Timestamp,
    /// How many times in a row it has failed.
    pub times: u32,
}

/// A container start that failed before the container's process ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    /// The waiting reason, e.g. `ErrImagePull`.
    pub reason: String,
    /// The waiting reason while the next try is held back, e.g. `ImagePullBackOff`.
    pub held_reason: String,
    /// The message that goes with `held_reason`.
    pub held_message: String,
    /// The failure itself.
    pub failure: Failure,
    /// When it failed; `reason` is shown for a moment, then `held_reason`.
    pub at: Timestamp,
}

/// What the probes of a running container have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Verdicts {
    /// The startup probe succeeded.
    pub started: bool,
    /// The readiness probe succeeds.
    pub ready: bool,
}

/// How far a pod's volumes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volumes {
    /// Nothing was done in this process.
    Unknown,
    /// All are mounted.
    Ready,
    /// Mounting failed or waits for something, and is tried again.
    Failed(Failure),
    /// All are unmounted and the pod's directory is gone.
    Unmounted,
}

/// Work under way for a container or the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Volumes, sandbox, records.
    Pod,
    /// A container is being started; `cancelled` if it was told to give up.
    Start {
        /// Whether it was told to give up.
        cancelled: bool,
    },
    /// A container is being stopped, by this time at the latest.
    Kill {
        /// When SIGKILL is due.
        deadline: Timestamp,
    },
    /// A dead container's record is being removed.
    Remove,
}

impl Observed<'_> {
    /// The newest sandbox.
    pub fn newest_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.iter().max_by_key(|s| (s.attempt, s.created_at))
    }

    /// The newest sandbox, if it can hold containers.
    pub fn live_sandbox(&self) -> Option<&Sandbox> {
        let newest = self.newest_sandbox()?;
        let has_network = self.host_network() || !newest.ips.is_empty();
        (newest.ready && has_network && !self.memory.stopped_sandboxes.contains(&newest.id)).then_some(newest)
    }

    /// Whether the pod lives in the node's network.
    pub fn host_network(&self) -> bool {
        self.pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
    }

    /// The newest container of a name, in whatever sandbox.
    pub fn newest(&self, name: &str) -> Option<&Container> {
        self.containers
            .iter()
            .filter(|c| c.name == name)
            .max_by_key(|c| (c.restart_count, c.created_at))
    }

    /// The newest container of a name in the live sandbox.
    pub fn current(&self, name: &str) -> Option<&Container> {
        let sandbox = self.live_sandbox()?;
        self.newest(name).filter(|c| c.sandbox_id == sandbox.id)
    }

    /// The container before the newest of a name.
    pub fn previous(&self, name: &str) -> Option<&Container> {
        let newest = self.newest(name)?;
        self.containers
            .iter()
            .filter(|c| c.name == name && c.id != newest.id)
            .max_by_key(|c| (c.restart_count, c.created_at))
    }

    /// Whether the pod is asked to end: deleted, or gone from the API.
    pub fn is_deleted(&self) -> bool {
        self.removed || self.pod.metadata.deletion_timestamp.is_some()
    }
}
