//! Answers other than success that have nothing to do with one kind, and how a `Status` becomes a response.

use api::error::{FieldError, FieldErrorType, Status};
use api::protobuf;
use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

/// What a handler gives: its result or the `Status` to answer with.
pub(crate) type Outcome<T> = Result<T, Box<Status>>;

/// A `Status` made of its parts.
pub(crate) fn status(code: u16, reason: &'static str, message: impl Into<String>, details: Value) -> Box<Status> {
    Box::new(Status {
        code,
        reason,
        message: message.into(),
        details,
        metadata: json!({}),
    })
}

pub(crate) fn bad_request(message: impl Into<String>) -> Box<Status> {
    Box::new(Status::bad_request(message))
}

pub(crate) fn internal(message: impl Into<String>) -> Box<Status> {
    Box::new(Status::internal(message))
}

pub(crate) fn unauthorized() -> Box<Status> {
    status(401, "Unauthorized", "Unauthorized", Value::Null)
}

/// The path is under a served group, but names nothing there.
pub(crate) fn unknown_resource() -> Box<Status> {
    status(
        404,
        "NotFound",
        "the server could not find the requested resource",
        json!({}),
    )
}

pub(crate) fn method_not_allowed() -> Box<Status> {
    let message = "the server does not allow this method on the requested resource";
    status(405, "MethodNotAllowed", message, json!({}))
}

pub(crate) fn not_acceptable() -> Box<Status> {
    let message = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                   application/vnd.kubernetes.protobuf";
    status(406, "NotAcceptable", message, json!({}))
}

/// The body of a create or update is of a type that cannot be read.
pub(crate) fn unsupported_body() -> Box<Status> {
    let message = "the body of the request was in an unknown format - accepted media types include: \
                   application/json, application/yaml, application/vnd.kubernetes.protobuf";
    status(415, "UnsupportedMediaType", message, Value::Null)
}

pub(crate) fn unsupported_patch() -> Box<Status> {
    status(415, "UnsupportedMediaType", "415: Unsupported Media Type", json!({}))
}

pub(crate) fn body_too_large(limit: usize) -> Box<Status> {
    too_large(&format!("limit is {limit}"))
}

pub(crate) fn too_large(why: &str) -> Box<Status> {
    let message = format!("Request entity too large: {why}");
    status(413, "RequestEntityTooLarge", message, Value::Null)
}

/// Answers a list or watch that must start from a state which is no longer known.
pub(crate) fn expired(message: impl Into<String>) -> Box<Status> {
    status(410, "Expired", message, Value::Null)
}

/// The client has seen a state that this server has not reached.
pub(crate) fn future_revision(requested: u64, current: u64) -> Box<Status> {
    let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
    let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
    status(
        504,
        "Timeout",
        message,
        json!({"causes": causes, "retryAfterSeconds": 1}),
    )
}

pub(crate) fn timed_out() -> Box<Status> {
    let message = "Timeout: request did not complete within the allotted timeout";
    status(504, "Timeout", message, Value::Null)
}

/// 422 for a request's parameters, which are objects of group `meta.k8s.io`.
pub(crate) fn invalid_options(kind: &'static str, field: &str, error: FieldErrorType, detail: &str) -> Box<Status> {
    invalid_options_value(
        kind,
        FieldError {
            error,
            field: field.to_owned(),
            value: None,
            detail: detail.to_owned(),
        },
    )
}

/// Like [`invalid_options`] with the offending value.
pub(crate) fn invalid_options_value(kind: &'static str, error: FieldError) -> Box<Status> {
    Box::new(Status::invalid(&virtual_kind("meta.k8s.io", kind), "", &[error]))
}

/// A kind that exists in messages only.
pub(crate) fn virtual_kind(group: &'static str, kind: &'static str) -> api::kinds::Kind {
    api::kinds::Kind {
        group,
        version: "v1",
        kind,
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: false,
        schema: "",
        storage_group: group,
        storage_version: "v1",
        has_status: false,
        has_scale: false,
        has_generation: false,
        create_on_update: false,
        unconditional_update: true,
        delete_returns_object: false,
        delete_collection: false,
        acted_on: true,
        custom: None,
    }
}

/// What a failing store means to a client.
pub(crate) fn store_failed(error: &store::Error) -> Box<Status> {
    match error {
        store::Error::Compacted { .. } => expired("The resourceVersion for the provided list is too old."),
        store::Error::Future { requested, latest } => future_revision(*requested, *latest),
        store::Error::Closed => {
            let message = "the server is shutting down";
            status(503, "ServiceUnavailable", message, json!({"retryAfterSeconds": 1}))
        }
        store::Error::Unavailable(_) => {
            tracing::warn!(error = chain(error), "the store is unavailable");
            let details = json!({"retryAfterSeconds": 1});
            status(503, "ServiceUnavailable", chain(error), details)
        }
        store::Error::TooLarge => {
            let message = format!("Request entity is too large: {}", chain(error));
            status(413, "RequestEntityTooLarge", message, Value::Null)
        }
        store::Error::LeaseNotFound(_) | store::Error::Storage(_) => {
            tracing::error!(error = chain(error), "the store failed");
            internal(format!("Internal error occurred: {}", chain(error)))
        }
    }
}

/// An error and all its sources as one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The one place where a `Status` becomes an HTTP response.
pub(crate) fn response(status: &Status, in_protobuf: bool) -> Response<Body> {
    let value = status.to_value();
    let encoded = in_protobuf.then(|| protobuf::encode(&value)).flatten();
    let content_type = if encoded.is_some() {
        protobuf::MEDIA_TYPE
    } else {
        "application/json"
    };
    let body = encoded.unwrap_or_else(|| (value.to_string() + "\n").into_bytes());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(seconds) = status.details["retryAfterSeconds"].as_u64() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
