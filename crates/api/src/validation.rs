//! What a valid object is, kind by kind; errors with the paths, types and words of upstream.

use crate::error::FieldError;
use crate::kinds::Kind;
use serde_json::Value;

pub mod names;

/// What is wrong with a new object (defaults already applied).
pub fn create(_kind: &Kind, _object: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// What is wrong with replacing `old` by `new` through the main resource (defaults already applied).
pub fn update(_kind: &Kind, _new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// What is wrong with replacing `old` by `new` through `/status`.
pub fn status_update(_kind: &Kind, _new: &Value, _old: &Value) -> Vec<FieldError> {
    Vec::new()
}

/// Texts for `Warning` headers: kinds and fields that no part of Steadfast acts on, and upstream's own warnings.
pub fn warnings(_kind: &Kind, _new: &Value, _old: Option<&Value>) -> Vec<String> {
    Vec::new()
}
