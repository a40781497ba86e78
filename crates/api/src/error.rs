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

impl FieldErrorType {
    /// The words a message begins with.
    pub fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
        }
    }

    /// The `reason` of a cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

impl FieldError {
    /// A field that must be given.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            error: FieldErrorType::Required,
            field: field.into(),
            value: None,
            detail: detail.into(),
        }
    }

    /// A field whose value is not allowed.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self {
            error: FieldErrorType::Invalid,
            field: field.into(),
            value: Some(value.into()),
            detail: detail.into(),
        }
    }

    /// A field whose value is not one of `supported`, which are named in sorted order.
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut sorted = supported.to_vec();
        sorted.sort_unstable();
        let quoted: Vec<String> = sorted.iter().map(|word| format!("{word:?}")).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self {
            error: FieldErrorType::NotSupported,
            field: field.into(),
            value: Some(value.into()),
            detail,
        }
    }

    /// A field that may not be given or changed.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            error: FieldErrorType::Forbidden,
            field: field.into(),
            value: None,
            detail: detail.into(),
        }
    }

    /// A value that stands twice in a list.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            error: FieldErrorType::Duplicate,
            field: field.into(),
            value: Some(value.into()),
            detail: String::new(),
        }
    }

    /// A value that names something absent.
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            error: FieldErrorType::NotFound,
            field: field.into(),
            value: Some(value.into()),
            detail: String::new(),
        }
    }

    /// Text of more than `max` bytes.
    pub fn too_long(field: impl Into<String>, max: usize) -> Self {
        let bytes = if max == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {max} {bytes}");
        Self {
            error: FieldErrorType::TooLong,
            field: field.into(),
            value: None,
            detail,
        }
    }

    /// A list of `actual` items, more than `max`.
    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {items}");
        Self {
            error: FieldErrorType::TooMany,
            field: field.into(),
            value: Some(json!(actual)),
            detail,
        }
    }

    /// The message without the field, as a cause carries it.
    pub fn body(&self) -> String {
        use FieldErrorType::{Forbidden, Required, TooLong};
        let words = self.error.words();
        let mut body = match &self.value {
            Some(value) if !matches!(self.error, Required | Forbidden | TooLong) => format!("{words}: {value}"),
            _ => words.to_owned(),
        };
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
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

    /// A failure of any kind, without details.
    pub fn failure(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
            metadata: json!({}),
        }
    }

    /// A failure that concerns one object of a kind; `details.kind` is the resource, as upstream has it.
    fn of_resource(code: u16, reason: &'static str, kind: &Kind, name: &str, message: String) -> Self {
        let details = details(kind.group, kind.plural, name);
        Self {
            details,
            ..Self::failure(code, reason, message)
        }
    }

    /// 422 with one cause for each error. `name` is the object's (or its generateName; may be empty).
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_named(kind.group, kind.kind, name, errors)
    }

    /// Like [`Status::invalid`] for a type that is no served kind, e.g. `Scale` or `CreateOptions`.
    pub fn invalid_named(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for error in errors {
            let text = error.to_string();
            // Upstream gives equal errors one place in the message, but a cause each.
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let message = match texts.as_slice() {
            [] => format!("{qualified} {name:?} is invalid"),
            [one] => format!("{qualified} {name:?} is invalid: {one}"),
            many => format!("{qualified} {name:?} is invalid: [{}]", many.join(", ")),
        };
        let causes: Vec<Value> = errors
            .iter()
            .map(|error| json!({"reason": error.error.reason(), "message": error.body(), "field": error.field}))
            .collect();
        let mut details = details(group, kind, name);
        if !causes.is_empty() {
            details["causes"] = Value::Array(causes);
        }
        Self {
            details,
            ..Self::failure(422, "Invalid", message)
        }
    }

    /// 404 for an object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified_resource());
        Self::of_resource(404, "NotFound", kind, name, message)
    }

    /// 404 for a resource that is not served.
    pub fn no_such_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self {
            details: json!({}),
            ..Self::failure(404, "NotFound", message)
        }
    }

    /// 409 AlreadyExists.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.qualified_resource());
        Self::of_resource(409, "AlreadyExists", kind, name, message)
    }

    /// 409 Conflict; `why` is the text after the colon.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            kind.qualified_resource()
        );
        Self::of_resource(409, "Conflict", kind, name, message)
    }

    /// 409 Conflict because the object has changed since the client read it.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// 400 BadRequest.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 401 Unauthorized.
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 403 Forbidden.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = kind.qualified_resource();
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {name:?} is forbidden: {why}")
        };
        Self::of_resource(403, "Forbidden", kind, name, message)
    }

    /// 405 MethodNotAllowed.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self {
            details: json!({}),
            ..Self::failure(405, "MethodNotAllowed", message)
        }
    }

    /// 410 Expired: a resource version that is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 429 TooManyRequests; the client should wait for `retry_after_s` seconds (0: as it likes).
    pub fn too_many_requests(message: impl Into<String>, retry_after_s: u32) -> Self {
        let details = if retry_after_s == 0 {
            Value::Null
        } else {
            json!({"retryAfterSeconds": retry_after_s})
        };
        Self {
            details,
            ..Self::failure(429, "TooManyRequests", message)
        }
    }

    /// 500 InternalError.
    pub fn internal(message: impl Into<String>) -> Self {
        let cause: String = message.into();
        let details = json!({"causes": [{"message": cause}]});
        Self {
            details,
            ..Self::failure(500, "InternalError", format!("Internal error occurred: {cause}"))
        }
    }

    /// Adds a cause to the details.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let mut cause = json!({"reason": reason, "message": message});
        if !field.is_empty() {
            cause["field"] = json!(field);
        }
        if !self.details.is_object() {
            self.details = json!({});
        }
        match self.details["causes"].as_array_mut() {
            Some(causes) => causes.push(cause),
            None => self.details["causes"] = json!([cause]),
        }
        self
    }
}

