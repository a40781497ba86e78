//! A container of a pod, in CRI's words.

mod devices;
mod recursive;

use crate::run::Node;
use crate::runtime::{
    BACKOFF, CONTAINER_NAME, GRACE, HASH, MESSAGE_PATH, MESSAGE_POLICY, POD_NAME, POD_NAMESPACE, POD_UID, PRE_STOP,
    RESOURCES, RESTART_COUNT,
};
use crate::security::{self, ImageUser};
use crate::volumes::{Mounted, pod_dir, sub_path};
use api::k8s::api::core::v1::{Container, Pod, PodSpec, VolumeMount};
use cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerResources, Mount,
    MountPropagation, NamespaceMode, Signal,
};
use node_plan::{
    ENV_FILE_BYTES_MAX, EnvFiles, Sources, container_hash, container_resources, environment, expand, hosts_file,
    wanted_env_files,
};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Where a container writes its last words, unless it says otherwise.
const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";

/// What a container is made of besides the pod's spec.
pub(crate) struct Parts<'a> {
    /// The pod.
    pub(crate) pod: &'a Pod,
    /// The container's definition in it.
    pub(crate) definition: &'a Container,
    /// How many times the name was started before.
    pub(crate) restart_count: i32,
    /// The delay that follows its end.
    pub(crate) backoff_s: u32,
    /// The image as the runtime knows it.
    pub(crate) image_ref: &'a str,
    /// The image's user.
    pub(crate) image_user: &'a ImageUser,
    /// The pod's volumes.
    pub(crate) mounted: &'a Mounted,
    /// What variables are taken from.
    pub(crate) sources: &'a Sources,
    /// The container whose processes this one is to see.
    pub(crate) target_id: Option<&'a str>,
}

/// The host's file for a container's last words.
pub(crate) fn message_file(node: &Node, uid: &str, container: &str, restart_count: i32) -> PathBuf {
    pod_dir(&node.config.root_dir, uid)
        .join("containers")
        .join(container)
        .join(restart_count.to_string())
}

/// The configuration of a container; makes the files that are mounted into it.
///
/// # Errors
/// What a person has to set right: the message of `CreateContainerConfigError`.
pub(crate) fn container_config(node: &Node, parts: &Parts<'_>) -> Result<ContainerConfig, String> {
    let Parts {
        pod,
        definition,
        restart_count,
        ..
    } = *parts;
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let files = env_files(definition, parts.mounted)?;
    let env = environment(pod, definition, parts.sources, &files).map_err(|e| e.to_string())?;
    let expanded = |list: Option<&[String]>| -> Vec<String> {
        list.unwrap_or_default()
            .iter()
            .map(|text| expand(text, |name| env.get(name).cloned()))
            .collect()
    };
    let name = format!(
        "{}_{}({})",
        pod.metadata.name.as_deref().unwrap_or_default(),
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.uid.as_deref().unwrap_or_default()
    );
    let mut security = security::of_container(&name, spec, definition, parts.image_user, &node.config.root_dir)?;
    if let (Some(target_id), Some(options)) = (parts.target_id, &mut security.namespace_options) {
        options.pid = NamespaceMode::Target as i32;
        target_id.clone_into(&mut options.target_id);
    }
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: definition.name.clone(),
            attempt: u32::try_from(restart_count).unwrap_or(0),
        }),
        image: Some(ImageSpec {
            image: parts.image_ref.to_owned(),
            user_specified_image: definition.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        }),
        command: expanded(definition.command.as_deref()),
        args: expanded(definition.args.as_deref()),
        working_dir: definition.working_dir.clone().unwrap_or_default(),
        mounts: mounts(node, parts, &env)?,
        devices: devices::devices(spec, definition, parts.mounted)?,
        envs: env
            .into_iter()
            .map(|(key, value)| KeyValue {
                key,
                value: value.into_bytes(),
            })
            .collect(),
        labels: labels(node, pod, definition),
        annotations: annotations(spec, parts),
        log_path: format!("{}/{restart_count}.log", definition.name),
        stdin: definition.stdin == Some(true),
        stdin_once: definition.stdin_once == Some(true),
        tty: definition.tty == Some(true),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources(node, spec, definition)),
            security_context: Some(security),
        }),
        stop_signal: stop_signal(definition),
        ..ContainerConfig::default()
    })
}

