//! What is to become of ReplicaSets: all that is decided of one goes into one write.

use std::collections::BTreeMap;

use api::k8s::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use crate::claiming::Owner;
use crate::{Action, Announcement, Notice, Plan, Step, Target};

/// The changes of ReplicaSets that have been decided, by name.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    changes: BTreeMap<&'a str, Change<'a>>,
    /// In the order in which they came up.
    order: Vec<&'a str>,
}

#[derive(Debug)]
struct Change<'a> {
    set: &'a ReplicaSet,
    size: Option<i32>,
    min_ready_s: Option<i32>,
    annotations: BTreeMap<String, String>,
}

/// The number of replicas in a ReplicaSet's spec.
pub(super) fn size_of(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

impl<'a> Changes<'a> {
    /// Whether nothing is to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The size that a ReplicaSet will have.
    pub(super) fn size(&self, set: &ReplicaSet) -> i32 {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let changed = self.changes.get(name).and_then(|change| change.size);
        changed.unwrap_or_else(|| size_of(set))
    }

    /// An annotation that a ReplicaSet will have.
    pub(super) fn annotation<'b>(&'b self, set: &'b ReplicaSet, key: &str) -> Option<&'b str> {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let changed = self.changes.get(name).and_then(|change| change.annotations.get(key));
        let stored = || set.metadata.annotations.as_ref()?.get(key);
        changed.or_else(stored).map(String::as_str)
    }

    pub(super) fn resize(&mut self, set: &'a ReplicaSet, size: i32) {
        self.change(set).size = Some(size).filter(|size| *size != size_of(set));
    }

    /// Sets an annotation if it is another one.
    pub(super) fn annotate(&mut self, set: &'a ReplicaSet, key: &str, value: String) {
        if self.annotation(set, key) != Some(&value) {
            self.change(set).annotations.insert(key.to_owned(), value);
        }
    }

    /// Sets the seconds after which its pods count as available, if they are others.
    pub(super) fn set_min_ready(&mut self, set: &'a ReplicaSet, min_ready_s: i32) {
        if set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0) != min_ready_s {
            self.change(set).min_ready_s = Some(min_ready_s);
        }
    }

    fn change(&mut self, set: &'a ReplicaSet) -> &mut Change<'a> {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        if !self.changes.contains_key(name) {
            self.order.push(name);
        }
        self.changes.entry(name).or_insert_with(|| Change {
            set,
            size: None,
            min_ready_s: None,
            annotations: BTreeMap::new(),
        })
    }

    /// The writes, in the order in which they were decided.
    pub(super) fn conclude(&self, owner: Owner<'_>, draft: &mut Plan) {
        for name in &self.order {
            let change = &self.changes[name];
            let mut patch = json!({});
            if !change.annotations.is_empty() {
                patch["metadata"]["annotations"] = json!(change.annotations);
            }
            for (field, value) in [("replicas", change.size), ("minReadySeconds", change.min_ready_s)] {
                if let Some(value) = value {
                    patch["spec"][field] = json!(value);
                }
            }
            if patch != Value::Object(serde_json::Map::new()) {
                let action = Action::patch(Target::of(change.set), patch);
                draft.steps.push(Step::One(match change.size {
                    Some(size) => action.announced(told(owner, name, size_of(change.set), size)),
                    None => action,
                }));
            }
        }
    }
}

/// The event about a change of size.
pub(super) fn told(owner: Owner<'_>, name: &str, from: i32, to: i32) -> Announcement {
    let direction = if from < to { "up" } else { "down" };
    Announcement {
        about: owner.target(),
        done: Some(Notice {
            reason: "ScalingReplicaSet",
            message: format!("Scaled {direction} replica set {name} from {from} to {to}"),
        }),
        failed: None,
    }
}
