//! Level restricted: a pod must say that it needs no more than it should.

use super::Violation;
use super::baseline::{explicit_seccomp, is_bad_seccomp, unmasked_proc_mount};
use super::subject::{Distinct, Subject, named_containers, plural, quoted, texts, uses};

/// Volumes that are part of the cluster, not of a node or a cloud.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn violation(reason: &'static str, detail: String) -> Option<Violation> {
    Some(Violation { reason, detail })
}

pub(super) fn allow_privilege_escalation(pod: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= 25 && pod.is_windows() {
        return None;
    }
    let containers = pod.bad_containers(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    (!containers.is_empty()).then(|| Violation {
        reason: "allowPrivilegeEscalation != false",
        detail: format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            named_containers(&containers)
        ),
    })
}

pub(super) fn capabilities(pod: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= 25 && pod.is_windows() {
        return None;
    }
    let keeping = pod.bad_containers(|container| {
        let mut dropped = texts(&container["securityContext"]["capabilities"]["drop"]);
        !dropped.any(|name| name == "ALL")
    });
    let mut found = Distinct::new();
    let adding = pod.bad_containers(|container| {
        let added = texts(&container["securityContext"]["capabilities"]["add"]);
        let bad: Vec<&str> = added.filter(|name| *name != "NET_BIND_SERVICE").collect();
        found.extend(&bad);
        !bad.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let containers = named_containers(&keeping);
        details.push(format!(
            "{containers} must set securityContext.capabilities.drop=[\"ALL\"]"
        ));
    }
    if !adding.is_empty() {
        let (containers, found) = (named_containers(&adding), quoted(&found));
        details.push(format!(
            "{containers} must not include {found} in securityContext.capabilities.add"
        ));
    }
    (!details.is_empty()).then(|| Violation {
        reason: "unrestricted capabilities",
        detail: details.join("; "),
    })
}

pub(super) fn proc_mount(pod: &Subject<'_>, _: u32) -> Option<Violation> {
    unmasked_proc_mount(pod)
}

pub(super) fn volumes(pod: &Subject<'_>, _: u32) -> Option<Violation> {
    let volumes = pod.spec["volumes"].as_array().into_iter().flatten();
    let mut types = Distinct::new();
    let mut bad = Vec::new();
    for volume in volumes {
        let source = volume.as_object().into_iter().flatten();
        let mut source = source.filter(|(field, value)| *field != "name" && !value.is_null());
        let kind = source.next().map_or("unknown", |(field, _)| field.as_str());
        if !VOLUMES.contains(&kind) {
            bad.push(volume["name"].as_str().unwrap_or_default());
            types.insert(kind);
        }
    }
    if bad.is_empty() {
        return None;
    }
    let (volumes, names, uses) = (plural("volume", bad.len()), quoted(&bad), uses(bad.len()));
    let (kinds, types) = (plural("restricted volume type", types.len()), quoted(&types));
    violation(
        "restricted volume types",
        format!("{volumes} {names} {uses} {kinds} {types}"),
    )
}

pub(super) fn run_as_non_root(pod: &Subject<'_>, minor: u32) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if minor >= 35 && pod.has_own_users() {
        return None;
    }
    if let Some(setters) = pod.bad_setters(|context| context["runAsNonRoot"] == false) {
        return violation(
            REASON,
            format!("{setters} must not set securityContext.runAsNonRoot=false"),
        );
    }
    let by_pod = pod.spec["securityContext"]["runAsNonRoot"] == true;
    let silent = pod.bad_containers(|container| !by_pod && container["securityContext"]["runAsNonRoot"].is_null());
    if silent.is_empty() {
        return None;
    }
    let containers = named_containers(&silent);
    violation(
        REASON,
        format!("pod or {containers} must set securityContext.runAsNonRoot=true"),
    )
}

pub(super) fn run_as_user(pod: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= 35 && pod.has_own_users() {
        return None;
    }
    let setters = pod.bad_setters(|context| context["runAsUser"] == 0)?;
    violation("runAsUser=0", format!("{setters} must not set runAsUser=0"))
}

pub(super) fn seccomp_profile(pod: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= 25 && pod.is_windows() {
        return None;
    }
    let explicit = explicit_seccomp(pod);
    if explicit.is_some() {
        return explicit;
    }
    let context = &pod.spec["securityContext"];
    let by_pod = context["seccompProfile"].is_object() && !is_bad_seccomp(context);
    let silent = pod.bad_containers(|container| !by_pod && container["securityContext"]["seccompProfile"].is_null());
    if silent.is_empty() {
        return None;
    }
    let containers = named_containers(&silent);
    violation(
        "seccompProfile",
        format!(
            "pod or {containers} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        ),
    )
}
