//! Requests that lead through the server to pods, Services and kubelets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use apiserver::Config;
use axum::extract::{Path, Request};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use futures::{SinkExt, StreamExt};
use http::StatusCode;
use remotecommand::port_forward;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use test_authority::Authority;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "/api/v1/namespaces/default";

/// An address of this machine that is not loopback.
fn own_address() -> IpAddr {
    let output = std::process::Command::new("hostname").arg("-I").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut addresses = text
        .split_whitespace()
        .filter_map(|address| address.parse::<Ipv4Addr>().ok());
    IpAddr::V4(addresses.next().expect("this test needs an address beside loopback"))
}

/// What a pod serves: it says what it was asked.
fn application() -> axum::Router {
    let echo = async |method: http::Method, uri: http::Uri, request: Request| {
        let forwarded = request.headers().get("x-forwarded-uri").cloned();
        let auth = request.headers().contains_key("authorization");
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        axum::Json(
            json!({"method": method.as_str(), "uri": uri.to_string(), "body": String::from_utf8_lossy(&body),
            "forwarded": forwarded.map(|uri| uri.to_str().unwrap().to_owned()), "auth": auth}),
        )
    };
    let page = async || Html("<a href=\"/rewriteme\">test</a><a href=\"relative\">r</a>");
    let redirect = async || (StatusCode::FOUND, [("location", "/elsewhere?x=1")]).into_response();
    let socket = async |upgrade: axum::extract::ws::WebSocketUpgrade| {
        // kube speaks nothing else.
        upgrade
            .protocols(["v5.channel.k8s.io"])
            .on_upgrade(|mut socket| async move {
                while let Some(Ok(message)) = socket.recv().await {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            })
    };
    axum::Router::new()
        .route("/page", get(page))
        .route("/redirect", any(redirect))
        .route("/socket", any(socket))
        .fallback(echo)
}

/// Forwards every port to an echoing server of its own.
async fn forward(Path((_, pod)): Path<(String, String)>, mut request: Request) -> Response {
    if pod != "p" {
        return (StatusCode::NOT_FOUND, "pod not found").into_response();
    }
    let (response, pending) = match port_forward::accept(&mut request) {
        Ok(accepted) => accepted,
        Err(error) => return (error.status_code(), error.to_string()).into_response(),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.unwrap_or_default();
            });
        }
    });
    tokio::spawn(
        pending.serve(move |_port| async move { TcpStream::connect(address).await.map_err(|error| error.to_string()) }),
    );
    response.map(|()| axum::body::Body::empty())
}

struct Cluster {
    api: Api,
    authority: Authority,
    address: SocketAddr,
    application: SocketAddr,
    shutdown: CancellationToken,
}

