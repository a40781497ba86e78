//! The kubelet API: logs, exec, attach, the list of pods. Served over TLS to those whom the API server lets (`access`).

use crate::access::{self, Caller, Gate};
use crate::log_reader::{self, Options, is_true};
use crate::pods::Registry;
use crate::port_forward;
use crate::run::Node;
use crate::runtime::{CONTAINER_NAME, Record};
use crate::sandbox_config::log_dir;
use crate::stats::{self, Depth};
use crate::streaming::{self, Kind};
use crate::system_logs;
use api::k8s::api::core::v1::{ContainerStatus, Pod};
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router, middleware};
use futures::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use node_plan::ContainerState;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// A client that has not finished its handshake by then is sent away.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (out of file descriptors).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Kubelet {
    node: Arc<Node>,
    registry: Registry,
    shutdown: CancellationToken,
}

type Answer = Result<Response, Refusal>;

/// An answer that is none.
#[derive(Debug)]
struct Refusal {
    code: u16,
    message: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (
            code,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            self.message,
        )
            .into_response()
    }
}

/// Serves until shutdown.
pub(crate) async fn serve(node: Arc<Node>, registry: Registry, listener: TcpListener, shutdown: CancellationToken) {
    let acceptor = TlsAcceptor::from(node.config.tls.clone());
    let app = router(Kubelet {
        node,
        registry,
        shutdown: shutdown.clone(),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(acceptor.clone(), stream, app.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the kubelet API cannot accept connections for a moment");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
}

fn router(kubelet: Kubelet) -> Router {
    let (client, name) = (kubelet.node.client.clone(), kubelet.node.config.node_name.clone());
    let gate = Arc::new(Gate::new(client, name));
    let admit = move |request, next| access::admit(gate.clone(), request, next);
    let exec = async |state, path, query, request| join(Kind::Exec, state, path, query, request).await;
    let attach = async |state, path, query, request| join(Kind::Attach, state, path, query, request).await;
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/healthz/ping", get(async || "ok"))
        .route("/pods", get(pods))
        .route("/runningpods/", get(running_pods))
        .route("/configz", get(configz))
        .route("/stats/summary", get(stats_summary).post(stats_summary))
        .route("/metrics", get(metrics))
        .route("/metrics/resource", get(metrics_resource))
        .route("/metrics/cadvisor", get(metrics_cadvisor))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs))
        .route("/exec/{namespace}/{pod}/{container}", get(exec).post(exec))
        .route("/attach/{namespace}/{pod}/{container}", get(attach).post(attach))
        .route("/portForward/{namespace}/{pod}", get(forward).post(forward))
        .merge(system_logs::router())
        .layer(middleware::from_fn(admit))
        .with_state(kubelet)
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, app: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection to the kubelet API is slow");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a client of the kubelet API failed its handshake"),
        Err(_) => return tracing::debug!("a client of the kubelet API did not finish its handshake"),
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let caller = certificates.and_then(|all| all.first()).and_then(Caller::of);
    let app = match caller {
        Some(caller) => app.layer(Extension(caller)),
        None => app,
    };
    let builder = auto::Builder::new(TokioExecutor::new());
    let service = TowerToHyperService::new(app);
    if let Err(error) = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(error, "a connection to the kubelet API broke");
    }
}

async fn pods(State(kubelet): State<Kubelet>) -> Response {
    let items: Vec<Pod> = kubelet.registry.pods().into_iter().map(|pod| (*pod).clone()).collect();
    Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})).into_response()
}

/// Pods that have running containers, in what the runtime knows of them.
async fn running_pods(State(kubelet): State<Kubelet>) -> Answer {
    let seen = look(&kubelet, Depth::Shallow).await?;
    let running = seen.pods.iter().filter(|p| !p.containers.is_empty());
    let items: Vec<_> = running
        .map(|p| {
            let meta = &p.pod.metadata;
            let containers: Vec<_> = p
                .containers
                .iter()
                .map(|c| json!({"name": c.name, "image": c.image}))
                .collect();
            json!({
                "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
                "spec": {"containers": containers},
                "status": {},
            })
        })
        .collect();
    Ok(Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})).into_response())
}

