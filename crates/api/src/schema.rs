//! The published schemas as facts: each type's fields, types, list kinds, merge keys and defaults; decoding against them.

use serde_json::Value;

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
/// Unknown fields are dropped at every depth; a wrong type is an error.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(_schema: &str, _text: &[u8], _validation: FieldValidation) -> Result<Decoded, DecodeError> {
    unimplemented!()
}

/// Like [`decode`] for an object that is parsed already (a patch result, YAML); duplicates cannot be seen any more.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_value(_schema: &str, _value: Value, _validation: FieldValidation) -> Result<Decoded, DecodeError> {
    unimplemented!()
}
