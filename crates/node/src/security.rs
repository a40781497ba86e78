//! Security contexts: what a pod and its containers ask for, in CRI's words.

use api::k8s::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use cri::v1::{
    self, Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SeLinuxOption, SecurityProfile,
};
use std::path::Path;

/// Paths that tell or change too much of the machine; hidden, or readable only, as Kubernetes' default has it.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The user that an image says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageUser {
    /// As a number.
    pub(crate) uid: Option<i64>,
    /// As a name.
    pub(crate) name: String,
}

/// The namespaces of a pod.
pub(crate) fn namespaces(spec: &PodSpec) -> NamespaceOption {
    let mode = |host: Option<bool>, other: NamespaceMode| if host == Some(true) { NamespaceMode::Node } else { other };
    let pid = if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod) as i32,
        pid: mode(spec.host_pid, pid) as i32,
        ipc: mode(spec.host_ipc, NamespaceMode::Pod) as i32,
        ..NamespaceOption::default()
    }
}

/// The security context of a pod's sandbox.
pub(crate) fn of_sandbox(spec: &PodSpec) -> LinuxSandboxSecurityContext {
    let none = PodSecurityContext::default();
    let pod = spec.security_context.as_ref().unwrap_or(&none);
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let privileged = all
        .into_iter()
        .any(|c| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        run_as_user: pod.run_as_user.map(|value| Int64Value { value }),
        run_as_group: pod
            .run_as_group
            .filter(|_| pod.run_as_user.is_some())
            .map(|value| Int64Value { value }),
        supplemental_groups: groups(pod),
        privileged,
        seccomp: Some(profile(
            v1::security_profile::ProfileType::RuntimeDefault,
            String::new(),
        )),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// The security context of a container.
///
/// # Errors
/// The container must not run as root, and would (or one cannot tell).
pub(crate) fn of_container(
    pod_name: &str,
    spec: &PodSpec,
    container: &Container,
    image: &ImageUser,
    root_dir: &Path,
) -> Result<LinuxContainerSecurityContext, String> {
    let (no_pod, no_own) = (PodSecurityContext::default(), SecurityContext::default());
    let pod = spec.security_context.as_ref().unwrap_or(&no_pod);
    let own = container.security_context.as_ref().unwrap_or(&no_own);
    let user = own.run_as_user.or(pod.run_as_user);
    if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        check_not_root(user, image, pod_name, &container.name)?;
    }
    let capabilities = own.capabilities.as_ref();
    let se_linux = own.se_linux_options.as_ref().or(pod.se_linux_options.as_ref());
    let privileged = own.privileged == Some(true);
    let is_unmasked = own.proc_mount.as_deref() == Some("Unmasked") || privileged;
    let paths = |list: &[&str]| {
        if is_unmasked {
            Vec::new()
        } else {
            list.iter().map(|p| (*p).to_owned()).collect()
        }
    };
    Ok(LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: capabilities.and_then(|c| c.add.clone()).unwrap_or_default(),
            drop_capabilities: capabilities.and_then(|c| c.drop.clone()).unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(namespaces(spec)),
        selinux_options: se_linux.map(|s| SeLinuxOption {
            user: s.user.clone().unwrap_or_default(),
            role: s.role.clone().unwrap_or_default(),
            r#type: s.type_.clone().unwrap_or_default(),
            level: s.level.clone().unwrap_or_default(),
        }),
        run_as_user: user.or(image.uid).map(|value| Int64Value { value }),
        run_as_username: if user.or(image.uid).is_none() {
            image.name.clone()
        } else {
            String::new()
        },
        run_as_group: own.run_as_group.or(pod.run_as_group).map(|value| Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: match pod.supplemental_groups_policy.as_deref() {
            Some("Strict") => v1::SupplementalGroupsPolicy::Strict as i32,
            _ => v1::SupplementalGroupsPolicy::Merge as i32,
        },
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(
            own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref()),
            root_dir,
        )),
        apparmor: own
            .app_armor_profile
            .as_ref()
            .or(pod.app_armor_profile.as_ref())
            .map(apparmor),
        ..LinuxContainerSecurityContext::default()
    })
}

