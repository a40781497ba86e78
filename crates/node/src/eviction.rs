//! Keeps the node usable: pods that use more disk than they may leave it, and when memory or disk run out, one pod after
//! the other until they do not.

use crate::pods::Registry;
use crate::run::Node;
use crate::stats::{self, Depth, PodUse, Snapshot};
use jiff::{SignedDuration, Timestamp};
use node_plan::{Candidate, DiskUse, Left, Pressure};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks, as kubelets do.
const PERIOD: Duration = Duration::from_secs(10);

/// A pressure is told for this long after it was last felt, so that the node's taints do not flutter.
const LINGER: SignedDuration = SignedDuration::from_mins(5);

/// What the node has felt, and when last.
#[derive(Default)]
pub(crate) struct Felt {
    last: Mutex<[Option<Timestamp>; 3]>,
}

impl Felt {
    /// Notes what is felt now.
    fn note(&self, now: Timestamp, pressure: Pressure) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (last, is_felt) in last.iter_mut().zip([pressure.memory, pressure.disk, pressure.pids]) {
            if is_felt {
                *last = Some(now);
            }
        }
    }

    /// What the node's conditions should say.
    pub(crate) fn lately(&self, now: Timestamp) -> Pressure {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let [memory, disk, pids] = last.map(|at| at.is_some_and(|at| now.duration_since(at) < LINGER));
        Pressure { memory, disk, pids }
    }
}

/// Looks every now and then until shutdown.
pub(crate) async fn run(node: Arc<Node>, registry: Registry, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        match stats::look(&node, &registry, Depth::Limited).await {
            Ok(seen) => act(&node, &registry, &seen).await,
            Err(error) => tracing::debug!(%error, "the runtime does not tell what containers use"),
        }
    }
}

async fn act(node: &Arc<Node>, registry: &Registry, seen: &Snapshot) {
    for pod in &seen.pods {
        let Some(spec) = &pod.pod.spec else { continue };
        if let Some(why) = node_plan::over_disk_limits(spec, &disk_use(pod)) {
            evict(registry, pod, why);
        }
    }
    let pressure = pressure(seen);
    node.pressure.note(seen.at, pressure);
    if pressure.memory {
        let candidates: Vec<_> = candidates(seen, PodUse::working_set);
        let available = seen.machine.memory_available_bytes;
        evict_first(registry, &candidates, seen, "memory", available);
    } else if pressure.disk {
        // Everybody's disk is measured only now that it matters.
        let Ok(seen) = stats::look(node, registry, Depth::All).await else {
            return;
        };
        let candidates: Vec<_> = candidates(&seen, |pod| pod.ephemeral_storage().0);
        let available = seen.machine.disk.available_bytes;
        evict_first(registry, &candidates, &seen, "ephemeral-storage", available);
    }
}

fn pressure(seen: &Snapshot) -> Pressure {
    let machine = &seen.machine;
    let left = |available, capacity| Left { available, capacity };
    let memory = left(
        machine.memory_available_bytes,
        machine.memory_available_bytes + machine.memory_working_set_bytes,
    );
    let disk = left(machine.disk.available_bytes, machine.disk.capacity_bytes);
    let inodes = left(machine.disk.inodes_free, machine.disk.inodes);
    let pids = left(machine.pids.1.saturating_sub(machine.pids.0), machine.pids.1);
    node_plan::pressure(memory, disk, inodes, pids)
}

fn candidates(seen: &Snapshot, used: impl Fn(&PodUse) -> u64) -> Vec<Candidate<'_>> {
    let running = seen.pods.iter().filter(|pod| !pod.containers.is_empty());
    running
        .map(|pod| Candidate {
            pod: &pod.pod,
            used_bytes: used(pod),
        })
        .collect()
}

fn evict_first(registry: &Registry, candidates: &[Candidate<'_>], seen: &Snapshot, resource: &str, available: u64) {
    let Some((pod, why)) = node_plan::first_to_leave(candidates, resource, available) else {
        return;
    };
    if let Some(found) = seen.pods.iter().find(|p| p.pod.metadata.uid == pod.metadata.uid) {
        evict(registry, found, why);
    }
}

fn evict(registry: &Registry, pod: &PodUse, why: String) {
    let meta = &pod.pod.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    tracing::info!(pod = name, why, "a pod must leave the node");
    registry.evict(meta.uid.as_deref().unwrap_or_default(), why);
}

fn disk_use(pod: &PodUse) -> DiskUse {
    let ephemeral = pod.volumes.iter().filter(|v| v.is_ephemeral);
    DiskUse {
        containers: pod
            .containers
            .iter()
            .map(|c| (c.name.clone(), c.layer.0 + c.logs.0))
            .collect(),
        volumes: ephemeral.map(|v| (v.name.clone(), v.used_bytes)).collect(),
    }
}
