//! Claims of generic ephemeral volumes: they live and die with their pod.

use super::name_of;
use crate::{Action, Event, EventType, Kind, Notice, Object, Plan, Reason, Step, Target, owner_reference};
use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// A pod and the claims of its namespace that have the names of its ephemeral volumes.
#[derive(Clone, Debug, Default)]
pub struct ObservedPod {
    /// The pod; `None` if it is gone.
    pub pod: Option<Arc<Pod>>,
    /// Claims, found by name.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
}

impl ObservedPod {
    /// The names that a pod's ephemeral claims have.
    pub fn claim_names(pod: &Pod) -> Vec<String> {
        ephemeral(pod).map(|volume| claim_name(pod, volume)).collect()
    }
}

/// Decides which claims to make for a pod.
pub fn plan_ephemeral(observed: &ObservedPod) -> Plan {
    let mut plan = Plan::default();
    let Some(pod) = observed.pod.as_deref() else {
        return plan;
    };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return plan;
    }
    for volume in ephemeral(pod) {
        let name = claim_name(pod, volume);
        match observed
            .claims
            .iter()
            .find(|claim| claim.metadata.name.as_ref() == Some(&name))
        {
            None => {
                plan.because
                    .push(Reason::acts(name, "EphemeralVolume", "the pod needs its claim"));
                plan.steps
                    .extend(claim_of(pod, volume).map(|claim| Step::One(Action::create(Object::of(&claim)))));
            }
            Some(claim) if !is_owned(claim, pod) => {
                let (namespace, pod_name) = (name_of_namespace(pod), name_of(&pod.metadata));
                let message =
                    format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod_name} (pod is not owner)");
                plan.because
                    .push(Reason::waits(name, "NotOurs", pod_name, message.clone()));
                let notice = Notice {
                    reason: "EphemeralVolumeCreationFailed",
                    message,
                };
                plan.events.push(Event {
                    about: Target::of(pod),
                    event_type: EventType::Warning,
                    notice,
                });
            }
            Some(_) => {}
        }
    }
    plan
}

fn ephemeral(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes
        .into_iter()
        .flatten()
        .filter(|volume| volume.ephemeral.is_some())
}

fn claim_name(pod: &Pod, volume: &Volume) -> String {
    format!("{}-{}", name_of(&pod.metadata), volume.name)
}

fn name_of_namespace(pod: &Pod) -> String {
    pod.metadata.namespace.clone().unwrap_or_default()
}

fn is_owned(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == pod.metadata.uid.as_ref())
}

fn claim_of(pod: &Pod, volume: &Volume) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let given = template.metadata.clone().unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(claim_name(pod, volume)),
            namespace: pod.metadata.namespace.clone(),
            labels: given.labels,
            annotations: given.annotations,
            owner_references: Some(vec![owner_reference(Kind::of::<Pod>(), &pod.metadata)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    })
}
