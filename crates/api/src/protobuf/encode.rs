//! JSON objects in the protobuf form.
//!
//! Fields are written in the order of their numbers, as Go writes them. What Go writes though it says nothing (empty
//! texts, zeros that mean "absent") is left out; decoders need none of it.

use super::fields::{self, Field, Form};
use super::wire::Writer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// Appends the fields of an object as those of a message; what the message does not know is left out.
pub(super) fn message(name: &str, object: &Map<String, Value>, out: &mut Writer) {
    for (number, field) in fields::ordered(name) {
        if field.name == "~" {
            let inner = field.shape.strip_prefix('@').unwrap_or(field.shape);
            let mut part = Writer::default();
            message(inner, object, &mut part);
            if !part.is_empty() {
                out.bytes(*number, &part.into_bytes());
            }
            continue;
        }
        let Some(value) = object.get(field.name) else { continue };
        match field.form {
            Form::One => one(field, *number, value, out),
            Form::Repeated => {
                for item in value.as_array().into_iter().flatten() {
                    single(field.shape, *number, item, out);
                }
            }
            Form::Map => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    let mut entry = Writer::default();
                    entry.bytes(1, key.as_bytes());
                    single(field.shape, 2, value, &mut entry);
                    out.bytes(*number, &entry.into_bytes());
                }
            }
        }
    }
}

fn one(field: &Field, number: u32, value: &Value, out: &mut Writer) {
    let is_zero = match value {
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => value.is_empty(),
        _ => false,
    };
    // An amount, a time or a port is a message, which is there or not.
    let is_scalar = matches!(field.shape, "string" | "int" | "bool" | "double" | "bytes");
    if !(is_zero && is_scalar && !field.keeps_zero) {
        single(field.shape, number, value, out);
    }
}

/// Appends one value. A value that its shape does not allow is none: stored objects have the types of their schemas.
fn single(shape: &str, number: u32, value: &Value, out: &mut Writer) {
    if let Some(name) = shape.strip_prefix('@') {
        if let Some(object) = value.as_object() {
            out.inner(number, |inner| message(name, object, inner));
        }
        return;
    }
    match shape {
        "string" => out.text(number, value),
        "bytes" => {
            if let Some(Ok(bytes)) = value.as_str().map(|text| STANDARD.decode(text)) {
                out.bytes(number, &bytes);
            }
        }
        "int" => {
            if let Some(value) = value.as_i64() {
                out.varint(number, value.cast_unsigned());
            }
        }
        "bool" => {
            if let Some(value) = value.as_bool() {
                out.varint(number, value.into());
            }
        }
        "double" => {
            if let Some(value) = value.as_f64() {
                out.double(number, value);
            }
        }
        "quantity" => out.inner(number, |inner| match value {
            Value::Number(_) => inner.bytes(1, value.to_string().as_bytes()),
            _ => inner.text(1, value),
        }),
        "items" => out.inner(number, |inner| {
            for item in value.as_array().into_iter().flatten() {
                inner.text(1, item);
            }
        }),
        "json" if !value.is_null() => out.inner(number, |inner| inner.bytes(1, value.to_string().as_bytes())),
        "intorstring" => int_or_string(number, value, out),
        "time" | "microtime" => time(number, value, out),
        _ if shape.starts_with("schema-or-") => schema_or(shape, number, value, out),
        _ => {}
    }
}

fn int_or_string(number: u32, value: &Value, out: &mut Writer) {
    match value {
        Value::Number(_) => out.inner(number, |inner| {
            inner.varint(1, 0);
            inner.varint(2, value.as_i64().unwrap_or(0).cast_unsigned());
            inner.bytes(3, b"");
        }),
        Value::String(_) => out.inner(number, |inner| {
            inner.varint(1, 1);
            inner.varint(2, 0);
            inner.text(3, value);
        }),
        _ => {}
    }
}

fn time(number: u32, value: &Value, out: &mut Writer) {
    let Some(Ok(time)) = value.as_str().map(str::parse::<Timestamp>) else {
        return;
    };
    out.inner(number, |inner| {
        inner.varint(1, time.as_second().cast_unsigned());
        inner.varint(2, i64::from(time.subsec_nanosecond()).cast_unsigned());
    });
}

const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";

/// A schema of a custom resource, or something simpler in its place.
fn schema_or(shape: &str, number: u32, value: &Value, out: &mut Writer) {
    let schema = |number, value: &Value, inner: &mut Writer| {
        if let Some(object) = value.as_object() {
            inner.inner(number, |inner| message(SCHEMA, object, inner));
        }
    };
    out.inner(number, |inner| match (shape, value) {
        ("schema-or-array", Value::Array(items)) => items.iter().for_each(|item| schema(2, item, inner)),
        ("schema-or-strings", Value::Array(items)) => items.iter().for_each(|item| inner.text(2, item)),
        ("schema-or-bool", Value::Bool(allows)) => inner.varint(1, u64::from(*allows)),
        // A schema in place of a yes is a yes.
        ("schema-or-bool", _) => {
            inner.varint(1, 1);
            schema(2, value, inner);
        }
        _ => schema(1, value, inner),
    });
}
