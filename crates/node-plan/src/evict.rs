//! Which pods must leave the node: those that use more of its disk than they may, and, when memory or disk run out,
//! those that others should not suffer for.

use crate::resources::quantity_rounded_up;
use api::k8s::api::core::v1::{Pod, PodSpec, ResourceRequirements};
use api::k8s::apimachinery::pkg::api::resource::Quantity;

const NANOS: i128 = 1_000_000_000;
const EPHEMERAL: &str = "ephemeral-storage";

/// Below this the node has too little memory.
const MEMORY_AVAILABLE_BYTES_MIN: u64 = 100 << 20;
/// Below this the node has too little disk, and below this part of a hundred where the disk is small. Not the tenth
/// of the disk of upstream's servers: on somebody's own machine that is often what is left, and is plenty.
const DISK_AVAILABLE_BYTES_MIN: u64 = 1 << 30;
const DISK_PERCENT_MIN: u64 = 5;
/// Below these parts of a hundred the node has too few inodes and process ids.
const INODES_PERCENT_MIN: u64 = 5;
const PIDS_PERCENT_MIN: u64 = 10;

/// What a pod uses of the node's disk, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// By container: what it wrote to its own layer and logged.
    pub containers: Vec<(String, u64)>,
    /// By volume: those that go with the pod.
    pub volumes: Vec<(String, u64)>,
}

/// What the node has left of something, and all there is of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// What is left.
    pub available: u64,
    /// All.
    pub capacity: u64,
}

/// What the node runs out of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk space or inodes.
    pub disk: bool,
    /// Process ids.
    pub pids: bool,
}

/// A pod that may have to leave.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What it uses of the scarce resource, in bytes.
    pub used_bytes: u64,
}

/// Whether anything must be measured to know whether a pod keeps within its limits.
pub fn has_disk_limits(spec: &PodSpec) -> bool {
    let mut volumes = spec.volumes.iter().flatten().filter_map(|v| v.empty_dir.as_ref());
    volumes.any(|e| e.size_limit.is_some())
        || spec
            .containers
            .iter()
            .any(|c| disk_limit(c.resources.as_ref()).is_some())
}

/// Why a pod must leave for what it uses of the disk; in upstream's words.
pub fn over_disk_limits(spec: &PodSpec, used: &DiskUse) -> Option<String> {
    let of = |list: &[(String, u64)], name: &str| list.iter().find(|(n, _)| n == name).map_or(0, |(_, bytes)| *bytes);
    for volume in spec.volumes.iter().flatten() {
        let limit = volume.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref());
        if let Some((limit, bytes)) = limit.and_then(|q| Some((q, bytes(q)?)))
            && of(&used.volumes, &volume.name) > bytes
        {
            return Some(format!(
                "Usage of EmptyDir volume \"{}\" exceeds the limit \"{}\". ",
                volume.name, limit.0
            ));
        }
    }
    let mut sum = 0;
    for container in &spec.containers {
        let limit = disk_limit(container.resources.as_ref());
        sum += limit.map_or(0, |(_, bytes)| bytes);
        if let Some((text, bytes)) = limit
            && of(&used.containers, &container.name) > bytes
        {
            let name = &container.name;
            return Some(format!(
                "Container {name} exceeded its local ephemeral storage limit \"{}\". ",
                text.0
            ));
        }
    }
    let total: u64 = used
        .containers
        .iter()
        .chain(&used.volumes)
        .map(|(_, bytes)| bytes)
        .sum();
    let is_over = sum > 0 && total > sum;
    is_over.then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {sum}. "))
}

fn disk_limit(resources: Option<&ResourceRequirements>) -> Option<(&Quantity, u64)> {
    let limit = resources?.limits.as_ref()?.get(EPHEMERAL)?;
    Some((limit, bytes(limit)?))
}

fn bytes(quantity: &Quantity) -> Option<u64> {
    quantity_rounded_up(quantity, NANOS).and_then(|bytes| u64::try_from(bytes).ok())
}

/// What the node runs out of, by what is left of it.
pub fn pressure(memory: Left, disk: Left, inodes: Left, pids: Left) -> Pressure {
    // What has no size cannot be seen, and is no reason to do anything.
    let below = |left: Left, percent: u64| left.capacity > 0 && left.available < left.capacity / 100 * percent;
    Pressure {
        memory: memory.capacity > 0 && memory.available < MEMORY_AVAILABLE_BYTES_MIN,
        disk: (below(disk, DISK_PERCENT_MIN) && disk.available < DISK_AVAILABLE_BYTES_MIN)
            || below(inodes, INODES_PERCENT_MIN),
        pids: below(pids, PIDS_PERCENT_MIN),
    }
}

