//! What the machine, pods and containers use, as the kubelet API tells it.

mod machine;
mod metrics;
mod summary;

pub(crate) use machine::{Filesystem, MachineUse};
pub(crate) use metrics::{cadvisor, kubelet, resource};
pub(crate) use summary::summary;

use crate::csi::usage::Usage;
use crate::pods::Registry;
use crate::run::Node;
use crate::runtime::{CONTAINER_NAME, POD_UID, timed};
use crate::sandbox_config::log_dir;
use crate::volumes::{pod_dir, usage};
use api::k8s::api::core::v1::Pod;
use cri::v1;
use jiff::Timestamp;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const STATS_TIMEOUT: Duration = Duration::from_secs(30);
/// Rates over less than this say nothing.
const RATE_MIN_S: f64 = 1.0;

/// What everything uses at one moment.
pub(crate) struct Snapshot {
    /// The machine.
    pub(crate) machine: MachineUse,
    /// Each pod with its containers.
    pub(crate) pods: Vec<PodUse>,
    /// When this was so.
    pub(crate) at: Timestamp,
}

/// What a pod uses.
pub(crate) struct PodUse {
    /// The pod.
    pub(crate) pod: Arc<Pod>,
    /// Its running containers.
    pub(crate) containers: Vec<ContainerUse>,
    /// Its volumes: name, bytes and inodes used, and whether they count as ephemeral storage.
    pub(crate) volumes: Vec<VolumeUse>,
    /// Those of CSI drivers.
    pub(crate) driven: Vec<Usage>,
}

/// What a volume holds.
pub(crate) struct VolumeUse {
    /// Its name in the pod.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) used_bytes: u64,
    /// Files and folders.
    pub(crate) inodes_used: u64,
    /// It is on the node's disk and goes with the pod.
    pub(crate) is_ephemeral: bool,
}

/// What a container uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerUse {
    /// Its name in the pod.
    pub(crate) name: String,
    /// The runtime's id.
    pub(crate) id: String,
    /// Its image.
    pub(crate) image: String,
    /// When it started.
    pub(crate) started_at: Option<Timestamp>,
    /// CPU time since then.
    pub(crate) cpu_nanos: Option<u64>,
    /// CPU time per second, of late.
    pub(crate) cpu_nanos_per_s: Option<u64>,
    /// Memory as the runtime tells it.
    pub(crate) memory: Option<Memory>,
    /// Its writable layer: bytes and inodes.
    pub(crate) layer: (u64, u64),
    /// Its logs: bytes and inodes.
    pub(crate) logs: (u64, u64),
}

/// Memory of a container, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) usage: u64,
    pub(crate) working_set: u64,
    pub(crate) rss: u64,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
}

/// The last samples of CPU time, to tell rates from.
#[derive(Default)]
pub(crate) struct Rates {
    last: Mutex<HashMap<String, Sample>>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Timestamp,
    nanos: u64,
    per_s: Option<u64>,
}

impl Rates {
    /// CPU time per second since the sample before this one.
    fn of(&self, id: &str, nanos: u64, now: Timestamp) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.get(id).copied();
        let elapsed = before.map_or(0.0, |sample| now.duration_since(sample.at).as_secs_f64());
        if before.is_some() && elapsed < RATE_MIN_S {
            return before.and_then(|sample| sample.per_s);
        }
        let per_s = before.map(|sample| per_second(nanos.saturating_sub(sample.nanos), elapsed));
        last.insert(id.to_owned(), Sample { at: now, nanos, per_s });
        per_s
    }

    /// Forgets what is not there any more.
    fn keep(&self, ids: &[&str]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|id, _| id == machine::RATE_ID || ids.contains(&id.as_str()));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rate need not be exact"
)]
fn per_second(nanos: u64, elapsed_s: f64) -> u64 {
    (nanos as f64 / elapsed_s) as u64
}

/// Of which pods to look at what lies in volumes and logs, which takes longer than all the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Of none.
    Shallow,
    /// Of those with a limit for it.
    Limited,
    /// Of all.
    All,
}

