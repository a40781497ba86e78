//! Garbage collection: an object goes when all its owners are gone.
//!
//! The graph is not kept here: what is observed of an object are its owners, as far as the caches know them, and its
//! dependents. An owner that the caches do not know is only *missing*; that it is *gone* the server itself must say
//! (`Guard::Gone`) right before anything is deleted for it.
//!
//! ```text
//! owner deleted ...            its dependents ...
//!   background (default)       are deleted once it is gone
//!   foreground                 are deleted while it waits (finalizer `foregroundDeletion`)
//!   orphan                     lose their reference to it, then it goes (finalizer `orphan`)
//! ```

use crate::{
    Action, AnyObject, Event, EventType, Guard, Key, Kind, Notice, Plan, Propagation, Reason, Step, Target, Write,
};
use api::k8s::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};
use std::sync::Arc;

/// Its owner waits until its blocking dependents are gone.
const FOREGROUND: &str = "foregroundDeletion";
/// Its dependents are to stay.
const ORPHAN: &str = "orphan";

/// An object, its owners and its dependents.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The object; `None` if it is gone.
    pub object: Option<Arc<AnyObject>>,
    /// What is known of each of its owners, in the order of its references.
    pub owners: Vec<Owner>,
    /// The objects that name it as an owner.
    pub dependents: Vec<Arc<AnyObject>>,
}

/// What is known of the owner that a reference names.
#[derive(Clone, Debug)]
pub enum Owner {
    /// It exists.
    Exists(Arc<AnyObject>),
    /// No cache knows it; the target is where it should be.
    Missing(Target),
    /// Its kind is not watched, so nothing can be said; it counts as existing.
    Unknown,
    /// The reference crosses a border that owners may not cross. `target` is where the owner would have to be, if there
    /// is such a place.
    Misplaced {
        /// In the dependent's own namespace; `None` for a cluster-wide dependent of a namespaced owner.
        target: Option<Target>,
    },
}

/// Decides what becomes of an object because of its owners, or of its dependents because of it.
pub fn plan(observed: &Observed) -> Plan {
    let Some(object) = observed.object.as_deref() else {
        return Plan::default();
    };
    let mut plan = if object.is_terminating && object.has_finalizer(ORPHAN) {
        plan_orphaning(object, &observed.dependents)
    } else if object.is_terminating && object.has_finalizer(FOREGROUND) {
        plan_waiting(object, &observed.dependents)
    } else if object.is_terminating {
        Plan::default()
    } else {
        plan_owned(object, observed)
    };
    plan.events.extend(misplaced(object, &observed.owners));
    plan
}

/// Whether an object waits in deletion until its dependents are gone.
pub fn waits_for_dependents(object: &AnyObject) -> bool {
    object.is_terminating && object.has_finalizer(FOREGROUND)
}

/// Whether a change of an object can matter to this controller.
pub fn concerns(old: &AnyObject, new: &AnyObject) -> bool {
    old.owner_references != new.owner_references
        || old.finalizers != new.finalizers
        || old.is_terminating != new.is_terminating
}

fn name_of(object: &AnyObject) -> String {
    object.name.name().to_owned()
}

fn without_finalizer(object: &AnyObject, finalizer: &str) -> Action {
    let rest: Vec<&String> = object.finalizers.iter().filter(|one| *one != finalizer).collect();
    Action::patch(object.target(), json!({"metadata": {"finalizers": rest}}))
}

/// The patch that leaves only some of an object's owner references.
fn keeping(object: &AnyObject, keep: impl Fn(&OwnerReference) -> bool) -> Action {
    let rest: Vec<&OwnerReference> = object.owner_references.iter().filter(|one| keep(one)).collect();
    let rest = if rest.is_empty() { Value::Null } else { json!(rest) };
    Action::patch(object.target(), json!({"metadata": {"ownerReferences": rest}}))
}

/// First nobody may name the object as an owner any more, then it may go.
fn plan_orphaning(object: &AnyObject, dependents: &[Arc<AnyObject>]) -> Plan {
    let release = |dependent: &Arc<AnyObject>| vec![keeping(dependent, |one| *one.uid != *object.uid)];
    let mut steps = Vec::new();
    if !dependents.is_empty() {
        steps.push(Step::Together(dependents.iter().map(release).collect()));
    }
    steps.push(Step::One(without_finalizer(object, ORPHAN)));
    let because = format!("its {} dependents are to stay", dependents.len());
    Plan {
        steps,
        because: vec![Reason::acts(name_of(object), "Orphan", because)],
        ..Plan::default()
    }
}

/// The object may go once no dependent blocks it; the dependents delete themselves, each by its own plan.
fn plan_waiting(object: &AnyObject, dependents: &[Arc<AnyObject>]) -> Plan {
    let blocks = |dependent: &&Arc<AnyObject>| {
        let mut references = dependent.owner_references.iter();
        references.any(|one| *one.uid == *object.uid && one.block_owner_deletion == Some(true))
    };
    if let Some(blocking) = dependents.iter().find(blocks) {
        let message = format!("{} {} must be deleted first", blocking.kind.kind, name_of(blocking));
        let because = vec![Reason::waits(
            name_of(object),
            "ForegroundDeletion",
            name_of(blocking),
            message,
        )];
        return Plan {
            because,
            ..Plan::default()
        };
    }
    Plan {
        steps: vec![Step::One(without_finalizer(object, FOREGROUND))],
        because: vec![Reason::acts(
            name_of(object),
            "ForegroundDeletion",
            "no dependent blocks its deletion any more",
        )],
        ..Plan::default()
    }
}

