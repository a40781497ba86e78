//! Default values, materialised in the stored object as upstream does.
//!
//! Defaults belong to types, not to places: a container gets the same ones in a pod, in a template and in a template
//! of a template. So one walk over the object by its schema does them all; what only some places have (a pod's
//! requests from its limits, a claim template's kind) is done by the type around it, which the walk meets first.

mod canonical;
mod configuration;
mod containers;
mod images;
mod network;
mod pods;
mod rights;
mod storage;
mod workloads;

use crate::custom;
use crate::kinds::Kind;
use crate::schema;
use serde_json::Value;

/// Fills in the defaults of an object and brings quantities and times into canonical form. Idempotent.
pub fn apply(kind: &Kind, object: &mut Value) {
    if let Some(version) = &kind.custom {
        settle_metadata(object);
        version.fill_defaults(object);
        return;
    }
    if custom::is_definition(kind) {
        custom::definition::fill_defaults(object);
    }
    // Structs that Go always has get their defaults even where the client left them out.
    schema::fill_zero(kind.schema, object);
    schema::for_each_named(kind.schema, object, &mut |name, value| {
        canonical::drop_zero(short(name), value);
        by_type(short(name), value);
    });
    // What was dropped as zero, and what the defaults made, is shown as Go shows it.
    schema::fill_zero(kind.schema, object);
    canonical::quantities_and_times(kind.schema, object);
}

/// Metadata have the form that Go gives them whatever they belong to.
fn settle_metadata(object: &mut Value) {
    const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let Some(metadata) = object.get_mut("metadata") else {
        return;
    };
    schema::for_each_named(OBJECT_META, metadata, &mut |name, value| {
        canonical::drop_zero(short(name), value);
    });
    canonical::quantities_and_times(OBJECT_META, metadata);
}

/// A published schema's name without the part that all of them share: `core.v1.Pod`.
fn short(name: &str) -> &str {
    name.strip_prefix("io.k8s.api.").unwrap_or(name)
}

/// The defaults of one value of a type. What is inside it is not done yet.
fn by_type(name: &str, value: &mut Value) {
    if !value.is_object() {
        return;
    }
    pods::apply(name, value);
    containers::apply(name, value);
    workloads::apply(name, value);
    network::apply(name, value);
    storage::apply(name, value);
    rights::apply(name, value);
    configuration::apply(name, value);
}

/// Sets a field that is absent or null.
fn set_absent(object: &mut Value, field: &str, value: impl Into<Value>) {
    if object[field].is_null() {
        object[field] = value.into();
    }
}

/// Sets a field that is absent, null, empty or 0: what Go cannot tell from a field that was not given.
fn set_zero(object: &mut Value, field: &str, value: impl Into<Value>) {
    let is_zero = match &object[field] {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    };
    if is_zero {
        object[field] = value.into();
    }
}

/// The items of a list, or nothing.
fn items<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests;
