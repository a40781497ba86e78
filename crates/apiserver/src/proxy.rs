//! `pods/NAME/proxy`, `services/NAME/proxy` and `nodes/NAME/proxy`: whatever the request is, it is made to what runs
//! behind the object, and the answer comes back with links that lead through the proxy again.

mod html;
mod links;
mod target;

use crate::backend::{Answer, Backend};
use crate::call::Call;
use crate::server::Server;
use crate::status::{Outcome, bad_request, chain, status};
use api::error::Status;
use axum::body::Body;
use axum::extract::Request;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use links::Links;
use serde_json::Value;
use std::sync::Arc;

/// The largest page whose links are rewritten.
const PAGE_BYTES_MAX: usize = 32 << 20;

/// What concerns one connection only, or whoever is logged in here.
const NOT_FORWARDED: &[HeaderName] = &[
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::AUTHORIZATION,
    // What is compressed could not be rewritten.
    header::ACCEPT_ENCODING,
];

/// Passes a request on, whatever its method is.
pub(crate) async fn forward(server: &Arc<Server>, call: &Call, request: Request) -> Outcome<Response<Body>> {
    let target = target::of(server, call).await?;
    let uri = request.uri().clone();
    let (prefix, path) = split(&uri, call.kind.namespaced);
    let upgrades = asks_to_upgrade(request.headers());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if path.is_empty() && reads && !upgrades {
        return Ok(moved(&uri));
    }
    let links = Links {
        prefix: prefix.to_owned(),
        backend: target.authority(),
        requested: requested_host(&request),
    };
    if upgrades {
        return upgrade(server, &target, path, request).await;
    }
    let path = if path.is_empty() { "/" } else { path };
    let passed_uri = passed_on(path, &uri)?;
    let forwarded_uri = HeaderValue::try_from(format!("{prefix}{path}"));
    let (mut head, body) = request.into_parts();
    let mut passed = Request::new(body);
    *passed.method_mut() = head.method;
    *passed.uri_mut() = passed_uri;
    withhold(&mut head.headers);
    if let Ok(host) = HeaderValue::try_from(&links.requested) {
        head.headers.insert(header::HOST, host);
    }
    if let Ok(uri) = forwarded_uri {
        head.headers.insert("x-forwarded-uri", uri);
    }
    *passed.headers_mut() = head.headers;
    let answer = target.send(passed).await.map_err(|error| unavailable(&error))?;
    shown(answer, &links).await
}

/// What stands before the proxied path, and that path as it was written; it is empty where the proxy's own path ends
/// without a slash.
fn split(uri: &Uri, namespaced: bool) -> (&str, &str) {
    let path = uri.path();
    // api/v1/namespaces/NAMESPACE/pods/NAME/proxy or api/v1/nodes/NAME/proxy.
    let mut parts_left = if namespaced { 7 } else { 5 };
    let mut in_part = false;
    for (index, byte) in path.bytes().enumerate() {
        if byte == b'/' {
            if in_part && parts_left == 0 {
                return path.split_at(index);
            }
            in_part = false;
        } else if !in_part {
            in_part = true;
            parts_left -= 1;
        }
    }
    (path, "")
}

/// A path with the query that it was asked with.
fn passed_on(path: &str, asked: &Uri) -> Outcome<Uri> {
    let query = asked.query().map_or(String::new(), |query| format!("?{query}"));
    let parsed = format!("{path}{query}").parse();
    parsed.map_err(|_| bad_request("the path is not valid"))
}

/// Relative links of the first page need the slash.
fn moved(uri: &Uri) -> Response<Body> {
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::try_from(format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn requested_host(request: &Request) -> String {
    let by_header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let by_uri = || request.uri().authority().map(http::uri::Authority::as_str);
    by_header.or_else(by_uri).unwrap_or_default().to_owned()
}

fn asks_to_upgrade(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).into_iter();
    let mut tokens = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

fn withhold(headers: &mut HeaderMap) {
    for name in NOT_FORWARDED {
        headers.remove(name);
    }
    remove_starting(headers, "impersonate-");
}

fn remove_starting(headers: &mut HeaderMap, prefix: &str) {
    let names = headers.keys().filter(|name| name.as_str().starts_with(prefix));
    for name in names.cloned().collect::<Vec<HeaderName>>() {
        headers.remove(name);
    }
}

/// An answer as the client may see it.
async fn shown(answer: Answer, links: &Links) -> Outcome<Response<Body>> {
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    for name in [&header::CONNECTION, &header::TRANSFER_ENCODING, &header::UPGRADE] {
        headers.remove(name);
    }
    // What the backend allows other pages is not for this server's address.
    remove_starting(headers, "access-control-");
    if let Some(location) = headers
        .get(header::LOCATION)
        .and_then(|location| location.to_str().ok())
    {
        if let Ok(location) = HeaderValue::try_from(links.through(location)) {
            headers.insert(header::LOCATION, location);
        }
        return Ok(response);
    }
    if !is_plain_html(headers) {
        return Ok(response);
    }
    let (mut head, body) = response.into_parts();
    let page = Limited::new(body, PAGE_BYTES_MAX).collect().await;
    let page = page.map_err(|error| unavailable(&*error))?.to_bytes();
    head.headers.remove(header::CONTENT_LENGTH);
    let page = html::rewrite(&page, |link| links.through(link));
    Ok(Response::from_parts(head, Body::from(page)))
}

fn is_plain_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim() == "text/html" && !headers.contains_key(header::CONTENT_ENCODING)
}

/// A websocket or whatever else the two ends agree on.
async fn upgrade(server: &Arc<Server>, target: &Backend, path: &str, mut request: Request) -> Outcome<Response<Body>> {
    let uri = passed_on(if path.is_empty() { "/" } else { path }, request.uri())?;
    let mut passed = Request::new(Body::empty());
    *passed.method_mut() = request.method().clone();
    *passed.uri_mut() = uri;
    *passed.headers_mut() = request.headers().clone();
    passed.headers_mut().remove(header::AUTHORIZATION);
    let Answer {
        mut response,
        connection,
    } = target.send(passed).await.map_err(|error| unavailable(&error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answer { response, connection }.into_response());
    }
    let (near, far) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut response));
    server.spawn(async move {
        let _connection = connection;
        let (near, far) = match tokio::try_join!(near, far) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
        };
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
            tracing::debug!(%error, "an upgraded connection broke");
        }
    });
    Ok(response.map(|_| Body::empty()))
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> Box<Status> {
    let message = format!("error trying to reach service: {}", chain(error));
    status(503, "ServiceUnavailable", message, Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxied_path_stays_as_it_was_written() {
        let check = |uri: &str, namespaced: bool, prefix: &str, path: &str| {
            assert_eq!(split(&uri.parse().unwrap(), namespaced), (prefix, path), "{uri}");
        };
        let pod = "/api/v1/namespaces/a/pods/proxy/proxy";
        check(pod, true, pod, "");
        check(&format!("{pod}/"), true, pod, "/");
        check(&format!("{pod}/a%2Fb//c/?x=/y"), true, pod, "/a%2Fb//c/");
        check("/api/v1/nodes/n/proxy/pods", false, "/api/v1/nodes/n/proxy", "/pods");
    }
}
