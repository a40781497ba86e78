//! Resizing what runs: what pods of this node were granted together, the file that remembers it for each, and the job
//! that brings a grant to the control groups.

use crate::cgroup::{self, Limits};
use crate::container_config;
use crate::jobs::{Context, Outcome};
use crate::run::Node;
use crate::runtime::timed;
use crate::volumes::pod_dir;
use api::k8s::api::core::v1::{Pod, PodSpec, ResourceRequirements};
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use cri::v1;
use node_plan::{ContainerResources, Granted, Pending, Requests};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Changing a control group takes no longer than this.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(30);

/// What the pods of this node were granted, so that no two are promised the same.
#[derive(Default)]
pub(crate) struct Grants {
    pods: Mutex<HashMap<String, Grant>>,
}

#[derive(Default)]
struct Grant {
    requests: Requests,
    /// Whom to wake when there is more room, if the pod waits for that.
    waits: Option<Arc<Notify>>,
}

impl Grants {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Grant>) -> T) -> T {
        act(&mut self.pods.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A pod has this much, whatever there is.
    pub(crate) fn has(&self, uid: &str, requests: Requests) {
        self.with(|pods| {
            let grant = pods.entry(uid.to_owned()).or_default();
            let is_less =
                requests.cpu_milli < grant.requests.cpu_milli || requests.memory_bytes < grant.requests.memory_bytes;
            *grant = Grant { requests, waits: None };
            if is_less {
                wake_waiting(pods);
            }
        });
    }

    /// Grants a pod other requests, if there is room; else it is woken when there may be.
    pub(crate) fn try_grant(
        &self,
        uid: &str,
        requests: Requests,
        allocatable: &BTreeMap<String, Quantity>,
        wake: &Arc<Notify>,
    ) -> Result<(), Pending> {
        self.with(|pods| {
            let others = pods.iter().filter(|(other, _)| *other != uid);
            let others = others.fold(Requests::default(), |sum, (_, g)| sum.plus(g.requests));
            let admitted = node_plan::admit(requests, others, allocatable);
            let grant = pods.entry(uid.to_owned()).or_default();
            match &admitted {
                Ok(()) => {
                    *grant = Grant { requests, waits: None };
                    wake_waiting(pods);
                }
                Err(pending) => grant.waits = (pending.reason == "Deferred").then(|| wake.clone()),
            }
            admitted
        })
    }

    /// A pod needs nothing any more.
    pub(crate) fn release(&self, uid: &str) {
        self.with(|pods| {
            if pods.remove(uid).is_some() {
                wake_waiting(pods);
            }
        });
    }
}

fn wake_waiting(pods: &HashMap<String, Grant>) {
    pods.values()
        .filter_map(|grant| grant.waits.as_ref())
        .for_each(|wake| wake.notify_one());
}

fn file(node: &Node, uid: &str) -> PathBuf {
    pod_dir(&node.config.root_dir, uid).join("granted.json")
}

/// What an earlier run of the agent granted a pod; `None` if there was none.
pub(crate) fn load(node: &Node, uid: &str) -> Option<Granted> {
    let path = file(node, uid);
    let text = std::fs::read(&path).ok()?;
    serde_json::from_slice(&text)
        .inspect_err(|error| tracing::warn!(%error, path = %path.display(), "cannot read what a pod was granted"))
        .ok()
}

/// Remembers what a pod was granted. Only a restart of the agent needs it, not one of the machine: that ends all
/// containers and takes the control groups away, so nothing is forced to the disk.
pub(crate) fn save(node: &Node, uid: &str, granted: &Granted) -> io::Result<()> {
    let path = file(node, uid);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(granted).map_err(io::Error::other)?)?;
    std::fs::rename(new, path)
}

/// A resize that could not be finished.
#[derive(Debug)]
pub(crate) struct Resized {
    /// What containers have got, by id.
    pub(crate) applied: Vec<(String, ResourceRequirements)>,
    /// What the pod's cgroup was set to.
    pub(crate) cgroup: ContainerResources,
    /// Why the rest has not.
    pub(crate) failure: Option<String>,
}

