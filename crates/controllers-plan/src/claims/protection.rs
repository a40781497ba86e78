//! Finalizers that keep a claim while a pod uses it, and a volume while a claim is bound to it.

use super::{name_of, volume_phase};
use crate::{Action, Plan, Reason, Step, Target};
use api::k8s::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::sync::Arc;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// A claim and the pods that use it.
#[derive(Clone, Debug, Default)]
pub struct ObservedUse {
    /// The claim; `None` if it is gone.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// The pods that use it, whatever their state.
    pub pods: Vec<Arc<Pod>>,
}

/// Whether a pod mounts the claim of this name.
pub fn is_used_by(claim_name: &str, pod: &Pod) -> bool {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes
        .into_iter()
        .flatten()
        .any(|volume| match &volume.persistent_volume_claim {
            Some(source) => source.claim_name == claim_name,
            None => volume.ephemeral.is_some() && claim_name == format!("{pod_name}-{}", volume.name),
        })
}

/// Keeps a claim while a pod uses it that has a node and has not come to its end.
pub fn plan_claim_protection(observed: &ObservedUse) -> Plan {
    let Some(claim) = observed.claim.as_deref() else {
        return Plan::default();
    };
    let is_running = |pod: &&Arc<Pod>| {
        let has_node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_ref())
            .is_some_and(|node| !node.is_empty());
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        has_node && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    let user = observed.pods.iter().find(is_running).map(|pod| name_of(&pod.metadata));
    plan(&claim.metadata, Target::of(claim), CLAIM_FINALIZER, user)
}

/// Keeps a volume while it is bound.
pub fn plan_volume_protection(volume: Option<&PersistentVolume>) -> Plan {
    let Some(volume) = volume else { return Plan::default() };
    let claim = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref()?.name.clone());
    let user = claim.filter(|_| volume_phase(volume) == "Bound");
    plan(&volume.metadata, Target::of(volume), VOLUME_FINALIZER, user)
}

fn plan(metadata: &ObjectMeta, target: Target, finalizer: &str, user: Option<String>) -> Plan {
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    let name = name_of(metadata);
    let has_it = finalizers.iter().any(|one| one == finalizer);
    let reason = match (metadata.deletion_timestamp.is_some(), has_it, user) {
        (true, true, Some(user)) => {
            let because = vec![Reason::waits(
                name,
                "InUse",
                user.clone(),
                format!("it is used by {user}"),
            )];
            return Plan {
                because,
                ..Plan::default()
            };
        }
        (true, true, None) => {
            finalizers.retain(|one| one != finalizer);
            Reason::acts(name, "Unused", "it is being deleted, and nobody uses it")
        }
        (false, false, _) => {
            finalizers.push(finalizer.to_owned());
            Reason::acts(name, "Protect", "it must not vanish while it is used")
        }
        (true, false, _) | (false, true, _) => return Plan::default(),
    };
    let patch = json!({"metadata": {"finalizers": finalizers}});
    Plan {
        steps: vec![Step::One(Action::patch(target, patch))],
        because: vec![reason],
        ..Plan::default()
    }
}
