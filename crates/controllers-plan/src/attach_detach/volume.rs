//! What has to be known of a volume to attach it, and what it is called where.

use api::k8s::api::core::v1::PersistentVolume;
use api::k8s::api::storage::v1::CSIDriver;
use sha2::{Digest, Sha256};
use std::fmt::Write;

use super::CSI;

/// How the names of VolumeAttachments begin that are made for pods.
const ATTACHMENT: &str = "csi-";

/// A volume of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The PersistentVolume's name.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// What the driver calls it.
    pub handle: String,
    /// Several nodes may have it at a time.
    pub is_shareable: bool,
}

impl Volume {
    /// That of a PersistentVolume, if it is a driver's.
    pub fn of(volume: &PersistentVolume) -> Option<Self> {
        let spec = volume.spec.as_ref()?;
        let csi = spec.csi.as_ref()?;
        let modes = spec.access_modes.as_deref().unwrap_or_default();
        let is_for_many = |mode: &String| mode == "ReadWriteMany" || mode == "ReadOnlyMany";
        Some(Self {
            name: volume.metadata.name.clone()?,
            driver: csi.driver.clone(),
            handle: csi.volume_handle.clone(),
            // Of a volume that does not say, its driver must know.
            is_shareable: modes.is_empty() || modes.iter().any(is_for_many),
        })
    }

    /// Its name in the status of nodes.
    pub fn unique_name(&self) -> String {
        format!("{CSI}{}^{}", self.driver, self.handle)
    }

    /// The name of the VolumeAttachment to a node.
    pub fn attachment_name(&self, node: &str) -> String {
        attachment_name(&self.driver, &self.handle, node)
    }
}

/// Whether a driver's volumes are attached before they are mounted, which one that says nothing is taken to want.
pub fn is_attached_first(driver: Option<&CSIDriver>) -> bool {
    driver.and_then(|driver| driver.spec.attach_required).unwrap_or(true)
}

/// The name of the VolumeAttachment of what a node's status calls a volume, if that is one of a driver.
pub(super) fn attachment_of_unique(unique: &str, node: &str) -> Option<String> {
    let (driver, handle) = unique.strip_prefix(CSI)?.split_once('^')?;
    Some(attachment_name(driver, handle, node))
}

/// Whether a name may be that of a VolumeAttachment that was made for pods.
pub(super) fn is_attachment_name(name: &str) -> bool {
    let hash = name.strip_prefix(ATTACHMENT).unwrap_or_default();
    hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn attachment_name(driver: &str, handle: &str, node: &str) -> String {
    let mut name = ATTACHMENT.to_owned();
    for byte in Sha256::digest(format!("{handle}{driver}{node}").as_bytes()) {
        // Writing to a String cannot fail.
        write!(name, "{byte:02x}").ok();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_volume_is_called() {
        let volume = |modes: &[&str]| {
            let object = json!({"metadata": {"name": "pv"}, "spec": {
                "accessModes": modes, "csi": {"driver": "d.example.com", "volumeHandle": "h^1"}}});
            Volume::of(&serde_json::from_value(object).unwrap()).unwrap()
        };
        let one = volume(&["ReadWriteOnce"]);
        assert_eq!(one.unique_name(), "kubernetes.io/csi/d.example.com^h^1");
        // printf 'h^1d.example.comn1' | sha256sum
        let name = "csi-7135422236911a1c14966e996da13ca6e26853e28e7e7ce621574d5117f6a9bb";
        assert_eq!(one.attachment_name("n1"), name);
        assert_eq!(attachment_of_unique(&one.unique_name(), "n1").as_deref(), Some(name));
        assert_eq!(attachment_of_unique("kubernetes.io/nfs/x^y", "n1"), None);
        assert!(is_attachment_name(name) && !is_attachment_name("csi-abc") && !is_attachment_name("mine"));
        for (modes, expected) in [
            (&["ReadWriteOnce"][..], false),
            (&["ReadWriteOncePod"], false),
            (&["ReadWriteOnce", "ReadOnlyMany"], true),
            (&["ReadWriteMany"], true),
            (&[], true),
        ] {
            assert_eq!(volume(modes).is_shareable, expected, "{modes:?}");
        }
        assert_eq!(Volume::of(&PersistentVolume::default()), None);
    }

    #[test]
    fn only_a_driver_that_says_so_does_without_attaching() {
        let driver = |required| CSIDriver {
            spec: api::k8s::api::storage::v1::CSIDriverSpec {
                attach_required: required,
                ..Default::default()
            },
            ..CSIDriver::default()
        };
        assert!(is_attached_first(None) && is_attached_first(Some(&driver(None))));
        assert!(!is_attached_first(Some(&driver(Some(false)))));
    }
}