/// The pod that leaves first when `resource` (`memory` or `ephemeral-storage`) runs out, and why: one that uses more
/// than it requested, of the least priority, and the most of what it did not request.
pub fn first_to_leave<'a>(pods: &[Candidate<'a>], resource: &str, available_bytes: u64) -> Option<(&'a Pod, String)> {
    let over = |c: &Candidate<'_>| i128::from(c.used_bytes) - i128::from(requested(c.pod, resource));
    let priority = |c: &Candidate<'_>| c.pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    let is_critical = |c: &&Candidate<'_>| priority(c) < 2_000_000_000;
    let first = pods
        .iter()
        .filter(is_critical)
        .min_by_key(|c| (over(c) <= 0, priority(c), -over(c)))?;
    let text = format!(
        "The node was low on resource: {resource}. Available: {available_bytes}. The pod was using {}, request is {}. ",
        first.used_bytes,
        requested(first.pod, resource)
    );
    Some((first.pod, text))
}

fn requested(pod: &Pod, resource: &str) -> u64 {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let of = |r: &ResourceRequirements| r.requests.as_ref().and_then(|list| list.get(resource)).and_then(bytes);
    containers.filter_map(|c| c.resources.as_ref().and_then(of)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::{Container, EmptyDirVolumeSource, Volume};

    fn list(name: &str, value: &str) -> Option<std::collections::BTreeMap<String, Quantity>> {
        Some([(name.to_owned(), Quantity(value.to_owned()))].into())
    }

    fn spec(container_limit: &str, volume_limit: &str) -> PodSpec {
        PodSpec {
            containers: vec![Container {
                name: "web".into(),
                resources: Some(ResourceRequirements {
                    limits: list(EPHEMERAL, container_limit),
                    ..ResourceRequirements::default()
                }),
                ..Container::default()
            }],
            volumes: Some(vec![Volume {
                name: "cache".into(),
                empty_dir: Some(EmptyDirVolumeSource {
                    size_limit: Some(Quantity(volume_limit.into())),
                    ..EmptyDirVolumeSource::default()
                }),
                ..Volume::default()
            }]),
            ..PodSpec::default()
        }
    }

    #[test]
    fn limits_of_disk_hold() {
        let check = |web: u64, cache: u64, expected: Option<&str>| {
            let used = DiskUse {
                containers: vec![("web".into(), web)],
                volumes: vec![("cache".into(), cache)],
            };
            let why = over_disk_limits(&spec("2Ki", "1Ki"), &used);
            assert_eq!(why.as_deref(), expected, "{web} {cache}");
        };
        check(2048, 0, None);
        check(
            0,
            1025,
            Some("Usage of EmptyDir volume \"cache\" exceeds the limit \"1Ki\". "),
        );
        check(
            2049,
            0,
            Some("Container web exceeded its local ephemeral storage limit \"2Ki\". "),
        );
        check(
            1500,
            1000,
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 2048. "),
        );
        assert!(has_disk_limits(&spec("1Ki", "1Ki")) && !has_disk_limits(&PodSpec::default()));
    }

    #[test]
    fn what_is_scarce() {
        let left = |available, capacity| Left { available, capacity };
        let plenty = left(50, 100);
        let fine = pressure(left(1 << 30, 1 << 34), plenty, plenty, plenty);
        assert_eq!(fine, Pressure::default());
        assert!(pressure(left(1 << 20, 1 << 34), plenty, plenty, plenty).memory);
        assert!(pressure(left(1 << 30, 1 << 34), left(4, 100), plenty, plenty).disk);
        // 8 GiB of 250 are a small part, but enough.
        assert!(!pressure(left(1 << 30, 1 << 34), left(8 << 30, 250 << 30), plenty, plenty).disk);
        assert!(pressure(left(1 << 30, 1 << 34), left(1 << 29, 250 << 30), plenty, plenty).disk);
        assert!(pressure(left(1 << 30, 1 << 34), plenty, left(4, 100), plenty).disk);
        assert!(pressure(left(1 << 30, 1 << 34), plenty, plenty, left(9, 100)).pids);
        assert_eq!(
            pressure(Left::default(), Left::default(), Left::default(), Left::default()),
            Pressure::default()
        );
    }

    #[test]
    fn who_asked_for_the_least_leaves_first() {
        let pod = |name: &str, priority: i32, request: &str| {
            let mut pod = Pod::default();
            pod.metadata.name = Some(name.into());
            pod.spec = Some(PodSpec {
                priority: Some(priority),
                containers: vec![Container {
                    resources: Some(ResourceRequirements {
                        requests: list("memory", request),
                        ..ResourceRequirements::default()
                    }),
                    ..Container::default()
                }],
                ..PodSpec::default()
            });
            pod
        };
        let pods = [
            pod("within", -5, "1Gi"),
            pod("over", 10, "1Ki"),
            pod("critical", 2_000_000_001, "0"),
        ];
        let candidates: Vec<Candidate<'_>> = pods
            .iter()
            .map(|pod| Candidate {
                pod,
                used_bytes: 1 << 20,
            })
            .collect();
        let (first, why) = first_to_leave(&candidates, "memory", 7).expect("one");
        assert_eq!(first.metadata.name.as_deref(), Some("over"));
        assert!(why.starts_with("The node was low on resource: memory."), "{why}");
        assert!(first_to_leave(&candidates[2..], "memory", 7).is_none());
    }
}