/// Whether a pod asks for a profile of AppArmor.
pub(crate) fn needs_apparmor(spec: &PodSpec) -> bool {
    let own = spec
        .security_context
        .as_ref()
        .and_then(|s| s.app_armor_profile.as_ref());
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let of_containers = containers.filter_map(|c| c.security_context.as_ref()?.app_armor_profile.as_ref());
    own.into_iter().chain(of_containers).any(|p| p.type_ != "Unconfined")
}

/// Whether this machine has AppArmor.
pub(crate) fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

fn apparmor(wanted: &AppArmorProfile) -> SecurityProfile {
    use v1::security_profile::ProfileType;
    match wanted.type_.as_str() {
        "RuntimeDefault" => profile(ProfileType::RuntimeDefault, String::new()),
        "Localhost" => profile(
            ProfileType::Localhost,
            wanted.localhost_profile.clone().unwrap_or_default(),
        ),
        _ => profile(ProfileType::Unconfined, String::new()),
    }
}

fn groups(pod: &PodSecurityContext) -> Vec<i64> {
    pod.supplemental_groups
        .iter()
        .flatten()
        .copied()
        .chain(pod.fs_group)
        .collect()
}

fn check_not_root(user: Option<i64>, image: &ImageUser, pod: &str, container: &str) -> Result<(), String> {
    let about = format!("(pod: \"{pod}\", container: {container})");
    match (user, image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {about}")),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(format!("container has runAsNonRoot and image will run as root {about}")),
        (None, Some(_)) => Ok(()),
        (None, None) if image.name.is_empty() => {
            Err(format!("container has runAsNonRoot and image will run as root {about}"))
        }
        (None, None) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {about}",
            image.name
        )),
    }
}

fn seccomp(wanted: Option<&SeccompProfile>, root_dir: &Path) -> SecurityProfile {
    use v1::security_profile::ProfileType;
    match wanted.map(|p| p.type_.as_str()) {
        Some("RuntimeDefault") => profile(ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let name = wanted.and_then(|p| p.localhost_profile.as_deref()).unwrap_or_default();
            profile(
                ProfileType::Localhost,
                root_dir.join("seccomp").join(name).to_string_lossy().into_owned(),
            )
        }
        _ => profile(ProfileType::Unconfined, String::new()),
    }
}

fn profile(type_: v1::security_profile::ProfileType, localhost_ref: String) -> SecurityProfile {
    SecurityProfile {
        profile_type: type_ as i32,
        localhost_ref,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(own: SecurityContext, image: &ImageUser) -> Result<LinuxContainerSecurityContext, String> {
        let container = Container {
            name: "web".into(),
            security_context: Some(own),
            ..Container::default()
        };
        of_container("p", &PodSpec::default(), &container, image, Path::new("/r"))
    }

    #[test]
    fn root_is_refused_where_it_must_not_be() {
        let own = |user| SecurityContext {
            run_as_non_root: Some(true),
            run_as_user: user,
            ..SecurityContext::default()
        };
        let root = ImageUser {
            uid: Some(0),
            name: String::new(),
        };
        let named = ImageUser {
            uid: None,
            name: "redis".into(),
        };
        assert!(
            context(own(None), &root)
                .unwrap_err()
                .contains("image will run as root")
        );
        assert!(
            context(own(None), &named)
                .unwrap_err()
                .contains("non-numeric user (redis)")
        );
        assert!(
            context(own(Some(0)), &named)
                .unwrap_err()
                .contains("breaks non-root policy")
        );
        assert_eq!(context(own(Some(5)), &root).unwrap().run_as_user.unwrap().value, 5);
    }

    #[test]
    fn defaults_are_kubernetes_defaults() {
        let context = context(SecurityContext::default(), &ImageUser::default()).unwrap();
        assert!(!context.no_new_privs && !context.privileged);
        assert_eq!(context.masked_paths.len(), MASKED.len());
        assert_eq!(context.namespace_options.unwrap().pid, NamespaceMode::Container as i32);
    }
}
