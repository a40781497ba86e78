//! Device files of a container, and the rules of its device cgroup.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use cri::v1::ContainerConfig;
use nix::sys::stat::{major, minor};
use serde_json::{Value, json};

use super::Machine;

/// The device files that a container gets beyond the usual ones.
pub(super) fn devices(config: &ContainerConfig, machine: &Machine, privileged: bool) -> Result<Vec<Value>, String> {
    let mut devices = if privileged {
        machine.devices.clone()
    } else {
        Vec::new()
    };
    for device in &config.devices {
        let described = describe(Path::new(&device.host_path), &device.container_path)?;
        devices.retain(|known| known["path"] != described["path"]);
        devices.push(described);
    }
    Ok(devices)
}

/// What the container may do with which device.
pub(super) fn rules(config: &ContainerConfig, privileged: bool) -> Result<Vec<Value>, String> {
    if privileged {
        return Ok(vec![json!({"allow": true, "access": "rwm"})]);
    }
    // The OCI runtime adds the usual ones, such as /dev/null.
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    for device in &config.devices {
        let described = describe(Path::new(&device.host_path), &device.container_path)?;
        let access = if device.permissions.is_empty() {
            "rwm"
        } else {
            &device.permissions
        };
        rules.push(json!({"allow": true, "type": described["type"], "major": described["major"], "minor": described["minor"], "access": access}));
    }
    Ok(rules)
}

fn describe(host: &Path, inside: &str) -> Result<Value, String> {
    let metadata = fs::metadata(host).map_err(|error| format!("cannot use the device {}: {error}", host.display()))?;
    let kind = metadata.file_type();
    let letter = if kind.is_char_device() {
        "c"
    } else if kind.is_block_device() {
        "b"
    } else {
        return Err(format!("{} is not a device", host.display()));
    };
    let device = metadata.rdev();
    let inside = if inside.is_empty() {
        host.display().to_string()
    } else {
        inside.to_owned()
    };
    Ok(json!({
        "path": inside,
        "type": letter,
        "major": major(device),
        "minor": minor(device),
        "fileMode": metadata.mode() & 0o7777,
        "uid": metadata.uid(),
        "gid": metadata.gid(),
    }))
}

/// Every device below /dev that is not a container's own affair.
pub(crate) fn host_devices() -> Vec<Value> {
    let mut devices = Vec::new();
    collect(Path::new("/dev"), &mut devices);
    devices
}

fn collect(folder: &Path, devices: &mut Vec<Value>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        let own = matches!(
            name.to_str(),
            Some("pts" | "shm" | "fd" | "mqueue" | ".lxc" | ".lxd-mounts" | ".udev" | "console" | "ptmx")
        );
        if own {
            continue;
        }
        if kind.is_dir() {
            collect(&path, devices);
        } else if kind.is_char_device() || kind.is_block_device() {
            devices.extend(describe(&path, ""));
        }
    }
}
