//! What is said of a Deployment: counts, conditions, its revision's number, and when to look again.

use api::k8s::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::difference::{between, unless_zero};
use crate::pods::name_of;
use crate::{Action, Plan, Target};

use super::change::size_of;
use super::revisions::{REVISION_ANNOTATION, annotation};
use super::{Observed, actual, available};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";

const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const CREATE_ERROR: &str = "ReplicaSetCreateError";

/// The status of a Deployment while it is being worked out.
#[derive(Debug)]
pub(super) struct Status<'a> {
    deployment: &'a Deployment,
    now: Timestamp,
    before: DeploymentStatus,
    new: DeploymentStatus,
    revision: Option<String>,
    again_at: Option<Timestamp>,
    is_off: bool,
}

impl<'a> Status<'a> {
    pub(super) fn of(deployment: &'a Deployment, now: Timestamp) -> Self {
        let before = deployment.status.clone().unwrap_or_default();
        Self {
            deployment,
            now,
            new: before.clone(),
            before,
            revision: None,
            again_at: None,
            is_off: false,
        }
    }

    pub(super) fn collision_count(&self) -> i32 {
        self.before.collision_count.unwrap_or(0)
    }

    pub(super) fn replicas_before(&self) -> i32 {
        self.before.replicas.unwrap_or(0)
    }

    /// Nothing is to be written.
    pub(super) fn forget(&mut self) {
        self.is_off = true;
    }

    pub(super) fn set_revision(&mut self, revision: String) {
        self.revision = Some(revision);
    }

    /// Another ReplicaSet has the name that was meant for the new one.
    pub(super) fn note_collision(&mut self) {
        self.new.collision_count = Some(self.collision_count() + 1);
    }

    /// A pause stops the clock of the rollout, its end starts it anew.
    pub(super) fn note_pause(&mut self, spec: &DeploymentSpec) {
        let reason = self.progress().and_then(|known| known.reason.as_deref());
        let (is_paused, was_paused) = (spec.paused == Some(true), reason == Some(PAUSED));
        if deadline_s(spec).is_none() || reason == Some(TIMED_OUT) || is_paused == was_paused {
            return;
        }
        if is_paused {
            self.set(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned());
        } else {
            self.set(
                PROGRESSING,
                "Unknown",
                "DeploymentResumed",
                "Deployment is resumed".to_owned(),
            );
        }
    }

    /// There is a ReplicaSet for the template already.
    pub(super) fn note_found(&mut self, name: &str) {
        if self.has_deadline() && self.progress().is_none() {
            let message = format!("Found new replica set \"{name}\"");
            self.set(PROGRESSING, "True", "FoundNewReplicaSet", message);
        }
    }

    /// A ReplicaSet has been made for the template.
    pub(super) fn note_created(&mut self, name: &str) {
        if self.has_deadline() {
            let message = format!("Created new replica set \"{name}\"");
            self.set(PROGRESSING, "True", "NewReplicaSetCreated", message);
        }
    }

    /// No ReplicaSet can be made for the template; true if that is news.
    pub(super) fn note_failed_creation(&mut self, name: &str, failure: &str) -> bool {
        let is_known = self
            .progress()
            .is_some_and(|known| known.reason.as_deref() == Some(CREATE_ERROR));
        if self.has_deadline() && !is_known {
            let message = format!("Failed to create new replica set \"{name}\": {failure}");
            self.set(PROGRESSING, "False", CREATE_ERROR, message);
            return true;
        }
        false
    }

