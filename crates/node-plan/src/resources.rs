//! Requests and limits as Linux understands them; quality-of-service class; where the pod's cgroup is.

use api::k8s::api::core::v1::{Container, PodSpec, ResourceRequirements};
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Quality-of-service class of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Every container has limits for cpu and memory, equal to its requests.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

/// What the runtime is told of a container's or pod's resources; 0 means "not set".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerResources {
    /// CPU shares (cgroup v1 units).
    pub cpu_shares: i64,
    /// Microseconds of CPU per period.
    pub cpu_quota: i64,
    /// The period in microseconds.
    pub cpu_period: i64,
    /// Memory limit in bytes.
    pub memory_bytes: i64,
    /// Who is killed first when memory runs out.
    pub oom_score_adj: i64,
}

const SHARES_MIN: i64 = 2;
const SHARES_MAX: i64 = 262_144;
const QUOTA_PERIOD_US: i64 = 100_000;
const QUOTA_MIN_US: i64 = 1_000;

impl Qos {
    /// The name in `status.qosClass`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// A quantity in units of `nanos_per_unit` nano-units, rounded up; `None` for text that is no quantity.
pub fn quantity_rounded_up(quantity: &Quantity, nanos_per_unit: i128) -> Option<i64> {
    let nanos = api::quantity::parse(&quantity.0).ok()?.nanos;
    let unit = nanos_per_unit.max(1);
    let whole = nanos.div_euclid(unit) + i128::from(nanos.rem_euclid(unit) != 0);
    i64::try_from(whole).ok()
}

const NANOS: i128 = 1_000_000_000;
const NANOS_PER_MILLI: i128 = 1_000_000;

type List = Option<BTreeMap<String, Quantity>>;

fn amount(list: &List, name: &str, unit: i128) -> Option<i64> {
    list.as_ref()?
        .get(name)
        .and_then(|q| quantity_rounded_up(q, unit))
        .filter(|v| *v > 0)
}

/// What a pod as a whole requests and is limited to, where it says so for cpu or memory.
fn of_whole_pod(spec: &PodSpec) -> Option<&ResourceRequirements> {
    let names = |list: &List| list.iter().flatten().any(|(name, _)| name == "cpu" || name == "memory");
    spec.resources
        .as_ref()
        .filter(|r| names(&r.requests) || names(&r.limits))
}

/// The class of a pod: by what it says of itself as a whole, else by its containers.
pub fn qos_class(spec: &PodSpec) -> Qos {
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let of_containers = all.map(|container| container.resources.as_ref());
    let whole = of_whole_pod(spec);
    let resources: Vec<_> = match whole {
        Some(_) => vec![whole],
        None => of_containers.collect(),
    };
    let none = ResourceRequirements::default();
    let mut best_effort = true;
    let mut guaranteed = true;
    for resources in resources {
        let resources = resources.unwrap_or(&none);
        for name in ["cpu", "memory"] {
            let request = amount(&resources.requests, name, NANOS_PER_MILLI);
            let limit = amount(&resources.limits, name, NANOS_PER_MILLI);
            best_effort &= request.is_none() && limit.is_none();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (best_effort, guaranteed) {
        (true, _) => Qos::BestEffort,
        (_, true) => Qos::Guaranteed,
        _ => Qos::Burstable,
    }
}

/// CPU shares for a request in thousandths of a CPU.
pub fn cpu_shares(milli: i64) -> i64 {
    if milli <= 0 {
        SHARES_MIN
    } else {
        (milli.saturating_mul(1024) / 1000).clamp(SHARES_MIN, SHARES_MAX)
    }
}

fn cpu_quota(milli: i64) -> i64 {
    (milli.saturating_mul(QUOTA_PERIOD_US) / 1000).max(QUOTA_MIN_US)
}

/// What the runtime is told of a container on a node with this much memory.
pub fn container_resources(spec: &PodSpec, container: &Container, node_memory_bytes: i64) -> ContainerResources {
    let none = ResourceRequirements::default();
    let resources = container.resources.as_ref().unwrap_or(&none);
    let cpu_limit = amount(&resources.limits, "cpu", NANOS_PER_MILLI);
    let cpu_request = amount(&resources.requests, "cpu", NANOS_PER_MILLI)
        .or(cpu_limit)
        .unwrap_or(0);
    let memory_request = amount(&resources.requests, "memory", NANOS)
        .or_else(|| amount(&resources.limits, "memory", NANOS))
        .unwrap_or(0);
    ContainerResources {
        cpu_shares: cpu_shares(cpu_request),
        cpu_quota: cpu_limit.map_or(0, cpu_quota),
        cpu_period: if cpu_limit.is_some() { QUOTA_PERIOD_US } else { 0 },
        memory_bytes: amount(&resources.limits, "memory", NANOS).unwrap_or(0),
        oom_score_adj: oom_score_adj(qos_class(spec), memory_request, node_memory_bytes),
    }
}

fn oom_score_adj(qos: Qos, memory_request: i64, node_memory_bytes: i64) -> i64 {
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let share = i128::from(memory_request) * 1000 / i128::from(node_memory_bytes.max(1));
            (1000 - i64::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

/// The sums over a pod's containers, for its own cgroup; a limit only if every container has one.
pub fn pod_resources(spec: &PodSpec) -> ContainerResources {
    let mut sum = ContainerResources::default();
    let mut milli = 0;
    let (mut all_cpu, mut all_memory) = (true, true);
    for container in &spec.containers {
        let one = container_resources(spec, container, 1);
        let none = ResourceRequirements::default();
        let resources = container.resources.as_ref().unwrap_or(&none);
        milli += amount(&resources.requests, "cpu", NANOS_PER_MILLI)
            .or_else(|| amount(&resources.limits, "cpu", NANOS_PER_MILLI))
            .unwrap_or(0);
        all_cpu &= one.cpu_quota > 0;
        all_memory &= one.memory_bytes > 0;
        sum.cpu_quota += one.cpu_quota;
        sum.memory_bytes += one.memory_bytes;
    }
    sum.cpu_shares = cpu_shares(milli);
    if all_cpu && sum.cpu_quota > 0 {
        sum.cpu_period = QUOTA_PERIOD_US;
    } else {
        sum.cpu_quota = 0;
    }
    if !all_memory {
        sum.memory_bytes = 0;
    }
    if let Some(whole) = of_whole_pod(spec) {
        overrule(&mut sum, whole);
    }
    sum
}

/// What a pod says of itself as a whole counts in place of its containers' sums.
fn overrule(sum: &mut ContainerResources, whole: &ResourceRequirements) {
    let limit = amount(&whole.limits, "cpu", NANOS_PER_MILLI);
    if let Some(milli) = amount(&whole.requests, "cpu", NANOS_PER_MILLI).or(limit) {
        sum.cpu_shares = cpu_shares(milli);
    }
    if let Some(milli) = limit {
        sum.cpu_quota = cpu_quota(milli);
        sum.cpu_period = QUOTA_PERIOD_US;
    }
    if let Some(bytes) = amount(&whole.limits, "memory", NANOS) {
        sum.memory_bytes = bytes;
    }
}

/// The cgroup below which the runtime puts the pod's containers.
pub fn cgroup_parent(root: &str, qos: Qos, uid: &str) -> String {
    let root = root.trim_end_matches('/');
    match qos {
        Qos::Guaranteed => format!("{root}/pod{uid}"),
        Qos::Burstable => format!("{root}/burstable/pod{uid}"),
        Qos::BestEffort => format!("{root}/besteffort/pod{uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_quota() {
        assert_eq!([0, 1, 100, 1000, 1_000_000].map(cpu_shares), [2, 2, 102, 1024, 262_144]);
        assert_eq!([1, 500, 2000].map(cpu_quota), [1000, 50_000, 200_000]);
    }

    #[test]
    fn oom_scores() {
        let gib = 1 << 30;
        assert_eq!(oom_score_adj(Qos::Guaranteed, gib, 8 * gib), -997);
        assert_eq!(oom_score_adj(Qos::BestEffort, 0, 8 * gib), 1000);
        assert_eq!(oom_score_adj(Qos::Burstable, 4 * gib, 8 * gib), 500);
        assert_eq!(oom_score_adj(Qos::Burstable, 0, 8 * gib), 999);
        assert_eq!(oom_score_adj(Qos::Burstable, 9 * gib, 8 * gib), 3);
    }

    #[test]
    fn a_pod_without_resources_is_best_effort() {
        let spec = PodSpec {
            containers: vec![Container::default()],
            ..PodSpec::default()
        };
        assert_eq!(qos_class(&spec), Qos::BestEffort);
        assert_eq!(
            cgroup_parent("/steadfast", Qos::BestEffort, "u"),
            "/steadfast/besteffort/podu"
        );
    }

    #[test]
    fn a_pod_as_a_whole_overrules_its_containers() {
        let list = |l: &[(&str, &str)]| Some(l.iter().map(|(k, v)| ((*k).into(), Quantity((*v).into()))).collect());
        let mut spec = PodSpec {
            containers: vec![Container::default()],
            resources: Some(ResourceRequirements {
                requests: list(&[("cpu", "500m")]),
                limits: list(&[("cpu", "1"), ("memory", "64Mi")]),
                ..ResourceRequirements::default()
            }),
            ..PodSpec::default()
        };
        assert_eq!(qos_class(&spec), Qos::Burstable);
        let expected = ContainerResources {
            cpu_shares: 512,
            cpu_quota: 100_000,
            cpu_period: 100_000,
            memory_bytes: 64 << 20,
            oom_score_adj: 0,
        };
        assert_eq!(pod_resources(&spec), expected);
        spec.resources = Some(ResourceRequirements {
            limits: list(&[("cpu", "1"), ("memory", "64Mi")]),
            ..ResourceRequirements::default()
        });
        assert_eq!(qos_class(&spec), Qos::Guaranteed);
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let check = |requests: &[(&str, &str)], limits: &[(&str, &str)], expected: Qos| {
            let list = |l: &[(&str, &str)]| Some(l.iter().map(|(k, v)| ((*k).into(), Quantity((*v).into()))).collect());
            let resources = ResourceRequirements {
                requests: list(requests),
                limits: list(limits),
                ..ResourceRequirements::default()
            };
            let container = Container {
                resources: Some(resources),
                ..Container::default()
            };
            let spec = PodSpec {
                containers: vec![container],
                ..PodSpec::default()
            };
            assert_eq!(qos_class(&spec), expected);
        };
        check(&[("cpu", "100m")], &[], Qos::Burstable);
        check(&[], &[("cpu", "1"), ("memory", "1Gi")], Qos::Guaranteed);
        check(
            &[("cpu", "1000m"), ("memory", "1024Mi")],
            &[("cpu", "1"), ("memory", "1Gi")],
            Qos::Guaranteed,
        );
        check(
            &[("cpu", "500m"), ("memory", "1Gi")],
            &[("cpu", "1"), ("memory", "1Gi")],
            Qos::Burstable,
        );
    }
}
