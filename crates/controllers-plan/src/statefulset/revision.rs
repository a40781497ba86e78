//! ControllerRevisions: what they record, what they are called, which one is wanted, which are history (A6).

use std::collections::{BTreeMap, BTreeSet};

use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::k8s::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::{Action, Guard, Kind, Object, Target, controller_of, owner_reference};

use super::canonical::encode;
use super::membership::SetSelector;
use super::{Observed, uid_of};

/// The label with a revision's hash.
pub const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// The letters that hashes are written in: no vowels, so no words; nothing that looks like something else.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A revision's name is cut so that name, dash and hash have place in 253 characters.
const PREFIX_MAX: usize = 223;

/// How many names are tried for a revision whose name is taken.
const COLLISIONS_MAX: i32 = 100;

/// The revision data of a template (A6.1).
pub fn data_of(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".to_owned(), json!("replace"));
    }
    json!({ "spec": { "template": template } })
}

/// The template in a revision's data.
pub(super) fn template_of(data: &Value) -> Option<Value> {
    let mut template = data.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    Some(template)
}

/// The hash of revision data (A6.2).
pub fn hash(data: &str, collision_count: i32) -> String {
    let bytes = data.bytes().chain(collision_count.to_string().into_bytes());
    // FNV-1, 32 bits.
    let sum = bytes.fold(0x811c_9dc5_u32, |sum, byte| {
        sum.wrapping_mul(0x0100_0193) ^ u32::from(byte)
    });
    sum.to_string()
        .bytes()
        .map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()]))
        .collect()
}

/// The name of a set's revision with this hash (A6.2).
pub fn name(set_name: &str, hash: &str) -> String {
    let cut = set_name
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| *at >= PREFIX_MAX)
        .unwrap_or(set_name.len());
    format!("{}-{hash}", &set_name[..cut])
}

/// The revisions of a set: those it has, the one its template is, and what to do about them.
#[derive(Debug)]
pub(crate) struct Revisions<'a> {
    /// Its own and those it may adopt, by number, age and name.
    pub(crate) known: Vec<&'a ControllerRevision>,
    /// Those of `known` that have no controller yet.
    pub(crate) orphans: Vec<&'a ControllerRevision>,
    /// The name of the revision that the set's template is.
    pub(crate) update: String,
    /// The name of the revision that the set comes from; the same if there is none else.
    pub(crate) current: String,
    /// The template of the current revision, if it is not that of the set.
    pub(crate) current_template: Option<Value>,
    /// How many names were found taken.
    pub(crate) collision_count: i32,
    /// What brings the update revision about: its creation, or its becoming the newest.
    pub(crate) action: Option<Action>,
}

impl<'a> Revisions<'a> {
    pub(crate) fn of(seen: &Observed<'a>, selector: &SetSelector) -> Self {
        let (known, orphans) = known(seen, selector);
        let status = seen.set.status.clone().unwrap_or_default();
        let data = data_of(seen.template);
        let wanted = choose(seen, &known, &data, status.collision_count.unwrap_or(0));
        let current = status
            .current_revision
            .filter(|name| known.iter().any(|known| name_of(known) == name));
        let current = current.unwrap_or_else(|| wanted.name.clone());
        let current_data = known
            .iter()
            .find(|known| name_of(known) == current)
            .filter(|_| current != wanted.name);
        let current_template = current_data.and_then(|known| template_of(&data_in(known)));
        let Wanted {
            name: update,
            collision_count,
            action,
        } = wanted;
        Self {
            known,
            orphans,
            update,
            current,
            current_template,
            collision_count,
            action,
        }
    }

    /// The steps that make the orphans the set's own (A5.6).
    pub(crate) fn adoptions(&self, set: &StatefulSet) -> Vec<Action> {
        self.orphans
            .iter()
            .map(|orphan| super::membership::adopt(set, Target::of(*orphan), &orphan.metadata))
            .collect()
    }

    /// The steps that forget old history (A6.7). `in_use` are revisions that pods are of.
    pub(crate) fn truncation(&self, set: &StatefulSet, in_use: &BTreeSet<&str>) -> Vec<Action> {
        let limit = set
            .spec
            .as_ref()
            .and_then(|spec| spec.revision_history_limit)
            .unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else {
            return Vec::new();
        };
        let is_live = |name: &str| name == self.update || name == self.current || in_use.contains(name);
        let old: Vec<_> = self.known.iter().filter(|known| !is_live(name_of(known))).collect();
        let surplus = old.len().saturating_sub(limit);
        old[..surplus]
            .iter()
            .map(|known| Action::delete(Target::of(**known)))
            .collect()
    }
}

fn known<'a>(
    seen: &Observed<'a>,
    selector: &SetSelector,
) -> (Vec<&'a ControllerRevision>, Vec<&'a ControllerRevision>) {
    let own_uid = uid_of(&seen.set.metadata);
    let is_own = |meta: &ObjectMeta| controller_of(meta).is_some_and(|owner| owner.uid == own_uid);
    let is_orphan = |meta: &ObjectMeta| {
        controller_of(meta).is_none() && meta.deletion_timestamp.is_none() && selector.selects(meta.labels.as_ref())
    };
    let mut known = seen.revisions.clone();
    known.retain(|known| is_own(&known.metadata) || is_orphan(&known.metadata));
    known.sort_by_key(|known| {
        let meta = &known.metadata;
        (
            known.revision,
            meta.creation_timestamp.as_ref().map(|time| time.0),
            meta.name.clone(),
        )
    });
    let orphans = known.iter().copied().filter(|known| !is_own(&known.metadata)).collect();
    (known, orphans)
}

