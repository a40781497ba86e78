//! The protobuf form of objects, which Go clients speak by default, from and to the JSON that everything else works on.
//!
//! A body is four bytes of magic and an envelope that names the type and holds the object:
//!
//! ```text
//! "k8s\0" Unknown { 1: TypeMeta { 1: apiVersion, 2: kind }, 2: raw }
//! ```
//!
//! Kinds of custom resources have no such form.

mod encode;
mod fields;
mod wire;

use crate::kinds::{self, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fields::{Field, Form};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use wire::{Reader, Wire, Writer};

/// The media type of such bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The media type of a watch: frames of a length (four bytes, the largest first) and an event.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

const MAGIC: &[u8] = b"k8s\0";

/// How deep messages may be nested; no served type comes near.
const DEPTH_MAX: usize = 64;

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The magic is missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    /// A length points behind the end.
    #[error("unexpected EOF")]
    End,
    /// A field is written as another type than it has.
    #[error("proto: wrong wire type for field {0}")]
    WireType(u32),
    /// A text is not UTF-8.
    #[error("proto: field {0} is not valid text")]
    Text(u32),
    /// The envelope names a kind that has no such form.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    Kind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// Messages lie in messages without an end.
    #[error("proto: messages are nested too deeply")]
    Depth,
    /// What is JSON inside is none.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Json(String),
}

/// Decodes a body into the object it stands for, with `apiVersion` and `kind`.
///
/// # Errors
/// When the bytes are no object of a known kind.
pub fn decode(body: &[u8]) -> Result<Value, Error> {
    let envelope = body.strip_prefix(MAGIC).ok_or(Error::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(envelope);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(type_meta)) => {
                let mut reader = Reader::new(type_meta);
                while let Some((number, wire)) = reader.next()? {
                    match number {
                        1 => api_version = wire.text(number)?.to_owned(),
                        2 => kind = wire.text(number)?.to_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let Some(message) = message_name(&api_version, &kind) else {
        return Err(Error::Kind { api_version, kind });
    };
    let mut object = message_object(&message, raw, 0)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object))
}

/// Encodes an object that has `kind` and `apiVersion`; `None` if its kind has no protobuf form.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let (api_version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    let fields = object.as_object()?;
    let mut raw = Writer::default();
    match kind.strip_suffix("List").filter(|_| object["items"].is_array()) {
        Some(item) => {
            let message = message_name(api_version, item)?;
            list(&message, &object["metadata"], fields["items"].as_array()?, &mut raw);
        }
        None => encode::message(&message_name(api_version, kind)?, fields, &mut raw),
    }
    Some(envelope(api_version, kind, &raw.into_bytes()))
}

/// The message of a list: its metadata and its items, which have no envelopes.
fn list(message: &str, metadata: &Value, items: &[Value], out: &mut Writer) {
    let nothing = Map::new();
    out.inner(1, |inner| {
        encode::message("meta.v1.ListMeta", metadata.as_object().unwrap_or(&nothing), inner);
    });
    for item in items {
        out.inner(2, |inner| {
            encode::message(message, item.as_object().unwrap_or(&nothing), inner)
        });
    }
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.inner(1, |type_meta| {
        type_meta.bytes(1, api_version.as_bytes());
        type_meta.bytes(2, kind.as_bytes());
    });
    out.bytes(2, raw);
    out.bytes(3, b"");
    out.bytes(4, b"");
    [MAGIC, &out.into_bytes()].concat()
}

/// The frame of a watch event.
pub fn frame(event_type: &str, object: &Value) -> Option<Vec<u8>> {
    let object = encode(object)?;
    let mut event = Writer::default();
    event.bytes(1, event_type.as_bytes());
    event.inner(2, |extension| extension.bytes(1, &object));
    let event = event.into_bytes();
    let length = u32::try_from(event.len()).ok()?;
    Some([&length.to_be_bytes()[..], &event].concat())
}

/// Whether objects of a kind have a protobuf form.
pub fn knows(kind: &Kind) -> bool {
    kind.custom.is_none() && fields::of(of_schema(kind.schema)).is_some()
}

