//! `cargo xtask gen-schema DIR GO_DIR`: turns the OpenAPI v3 documents that a Kubernetes API server publishes (saved as
//! `*.json` in DIR) into `crates/api/src/schema/table.txt`: names, types, list kinds, merge keys, defaults; no prose.
//!
//! The format is explained where it is read, in `crates/api/src/schema/table.rs`.

use crate::go_schema;
use anyhow::{Context, bail};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

const PROVENANCE: &str = "\
# Facts of the Kubernetes API types, version 1.36, made by `cargo xtask gen-schema DIR GO_DIR` from the OpenAPI v3
# documents that kube-apiserver publishes under /openapi/v3, and for groups not recorded there from the Go types that it
# makes them of (Kubernetes is licensed under Apache-2.0). Do not edit.
";

/// Time fields that are pointers in the Go types, or are left out when zero; every other one is written as null.
const OPTIONAL_TIMES: [&str; 12] = [
    "creationTimestamp",
    "deletionTimestamp",
    "startTime",
    "completionTime",
    "lastScheduleTime",
    "lastSuccessfulTime",
    "lastScaleTime",
    "timeAdded",
    "renewTime",
    "acquireTime",
    "time",
    "lastPhaseTransitionTime",
];

/// Optional fields that Go writes as null when they are not set; the documents do not say so.
const NULLS: [(&str, &str); 4] = [
    ("io.k8s.api.rbac.v1.Role", "rules"),
    ("io.k8s.api.rbac.v1.ClusterRole", "rules"),
    ("io.k8s.api.discovery.v1.EndpointSlice", "ports"),
    ("io.k8s.api.authentication.v1.TokenRequestSpec", "boundObjectRef"),
];

/// Packages whose documents were not recorded.
const UNRECORDED: [&str; 8] = [
    "io.k8s.api.admissionregistration.v1.",
    "io.k8s.api.autoscaling.v2.",
    "io.k8s.api.certificates.v1.",
    "io.k8s.api.flowcontrol.v1.",
    "io.k8s.api.node.v1.",
    "io.k8s.api.resource.v1.",
    "io.k8s.api.scheduling.v1.",
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.",
];

/// Writes the table.
pub(crate) fn run(dir: &Path, go_dir: &Path) -> anyhow::Result<()> {
    let types = read_types(dir, go_dir)?;
    let mut table = PROVENANCE.to_owned();
    for (name, schema) in &types {
        write_type(&mut table, name, schema).with_context(|| format!("type {name}"))?;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent folder")?;
    std::fs::write(root.join("crates/api/src/schema/table.txt"), table).context("write the table")
}

/// All types of all documents; a type that stands in several is the same in each but for its list of kinds.
/// Those of groups whose documents were not recorded are made as upstream makes them, of the Go types.
fn read_types(dir: &Path, go_dir: &Path) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut types = BTreeMap::from_iter(go_schema::read(go_dir)?);
    types.retain(|name, _| UNRECORDED.iter().any(|package| name.starts_with(package)));
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let mut document: Value = serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
        let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas").map(Value::take) else {
            bail!("{} has no components.schemas", path.display());
        };
        types.extend(schemas);
    }
    Ok(types)
}

fn write_type(table: &mut String, name: &str, schema: &Value) -> anyhow::Result<()> {
    write!(table, "type {name} {}", form(name, schema))?;
    if let Some(kind) = schema.get("x-kubernetes-map-type").and_then(Value::as_str) {
        write!(table, " map={kind}")?;
    }
    // Options and events of the watch stand in every group; the lists differ between documents and say nothing.
    if let Some([kind]) = schema
        .get("x-kubernetes-group-version-kind")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        && !name.ends_with(".DeleteOptions")
        && !name.ends_with(".WatchEvent")
    {
        let part = |key: &str| kind.get(key).and_then(Value::as_str).unwrap_or_default();
        write!(table, " gvk={}/{}/{}", part("group"), part("version"), part("kind"))?;
    }
    table.push('\n');
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let empty = Map::new();
    for (field, schema) in schema.get("properties").and_then(Value::as_object).unwrap_or(&empty) {
        let required = required.contains(&field.as_str());
        let zero = match NULLS.contains(&(name, field.as_str())) {
            true => Some("null".to_owned()),
            false => zero(field, &type_of(schema)?, schema, required),
        };
        write_field(table, field, schema, required, zero.as_deref()).with_context(|| field.clone())?;
    }
    Ok(())
}

