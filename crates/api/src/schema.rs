//! The published schemas as facts: each type's fields, types, list kinds, merge keys and defaults; decoding against them.

mod decode;
mod syntax;
pub(crate) mod table;
mod walk;

use serde_json::Value;

pub(crate) use walk::zero;
pub use walk::{fill_zero, for_each_named, for_each_typed};

/// What to do with unknown and duplicate fields (query parameter `fieldValidation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them in silence.
    Ignore,
    /// Drop them and warn; the default.
    Warn,
    /// Refuse the request.
    Strict,
}

/// An object decoded against its schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, unknown fields dropped, quantities and times still as given.
    pub object: Value,
    /// Texts for `Warning` headers, e.g. `unknown field "spec.foo"`.
    pub warnings: Vec<String>,
}

/// Why text is no object of a kind; `Display` is the message that upstream gives in a 400 `Status`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The text is not JSON, or a field has a wrong type: upstream's words.
    #[error("{0}")]
    Malformed(String),
    /// Strict field validation found unknown or duplicate fields.
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}

/// Decodes JSON text into an object of the type `schema` (e.g. `io.k8s.api.apps.v1.StatefulSet`).
///
/// Unknown fields are dropped at every depth; a wrong type is an error. Nulls are dropped as Go drops them.
/// What is wrong with an object is to be put behind [`cannot_be_handled`]; text that is no JSON has its whole message.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(schema: &str, text: &[u8], validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let mut input = serde_json::Deserializer::from_slice(text);
    let decoded = decode::run(schema, &mut input).and_then(|found| input.end().map(|()| found));
    let found = decoded.map_err(|error| DecodeError::Malformed(syntax::unrecognized(schema, text, &error)))?;
    conclude(found, validation)
}

/// Like [`decode`] for an object that is parsed already (a patch result, YAML); duplicates cannot be seen any more.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_value(schema: &str, value: Value, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let found = decode::run(schema, value).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    conclude(found, validation)
}

/// What upstream says before the reason why a request body is not taken, e.g.
/// `StatefulSet in version "v1" cannot be handled as a StatefulSet: `; empty for a type that is no kind.
pub fn cannot_be_handled(schema: &str) -> String {
    match table::by_name(schema).and_then(|entry| entry.kind) {
        Some([_, version, kind]) => format!("{kind} in version {version:?} cannot be handled as a {kind}: "),
        None => String::new(),
    }
}

fn conclude(found: decode::Found, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    if let Some(wrong) = found.wrong {
        return Err(DecodeError::Malformed(wrong));
    }
    match validation {
        FieldValidation::Strict if !found.strict.is_empty() => Err(DecodeError::Strict(found.strict)),
        FieldValidation::Ignore => Ok(Decoded {
            object: found.object,
            warnings: Vec::new(),
        }),
        FieldValidation::Strict | FieldValidation::Warn => Ok(Decoded {
            object: found.object,
            warnings: found.strict,
        }),
    }
}

#[cfg(test)]
mod tests;
