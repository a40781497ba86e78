//! What every request passes on its way in and out: identity, limits, rights; counters and the audit log.
//!
//! ```text
//!  in  ─▶ who is it ─▶ is there a place ─▶ for whom ─▶ may he ─▶ dispatch
//!  out ◀─ audit log ◀─ counters ◀────────────────────────────────── │
//! ```

use crate::asked;
use crate::audit::{self, Trace};
use crate::authz::{self, Action, MASTERS};
use crate::body;
use crate::clock;
use crate::dispatch;
use crate::impersonation;
use crate::in_flight::Place;
use crate::in_process::Local;
use crate::metrics::LongRunning;
use crate::negotiate;
use crate::path::{self, Path, ResourcePath};
use crate::query::Query;
use crate::serve::Peer;
use crate::server::Server;
use crate::status::{self, Outcome, timed_out, unauthorized};
use crate::tokens;
use crate::user::User;
use axum::body::Body;
use axum::extract::{Request, State};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};
use http_body::Frame;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// The longest audit id that is taken from a client.
const AUDIT_ID_MAX: usize = 64;

/// Answers a request.
pub(crate) async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response<Body> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let path = path::parse(head.uri.path());
    let query = Query::of(&head.uri);
    let verb = match (&path, &query) {
        (Path::Resource(path), Ok(query)) => asked::verb(&head.method, path, query).unwrap_or(""),
        _ => "",
    };
    let labels = asked::labels(&head, &path, verb);
    let resource = match &path {
        Path::Resource(path) => Some(path.clone()),
        Path::Document(_) => None,
    };
    let is_long = resource.as_ref().is_some_and(|path| asked::is_long_running(verb, path));
    let id = audit_id(&head.headers);
    // Only what somebody will read is put into words.
    let told = server.audit.as_ref().map(|_| told(&head, &id, verb, resource));
    let target = tracing::enabled!(tracing::Level::DEBUG).then(|| head.uri.to_string());
    let mut trace = Trace::default();
    let in_protobuf = !labels.resource.is_empty() && negotiate::errors_in_protobuf(&head.headers);
    let request = Request::from_parts(head, body);
    let routed = match query {
        Ok(query) => route(&server, request, path, query, &mut trace).await,
        Err(status) => Err(status),
    };
    let mut response = routed.unwrap_or_else(|status| status::response(&status, in_protobuf));
    let (code, took) = (response.status().as_u16(), started.elapsed());
    if let Some(target) = target {
        tracing::debug!(code, took_us = took.as_micros(), "{} {target}", labels.verb);
    }
    let goes_on = is_long && code < 400;
    server.metrics.answered(labels, code, (!goes_on).then_some(took));
    if let (Some(audit), Some(told)) = (&server.audit, &told) {
        let stage = if goes_on { "ResponseStarted" } else { "ResponseComplete" };
        audit.log(&audit::event(told, &trace, stage, code)).await;
        server.metrics.audited.fetch_add(1, Ordering::Relaxed);
    }
    if goes_on {
        let guard = GoesOn {
            _counted: LongRunning::begin(&server, labels),
            server: Arc::clone(&server),
            told,
            trace,
            code,
        };
        response = response.map(|body| Body::new(Guarded { body, _guard: guard }));
    }
    complete(&mut response, &id);
    response
}

/// A request as the audit log tells it.
fn told(head: &http::request::Parts, id: &str, verb: &str, resource: Option<ResourcePath>) -> audit::Request {
    audit::Request {
        id: id.to_owned(),
        uri: head
            .uri
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string),
        verb: if verb.is_empty() {
            head.method.as_str().to_lowercase()
        } else {
            verb.to_owned()
        },
        peer: head
            .extensions
            .get::<Peer>()
            .map(|Peer(address)| address.ip().to_string()),
        agent: audit::header_text(&head.headers, &header::USER_AGENT),
        resource,
        received: clock::micro_text(),
    }
}

