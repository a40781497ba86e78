//! Logs and commands: through the server to a kubelet that answers by itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use apiserver::Config;
use axum::extract::{Path, RawQuery, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use remotecommand::StreamOptions;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use test_authority::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn log(Path((_, _, container)): Path<(String, String, String)>, RawQuery(query): RawQuery) -> Response {
    match container.as_str() {
        "waiting" => (
            StatusCode::BAD_REQUEST,
            "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating",
        )
            .into_response(),
        "endless" => {
            let first = futures::stream::once(async { Ok::<_, std::io::Error>("first line\n") });
            axum::body::Body::from_stream(first.chain(futures::stream::pending())).into_response()
        }
        _ => format!("log of {container} with {}\n", query.unwrap_or_default()).into_response(),
    }
}

/// Says its command, then gives back what it is sent.
async fn exec(RawQuery(query): RawQuery, mut request: Request) -> Response {
    let query = query.unwrap_or_default();
    let has = |name: &str| query.contains(&format!("{name}=1"));
    let streams = StreamOptions {
        stdin: has("input"),
        stdout: has("output"),
        stderr: has("error"),
        tty: has("tty"),
    };
    let (response, pending) = match remotecommand::accept(&mut request, streams) {
        Ok(accepted) => accepted,
        Err(error) => return (error.status_code(), error.to_string()).into_response(),
    };
    tokio::spawn(async move {
        let mut session = pending.session().await.unwrap();
        let stdout = session.stdout.take().unwrap();
        stdout.send(Bytes::from(format!("{query}\n"))).await.unwrap();
        if let Some(mut stdin) = session.stdin.take() {
            while let Some(bytes) = stdin.recv().await {
                stdout.send(bytes).await.unwrap();
            }
        }
        drop(stdout);
        let failed = query.contains("command=false");
        session
            .finish(remotecommand::status::exit_code(i32::from(failed)))
            .await;
    });
    response.map(|()| axum::body::Body::empty())
}

struct Cluster {
    api: Api,
    authority: Authority,
    address: SocketAddr,
    shutdown: CancellationToken,
}

impl Cluster {
    /// A server and a kubelet on loopback, and a pod with two containers on its node.
    async fn start() -> Self {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let authority = Authority::new().unwrap();
        let shutdown = CancellationToken::new();
        let kubelet = TcpListener::bind((ip, 0)).await.unwrap();
        let port = kubelet.local_addr().unwrap().port();
        let routes = axum::Router::new()
            .route("/containerLogs/{namespace}/{pod}/{container}", get(log))
            .route("/exec/{namespace}/{pod}/{container}", any(exec));
        tokio::spawn(apiserver::serve(
            kubelet,
            Arc::new(authority.server(ip).unwrap()),
            routes,
            shutdown.clone(),
        ));
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let kubelet_client = Some(Arc::new(
            authority
                .client("kube-apiserver-kubelet-client", "system:masters")
                .unwrap(),
        ));
        let api = Api::with(Config {
            advertise: address,
            kubelet_client,
            ..Config::default()
        })
        .await;
        let tls = Arc::new(authority.server(ip).unwrap());
        tokio::spawn(apiserver::serve(listener, tls, api.router(), shutdown.clone()));
        let node = json!({"metadata": {"name": "vm"}});
        api.post("/api/v1/nodes", &node).await.ok();
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
        api.patch("/api/v1/nodes/vm/status", "merge", &status).await.ok();
        for (name, node) in [("p", json!("vm")), ("homeless", Value::Null), ("lost", json!("gone"))] {
            let containers = json!([{"name": "main", "image": "i:1"}, {"name": "waiting", "image": "i:1"},
                {"name": "endless", "image": "i:1"}]);
            let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": containers}});
            api.post(PODS, &pod).await.ok();
        }
        Self {
            api,
            authority,
            address,
            shutdown,
        }
    }

    async fn client(&self) -> kube::Client {
        let text = self
            .authority
            .kubeconfig(self.address, "admin", "system:masters")
            .unwrap();
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        kube::Client::try_from(
            kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .unwrap(),
        )
        .unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_come_from_the_kubelet() {
    let cluster = Cluster::start().await;
    let get = async |query: &str| cluster.api.get(&format!("{PODS}/p/log?{query}")).await;
    let answer = get("container=main&tailLines=5&follow=true").await;
    assert_eq!(
        (answer.code, answer.text.as_str()),
        (200, "log of main with follow=true&tailLines=5\n")
    );
    assert_eq!(answer.headers["content-type"], "text/plain");
    let refused = async |query: &str| get(query).await.failure();
    let message = "a container name must be specified for pod p, choose one of: [main waiting endless]";
    assert_eq!(refused("").await, (400, "BadRequest".to_owned(), message.to_owned()));
    assert_eq!(refused("container=x").await.2, "container x is not valid for pod p");
    let message = "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating";
    assert_eq!(
        refused("container=waiting").await,
        (400, "BadRequest".to_owned(), message.to_owned())
    );
    assert_eq!(refused("container=main&tailLines=-1").await.0, 422);
    assert_eq!(cluster.api.get(&format!("{PODS}/nope/log")).await.failure().0, 404);
    let homeless = cluster.api.get(&format!("{PODS}/homeless/log?container=main")).await;
    assert_eq!((homeless.code, homeless.text.as_str()), (200, ""));
    assert_eq!(
        cluster
            .api
            .get(&format!("{PODS}/lost/log?container=main"))
            .await
            .failure()
            .2,
        "nodes \"gone\" not found"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_in_the_kubelet() {
    let cluster = Cluster::start().await;
    let pods: kube::Api<::api::k8s::api::core::v1::Pod> = kube::Api::namespaced(cluster.client().await, "default");
    let params = kube::api::AttachParams::default()
        .container("main")
        .stdin(true)
        .stderr(false);
    let mut process = pods.exec("p", ["echo", "a b"], &params).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let mut out = String::new();
    process.stdout().unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "input=1&output=1&command=echo&command=a%20b\nhello\n");
    assert_eq!(
        process.take_status().unwrap().await.unwrap().status.as_deref(),
        Some("Success")
    );
    let params = kube::api::AttachParams::default().container("main").stderr(false);
    let mut failing = pods.exec("p", ["false"], &params).await.unwrap();
    let status = failing.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_cannot_run_are_refused_before_the_protocol_changes() {
    let cluster = Cluster::start().await;
    let refused = async |path: &str| {
        cluster
            .api
            .send("POST", &format!("{PODS}/{path}"), &[], "")
            .await
            .failure()
    };
    assert_eq!(
        refused("homeless/exec?command=ls&stdout=1&container=main").await.2,
        "pod homeless does not have a host assigned"
    );
    assert_eq!(refused("p/exec?stdout=1&container=main").await.0, 400);
    assert_eq!(refused("p/exec?command=ls&container=main").await.0, 400);
    assert_eq!(
        refused("p/exec?command=ls&stdout=1&container=nope").await.2,
        "container nope is not valid for pod p"
    );
    assert_eq!(refused("p/exec?command=ls&stdout=1&container=main").await.0, 400);
    assert_eq!(refused("nope/exec?command=ls&stdout=1").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_flow_while_they_are_written() {
    let cluster = Cluster::start().await;
    let path = format!("{PODS}/p/log?container=endless&follow=true");
    let response = cluster.api.open("GET", &path, &[], axum::body::Body::empty()).await;
    let mut pieces = response.into_body().into_data_stream();
    let piece = tokio::time::timeout(Duration::from_secs(10), pieces.next()).await;
    assert_eq!(piece.unwrap().unwrap().unwrap(), "first line\n");
}

/// Runs the machine's kubectl against the cluster; its output and whether it succeeded.
async fn kubectl(kubeconfig: &std::path::Path, websockets: bool, args: &[&str], input: &str) -> (String, bool) {
    let mut child = tokio::process::Command::new("kubectl")
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets.to_string())
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("this test needs kubectl");
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_runs_commands_over_both_protocols() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(
        &path,
        cluster
            .authority
            .kubeconfig(cluster.address, "admin", "system:masters")
            .unwrap(),
    )
    .unwrap();
    for websockets in [true, false] {
        let (out, ok) = kubectl(
            &path,
            websockets,
            &["exec", "-i", "p", "-c", "main", "--", "cat"],
            "hello\n",
        )
        .await;
        assert!(ok && out.ends_with("command=cat\nhello\n"), "{out}");
        let (out, ok) = kubectl(&path, websockets, &["exec", "p", "-c", "main", "--", "false"], "").await;
        assert!(!ok && out.contains("command terminated with exit code 1"), "{out}");
        let (out, _) = kubectl(&path, websockets, &["exec", "homeless", "-c", "main", "--", "ls"], "").await;
        assert!(out.contains("pod homeless does not have a host assigned"), "{out}");
    }
    let (out, ok) = kubectl(&path, true, &["logs", "p", "-c", "main", "--tail=3"], "").await;
    assert!(ok && out.starts_with("log of main with"), "{out}");
    let (out, _) = kubectl(&path, true, &["logs", "p", "-c", "waiting"], "").await;
    assert!(
        out.contains("container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating"),
        "{out}"
    );
}