/// An object lives as long as one of its owners does.
fn plan_owned(object: &AnyObject, observed: &Observed) -> Plan {
    let references = &object.owner_references;
    let mut solid = 0;
    let mut waiting: Vec<&str> = Vec::new();
    let mut missing: Vec<&Target> = Vec::new();
    for (reference, owner) in references.iter().zip(&observed.owners) {
        match owner {
            Owner::Exists(owner) if waits_for_dependents(owner) && reference.block_owner_deletion == Some(true) => {
                waiting.push(&reference.uid);
            }
            Owner::Missing(target) | Owner::Misplaced { target: Some(target) } => missing.push(target),
            Owner::Exists(_) | Owner::Unknown | Owner::Misplaced { target: None } => solid += 1,
        }
    }
    if missing.is_empty() && waiting.is_empty() {
        return Plan::default();
    }
    if solid > 0 {
        return let_go(object, &waiting, &missing);
    }
    // One guard for each write: all but the last missing owner are crossed out first.
    if missing.len() > 1 || (!missing.is_empty() && !waiting.is_empty()) {
        let first = &missing[..missing.len() - usize::from(waiting.is_empty())];
        return let_go(object, &[], first);
    }
    match missing.first() {
        Some(owner) => delete(object, observed, Some(owner)),
        None => delete(object, observed, None),
    }
}

/// Crosses out owners: those that wait for the object although others keep it, and those that are gone.
fn let_go(object: &AnyObject, waiting: &[&str], missing: &[&Target]) -> Plan {
    let mut plan = Plan::default();
    if !waiting.is_empty() {
        plan.steps
            .push(Step::One(keeping(object, |one| !waiting.contains(&one.uid.as_str()))));
        plan.because.push(Reason::acts(
            name_of(object),
            "KeptByOthers",
            "an owner is being deleted, others keep it",
        ));
    } else if let Some(gone) = missing.first() {
        // The next one needs a new version to write on, so it is the next plan's.
        let action = keeping(object, |one| one.uid != gone.uid);
        plan.steps.push(Step::One(action.guarded(Guard::Gone((*gone).clone()))));
        let message = format!("its owner {} is gone", gone.key);
        plan.because.push(Reason::acts(name_of(object), "OwnerGone", message));
    }
    plan
}

/// Deletes the object: its last owner is gone, or waits for it.
fn delete(object: &AnyObject, observed: &Observed, gone: Option<&Target>) -> Plan {
    let mut plan = Plan::default();
    let mut target = object.target();
    let has_dependents = !observed.dependents.is_empty();
    let propagation = match gone {
        // The owner waits for all that is below it, so this one must wait, too.
        None if has_dependents => {
            // Were one of them waiting in turn, possibly for this one, all would wait for ever: this one stops blocking.
            if observed
                .dependents
                .iter()
                .any(|dependent| waits_for_dependents(dependent))
            {
                plan.steps.push(Step::One(unblock(object)));
                target.resource_version = String::new();
            }
            Propagation::Foreground
        }
        _ if object.has_finalizer(ORPHAN) => Propagation::Orphan,
        _ if object.has_finalizer(FOREGROUND) => Propagation::Foreground,
        _ => Propagation::Background,
    };
    let mut action = Action::from(Write::Delete {
        target,
        propagation: Some(propagation),
    });
    let message = match gone {
        Some(owner) => {
            action = action.guarded(Guard::Gone(owner.clone()));
            format!("its owner {} is gone", owner.key)
        }
        None => "its owner waits for it to be deleted".to_owned(),
    };
    plan.steps.push(Step::One(action));
    plan.because.push(Reason::acts(name_of(object), "Garbage", message));
    plan
}

fn unblock(object: &AnyObject) -> Action {
    let free = |one: &OwnerReference| OwnerReference {
        block_owner_deletion: Some(false),
        ..one.clone()
    };
    let references: Vec<OwnerReference> = object.owner_references.iter().map(free).collect();
    Action::patch(object.target(), json!({"metadata": {"ownerReferences": references}}))
}

/// People are told of references across namespaces, for they will not do what was hoped.
fn misplaced(object: &AnyObject, owners: &[Owner]) -> Vec<Event> {
    let is_misplaced = |(_, owner): &(&OwnerReference, &Owner)| matches!(owner, Owner::Misplaced { .. });
    let namespace = object.name.namespace();
    let tell = |(reference, _): (&OwnerReference, &Owner)| Event {
        about: object.target(),
        event_type: EventType::Warning,
        notice: Notice {
            reason: "OwnerRefInvalidNamespace",
            message: format!(
                "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace \"{namespace}\"",
                reference.api_version, reference.kind, reference.name, reference.uid
            ),
        },
    };
    let references = object.owner_references.iter();
    references.zip(owners).filter(is_misplaced).map(tell).collect()
}

/// Where the owner that a reference names has to be: in the dependent's namespace, or nowhere if its kind has none.
pub fn owner_target(
    reference: &OwnerReference,
    kind: Kind,
    is_namespaced: bool,
    dependent: &AnyObject,
) -> Option<Target> {
    let namespace = dependent.name.namespace();
    if is_namespaced && namespace.is_empty() {
        return None;
    }
    let namespace = if is_namespaced { namespace } else { "" };
    let key = Key::new(kind, namespace, reference.name.clone());
    Some(Target {
        key,
        uid: reference.uid.clone(),
        resource_version: String::new(),
    })
}