/// The message of a kind. What is no resource of its own is known by its name.
fn message_name(api_version: &str, kind: &str) -> Option<String> {
    let schema = match kind {
        // Every group has its own name for these.
        "DeleteOptions" | "Status" | "PartialObjectMetadata" => format!("meta.v1.{kind}"),
        "Binding" => "core.v1.Binding".to_owned(),
        "Eviction" => "policy.v1.Eviction".to_owned(),
        "Scale" => "autoscaling.v1.Scale".to_owned(),
        _ if api_version == "authentication.k8s.io/v1" => format!("authentication.v1.{kind}"),
        _ if api_version == "authorization.k8s.io/v1" => format!("authorization.v1.{kind}"),
        _ => of_schema(kinds::by_kind(api_version, kind)?.schema).to_owned(),
    };
    fields::of(&schema).is_some().then_some(schema)
}

/// The message of a schema: the last three parts of its name, e.g. `apps.v1.StatefulSet`.
fn of_schema(schema: &str) -> &str {
    let start = schema.rmatch_indices('.').nth(2).map_or(0, |(at, _)| at + 1);
    &schema[start..]
}

fn message_object(message: &str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Error> {
    let mut object = Map::new();
    read_message(message, bytes, depth, &mut object)?;
    Ok(object)
}

/// Reads the fields of a message into a JSON object, which may have fields already.
fn read_message(message: &str, bytes: &[u8], depth: usize, object: &mut Map<String, Value>) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Depth);
    }
    let known = fields::of(message);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        // What is not known is newer than this server, and ignored as upstream does.
        let Some(field) = known.and_then(|fields| fields.get(&number)) else {
            continue;
        };
        match field.form {
            Form::One => one(field, number, &wire, depth, object)?,
            Form::Repeated => repeated(field, number, &wire, depth, object)?,
            Form::Map => map_entry(field, number, &wire, depth, object)?,
        }
    }
    Ok(())
}

fn one(
    field: &Field,
    number: u32,
    wire: &Wire<'_>,
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), Error> {
    if field.name == "~" {
        let message = field.shape.strip_prefix('@').unwrap_or(field.shape);
        return read_message(message, wire.bytes(number)?, depth + 1, object);
    }
    let value = single(field.shape, number, wire, depth)?;
    let is_zero = match &value {
        Value::Null => true,
        Value::Bool(value) => !value && !field.keeps_zero,
        Value::Number(value) => value.as_f64() == Some(0.0) && !field.keeps_zero,
        Value::String(value) => value.is_empty() && !field.keeps_zero,
        Value::Array(_) | Value::Object(_) => false,
    };
    if !is_zero {
        object.insert(field.name.to_owned(), value);
    }
    Ok(())
}

fn repeated(
    field: &Field,
    number: u32,
    wire: &Wire<'_>,
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), Error> {
    let items = object.entry(field.name).or_insert_with(|| json!([]));
    let Some(items) = items.as_array_mut() else {
        return Ok(());
    };
    match wire {
        // Numbers may be packed.
        Wire::Bytes(packed) if field.shape == "int" => {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                items.push(json!(reader.varint()?.cast_signed()));
            }
        }
        _ => items.push(single(field.shape, number, wire, depth)?),
    }
    Ok(())
}

fn map_entry(
    field: &Field,
    number: u32,
    wire: &Wire<'_>,
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), Error> {
    let mut key = String::new();
    let mut value = match field.shape {
        "string" | "bytes" => json!(""),
        "quantity" => json!("0"),
        "items" => json!([]),
        shape if shape.starts_with('@') => json!({}),
        _ => Value::Null,
    };
    let mut reader = Reader::new(wire.bytes(number)?);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => key = wire.text(number)?.to_owned(),
            2 => value = single(field.shape, number, &wire, depth)?,
            _ => {}
        }
    }
    let map = object.entry(field.name).or_insert_with(|| json!({}));
    map[key] = value;
    Ok(())
}