/// The files that variables are taken from, as they are now: an init container may have written them.
fn env_files(definition: &Container, mounted: &Mounted) -> Result<EnvFiles, String> {
    let read = |(name, path): (String, String)| {
        let volume = mounted.get(&name).ok_or_else(|| format!("volume {name:?} not found"))?;
        let content = sub_path::read(volume, &path, ENV_FILE_BYTES_MAX)
            .map_err(|error| format!("env file {path:?} of volume {name:?}: {error}"))?;
        Ok(((name, path), content))
    };
    wanted_env_files(definition).into_iter().map(read).collect()
}

fn labels(node: &Node, pod: &Pod, definition: &Container) -> HashMap<String, String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    HashMap::from([
        (POD_NAME.to_owned(), text(&pod.metadata.name)),
        (POD_NAMESPACE.to_owned(), text(&pod.metadata.namespace)),
        (POD_UID.to_owned(), text(&pod.metadata.uid)),
        (CONTAINER_NAME.to_owned(), definition.name.clone()),
        node.runtime.own_label(),
    ])
}

fn annotations(spec: &PodSpec, parts: &Parts<'_>) -> HashMap<String, String> {
    let definition = parts.definition;
    let mut all = HashMap::from([
        (HASH.to_owned(), container_hash(definition)),
        (RESTART_COUNT.to_owned(), parts.restart_count.to_string()),
        (BACKOFF.to_owned(), parts.backoff_s.to_string()),
        (
            GRACE.to_owned(),
            spec.termination_grace_period_seconds.unwrap_or(30).to_string(),
        ),
        (MESSAGE_PATH.to_owned(), message_path(definition).to_owned()),
        (
            MESSAGE_POLICY.to_owned(),
            definition
                .termination_message_policy
                .clone()
                .unwrap_or_else(|| "File".to_owned()),
        ),
    ]);
    let hook = definition.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    if let Some(json) = hook.and_then(|hook| serde_json::to_string(hook).ok()) {
        all.insert(PRE_STOP.to_owned(), json);
    }
    let resources = definition.resources.as_ref();
    if let Some(json) = resources.and_then(|resources| serde_json::to_string(resources).ok()) {
        all.insert(RESOURCES.to_owned(), json);
    }
    all
}

fn message_path(definition: &Container) -> &str {
    definition
        .termination_message_path
        .as_deref()
        .filter(|p| !p.is_empty())
        .unwrap_or(DEFAULT_MESSAGE_PATH)
}

fn stop_signal(definition: &Container) -> i32 {
    let name = definition.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
    name.and_then(Signal::from_str_name).map_or(0, |signal| signal as i32)
}

/// What the runtime is told of a container's resources.
pub(crate) fn resources(node: &Node, spec: &PodSpec, definition: &Container) -> LinuxContainerResources {
    let wanted = container_resources(spec, definition, node.machine.memory_bytes);
    LinuxContainerResources {
        cpu_shares: wanted.cpu_shares,
        cpu_quota: wanted.cpu_quota,
        cpu_period: wanted.cpu_period,
        memory_limit_in_bytes: wanted.memory_bytes,
        oom_score_adj: wanted.oom_score_adj.max(node.machine.oom_score_adj_min),
        ..LinuxContainerResources::default()
    }
}

