//! Schemas as an API server publishes them, made of the Go types it makes them of; for groups whose documents were not
//! recorded.

use crate::go_types::{Declaration, Declarations, Declared, Field, Shape};
use anyhow::bail;
use serde_json::{Value, json};
use std::path::Path;

/// The schemas of all types below a folder of Go packages.
pub(crate) fn read(dir: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let all = Declarations::read(dir)?;
    let mut schemas = Vec::new();
    for (name, entry) in &all.types {
        if let Declared::Struct(fields) = &entry.declared
            && !fields.is_empty()
        {
            schemas.push((name.clone(), schema(&all, name, entry, fields)?));
        }
    }
    Ok(schemas)
}

fn schema(all: &Declarations, name: &str, entry: &Declaration, fields: &[Field]) -> anyhow::Result<Value> {
    let mut schema = json!({"type": "object", "properties": {}});
    if entry.is_kind {
        schema["properties"] = json!({"apiVersion": {"type": "string"}, "kind": {"type": "string"}});
        let (package, kind) = name.rsplit_once('.').unwrap_or_default();
        let version = package.rsplit('.').next();
        if let Some(group) = all.groups.get(&format!("{package}.")) {
            let kinds = json!([{"group": group, "version": version, "kind": kind}]);
            schema["x-kubernetes-group-version-kind"] = kinds;
        }
    }
    if entry.markers.get("structType") == Some("atomic") {
        schema["x-kubernetes-map-type"] = json!("atomic");
    }
    let mut required = Vec::new();
    add_fields(all, fields, &mut schema, &mut required)?;
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    Ok(schema)
}

fn add_fields(
    all: &Declarations,
    fields: &[Field],
    schema: &mut Value,
    required: &mut Vec<String>,
) -> anyhow::Result<()> {
    for field in fields {
        if field.json == "-" {
            continue;
        }
        if field.json.is_empty() {
            if let Shape::Named(name) = all.resolve(&field.shape)
                && let Some(Declared::Struct(inner)) = all.types.get(name).map(|entry| &entry.declared)
            {
                add_fields(all, inner, schema, required)?;
            }
            continue;
        }
        let is_optional = field.markers.get("optional").is_some() || field.omit_empty;
        if field.markers.get("required").is_some() || !is_optional {
            required.push(field.json.clone());
        }
        schema["properties"][&field.json] = property(all, field)?;
    }
    Ok(())
}

fn property(all: &Declarations, field: &Field) -> anyhow::Result<Value> {
    let mut property = shape(all, &field.shape, field.omit_empty)?;
    let constants = all.constants(match &field.shape {
        Shape::List(inner) => inner,
        own => own,
    });
    if let Some(constants) = constants {
        let mut constants = constants.clone();
        constants.sort();
        constants.dedup();
        property["enum"] = json!(constants);
    }
    if let Some(text) = field.markers.get("default")
        && let Ok(default) = serde_json::from_str::<Value>(text)
    {
        property["default"] = default;
    }
    let keys: Vec<&str> = field.markers.all("listMapKey").collect();
    if !keys.is_empty() {
        property["x-kubernetes-list-map-keys"] = json!(keys);
    }
    for (marker, key) in [
        ("listType", "x-kubernetes-list-type"),
        ("mapType", "x-kubernetes-map-type"),
        ("structType", "x-kubernetes-map-type"),
    ] {
        if let Some(value) = field.markers.get(marker) {
            property[key] = json!(value);
        }
    }
    if let Some(strategy) = &field.patch_strategy {
        property["x-kubernetes-patch-strategy"] = json!(strategy);
    }
    if let Some(key) = &field.merge_key {
        property["x-kubernetes-patch-merge-key"] = json!(key);
    }
    Ok(property)
}

/// The schema of a type as it is used; `omit_empty` is true where no zero is written, so that there is no default.
fn shape(all: &Declarations, of: &Shape, omit_empty: bool) -> anyhow::Result<Value> {
    let with_default = |mut schema: Value, default: Value| {
        if !omit_empty {
            schema["default"] = default;
        }
        schema
    };
    Ok(match all.resolve(of) {
        Shape::Word(word) => match word.as_str() {
            "string" => with_default(json!({"type": "string"}), json!("")),
            "bool" => with_default(json!({"type": "boolean"}), json!(false)),
            "int" | "int32" => with_default(json!({"type": "integer", "format": "int32"}), json!(0)),
            "int64" => with_default(json!({"type": "integer", "format": "int64"}), json!(0)),
            "float64" => with_default(json!({"type": "number", "format": "double"}), json!(0)),
            "interface{}" => json!({}),
            _ => bail!("no schema is known for the Go type {word}"),
        },
        Shape::Pointer(inner) => shape(all, inner, true).map(|mut schema| {
            if let Some(fields) = schema.as_object_mut() {
                fields.remove("default");
            }
            schema
        })?,
        Shape::List(inner) if **inner == Shape::Word("byte".to_owned()) => json!({"type": "string", "format": "byte"}),
        Shape::List(inner) => json!({"type": "array", "items": shape(all, inner, true)?}),
        Shape::Map(inner) => json!({"type": "object", "additionalProperties": shape(all, inner, true)?}),
        Shape::Named(name) => {
            let reference = json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]});
            match all.types.get(name).map(|entry| &entry.declared) {
                Some(Declared::Struct(fields)) if fields.iter().any(|field| field.json != "-") => {
                    let mut schema = reference;
                    schema["default"] = json!({});
                    schema
                }
                _ => reference,
            }
        }
    })
}
