//! From a claim to a place on this machine.

use crate::objects::{Key, Object, Objects, Seen};
use api::k8s::api::core::v1::{NodeSelectorRequirement, PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Annotation: who made a PersistentVolume.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Our own provisioner.
pub(crate) const LOCAL_PROVISIONER: &str = "steadfast.io/local";

/// Where a claim's data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The PersistentVolume's name.
    pub(crate) volume: String,
    /// Directory or file.
    pub(crate) path: PathBuf,
    /// hostPath type to check or make.
    pub(crate) type_: String,
    /// Whether the pod's group gets it.
    pub(crate) takes_group: bool,
}

/// The claim that a volume names; `None` if it is no claim volume.
pub(crate) fn claim_name(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(source.claim_name.clone());
    }
    volume.ephemeral.as_ref()?;
    Some(format!(
        "{}-{}",
        pod.metadata.name.as_deref().unwrap_or_default(),
        volume.name
    ))
}

/// A claim and the PersistentVolume that it is bound to.
pub(crate) struct Bound {
    /// The claim.
    pub(crate) claim: Box<PersistentVolumeClaim>,
    /// Its volume.
    pub(crate) volume: Box<PersistentVolume>,
}

/// Finds a claim's volume, or says what it waits for.
pub(crate) async fn bound(objects: &Objects, pod: &Pod, volume: &Volume, claim: &str) -> Result<Bound, String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let watched = objects.watch(&Key::Claim(namespace.clone(), claim.to_owned()));
    let claim = match watched.known().await {
        Seen::Here(object) => match &*object {
            Object::Claim(claim) => claim.clone(),
            _ => return Err("the API answered with another kind".into()),
        },
        _ => {
            return Err(format!(
                "error getting PVC \"{namespace}/{claim}\": persistentvolumeclaim \"{claim}\" not found"
            ));
        }
    };
    if volume.ephemeral.is_some() && !is_owned_by(&claim, pod) {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        return Err(format!(
            "PVC \"{namespace}/{name}\" was not created for pod (pod is not owner)"
        ));
    }
    let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let name = claim
        .spec
        .as_ref()
        .and_then(|s| s.volume_name.clone())
        .filter(|n| !n.is_empty());
    let (true, Some(name)) = (bound, name) else {
        return Err("PVC is not bound".into());
    };
    let watched = objects.watch(&Key::Volume(name.clone()));
    match watched.known().await {
        Seen::Here(object) => match &*object {
            Object::Volume(volume) => {
                let volume = volume.clone();
                Ok(Bound { claim, volume })
            }
            _ => Err("the API answered with another kind".into()),
        },
        _ => Err(format!("persistentvolume \"{name}\" not found")),
    }
}

fn is_owned_by(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    claim
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|o| o.uid == uid && o.controller == Some(true))
}

/// Whether a claim's volume is the claim's, and may be used here.
pub(crate) fn check(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
    node_labels: &BTreeMap<String, String>,
) -> Result<(), String> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    let spec = volume.spec.as_ref().ok_or("the PersistentVolume has no spec")?;
    let bound_to = spec.claim_ref.as_ref().and_then(|r| r.uid.as_deref());
    if bound_to != claim.metadata.uid.as_deref() {
        return Err(format!("volume \"{name}\" is bound to a different claim"));
    }
    if !is_reachable(volume, node_labels) {
        return Err(format!("Storage node affinity check failed for volume \"{name}\""));
    }
    Ok(())
}

/// Where the data of a hostPath or local volume is.
pub(crate) fn place_of(volume: &PersistentVolume) -> Result<Place, String> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    let spec = volume.spec.as_ref().ok_or("the PersistentVolume has no spec")?;
    let ours = volume
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(PROVISIONED_BY))
        .map(String::as_str);
    let is_block = spec.volume_mode.as_deref() == Some("Block");
    if let Some(source) = &spec.host_path {
        let type_ = if is_block {
            "BlockDevice".to_owned()
        } else {
            source.type_.clone().unwrap_or_default()
        };
        let takes_group = ours == Some(LOCAL_PROVISIONER) && !is_block;
        return Ok(Place {
            volume: name,
            path: PathBuf::from(&source.path),
            type_,
            takes_group,
        });
    }
    if let Some(source) = &spec.local {
        let path = PathBuf::from(&source.path);
        return Ok(Place {
            volume: name,
            path,
            type_: if is_block { "BlockDevice" } else { "Directory" }.into(),
            takes_group: !is_block,
        });
    }
    Err(format!(
        "the type of volume \"{name}\" is not supported by this node: only hostPath, local and csi are"
    ))
}

/// Whether the volume's node affinity lets this node use it.
pub(crate) fn is_reachable(volume: &PersistentVolume, node_labels: &BTreeMap<String, String>) -> bool {
    let affinity = volume
        .spec
        .as_ref()
        .and_then(|s| s.node_affinity.as_ref())
        .and_then(|a| a.required.as_ref());
    let Some(required) = affinity else { return true };
    let holds = |r: &NodeSelectorRequirement| {
        let value = node_labels.get(&r.key);
        let listed = value.is_some_and(|v| r.values.iter().flatten().any(|x| x == v));
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = r.values.iter().flatten().next().and_then(|v| number(v));
        match r.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => value.and_then(|v| number(v)).zip(bound).is_some_and(|(v, b)| v > b),
            "Lt" => value.and_then(|v| number(v)).zip(bound).is_some_and(|(v, b)| v < b),
            _ => false,
        }
    };
    required.node_selector_terms.iter().any(|term| {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        !expressions.is_empty() && expressions.iter().all(holds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::{
        HostPathVolumeSource, NodeSelector, NodeSelectorTerm, ObjectReference, PersistentVolumeSpec, VolumeNodeAffinity,
    };
    use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn volume(claim_uid: &str, node: &str) -> PersistentVolume {
        let requirement = NodeSelectorRequirement {
            key: "kubernetes.io/hostname".into(),
            operator: "In".into(),
            values: Some(vec![node.into()]),
        };
        let term = NodeSelectorTerm {
            match_expressions: Some(vec![requirement]),
            ..NodeSelectorTerm::default()
        };
        PersistentVolume {
            metadata: ObjectMeta {
                name: Some("pv".into()),
                ..ObjectMeta::default()
            },
            spec: Some(PersistentVolumeSpec {
                claim_ref: Some(ObjectReference {
                    uid: Some(claim_uid.into()),
                    ..ObjectReference::default()
                }),
                host_path: Some(HostPathVolumeSource {
                    path: "/data/pv".into(),
                    type_: None,
                }),
                node_affinity: Some(VolumeNodeAffinity {
                    required: Some(NodeSelector {
                        node_selector_terms: vec![term],
                    }),
                }),
                ..PersistentVolumeSpec::default()
            }),
            status: None,
        }
    }

    #[test]
    fn only_the_own_claim_on_the_own_node() {
        let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), "here".to_owned())]);
        let claim = PersistentVolumeClaim {
            metadata: ObjectMeta {
                uid: Some("u1".into()),
                ..ObjectMeta::default()
            },
            ..PersistentVolumeClaim::default()
        };
        let check = |uid: &str, node: &str| check(&volume(uid, node), &claim, &labels);
        assert_eq!(check("u1", "here"), Ok(()));
        assert!(check("u2", "here").unwrap_err().contains("different claim"));
        assert!(check("u1", "there").unwrap_err().contains("affinity"));
        assert_eq!(place_of(&volume("u1", "here")).unwrap().path, PathBuf::from("/data/pv"));
    }
}