/// What kind of value a named type is.
fn form(name: &str, schema: &Value) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" => "quantity",
        "Time" => "time",
        "MicroTime" => "microtime",
        "IntOrString" => "int-or-string",
        _ if schema.get("properties").is_some() => "struct",
        _ if schema.get("type").is_some() => "object",
        _ => "any",
    }
}

fn write_field(
    table: &mut String,
    name: &str,
    schema: &Value,
    required: bool,
    zero: Option<&str>,
) -> anyhow::Result<()> {
    write!(table, " {name} {}", type_of(schema)?)?;
    if required {
        table.push_str(" !");
    }
    if let Some(zero) = zero {
        write!(table, " zero={zero}")?;
    }
    for (key, word) in [
        ("default", "default"),
        ("enum", "enum"),
        ("x-kubernetes-list-map-keys", "keys"),
    ] {
        if let Some(value) = schema
            .get(key)
            .or_else(|| (key == "enum").then(|| schema.pointer("/items/enum")).flatten())
        {
            // Spaces part the words of a line.
            let text = serde_json::to_string(value)?.replace(' ', "\\u0020");
            write!(table, " {word}={text}")?;
        }
    }
    for (key, word) in [
        ("x-kubernetes-list-type", "list"),
        ("x-kubernetes-map-type", "map"),
        ("x-kubernetes-patch-strategy", "patch"),
        ("x-kubernetes-patch-merge-key", "merge-key"),
    ] {
        if let Some(value) = schema.get(key).and_then(Value::as_str) {
            write!(table, " {word}={value}")?;
        }
    }
    table.push('\n');
    Ok(())
}

fn type_of(schema: &Value) -> anyhow::Result<String> {
    let word = |key: &str| schema.get(key).and_then(Value::as_str);
    let reference = word("$ref").or_else(|| schema.pointer("/allOf/0/$ref").and_then(Value::as_str));
    if let Some(reference) = reference {
        return Ok(format!("@{}", reference.rsplit('/').next().unwrap_or_default()));
    }
    Ok(match (word("type"), word("format")) {
        (Some("string"), Some("byte")) => "byte".to_owned(),
        (Some("string"), None) => "string".to_owned(),
        (Some("integer"), Some(format @ ("int32" | "int64"))) => format.to_owned(),
        (Some("number"), Some("double")) => "double".to_owned(),
        (Some("boolean"), None) => "bool".to_owned(),
        (Some("array"), None) => format!("[]{}", type_of(schema.get("items").context("array without items")?)?),
        (Some("object"), None) => match schema.get("additionalProperties") {
            Some(values) => format!("{{}}{}", type_of(values)?),
            None => "any".to_owned(),
        },
        (None, None) => "any".to_owned(),
        other => bail!("unknown type {other:?}"),
    })
}

/// What Go writes for the field when it is not set; `None` if it leaves the field out.
fn zero(name: &str, of_type: &str, schema: &Value, required: bool) -> Option<String> {
    let default = schema.get("default");
    let is_time = of_type.ends_with("meta.v1.Time") || of_type.ends_with("meta.v1.MicroTime");
    if is_time && of_type.starts_with('@') && !OPTIONAL_TIMES.contains(&name) {
        return Some("null".to_owned());
    }
    match default {
        Some(Value::String(text)) if text.is_empty() => Some("\"\"".to_owned()),
        Some(Value::Number(number)) if number.as_f64() == Some(0.0) => Some("0".to_owned()),
        Some(Value::Bool(false)) => Some("false".to_owned()),
        Some(Value::Object(fields)) if fields.is_empty() => Some("{}".to_owned()),
        None if required && of_type.ends_with("IntOrString") => Some("0".to_owned()),
        None if required => Some("null".to_owned()),
        _ => None,
    }
}
