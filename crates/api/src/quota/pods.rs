//! What a pod counts: itself, and what its containers ask for at its hungriest moment.

use super::{ResourceList, amounts};
use crate::quantity::Amount;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const HUGE_PAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";
const LIMITS: &str = "limits.";

/// Resources of which a quota counts requests and limits.
const COMPUTE: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// Resources that each container must name as soon as a quota limits them; upstream's list, which it calls a mistake.
const MUST_BE_NAMED: &[&str] = &[
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

/// Whether pods count in the resource `name` of a quota (beside the count of all objects).
pub(super) fn counts(name: &str) -> bool {
    let bare = name
        .strip_prefix(REQUESTS)
        .or(name.strip_prefix(LIMITS))
        .unwrap_or(name);
    let extended = name.strip_prefix(REQUESTS).is_some_and(is_extended);
    name == "pods"
        || COMPUTE.contains(&bare)
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-")
        || extended
}

/// What a pod uses; nothing once it has ended, or should be gone but nobody is left to confirm it.
pub(super) fn usage(pod: &Value, now_s: i64) -> ResourceList {
    if has_ended(pod, now_s) {
        return ResourceList::new();
    }
    let mut used = resources(&sum(pod, "requests"), &sum(pod, "limits"));
    used.insert("pods".to_owned(), Amount::count(1));
    used
}

fn has_ended(pod: &Value, now_s: i64) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
        return true;
    }
    let metadata = &pod["metadata"];
    let deleted_at = metadata["deletionTimestamp"].as_str();
    let deleted_at = deleted_at.and_then(|time| time.parse::<Timestamp>().ok());
    match (deleted_at, metadata["deletionGracePeriodSeconds"].as_i64()) {
        (Some(deleted_at), Some(grace_s)) => now_s > deleted_at.as_second().saturating_add(grace_s),
        _ => false,
    }
}

/// Requests and limits under the names that quotas have for them.
fn resources(requests: &ResourceList, limits: &ResourceList) -> ResourceList {
    let mut used = ResourceList::new();
    for (name, amount) in requests {
        let is_compute = COMPUTE.contains(&name.as_str()) || name.starts_with(HUGE_PAGES);
        if is_compute {
            used.insert(name.clone(), *amount);
        }
        if is_compute || is_extended(name) {
            used.insert(format!("{REQUESTS}{name}"), *amount);
        }
    }
    let limits = limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str()));
    used.extend(limits.map(|(name, amount)| (format!("{LIMITS}{name}"), *amount)));
    used
}

/// Whether a resource is neither Kubernetes' own nor anything that quotas treat in a particular way.
fn is_extended(name: &str) -> bool {
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    !is_native && !name.starts_with(REQUESTS)
}

/// The `requests` or `limits` that a pod's spec asks for, without the overhead of its runtime: its containers at their
/// hungriest moment, or what is said for the whole pod.
pub fn asked(pod: &Value, of: &str) -> ResourceList {
    with_whole_pod(pod, of, hungriest_moment(pod, of, &BTreeMap::new()))
}

fn with_whole_pod(pod: &Value, of: &str, mut total: ResourceList) -> ResourceList {
    let whole_pod = amounts::of(&pod["spec"]["resources"][of]);
    let is_counted = |name: &String| matches!(name.as_str(), "cpu" | "memory") || name.starts_with(HUGE_PAGES);
    total.extend(whole_pod.into_iter().filter(|(name, _)| is_counted(name)));
    total
}

/// `requests` or `limits` of the whole pod as its node has to find room for them.
fn sum(pod: &Value, of: &str) -> ResourceList {
    let spec = &pod["spec"];
    let total = with_whole_pod(pod, of, hungriest_moment(pod, of, &given_by_node(pod, of)));
    let overhead = amounts::of(&spec["overhead"]);
    if of == "requests" {
        return amounts::sum(&total, &overhead);
    }
    // What has no limit does not get one by its overhead.
    let limited = overhead.into_iter().filter(|(name, _)| total.contains_key(name));
    amounts::sum(&total, &limited.collect())
}

/// The containers together, or an init container beside the sidecars started before it, whichever is more.
fn hungriest_moment(pod: &Value, of: &str, given: &BTreeMap<&str, ResourceList>) -> ResourceList {
    let spec = &pod["spec"];
    let of_container = |container: &Value| {
        let asked = amounts::of(&container["resources"][of]);
        let name = container["name"].as_str().unwrap_or_default();
        given
            .get(name)
            .map_or(asked.clone(), |given| amounts::larger(&asked, given))
    };
    let list = |field: &str| spec[field].as_array().map_or(&[][..], Vec::as_slice);
    let mut running = ResourceList::new();
    for container in list("containers") {
        running = amounts::sum(&running, &of_container(container));
    }
    let (mut sidecars, mut starting) = (ResourceList::new(), ResourceList::new());
    for init in list("initContainers") {
        let own = of_container(init);
        let moment = amounts::sum(&sidecars, &own);
        if init["restartPolicy"] == "Always" {
            sidecars = moment.clone();
        }
        starting = amounts::larger(&starting, &moment);
    }
    amounts::larger(&amounts::sum(&running, &sidecars), &starting)
}

/// What the node has given to containers, which is more than they ask for while they are being made smaller.
fn given_by_node<'a>(pod: &'a Value, of: &str) -> BTreeMap<&'a str, ResourceList> {
    let mut given = BTreeMap::new();
    for field in ["containerStatuses", "initContainerStatuses"] {
        for status in pod["status"][field].as_array().into_iter().flatten() {
            let mut amounts = amounts::of(&status["resources"][of]);
            if of == "requests" {
                amounts = amounts::larger(&amounts, &amounts::of(&status["allocatedResources"]));
            }
            given.insert(status["name"].as_str().unwrap_or_default(), amounts);
        }
    }
    given
}

/// What containers must name and do not, in upstream's words.
pub(super) fn missing(pod: &Value, limited: &[&String]) -> Option<String> {
    let required: BTreeSet<&str> = limited
        .iter()
        .map(|name| name.as_str())
        .filter(|name| MUST_BE_NAMED.contains(name))
        .collect();
    let mut by_resource: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let list = |field: &str| pod["spec"][field].as_array().into_iter().flatten();
    for container in list("containers").chain(list("initContainers")) {
        let part = |of: &str| amounts::of(&container["resources"][of]);
        let named = resources(&part("requests"), &part("limits"));
        for resource in required.iter().filter(|resource| !named.contains_key(**resource)) {
            let name = container["name"].as_str().unwrap_or_default();
            by_resource.entry(resource).or_default().insert(name);
        }
    }
    let parts: Vec<String> = by_resource
        .into_iter()
        .map(|(resource, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{resource} for: {}", containers.join(","))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}
