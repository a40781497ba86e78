//! The errors that Kubernetes clients understand: field errors, and the `Status` object that carries them.

use crate::kinds::Kind;
use serde_json::{Value, json};

/// What is wrong with a field. The names are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorType {
    /// "Required value": must be given.
    Required,
    /// "Invalid value": has a value that is not allowed.
    Invalid,
    /// "Unsupported value": is not one of a list.
    NotSupported,
    /// "Forbidden": may not be given or changed.
    Forbidden,
    /// "Duplicate value": stands twice in a list.
    Duplicate,
    /// "Not found": names something that is absent.
    NotFound,
    /// "Too long": has too many characters.
    TooLong,
    /// "Too many": has too many items.
    TooMany,
    /// "Invalid value": is of the wrong type (cause `FieldValueTypeInvalid`).
    TypeInvalid,
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub error: FieldErrorType,
    /// The path as clients see it, e.g. `spec.template.spec.containers[0].image`.
    pub field: String,
    /// The offending value, where upstream shows it.
    pub value: Option<Value>,
    /// The rest of the message.
    pub detail: String,
}

/// An answer other than success, as the API gives it: HTTP code, reason, message, details.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, e.g. `NotFound`; empty where upstream gives none.
    pub reason: &'static str,
    /// Sentence for people.
    pub message: String,
    /// `details`; null where there are none.
    pub details: Value,
    /// `metadata` of the status, normally `{}`.
    pub metadata: Value,
}

impl Status {
    /// The `Status` object on the wire.
    pub fn to_value(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": self.metadata, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        if !self.details.is_null() {
            body["details"] = self.details.clone();
        }
        body
    }

    /// 422 with one cause for each error. `name` is the object's (or its generateName; may be empty).
    pub fn invalid(_kind: &Kind, _name: &str, _errors: &[FieldError]) -> Self {
        unimplemented!()
    }

    /// 404 for an object.
    pub fn not_found(_kind: &Kind, _name: &str) -> Self {
        unimplemented!()
    }

    /// 409 AlreadyExists.
    pub fn already_exists(_kind: &Kind, _name: &str) -> Self {
        unimplemented!()
    }

    /// 409 Conflict; `why` is the text after the colon.
    pub fn conflict(_kind: &Kind, _name: &str, _why: &str) -> Self {
        unimplemented!()
    }

    /// 400 BadRequest.
    pub fn bad_request(_message: impl Into<String>) -> Self {
        unimplemented!()
    }

    /// 403 Forbidden.
    pub fn forbidden(_kind: &Kind, _name: &str, _why: &str) -> Self {
        unimplemented!()
    }

    /// 500 InternalError.
    pub fn internal(_message: impl Into<String>) -> Self {
        unimplemented!()
    }
}
