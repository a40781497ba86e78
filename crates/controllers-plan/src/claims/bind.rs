//! The writes that make a binding complete, whatever part of it is there already.

use super::{BIND_COMPLETED, BOUND_BY_CONTROLLER, annotation, claim_phase, volume_name};
use crate::{Action, Step, Target};
use api::k8s::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

/// The promise of a volume to a claim.
pub(super) fn promise(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// The writes, in order: promise the volume, take it, say so.
pub(super) fn steps(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(promise_volume(claim, volume).map(Step::One));
    steps.extend(take(claim, volume, None));
    steps
}

/// The writes on the claim's side. `provisioner` is whom to name as the volume's maker.
pub(super) fn take(claim: &PersistentVolumeClaim, volume: &PersistentVolume, provisioner: Option<&str>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut target = Target::of(claim);
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let is_taken = volume_name(claim) == name && annotation(&claim.metadata, BIND_COMPLETED).is_some();
    if !is_taken {
        let mut annotations = json!({BIND_COMPLETED: "yes"});
        if volume_name(claim).is_empty() {
            annotations[BOUND_BY_CONTROLLER] = json!("yes");
        }
        for key in provisioner.iter().flat_map(|_| PROVISIONER_ANNOTATIONS) {
            annotations[key] = json!(provisioner);
        }
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": name}});
        steps.push(Step::One(Action::patch(target.clone(), patch)));
        // The version that was seen is no longer the current one.
        target.resource_version = String::new();
    }
    if claim_phase(claim) != "Bound" {
        steps.push(Step::One(Action::patch_status(target, bound_status(volume))));
    }
    steps
}

/// Who makes the volume of a claim; the older name is still read by provisioners.
pub(super) const PROVISIONER_ANNOTATIONS: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];

fn promise_volume(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<Action> {
    let known = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if known.is_some_and(|known| known.uid == claim.metadata.uid) {
        return None;
    }
    let mut patch = json!({"spec": {"claimRef": promise(claim)}});
    if known.is_none() {
        patch["metadata"] = json!({"annotations": {BOUND_BY_CONTROLLER: "yes"}});
    }
    Some(Action::patch(Target::of(volume), patch))
}

fn bound_status(volume: &PersistentVolume) -> Value {
    let spec = volume.spec.as_ref();
    json!({"status": {
        "phase": "Bound",
        "accessModes": spec.and_then(|spec| spec.access_modes.as_ref()),
        "capacity": spec.and_then(|spec| spec.capacity.as_ref()),
    }})
}