impl Cluster {
    async fn start() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let authority = Authority::new().unwrap();
        let shutdown = CancellationToken::new();
        let kubelet = TcpListener::bind((loopback, 0)).await.unwrap();
        let kubelet_port = kubelet.local_addr().unwrap().port();
        let routes = axum::Router::new()
            .route("/portForward/{namespace}/{pod}", any(forward))
            .route("/pods", get(async || "the pods"));
        let tls = Arc::new(authority.server(loopback).unwrap());
        tokio::spawn(apiserver::serve(kubelet, tls, routes, shutdown.clone()));
        let pod = TcpListener::bind((own_address(), 0)).await.unwrap();
        let application_address = pod.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(pod, application()).await });
        let listener = TcpListener::bind((loopback, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = authority.client("kube-apiserver-kubelet-client", "system:masters");
        let api = Api::with(Config {
            advertise: address,
            kubelet_client: Some(Arc::new(client.unwrap())),
            ..Config::default()
        })
        .await;
        let tls = Arc::new(authority.server(loopback).unwrap());
        tokio::spawn(apiserver::serve(listener, tls, api.router(), shutdown.clone()));
        let cluster = Self {
            api,
            authority,
            address,
            application: application_address,
            shutdown,
        };
        cluster.fill(kubelet_port).await;
        cluster
    }

    /// A node with its kubelet, a pod where the application listens, and a Service in front of it.
    async fn fill(&self, kubelet_port: u16) {
        let api = &self.api;
        let node = json!({"metadata": {"name": "vm"}});
        api.post("/api/v1/nodes", &node).await.ok();
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}}}});
        api.patch("/api/v1/nodes/vm/status", "merge", &status).await.ok();
        let (ip, port) = (self.application.ip().to_string(), self.application.port());
        for (name, ip) in [("p", ip.as_str()), ("local", "127.0.0.1")] {
            let container = json!({"name": "c", "image": "i", "ports": [{"containerPort": port}]});
            let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": "vm", "containers": [container]}});
            api.post(&format!("{NAMESPACE}/pods"), &pod).await.ok();
            let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
            api.patch(&format!("{NAMESPACE}/pods/{name}/status"), "merge", &status)
                .await
                .ok();
        }
        for name in ["s", "empty"] {
            let ports = json!([{"name": "web", "port": 80, "targetPort": port}]);
            let service = json!({"metadata": {"name": name}, "spec": {"ports": ports}});
            api.post(&format!("{NAMESPACE}/services"), &service).await.ok();
        }
        let slice = json!({"metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4", "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [ip], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": "p", "namespace": "default"}}]});
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        api.post(slices, &slice).await.ok();
    }

    fn kubeconfig(&self) -> tempfile::NamedTempFile {
        let text = self.authority.kubeconfig(self.address, "admin", "system:masters");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text.unwrap()).unwrap();
        file
    }

    async fn client(&self) -> kube::Client {
        let text = self.authority.kubeconfig(self.address, "admin", "system:masters");
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&text.unwrap()).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
        kube::Client::try_from(config.unwrap()).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_all_methods_reach_pods_and_services() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let port = cluster.application.port();
    for base in [
        format!("{NAMESPACE}/pods/p"),
        format!("{NAMESPACE}/pods/http:p:{port}"),
        format!("{NAMESPACE}/services/s:web"),
        format!("{NAMESPACE}/services/http:s:80"),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let path = format!("{base}/proxy/a/b@c?d=e");
            let headers = [("authorization", "Bearer secret"), ("accept", "text/html")];
            let answer = api.send(method, &path, &headers, "body").await;
            let expected = json!({"method": method, "uri": "/a/b@c?d=e", "body": "body",
                "forwarded": format!("{base}/proxy/a/b@c"), "auth": false});
            assert_eq!((answer.code, answer.json()), (200, expected), "{method} {base}");
        }
        let moved = api.get(&format!("{base}/proxy?x=1")).await;
        assert_eq!(moved.code, 301);
        assert_eq!(moved.headers["location"], format!("{base}/proxy/?x=1"));
        let page = api.get(&format!("{base}/proxy/page")).await;
        assert_eq!(
            page.text,
            format!("<a href=\"{base}/proxy/rewriteme\">test</a><a href=\"relative\">r</a>")
        );
        let redirect = api.get(&format!("{base}/proxy/redirect")).await;
        assert_eq!(redirect.code, 302);
        assert_eq!(redirect.headers["location"], format!("{base}/proxy/elsewhere?x=1"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reached_says_so() {
    let cluster = Cluster::start().await;
    let failure = async |path: &str| cluster.api.get(&format!("{NAMESPACE}/{path}")).await.failure();
    let (code, reason, message) = failure("pods/p:1/proxy/").await;
    assert_eq!((code, reason.as_str()), (503, "ServiceUnavailable"));
    assert!(message.starts_with("error trying to reach service: "), "{message}");
    assert_eq!(
        failure("services/empty/proxy/").await.2,
        "no endpoints available for service \"empty\""
    );
    assert_eq!(
        failure("services/s:81/proxy/").await.2,
        "no service port 81 found for service \"s\""
    );
    assert_eq!(failure("pods/local/proxy/").await.2, "address not allowed");
    assert_eq!(failure("pods/nope/proxy/").await.0, 404);
    assert_eq!(failure("pods/ftp:p:1/proxy/").await.0, 400);
    let pods = cluster.api.get("/api/v1/nodes/vm/proxy/pods").await;
    assert_eq!((pods.code, pods.text.as_str()), (200, "the pods"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_pass_through() {
    let cluster = Cluster::start().await;
    let request = http::Request::get(format!("{NAMESPACE}/pods/p/proxy/socket"))
        .body(Vec::new())
        .unwrap();
    let connection = cluster.client().await.connect(request).await.unwrap();
    let mut socket = connection.into_stream();
    socket.send("hello".into()).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
    let heard = heard.unwrap().unwrap().unwrap();
    assert_eq!(heard.into_text().unwrap().as_str(), "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_are_forwarded_over_numbered_channels() {
    let cluster = Cluster::start().await;
    let pods: kube::Api<::api::k8s::api::core::v1::Pod> = kube::Api::namespaced(cluster.client().await, "default");
    let mut forwarder = pods.portforward("p", &[80, 81]).await.unwrap();
    let mut streams = [forwarder.take_stream(80).unwrap(), forwarder.take_stream(81).unwrap()];
    for stream in &mut streams {
        stream.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut heard));
        read.await.unwrap().unwrap();
        assert_eq!(&heard, b"hello");
    }
    drop(streams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_forwards_ports_over_both_protocols() {
    let cluster = Cluster::start().await;
    let kubeconfig = cluster.kubeconfig();
    for websockets in [true, false] {
        let mut child = tokio::process::Command::new("kubectl")
            .env("KUBECONFIG", kubeconfig.path())
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets.to_string())
            .args(["port-forward", "pod/p", ":80"])
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this test needs kubectl");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        let line = line.unwrap().unwrap().expect("kubectl forwards");
        let port = line.strip_prefix("Forwarding from 127.0.0.1:").expect(&line);
        let port: u16 = port.split(' ').next().unwrap().parse().unwrap();
        for _ in 0..2 {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            let sent = vec![7; 100_000];
            let (mut from, mut to) = stream.split();
            let mut heard = vec![0; sent.len()];
            let both = async { tokio::join!(to.write_all(&sent), from.read_exact(&mut heard)) };
            let (written, read) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
            written.unwrap();
            read.unwrap();
            assert_eq!(heard, sent);
        }
        child.kill().await.unwrap();
    }
    let refused = tokio::process::Command::new("kubectl")
        .env("KUBECONFIG", kubeconfig.path())
        .args(["port-forward", "pod/local", ":80"])
        .output();
    let refused = tokio::time::timeout(Duration::from_secs(30), refused)
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("pod not found"), "{text}");
}
