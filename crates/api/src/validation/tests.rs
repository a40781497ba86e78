//! Validation, rule by rule of the contract and against the bodies that kube-apiserver 1.36 answered.

use super::*;
use crate::error::{FieldErrorType, Status};
use crate::kinds::by_resource;
use crate::{defaults, strategy};
use serde_json::json;

mod distorted;
mod jobs;
mod objects;
mod pods;
mod statefulsets;

fn kind(group: &str, plural: &str) -> &'static Kind {
    by_resource(group, "v1", plural).unwrap()
}

/// An object as it is when it is validated.
fn ready(kind: &Kind, manifest: &Value) -> Value {
    let mut object = manifest.clone();
    if kind.namespaced && object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = json!("default");
    }
    defaults::apply(kind, &mut object);
    strategy::prepare_create(kind, &mut object);
    object
}

/// The errors of creating a manifest, as people see them.
fn created(kind: &Kind, manifest: &Value) -> Vec<String> {
    create(kind, &ready(kind, manifest))
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The errors of replacing one manifest's object by another's.
fn replaced(kind: &Kind, old: &Value, new: &Value) -> Vec<String> {
    let old = ready(kind, old);
    let mut new = new.clone();
    if kind.namespaced && new["metadata"]["namespace"].is_null() {
        new["metadata"]["namespace"] = json!("default");
    }
    defaults::apply(kind, &mut new);
    strategy::prepare_update(kind, &mut new, &old);
    update(kind, &new, &old).iter().map(ToString::to_string).collect()
}

/// A copy with one value changed.
fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = object.clone();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = changed
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{pointer} has no parent"));
    match parent {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
        _ => parent[field] = value,
    }
    changed
}