    /// Counts, and whether enough is available.
    pub(super) fn count(
        &mut self,
        spec: &DeploymentSpec,
        sets: impl Iterator<Item = &'a ReplicaSet> + Clone,
        new: Option<&ReplicaSet>,
        max_unavailable: i32,
    ) {
        let sum = |count: fn(&ReplicaSet) -> i32| sets.clone().map(count).sum::<i32>();
        let available = sum(available);
        let terminating = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.terminating_replicas);
        let status = &mut self.new;
        status.observed_generation = self.deployment.metadata.generation;
        status.replicas = unless_zero(sum(actual));
        status.updated_replicas = unless_zero(new.map_or(0, actual));
        status.ready_replicas = unless_zero(sum(ready));
        status.available_replicas = unless_zero(available);
        status.unavailable_replicas = unless_zero((sum(size_of) - available).max(0));
        // If one does not tell of pods on their way out, nothing is known of the sum.
        status.terminating_replicas = sets.clone().map(terminating).sum();
        if available >= spec.replicas.unwrap_or(1) - max_unavailable {
            let message = "Deployment has minimum availability.".to_owned();
            self.set(AVAILABLE, "True", "MinimumReplicasAvailable", message);
        } else {
            let message = "Deployment does not have minimum availability.".to_owned();
            self.set(AVAILABLE, "False", "MinimumReplicasUnavailable", message);
        }
    }

    /// Counts, and how the rollout fares.
    pub(super) fn conclude_rollout(
        &mut self,
        seen: &Observed<'_>,
        spec: &DeploymentSpec,
        sets: impl Iterator<Item = &'a ReplicaSet> + Clone,
        new: Option<&'a ReplicaSet>,
        max_unavailable: i32,
    ) {
        self.count(spec, sets.clone(), new, max_unavailable);
        match deadline_s(spec) {
            None => remove(&mut self.new, PROGRESSING),
            Some(deadline_s) => self.tell_progress(seen, spec, new, deadline_s),
        }
        let failure = new.into_iter().chain(sets).find_map(failure_of);
        match failure {
            Some(failure) => put(&mut self.new, failure),
            None => remove(&mut self.new, REPLICA_FAILURE),
        }
    }

    fn tell_progress(&mut self, seen: &Observed<'_>, spec: &DeploymentSpec, new: Option<&ReplicaSet>, deadline_s: i32) {
        let known = self.progress().cloned();
        let reason = known.as_ref().and_then(|known| known.reason.as_deref());
        if self.new.replicas == self.new.updated_replicas && reason == Some(NEW_SET_AVAILABLE) {
            return;
        }
        let what = match new {
            Some(new) => format!("ReplicaSet \"{}\"", name_of(&new.metadata)),
            None => format!("Deployment \"{}\"", name_of(&seen.deployment.metadata)),
        };
        if is_complete(&self.new, spec, self.deployment.metadata.generation) {
            self.set(
                PROGRESSING,
                "True",
                NEW_SET_AVAILABLE,
                format!("{what} has successfully progressed."),
            );
        } else if self.is_progressing() {
            let message = format!("{what} is progressing.");
            let mut condition = self.condition(PROGRESSING, "True", "ReplicaSetUpdated", message);
            let since = known
                .filter(|known| known.status == "True")
                .map(|known| known.last_transition_time);
            condition.last_transition_time = since.unwrap_or(condition.last_transition_time);
            // Every bit of progress sets the clock back, so the old condition is no reason to keep the old time.
            remove(&mut self.new, PROGRESSING);
            put(&mut self.new, condition);
        } else if let Some(ends_at) = known.as_ref().and_then(|known| ends_at(known, deadline_s)) {
            if reason == Some(TIMED_OUT) || ends_at < self.now {
                self.set(
                    PROGRESSING,
                    "False",
                    TIMED_OUT,
                    format!("{what} has timed out progressing."),
                );
            } else {
                self.again_at = ends_at.checked_add(SignedDuration::from_secs(1)).ok();
            }
        }
    }

    fn is_progressing(&self) -> bool {
        let (new, old) = (&self.new, &self.before);
        let outdated = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
        new.updated_replicas.unwrap_or(0) > old.updated_replicas.unwrap_or(0)
            || outdated(new) < outdated(old)
            || new.ready_replicas.unwrap_or(0) > old.ready_replicas.unwrap_or(0)
            || new.available_replicas.unwrap_or(0) > old.available_replicas.unwrap_or(0)
    }

    /// Whether the stored status says that everything is done.
    pub(super) fn is_complete(&self, spec: &DeploymentSpec) -> bool {
        is_complete(&self.before, spec, self.deployment.metadata.generation)
    }

    /// Adds the status to a plan if it differs from what is stored, and the time to look again.
    pub(super) fn conclude(&mut self, draft: &mut Plan) {
        draft.status = self.take_action();
        draft.again_at = self.again_at;
    }

    /// The write of the status, once, if it differs from what is stored.
    pub(super) fn take_action(&mut self) -> Option<Action> {
        if std::mem::replace(&mut self.is_off, true) {
            return None;
        }
        let mut patch = json!({});
        let stored = annotation(&self.deployment.metadata, REVISION_ANNOTATION);
        if let Some(revision) = self.revision.as_deref().filter(|revision| stored != Some(revision)) {
            patch["metadata"]["annotations"] = json!({ REVISION_ANNOTATION: revision });
        }
        if let Some(change) = between(&self.before, &self.new) {
            patch["status"] = change;
        }
        let is_news = patch.as_object().is_some_and(|patch| !patch.is_empty());
        is_news.then(|| Action::patch_status(Target::of(self.deployment), Value::clone(&patch)))
    }

    fn has_deadline(&self) -> bool {
        self.deployment.spec.as_ref().and_then(deadline_s).is_some()
    }

    fn progress(&self) -> Option<&DeploymentCondition> {
        let conditions = self.new.conditions.as_ref()?;
        conditions.iter().find(|known| known.type_ == PROGRESSING)
    }

    fn set(&mut self, type_: &str, status: &str, reason: &str, message: String) {
        let condition = self.condition(type_, status, reason, message);
        put(&mut self.new, condition);
    }

    fn condition(&self, type_: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
        DeploymentCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: Some(Time(self.now)),
            last_transition_time: Some(Time(self.now)),
        }
    }
}

