//! The shape of a decision: steps in order, a status, and why.
//!
//! A plan is complete: nothing is left to choose when it is carried out, and no step looks at the answer to an earlier
//! one. When something turns out otherwise than planned, the plan ends there and a new one is made from what is then
//! true.

use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::k8s::{Metadata, Resource};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{Key, Kind};

/// What to do next about one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do, in order; a step that fails ends the plan.
    pub steps: Vec<Step>,
    /// The status to write, last and whether or not the steps succeeded.
    pub status: Option<Action>,
    /// Why each step is taken and what each held-back step waits for.
    ///
    /// Never empty when something is not as desired.
    pub because: Vec<Reason>,
    /// Events that go with no step of their own, e.g. a conflict that nothing can be done about.
    pub events: Vec<Event>,
    /// Why this plan cannot be the last although no watched change would bring on the next: then it is made again
    /// with growing delays, as after a failed step.
    pub retry: Option<String>,
    /// When to plan again even if nothing changes before.
    pub again_at: Option<Timestamp>,
}

impl Plan {
    /// Whether there is nothing to write.
    pub fn is_quiet(&self) -> bool {
        self.steps.is_empty() && self.status.is_none()
    }

    /// Every action of every step, in order, without the status.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.steps.iter().flat_map(|step| match step {
            Step::One(action) => vec![action],
            Step::Together(chains) => chains.iter().flatten().collect(),
        })
    }
}

/// Actions that are taken one after the other; the first that fails ends the chain.
pub type Chain = Vec<Action>;

/// One step of a plan.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a plan has few steps that are one action, and many are made per second"
)]
pub enum Step {
    /// One action.
    One(Action),
    /// Chains that may run beside each other, in slow-start batches of 1, 2, 4 …; one failing does not stop the
    /// others, but fails the step.
    Together(Vec<Chain>),
}

/// One write, with what must hold before it and what to say after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The write.
    pub write: Write,
    /// What is asked of the server itself right before the write, not of a cache.
    pub guard: Option<Guard>,
    /// The event that tells people of the outcome.
    pub announcement: Option<Announcement>,
}

/// The closed set of writes. All but creation carry the uid and resourceVersion that were seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// POST of a new object.
    Create(Object),
    /// PATCH (JSON merge patch) of an object or, if not empty, its subresource. The executor puts the target's uid and
    /// resourceVersion into the patch.
    Patch {
        /// What is changed.
        target: Target,
        /// `status`, or empty for the object itself.
        subresource: &'static str,
        /// The merge patch, without uid and resourceVersion.
        patch: Value,
    },
    /// PUT of an object or its subresource, for what cannot be said as a merge patch (e.g. a namespace's `finalize`).
    /// The executor puts the target's uid and resourceVersion into the object.
    Replace {
        /// What is replaced.
        target: Target,
        /// `finalize`, or empty for the object itself.
        subresource: &'static str,
        /// The whole new object.
        body: Value,
    },
    /// DELETE, with preconditions. An object that is gone already counts as deleted.
    Delete {
        /// What is deleted.
        target: Target,
        /// What becomes of its dependents; `None` leaves it to the kind's default.
        propagation: Option<Propagation>,
    },
    /// DELETE of a pod without grace, for one that nobody else will ever end. One that is gone already counts as
    /// deleted.
    Kill {
        /// What is deleted.
        target: Target,
    },
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay, without owner.
    Orphan,
}

/// What must hold on the server at the moment of a write. If it does not, the action fails.
#[derive(Clone, Debug, PartialEq)]
pub enum Guard {
    /// The object exists with this uid and is not being deleted (asked once per plan, e.g. before adopting).
    Alive(Target),
    /// No object has this key (e.g. a node is really gone before its pods are deleted).
    Absent(Key),
    /// No object of this key has this uid (e.g. an owner is really gone before its dependents are deleted).
    Gone(Target),
    /// None of these kinds has an object in the namespace (e.g. before it is finalized).
    NoneLeft {
        /// The kinds that are asked for.
        kinds: Vec<Kind>,
        /// The namespace that must be empty of them.
        namespace: String,
    },
}

