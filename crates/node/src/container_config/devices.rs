//! Block devices of volumes in a container.

use crate::volumes::Mounted;
use api::k8s::api::core::v1::{Container, PodSpec};
use cri::v1::Device;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The devices that a container asks for.
///
/// # Errors
/// A volume that is no block device.
pub(super) fn devices(spec: &PodSpec, definition: &Container, mounted: &Mounted) -> Result<Vec<Device>, String> {
    let wanted = definition.volume_devices.iter().flatten();
    wanted
        .map(|device| {
            let host = mounted
                .get(&device.name)
                .ok_or_else(|| format!("volume {} is not mounted", device.name))?;
            if !is_block_device(host) {
                return Err(format!(
                    "volume {} has volumeMode Filesystem, but is specified in volumeDevices",
                    device.name
                ));
            }
            Ok(Device {
                container_path: device.device_path.clone(),
                host_path: host.to_string_lossy().into_owned(),
                permissions: if is_read_only(spec, &device.name) { "mr" } else { "mrw" }.to_owned(),
            })
        })
        .collect()
}

/// Whether a path leads to a block device.
pub(super) fn is_block_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.file_type().is_block_device())
}

fn is_read_only(spec: &PodSpec, volume: &str) -> bool {
    let claims = spec.volumes.iter().flatten().filter(|v| v.name == volume);
    let mut claims = claims.filter_map(|v| v.persistent_volume_claim.as_ref());
    claims.any(|claim| claim.read_only == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::PathBuf;

    #[test]
    fn only_block_devices_are_passed_on() {
        let container = json!({"name": "c", "volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]});
        let spec: PodSpec = serde_json::from_value(json!({"containers": [container]})).unwrap();
        let check = |mounted: &[(&str, &str)]| {
            let mounted = mounted
                .iter()
                .map(|(name, path)| ((*name).to_owned(), PathBuf::from(path)));
            devices(&spec, &spec.containers[0], &mounted.collect()).unwrap_err()
        };
        assert_eq!(check(&[]), "volume v is not mounted");
        let why = "volume v has volumeMode Filesystem, but is specified in volumeDevices";
        assert_eq!(check(&[("v", "/tmp")]), why);
    }
}
