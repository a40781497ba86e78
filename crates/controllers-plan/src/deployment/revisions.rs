//! Which ReplicaSet a template has, what it is called, and which revision it is.

use std::collections::BTreeMap;

use api::k8s::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use api::k8s::api::core::v1::PodTemplateSpec;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::strategy::semantically_equal;
use serde_json::json;

use crate::pods::name_of;
use crate::statefulset::{canonical::encode, hash};
use crate::{Action, Announcement, Notice, Object, Reason, Step, controller_of, owner_reference};

use super::change::size_of;
use super::{Rollout, change};

/// The label by which the pods of different templates are told apart.
pub const HASH_LABEL: &str = "pod-template-hash";

/// The annotation with a revision's number.
pub const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";

/// The annotation with the numbers that a ReplicaSet had before it was rolled back to.
const HISTORY_ANNOTATION: &str = "deployment.kubernetes.io/revision-history";

/// The annotation with the number of pods that the Deployment wanted when the ReplicaSet was last scaled.
pub(super) const DESIRED_ANNOTATION: &str = "deployment.kubernetes.io/desired-replicas";

/// The annotation with the number of pods that the Deployment allowed when the ReplicaSet was last scaled.
pub(super) const MAX_ANNOTATION: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a Deployment that its ReplicaSets have in their own right or not at all.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION_ANNOTATION,
    HISTORY_ANNOTATION,
    DESIRED_ANNOTATION,
    MAX_ANNOTATION,
    super::rollback::ANNOTATION,
];

/// How long the list of earlier numbers may get.
const HISTORY_MAX: usize = 2000;

/// Whether a ReplicaSet is of this template: the same but for the label with the hash.
pub(super) fn is_of_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(own) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else {
        return false;
    };
    let own = without_hash(own);
    let template = without_hash(template);
    own == template || semantically_equal(&json!(own), &json!(template))
}

pub(super) fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    template
}