async fn configz(State(kubelet): State<Kubelet>) -> Response {
    let config = &kubelet.node.config;
    Json(json!({"kubeletconfig": {
        "cgroupRoot": config.cgroup_root,
        "clusterDNS": config.cluster_dns,
        "clusterDomain": config.cluster_domain,
        "containerRuntimeEndpoint": config.runtime_endpoint,
        "maxPods": config.max_pods,
        "podLogsDir": config.log_dir,
        "podPidsLimit": if config.pod_pids_max > 0 { i64::from(config.pod_pids_max) } else { -1 },
        "resolvConf": config.resolv_conf,
    }}))
    .into_response()
}

async fn look(kubelet: &Kubelet, depth: Depth) -> Result<stats::Snapshot, Refusal> {
    let seen = stats::look(&kubelet.node, &kubelet.registry, depth).await;
    seen.map_err(|status| refuse(500, crate::images::message(&status)))
}

async fn stats_summary(State(kubelet): State<Kubelet>) -> Answer {
    let seen = look(&kubelet, Depth::All).await?;
    Ok(Json(stats::summary(&kubelet.node, &seen)).into_response())
}

fn prometheus(text: String) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

async fn metrics(State(kubelet): State<Kubelet>) -> Answer {
    let seen = look(&kubelet, Depth::Shallow).await?;
    Ok(prometheus(stats::kubelet(&kubelet.node, &seen)))
}

async fn metrics_resource(State(kubelet): State<Kubelet>) -> Answer {
    Ok(prometheus(stats::resource(&look(&kubelet, Depth::Shallow).await?)))
}

async fn metrics_cadvisor(State(kubelet): State<Kubelet>) -> Answer {
    let seen = look(&kubelet, Depth::Shallow).await?;
    Ok(prometheus(stats::cadvisor(&kubelet.node, &seen)))
}

fn refuse(code: u16, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        message: message.into(),
    }
}

fn find_pod(kubelet: &Kubelet, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
    let found = kubelet.registry.pod(namespace, name);
    found.ok_or_else(|| refuse(404, format!("pod \"{name}_{namespace}\" does not exist")))
}

fn has_container(pod: &Pod, name: &str) -> bool {
    pod.spec
        .as_ref()
        .is_some_and(|s| node_plan::definition(s, name).is_some())
}

/// A pod's containers of a name, the newest first.
async fn records(kubelet: &Kubelet, pod: &Pod, name: &str) -> Result<Vec<Record>, Refusal> {
    let failed = |status: tonic::Status| refuse(500, crate::images::message(&status));
    let runtime = &kubelet.node.runtime;
    let mut records = Vec::new();
    for listed in runtime
        .list_containers(pod.metadata.uid.as_deref())
        .await
        .map_err(failed)?
    {
        if listed.labels.get(CONTAINER_NAME).map(String::as_str) == Some(name) {
            records.extend(
                runtime
                    .container(&listed.id, &listed.pod_sandbox_id)
                    .await
                    .map_err(failed)?,
            );
        }
    }
    records.sort_by_key(|r| std::cmp::Reverse((r.container.restart_count, r.container.created_at)));
    Ok(records)
}

