//! From a request to the function that answers it: identity, rights, form, kind, verb.

use crate::authz::{self, Action};
use crate::body;
use crate::call::Call;
use crate::certificate_requests;
use crate::definitions;
use crate::discovery;
use crate::impersonation;
use crate::kubelet::{log, port_forward, terminal};
use crate::negotiate::{self, Form};
use crate::openapi;
use crate::options::WriteOptions;
use crate::path::{self, Path, ResourcePath};
use crate::protobuf;
use crate::query::Query;
use crate::respond;
use crate::reviews;
use crate::serve::Draining;
use crate::server::Server;
use crate::status::{self, Outcome, internal, method_not_allowed, timed_out, unauthorized, unknown_resource};
use crate::tokens;
use crate::update::Part;
use crate::user::User;
use crate::{
    binding, create, delete, deletecollection, eviction, get, health, list, patch, proxy, scale, update, watch,
};
use api::kinds::Kind;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::{CompressionLayer, Predicate};

/// How long anything but a watch or a stream may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers from this size on are compressed for clients that take it; upstream's figure.
const COMPRESS_BYTES_MIN: u64 = 128 * 1024;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// The HTTP service of a server.
pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new()
        .fallback(answer)
        .with_state(server)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(
            CompressionLayer::new()
                .quality(CompressionLevel::Fastest)
                .compress_when(LargeAndWhole),
        )
}

/// Only answers whose size is known are compressed: a watch must flow.
#[derive(Clone, Copy, Debug)]
struct LargeAndWhole;

impl Predicate for LargeAndWhole {
    fn should_compress<B: http_body::Body>(&self, response: &Response<B>) -> bool {
        response
            .body()
            .size_hint()
            .exact()
            .is_some_and(|size| size >= COMPRESS_BYTES_MIN)
    }
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response<Body> {
    let status = internal("This request caused apiserver to panic. Look in the logs for details.");
    status::response(&status, false)
}

async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response<Body> {
    let started = Instant::now();
    let audit_id = request.headers().get(AUDIT_ID).cloned();
    let (verb, resource) = label(&request);
    let target = format!("{} {}", request.method(), request.uri());
    let in_protobuf = resource_has_protobuf(&request) && negotiate::errors_in_protobuf(request.headers());
    let mut response = match route(&server, request).await {
        Ok(response) => response,
        Err(status) => status::response(&status, in_protobuf),
    };
    let (code, took) = (response.status().as_u16(), started.elapsed());
    tracing::debug!(code, took_us = took.as_micros(), "{target}");
    server.metrics.answered(verb, resource, code, took);
    let headers = response.headers_mut();
    let audit_id = audit_id.or_else(|| HeaderValue::try_from(crate::names::uid()).ok());
    headers.extend(audit_id.map(|id| (AUDIT_ID, id)));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    }
    response
}

/// Whether what a request is about has a protobuf form.
fn resource_has_protobuf(request: &Request) -> bool {
    match path::parse(request.uri().path()) {
        Path::Resource(path) => api::kinds::by_resource(&path.group, &path.version, &path.resource).is_some(),
        Path::Document(_) => false,
    }
}

/// How a request is counted.
fn label(request: &Request) -> (&'static str, &'static str) {
    let resource = match path::parse(request.uri().path()) {
        Path::Resource(path) => {
            api::kinds::by_resource(&path.group, &path.version, &path.resource).map_or("other", |kind| kind.plural)
        }
        Path::Document(_) => "",
    };
    let is_watch = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=1") || query.contains("watch=true"));
    let verb = match *request.method() {
        Method::GET if is_watch => "watch",
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    };
    (verb, resource)
}

async fn route(server: &Arc<Server>, request: Request) -> Outcome<Response<Body>> {
    let query = Query::of(request.uri())?;
    let user = match request.extensions().get::<User>() {
        Some(user) => Some(user.clone()),
        None => tokens::bearer_of(server, request.headers().clone()).await?,
    };
    let user = match user {
        Some(user) => Some(impersonation::acting_user(server, user, request.headers()).await?),
        None => None,
    };
    match path::parse(request.uri().path()) {
        Path::Document(path) => {
            // The body stays behind: a borrowed one could not cross threads.
            let (head, _) = request.into_parts();
            document(server, user, &path, &query, &head).await
        }
        Path::Resource(path) => {
            let user = user.ok_or_else(unauthorized)?;
            resource(server, user, path, query, request).await
        }
    }
}