/// The number of a ReplicaSet's revision; 0 if it has none.
pub(super) fn revision_of(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION_ANNOTATION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

pub(super) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The annotations of a Deployment that its ReplicaSets share.
pub(super) fn shared_annotations(meta: &ObjectMeta) -> BTreeMap<String, String> {
    let mut shared = meta.annotations.clone().unwrap_or_default();
    shared.retain(|key, _| !OWN_ANNOTATIONS.contains(&key.as_str()));
    shared
}

/// The numbers that a ReplicaSet had, with one more; the oldest are dropped when there are too many.
fn history(known: &str, number: &str) -> Option<String> {
    let mut numbers: Vec<&str> = known.split(',').filter(|number| !number.is_empty()).collect();
    numbers.push(number);
    while numbers.len() > 1 && numbers.iter().map(|number| number.len() + 1).sum::<usize>() > HISTORY_MAX + 1 {
        numbers.remove(0);
    }
    let joined = numbers.join(",");
    (joined.len() <= HISTORY_MAX).then_some(joined)
}

impl<'a> Rollout<'a> {
    /// The number of a revision that is newer than all old ones.
    fn next_revision(&self) -> i64 {
        self.old.iter().map(|set| revision_of(set)).max().unwrap_or(0) + 1
    }

    /// Sees to it that the new ReplicaSet, if there is one, has the highest number and the Deployment's annotations.
    pub(super) fn sync_revision(&mut self) {
        let Some(new) = self.new else { return };
        for (key, value) in shared_annotations(self.owner.meta) {
            self.changes.annotate(new, &key, value);
        }
        let (next, known) = (self.next_revision(), annotation(&new.metadata, REVISION_ANNOTATION));
        // Somebody else's text in place of a number is left alone.
        let number = known.map_or(Some(0), |text| text.parse::<i64>().ok());
        if number.is_some_and(|number| number < next) {
            self.changes.annotate(new, REVISION_ANNOTATION, next.to_string());
            let known_history = annotation(&new.metadata, HISTORY_ANNOTATION).unwrap_or_default();
            if let Some(history) = known.and_then(|known| history(known_history, known)) {
                self.changes.annotate(new, HISTORY_ANNOTATION, history);
            }
        }
        self.changes
            .set_min_ready(new, self.spec.min_ready_seconds.unwrap_or(0));
        if let Some(revision) = self.changes.annotation(new, REVISION_ANNOTATION) {
            self.status.set_revision(revision.to_owned());
        }
        self.status.note_found(name_of(&new.metadata));
    }

    /// Creates the ReplicaSet of the template. The status that tells of it is written only if that went well.
    pub(super) fn create_new(&mut self) {
        if let Some(failure) = &self.seen.failure
            && self.status.note_failed_creation(&self.hash_name().0, failure)
        {
            // First people are told; the next plan, which that brings on, tries again.
            return;
        }
        let (name, hash) = self.hash_name();
        if let Some(namesake) = self.namesake(&name) {
            let is_own = controller_of(&namesake.metadata).is_some_and(|owner| owner.uid == self.owner.uid());
            if !is_own || !is_of_template(namesake, &self.spec.template) {
                self.status.note_collision();
                let message = format!("{name} is the name of another ReplicaSet: another hash is tried");
                self.draft.because.push(Reason::acts(name, "HashCollision", message));
            }
            return;
        }
        let size = self.size_of_new();
        let set = self.new_set(&name, &hash, size);
        let message = format!("{name} is created for the new template, with {size} replicas");
        self.draft.because.push(Reason::acts(&name, "Creates", message));
        let announcement = Announcement {
            done: change::told(self.owner, &name, 0, size).done.filter(|_| size > 0),
            failed: Some(Notice {
                reason: "ReplicaSetCreateError",
                message: format!("Failed to create new replica set \"{name}\":"),
            }),
            about: self.owner.target(),
        };
        let create = Action::create(Object::of(&set)).announced(announcement);
        self.status.set_revision(self.next_revision().to_string());
        self.status.note_created(&name);
        self.status
            .count(self.spec, self.all(), self.new, self.max_unavailable());
        let told = self.status.take_action();
        self.draft
            .steps
            .push(Step::Together(vec![std::iter::once(create).chain(told).collect()]));
    }

    fn namesake(&self, name: &str) -> Option<&'a ReplicaSet> {
        let sets = self.seen.replica_sets.iter().copied();
        sets.into_iter().find(|set| name_of(&set.metadata) == name)
    }

    /// Name and hash of the template's ReplicaSet.
    fn hash_name(&self) -> (String, String) {
        let collisions = self.status.collision_count();
        let hash = hash(&encode(&json!(self.spec.template)), collisions);
        (format!("{}-{hash}", self.owner.name()), hash)
    }

    fn size_of_new(&self) -> i32 {
        if self.is_rolling() {
            let room = self.size_max() - self.old.iter().map(|set| size_of(set)).sum::<i32>();
            room.clamp(0, self.wanted())
        } else {
            self.wanted()
        }
    }

    fn new_set(&self, name: &str, hash: &str, size: i32) -> ReplicaSet {
        let mut template = self.spec.template.clone();
        let meta = template.metadata.get_or_insert_default();
        let labels = meta.labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        let wanted = selector.match_labels.get_or_insert_default();
        wanted.insert(HASH_LABEL.to_owned(), hash.to_owned());
        let mut annotations = shared_annotations(self.owner.meta);
        annotations.insert(REVISION_ANNOTATION.to_owned(), self.next_revision().to_string());
        annotations.insert(DESIRED_ANNOTATION.to_owned(), self.wanted().to_string());
        annotations.insert(MAX_ANNOTATION.to_owned(), self.size_max().to_string());
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: self.owner.meta.namespace.clone(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(vec![owner_reference(self.owner.kind, self.owner.meta)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                min_ready_seconds: self.spec.min_ready_seconds,
                replicas: Some(size),
                selector,
                template: Some(template),
            }),
            status: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_drops_the_oldest_numbers() {
        assert_eq!(history("", "1").as_deref(), Some("1"));
        assert_eq!(history("1,2", "3").as_deref(), Some("1,2,3"));
        let long = vec!["1234567"; 250].join(",");
        let next = history(&long, "9").unwrap();
        assert!(next.len() <= HISTORY_MAX && next.ends_with(",9"));
    }
}