/// The JSON of one value.
fn single(shape: &str, number: u32, wire: &Wire<'_>, depth: usize) -> Result<Value, Error> {
    if let Some(message) = shape.strip_prefix('@') {
        return Ok(Value::Object(message_object(message, wire.bytes(number)?, depth + 1)?));
    }
    Ok(match shape {
        "string" => json!(wire.text(number)?),
        "bytes" => json!(STANDARD.encode(wire.bytes(number)?)),
        "int" => json!(wire.integer(number)?),
        "bool" => json!(wire.integer(number)? != 0),
        "double" => json!(wire.double(number)?),
        "quantity" => {
            let text = inner(wire.bytes(number)?, 1, |wire| Ok(wire.text(1)?.to_owned()))?;
            json!(text.filter(|text| !text.is_empty()).unwrap_or_else(|| "0".to_owned()))
        }
        "items" => {
            let mut items = Vec::new();
            let mut reader = Reader::new(wire.bytes(number)?);
            while let Some((number, wire)) = reader.next()? {
                items.push(wire.text(number)?.to_owned());
            }
            json!(items)
        }
        "json" => {
            let raw = inner(wire.bytes(number)?, 1, |wire| Ok(wire.bytes(1)?.to_vec()))?.unwrap_or_default();
            if raw.is_empty() {
                Value::Null
            } else {
                serde_json::from_slice(&raw).map_err(|error| Error::Json(error.to_string()))?
            }
        }
        "intorstring" => int_or_string(wire.bytes(number)?)?,
        "schema-or-array" | "schema-or-bool" | "schema-or-strings" => schema_or(shape, wire.bytes(number)?, depth + 1)?,
        "time" => time(wire.bytes(number)?, "%Y-%m-%dT%H:%M:%SZ")?,
        "microtime" => time(wire.bytes(number)?, "%Y-%m-%dT%H:%M:%S.%6fZ")?,
        _ => Value::Null,
    })
}

/// A schema of a custom resource, or something simpler in its place.
fn schema_or(shape: &str, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let schema = |wire: &Wire<'_>, number| {
        let fields = message_object("apiextensions.v1.JSONSchemaProps", wire.bytes(number)?, depth)?;
        Ok::<Value, Error>(Value::Object(fields))
    };
    let (mut whole, mut items, mut allows) = (None, Vec::new(), false);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (shape, number) {
            ("schema-or-bool", 1) => allows = wire.integer(number)? != 0,
            ("schema-or-bool", 2) | (_, 1) => whole = Some(schema(&wire, number)?),
            ("schema-or-array", 2) => items.push(schema(&wire, number)?),
            ("schema-or-strings", 2) => items.push(json!(wire.text(number)?)),
            _ => {}
        }
    }
    Ok(match whole {
        Some(schema) => schema,
        None if shape == "schema-or-bool" => json!(allows),
        None => json!(items),
    })
}

/// One field of a small message.
fn inner<T>(bytes: &[u8], wanted: u32, read: impl Fn(&Wire<'_>) -> Result<T, Error>) -> Result<Option<T>, Error> {
    let mut found = None;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if number == wanted {
            found = Some(read(&wire)?);
        }
    }
    Ok(found)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let is_string = inner(bytes, 1, |wire| wire.integer(1))?.unwrap_or(0) == 1;
    if is_string {
        return Ok(json!(
            inner(bytes, 3, |wire| Ok(wire.text(3)?.to_owned()))?.unwrap_or_default()
        ));
    }
    Ok(json!(inner(bytes, 2, |wire| wire.integer(2))?.unwrap_or(0)))
}

/// Null for the zero time, which Go sends for "no time".
fn time(bytes: &[u8], format: &str) -> Result<Value, Error> {
    let seconds = inner(bytes, 1, |wire| wire.integer(1))?.unwrap_or(0);
    let nanos = inner(bytes, 2, |wire| wire.integer(2))?.unwrap_or(0);
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let time = Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0)).map_err(|_| Error::Text(1))?;
    Ok(json!(time.strftime(format).to_string()))
}

#[cfg(test)]
mod tests;