/// Looks at everything.
pub(crate) async fn look(node: &Arc<Node>, registry: &Registry, depth: Depth) -> Result<Snapshot, tonic::Status> {
    let filter = v1::ContainerStatsFilter {
        label_selector: [node.runtime.own_label()].into(),
        ..Default::default()
    };
    let request = timed(v1::ListContainerStatsRequest { filter: Some(filter) }, STATS_TIMEOUT);
    let stats = node
        .runtime
        .containers
        .clone()
        .list_container_stats(request)
        .await?
        .into_inner()
        .stats;
    let listed = node.runtime.list_containers(None).await?;
    let now = Timestamp::now();
    let running = |c: &&v1::Container| c.state == v1::ContainerState::ContainerRunning as i32;
    let running: HashMap<&str, &v1::Container> = listed.iter().filter(running).map(|c| (c.id.as_str(), c)).collect();
    node.rates.keep(&running.keys().copied().collect::<Vec<_>>());
    let mut by_pod: HashMap<String, Vec<ContainerUse>> = HashMap::new();
    for stats in stats {
        let attributes = stats.attributes.clone().unwrap_or_default();
        let Some(container) = running.get(attributes.id.as_str()) else {
            continue;
        };
        let uid = container.labels.get(POD_UID).cloned().unwrap_or_default();
        by_pod
            .entry(uid)
            .or_default()
            .push(container_use(node, &stats, container, now));
    }
    let pods = registry.pods().into_iter().map(|pod| {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut containers = by_pod.remove(&uid).unwrap_or_default();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        PodUse {
            pod,
            containers,
            volumes: Vec::new(),
            driven: Vec::new(),
        }
    });
    let (mut pods, node) = (pods.collect::<Vec<_>>(), Arc::clone(node));
    if depth == Depth::All {
        for pod in &mut pods {
            let uid = pod.pod.metadata.uid.as_deref().unwrap_or_default();
            pod.driven = crate::csi::usage::of_pod(&node.drivers, &pod_dir(&node.config.root_dir, uid)).await;
        }
    }
    let measured = tokio::task::spawn_blocking(move || {
        let machine = machine::look(&node.config.root_dir, &node.rates, now);
        let wanted = |pod: &PodUse| match depth {
            Depth::Shallow => false,
            Depth::Limited => pod.pod.spec.as_ref().is_some_and(node_plan::has_disk_limits),
            Depth::All => true,
        };
        let measured = |pod: PodUse| if wanted(&pod) { measure(&node, pod) } else { pod };
        let pods = pods.into_iter().map(measured).collect();
        Snapshot { machine, pods, at: now }
    });
    measured
        .await
        .map_err(|error| tonic::Status::internal(error.to_string()))
}

fn container_use(node: &Node, stats: &v1::ContainerStats, container: &v1::Container, now: Timestamp) -> ContainerUse {
    let value = |value: &Option<v1::UInt64Value>| value.as_ref().map(|v| v.value);
    let cpu_nanos = stats.cpu.as_ref().and_then(|cpu| value(&cpu.usage_core_nano_seconds));
    let memory = stats.memory.as_ref().map(|memory| Memory {
        usage: value(&memory.usage_bytes).unwrap_or(0),
        working_set: value(&memory.working_set_bytes).unwrap_or(0),
        rss: value(&memory.rss_bytes).unwrap_or(0),
        page_faults: value(&memory.page_faults).unwrap_or(0),
        major_page_faults: value(&memory.major_page_faults).unwrap_or(0),
    });
    let layer = stats.writable_layer.as_ref();
    ContainerUse {
        name: container.labels.get(CONTAINER_NAME).cloned().unwrap_or_default(),
        id: container.id.clone(),
        image: container
            .image
            .as_ref()
            .map(|image| image.image.clone())
            .unwrap_or_default(),
        started_at: Timestamp::from_nanosecond(i128::from(container.created_at)).ok(),
        cpu_nanos,
        cpu_nanos_per_s: cpu_nanos.and_then(|nanos| node.rates.of(&container.id, nanos, now)),
        memory,
        layer: (
            layer.and_then(|l| value(&l.used_bytes)).unwrap_or(0),
            layer.and_then(|l| value(&l.inodes_used)).unwrap_or(0),
        ),
        logs: (0, 0),
    }
}

/// Adds what lies on the disk.
fn measure(node: &Node, mut of: PodUse) -> PodUse {
    let logs = log_dir(node, &of.pod);
    for container in &mut of.containers {
        container.logs = usage::of(&logs.join(&container.name));
    }
    let dir = pod_dir(
        &node.config.root_dir,
        of.pod.metadata.uid.as_deref().unwrap_or_default(),
    );
    let volumes = of.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    of.volumes = volumes
        .filter_map(|volume| {
            let place: PathBuf = crate::volumes::own_place(&dir, volume)?;
            let (used_bytes, inodes_used) = usage::of(&place);
            Some(VolumeUse {
                name: volume.name.clone(),
                used_bytes,
                inodes_used,
                is_ephemeral: usage::is_on_disk(volume),
            })
        })
        .collect();
    of
}

impl PodUse {
    /// Bytes and inodes of the node's disk that go with the pod.
    pub(crate) fn ephemeral_storage(&self) -> (u64, u64) {
        let of_containers = self.containers.iter().flat_map(|c| [c.layer, c.logs]);
        let of_volumes = self
            .volumes
            .iter()
            .filter(|v| v.is_ephemeral)
            .map(|v| (v.used_bytes, v.inodes_used));
        of_containers
            .chain(of_volumes)
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Memory that its containers need now.
    pub(crate) fn working_set(&self) -> u64 {
        self.containers
            .iter()
            .filter_map(|c| c.memory)
            .map(|m| m.working_set)
            .sum()
    }
}
