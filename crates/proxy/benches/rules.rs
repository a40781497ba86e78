//! How long rules take to be in force, and what they cost a packet, with 10, 1,000 and 10,000 Services:
//! `cargo bench -p proxy`. Needs root; works in a network of its own.

#![allow(clippy::unwrap_used, reason = "a measurement ends by panicking")]

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

/// Endpoints of each Service.
const ENDPOINTS: usize = 3;

/// Changes of one Service among all.
const CHANGES: usize = 20;

/// Between two changes, so that each is measured by itself.
const PAUSE: Duration = Duration::from_millis(300);

/// Packets for each figure.
const PACKETS: u32 = 20_000;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn main() {
    println!(
        "services | all in force | one change in force (p50, worst) | a packet to a Service, and to an address, µs"
    );
    println!("         |              |                                | first of a flow  | next of a flow");
    for count in [10, 1_000, 10_000] {
        // A network of its own for each, in which there are no flows yet.
        unshare(CloneFlags::CLONE_NEWNET).expect("this needs root");
        for line in ["ip link set lo up", "ip addr add 10.96.0.1/12 dev lo"] {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(measure(count));
    }
}

async fn measure(count: usize) {
    let (events, _) = broadcast::channel(CHANGES + 1);
    let objects = Arc::new((0..count).map(service).collect::<Vec<_>>());
    let slices = Arc::new((0..count).map(|i| slice(i, 0)).collect::<Vec<_>>());
    let sender = events.clone();
    let api = tower::service_fn(move |request: Request<Body>| {
        let answer = answer(&request, &objects, &slices, &sender);
        async move { Ok::<_, Infallible>(answer) }
    });
    let config = proxy::Config {
        node_name: "here".to_owned(),
        pod_cidrs: vec!["127.0.0.0/8".to_owned()],
        own_addresses: Vec::new(),
        masquerade_all: false,
    };
    let shutdown = CancellationToken::new();
    let last = place(count - 1);
    let (start, proxied) = (
        Instant::now(),
        tokio::spawn(proxy::run(kube::Client::new(api, "default"), config, shutdown.clone())),
    );
    until_led(&last, 0);
    let all = start.elapsed();
    let mut times: Vec<Duration> = Vec::new();
    for change in 1..=CHANGES {
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        events.send(slice(count - 1, change)).unwrap();
        until_led(&last, change);
        times.push(start.elapsed());
    }
    times.sort();
    let direct = "127.0.0.1:9";
    println!(
        "{count:8} | {:9.0} ms | {:11.1} ms, {:11.1} ms | {:6.2}, {:6.2} | {:6.2}, {:6.2}",
        millis(all),
        millis(times[CHANGES / 2]),
        millis(times[CHANGES - 1]),
        first_packets(&last),
        first_packets(direct),
        next_packets(&last),
        next_packets(direct),
    );
    shutdown.cancel();
    proxied.await.unwrap().unwrap();
    proxy::remove().await.unwrap();
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Microseconds for each of many.
fn each(work: impl Fn()) -> f64 {
    let start = Instant::now();
    (0..PACKETS).for_each(|_| work());
    start.elapsed().as_secs_f64() * 1e6 / f64::from(PACKETS)
}

/// Each from a socket of its own.
fn first_packets(to: &str) -> f64 {
    each(|| drop(UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", to)))
}

fn next_packets(to: &str) -> f64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    each(|| drop(socket.send_to(b"x", to)))
}

/// Sends packets to the Service until they arrive by way of its endpoints of this change.
fn until_led(to: &str, change: usize) {
    let mark = change.to_string();
    let wanted = UdpSocket::bind(("0.0.0.0", port(change))).unwrap();
    wanted.set_nonblocking(true).unwrap();
    loop {
        // A new socket each time: the kernel leads each flow as its first packet was led.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        drop(socket.send_to(mark.as_bytes(), to));
        if wanted.recv(&mut [0; 16]).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The endpoints' port after a change.
fn port(change: usize) -> u16 {
    9001 + u16::try_from(change).unwrap()
}

fn place(i: usize) -> String {
    format!("10.{}.{}.{}:53", 97 + i / 62_500, i / 250 % 250, i % 250 + 1)
}

fn service(i: usize) -> Value {
    let place = place(i);
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": format!("s{i}"), "namespace": "default", "resourceVersion": "1"},
        "spec": {"clusterIP": place.split(':').next(), "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]},
    })
}

fn slice(i: usize, change: usize) -> Value {
    let endpoints: Vec<Value> = (1..=ENDPOINTS)
        .map(|n| json!({"addresses": [format!("127.0.0.{n}")]}))
        .collect();
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": {
            "name": format!("s{i}"), "namespace": "default", "resourceVersion": "1",
            "labels": {"kubernetes.io/service-name": format!("s{i}")},
        },
        "ports": [{"name": "dns", "port": port(change), "protocol": "UDP"}], "endpoints": endpoints,
    })
}

fn answer(request: &Request<Body>, services: &[Value], slices: &[Value], events: &broadcast::Sender<Value>) -> Answer {
    let path = request.uri().path();
    let (kind, version, items) = match path {
        "/api/v1/services" => ("Service", "v1", services),
        "/apis/discovery.k8s.io/v1/endpointslices" => ("EndpointSlice", "discovery.k8s.io/v1", slices),
        _ => ("Node", "v1", &[][..]),
    };
    if request.uri().query().is_some_and(|query| query.contains("watch=")) {
        let is_slices = kind == "EndpointSlice";
        let lines = BroadcastStream::new(events.subscribe()).filter_map(move |object| async move {
            let event = json!({"type": "MODIFIED", "object": object.ok()?});
            is_slices.then(|| Ok(http_body::Frame::data(Bytes::from(format!("{event}\n")))))
        });
        return Response::new(StreamBody::new(lines).boxed_unsync());
    }
    let metadata = json!({"resourceVersion": "1"});
    let list = json!({"kind": format!("{kind}List"), "apiVersion": version, "metadata": metadata, "items": items});
    Response::new(Full::new(Bytes::from(list.to_string())).boxed_unsync())
}
