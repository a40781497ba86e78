//! From what a pod wants to what a driver is asked.

use super::Driver;
use super::source::Source;
use api::k8s::api::core::v1::Pod;
use api::k8s::api::storage::v1::CSIDriver;
use csi::v1::VolumeCapability;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use std::collections::HashMap;

/// Who gives a volume to the pod's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Nobody.
    Nobody,
    /// The driver, as it mounts.
    Driver(u32),
    /// The agent.
    Agent(u32),
}

/// What a driver's object says of the things that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Volumes are attached to the node first.
    pub(crate) attaches: bool,
    /// It wants to know the pod.
    wants_pod: bool,
    /// It is asked again and again.
    pub(crate) republishes: bool,
    group_policy: String,
    lifecycle_modes: Vec<String>,
}

impl Manner {
    /// Reads a driver's object; without one, what it would say by default.
    pub(crate) fn of(object: Option<&CSIDriver>) -> Self {
        let spec = object.map(|object| object.spec.clone()).unwrap_or_default();
        let modes = spec.volume_lifecycle_modes.filter(|modes| !modes.is_empty());
        Self {
            attaches: spec.attach_required != Some(false),
            wants_pod: spec.pod_info_on_mount == Some(true),
            republishes: spec.requires_republish == Some(true),
            group_policy: spec
                .fs_group_policy
                .unwrap_or_else(|| "ReadWriteOnceWithFSType".to_owned()),
            lifecycle_modes: modes.unwrap_or_else(|| vec!["Persistent".to_owned()]),
        }
    }

    /// Whether the driver has volumes of this life cycle.
    pub(crate) fn check_life(&self, source: &Source) -> Result<(), String> {
        let mode = lifecycle(source);
        if self.lifecycle_modes.iter().any(|known| known == mode) {
            return Ok(());
        }
        Err(format!(
            "volume mode \"{mode}\" not supported by driver {} (only supports {:?})",
            source.driver, self.lifecycle_modes
        ))
    }

    /// Who gives the volume to the pod's group, if there is one.
    pub(crate) fn group(&self, driver: &Driver, source: &Source, group: Option<u32>) -> Group {
        let Some(gid) = group.filter(|_| !source.is_block) else {
            return Group::Nobody;
        };
        if driver.mounts_for_group {
            return Group::Driver(gid);
        }
        let once = source.access_modes.iter().any(|mode| mode.starts_with("ReadWriteOnce"));
        let is_meant = match self.group_policy.as_str() {
            "File" => true,
            "None" => false,
            _ => !source.fs_type.is_empty() && once,
        };
        if is_meant && !source.read_only {
            Group::Agent(gid)
        } else {
            Group::Nobody
        }
    }

    /// What the driver is told beside the volume's own attributes.
    pub(crate) fn context(&self, source: &Source, pod: &Pod) -> HashMap<String, String> {
        let mut context = source.attributes.clone();
        if self.wants_pod {
            let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
            let all = [
                ("pod.name", pod.metadata.name.clone()),
                ("pod.namespace", pod.metadata.namespace.clone()),
                ("pod.uid", pod.metadata.uid.clone()),
                ("serviceAccount.name", account),
                ("ephemeral", Some(source.is_ephemeral.to_string())),
            ];
            context.extend(all.map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.unwrap_or_default())));
        }
        context
    }
}

/// The life cycle's name.
pub(crate) fn lifecycle(source: &Source) -> &'static str {
    if source.is_ephemeral { "Ephemeral" } else { "Persistent" }
}

/// The capability that a volume is asked for with.
pub(crate) fn capability(driver: &Driver, source: &Source, group: Group) -> VolumeCapability {
    let access_type = if source.is_block {
        AccessType::Block(BlockVolume {})
    } else {
        let gid = match group {
            Group::Driver(gid) => gid.to_string(),
            Group::Nobody | Group::Agent(_) => String::new(),
        };
        AccessType::Mount(MountVolume {
            fs_type: source.fs_type.clone(),
            mount_flags: source.mount_options.clone(),
            volume_mount_group: gid,
        })
    };
    VolumeCapability {
        access_mode: Some(AccessMode {
            mode: mode(driver, &source.access_modes).into(),
        }),
        access_type: Some(access_type),
    }
}