/// A deadline of the largest number there is means none.
fn deadline_s(spec: &DeploymentSpec) -> Option<i32> {
    spec.progress_deadline_seconds
        .filter(|deadline_s| *deadline_s != i32::MAX)
}

fn ends_at(known: &DeploymentCondition, deadline_s: i32) -> Option<Timestamp> {
    let since = known.last_update_time.as_ref()?.0;
    since.checked_add(SignedDuration::from_secs(i64::from(deadline_s))).ok()
}

fn is_complete(status: &DeploymentStatus, spec: &DeploymentSpec, generation: Option<i64>) -> bool {
    let wanted = spec.replicas.unwrap_or(1);
    [status.updated_replicas, status.replicas, status.available_replicas]
        .into_iter()
        .all(|count| count.unwrap_or(0) == wanted)
        && status.observed_generation >= generation
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0)
}

fn failure_of(set: &ReplicaSet) -> Option<DeploymentCondition> {
    let conditions = set.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|known| known.type_ == REPLICA_FAILURE)?;
    Some(DeploymentCondition {
        type_: failure.type_.clone(),
        status: failure.status.clone(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        last_update_time: failure.last_transition_time.clone(),
        last_transition_time: failure.last_transition_time.clone(),
    })
}

/// Puts a condition in place of the one of its type; one that says the same stays as it is, times and all.
fn put(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let conditions = status.conditions.get_or_insert_default();
    if let Some(at) = conditions.iter().position(|known| known.type_ == condition.type_) {
        let known = &conditions[at];
        if known.status == condition.status && known.reason == condition.reason {
            return;
        }
        if known.status == condition.status {
            condition.last_transition_time.clone_from(&known.last_transition_time);
        }
        conditions.remove(at);
    }
    conditions.push(condition);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|known| known.type_ != type_);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}