struct Wanted {
    name: String,
    collision_count: i32,
    action: Option<Action>,
}

/// Which revision the template is (A6.5).
fn choose(seen: &Observed<'_>, known: &[&ControllerRevision], data: &Value, collision_count: i32) -> Wanted {
    let encoded = encode(data);
    let newest = known.last();
    let number_max = newest.map_or(0, |newest| newest.revision);
    let as_it_is = |name: &str| Wanted {
        name: name.to_owned(),
        collision_count,
        action: None,
    };
    let equal = known.iter().rev().find(|known| encode(&data_in(known)) == encoded);
    match (equal, newest) {
        (Some(equal), Some(newest)) if name_of(equal) == name_of(newest) => as_it_is(name_of(equal)),
        (Some(equal), _) => {
            let patch = json!({ "revision": number_max + 1 });
            Wanted {
                action: Some(Action::patch(Target::of(*equal), patch)),
                ..as_it_is(name_of(equal))
            }
        }
        (None, Some(newest)) if means_the_same(seen, &data_in(newest)) => as_it_is(name_of(newest)),
        (None, _) => create(seen, data, &encoded, number_max + 1, collision_count),
    }
}

/// Whether a revision differs from the set's template only by what defaulting fills in (A6.5.3).
fn means_the_same(seen: &Observed<'_>, data: &Value) -> bool {
    let Some(kind) = api::kinds::by_kind("apps/v1", "StatefulSet") else {
        return false;
    };
    let Some(template) = template_of(data) else {
        return false;
    };
    let Ok(mut set) = serde_json::to_value(seen.set) else {
        return false;
    };
    set["spec"]["template"] = template;
    api::defaults::apply(kind, &mut set);
    encode(&set["spec"]["template"]) == encode(seen.template)
}

fn create(seen: &Observed<'_>, data: &Value, encoded: &str, number: i64, collision_count: i32) -> Wanted {
    let set_name = seen.set.metadata.name.as_deref().unwrap_or_default();
    let first_hash = hash(encoded, collision_count);
    for collision_count in collision_count..=collision_count.saturating_add(COLLISIONS_MAX) {
        let name = name(set_name, &hash(encoded, collision_count));
        let namesake = seen.revisions.iter().find(|known| name_of(known) == name);
        match namesake {
            // Somebody else's, e.g. that of a set of the same name that is being collected: right as long as it lasts.
            Some(namesake) if encode(&data_in(namesake)) == encoded => {
                return Wanted {
                    name,
                    collision_count,
                    action: None,
                };
            }
            Some(_) => {}
            None => {
                let revision = new_revision(seen.set, &name, &first_hash, data, number);
                return Wanted {
                    name,
                    collision_count,
                    // The revisions of a set that is gone are collected: whoever has not heard of it would make
                    // them again and again, and pods at the wrong one.
                    action: Some(Action::create(Object::of(&revision)).guarded(Guard::Alive(Target::of(seen.set)))),
                };
            }
        }
    }
    // So many taken names are no accident; without a revision nothing is created until some are gone.
    Wanted {
        name: name(set_name, &first_hash),
        collision_count,
        action: None,
    }
}

fn new_revision(set: &StatefulSet, name: &str, hash: &str, data: &Value, number: i64) -> ControllerRevision {
    let template_labels = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
    let mut labels: BTreeMap<String, String> = template_labels.unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: set.metadata.annotations.clone(),
            owner_references: Some(vec![owner_reference(Kind::of::<StatefulSet>(), &set.metadata)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data.clone())),
        revision: number,
    }
}

fn name_of(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

fn data_in(revision: &ControllerRevision) -> Value {
    revision.data.as_ref().map_or(Value::Null, |data| data.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> Value {
        json!({
            "metadata": { "annotations": { "test": "value" }, "labels": { "app": "foo" } },
            "spec": {
                "containers": [{
                    "image": "test", "imagePullPolicy": "Always", "name": "test", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30,
            },
        })
    }

    #[test]
    fn a6_2_names_are_those_of_upstream_s_fixtures() {
        let name_of = |template: &Value| name("test", &hash(&encode(&data_of(template)), 0));
        assert_eq!(name_of(&fixture()), "test-776999688b");
        let mut older = fixture();
        older["metadata"]["creationTimestamp"] = Value::Null;
        assert_eq!(name_of(&older), "test-c77f6d978");
    }

    #[test]
    fn a6_2_long_names_are_cut() {
        assert_eq!(name(&"x".repeat(300), "abc").len(), 223 + 1 + 3);
    }

    #[test]
    fn a6_1_data_holds_the_template_and_only_that() {
        let data = data_of(&fixture());
        assert_eq!(data["spec"]["template"]["$patch"], "replace");
        assert_eq!(template_of(&data), Some(fixture()));
    }
}
