//! What happens to a volume: its phase follows its claim.

use super::{BOUND_BY_CONTROLLER, LOCAL_FINALIZER, PROVISIONED_BY, annotation, name_of, volume_name, volume_phase};
use crate::{Action, Event, EventType, Guard, Key, Kind, Notice, Plan, Reason, Step, Target};
use api::k8s::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// A volume and the claim that it is promised to.
#[derive(Clone, Debug, Default)]
pub struct ObservedVolume {
    /// The volume; `None` if it is gone.
    pub volume: Option<Arc<PersistentVolume>>,
    /// The claim of the name that the volume is promised to, whatever its uid.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
}

/// Decides what becomes of a volume.
pub fn plan_volume(observed: &ObservedVolume, now: Timestamp) -> Plan {
    let Some(volume) = observed.volume.as_deref() else {
        return Plan::default();
    };
    let promise = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if let Some(plan) = let_go(volume) {
        return plan;
    }
    let Some((promise, uid)) = promise.and_then(|promise| Some((promise, promise.uid.as_deref()?))) else {
        return phase(volume, "Available", None, now);
    };
    let claim = observed
        .claim
        .as_deref()
        .filter(|claim| claim.metadata.uid.as_deref() == Some(uid));
    match claim {
        None => released(volume, promise, uid, now),
        Some(claim) if volume_name(claim) == name_of(&volume.metadata) => phase(volume, "Bound", None, now),
        // The claim is about to take it.
        Some(claim) if volume_name(claim).is_empty() => {
            let why = format!("promised to claim {}", name_of(&claim.metadata));
            let because = vec![Reason::waits(
                name_of(&volume.metadata),
                "Promised",
                name_of(&claim.metadata),
                why,
            )];
            Plan {
                because,
                ..Plan::default()
            }
        }
        Some(claim) => unpromise(volume, promise, claim, now),
    }
}

/// A local volume that is to be retained has no directory to wait for: deleted by a person, it may go at once.
fn let_go(volume: &PersistentVolume) -> Option<Plan> {
    let is_going = volume.metadata.deletion_timestamp.is_some() && volume_phase(volume) != "Bound";
    let finalizers = volume.metadata.finalizers.as_deref().unwrap_or_default();
    let rest: Vec<&String> = finalizers.iter().filter(|one| *one != LOCAL_FINALIZER).collect();
    if !is_going || policy(volume) == "Delete" || rest.len() == finalizers.len() {
        return None;
    }
    let patch = json!({"metadata": {"finalizers": rest}});
    let because = "it is being deleted, and its directory is to be retained";
    Some(Plan {
        steps: vec![Step::One(Action::patch(Target::of(volume), patch))],
        because: vec![Reason::acts(name_of(&volume.metadata), "Retained", because)],
        ..Plan::default()
    })
}

/// The claim took another volume: this one is free again, or superfluous if it was made for the claim.
fn unpromise(
    volume: &PersistentVolume,
    promise: &ObjectReference,
    claim: &PersistentVolumeClaim,
    now: Timestamp,
) -> Plan {
    if annotation(&volume.metadata, PROVISIONED_BY).is_some() && policy(volume) == "Delete" {
        return phase(volume, "Released", None, now);
    }
    let patch = if annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some() {
        json!({"metadata": {"annotations": {BOUND_BY_CONTROLLER: Value::Null}}, "spec": {"claimRef": Value::Null}})
    } else {
        let (namespace, name) = (&promise.namespace, &promise.name);
        json!({"spec": {"claimRef": {"namespace": namespace, "name": name, "uid": Value::Null, "resourceVersion": Value::Null}}})
    };
    let why = format!("claim {} took another volume", name_of(&claim.metadata));
    Plan {
        steps: vec![Step::One(Action::patch(Target::of(volume), patch))],
        because: vec![Reason::acts(name_of(&volume.metadata), "Unbound", why)],
        ..Plan::default()
    }
}

/// The claim is gone. That cannot be taken back, so the server itself is asked whether it is really so.
fn released(volume: &PersistentVolume, promise: &ObjectReference, uid: &str, now: Timestamp) -> Plan {
    if let Some(message) = why_not_reclaimable(volume) {
        if volume_phase(volume) == "Failed" {
            return Plan::default();
        }
        let notice = Notice {
            reason: "VolumeFailedDelete",
            message: message.clone(),
        };
        let event = Event {
            about: Target::of(volume),
            event_type: EventType::Warning,
            notice,
        };
        let plan = guarded(phase(volume, "Failed", Some(message), now), promise, uid);
        return Plan {
            events: vec![event],
            ..plan
        };
    }
    guarded(phase(volume, "Released", None, now), promise, uid)
}

fn guarded(mut plan: Plan, promise: &ObjectReference, uid: &str) -> Plan {
    let kind = Kind::of::<PersistentVolumeClaim>();
    let claim = Target {
        key: Key::new(
            kind,
            promise.namespace.clone().unwrap_or_default(),
            promise.name.clone().unwrap_or_default(),
        ),
        uid: uid.to_owned(),
        resource_version: String::new(),
    };
    plan.steps = plan
        .steps
        .into_iter()
        .map(|step| match step {
            Step::One(action) => Step::One(action.guarded(Guard::Gone(claim.clone()))),
            together @ Step::Together(_) => together,
        })
        .collect();
    plan
}

/// Why nobody will reclaim a volume whose policy says that it should be. Who provisioned a volume reclaims it, too.
fn why_not_reclaimable(volume: &PersistentVolume) -> Option<String> {
    let is_csi = volume.spec.as_ref().is_some_and(|spec| spec.csi.is_some());
    let has_owner = is_csi || annotation(&volume.metadata, PROVISIONED_BY).is_some();
    let name = name_of(&volume.metadata);
    match policy(volume) {
        "Delete" if !has_owner => Some(format!(
            "error getting deleter volume plugin for volume \"{name}\": no deletable volume plugin matched"
        )),
        "Recycle" => Some("No recycler plugin found for the volume!".to_owned()),
        _ => None,
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

fn phase(volume: &PersistentVolume, phase: &str, message: Option<String>, now: Timestamp) -> Plan {
    if volume_phase(volume) == phase {
        return Plan::default();
    }
    let status = json!({"phase": phase, "message": message, "lastPhaseTransitionTime": format!("{now:.0}")});
    let why = format!("its phase was {}", volume_phase(volume));
    let action = Action::patch_status(Target::of(volume), json!({"status": status}));
    let because = vec![Reason::acts(name_of(&volume.metadata), "Phase", why)];
    Plan {
        steps: vec![Step::One(action)],
        because,
        ..Plan::default()
    }
}
