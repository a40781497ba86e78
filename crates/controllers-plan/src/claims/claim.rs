//! What happens to a claim.

use super::{BIND_COMPLETED, SELECTED_NODE, annotation, bind, claim_phase, name_of, provision, volume_name};
use crate::{Action, Event, EventType, Notice, Plan, Reason, Step, Target};
use api::k8s::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use api::k8s::api::storage::v1::StorageClass;
use api::volumes::{best_match, class_of_claim, is_promised_to, why_insufficient};
use serde_json::json;
use std::sync::Arc;

/// A claim and all that its fate depends on.
#[derive(Clone, Debug, Default)]
pub struct ObservedClaim {
    /// The claim; `None` if it is gone.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// All volumes.
    pub volumes: Vec<Arc<PersistentVolume>>,
    /// All storage classes.
    pub classes: Vec<Arc<StorageClass>>,
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
    /// Names of the pods that use the claim and have no node yet.
    pub waiting_pods: Vec<String>,
}

impl ObservedClaim {
    fn volume(&self, name: &str) -> Option<&PersistentVolume> {
        let mut volumes = self.volumes.iter().map(AsRef::as_ref);
        volumes.find(|volume: &&PersistentVolume| volume.metadata.name.as_deref() == Some(name))
    }
}

/// Decides what becomes of a claim.
pub fn plan_claim(observed: &ObservedClaim) -> Plan {
    let Some(claim) = observed.claim.as_deref() else {
        return Plan::default();
    };
    if annotation(&claim.metadata, BIND_COMPLETED).is_some() {
        return plan_bound(claim, observed);
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    if volume_name(claim).is_empty() {
        plan_unbound(claim, observed)
    } else {
        plan_requested(claim, observed)
    }
}

fn plan_unbound(claim: &PersistentVolumeClaim, observed: &ObservedClaim) -> Plan {
    if let Some(plan) = provision::give_class(claim, &observed.classes) {
        return plan;
    }
    let class_name = class_of_claim(claim);
    let class = observed
        .classes
        .iter()
        .find(|class| class.metadata.name.as_deref() == Some(class_name));
    let is_delayed = class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    let volumes = observed.volumes.iter().map(AsRef::as_ref);
    // Where the class waits for the first consumer, the scheduler promises the volume, for it knows the node.
    let may_use = |volume: &PersistentVolume| !is_delayed || is_promised_to(volume, claim);
    if let Some(volume) = best_match(claim, volumes, may_use) {
        return binding(claim, volume);
    }
    if class_name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return waiting(claim, EventType::Normal, "FailedBinding", message.to_owned());
    }
    let Some(class) = class else {
        let message = format!("storageclass.storage.k8s.io \"{class_name}\" not found");
        return waiting(claim, EventType::Warning, "ProvisioningFailed", message);
    };
    if is_delayed && annotation(&claim.metadata, SELECTED_NODE).is_none() {
        return match observed.waiting_pods.first() {
            Some(pod) => {
                let message = format!("waiting for pod {pod} to be scheduled");
                waiting(claim, EventType::Normal, "WaitForPodScheduled", message)
            }
            None => {
                let message = "waiting for first consumer to be created before binding".to_owned();
                waiting(claim, EventType::Normal, "WaitForFirstConsumer", message)
            }
        };
    }
    provision::plan(claim, class, &observed.nodes)
}

/// The claim asks for one certain volume.
fn plan_requested(claim: &PersistentVolumeClaim, observed: &ObservedClaim) -> Plan {
    let name = volume_name(claim);
    let Some(volume) = observed.volume(name) else {
        return quietly_waiting(claim, format!("volume \"{name}\" does not exist"));
    };
    let promised = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
    if promised && !is_promised_to(volume, claim) {
        let message = format!("volume \"{name}\" already bound to a different claim.");
        return waiting(claim, EventType::Warning, "FailedBinding", message);
    }
    let class_differs = api::volumes::class_of_volume(volume) != class_of_claim(claim);
    let why = why_insufficient(volume, claim).or(class_differs.then_some("storageClassName does not match"));
    match why.filter(|_| !promised) {
        Some(why) => {
            let message = format!("Cannot bind to requested volume \"{name}\": {why}");
            waiting(claim, EventType::Warning, "VolumeMismatch", message)
        }
        None => binding(claim, volume),
    }
}

/// The claim has been bound before: either all is still so, or its data is lost.
fn plan_bound(claim: &PersistentVolumeClaim, observed: &ObservedClaim) -> Plan {
    let name = volume_name(claim);
    if name.is_empty() {
        let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return lost(claim, "ClaimLost", message);
    }
    let Some(volume) = observed.volume(name) else {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost(claim, "ClaimLost", message);
    };
    let promise = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if promise.is_some_and(|promise| promise.uid != claim.metadata.uid && !is_promised_to(volume, claim)) {
        let message = "Two claims are bound to the same volume, this one is bound incorrectly";
        return lost(claim, "ClaimMisbound", message);
    }
    binding(claim, volume)
}

fn binding(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Plan {
    let steps = bind::steps(claim, volume);
    let message = format!("volume {} serves the claim", name_of(&volume.metadata));
    let because = vec![Reason::acts(name_of(&claim.metadata), "Binding", message)];
    Plan {
        because: if steps.is_empty() { Vec::new() } else { because },
        steps,
        ..Plan::default()
    }
}

/// The claim stays Pending, and people are told why.
pub(super) fn waiting(claim: &PersistentVolumeClaim, event_type: EventType, reason: &'static str, why: String) -> Plan {
    let notice = Notice {
        reason,
        message: why.clone(),
    };
    let event = Event {
        about: Target::of(claim),
        event_type,
        notice,
    };
    Plan {
        events: vec![event],
        ..quietly_waiting(claim, why)
    }
}

fn quietly_waiting(claim: &PersistentVolumeClaim, why: String) -> Plan {
    let name = name_of(&claim.metadata);
    Plan {
        status: phase(claim, "Pending"),
        because: vec![Reason::waits(name, "Pending", "volume", why)],
        ..Plan::default()
    }
}

fn lost(claim: &PersistentVolumeClaim, reason: &'static str, message: &str) -> Plan {
    let Some(status) = phase(claim, "Lost") else {
        let because = vec![Reason::waits(name_of(&claim.metadata), reason, "volume", message)];
        return Plan {
            because,
            ..Plan::default()
        };
    };
    let notice = Notice {
        reason,
        message: message.to_owned(),
    };
    Plan {
        steps: vec![Step::One(status)],
        events: vec![Event {
            about: Target::of(claim),
            event_type: EventType::Warning,
            notice,
        }],
        because: vec![Reason::acts(name_of(&claim.metadata), reason, message)],
        ..Plan::default()
    }
}

/// The write of a phase, if it is not there already.
fn phase(claim: &PersistentVolumeClaim, phase: &str) -> Option<Action> {
    (claim_phase(claim) != phase).then(|| Action::patch_status(Target::of(claim), json!({"status": {"phase": phase}})))
}