/// Everything that is not a resource.
async fn document(
    server: &Arc<Server>,
    user: Option<User>,
    path: &str,
    query: &Query,
    request: &Parts,
) -> Outcome<Response<Body>> {
    let user = match user {
        None if !authz::is_public(path) => return Err(unauthorized()),
        user => user.unwrap_or_else(User::anonymous),
    };
    let verb = request.method.as_str().to_lowercase();
    let action = Action {
        verb,
        path: Some(path.to_owned()),
        ..Action::default()
    };
    authz::check(server, &user, &action).await?;
    let headers = &request.headers;
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(method_not_allowed());
    }
    if let Some(response) = health::get(server, path, query).await {
        return Ok(response);
    }
    if path.starts_with("/openapi/")
        && let Some(response) = describe(server, path, query, headers).await?
    {
        return Ok(response);
    }
    match path {
        "/.well-known/openid-configuration" => {
            let document = server.issuer.discovery(&tokens::jwks_uri(server));
            Ok(public_document("application/json", &document))
        }
        "/openid/v1/jwks" => Ok(public_document("application/jwk-set+json", &server.issuer.key_set())),
        "/version" => Ok(json_document(&version(&server.config.git_version))),
        "/metrics" => {
            let text = server.metrics.text();
            Ok(respond::plain(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                text,
            ))
        }
        "/" => {
            let paths = [
                "/.well-known/openid-configuration",
                "/api",
                "/apis",
                "/healthz",
                "/livez",
                "/metrics",
                "/openapi/v2",
                "/openapi/v3",
                "/openid/v1/jwks",
                "/readyz",
                "/version",
            ];
            Ok(json_document(&json!({"paths": paths})))
        }
        _ => discover(server, path, query, headers),
    }
}

