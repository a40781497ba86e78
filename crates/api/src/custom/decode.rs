//! From text to an object of a custom resource: duplicate fields are noticed, metadata must be metadata, and what the
//! schema does not know is dropped.

use super::schema::{Additional, Schema, is_type_or_metadata};
use crate::schema::{self, DecodeError, Decoded, FieldValidation};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::fmt;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// How many unknown and duplicate fields are told.
const STRICT_MAX: usize = 100;

/// Decodes JSON text.
pub(crate) fn text(schema: &Schema, text: &[u8], validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let notes = RefCell::new(Vec::new());
    let mut input = serde_json::Deserializer::from_slice(text);
    let seed = Seed {
        path: String::new(),
        notes: &notes,
    };
    let parsed = seed
        .deserialize(&mut input)
        .and_then(|found| input.end().map(|()| found));
    let value = parsed.map_err(|error| DecodeError::Malformed(error.to_string()))?;
    conclude(schema, value, notes.into_inner(), validation)
}

/// Decodes what is parsed already.
pub(crate) fn value(schema: &Schema, value: Value, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    conclude(schema, value, Vec::new(), validation)
}

fn conclude(
    schema: &Schema,
    mut object: Value,
    mut strict: Vec<String>,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    if !object.is_object() {
        return Err(DecodeError::Malformed("the object is no JSON object".to_owned()));
    }
    let mut unknown = Vec::new();
    prune(schema, &mut object, true, "", &mut unknown);
    unknown.sort();
    strict.extend(unknown.iter().map(|path| format!("unknown field {path:?}")));
    metadata(schema, &mut object, true, "", &mut strict).map_err(DecodeError::Malformed)?;
    strict.truncate(STRICT_MAX);
    match validation {
        FieldValidation::Strict if !strict.is_empty() => Err(DecodeError::Strict(strict)),
        FieldValidation::Ignore => Ok(Decoded {
            object,
            warnings: Vec::new(),
        }),
        FieldValidation::Strict | FieldValidation::Warn => Ok(Decoded {
            object,
            warnings: strict,
        }),
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Drops the fields that the schema does not know; `unknown` are their paths.
pub(crate) fn prune(schema: &Schema, value: &mut Value, is_object: bool, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let path = below(path, name);
                if is_object && is_type_or_metadata(name) {
                    return true;
                }
                match schema.field(name) {
                    Some(of) => {
                        prune(of, value, of.embedded, &path, unknown);
                        true
                    }
                    None if schema.preserve || matches!(schema.additional, Some(Additional::Any)) => true,
                    None => {
                        unknown.push(path);
                        false
                    }
                }
            });
        }
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                for (index, item) in items.iter_mut().enumerate() {
                    prune(of, item, of.embedded, &format!("{path}[{index}]"), unknown);
                }
            }
        }
        _ => {}
    }
}

/// Brings the metadata of the object, and of those in it, into the form that metadata have.
fn metadata(
    schema: &Schema,
    value: &mut Value,
    is_object: bool,
    path: &str,
    strict: &mut Vec<String>,
) -> Result<(), String> {
    match value {
        Value::Object(fields) => {
            if is_object && let Some(metadata) = fields.get_mut("metadata") {
                settle_metadata(metadata, &below(path, "metadata"), strict)?;
            }
            if is_object {
                for name in ["apiVersion", "kind"] {
                    if fields.get(name).is_some_and(|text| !text.is_string()) {
                        return Err(format!("{} must be a string", below(path, name)));
                    }
                }
            }
            for (name, value) in fields {
                if let Some(of) = schema.field(name).filter(|_| !(is_object && is_type_or_metadata(name))) {
                    metadata(of, value, of.embedded, &below(path, name), strict)?;
                }
            }
        }
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                for (index, item) in items.iter_mut().enumerate() {
                    metadata(of, item, of.embedded, &format!("{path}[{index}]"), strict)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn settle_metadata(metadata: &mut Value, path: &str, strict: &mut Vec<String>) -> Result<(), String> {
    let decoded = schema::decode_value(OBJECT_META, metadata.take(), FieldValidation::Warn);
    let decoded = decoded.map_err(|error| format!("{path}: {error}"))?;
    *metadata = decoded.object;
    let told = decoded
        .warnings
        .iter()
        .map(|text| text.replacen("field \"", &format!("field \"{path}."), 1));
    strict.extend(told);
    Ok(())
}

/// Reads any JSON and notes fields that stand twice; the last one counts.
struct Seed<'a> {
    path: String,
    notes: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let seed = Seed {
                path: format!("{}[{}]", self.path, items.len()),
                notes: self.notes,
            };
            match input.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = input.next_key_seed(std::marker::PhantomData::<String>)? {
            let path = below(&self.path, &name);
            if fields.contains_key(&name) {
                let text = format!("duplicate field {path:?}");
                let mut notes = self.notes.borrow_mut();
                if notes.len() < STRICT_MAX && !notes.contains(&text) {
                    notes.push(text);
                }
            }
            let seed = Seed {
                path,
                notes: self.notes,
            };
            fields.insert(name, input.next_value_seed(seed)?);
        }
        Ok(Value::Object(fields))
    }
}
