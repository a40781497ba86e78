//! ControllerRevisions of a DaemonSet: which one the template is, which are history.

use std::collections::BTreeSet;

use api::k8s::api::apps::v1::ControllerRevision;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::k8s::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::claiming::Owner;
use crate::pods::name_of;
use crate::statefulset::{canonical::encode, data_of, hash};
use crate::{Action, Object, Plan, Reason, Step, Target, owner_reference};

use super::{HASH_LABEL, Observed, Work};

/// The revisions of a set.
#[derive(Debug)]
pub(super) struct History<'a> {
    /// The hash that new pods are labelled with.
    pub(super) hash: String,
    /// All hashes that mean the template as it is.
    pub(super) hashes: BTreeSet<String>,
    /// The revisions of other templates, the oldest first.
    pub(super) old: Vec<&'a ControllerRevision>,
    /// What brings the template's revision about: its creation, or its becoming the newest.
    pub(super) action: Option<Action>,
}

impl<'a> History<'a> {
    /// The history; or the plan that must come before anything else.
    pub(super) fn of(seen: &Observed<'a>, owner: Owner<'a>, own: &[&'a ControllerRevision]) -> Result<Self, Box<Plan>> {
        if let Some(nameless) = own.iter().find(|known| hash_of(known).is_none()) {
            return Err(Box::new(labelled(nameless)));
        }
        let data = data_of(seen.template);
        let encoded = encode(&data);
        let is_current = |known: &&&ControllerRevision| encode(&data_in(known)) == encoded;
        let mut current: Vec<&ControllerRevision> = own.iter().filter(is_current).copied().collect();
        let mut old: Vec<&ControllerRevision> = own.iter().filter(|known| !is_current(known)).copied().collect();
        current.sort_by_key(|known| known.revision);
        old.sort_by_key(|known| known.revision);
        let number = old.last().map_or(0, |newest| newest.revision) + 1;
        let hashes = current
            .iter()
            .filter_map(|known| hash_of(known))
            .map(str::to_owned)
            .collect();
        if let Some(newest) = current.last() {
            let patch = (newest.revision < number).then(|| json!({ "revision": number }));
            return Ok(Self {
                hash: hash_of(newest).unwrap_or_default().to_owned(),
                hashes,
                old,
                action: patch.map(|patch| Action::patch(Target::of(*newest), patch)),
            });
        }
        let collisions = seen
            .set
            .status
            .as_ref()
            .and_then(|status| status.collision_count)
            .unwrap_or(0);
        let hash = hash(&encoded, collisions);
        let name = format!("{}-{hash}", owner.name());
        if seen.revisions.iter().any(|known| name_of(&known.metadata) == name) {
            return Err(Box::new(collided(owner, &name, collisions)));
        }
        let revision = new_revision(seen, owner, &name, &hash, data, number);
        Ok(Self {
            hashes: BTreeSet::from([hash.clone()]),
            hash,
            old,
            action: Some(Action::create(Object::of(&revision))),
        })
    }
}

/// A revision without the label gets its own name for one.
fn labelled(revision: &ControllerRevision) -> Plan {
    let name = name_of(&revision.metadata);
    let patch = json!({ "metadata": { "labels": { HASH_LABEL: name } } });
    Plan {
        steps: vec![Step::One(Action::patch(Target::of(revision), patch))],
        because: vec![Reason::acts(
            name,
            "Labels",
            format!("{name} lacks the label with its hash"),
        )],
        ..Plan::default()
    }
}

/// The name belongs to another revision: another hash is tried.
fn collided(owner: Owner<'_>, name: &str, collisions: i32) -> Plan {
    let patch = json!({ "status": { "collisionCount": collisions + 1 } });
    let message = format!("{name} is the name of another revision: another hash is tried");
    Plan {
        status: Some(Action::patch_status(owner.target(), patch)),
        because: vec![Reason::acts(owner.name(), "HashCollision", message)],
        ..Plan::default()
    }
}

fn new_revision(
    seen: &Observed<'_>,
    owner: Owner<'_>,
    name: &str,
    hash: &str,
    data: Value,
    number: i64,
) -> ControllerRevision {
    let template = seen.set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    let mut labels = template.and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: owner.meta.namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta.annotations.clone(),
            owner_references: Some(vec![owner_reference(owner.kind, owner.meta)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

fn hash_of(revision: &ControllerRevision) -> Option<&str> {
    let labels = revision.metadata.labels.as_ref()?;
    labels.get(HASH_LABEL).map(String::as_str)
}

fn data_in(revision: &ControllerRevision) -> Value {
    revision.data.as_ref().map_or(Value::Null, |data| data.0.clone())
}

impl Work<'_> {
    /// Deletes revisions beyond the history that is to be kept, the oldest first, unless pods are of them.
    pub(super) fn forget_history(&mut self) {
        let limit = self.spec.revision_history_limit.unwrap_or(10);
        let surplus = self
            .history
            .old
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        let labels = self
            .pods
            .values()
            .flatten()
            .filter_map(|pod| pod.metadata.labels.as_ref());
        let in_use: BTreeSet<&str> = labels
            .filter_map(|labels| labels.get(HASH_LABEL))
            .map(String::as_str)
            .collect();
        let is_free = |known: &&&ControllerRevision| hash_of(known).is_none_or(|hash| !in_use.contains(hash));
        let forgotten: Vec<_> = self.history.old.iter().filter(is_free).take(surplus).copied().collect();
        for known in forgotten {
            let name = name_of(&known.metadata);
            let message = format!("{name} is history beyond revisionHistoryLimit {limit}");
            self.draft.because.push(Reason::acts(name, "ForgetsHistory", message));
            self.draft.steps.push(Step::One(Action::delete(Target::of(known))));
        }
    }
}