/// OpenAPI: made at the first request, which takes too long for a thread that serves others.
async fn describe(
    server: &Arc<Server>,
    path: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Outcome<Option<Response<Body>>> {
    let (server, path, headers) = (server.clone(), path.to_owned(), headers.clone());
    let hash = query.get("hash").map(str::to_owned);
    let served = server.definitions.served();
    let made =
        tokio::task::spawn_blocking(move || openapi::get(&server.documents, &served, &path, hash.as_deref(), &headers));
    made.await
        .map_err(|error| internal(format!("the document cannot be made: {error}")))
}

fn discover(server: &Server, path: &str, query: &Query, headers: &HeaderMap) -> Outcome<Response<Body>> {
    let custom = server.definitions.served();
    if discovery::wants_aggregated(headers) && matches!(path, "/api" | "/apis") {
        let make = || discovery::aggregated(path, &custom.kinds).unwrap_or_default();
        let document = server.documents.discovery(&custom, path, make);
        let mut response = document.respond(headers, discovery::AGGREGATED);
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        return Ok(response);
    }
    let served = discovery::document(path, &server.config.advertise.to_string(), &custom.kinds);
    match served {
        Some(served) => {
            discovery::check_accept(headers, query)?;
            Ok(json_document(&served))
        }
        None => Ok(respond::plain(
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "404 page not found\n",
        )),
    }
}

/// A document that others may keep for an hour.
fn public_document(content_type: &'static str, value: &serde_json::Value) -> Response<Body> {
    let mut response = respond::plain(StatusCode::OK, content_type, value.to_string());
    let kept = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    response
}

fn json_document(value: &serde_json::Value) -> Response<Body> {
    respond::plain(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn version(git_version: &str) -> serde_json::Value {
    let mut parts = git_version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or("1"), parts.next().unwrap_or("36"));
    json!({
        "major": major, "minor": minor, "gitVersion": git_version, "gitCommit": "", "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

/// The machine's name as Kubernetes' platforms have it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What is done to a resource.
fn verb(method: &Method, path: &ResourcePath, query: &Query) -> Outcome<&'static str> {
    let single = !path.name.is_empty();
    Ok(match *method {
        Method::GET | Method::HEAD if single => "get",
        Method::GET | Method::HEAD if query.flag("watch").unwrap_or(false) => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if single => "delete",
        Method::DELETE => "deletecollection",
        // Proxied requests may be of any method; those without a verb need the right to all verbs.
        _ if is_proxy(&path.group, &path.resource, &path.subresource) => "",
        _ => return Err(method_not_allowed()),
    })
}

/// What a request wants to do, as rights speak of it.
fn action_of(verb: &str, path: &ResourcePath, query: &Query) -> Action {
    let mut action = Action {
        verb: verb.to_owned(),
        group: path.group.clone(),
        resource: path.resource.clone(),
        subresource: path.subresource.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        ..Action::default()
    };
    // A namespace lies in itself, so that rights in it reach it.
    if action.group.is_empty() && action.resource == "namespaces" {
        action.namespace.clone_from(&action.name);
    }
    if action.name.is_empty()
        && let Some(selector) = query.get("fieldSelector")
    {
        let pairs = selector.split(',').filter(|part| !part.contains("!="));
        let pairs = pairs.filter_map(|part| part.split_once("==").or_else(|| part.split_once('=')));
        action.fields = pairs
            .map(|(field, value)| (field.to_owned(), value.to_owned()))
            .collect();
        // Whoever asks for one object of a collection asks for that object.
        let named = action.fields.iter().find(|(field, _)| field == "metadata.name");
        action.name = named.map_or_else(String::new, |(_, name)| name.clone());
    }
    action
}

async fn resource(
    server: &Arc<Server>,
    user: User,
    path: ResourcePath,
    query: Query,
    request: Request,
) -> Outcome<Response<Body>> {
    let verb = verb(request.method(), &path, &query)?;
    authz::check(server, &user, &action_of(verb, &path, &query)).await?;
    let options = match verb {
        "create" => "CreateOptions",
        "patch" => "PatchOptions",
        _ => "UpdateOptions",
    };
    let is_read = matches!(verb, "get" | "list" | "watch" | "delete" | "deletecollection");
    let write = if is_read {
        WriteOptions::of(options, &Query::default())
    } else {
        WriteOptions::of(options, &query)
    }?;
    let headers = request.headers().clone();
    let names = [path.namespace.clone(), path.name.clone(), path.subresource.clone()];
    if let Some(review) = reviews::by_resource(&path.group, &path.version, &path.resource) {
        if verb != "create" || !path.name.is_empty() {
            return Err(method_not_allowed());
        }
        let form = negotiate::form(&headers, &query, true)?;
        let call = Call::new(pods(), names, user, query, headers, form, write);
        return reviews::answer(server, review, &call, body::read(request.into_body()).await?).await;
    }
    let is_bindings = path.group.is_empty() && path.resource == "bindings";
    let kind = if is_bindings {
        Some(pods().into())
    } else {
        server.definitions.kind(&path.group, &path.version, &path.resource)
    };
    let kind = kind.ok_or_else(unknown_resource)?;
    check_scope(&kind, &path, verb)?;
    let streams = is_streamed(&kind, &path.subresource);
    // Streams are not JSON, whatever the client says it takes.
    let form = if streams {
        Form::JSON
    } else {
        negotiate::form(&headers, &query, protobuf::knows(&kind))?
    };
    let mut call = Call::new(kind, names, user, query, headers, form, write);
    if is_bindings {
        call.subresource = "binding".to_owned();
    }
    if streams {
        return stream(server, &call, verb, request).await;
    }
    if verb == "watch" {
        let draining = request.extensions().get::<Draining>().cloned();
        return watch::watch(server, &call, draining).await;
    }
    let served = serve(server, &mut call, verb, request.into_body());
    tokio::time::timeout(REQUEST_TIMEOUT, served)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}

/// Whether what flows is not JSON, however the client asks.
fn is_streamed(kind: &Kind, subresource: &str) -> bool {
    let of_pods = ["log", "exec", "attach", "portforward"];
    (*kind == *pods() && of_pods.contains(&subresource)) || is_proxy(kind.group, kind.plural, subresource)
}

/// Whether a path leads through this server to something else.
fn is_proxy(group: &str, resource: &str, subresource: &str) -> bool {
    group.is_empty() && matches!(resource, "pods" | "services" | "nodes") && subresource == "proxy"
}

fn pods() -> &'static Kind {
    crate::admission::kind("", "pods")
}

/// Objects of a namespace are written through it; only lists and watches may look at all namespaces.
fn check_scope(kind: &Kind, path: &ResourcePath, verb: &str) -> Outcome<()> {
    let needs_namespace = kind.namespaced && path.namespace.is_empty();
    if !kind.namespaced && !path.namespace.is_empty() {
        return Err(unknown_resource());
    }
    if needs_namespace && !path.name.is_empty() {
        return Err(unknown_resource());
    }
    if needs_namespace && !matches!(verb, "list" | "watch") {
        return Err(method_not_allowed());
    }
    Ok(())
}

async fn serve(server: &Arc<Server>, call: &mut Call, verb: &str, body: Body) -> Outcome<Response<Body>> {
    match call.subresource.as_str() {
        "" => main(server, call, verb, body).await,
        "status" if call.kind.has_status => part(server, call, verb, Part::Status, body).await,
        "approval" if certificate_requests::is_request(&call.kind) => {
            part(server, call, verb, Part::Approval, body).await
        }
        "scale" if call.kind.has_scale => match verb {
            "get" => scale::get(server, call).await,
            "update" => scale::put(server, call, body::read(body).await?).await,
            "patch" => scale::patch(server, call, body::read(body).await?).await,
            _ => Err(method_not_allowed()),
        },
        "binding" if *call.kind == *pods() => match verb {
            "create" => binding::bind(server, call, body::read(body).await?).await,
            _ => Err(method_not_allowed()),
        },
        "ephemeralcontainers" if *call.kind == *pods() => {
            part(server, call, verb, Part::EphemeralContainers, body).await
        }
        "resize" if *call.kind == *pods() => part(server, call, verb, Part::Resize, body).await,
        "eviction" if *call.kind == *pods() => match verb {
            "create" => eviction::evict(server, call, body::read(body).await?).await,
            _ => Err(method_not_allowed()),
        },
        "token" if call.kind.group.is_empty() && call.kind.kind == "ServiceAccount" => match verb {
            "create" => tokens::request::create(server, call, body::read(body).await?).await,
            _ => Err(method_not_allowed()),
        },
        "finalize" if call.kind.group.is_empty() && call.kind.kind == "Namespace" => match verb {
            "update" => update::put(server, call, Part::Finalizers, body::read(body).await?).await,
            _ => Err(method_not_allowed()),
        },
        _ => Err(unknown_resource()),
    }
}

/// A subresource that is a part of the object and shows all of it.
async fn part(server: &Arc<Server>, call: &mut Call, verb: &str, part: Part, body: Body) -> Outcome<Response<Body>> {
    match verb {
        "get" => get::get(server, call).await,
        "update" => update::put(server, call, part, body::read(body).await?).await,
        "patch" => patch::patch(server, call, part, body::read(body).await?).await,
        _ => Err(method_not_allowed()),
    }
}

async fn main(server: &Arc<Server>, call: &mut Call, verb: &str, body: Body) -> Outcome<Response<Body>> {
    match verb {
        "get" => get::get(server, call).await,
        "list" => list::list(server, call).await,
        "create" if call.kind.custom.as_ref().is_some_and(|version| version.is_terminating) => {
            Err(definitions::no_create())
        }
        "create" if call.name.is_empty() => create::create(server, call, body::read(body).await?).await,
        "update" if !call.name.is_empty() => update::put(server, call, Part::Main, body::read(body).await?).await,
        "patch" if !call.name.is_empty() => patch::patch(server, call, Part::Main, body::read(body).await?).await,
        "delete" => delete::delete(server, call, body::read(body).await?).await,
        "deletecollection" => deletecollection::delete_collection(server, call, body::read(body).await?).await,
        _ => Err(method_not_allowed()),
    }
}

/// What flows between a client and a container.
async fn stream(server: &Arc<Server>, call: &Call, verb: &str, request: Request) -> Outcome<Response<Body>> {
    match (call.subresource.as_str(), verb) {
        ("proxy", _) => proxy::forward(server, call, request).await,
        ("log", "get") => log::get(server, call, request).await,
        ("portforward", "get" | "create") => port_forward::open(server, call, request).await,
        ("exec" | "attach", "get" | "create") => terminal::open(server, call, request).await,
        _ => Err(method_not_allowed()),
    }
}
