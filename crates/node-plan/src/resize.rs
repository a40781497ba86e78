//! Resources that change while containers run.
//!
//! ```text
//! wanted (spec) ── is there room? ──▶ granted (kept over restarts of the agent) ── control groups ──▶ applied
//!      └─ Deferred or Infeasible: PodResizePending          └─ not applied yet: PodResizeInProgress
//! ```
//! All that is planned for a pod, is planned for what it was granted; what it wants beyond that is only a condition.

use crate::observed::{Container, ContainerState, Observed};
use crate::plan::{Plan, Step};
use crate::resources::{ContainerResources, container_resources, pod_resources, quantity_rounded_up};
use crate::start::is_sidecar;
use api::k8s::api::core::v1::{Container as Definition, Pod, PodSpec, ResourceRequirements};
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const NANOS: i128 = 1_000_000_000;
const NANOS_PER_MILLI: i128 = 1_000_000;
/// The resources that can change.
const RESIZABLE: [(&str, i128); 2] = [("cpu", NANOS_PER_MILLI), ("memory", NANOS)];

/// What a pod was given on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Granted {
    /// By the names of the containers that can be resized.
    pub containers: BTreeMap<String, ResourceRequirements>,
    /// What containers got after their start, by the runtime's id; before, they have what they were made with.
    #[serde(default)]
    pub applied: BTreeMap<String, ResourceRequirements>,
    /// What the pod's own cgroup was set to; `None` as long as nothing was resized.
    #[serde(default)]
    pub cgroup: Option<ContainerResources>,
}

/// Why a resize is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `Deferred`: not now; `Infeasible`: never on this node.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What a pod requests, of what nodes have only so much of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Thousandths of a CPU.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
}

impl Requests {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }

    fn of(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let amount = |name: &str, unit| list.and_then(|l| quantity_rounded_up(l.get(name)?, unit)).unwrap_or(0);
        Self {
            cpu_milli: amount("cpu", NANOS_PER_MILLI),
            memory_bytes: amount("memory", NANOS),
        }
    }
}

/// What a pod requests at its hungriest moment.
pub fn requests(spec: &PodSpec) -> Requests {
    let of = |d: &Definition| Requests::of(d.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let mut sidecars = Requests::default();
    let mut starting = Requests::default();
    for init in spec.init_containers.iter().flatten() {
        let moment = of(init).plus(sidecars);
        if is_sidecar(init) {
            sidecars = moment;
        }
        starting = starting.most(moment);
    }
    let running = spec.containers.iter().fold(sidecars, |sum, d| sum.plus(of(d)));
    let mut all = running.most(starting);
    if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let said = Requests::of(Some(whole));
        if whole.contains_key("cpu") {
            all.cpu_milli = said.cpu_milli;
        }
        if whole.contains_key("memory") {
            all.memory_bytes = said.memory_bytes;
        }
    }
    all.plus(Requests::of(spec.overhead.as_ref()))
}

/// The resources of the containers that can be resized, as the spec wants them.
pub fn wanted(spec: &PodSpec) -> BTreeMap<String, ResourceRequirements> {
    let sidecars = spec.init_containers.iter().flatten().filter(|d| is_sidecar(d));
    let all = sidecars.chain(&spec.containers);
    all.map(|d| (d.name.clone(), d.resources.clone().unwrap_or_default()))
        .collect()
}

/// Whether two mean the same amounts of what can be resized.
pub fn is_same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    RESIZABLE.iter().all(|(name, unit)| !differs(a, b, name, *unit))
}

fn differs(a: &ResourceRequirements, b: &ResourceRequirements, name: &str, unit: i128) -> bool {
    let amount = |list: &Option<BTreeMap<String, Quantity>>| quantity_rounded_up(list.as_ref()?.get(name)?, unit);
    amount(&a.requests) != amount(&b.requests) || amount(&a.limits) != amount(&b.limits)
}

/// The pod with what it was granted in place of what it wants; `None` if that is the same.
pub fn with_granted(pod: &Pod, granted: &BTreeMap<String, ResourceRequirements>) -> Option<Pod> {
    let is_other = |d: &Definition| {
        let given = granted.get(&d.name);
        given.is_some_and(|g| !is_same(g, d.resources.as_ref().unwrap_or(&ResourceRequirements::default())))
    };
    let spec = pod.spec.as_ref()?;
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if !all.any(is_other) {
        return None;
    }
    let mut pod = pod.clone();
    let spec = pod.spec.as_mut()?;
    for definition in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        if is_other(definition) {
            definition.resources = granted.get(&definition.name).cloned();
        }
    }
    Some(pod)
}

/// Whether a pod that requests this much fits beside the others.
///
/// # Errors
/// Why it does not.
pub fn admit(wanted: Requests, others: Requests, allocatable: &BTreeMap<String, Quantity>) -> Result<(), Pending> {
    let node = Requests::of(Some(allocatable));
    let each = [
        ("cpu", wanted.cpu_milli, others.cpu_milli, node.cpu_milli),
        ("memory", wanted.memory_bytes, others.memory_bytes, node.memory_bytes),
    ];
    for (name, wanted, _, capacity) in each {
        if wanted > capacity {
            let message =
                format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}");
            return Err(Pending {
                reason: "Infeasible",
                message,
            });
        }
    }
    for (name, wanted, used, capacity) in each {
        if wanted > 0 && wanted.saturating_add(used) > capacity {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Err(Pending {
                reason: "Deferred",
                message,
            });
        }
    }
    Ok(())
}

