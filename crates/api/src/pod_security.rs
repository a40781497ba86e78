//! The Pod Security Standards: what a namespace's labels ask for, and where a pod does not comply.
//!
//! The checks and their words are those of the published standards, version by version; a policy that names a version
//! is checked as that version of Kubernetes would.

mod baseline;
mod policy;
mod restricted;
mod subject;

use serde_json::Value;
use subject::Subject;

pub use policy::{Bound, Level, Policy, Version};

/// The latest version of the standards that is known here: a policy of a later one is checked as of this one.
const LATEST_MINOR: u32 = 36;

/// One thing in which a pod does not comply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong, e.g. `hostPort`.
    pub reason: &'static str,
    /// Where it is wrong; may be empty.
    pub detail: String,
}

/// A check of the standards.
struct Check {
    level: Level,
    /// The first minor version that has it.
    since: u32,
    /// The first minor version in which a stricter check takes its place at level restricted.
    replaced: Option<u32>,
    find: fn(&Subject<'_>, u32) -> Option<Violation>,
}

const fn baseline(since: u32, find: fn(&Subject<'_>, u32) -> Option<Violation>) -> Check {
    Check {
        level: Level::Baseline,
        since,
        replaced: None,
        find,
    }
}

const fn restricted(since: u32, find: fn(&Subject<'_>, u32) -> Option<Violation>) -> Check {
    Check {
        level: Level::Restricted,
        since,
        replaced: None,
        find,
    }
}

/// All checks, in the order in which violations are told: upstream's identifiers by level.
const CHECKS: &[Check] = &[
    baseline(0, baseline::app_armor_profile),
    Check {
        replaced: Some(22),
        ..baseline(0, baseline::capabilities)
    },
    baseline(0, baseline::host_namespaces),
    Check {
        replaced: Some(0),
        ..baseline(0, baseline::host_path_volumes)
    },
    baseline(0, baseline::host_ports),
    baseline(34, baseline::probe_hosts),
    baseline(0, baseline::privileged),
    Check {
        replaced: Some(35),
        ..baseline(0, baseline::proc_mount)
    },
    baseline(0, baseline::selinux_options),
    Check {
        replaced: Some(19),
        ..baseline(0, baseline::seccomp_profile)
    },
    baseline(0, baseline::sysctls),
    baseline(0, baseline::windows_host_process),
    restricted(8, restricted::allow_privilege_escalation),
    restricted(22, restricted::capabilities),
    restricted(35, restricted::proc_mount),
    restricted(0, restricted::volumes),
    restricted(0, restricted::run_as_non_root),
    restricted(23, restricted::run_as_user),
    restricted(19, restricted::seccomp_profile),
];

/// In what a pod (or a pod's template) does not comply with a level of a version of the standards.
pub fn violations(bound: Bound, metadata: &Value, spec: &Value) -> Vec<Violation> {
    let minor = bound.version.minor().unwrap_or(LATEST_MINOR).min(LATEST_MINOR);
    let subject = Subject::new(&metadata["annotations"], spec);
    let applies = |check: &&Check| {
        let is_replaced = bound.level == Level::Restricted && check.replaced.is_some_and(|from| minor >= from);
        check.level <= bound.level && minor >= check.since && !is_replaced
    };
    let checks = CHECKS.iter().filter(applies);
    checks.filter_map(|check| (check.find)(&subject, minor)).collect()
}

/// Violations as a sentence, with their details.
pub fn details(violations: &[Violation]) -> String {
    let part = |violation: &Violation| match violation.detail.as_str() {
        "" => violation.reason.to_owned(),
        detail => format!("{} ({detail})", violation.reason),
    };
    violations.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// Violations as a sentence, without their details.
pub fn reasons(violations: &[Violation]) -> String {
    let reasons: Vec<&str> = violations.iter().map(|violation| violation.reason).collect();
    reasons.join(", ")
}

/// The metadata and spec of the pods that an object is about: its own, or those of its template.
pub fn pod_of<'a>(group: &str, kind: &str, object: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let template = match (group, kind) {
        ("", "Pod") => object,
        ("", "PodTemplate") => &object["template"],
        ("batch", "CronJob") => &object["spec"]["jobTemplate"]["spec"]["template"],
        ("", "ReplicationController")
        | ("apps", "ReplicaSet" | "Deployment" | "DaemonSet" | "StatefulSet")
        | ("batch", "Job") => &object["spec"]["template"],
        _ => return None,
    };
    template.is_object().then(|| (&template["metadata"], &template["spec"]))
}

/// Whether a change of a pod can make it comply or not: most of a pod cannot be changed.
pub fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, list: &str| -> Vec<Value> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.map(|container| container["image"].clone()).collect()
    };
    ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .any(|list| images(new, list) != images(old, list))
}

#[cfg(test)]
mod tests;
