//! The OpenAPI documents that clients ask for, made at run time from the schema table and k8s-openapi's descriptions.
//!
//! They describe the kinds that are served and no others. kubectl takes from them: the fields for `explain`, merge keys
//! for `apply`, and from the PATCH operations whether the server knows `dryRun` and `fieldValidation`.

mod paths;
mod prose;
mod protobuf;
mod schemas;

use crate::kinds::{Kind, kinds};
use schemas::Style;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What documents say they describe.
const TITLE: &str = "Kubernetes";
/// The version of the API.
const VERSION: &str = "v1.36";

/// `/openapi/v3`: the index of group versions. The server adds `?hash=` with the hash of the bytes that it serves.
pub fn v3_index() -> Value {
    let paths: Map<String, Value> = kinds()
        .iter()
        .map(|kind| {
            let path = group_path(kind);
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{path}")});
            (path, url)
        })
        .collect();
    json!({"paths": paths})
}

/// `/openapi/v3/api/v1` or `/openapi/v3/apis/GROUP/VERSION`; `path` is the part after `/openapi/v3/`.
pub fn v3_document(path: &str) -> Option<Value> {
    let served: Vec<&Kind> = kinds().iter().filter(|kind| group_path(kind) == path).collect();
    if served.is_empty() {
        return None;
    }
    let operations = paths::of(&served);
    let names = operations.iter().flat_map(paths::Operation::types);
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": paths::render(&operations, Style::V3),
        "components": {"schemas": schemas::render(names, Style::V3)},
    }))
}

/// `/openapi/v2` as JSON.
pub fn v2_document() -> Value {
    let served: Vec<&Kind> = kinds().iter().collect();
    let operations = paths::of(&served);
    let names = operations.iter().flat_map(paths::Operation::types);
    json!({
        "swagger": "2.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": paths::render(&operations, Style::V2),
        "definitions": schemas::render(names, Style::V2),
    })
}

/// `/openapi/v2` as the protobuf message `openapi.v2.Document` that kubectl before 1.27 asks for.
pub fn v2_protobuf() -> Vec<u8> {
    protobuf::encode(&v2_document())
}

/// Where a kind's group and version are served, without the leading slash.
fn group_path(kind: &Kind) -> String {
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