/// What a container has now.
pub(crate) fn applied<'a>(seen: &'a Observed<'_>, c: &'a Container) -> Option<&'a ResourceRequirements> {
    seen.memory.granted.applied.get(&c.id).or(c.resources.as_ref())
}

/// Whether a container has something else than it was granted, and whether that takes a restart.
fn must_change(seen: &Observed<'_>, definition: &Definition, c: &Container) -> Option<Change> {
    let has = applied(seen, c)?;
    let none = ResourceRequirements::default();
    let granted = definition.resources.as_ref().unwrap_or(&none);
    if !seen.memory.granted.containers.contains_key(&definition.name) || is_same(has, granted) {
        return None;
    }
    let policies = definition.resize_policy.iter().flatten();
    let mut restarting = policies.filter(|p| p.restart_policy == "RestartContainer");
    let restarts = restarting.any(|p| {
        let unit = RESIZABLE.iter().find(|(name, _)| *name == p.resource_name);
        unit.is_some_and(|(name, unit)| differs(has, granted, name, *unit))
    });
    Some(if restarts { Change::Restart } else { Change::InPlace })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    InPlace,
    Restart,
}

/// Whether a running container must be restarted to get what it was granted.
pub(crate) fn must_restart(seen: &Observed<'_>, definition: &Definition, running: &Container) -> bool {
    must_change(seen, definition, running) == Some(Change::Restart)
}

/// Whether an ended container was ended for the sake of other resources: it comes back at once, whatever its policy.
pub(crate) fn ended_for_resize(seen: &Observed<'_>, definition: &Definition, ended: &Container) -> bool {
    ended.state == ContainerState::Exited && must_restart(seen, definition, ended)
}

/// Whether anything of the pod has not yet got what it was granted.
pub(crate) fn in_progress(seen: &Observed<'_>) -> bool {
    let Some(spec) = &seen.pod.spec else { return false };
    let lives = |d: &Definition| {
        let current = seen.current(&d.name);
        current.is_some_and(|c| match c.state {
            ContainerState::Running => must_change(seen, d, c).is_some(),
            ContainerState::Exited => ended_for_resize(seen, d, c),
            _ => false,
        })
    };
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.any(lives) || (seen.live_sandbox().is_some() && cgroup_differs(seen, spec))
}

fn cgroup_differs(seen: &Observed<'_>, spec: &PodSpec) -> bool {
    seen.memory.granted.cgroup.is_some_and(|has| has != pod_resources(spec))
}

/// Plans the change of control groups of containers that go on running.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp, plan: &mut Plan) {
    let Some(spec) = &seen.pod.spec else { return };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut containers = Vec::new();
    let mut restarts = false;
    for definition in all {
        let Some(c) = seen.current(&definition.name) else {
            continue;
        };
        match (c.state, must_change(seen, definition, c)) {
            (ContainerState::Running, Some(Change::InPlace)) => {
                containers.push((definition.name.clone(), c.id.clone()))
            }
            (ContainerState::Running | ContainerState::Exited, Some(Change::Restart)) => restarts = true,
            _ => {}
        }
    }
    // While a container still lives with what it had, the pod's cgroup stays large enough for it.
    if containers.is_empty() && (restarts || !cgroup_differs(seen, spec)) {
        return;
    }
    if let Some(failure) = seen.memory.resize_failure.as_ref().filter(|f| f.retry_at > now) {
        plan.because("", format!("waits to resize its containers again: {}", failure.message));
        plan.wake_at(failure.retry_at, now);
        return;
    }
    plan.because("", "its resources are not yet what it was granted");
    plan.step(seen, Step::Resize { containers }, now);
}

/// Of each resource the more; 0 means "not limited".
#[must_use]
pub fn larger(a: ContainerResources, b: ContainerResources) -> ContainerResources {
    let limit = |a: i64, b: i64| if a == 0 || b == 0 { 0 } else { a.max(b) };
    ContainerResources {
        cpu_shares: a.cpu_shares.max(b.cpu_shares),
        cpu_quota: limit(a.cpu_quota, b.cpu_quota),
        cpu_period: a.cpu_period.max(b.cpu_period),
        memory_bytes: limit(a.memory_bytes, b.memory_bytes),
        oom_score_adj: a.oom_score_adj,
    }
}

/// The memory limit that a container is to get, if that is less than it has: it must not use more.
pub fn memory_shrinks_to(spec: &PodSpec, definition: &Definition, has: &ResourceRequirements) -> Option<i64> {
    let before = Definition {
        resources: Some(has.clone()),
        ..Definition::default()
    };
    let to = container_resources(spec, definition, 1).memory_bytes;
    let from = container_resources(spec, &before, 1).memory_bytes;
    (to > 0 && (from == 0 || to < from)).then_some(to)
}

#[cfg(test)]
mod tests;
