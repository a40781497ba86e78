//! `pods/NAME/log`: what a container has written, as it comes from its kubelet.

use super::{Place, place, refused, unreachable};
use crate::call::Call;
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, internal, status, virtual_kind};
use api::error::{FieldError, FieldErrorType, Status};
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

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

/// GET of a container's log.
pub(crate) async fn get(server: &Server, call: &Call) -> Outcome<Response<Body>> {
    check(call)?;
    // A pod without a node has written nothing.
    let Some(place) = place(server, call).await? else {
        return Ok(respond::plain(StatusCode::OK, TEXT, Body::empty()));
    };
    let parameters: Vec<(&str, &str)> = PARAMETERS
        .iter()
        .filter_map(|name| Some((*name, call.query.get(name)?)))
        .collect();
    let url = place.url(call, "containerLogs", &parameters)?;
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(&place, url));
    let (response, driver) = asked
        .await
        .map_err(|_| status(504, "Timeout", "the kubelet did not answer in time", Value::Null))??;
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let body = Limited::new(body, 64 * 1024)
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        return Err(refused(head.status, &body));
    }
    // The connection lives as long as somebody reads from it.
    let body = body.map_frame(move |frame| {
        let _connection = &driver;
        frame
    });
    Ok(respond::plain(StatusCode::OK, TEXT, Body::new(body)))
}

async fn ask(place: &Place, url: Uri) -> Outcome<(Response<Incoming>, AbortOnDropHandle<hyper::Result<()>>)> {
    let stream = TcpStream::connect(&place.authority)
        .await
        .map_err(|error| unreachable(&error))?;
    let host = url.host().unwrap_or("").trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|error| unreachable(&error))?;
    let stream = TlsConnector::from(place.tls.clone()).connect(name, stream).await;
    let stream = TokioIo::new(stream.map_err(|error| unreachable(&error))?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
        .await
        .map_err(|error| unreachable(&error))?;
    let driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let request = Request::get(path)
        .header(header::HOST, &place.authority)
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| internal(format!("the request to the kubelet is not valid: {error}")))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(&error))?;
    Ok((response, driver))
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
    if errors.is_empty() {
        return Ok(());
    }
    Err(Box::new(Status::invalid(
        &virtual_kind("", "PodLogOptions"),
        &call.name,
        &errors,
    )))
}
