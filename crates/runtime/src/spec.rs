//! From CRI's words to an OCI configuration. Nothing here acts; what must be known of the machine is passed in.

mod capabilities;
mod devices;
mod mounts;
mod seccomp;

use std::collections::BTreeMap;
use std::path::PathBuf;

use cri::v1::{ContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, security_profile::ProfileType};
use serde_json::{Map, Value, json};

pub(crate) use self::capabilities::own as own_capabilities;
pub(crate) use self::devices::host_devices;
pub(crate) use self::seccomp::localhost as seccomp_profile;
use crate::images::ImageConfig;
use crate::user::User;

/// Where processes look for programs if neither image nor pod says.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What kubelets ask for, and what containers get that are not asked about.
const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/scsi",
    "/sys/firmware",
];
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The namespaces a container joins or gets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespaces {
    /// None: the host's.
    pub(crate) network: Option<PathBuf>,
    pub(crate) ipc: Option<PathBuf>,
    pub(crate) uts: Option<PathBuf>,
    pub(crate) pid: PidNamespace,
}

/// Whose processes a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum PidNamespace {
    /// Its own.
    #[default]
    Own,
    /// Everybody's on this machine.
    Host,
    /// Those of the namespace held by this file.
    Of(PathBuf),
}

/// Files of the sandbox that appear in its containers.
#[derive(Debug, Clone)]
pub(crate) struct SandboxFiles {
    pub(crate) resolv_conf: PathBuf,
    pub(crate) hostname: PathBuf,
    pub(crate) hosts: PathBuf,
    pub(crate) shm: PathBuf,
}

/// All that an OCI configuration depends on.
pub(crate) struct Input<'a> {
    pub(crate) config: &'a ContainerConfig,
    pub(crate) image: &'a ImageConfig,
    /// The pod's name for itself.
    pub(crate) hostname: &'a str,
    pub(crate) user: &'a User,
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) files: &'a SandboxFiles,
    pub(crate) cgroup: &'a str,
    pub(crate) machine: &'a Machine,
    /// The seccomp profile that it brings, if it brings one.
    pub(crate) seccomp: Option<&'a Value>,
}

/// What this machine and this process allow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub(crate) cgroup_v2: bool,
    /// Swap is counted, so it can be limited.
    pub(crate) swap_limit: bool,
    /// Our own capabilities, the most a container can have.
    pub(crate) capabilities: Vec<String>,
    /// The least oom_score_adj we may set.
    pub(crate) oom_score_adj_min: i64,
    /// The devices of the host, for privileged containers.
    pub(crate) devices: Vec<Value>,
}

/// The OCI configuration, `config.json`.
///
/// # Errors
/// A text for people, if the container asks for what cannot be.
pub(crate) fn generate(input: &Input<'_>) -> Result<Value, String> {
    let security = security(input.config);
    let mut linux = Map::new();
    linux.insert("namespaces".into(), namespaces(input));
    linux.insert("cgroupsPath".into(), json!(input.cgroup));
    linux.insert("resources".into(), resources(input)?);
    let devices = devices::devices(input.config, input.machine, security.privileged)?;
    linux.insert("devices".into(), json!(devices));
    if !security.privileged {
        linux.insert("maskedPaths".into(), paths(&security.masked_paths, &MASKED_PATHS));
        linux.insert("readonlyPaths".into(), paths(&security.readonly_paths, &READONLY_PATHS));
    }
    check_profiles(&security)?;
    let capabilities = capabilities::granted(&security, &input.machine.capabilities)?;
    if let Some(profile) = seccomp::profile(&security, &capabilities, input.seccomp) {
        linux.insert("seccomp".into(), profile);
    }
    let (mounts, shared) = mounts::mounts(input)?;
    if shared {
        linux.insert("rootfsPropagation".into(), json!("shared"));
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": process(input)?,
        "root": {"path": "rootfs", "readonly": security.readonly_rootfs},
        "mounts": mounts,
        "linux": linux,
        "annotations": {},
    }))
}

/// The security settings of a container, or the defaults.
pub(crate) fn security(config: &ContainerConfig) -> LinuxContainerSecurityContext {
    config
        .linux
        .clone()
        .and_then(|linux| linux.security_context)
        .unwrap_or_default()
}

/// The working folder of the process.
pub(crate) fn working_dir<'a>(config: &'a ContainerConfig, image: &'a ImageConfig) -> &'a str {
    let defaults = image
        .config
        .as_ref()
        .map_or("", |defaults| defaults.working_dir.as_str());
    [config.working_dir.as_str(), defaults]
        .into_iter()
        .find(|path| !path.is_empty())
        .unwrap_or("/")
}

fn process(input: &Input<'_>) -> Result<Value, String> {
    let security = security(input.config);
    let capabilities = capabilities::granted(&security, &input.machine.capabilities)?;
    let ambient: Vec<String> = capabilities::ambient(&security, &capabilities)?;
    let cwd = working_dir(input.config, input.image);
    if !cwd.starts_with('/') {
        return Err(format!("the working folder {cwd:?} is not an absolute path"));
    }
    let resources = resources_of(input.config);
    let mut process = json!({
        "terminal": input.config.tty,
        "user": {"uid": input.user.uid, "gid": input.user.gid, "additionalGids": input.user.groups},
        "args": args(input.config, input.image)?,
        "env": env(input),
        "cwd": cwd,
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
            "inheritable": ambient,
            "ambient": ambient,
        },
        // Less than our own would need CAP_SYS_RESOURCE; being killed a little earlier is better than not running.
        "oomScoreAdj": resources.oom_score_adj.max(input.machine.oom_score_adj_min),
    });
    if security.no_new_privs {
        // libcontainer takes any answer for a yes where the order of things is concerned, so a no is not said.
        process["noNewPrivileges"] = json!(true);
    }
    Ok(process)
}