/// An object as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Kind, namespace and name.
    pub key: Key,
    /// The uid that was seen: another object of the same name is never touched.
    pub uid: String,
    /// The resourceVersion that was seen; empty leaves the write without this precondition.
    pub resource_version: String,
}

impl Target {
    /// The target that an object is, as seen.
    pub fn of<T: Resource + Metadata<Ty = ObjectMeta>>(object: &T) -> Self {
        Self::from_meta(Kind::of::<T>(), object.metadata())
    }

    /// The target that an object of this kind with this metadata is.
    pub fn from_meta(kind: Kind, meta: &ObjectMeta) -> Self {
        Self {
            key: Key::new(
                kind,
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            ),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// An object to create.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Kind, namespace and name.
    pub key: Key,
    /// The whole object, with apiVersion and kind.
    pub body: Value,
}

impl Object {
    /// An object from its typed form, which must have a name and, if its kind has one, a namespace.
    pub fn of<T: Resource + Metadata<Ty = ObjectMeta> + Serialize>(object: &T) -> Self {
        let target = Target::of(object);
        let body = serde_json::to_value(object).expect("Kubernetes objects have string keys only");
        Self { key: target.key, body }
    }
}

impl Action {
    /// Creates an object.
    pub fn create(object: Object) -> Self {
        Self::from(Write::Create(object))
    }

    /// Changes an object by a JSON merge patch.
    pub fn patch(target: Target, patch: Value) -> Self {
        Self::from(Write::Patch {
            target,
            subresource: "",
            patch,
        })
    }

    /// Changes an object's status by a JSON merge patch (of the whole object: `{"status": …}`).
    pub fn patch_status(target: Target, patch: Value) -> Self {
        Self::from(Write::Patch {
            target,
            subresource: "status",
            patch,
        })
    }

    /// Deletes an object; its dependents fare as the kind's default says.
    pub fn delete(target: Target) -> Self {
        Self::from(Write::Delete {
            target,
            propagation: None,
        })
    }

    /// The same action, done only if the guard holds.
    #[must_use]
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// The same action, its outcome told by an event.
    #[must_use]
    pub fn announced(mut self, announcement: Announcement) -> Self {
        self.announcement = Some(announcement);
        self
    }

    /// The object that is written.
    pub fn key(&self) -> &Key {
        match &self.write {
            Write::Create(object) => &object.key,
            Write::Patch { target, .. }
            | Write::Replace { target, .. }
            | Write::Delete { target, .. }
            | Write::Kill { target } => &target.key,
        }
    }
}

impl From<Write> for Action {
    fn from(write: Write) -> Self {
        Self {
            write,
            guard: None,
            announcement: None,
        }
    }
}

/// The event about an action's outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// The object the event is about.
    pub about: Target,
    /// What to say on success; `None` says nothing.
    pub done: Option<Notice>,
    /// What to say on failure; the executor appends ` error: ` (or nothing, if the message ends with a colon) and the
    /// cause. Conflicts and, when creating,
    /// AlreadyExists are not told: they only mean that the plan was made from what is no longer true.
    pub failed: Option<Notice>,
}

/// Reason and message of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Machine-readable, e.g. `SuccessfulCreate`.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// An event that tells of no action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The object the event is about.
    pub about: Target,
    /// Normal or Warning.
    pub event_type: EventType,
    /// Reason and message.
    pub notice: Notice,
}

/// Whether an event is a matter of course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It is.
    Normal,
    /// It is not.
    Warning,
}

/// One sentence about why a step is taken, or what a held-back step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The name of the object that is acted on or held back, e.g. `web-1`.
    pub subject: String,
    /// Machine-readable, e.g. `WaitsForPredecessor`.
    pub reason: &'static str,
    /// A sentence for people, e.g. "web-1 waits for web-0: its readiness probe has failed".
    pub message: String,
    /// The name of the object that is waited for; `None` if the step is taken now.
    pub waits_for: Option<String>,
}

impl Reason {
    /// Why a step is taken now.
    pub fn acts(subject: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            reason,
            message: message.into(),
            waits_for: None,
        }
    }

    /// What a held-back step waits for.
    pub fn waits(
        subject: impl Into<String>,
        reason: &'static str,
        waits_for: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            reason,
            message: message.into(),
            waits_for: Some(waits_for.into()),
        }
    }
}
