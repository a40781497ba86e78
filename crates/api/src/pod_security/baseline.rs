//! Level baseline: what would let a pod reach beyond its containers.

use super::Violation;
use super::subject::{Distinct, Subject, named_containers, plural, quoted, texts, uses};
use serde_json::Value;
use std::collections::BTreeSet;

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Sysctls that stay within the pod, each since a minor version.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn violation(reason: &'static str, detail: String) -> Option<Violation> {
    Some(Violation { reason, detail })
}

pub(super) fn app_armor_profile(pod: &Subject<'_>, _: u32) -> Option<Violation> {
    let mut values: BTreeSet<String> = BTreeSet::new();
    let setters = pod.bad_setters(|context| {
        let profile = &context["appArmorProfile"];
        let kind = profile["type"].as_str().unwrap_or_default();
        let is_bad = profile.is_object() && !matches!(kind, "RuntimeDefault" | "Localhost");
        if is_bad {
            values.insert(kind.to_owned());
        }
        is_bad
    });
    let annotations = pod.annotations.as_object().into_iter().flatten();
    let bad: BTreeSet<String> = annotations
        .filter(|(key, _)| key.starts_with(APP_ARMOR_ANNOTATION))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| !(value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/")))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let by_annotation = (!bad.is_empty()).then(|| plural("annotation", bad.len()));
    let setters: Vec<String> = setters.into_iter().chain(by_annotation).collect();
    if setters.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(bad).collect();
    let reason = if values.len() == 1 {
        "forbidden AppArmor profile"
    } else {
        "forbidden AppArmor profiles"
    };
    let (setters, values) = (setters.join(" and "), quoted(&values));
    violation(
        reason,
        format!("{setters} must not set AppArmor profile type to {values}"),
    )
}

pub(super) fn capabilities(pod: &Subject<'_>, _: u32) -> Option<Violation> {
    let mut found = Distinct::new();
    let containers = pod.bad_containers(|container| {
        let added = texts(&container["securityContext"]["capabilities"]["add"]);
        let bad: Vec<&str> = added.filter(|name| !CAPABILITIES.contains(name)).collect();
        found.extend(&bad);
        !bad.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    let (containers, found) = (named_containers(&containers), quoted(&found));
    violation(
        "non-default capabilities",
        format!("{containers} must not include {found} in securityContext.capabilities.add"),
    )
}

pub(super) fn host_namespaces(pod: &Subject<'_>, _: u32) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"];
    let shared = shared.into_iter().filter(|field| pod.spec[*field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    (!shared.is_empty()).then(|| Violation {
        reason: "host namespaces",
        detail: shared.join(", "),
    })
}

pub(super) fn host_path_volumes(pod: &Subject<'_>, _: u32) -> Option<Violation> {
    let volumes = pod.spec["volumes"].as_array().into_iter().flatten();
    let bad = volumes.filter(|volume| !volume["hostPath"].is_null());
    let bad: Vec<&str> = bad.filter_map(|volume| volume["name"].as_str()).collect();
    (!bad.is_empty()).then(|| Violation {
        reason: "hostPath volumes",
        detail: format!("{} {}", plural("volume", bad.len()), quoted(&bad)),
    })
}

pub(super) fn host_ports(pod: &Subject<'_>, _: u32) -> Option<Violation> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    let containers = pod.bad_containers(|container| {
        let ports = container["ports"].as_array().into_iter().flatten();
        let ports = ports.filter_map(|port| port["hostPort"].as_i64());
        let bad: Vec<String> = ports.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let is_bad = !bad.is_empty();
        found.extend(bad);
        is_bad
    });
    if containers.is_empty() {
        return None;
    }
    let (uses, ports) = (uses(containers.len()), plural("hostPort", found.len()));
    let found: Vec<String> = found.into_iter().collect();
    let (containers, found) = (named_containers(&containers), found.join(", "));
    violation("hostPort", format!("{containers} {uses} {ports} {found}"))
}

pub(super) fn probe_hosts(pod: &Subject<'_>, _: u32) -> Option<Violation> {
    let mut found = Distinct::new();
    let containers = pod.bad_containers(|container| {
        let lifecycle = &container["lifecycle"];
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &lifecycle["postStart"],
            &lifecycle["preStop"],
        ];
        let hosts = handlers
            .iter()
            .flat_map(|handler| [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]]);
        let bad: Vec<&str> = hosts
            .filter_map(Value::as_str)
            .filter(|host| !host.is_empty())
            .collect();
        found.extend(&bad);
        !bad.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    let containers: Distinct<'_> = containers.into_iter().collect();
    let containers: Vec<&str> = containers.into_iter().collect();
    let (uses, hosts) = (uses(containers.len()), plural("probe or lifecycle host", found.len()));
    let (containers, found) = (named_containers(&containers), quoted(&found));
    violation(
        "probe or lifecycle host",
        format!("{containers} {uses} {hosts} {found}"),
    )
}

pub(super) fn privileged(pod: &Subject<'_>, _: u32) -> Option<Violation> {
    let containers = pod.bad_containers(|container| container["securityContext"]["privileged"] == true);
    (!containers.is_empty()).then(|| Violation {
        reason: "privileged",
        detail: format!(
            "{} must not set securityContext.privileged=true",
            named_containers(&containers)
        ),
    })
}

pub(super) fn proc_mount(pod: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor >= 35 && pod.has_own_users() {
        return None;
    }
    unmasked_proc_mount(pod)
}

/// Containers that see all of `/proc`, whoever their users are.
pub(super) fn unmasked_proc_mount(pod: &Subject<'_>) -> Option<Violation> {
    let mut found = Distinct::new();
    let containers = pod.bad_containers(|container| {
        let mount = container["securityContext"]["procMount"].as_str();
        let bad = mount.filter(|mount| *mount != "Default");
        found.extend(bad);
        bad.is_some()
    });
    if containers.is_empty() {
        return None;
    }
    let (containers, found) = (named_containers(&containers), quoted(&found));
    violation(
        "procMount",
        format!("{containers} must not set securityContext.procMount to {found}"),
    )
}

pub(super) fn selinux_options(pod: &Subject<'_>, minor: u32) -> Option<Violation> {
    let mut types = Distinct::new();
    let (mut sets_user, mut sets_role) = (false, false);
    let setters = pod.bad_setters(|context| {
        let options = &context["seLinuxOptions"];
        let text = |field: &str| options[field].as_str().unwrap_or_default();
        let is_known = match text("type") {
            "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
            "container_engine_t" => minor >= 31,
            _ => false,
        };
        if !is_known {
            types.insert(options["type"].as_str().unwrap_or_default());
        }
        let (user, role) = (!text("user").is_empty(), !text("role").is_empty());
        sets_user |= user;
        sets_role |= role;
        !is_known || user || role
    })?;
    let mut found = Vec::new();
    if !types.is_empty() {
        found.push(format!("{} {}", plural("type", types.len()), quoted(&types)));
    }
    if sets_user {
        found.push("user may not be set".to_owned());
    }
    if sets_role {
        found.push("role may not be set".to_owned());
    }
    let found = found.join("; ");
    violation(
        "seLinuxOptions",
        format!("{setters} set forbidden securityContext.seLinuxOptions: {found}"),
    )
}

/// Whether a seccomp profile in a security context is one that the standards do not take.
pub(super) fn is_bad_seccomp(context: &Value) -> bool {
    let profile = &context["seccompProfile"];
    profile.is_object() && !matches!(profile["type"].as_str(), Some("RuntimeDefault" | "Localhost"))
}

pub(super) fn seccomp_profile(pod: &Subject<'_>, minor: u32) -> Option<Violation> {
    if minor < 19 {
        return seccomp_annotations(pod);
    }
    explicit_seccomp(pod)
}

/// Profiles that are set, and should not be.
pub(super) fn explicit_seccomp(pod: &Subject<'_>) -> Option<Violation> {
    let mut found = Distinct::new();
    let setters = pod.bad_setters(|context| {
        let is_bad = is_bad_seccomp(context);
        if is_bad {
            found.insert(context["seccompProfile"]["type"].as_str().unwrap_or_default());
        }
        is_bad
    })?;
    let found = quoted(&found);
    violation(
        "seccompProfile",
        format!("{setters} must not set securityContext.seccompProfile.type to {found}"),
    )
}

fn seccomp_annotations(pod: &Subject<'_>) -> Option<Violation> {
    let of_containers = pod.containers().filter_map(|container| container["name"].as_str());
    let of_containers = of_containers.map(|name| format!("{SECCOMP_CONTAINER_ANNOTATION}{name}"));
    let is_bad =
        |value: &&str| !matches!(*value, "runtime/default" | "docker/default") && !value.starts_with("localhost/");
    let found: BTreeSet<String> = std::iter::once(SECCOMP_POD_ANNOTATION.to_owned())
        .chain(of_containers)
        .filter_map(|key| {
            let value = pod.annotations[&key].as_str().filter(is_bad)?;
            Some(format!("{key}={value:?}"))
        })
        .collect();
    if found.is_empty() {
        return None;
    }
    let word = plural("annotation", found.len());
    let found: Vec<String> = found.into_iter().collect();
    violation("seccompProfile", format!("forbidden {word} {}", found.join(", ")))
}

pub(super) fn sysctls(pod: &Subject<'_>, minor: u32) -> Option<Violation> {
    let set = pod.spec["securityContext"]["sysctls"].as_array().into_iter().flatten();
    let is_known = |name: &&str| SYSCTLS.iter().any(|(known, since)| known == name && minor >= *since);
    let set = set.filter_map(|sysctl| sysctl["name"].as_str());
    let bad: Vec<&str> = set.filter(|name| !is_known(name)).collect();
    (!bad.is_empty()).then(|| Violation {
        reason: "forbidden sysctls",
        detail: bad.join(", "),
    })
}

pub(super) fn windows_host_process(pod: &Subject<'_>, _: u32) -> Option<Violation> {
    let setters = pod.bad_setters(|context| context["windowsOptions"]["hostProcess"] == true)?;
    violation(
        "hostProcess",
        format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}