async fn logs(
    State(kubelet): State<Kubelet>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer {
    let pod = find_pod(&kubelet, &namespace, &name)?;
    if !has_container(&pod, &container) {
        return Err(refuse(
            404,
            format!("container \"{container}\" not found in pod \"{name}_{namespace}\""),
        ));
    }
    let options = Options::parse(&query).map_err(|why| refuse(400, why))?;
    let previous = query.iter().any(|(n, v)| n == "previous" && is_true(v));
    let started = |r: &Record| r.container.state != ContainerState::Created;
    let mut records = records(&kubelet, &pod, &container).await?.into_iter().filter(started);
    let record = if previous { records.nth(1) } else { records.next() };
    let Some(record) = record else {
        let why = if previous {
            format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
        } else {
            format!(
                "container \"{container}\" in pod \"{name}\" is {}",
                waiting_text(&pod, &container)
            )
        };
        return Err(refuse(400, why));
    };
    let path = if record.log_path.is_empty() {
        log_dir(&kubelet.node, &pod)
            .join(&container)
            .join(format!("{}.log", record.container.restart_count))
    } else {
        record.log_path.into()
    };
    if let Err(error) = tokio::fs::metadata(&path).await {
        return Err(refuse(
            500,
            format!("failed to open log file \"{}\": {error}", path.display()),
        ));
    }
    let pieces = log_reader::stream(kubelet.node.clone(), path, record.container.id, options);
    let body = Body::from_stream(ReceiverStream::new(pieces).fuse());
    Ok(([(header::CONTENT_TYPE, "text/plain")], body).into_response())
}

fn waiting_text(pod: &Pod, container: &str) -> String {
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|s| {
        s.container_statuses
            .iter()
            .flatten()
            .chain(s.init_container_statuses.iter().flatten())
            .chain(s.ephemeral_container_statuses.iter().flatten())
    });
    let found: Option<&ContainerStatus> = all.into_iter().find(|s| s.name == container);
    let waiting = found.and_then(|s| s.state.as_ref()).and_then(|s| s.waiting.as_ref());
    match waiting.and_then(|w| w.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff") => "waiting to start: trying and failing to pull image".to_owned(),
        Some(reason) => format!("waiting to start: {reason}"),
        None => "waiting to start: ContainerCreating".to_owned(),
    }
}

async fn forward(
    State(kubelet): State<Kubelet>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let pod = find_pod(&kubelet, &namespace, &name)?;
    let sandboxes = kubelet.node.runtime.sandboxes(pod.metadata.uid.as_deref()).await;
    let sandboxes = sandboxes.map_err(|status| refuse(500, crate::images::message(&status)))?;
    let ready = |s: &cri::v1::PodSandbox| s.state == cri::v1::PodSandboxState::SandboxReady as i32;
    let newest = sandboxes.into_iter().filter(ready).max_by_key(|s| s.created_at);
    let Some(sandbox) = newest else {
        return Err(refuse(
            500,
            format!("pod \"{name}_{namespace}\" has no sandbox that is ready"),
        ));
    };
    let joined = port_forward::join(&kubelet.node, &sandbox.id, request, kubelet.shutdown.clone()).await;
    joined.map_err(|(code, why)| refuse(code, why))
}

async fn join(
    kind: Kind,
    State(kubelet): State<Kubelet>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    mut request: Request,
) -> Answer {
    let pod = find_pod(&kubelet, &namespace, &name)?;
    let streams = streaming::streams(&query).map_err(|why| refuse(400, why))?;
    let records = records(&kubelet, &pod, &container).await?;
    let running = records.iter().find(|r| r.container.state == ContainerState::Running);
    let Some(running) = running else {
        return Err(refuse(404, format!("container not found (\"{container}\")")));
    };
    let (response, pending) = remotecommand::accept(&mut request, streams)
        .map_err(|refused| refuse(refused.status_code().as_u16(), refused.to_string()))?;
    let opened = streaming::open(&kubelet.node, kind, &running.container.id, &query, streams).await;
    let client = opened.map_err(|(code, why)| refuse(code, why))?;
    // The session lives as long as its two connections, but not longer than the agent.
    let session = async move {
        match pending.session().await {
            Ok(server) => remotecommand::pipe(server, client).await,
            Err(error) => tracing::debug!(%error, "a session did not begin"),
        }
    };
    tokio::spawn(kubelet.shutdown.run_until_cancelled_owned(session));
    Ok(response.map(|()| Body::empty()))
}
