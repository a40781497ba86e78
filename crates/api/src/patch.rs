//! JSON patch (RFC 6902), JSON merge patch (RFC 7396) and Kubernetes' strategic merge patch.

mod order;
mod strategic;

use json_patch::{AddOperation, PatchOperation};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// How many operations a JSON patch may have; as upstream.
const OPERATIONS_MAX: usize = 10_000;

/// How much the copy operations of a JSON patch may add, so that none doubles an object again and again; as upstream.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// All that upstream tells of a JSON patch that does not fit the object.
const REJECTED: &str = "the server rejected our request due to an error in our request";

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself makes no sense: 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch has more operations than anybody needs: 413.
    #[error("{0}")]
    TooLarge(String),
    /// A well-formed patch does not fit the object (JSON patch test or path failed): 422.
    #[error("{0}")]
    DoesNotApply(String),
}

/// Applies a JSON patch.
///
/// # Errors
/// See [`PatchError`].
pub fn json(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(undecodable(patch, "[]handlers.jsonPatchOp"));
    };
    if operations.len() > OPERATIONS_MAX {
        let count = operations.len();
        let message = format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}");
        return Err(PatchError::TooLarge(message));
    }
    if let Some(other) = operations.iter().find(|operation| !operation.is_object()) {
        return Err(undecodable(other, "handlers.jsonPatchOp"));
    }
    let rejected = || PatchError::DoesNotApply(REJECTED.to_owned());
    // An operation with an unknown name or a missing part is one that fails.
    let operations: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|_| rejected())?;
    let mut patched = current.clone();
    let mut copied = 0;
    for operation in operations.iter() {
        if let PatchOperation::Copy(copy) = operation {
            copied += patched
                .pointer(copy.from.as_str())
                .map_or(0, |value| value.to_string().len());
            if copied > COPIED_BYTES_MAX {
                return Err(rejected());
            }
        }
        if let Some(operation) = as_upstream_takes_it(&patched, operation) {
            json_patch::patch(&mut patched, std::slice::from_ref(&*operation)).map_err(|_| rejected())?;
        }
    }
    Ok(patched)
}

/// To upstream a member that an object lacks is one that is null: it can be replaced, and tested for being null. Clients
/// rely on that (the external-snapshotter replaces annotations that there are none of). `None`: there is nothing to do.
fn as_upstream_takes_it<'a>(object: &Value, operation: &'a PatchOperation) -> Option<Cow<'a, PatchOperation>> {
    let is_lacking = |path: &str| {
        let parent = path.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
        object.pointer(path).is_none() && parent.is_some_and(Value::is_object)
    };
    match operation {
        PatchOperation::Replace(replace) if is_lacking(replace.path.as_str()) => {
            Some(Cow::Owned(PatchOperation::Add(AddOperation {
                path: replace.path.clone(),
                value: replace.value.clone(),
            })))
        }
        PatchOperation::Test(test) if test.value.is_null() && is_lacking(test.path.as_str()) => None,
        _ => Some(Cow::Borrowed(operation)),
    }
}

/// Applies a JSON merge patch.
///
/// # Errors
/// See [`PatchError`].
pub fn merge(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    object(patch)?;
    let mut patched = current.clone();
    json_patch::merge(&mut patched, patch);
    Ok(patched)
}

/// Applies a strategic merge patch to an object of type `schema`: all directives, list merge keys from the schema.
///
/// # Errors
/// See [`PatchError`].
pub fn strategic(schema: &str, current: &Value, patch: &Value) -> Result<Value, PatchError> {
    strategic::apply(schema, current, object(patch)?)
}

/// The patch as an object, which it has to be.
fn object(patch: &Value) -> Result<&Map<String, Value>, PatchError> {
    patch
        .as_object()
        .ok_or_else(|| undecodable(patch, "map[string]interface {}"))
}

fn undecodable(patch: &Value, wanted: &str) -> PatchError {
    let got = match patch {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    PatchError::Malformed(format!(
        "error decoding patch: json: cannot unmarshal {got} into Go value of type {wanted}"
    ))
}

#[cfg(test)]
mod tests;
