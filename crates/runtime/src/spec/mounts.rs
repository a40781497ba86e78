//! What is mounted where in a container.

use cri::v1::{Mount, MountPropagation};
use serde_json::{Value, json};

use super::{Input, security};

/// The mounts, parents first, and whether one of them is shared with the host.
pub(super) fn mounts(input: &Input<'_>) -> Result<(Vec<Value>, bool), String> {
    let mut mounts = standard(input);
    for file in files(input) {
        push(&mut mounts, file);
    }
    let mut shared = false;
    for mount in &input.config.mounts {
        shared |= mount.propagation() == MountPropagation::PropagationBidirectional;
        push(&mut mounts, bind(mount)?);
    }
    // A folder must be mounted before what is inside of it.
    mounts.sort_by_key(|mount| depth(mount["destination"].as_str().unwrap_or_default()));
    Ok((mounts, shared))
}

/// A later mount replaces an earlier one of the same place.
fn push(mounts: &mut Vec<Value>, mount: Value) {
    mounts.retain(|known| known["destination"] != mount["destination"]);
    mounts.push(mount);
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|component| !component.is_empty()).count()
}

fn standard(input: &Input<'_>) -> Vec<Value> {
    let sys = if security(input.config).privileged { "rw" } else { "ro" };
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", sys],
        ),
        mount("/dev/shm", "bind", &input.files.shm.to_string_lossy(), &["rbind", "rw"]),
    ]
}

fn files(input: &Input<'_>) -> Vec<Value> {
    let access = if security(input.config).readonly_rootfs {
        "ro"
    } else {
        "rw"
    };
    let files = [
        ("/etc/hostname", &input.files.hostname),
        ("/etc/hosts", &input.files.hosts),
        ("/etc/resolv.conf", &input.files.resolv_conf),
    ];
    let bind = |(destination, source)| json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate", access]});
    files.into_iter().map(bind).collect()
}

fn bind(mount: &Mount) -> Result<Value, String> {
    let place = &mount.container_path;
    if mount.image.as_ref().is_some_and(|image| !image.image.is_empty()) {
        return Err(format!("mount {place}: images as volumes are not supported"));
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(format!("mount {place}: id-mapped mounts are not supported"));
    }
    if !place.starts_with('/') || place.split('/').any(|component| component == "..") {
        return Err(format!("mount {place:?}: not an absolute path without '..'"));
    }
    let propagation = match mount.propagation() {
        MountPropagation::PropagationPrivate => "rprivate",
        MountPropagation::PropagationHostToContainer => "rslave",
        MountPropagation::PropagationBidirectional => "rshared",
    };
    let access = match (mount.recursive_read_only, mount.readonly) {
        (true, _) => "rro",
        (false, true) => "ro",
        (false, false) => "rw",
    };
    let destination = format!(
        "/{}",
        place
            .split('/')
            .filter(|component| !component.is_empty())
            .collect::<Vec<_>>()
            .join("/")
    );
    Ok(
        json!({"destination": destination, "type": "bind", "source": mount.host_path, "options": ["rbind", propagation, access]}),
    )
}