/// Brings the grant of the pod in `ctx` to its cgroup and to `containers` (names and ids), which had `before`.
pub(crate) async fn resize(
    ctx: Context,
    containers: Vec<(String, String)>,
    before: BTreeMap<String, ResourceRequirements>,
) -> Outcome {
    let spec = ctx.pod.spec.clone().unwrap_or_default();
    let wanted = node_plan::pod_resources(&spec);
    let old = ctx.cgroup.unwrap_or(wanted);
    // A cgroup's limits are at least those of each below it, at every moment.
    let widest = node_plan::larger(old, wanted);
    let mut resized = Resized {
        applied: Vec::new(),
        cgroup: old,
        failure: None,
    };
    let outcome = async {
        set_cgroup(&ctx.node, &ctx.pod, widest).await?;
        resized.cgroup = widest;
        for (name, id) in &containers {
            let has = before.get(id).cloned().unwrap_or_default();
            let got = change(&ctx.node, &spec, name, id, &has).await?;
            resized.applied.push((id.clone(), got));
        }
        set_cgroup(&ctx.node, &ctx.pod, wanted).await?;
        resized.cgroup = wanted;
        Ok(())
    };
    let outcome: Result<(), String> = outcome.await;
    resized.failure = outcome.err();
    Outcome::Resized(resized)
}

/// Changes one container; what it has then.
async fn change(
    node: &Node,
    spec: &PodSpec,
    name: &str,
    id: &str,
    has: &ResourceRequirements,
) -> Result<ResourceRequirements, String> {
    let definition = node_plan::definition(spec, name).ok_or_else(|| format!("there is no container {name}"))?;
    if let Some(limit) = node_plan::memory_shrinks_to(spec, &definition, has) {
        let used = memory_used(node, id)
            .await
            .map_err(|status| status.message().to_owned())?;
        if used >= limit {
            return Err(format!(
                "attempting to set container \"{name}\" memory limit ({limit}) below current usage ({used})"
            ));
        }
    }
    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(container_config::resources(node, spec, &definition)),
        ..v1::UpdateContainerResourcesRequest::default()
    };
    let mut runtime = node.runtime.containers.clone();
    let updated = runtime.update_container_resources(timed(request, UPDATE_TIMEOUT)).await;
    updated.map_err(|status| status.message().to_owned())?;
    Ok(definition.resources.clone().unwrap_or_default())
}

/// What a container cannot do without: the kernel would end processes to get below it.
async fn memory_used(node: &Node, id: &str) -> Result<i64, tonic::Status> {
    let request = v1::ContainerStatsRequest {
        container_id: id.to_owned(),
    };
    let mut runtime = node.runtime.containers.clone();
    let stats = runtime.container_stats(timed(request, UPDATE_TIMEOUT)).await?;
    let memory = stats.into_inner().stats.and_then(|s| s.memory);
    let used = memory.and_then(|m| m.working_set_bytes).map_or(0, |v| v.value);
    Ok(i64::try_from(used).unwrap_or(i64::MAX))
}

/// Makes the pod's cgroup, or changes it.
pub(crate) async fn set_cgroup(node: &Node, pod: &Pod, resources: ContainerResources) -> Result<(), String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let parent = node_plan::cgroup_parent(&node.config.cgroup_root, node_plan::qos_class(&spec), uid);
    let limits = Limits {
        resources,
        pids_max: node.config.pod_pids_max,
    };
    let made = tokio::task::spawn_blocking(move || cgroup::make_pod(&parent, &limits)).await;
    let made = made.map_err(|error| error.to_string())?;
    made.map_err(|error| format!("cannot make the pod's cgroup: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cpu_milli: i64) -> Requests {
        Requests {
            cpu_milli,
            memory_bytes: 0,
        }
    }

    #[tokio::test]
    async fn a_deferred_resize_is_looked_at_again_when_another_pod_leaves() {
        let allocatable = BTreeMap::from([("cpu".to_owned(), Quantity("2".to_owned()))]);
        let grants = Grants::default();
        let wake = Arc::new(Notify::new());
        grants.has("a", of(500));
        grants.has("b", of(1500));
        let pending = grants.try_grant("a", of(1000), &allocatable, &wake).expect_err("full");
        assert_eq!(pending.reason, "Deferred");
        grants.release("b");
        wake.notified().await;
        grants
            .try_grant("a", of(1000), &allocatable, &wake)
            .expect("there is room");
        let pending = grants
            .try_grant("a", of(3000), &allocatable, &wake)
            .expect_err("more than the node");
        assert_eq!(pending.reason, "Infeasible");
    }
}