/// The widest of a volume's access modes, in the driver's terms.
fn mode(driver: &Driver, modes: &[String]) -> Mode {
    let has = |wanted: &str| modes.iter().any(|mode| mode == wanted);
    match driver.knows_single_writer {
        _ if has("ReadWriteMany") => Mode::MultiNodeMultiWriter,
        _ if has("ReadOnlyMany") && has("ReadWriteOnce") => Mode::MultiNodeSingleWriter,
        _ if has("ReadOnlyMany") => Mode::MultiNodeReaderOnly,
        true if has("ReadWriteOncePod") => Mode::SingleNodeSingleWriter,
        true => Mode::SingleNodeMultiWriter,
        false => Mode::SingleNodeWriter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn driver(change: impl FnOnce(&mut Driver)) -> Driver {
        let mut driver = Driver {
            name: "d".into(),
            registered_by: "/r".into(),
            channel: csi::connect(std::path::Path::new("/nowhere")),
            node_id: "n".into(),
            topology: [].into(),
            volumes_max: None,
            stages: true,
            expands: true,
            mounts_for_group: false,
            tells_stats: true,
            knows_single_writer: false,
        };
        change(&mut driver);
        driver
    }

    fn manner(spec: serde_json::Value) -> Manner {
        let object: CSIDriver = serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": spec})).unwrap();
        Manner::of(Some(&object))
    }

    #[tokio::test]
    async fn access_modes() {
        let plain = driver(|_| {});
        let knows = driver(|d| d.knows_single_writer = true);
        let check = |driver: &Driver, modes: &[&str], expected: Mode| {
            let modes: Vec<String> = modes.iter().map(|mode| (*mode).to_owned()).collect();
            assert_eq!(mode(driver, &modes), expected, "{modes:?}");
        };
        check(&plain, &["ReadWriteOnce"], Mode::SingleNodeWriter);
        check(&plain, &["ReadWriteOncePod"], Mode::SingleNodeWriter);
        check(&knows, &["ReadWriteOnce"], Mode::SingleNodeMultiWriter);
        check(&knows, &["ReadWriteOncePod"], Mode::SingleNodeSingleWriter);
        check(&knows, &["ReadWriteOnce", "ReadWriteMany"], Mode::MultiNodeMultiWriter);
        check(&knows, &["ReadOnlyMany"], Mode::MultiNodeReaderOnly);
        check(&plain, &["ReadOnlyMany", "ReadWriteOnce"], Mode::MultiNodeSingleWriter);
    }

    #[tokio::test]
    async fn groups() {
        let source = |fs_type: &str, mode: &str, read_only: bool| Source {
            fs_type: fs_type.into(),
            access_modes: vec![mode.into()],
            read_only,
            ..Source::default()
        };
        let plain = driver(|_| {});
        let by = |policy: &str| manner(json!({"fsGroupPolicy": policy}));
        let rwo = source("ext4", "ReadWriteOnce", false);
        assert_eq!(
            by("ReadWriteOnceWithFSType").group(&plain, &rwo, Some(5)),
            Group::Agent(5)
        );
        assert_eq!(by("ReadWriteOnceWithFSType").group(&plain, &rwo, None), Group::Nobody);
        assert_eq!(by("None").group(&plain, &rwo, Some(5)), Group::Nobody);
        let untyped = source("", "ReadWriteMany", false);
        assert_eq!(Manner::of(None).group(&plain, &untyped, Some(5)), Group::Nobody);
        assert_eq!(by("File").group(&plain, &untyped, Some(5)), Group::Agent(5));
        assert_eq!(
            by("File").group(&plain, &source("", "ReadWriteOnce", true), Some(5)),
            Group::Nobody
        );
        let itself = driver(|d| d.mounts_for_group = true);
        assert_eq!(by("None").group(&itself, &rwo, Some(5)), Group::Driver(5));
    }

    #[test]
    fn what_a_driver_is_told() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "serviceAccountName": "s"},
        }))
        .unwrap();
        let source = Source {
            attributes: [("a".to_owned(), "b".to_owned())].into(),
            is_ephemeral: true,
            driver: "d".into(),
            ..Source::default()
        };
        assert_eq!(Manner::of(None).context(&source, &pod), source.attributes);
        let told = manner(json!({"podInfoOnMount": true})).context(&source, &pod);
        assert_eq!(told["csi.storage.k8s.io/ephemeral"], "true");
        assert_eq!(told["csi.storage.k8s.io/serviceAccount.name"], "s");
        assert_eq!(told["a"], "b");
        let refused = Manner::of(None).check_life(&source).unwrap_err();
        assert_eq!(
            refused,
            "volume mode \"Ephemeral\" not supported by driver d (only supports [\"Persistent\"])"
        );
        assert!(
            manner(json!({"volumeLifecycleModes": ["Ephemeral"]}))
                .check_life(&source)
                .is_ok()
        );
    }
}
