//! From a request to the function that answers it: form, kind, verb.

use crate::admission;
use crate::audit::Annotations;
use crate::body;
use crate::call::Call;
use crate::certificate_requests;
use crate::computed;
use crate::config::Config;
use crate::definitions;
use crate::discovery;
use crate::entrance;
use crate::kubelet::{log, port_forward, terminal};
use crate::metrics;
use crate::negotiate::{self, Form};
use crate::openapi;
use crate::options::WriteOptions;
use crate::path::ResourcePath;
use crate::query::Query;
use crate::respond;
use crate::reviews;
use crate::serve::Draining;
use crate::server::Server;
use crate::status::{self, Outcome, bad_request, internal, method_not_allowed, unknown_resource};
use crate::tokens;
use crate::update::Part;
use crate::user::User;
use crate::{
    binding, create, delete, deletecollection, eviction, get, health, list, patch, proxy, scale, update, watch,
};
use api::kinds::Kind;
use api::protobuf;
use api::validation::names::path_segment_errors;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;
use std::sync::Arc;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::{CompressionLayer, Predicate};

/// Answers from this size on are compressed for clients that take it; upstream's figure.
const COMPRESS_BYTES_MIN: u64 = 128 * 1024;

/// The HTTP service of a server.
pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new()
        .fallback(entrance::answer)
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

/// Everything that is not a resource.
pub(crate) async fn document(
    server: &Arc<Server>,
    path: &str,
    query: &Query,
    request: &Parts,
) -> Outcome<Response<Body>> {
    let headers = &request.headers;
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(method_not_allowed());
    }
    if let Some(response) = health::get(server, path, query, &request.extensions).await {
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
        "/version" => Ok(json_document(&version(&server.config))),
        "/metrics" => Ok(measurements(metrics::text(server).await)),
        "/metrics/slis" => Ok(measurements(health::indicators(server, &request.extensions).await)),
        "/" => {
            let paths = [
                "/.well-known/openid-configuration",
                "/api",
                "/apis",
                "/healthz",
                "/livez",
                "/metrics",
                "/metrics/slis",
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

/// Numbers in the format of Prometheus.
fn measurements(text: String) -> Response<Body> {
    respond::plain(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
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

fn version(config: &Config) -> serde_json::Value {
    let Config { git_version, build, .. } = config;
    let mut parts = git_version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or("1"), parts.next().unwrap_or("36"));
    json!({
        "major": major, "minor": minor, "gitVersion": git_version, "gitCommit": build.commit,
        "gitTreeState": build.tree_state, "buildDate": crate::clock::text(build.date.as_second()), "goVersion": "", "compiler": "rustc",
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

/// An object, a collection or a part of an object.
pub(crate) async fn resource(
    server: &Arc<Server>,
    user: User,
    verb: &'static str,
    path: ResourcePath,
    query: Query,
    request: Request,
) -> Outcome<Response<Body>> {
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
    let annotations = request.extensions().get::<Annotations>().cloned();
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
    let computed = computed::by_resource(&path.group, &path.version, &path.resource);
    let kind = if is_bindings {
        Some(pods().into())
    } else if let Some(kind) = computed {
        Some(kind.into())
    } else {
        server.definitions.kind(&path.group, &path.version, &path.resource)
    };
    let kind = kind.ok_or_else(unknown_resource)?;
    check_scope(&kind, &path, verb)?;
    check_name(&path.name)?;
    let streams = is_streamed(&kind, &path.subresource);
    // Streams are not JSON, whatever the client says it takes.
    let form = if streams {
        Form::JSON
    } else {
        negotiate::form(&headers, &query, protobuf::knows(&kind))?
    };
    let mut call = Call::new(kind, names, user, query, headers, form, write);
    call.annotations = annotations.unwrap_or_default();
    if is_bindings {
        call.subresource = "binding".to_owned();
    }
    if computed.is_some() {
        return computed::read(server, &mut call, verb).await;
    }
    if streams {
        return stream(server, &call, verb, request).await;
    }
    if verb == "watch" {
        let draining = request.extensions().get::<Draining>().cloned();
        return watch::watch(server, &call, draining).await;
    }
    serve(server, &mut call, verb, request.into_body()).await
}

/// A name is one segment of a path, even where it came in disguise.
fn check_name(name: &str) -> Outcome<()> {
    let why = path_segment_errors(name).join(";");
    if why.is_empty() {
        return Ok(());
    }
    Err(bad_request(format!("Name parameter invalid: {name:?}: {why}")))
}

/// Whether what flows is not JSON, however the client asks.
fn is_streamed(kind: &Kind, subresource: &str) -> bool {
    let of_pods = ["log", "exec", "attach", "portforward"];
    (*kind == *pods() && of_pods.contains(&subresource)) || is_proxy(kind.group, kind.plural, subresource)
}

/// Whether a path leads through this server to something else.
pub(crate) fn is_proxy(group: &str, resource: &str, subresource: &str) -> bool {
    group.is_empty() && matches!(resource, "pods" | "services" | "nodes") && subresource == "proxy"
}

fn pods() -> &'static Kind {
    admission::kind("", "pods")
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
        ("proxy", _) => {
            admission::connect(server, call).await?;
            proxy::forward(server, call, request).await
        }
        ("log", "get") => log::get(server, call, request).await,
        ("portforward", "get" | "create") => port_forward::open(server, call, request).await,
        ("exec" | "attach", "get" | "create") => terminal::open(server, call, request).await,
        _ => Err(method_not_allowed()),
    }
}
