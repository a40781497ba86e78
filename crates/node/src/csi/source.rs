//! What a pod wants of a driver: from a PersistentVolume, or from the pod itself.

use api::k8s::api::core::v1::{PersistentVolume, Pod, SecretReference, Volume};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write;

/// A volume that a driver is to mount for a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Source {
    /// Its directory's name: that of the PersistentVolume, or of the volume in the pod.
    pub(crate) name: String,
    /// The volume's name in the pod.
    pub(crate) pod_volume: String,
    /// Its claim's name, if it has one.
    pub(crate) claim: Option<String>,
    /// The driver.
    pub(crate) driver: String,
    /// The volume's id.
    pub(crate) handle: String,
    /// What the driver wrote down of it.
    pub(crate) attributes: HashMap<String, String>,
    /// The file system's type, if one is said.
    pub(crate) fs_type: String,
    /// Options of the mount.
    pub(crate) mount_options: Vec<String>,
    /// Nobody may write.
    pub(crate) read_only: bool,
    /// A device, not a file system.
    pub(crate) is_block: bool,
    /// Made for the pod alone.
    pub(crate) is_ephemeral: bool,
    /// How it may be accessed.
    pub(crate) access_modes: Vec<String>,
    /// Secrets of the calls.
    pub(crate) secrets: Secrets,
}

/// Secrets that calls are made with.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Secrets {
    /// To stage.
    pub(crate) stage: Option<SecretReference>,
    /// To publish.
    pub(crate) publish: Option<SecretReference>,
    /// To grow.
    pub(crate) expand: Option<SecretReference>,
}

impl Source {
    /// A PersistentVolume's, if it is a driver's; `place` is the volume in the pod.
    pub(crate) fn of_persistent(volume: &PersistentVolume, place: &Volume) -> Option<Self> {
        let is_read_only = place
            .persistent_volume_claim
            .as_ref()
            .is_some_and(|claim| claim.read_only == Some(true));
        let spec = volume.spec.as_ref()?;
        let csi = spec.csi.as_ref()?;
        Some(Self {
            name: volume.metadata.name.clone()?,
            pod_volume: place.name.clone(),
            claim: spec.claim_ref.as_ref().and_then(|claim| claim.name.clone()),
            driver: csi.driver.clone(),
            handle: csi.volume_handle.clone(),
            attributes: csi.volume_attributes.clone().unwrap_or_default().into_iter().collect(),
            fs_type: csi.fs_type.clone().unwrap_or_default(),
            mount_options: spec.mount_options.clone().unwrap_or_default(),
            read_only: is_read_only || csi.read_only == Some(true),
            is_block: spec.volume_mode.as_deref() == Some("Block"),
            is_ephemeral: false,
            access_modes: spec.access_modes.clone().unwrap_or_default(),
            secrets: Secrets {
                stage: csi.node_stage_secret_ref.clone(),
                publish: csi.node_publish_secret_ref.clone(),
                expand: csi.node_expand_secret_ref.clone(),
            },
        })
    }

    /// A pod's own volume, if it is a driver's.
    pub(crate) fn of_pod(pod: &Pod, volume: &Volume) -> Option<Self> {
        let csi = volume.csi.as_ref()?;
        let publish = csi.node_publish_secret_ref.as_ref().map(|secret| SecretReference {
            name: Some(secret.name.clone()),
            namespace: pod.metadata.namespace.clone(),
        });
        Some(Self {
            name: volume.name.clone(),
            pod_volume: volume.name.clone(),
            driver: csi.driver.clone(),
            handle: own_handle(pod.metadata.uid.as_deref().unwrap_or_default(), &volume.name),
            attributes: csi.volume_attributes.clone().unwrap_or_default().into_iter().collect(),
            fs_type: csi.fs_type.clone().unwrap_or_default(),
            read_only: csi.read_only == Some(true),
            is_ephemeral: true,
            access_modes: vec!["ReadWriteOnce".to_owned()],
            secrets: Secrets {
                publish,
                ..Secrets::default()
            },
            ..Self::default()
        })
    }
}

/// The id of a pod's own volume, the same at each try.
fn own_handle(uid: &str, name: &str) -> String {
    format!("csi-{}", hex(&format!("{uid}{name}")))
}

/// The hash of a text, as kubelets write it into names.
pub(crate) fn hex(text: &str) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a String cannot fail.
        write!(hex, "{byte:02x}").ok();
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_persistent_volumes_and_of_pods() {
        let volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": "pv"},
            "spec": {
                "csi": {"driver": "d", "volumeHandle": "h", "fsType": "ext4", "volumeAttributes": {"a": "b"},
                    "nodeStageSecretRef": {"name": "s", "namespace": "n"}},
                "accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "mountOptions": ["noatime"],
            },
        }))
        .unwrap();
        let place: Volume =
            serde_json::from_value(json!({"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}}))
                .unwrap();
        let source = Source::of_persistent(&volume, &place).unwrap();
        assert_eq!((source.name.as_str(), source.handle.as_str()), ("pv", "h"));
        assert!(source.is_block && source.read_only && !source.is_ephemeral && source.secrets.stage.is_some());
        assert_eq!(Source::of_persistent(&PersistentVolume::default(), &place), None);

        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}, {"name": "e", "emptyDir": {}}]},
        }))
        .unwrap();
        let volumes = pod.spec.clone().unwrap().volumes.unwrap();
        let source = Source::of_pod(&pod, &volumes[0]).unwrap();
        assert_eq!(source.handle, format!("csi-{}", hex("uv")));
        assert_eq!(source.secrets.publish.unwrap().namespace.as_deref(), Some("n"));
        assert_eq!(Source::of_pod(&pod, &volumes[1]), None);
    }
}
