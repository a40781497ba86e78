//! JSON patch (RFC 6902), JSON merge patch (RFC 7396) and Kubernetes' strategic merge patch.

use serde_json::Value;

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself makes no sense: 400.
    #[error("{0}")]
    Malformed(String),
    /// A well-formed patch does not fit the object (JSON patch test or path failed): 422.
    #[error("{0}")]
    DoesNotApply(String),
}

/// Applies a JSON patch.
///
/// # Errors
/// See [`PatchError`].
pub fn json(_current: &Value, _patch: &Value) -> Result<Value, PatchError> {
    unimplemented!()
}

/// Applies a JSON merge patch.
///
/// # Errors
/// See [`PatchError`].
pub fn merge(_current: &Value, _patch: &Value) -> Result<Value, PatchError> {
    unimplemented!()
}

/// Applies a strategic merge patch to an object of type `schema`: all directives, list merge keys from the schema.
///
/// # Errors
/// See [`PatchError`].
pub fn strategic(_schema: &str, _current: &Value, _patch: &Value) -> Result<Value, PatchError> {
    unimplemented!()
}
