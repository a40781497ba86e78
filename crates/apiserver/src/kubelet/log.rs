//! `pods/NAME/log`: what a container has written, as it comes from its kubelet.

use super::{place, refused, unreachable};
use crate::backend::path_of;
use crate::call::Call;
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, internal, status, virtual_kind};
use api::error::{FieldError, FieldErrorType, Status};
use axum::body::Body;
use axum::extract::Request;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use remotecommand::reading;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What clients may ask of a log; kubelets know the same names.
const PARAMETERS: &[&str] = &[
    "follow",
    "previous",
    "timestamps",
    "tailLines",
    "limitBytes",
    "sinceSeconds",
    "sinceTime",
    "stream",
];

/// How long a kubelet may take until its answer begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

const TEXT: &str = "text/plain";

/// GET of a container's log, as one body or as the messages of a websocket.
pub(crate) async fn get(server: &Arc<Server>, call: &Call, mut request: Request) -> Outcome<Response<Body>> {
    check(call)?;
    let log = body(server, call).await?;
    if !reading::is_wanted(&request) {
        return Ok(respond::plain(StatusCode::OK, TEXT, log));
    }
    let accepted = reading::accept(&mut request);
    let (response, pending) =
        accepted.map_err(|error| status(error.status_code().as_u16(), "", error.to_string(), Value::Null))?;
    server.spawn(pending.send(log.into_data_stream()));
    Ok(response.map(|()| Body::empty()))
}

/// What the container has written.
async fn body(server: &Server, call: &Call) -> Outcome<Body> {
    // A pod without a node has written nothing.
    let Some(place) = place(server, call).await? else {
        return Ok(Body::empty());
    };
    let parameters: Vec<(&str, &str)> = PARAMETERS
        .iter()
        .filter_map(|name| Some((*name, call.query.get(name)?)))
        .collect();
    let url = place.url(call, "containerLogs", &parameters)?;
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path_of(&url)
        .parse()
        .map_err(|error| internal(format!("the request to the kubelet is not valid: {error}")))?;
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, place.kubelet.send(request)).await;
    let asked = asked.map_err(|_| status(504, "Timeout", "the kubelet did not answer in time", Value::Null))?;
    let (head, body) = asked.map_err(|error| unreachable(&error))?.into_response().into_parts();
    if !head.status.is_success() {
        let body = Limited::new(body, 64 * 1024)
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        return Err(refused(head.status, &body));
    }
    Ok(body)
}

/// Checks the parameters as upstream checks `PodLogOptions`.
fn check(call: &Call) -> Outcome<()> {
    let mut errors = Vec::new();
    let mut invalid = |field: &str, value: Value, detail: &str| {
        errors.push(FieldError {
            error: FieldErrorType::Invalid,
            field: field.to_owned(),
            value: Some(value),
            detail: detail.to_owned(),
        });
    };
    for (field, least) in [("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)] {
        if let Some(value) = call.query.number(field)?.filter(|value| *value < least) {
            let detail = if least == 0 {
                "must be greater than or equal to 0"
            } else {
                "must be greater than 0"
            };
            invalid(field, json!(value), detail);
        }
    }
    if call.query.get("sinceSeconds").is_some()
        && let Some(time) = call.query.get("sinceTime")
    {
        invalid(
            "sinceTime",
            json!(time),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        );
    }
    if let Some(stream) = call.query.get("stream") {
        let streams = ["All", "Stderr", "Stdout"];
        if !streams.contains(&stream) {
            errors.push(FieldError::not_supported("stream", stream, &streams));
        } else if stream != "All" && call.query.get("tailLines").is_some() {
            let why = "`tailLines` and specific `stream` are mutually exclusive for now";
            errors.push(FieldError::forbidden("tailLines", why));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Box::new(Status::invalid(
        &virtual_kind("", "PodLogOptions"),
        &call.name,
        &errors,
    )))
}
