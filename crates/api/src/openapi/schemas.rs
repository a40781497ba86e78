//! The types of a document: the schema table in OpenAPI's words.

use super::closure;
use super::prose::Prose;
use crate::schema::table::{self, Field, Form, Shape, Type};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Which OpenAPI a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    V2,
    V3,
}

impl Style {
    /// A reference to a type.
    pub(super) fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// The named types and all that they are made of.
pub(super) fn render<'a>(names: impl Iterator<Item = &'a str>, style: Style) -> Value {
    let wanted = closure(names);
    let prose = Prose::of(&wanted);
    let types = wanted.iter().filter_map(|name| table::by_name(name));
    types
        .map(|of| (of.name.to_owned(), render_type(of, &prose, style)))
        .collect::<Map<String, Value>>()
        .into()
}

/// Adds the type and all that it is made of.
pub(super) fn collect(name: &str, found: &mut BTreeSet<&'static str>) {
    let Some(of) = table::by_name(name) else { return };
    if found.insert(of.name) {
        for field in &of.fields {
            if let Some(of) = innermost(&field.shape) {
                collect(of.name, found);
            }
        }
    }
}

/// The named type that a field, the items of a list or the values of a map have.
fn innermost(shape: &Shape) -> Option<&'static Type> {
    match shape {
        Shape::Named(id) => Some(table::by_id(*id)),
        Shape::Array(inner) | Shape::Map(inner) => innermost(inner),
        _ => None,
    }
}

fn render_type(of: &Type, prose: &Prose, style: Style) -> Value {
    let mut schema = form(of.form, style);
    let item = of
        .name
        .strip_suffix("List")
        .filter(|item| table::by_name(item).is_some());
    let text = match item {
        Some(_) => Some(format!("{} is a list of objects.", of.short_name())),
        None => prose.get(of.name, "").map(str::to_owned),
    };
    schema.extend(text.map(|text| ("description".to_owned(), text.into())));
    // What is to say of the fields of a list is what is to say of its items' (kind and so on).
    let text_of = |field: &'static str| match (item, field) {
        (Some(_), "items") => Some("The objects."),
        (Some(item), field) => prose.get(item, field),
        (None, field) => prose.get(of.name, field),
    };
    let properties: Map<String, Value> = of
        .fields
        .iter()
        .map(|field| (field.name.to_owned(), render_field(field, text_of(field.name), style)))
        .collect();
    let required: Vec<&str> = of
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    if !properties.is_empty() {
        schema.insert("properties".to_owned(), properties.into());
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    if of.atomic {
        schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    if let Some([group, version, kind]) = of.kind {
        let kind = json!([{"group": group, "version": version, "kind": kind}]);
        schema.insert("x-kubernetes-group-version-kind".to_owned(), kind);
    }
    schema.into()
}

fn form(form: Form, style: Style) -> Map<String, Value> {
    let schema = match (form, style) {
        (Form::Struct | Form::Object, _) => json!({"type": "object"}),
        (Form::Any, _) => json!({}),
        (Form::Quantity, Style::V2) => json!({"type": "string"}),
        (Form::Quantity, Style::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (Form::Time | Form::MicroTime, _) => json!({"type": "string", "format": "date-time"}),
        (Form::IntOrString, Style::V2) => json!({"type": "string", "format": "int-or-string"}),
        (Form::IntOrString, Style::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
    };
    schema.as_object().cloned().unwrap_or_default()
}

fn render_field(field: &Field, text: Option<&str>, style: Style) -> Value {
    let mut schema = render_shape(&field.shape, style);
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    if style == Style::V3 && matches!(field.shape, Shape::Named(_)) {
        // Beside a plain reference nothing else counts.
        schema = json!({"allOf": [schema]});
    }
    if style == Style::V3
        && let Some(allowed) = field.allowed.map(json)
    {
        let place = if matches!(field.shape, Shape::Array(_)) {
            &mut schema["items"]
        } else {
            &mut schema
        };
        place["enum"] = allowed;
    }
    let mut add = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            schema[key] = value;
        }
    };
    add("description", text.map(Value::from));
    if style == Style::V3 {
        add("default", field.default.map(json));
    }
    if let table::ListKind::Map(keys) = &field.list
        && field.list_type.is_some()
    {
        add("x-kubernetes-list-map-keys", Some(json!(keys)));
    }
    add("x-kubernetes-list-type", field.list_type.map(Value::from));
    add("x-kubernetes-map-type", field.map_type.map(Value::from));
    add("x-kubernetes-patch-merge-key", field.merge_key.map(Value::from));
    add("x-kubernetes-patch-strategy", field.patch.map(Value::from));
    schema
}

fn render_shape(shape: &Shape, style: Style) -> Value {
    match shape {
        Shape::String => json!({"type": "string"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Double => json!({"type": "number", "format": "double"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Byte => json!({"type": "string", "format": "byte"}),
        Shape::Any => json!({"type": "object"}),
        Shape::Named(id) => style.reference(table::by_id(*id).name),
        Shape::Array(item) => json!({"type": "array", "items": render_shape(item, style)}),
        Shape::Map(value) => json!({"type": "object", "additionalProperties": render_shape(value, style)}),
    }
}