/// Kubernetes: a command replaces the image's entrypoint and its arguments, arguments replace only the latter.
fn args(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, String> {
    let defaults = image.config.clone().unwrap_or_default();
    let args = if !config.command.is_empty() {
        [config.command.clone(), config.args.clone()].concat()
    } else {
        let args = if config.args.is_empty() {
            defaults.cmd.unwrap_or_default()
        } else {
            config.args.clone()
        };
        [defaults.entrypoint.unwrap_or_default(), args].concat()
    };
    if args.is_empty() {
        return Err("no command specified: neither the pod nor the image says what to run".to_owned());
    }
    Ok(args)
}

fn env(input: &Input<'_>) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", input.hostname)];
    if input.config.tty {
        env.push("TERM=xterm".to_owned());
    }
    let image = input
        .image
        .config
        .as_ref()
        .and_then(|defaults| defaults.env.clone())
        .unwrap_or_default();
    let given = input
        .config
        .envs
        .iter()
        .map(|pair| format!("{}={}", pair.key, String::from_utf8_lossy(&pair.value)));
    for entry in image.into_iter().chain(given) {
        let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        match env.iter_mut().find(|known| name(known) == name(&entry)) {
            Some(known) => *known = entry,
            None => env.push(entry),
        }
    }
    env
}

fn namespaces(input: &Input<'_>) -> Value {
    let wanted = input.namespaces;
    let mut namespaces = vec![json!({"type": "mount"})];
    for (name, path) in [("network", &wanted.network), ("ipc", &wanted.ipc), ("uts", &wanted.uts)] {
        if let Some(path) = path {
            namespaces.push(json!({"type": name, "path": path}));
        }
    }
    match &wanted.pid {
        PidNamespace::Own => namespaces.push(json!({"type": "pid"})),
        PidNamespace::Host => {}
        PidNamespace::Of(path) => namespaces.push(json!({"type": "pid", "path": path})),
    }
    if input.machine.cgroup_v2 && !security(input.config).privileged {
        namespaces.push(json!({"type": "cgroup"}));
    }
    json!(namespaces)
}

fn resources_of(config: &ContainerConfig) -> LinuxContainerResources {
    config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.clone())
        .unwrap_or_default()
}

fn resources(input: &Input<'_>) -> Result<Value, String> {
    let wanted = resources_of(input.config);
    let mut cpu = Map::new();
    for (name, value) in [
        ("shares", wanted.cpu_shares),
        ("quota", wanted.cpu_quota),
        ("period", wanted.cpu_period),
    ] {
        if value != 0 {
            cpu.insert(name.into(), json!(value));
        }
    }
    for (name, value) in [("cpus", &wanted.cpuset_cpus), ("mems", &wanted.cpuset_mems)] {
        if !value.is_empty() {
            cpu.insert(name.into(), json!(value));
        }
    }
    let mut memory = Map::new();
    if wanted.memory_limit_in_bytes != 0 {
        memory.insert("limit".into(), json!(wanted.memory_limit_in_bytes));
        if input.machine.swap_limit {
            // Kubernetes: no swap unless asked for.
            let swap = if wanted.memory_swap_limit_in_bytes == 0 {
                wanted.memory_limit_in_bytes
            } else {
                wanted.memory_swap_limit_in_bytes
            };
            memory.insert("swap".into(), json!(swap));
        }
    }
    let mut resources = Map::new();
    if !cpu.is_empty() {
        resources.insert("cpu".into(), json!(cpu));
    }
    if !memory.is_empty() {
        resources.insert("memory".into(), json!(memory));
    }
    let pages = wanted
        .hugepage_limits
        .iter()
        .map(|limit| json!({"pageSize": limit.page_size, "limit": limit.limit}));
    let pages: Vec<Value> = pages.collect();
    if !pages.is_empty() {
        resources.insert("hugepageLimits".into(), json!(pages));
    }
    if !wanted.unified.is_empty() {
        let unified: BTreeMap<_, _> = wanted.unified.iter().collect();
        resources.insert("unified".into(), json!(unified));
    }
    let privileged = security(input.config).privileged;
    resources.insert("devices".into(), json!(devices::rules(input.config, privileged)?));
    Ok(json!(resources))
}

fn paths(asked: &[String], defaults: &[&str]) -> Value {
    if asked.is_empty() {
        json!(defaults)
    } else {
        json!(asked)
    }
}

/// A profile that exists must be applied or refused; of AppArmor there is none here.
fn check_profiles(security: &LinuxContainerSecurityContext) -> Result<(), String> {
    match &security.apparmor {
        Some(profile) if profile.profile_type() == ProfileType::Localhost => Err(format!(
            "the AppArmor profile {:?} cannot be applied: this runtime has no AppArmor support",
            profile.localhost_ref
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