fn mounts(node: &Node, parts: &Parts<'_>, env: &BTreeMap<String, String>) -> Result<Vec<Mount>, String> {
    let Parts { pod, definition, .. } = *parts;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let dir = pod_dir(&node.config.root_dir, uid);
    let mut all = Vec::new();
    for (i, mount) in definition.volume_mounts.iter().flatten().enumerate() {
        let place = dir
            .join("volume-subpaths")
            .join(&mount.name)
            .join(&definition.name)
            .join(i.to_string());
        all.push(volume_mount(
            parts,
            mount,
            env,
            &place,
            node.abilities.recursive_read_only(),
        )?);
    }
    let is_taken = |path: &str, all: &[Mount]| all.iter().any(|m| Path::new(&m.container_path) == Path::new(path));
    if !is_taken("/etc/hosts", &all) {
        let file = dir.join("etc-hosts");
        write_hosts(node, parts, &file).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
        all.push(file_mount("/etc/hosts", &file));
    }
    let path = message_path(definition);
    if !is_taken(path, &all) {
        let file = message_file(node, uid, &definition.name, parts.restart_count);
        make_message_file(&file).map_err(|e| format!("cannot make {}: {e}", file.display()))?;
        all.push(file_mount(path, &file));
    }
    Ok(all)
}

fn volume_mount(
    parts: &Parts<'_>,
    mount: &VolumeMount,
    env: &BTreeMap<String, String>,
    place: &Path,
    runtime_can: bool,
) -> Result<Mount, String> {
    let volume = parts
        .mounted
        .get(&mount.name)
        .ok_or_else(|| format!("volume {} is not mounted", mount.name))?;
    if devices::is_block_device(volume) && is_claim(parts.pod, &mount.name) {
        return Err(format!(
            "volume {} has volumeMode Block, but is specified in volumeMounts",
            mount.name
        ));
    }
    let part = match (&mount.sub_path, &mount.sub_path_expr) {
        (_, Some(expr)) if !expr.is_empty() => {
            let unknown = std::cell::Cell::new(false);
            let path = expand(expr, |name| {
                unknown.set(unknown.get() || !env.contains_key(name));
                env.get(name).cloned()
            });
            if unknown.get() {
                return Err("missing value for a variable of subPathExpr".into());
            }
            Some(path)
        }
        (Some(path), _) if !path.is_empty() => Some(path.clone()),
        _ => None,
    };
    let host_path = match part {
        Some(part) => sub_path::bind(volume, &part, place)?,
        None => volume.clone(),
    };
    let propagation = match mount.mount_propagation.as_deref() {
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        _ => MountPropagation::PropagationPrivate,
    };
    let container_path = if mount.mount_path.starts_with('/') {
        mount.mount_path.clone()
    } else {
        format!("/{}", mount.mount_path)
    };
    Ok(Mount {
        container_path,
        host_path: host_path.to_string_lossy().into_owned(),
        readonly: mount.read_only == Some(true),
        recursive_read_only: recursive::is_recursive(mount, runtime_can)?,
        propagation: propagation as i32,
        ..Mount::default()
    })
}

fn is_claim(pod: &Pod, volume: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let mut named = volumes.filter(|v| v.name == volume);
    named.any(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some())
}

fn file_mount(container_path: &str, host_path: &Path) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_string_lossy().into_owned(),
        ..Mount::default()
    }
}

fn write_hosts(node: &Node, parts: &Parts<'_>, file: &Path) -> std::io::Result<()> {
    let host_network = parts.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let own = if host_network {
        Some(std::fs::read_to_string("/etc/hosts").unwrap_or_default())
    } else {
        None
    };
    let text = hosts_file(
        parts.pod,
        &parts.sources.pod_ips,
        &node.config.cluster_domain,
        own.as_deref(),
    );
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // Written in place: running containers have this very file mounted.
    if std::fs::read_to_string(file).ok().as_ref() != Some(&text) {
        std::fs::write(file, text)?;
    }
    Ok(())
}

fn make_message_file(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(file, "")?;
    // Whatever user the container runs as may write its last words.
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666))
}