/// `details` naming an object; empty fields are left out.
fn details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = json!({"kind": kind});
    if !name.is_empty() {
        details["name"] = json!(name);
    }
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    details
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::by_resource;

    fn golden(text: &str) -> Value {
        serde_json::from_str(text).expect("golden text is JSON")
    }

    #[test]
    fn invalid_lists_causes_and_joins_messages() {
        let kind = by_resource("apps", "v1", "statefulsets").unwrap();
        let errors = [
            FieldError::invalid("spec.replicas", -1, "must be greater than or equal to 0"),
            FieldError::required("spec.template.spec.containers[0].image", ""),
            FieldError::not_supported("spec.template.spec.restartPolicy", "Never", &["Always"]),
        ];
        let expected = golden(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"StatefulSet.apps \"bad\" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec.template.spec.containers[0].image: Required value, spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"]","reason":"Invalid","details":{"name":"bad","group":"apps","kind":"StatefulSet","causes":[{"reason":"FieldValueInvalid","message":"Invalid value: -1: must be greater than or equal to 0","field":"spec.replicas"},{"reason":"FieldValueRequired","message":"Required value","field":"spec.template.spec.containers[0].image"},{"reason":"FieldValueNotSupported","message":"Unsupported value: \"Never\": supported values: \"Always\"","field":"spec.template.spec.restartPolicy"}]},"code":422}"#,
        );
        assert_eq!(Status::invalid(kind, "bad", &errors).to_value(), expected);
    }

    #[test]
    fn equal_errors_stand_once_in_the_message_but_twice_in_the_causes() {
        let kind = by_resource("", "v1", "pods").unwrap();
        let error = FieldError::forbidden("metadata.finalizers", "no");
        let status = Status::invalid(kind, "po", &[error.clone(), error]);
        assert_eq!(
            status.message,
            "Pod \"po\" is invalid: metadata.finalizers: Forbidden: no"
        );
        assert_eq!(status.details["causes"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn a_missing_object_is_named_by_resource_and_group() {
        let kind = by_resource("apps", "v1", "statefulsets").unwrap();
        let expected = golden(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"statefulsets.apps \"zz\" not found","reason":"NotFound","details":{"name":"zz","group":"apps","kind":"statefulsets"},"code":404}"#,
        );
        assert_eq!(Status::not_found(kind, "zz").to_value(), expected);
    }

    #[test]
    fn a_conflict_names_the_resource() {
        let kind = by_resource("", "v1", "configmaps").unwrap();
        let status = Status::modified(kind, "g1");
        assert!(
            status
                .message
                .starts_with("Operation cannot be fulfilled on configmaps \"g1\": the object has been")
        );
        assert_eq!(status.details, json!({"name": "g1", "kind": "configmaps"}));
    }

    #[test]
    fn forbidden_without_a_name_leaves_it_out() {
        let kind = by_resource("", "v1", "configmaps").unwrap();
        let status = Status::forbidden(kind, "", "no");
        assert_eq!(status.message, "configmaps is forbidden: no");
        assert_eq!(status.details, json!({"kind": "configmaps"}));
    }
}
