//! port-forward: the caller's connection is joined with one to the URL that the runtime offers, whatever they speak.

use crate::images;
use crate::run::Node;
use crate::runtime::timed;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// The runtime only makes up a URL here.
const URL_TIMEOUT: Duration = Duration::from_secs(30);

/// Joins a request that wants to be upgraded with the ports of a sandbox.
///
/// # Errors
/// For people, with the HTTP status to answer with.
pub(crate) async fn join(
    node: &Node,
    sandbox_id: &str,
    mut request: Request,
    shutdown: CancellationToken,
) -> Result<Response, (u16, String)> {
    let call = cri::v1::PortForwardRequest {
        pod_sandbox_id: sandbox_id.to_owned(),
        port: Vec::new(),
    };
    let answer = node
        .runtime
        .containers
        .clone()
        .port_forward(timed(call, URL_TIMEOUT))
        .await;
    let url = answer
        .map_err(|status| (500, images::message(&status)))?
        .into_inner()
        .url;
    let url: Uri = url
        .parse()
        .map_err(|error| (500, format!("the runtime gave no URL: {error}")))?;
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let mut answer = ask(&url, method, &headers).await.map_err(|why| (500, why))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = answer.status();
        let body = axum::body::to_bytes(Body::new(answer.into_body()), 1 << 16)
            .await
            .unwrap_or_default();
        return Ok((code, [(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response());
    }
    let (near, far) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut answer));
    let session = async move {
        let (near, far) = match tokio::try_join!(near, far) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "a port-forward session did not begin"),
        };
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
            tracing::debug!(%error, "a port-forward session broke");
        }
    };
    // The session lives as long as its two connections, but not longer than the agent.
    tokio::spawn(shutdown.run_until_cancelled_owned(session));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in answer.headers().iter().filter(|(name, _)| is_handshake(name)) {
        response.headers_mut().append(name, value.clone());
    }
    Ok(response)
}

/// Repeats the request's handshake at the runtime's URL.
async fn ask(url: &Uri, method: Method, headers: &HeaderMap) -> Result<hyper::Response<hyper::body::Incoming>, String> {
    let authority = url.authority().ok_or("the runtime's URL has no address")?;
    let address = (authority.host(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address)
        .await
        .map_err(|e| format!("the runtime does not answer: {e}"))?;
    let handshake = hyper::client::conn::http1::handshake::<_, http_body_util::Empty<Bytes>>(TokioIo::new(stream));
    let (mut sender, driver) = handshake.await.map_err(|e| e.to_string())?;
    // Ends when the connection is taken over, or fails, or `sender` is dropped.
    let driver = AbortOnDropHandle::new(tokio::spawn(driver.with_upgrades()));
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut asked = hyper::Request::builder().method(method).uri(path);
    for (name, value) in headers.iter().filter(|(name, _)| is_handshake(name)) {
        asked = asked.header(name, value);
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?;
    let asked = asked
        .header(HOST, host)
        .body(http_body_util::Empty::new())
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(asked).await.map_err(|e| e.to_string())?;
    driver.detach();
    Ok(answer)
}

/// The headers by which two sides agree on what comes after HTTP.
fn is_handshake(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == CONNECTION || name == UPGRADE || name == "x-stream-protocol-version" || name.starts_with("sec-websocket-")
}