fn complete(response: &mut Response<Body>, audit_id: &str) {
    let headers = response.headers_mut();
    if let Ok(mut id) = HeaderValue::try_from(audit_id) {
        // No two are the same, so HTTP/2 need not remember it for the next answer.
        id.set_sensitive(true);
        headers.insert(AUDIT_ID, id);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
}

/// The client's id of a request, or a new one.
fn audit_id(headers: &http::HeaderMap) -> String {
    audit::header_text(headers, &AUDIT_ID)
        .filter(|id| !id.is_empty() && id.len() <= AUDIT_ID_MAX)
        .unwrap_or_else(crate::names::uid)
}

async fn route(
    server: &Arc<Server>,
    request: Request,
    path: Path,
    query: Query,
    trace: &mut Trace,
) -> Outcome<Response<Body>> {
    let given = request.extensions().get::<User>().cloned();
    let user = identify(server, given, request.headers()).await?;
    trace.user.clone_from(&user);
    let path = match path {
        Path::Document(path) => {
            let (head, _) = request.into_parts();
            let user = acting(server, user, &head.headers, trace).await?;
            return document(server, user, &path, &query, &head, trace).await;
        }
        Path::Resource(path) => path,
    };
    let user = user.ok_or_else(unauthorized)?;
    let verb = asked::verb(request.method(), &path, &query)?;
    let is_long = asked::is_long_running(verb, &path);
    let is_exempt = user.is_in(MASTERS) || request.extensions().get::<Local>().is_some();
    let writes = !matches!(verb, "get" | "list" | "watch");
    let limit = limit(server, &query)?;
    let user = acting(server, Some(user), request.headers(), trace)
        .await?
        .ok_or_else(unauthorized)?;
    let served = async {
        let request = if writes && !is_long {
            kept_body(server, &path, request, trace).await?
        } else {
            request
        };
        let decision = authz::check(server, &user, &asked::action(verb, &path, &query)).await;
        trace.decision = Some(authz::Decision::of(&decision));
        decision?;
        let mut request = request;
        request.extensions_mut().insert(trace.annotations.clone());
        dispatch::resource(server, user, verb, path, query, request).await
    };
    if is_long {
        return served.await;
    }
    let _place = Place::take(server, writes, is_exempt)?;
    tokio::time::timeout(limit, served)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}

/// Everything that is not a resource.
async fn document(
    server: &Arc<Server>,
    user: Option<User>,
    path: &str,
    query: &Query,
    request: &http::request::Parts,
    trace: &mut Trace,
) -> Outcome<Response<Body>> {
    let user = match user {
        None if !authz::is_public(path) => return Err(unauthorized()),
        user => user.unwrap_or_else(User::anonymous),
    };
    // Nothing here takes long enough to be cut short, but a limit that cannot be understood is refused everywhere.
    limit(server, query)?;
    let action = Action {
        verb: request.method.as_str().to_lowercase(),
        path: Some(path.to_owned()),
        ..Action::default()
    };
    let decision = authz::check(server, &user, &action).await;
    trace.decision = Some(authz::Decision::of(&decision));
    decision?;
    dispatch::document(server, path, query, request).await
}

/// Whom a request comes from; `None` if it does not say so.
async fn identify(server: &Server, given: Option<User>, headers: &http::HeaderMap) -> Outcome<Option<User>> {
    let user = match given {
        Some(user) => Ok(Some(user)),
        None => tokens::bearer_of(server, headers).await,
    };
    match &user {
        Ok(Some(_)) => server.metrics.authenticated.fetch_add(1, Ordering::Relaxed),
        Ok(None) => 0,
        Err(_) => server.metrics.not_authenticated.fetch_add(1, Ordering::Relaxed),
    };
    user
}

/// Whom a request is made for.
async fn acting(
    server: &Server,
    user: Option<User>,
    headers: &http::HeaderMap,
    trace: &mut Trace,
) -> Outcome<Option<User>> {
    let Some(user) = user else { return Ok(None) };
    let acting = impersonation::acting_user(server, user, headers).await?;
    if trace.user.as_ref() != Some(&acting) {
        trace.acting = Some(acting.clone());
    }
    Ok(Some(acting))
}

/// How long a request may take: what the server allows, or less if the client wants so.
fn limit(server: &Server, query: &Query) -> Outcome<Duration> {
    let allowed = server.config.request_timeout;
    Ok(query
        .duration("timeout")?
        .filter(|wanted| !wanted.is_zero())
        .map_or(allowed, |wanted| wanted.min(allowed)))
}

/// The request with its body read, if the audit log wants it.
async fn kept_body(server: &Server, path: &ResourcePath, request: Request, trace: &mut Trace) -> Outcome<Request> {
    if !server.audit.as_ref().is_some_and(|audit| audit.wants_body(Some(path))) {
        return Ok(request);
    }
    let (head, unread) = request.into_parts();
    let bytes = body::read(unread).await?;
    trace.body = Some(bytes.clone());
    Ok(Request::from_parts(head, Body::from(bytes)))
}

/// What is to be told when a long answer ends.
struct GoesOn {
    _counted: LongRunning,
    server: Arc<Server>,
    told: Option<audit::Request>,
    trace: Trace,
    code: u16,
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        if let (Some(audit), Some(told)) = (&self.server.audit, &self.told) {
            audit.log_now(&audit::event(told, &self.trace, "ResponseComplete", self.code));
            self.server.metrics.audited.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A body with something that lives as long as it.
struct Guarded<G> {
    body: Body,
    _guard: G,
}

impl<G: Unpin> http_body::Body for Guarded<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
