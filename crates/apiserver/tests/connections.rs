//! Clients that hold connections and do not use them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use rustls_pki_types::ServerName;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use test_authority::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// Longer than the server has patience; time passes by itself in these tests.
const LONG: Duration = Duration::from_secs(600);

async fn serve(api: &Api, authority: &Authority) -> SocketAddr {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let listener = TcpListener::bind((loopback, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Arc::new(authority.server(loopback).unwrap());
    tokio::spawn(apiserver::serve(listener, tls, api.router(), CancellationToken::new()));
    address
}

async fn tls(address: SocketAddr, authority: &Authority) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut config = authority.client("admin", "system:masters").unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

/// Whether the server ends the connection by itself.
async fn ends(mut stream: impl tokio::io::AsyncRead + Unpin) -> bool {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
    // It may end in order or be cut off.
    read.is_ok()
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    let (api, authority) = (Api::new().await, Authority::new().unwrap());
    let address = serve(&api, &authority).await;
    let silent = TcpStream::connect(address).await.unwrap();
    assert!(ends(silent).await, "a client that does not begin TLS");
    let mut slow = tls(address, &authority).await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        .await
        .unwrap();
    assert!(ends(slow).await, "a client that does not end its headers");
    let mut slow = tls(address, &authority).await;
    let head = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(LONG, slow.read(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
}

/// Reads until `count` answers have begun and the last has its head; the text.
async fn answers(stream: &mut (impl tokio::io::AsyncRead + Unpin), count: usize) -> String {
    let mut text = String::new();
    while text.matches("HTTP/1.1 ").count() < count || !text.ends_with("ok") && !text.contains("connection: close") {
        let mut part = vec![0; 4096];
        let read = tokio::time::timeout(LONG, stream.read(&mut part)).await.unwrap();
        let read = read.unwrap();
        assert!(read > 0, "the connection ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    text
}

#[tokio::test]
async fn a_refusal_does_not_cost_the_connection() {
    let (api, authority) = (Api::new().await, Authority::new().unwrap());
    let address = serve(&api, &authority).await;
    let refused = |length: usize| {
        format!(
            "POST /apis/no.such/v1/things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    let health = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stream = tls(address, &authority).await;
    stream.write_all(refused(2).as_bytes()).await.unwrap();
    // Once another has been answered, the server has seen the head, and not the body.
    let mut other = tls(address, &authority).await;
    other.write_all(health.as_bytes()).await.unwrap();
    answers(&mut other, 1).await;
    stream.write_all(format!("{{}}{health}").as_bytes()).await.unwrap();
    let both = answers(&mut stream, 2).await;
    assert!(
        both.starts_with("HTTP/1.1 404") && both.contains("HTTP/1.1 200"),
        "{both}"
    );
    // A body that is too long to be read for nothing is not, and the client hears that the connection ends.
    let mut stream = tls(address, &authority).await;
    stream.write_all(refused(1 << 20).as_bytes()).await.unwrap();
    let answer = answers(&mut stream, 1).await;
    assert!(
        answer.starts_with("HTTP/1.1 404") && answer.contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_watch_that_nobody_reads_delays_nobody() {
    let (api, authority) = (Api::new().await, Authority::new().unwrap());
    let address = serve(&api, &authority).await;
    let mut unread = tls(address, &authority).await;
    let request = "GET /api/v1/configmaps?watch=true&resourceVersion=0 HTTP/1.1\r\nHost: x\r\n\r\n";
    unread.write_all(request.as_bytes()).await.unwrap();
    let value = "v".repeat(100 * 1024);
    api.config_map("m", json!({}), json!({"k": value})).await;
    let mut watch = api.watch("/api/v1/configmaps?watch=true&resourceVersion=0").await;
    for index in 0..100 {
        let patch = json!({"data": {"n": index.to_string()}});
        api.patch("/api/v1/namespaces/default/configmaps/m", "merge", &patch)
            .await
            .ok();
    }
    let mut last = String::new();
    while last != "99" {
        let event = watch.next().await.expect("the other watch goes on");
        last = event["object"]["data"]["n"].as_str().unwrap_or_default().to_owned();
    }
}
