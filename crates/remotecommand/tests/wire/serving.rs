//! A tiny API server with one pod whose commands are processes of this machine.

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use remotecommand::{Endpoint, ServerSession, StreamOptions, Wire, accept, connect, pipe, status};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What became known about sessions, in order.
pub(crate) type Notes = mpsc::Receiver<String>;

struct Server {
    notes: mpsc::Sender<String>,
    /// Where to pass sessions on to instead of serving them.
    behind: Option<(SocketAddr, Wire)>,
}

/// The address of a server, and the task that serves.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) notes: Notes,
    _tasks: JoinSet<()>,
}

/// Starts a server; with `behind` it is a proxy.
pub(crate) async fn start(behind: Option<(SocketAddr, Wire)>) -> Running {
    let (router, received) = router(behind);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.expect("it serves until the end") });
    Running {
        address,
        notes: received,
        _tasks: tasks,
    }
}

/// What the server serves.
pub(crate) fn router(behind: Option<(SocketAddr, Wire)>) -> (Router, Notes) {
    let (notes, received) = mpsc::channel(100);
    let server = Arc::new(Server { notes, behind });
    let router = Router::new()
        .route(
            "/api",
            get(|| async { Json(json!({"kind": "APIVersions", "versions": ["v1"]})) }),
        )
        .route(
            "/apis",
            get(|| async { Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})) }),
        )
        .route("/api/v1", get(|| async { Json(resources()) }))
        .route("/api/v1/namespaces/default/pods/web-0", get(|| async { Json(pod()) }))
        .route("/api/v1/namespaces/default/pods/web-0/exec", any(exec))
        .with_state(server);
    (router, received)
}

fn resources() -> Value {
    let pods = json!({"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get"]});
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": [pods]})
}

fn pod() -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "web-0", "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": "x"}]},
        "status": {"phase": "Running"},
    })
}

async fn exec(State(server): State<Arc<Server>>, RawQuery(query): RawQuery, mut request: Request) -> Response {
    let query = query.unwrap_or_default();
    let pairs: Vec<(String, String)> = query.split('&').filter_map(decode).collect();
    let is_set = |name: &str| {
        pairs
            .iter()
            .any(|(key, value)| key == name && (value == "true" || value == "1"))
    };
    let command: Vec<_> = pairs
        .iter()
        .filter(|(key, _)| key == "command")
        .map(|(_, value)| value.clone())
        .collect();
    if command.first().is_some_and(|program| program == "refuse") {
        return refusal(StatusCode::NOT_FOUND, "no such container here");
    }
    let streams = StreamOptions {
        stdin: is_set("stdin"),
        stdout: is_set("stdout"),
        stderr: is_set("stderr"),
        tty: is_set("tty"),
    };
    let (response, pending) = match accept(&mut request, streams) {
        Ok(accepted) => accepted,
        Err(refused) => return refusal(refused.status_code(), &refused.to_string()),
    };
    tokio::spawn(async move {
        let session = pending.session().await.expect("the client begins");
        match server.behind {
            None => run(session, command, &server.notes).await,
            Some((address, wire)) => {
                let url = format!("http://{address}/api/v1/namespaces/default/pods/web-0/exec?{query}");
                let url = url.parse().expect("it is a url");
                let endpoint = Endpoint {
                    url,
                    tls: None,
                    headers: Default::default(),
                    wire,
                };
                match connect(&endpoint, streams).await {
                    Ok(client) => pipe(session, client).await,
                    Err(error) => session.finish(status::internal_error(&error.to_string())).await,
                }
            }
        }
    });
    response.map(|()| Body::empty())
}

fn refusal(code: StatusCode, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}

/// One pair of a query, percent-decoded.
fn decode(pair: &str) -> Option<(String, String)> {
    let (key, value) = pair.split_once('=')?;
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (code, after) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
                rest = after;
            }
            byte => bytes.push(*byte),
        }
    }
    Some((key.to_owned(), String::from_utf8(bytes).ok()?))
}

async fn run(mut session: ServerSession, command: Vec<String>, notes: &mpsc::Sender<String>) {
    if command[0] == "sizes" {
        return sizes(session).await;
    }
    let stdin = if session.stdin.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return session.finish(status::internal_error(&error.to_string())).await,
    };
    let (stdout, stderr) = (session.stdout.take(), session.stderr.take());
    let (child_stdout, child_stderr) = (child.stdout.take(), child.stderr.take());
    let mut copies = JoinSet::new();
    if let (Some(mut stdin), Some(to)) = (session.stdin.take(), child.stdin.take()) {
        copies.spawn(async move { drop(stdin.copy_to(to).await) });
    }
    let outputs = async {
        tokio::join!(
            async {
                drop(
                    stdout
                        .expect("it is asked for")
                        .copy_from(child_stdout.expect("it is piped"))
                        .await,
                )
            },
            async {
                let (Some(to), Some(from)) = (stderr, child_stderr) else {
                    return;
                };
                drop(to.copy_from(from).await);
            },
        );
        child.wait().await.expect("it can be waited for")
    };
    let gone = session.gone();
    let ended: Option<ExitStatus> = tokio::select! {
        ended = outputs => Some(ended),
        () = gone.cancelled() => None,
    };
    let Some(ended) = ended else {
        notes.send("client is gone".into()).await.expect("the test listens");
        return;
    };
    session.finish(status::exit_code(ended.code().unwrap_or(137))).await;
    notes.send(format!("finished {ended}")).await.expect("the test listens");
}

/// Prints the terminal's sizes until there are two.
async fn sizes(mut session: ServerSession) {
    let mut resize = session.resize.take().expect("there is a terminal");
    let stdout = session.stdout.take().expect("it is asked for");
    for _ in 0..2 {
        let size = resize.recv().await.expect("the client resizes");
        let text = format!("{}x{}\n", size.width, size.height);
        stdout.send(text.into()).await.expect("the client listens");
    }
    drop(stdout);
    session.finish(status::success()).await;
}
