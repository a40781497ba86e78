//! The OpenAPI documents that clients ask for, made at run time from the schema table and k8s-openapi's descriptions.
//!
//! They describe the kinds that are served and no others. kubectl takes from them: the fields for `explain`, merge keys
//! for `apply`, and from the PATCH operations whether the server knows `dryRun` and `fieldValidation`.

mod paths;
mod prose;
mod protobuf;
mod schemas;

use crate::custom;
use crate::kinds::{Kind, kinds};
use schemas::Style;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What documents say they describe.
const TITLE: &str = "Kubernetes";
/// The version of the API.
const VERSION: &str = "v1.36";

/// `/openapi/v3`: the index of group versions. The server adds `?hash=` with the hash of the bytes that it serves.
///
/// `custom` are the custom resources that are served beside the kinds of the table, here and below.
pub fn v3_index(custom: &[Arc<Kind>]) -> Value {
    let paths: Map<String, Value> = all(custom)
        .map(|kind| {
            let path = group_path(kind);
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{path}")});
            (path, url)
        })
        .collect();
    json!({"paths": paths})
}

/// `/openapi/v3/api/v1` or `/openapi/v3/apis/GROUP/VERSION`; `path` is the part after `/openapi/v3/`.
pub fn v3_document(path: &str, custom: &[Arc<Kind>]) -> Option<Value> {
    let served: Vec<&Kind> = all(custom).filter(|kind| group_path(kind) == path).collect();
    if served.is_empty() {
        return None;
    }
    let operations = paths::of(&served);
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": paths::render(&operations, Style::V3),
        "components": {"schemas": types(&served, &operations, Style::V3)},
    }))
}

/// `/openapi/v2` as JSON.
pub fn v2_document(custom: &[Arc<Kind>]) -> Value {
    let served: Vec<&Kind> = all(custom).collect();
    let operations = paths::of(&served);
    json!({
        "swagger": "2.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": paths::render(&operations, Style::V2),
        "definitions": types(&served, &operations, Style::V2),
    })
}

fn all(custom: &[Arc<Kind>]) -> impl Iterator<Item = &Kind> {
    kinds().iter().chain(custom.iter().map(Arc::as_ref))
}

/// The types of the operations: those of the table, and those that definitions make.
fn types(served: &[&Kind], operations: &[paths::Operation], style: Style) -> Value {
    let mut names: Vec<&str> = operations.iter().flat_map(paths::Operation::types).collect();
    let custom = served.iter().filter_map(|kind| Some((*kind, kind.custom.as_ref()?)));
    let made: Vec<(String, Value)> = custom
        .flat_map(|(kind, version)| custom::openapi::types(kind, version, style == Style::V2))
        .collect();
    if !made.is_empty() {
        names.extend(custom::openapi::REFERENCED);
    }
    let mut rendered = schemas::render(names.into_iter(), style);
    for (name, of) in made {
        rendered[name] = of;
    }
    rendered
}

/// `/openapi/v2` as the protobuf message `openapi.v2.Document` that kubectl before 1.27 asks for.
pub fn v2_protobuf(custom: &[Arc<Kind>]) -> Vec<u8> {
    protobuf::encode(&v2_document(custom))
}

/// Where a kind's group and version are served, without the leading slash.
pub fn group_path(kind: &Kind) -> String {
    match kind.group {
        "" => format!("api/{}", kind.version),
        group => format!("apis/{group}/{}", kind.version),
    }
}

/// All types that the named ones are made of, themselves among them.
fn closure<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for name in names {
        schemas::collect(name, &mut found);
    }
    found
}

#[cfg(test)]
mod tests;
