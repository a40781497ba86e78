//! The whole server, asked by `dig`, against an API that is a function.

use bytes::Bytes;
use dns::{Config, Upstream};
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// As much of an API server as a watcher needs.
#[derive(Clone)]
struct Api {
    services: Arc<Mutex<Vec<Value>>>,
    slices: Arc<Mutex<Vec<Value>>>,
    events: broadcast::Sender<(&'static str, Value)>,
    /// Until then it answers with errors.
    is_up: Arc<Mutex<bool>>,
}

impl Api {
    fn new(services: Vec<Value>, slices: Vec<Value>) -> Self {
        let (services, slices) = (Arc::new(Mutex::new(services)), Arc::new(Mutex::new(slices)));
        Self {
            services,
            slices,
            events: broadcast::Sender::new(100),
            is_up: Arc::new(Mutex::new(true)),
        }
    }

    fn answer(&self, request: &Request<Body>) -> Answer {
        if !*self.is_up.lock().expect("no panic") {
            let body = Full::new(Bytes::from_static(b"{}")).boxed_unsync();
            return Response::builder().status(503).body(body).expect("it is a response");
        }
        let (kind, version, list, path) = match request.uri().path() {
            "/api/v1/services" => ("Service", "v1", &self.services, "services"),
            "/apis/discovery.k8s.io/v1/endpointslices" => {
                ("EndpointSlice", "discovery.k8s.io/v1", &self.slices, "endpointslices")
            }
            path => panic!("the server asks for {path}"),
        };
        if request.uri().query().is_some_and(|query| query.contains("watch=")) {
            let events = BroadcastStream::new(self.events.subscribe());
            let lines = events.filter_map(move |event| async move {
                let (what, event) = event.ok()?;
                (what == path).then(|| Ok(http_body::Frame::data(Bytes::from(format!("{event}\n")))))
            });
            return Response::new(StreamBody::new(lines).boxed_unsync());
        }
        let items = list.lock().expect("no panic").clone();
        let list = json!({
            "kind": format!("{kind}List"), "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items,
        });
        Response::new(Full::new(Bytes::from(list.to_string())).boxed_unsync())
    }

    fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = api.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        kube::Client::new(service, "default")
    }

    fn tell(&self, what: &'static str, kind: &str, object: &Value) {
        let event = json!({"type": kind, "object": object});
        self.events.send((what, event)).expect("the server watches");
    }
}

fn service(name: &str, spec: Value) -> Value {
    let metadata = json!({"name": name, "namespace": "default", "resourceVersion": "1", "uid": name});
    json!({"kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": spec})
}

fn slice(service: &str, hosts: impl IntoIterator<Item = u32>) -> Value {
    let endpoints: Vec<_> = hosts
        .into_iter()
        .map(|host| {
            let address = format!("10.244.{}.{}", host / 256, host % 256);
            json!({"addresses": [address], "hostname": format!("web-{host}")})
        })
        .collect();
    let labels = json!({"kubernetes.io/service-name": service});
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": format!("{service}-1"), "namespace": "default", "labels": labels, "resourceVersion": "1",
            "uid": service,
        },
        "addressType": "IPv4", "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    })
}

fn cluster() -> Api {
    let services = vec![
        service(
            "kubernetes",
            json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}),
        ),
        service(
            "nginx",
            json!({"clusterIP": "None", "ports": [{"name": "web", "port": 80}]}),
        ),
        service("big", json!({"clusterIP": "None"})),
        service(
            "inside",
            json!({"type": "ExternalName", "externalName": "kubernetes.default.svc.cluster.local"}),
        ),
        service(
            "outside",
            json!({"type": "ExternalName", "externalName": "kubernetes.default.svc.example.com"}),
        ),
    ];
    let slices = vec![slice("nginx", [5, 6]), slice("big", 1000..1300)];
    Api::new(services, slices)
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

async fn start(api: &Api, domain: &str, upstream: Upstream) -> Running {
    let (ready, is_ready) = oneshot::channel();
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let config = Config {
        listen,
        // Somebody else listens there, which is no reason not to serve the other one.
        listen_ahead: vec![taken.local_addr().expect("it is bound")],
        cluster_domain: domain.into(),
        upstream,
        metrics: dns::Metrics::default(),
        ready: Some(ready),
    };
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(dns::run(api.client(), config, shutdown.clone()));
    let address = is_ready.await.expect("it starts")[0];
    Running {
        address,
        shutdown,
        tasks,
    }
}

impl Running {
    /// The text that dig prints; `args` are as on its command line.
    async fn dig(&self, args: &str) -> String {
        let mut command = Command::new("dig");
        command
            .arg("@127.0.0.1")
            .args(["-p", &self.address.port().to_string(), "+tries=1", "+timeout=8"]);
        command.args(args.split(' '));
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("no panic");
        String::from_utf8(output.expect("dig is installed").stdout).expect("it is text")
    }

    async fn short(&self, args: &str) -> Vec<String> {
        let text = self.dig(&format!("+short {args}")).await;
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The status and the number of answers.
    async fn status(&self, args: &str) -> (String, usize) {
        let text = self.dig(args).await;
        let word = |after: &str| {
            let rest = text.split_once(after).unwrap_or_else(|| panic!("{text}")).1;
            rest.split_once(',').expect("a comma follows").0.to_owned()
        };
        (word("status: "), word("ANSWER: ").parse().expect("a number"))
    }

    /// Asks until the answer is as it should become.
    async fn becomes(&self, args: &str, expected: &[&str]) {
        let waiting = async { while self.short(args).await != expected {} };
        timeout(Duration::from_secs(20), waiting)
            .await
            .expect("the answer changes");
    }
}

#[tokio::test]
async fn names_of_the_specification_are_answered() {
    let server = start(&cluster(), "cluster.local", Upstream::Nobody).await;
    server
        .becomes("nginx.default.svc.cluster.local", &["10.244.0.5", "10.244.0.6"])
        .await;
    let table: [(&str, &[&str]); 12] = [
        ("kubernetes.default.svc.cluster.local", &["10.96.0.1"]),
        ("KUBERNETES.Default.SVC.cluster.LOCAL", &["10.96.0.1"]),
        ("web-5.nginx.default.svc.cluster.local", &["10.244.0.5"]),
        (
            "_https._tcp.kubernetes.default.svc.cluster.local SRV",
            &["0 100 443 kubernetes.default.svc.cluster.local."],
        ),
        (
            "_web._tcp.nginx.default.svc.cluster.local SRV",
            &[
                "0 100 8080 web-5.nginx.default.svc.cluster.local.",
                "0 100 8080 web-6.nginx.default.svc.cluster.local.",
            ],
        ),
        ("-x 10.244.0.5", &["web-5.nginx.default.svc.cluster.local."]),
        ("-x 10.96.0.1", &["kubernetes.default.svc.cluster.local."]),
        (
            "inside.default.svc.cluster.local",
            &["10.96.0.1", "kubernetes.default.svc.cluster.local."],
        ),
        (
            "inside.default.svc.cluster.local CNAME",
            &["kubernetes.default.svc.cluster.local."],
        ),
        ("dns-version.cluster.local TXT", &["\"1.1.0\""]),
        ("10-244-0-9.default.pod.cluster.local", &["10.244.0.9"]),
        ("cluster.local NS", &["ns.dns.cluster.local."]),
    ];
    for (args, expected) in table {
        assert_eq!(server.short(args).await, expected, "{args}");
        assert_eq!(server.short(&format!("+tcp {args}")).await, expected, "+tcp {args}");
    }
    let text = server.dig("_web._tcp.nginx.default.svc.cluster.local SRV").await;
    assert!(
        text.contains("ADDITIONAL: 3") && text.contains("flags: qr aa rd;"),
        "{text}"
    );
}

#[tokio::test]
async fn missing_names_and_missing_types_differ() {
    let server = start(&cluster(), "cluster.local", Upstream::Nobody).await;
    server
        .becomes("web-6.nginx.default.svc.cluster.local", &["10.244.0.6"])
        .await;
    let table = [
        ("web-9.nginx.default.svc.cluster.local", "NXDOMAIN"),
        ("nobody.default.svc.cluster.local", "NXDOMAIN"),
        ("x.kubernetes.default.svc.cluster.local", "NXDOMAIN"),
        ("web-5.nginx.default.svc.cluster.local AAAA", "NOERROR"),
        ("default.svc.cluster.local", "NOERROR"),
        ("svc.cluster.local", "NOERROR"),
        ("_tcp.nginx.default.svc.cluster.local", "NOERROR"),
        ("cluster.local", "NOERROR"),
        ("example.com", "REFUSED"),
        ("-x 10.244.9.9", "REFUSED"),
        ("-c CH kubernetes.default.svc.cluster.local", "REFUSED"),
        ("+opcode=status kubernetes.default.svc.cluster.local", "NOTIMP"),
    ];
    for (args, expected) in table {
        assert_eq!(server.status(args).await, (expected.to_owned(), 0), "{args}");
    }
    let text = server.dig("nobody.default.svc.cluster.local").await;
    let soa = text.lines().find(|line| line.contains("SOA")).unwrap();
    let words: Vec<_> = soa.split_whitespace().collect();
    assert_eq!(
        (words[0], words[1], words[words.len() - 1]),
        ("cluster.local.", "1", "1"),
        "{text}"
    );
}

#[tokio::test]
async fn long_answers_are_cut_and_whole_over_tcp() {
    let server = start(&cluster(), "cluster.local", Upstream::Nobody).await;
    server
        .becomes("web-1000.big.default.svc.cluster.local", &["10.244.3.232"])
        .await;
    for size in ["+noedns", "+bufsize=512", "+bufsize=4096"] {
        let text = server
            .dig(&format!("{size} +ignore big.default.svc.cluster.local"))
            .await;
        assert!(text.contains("flags: qr aa tc rd;"), "{text}");
        let bytes = text
            .split_once("MSG SIZE  rcvd: ")
            .unwrap()
            .1
            .split_whitespace()
            .next()
            .unwrap();
        let most = if size == "+bufsize=4096" { 1232 } else { 512 };
        assert!(bytes.parse::<usize>().unwrap() <= most, "{text}");
    }
    assert_eq!(server.short("big.default.svc.cluster.local").await.len(), 300);
    assert_eq!(
        server
            .status("+edns=1 +noednsnegotiation kubernetes.default.svc.cluster.local")
            .await
            .0,
        "BADVERS"
    );
}

#[tokio::test]
async fn changes_show_at_once() {
    let api = cluster();
    let server = start(&api, "cluster.local", Upstream::Nobody).await;
    let name = "nginx.default.svc.cluster.local";
    server.becomes(name, &["10.244.0.5", "10.244.0.6"]).await;
    api.tell("endpointslices", "MODIFIED", &slice("nginx", [6, 7]));
    server.becomes(name, &["10.244.0.6", "10.244.0.7"]).await;
    assert_eq!(
        server.status("web-5.nginx.default.svc.cluster.local").await.0,
        "NXDOMAIN"
    );
    assert_eq!(server.status("-x 10.244.0.5").await.0, "REFUSED");
    api.tell("endpointslices", "DELETED", &slice("nginx", [6, 7]));
    server.becomes(name, &[]).await;
    api.tell("services", "ADDED", &service("new", json!({"clusterIP": "10.96.0.9"})));
    server.becomes("new.default.svc.cluster.local", &["10.96.0.9"]).await;
    api.tell(
        "services",
        "DELETED",
        &service("new", json!({"clusterIP": "10.96.0.9"})),
    );
    server.becomes("new.default.svc.cluster.local", &[]).await;
}

#[tokio::test]
async fn names_outside_are_asked_of_others() {
    let other = start(&cluster(), "example.com", Upstream::Nobody).await;
    other
        .becomes("kubernetes.default.svc.example.com", &["10.96.0.1"])
        .await;
    let server = start(&cluster(), "cluster.local", Upstream::Servers(vec![other.address])).await;
    server
        .becomes("kubernetes.default.svc.cluster.local", &["10.96.0.1"])
        .await;
    assert_eq!(server.short("kubernetes.default.svc.example.com").await, ["10.96.0.1"]);
    assert_eq!(server.status("nobody.default.svc.example.com").await.0, "NXDOMAIN");
    assert_eq!(
        server.status("kubernetes.default.svc.example.com AAAA").await,
        ("NOERROR".into(), 0)
    );
    // The big answer comes over TCP from there, too.
    assert_eq!(server.short("big.default.svc.example.com").await.len(), 300);
    let expected = ["10.96.0.1", "kubernetes.default.svc.example.com."];
    assert_eq!(server.short("outside.default.svc.cluster.local").await, expected);
    let text = server.dig("kubernetes.default.svc.example.com").await;
    assert!(text.contains("flags: qr rd ra;"), "{text}");
}

#[tokio::test]
async fn server_that_would_ask_itself_asks_nobody() {
    // Between the server and itself stands another, as dnsmasq may on a host: its address is not the server's own.
    let between = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let upstream = Upstream::Servers(vec![between.local_addr().unwrap()]);
    let server = start(&cluster(), "cluster.local", upstream).await;
    let (relayed, behind) = (between.clone(), server.address);
    let mut relay = JoinSet::new();
    relay.spawn(async move {
        let mut packet = [0; 1500];
        loop {
            let (length, from) = relayed.recv_from(&mut packet).await.unwrap();
            let (relayed, question) = (relayed.clone(), packet[..length].to_vec());
            tokio::spawn(async move {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.send_to(&question, behind).await.unwrap();
                let mut answer = [0; 1500];
                let length = socket.recv(&mut answer).await.unwrap();
                relayed.send_to(&answer[..length], from).await.unwrap();
            });
        }
    });
    let refused = async { while server.status("example.com").await.0 != "REFUSED" {} };
    timeout(Duration::from_secs(30), refused)
        .await
        .expect("the loop is found");
}

#[tokio::test]
async fn dead_upstream_is_told_in_time() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream::Servers(vec![silent.local_addr().unwrap()]);
    let server = start(&cluster(), "cluster.local", upstream).await;
    assert_eq!(server.status("example.com").await.0, "SERVFAIL");
}

#[tokio::test]
async fn file_of_name_servers_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    std::fs::write(&path, "# nobody\nsearch example.com\noptions ndots:5\n").unwrap();
    let server = start(&cluster(), "cluster.local", Upstream::File(path)).await;
    assert_eq!(server.status("example.com").await.0, "REFUSED");
    let missing = Upstream::File(dir.path().join("missing"));
    let server = start(&cluster(), "cluster.local", missing).await;
    assert_eq!(server.status("example.com").await.0, "REFUSED");
}

#[tokio::test]
async fn server_waits_for_the_api() {
    let api = cluster();
    *api.is_up.lock().unwrap() = false;
    let server = start(&api, "cluster.local", Upstream::Nobody).await;
    assert_eq!(
        server.status("kubernetes.default.svc.cluster.local").await.0,
        "SERVFAIL"
    );
    *api.is_up.lock().unwrap() = true;
    server
        .becomes("kubernetes.default.svc.cluster.local", &["10.96.0.1"])
        .await;
}

#[tokio::test]
async fn malformed_packets_do_no_harm() {
    let server = start(&cluster(), "cluster.local", Upstream::Nobody).await;
    server
        .becomes("kubernetes.default.svc.cluster.local", &["10.96.0.1"])
        .await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.address).await.unwrap();
    let mut query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0akubernetes\x07default\x03svc".to_vec();
    query.extend(b"\x07cluster\x05local\x00\x00\x01\x00\x01");
    for length in 0..query.len() {
        socket.send(&query[..length]).await.unwrap();
        for bit in 0..8 {
            let mut damaged = query.clone();
            damaged[length] ^= 1 << bit;
            socket.send(&damaged).await.unwrap();
        }
    }
    // A name that points to itself, a response, many questions.
    for packet in [
        &b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"[..],
        b"\x12\x34\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01",
        b"\x12\x34\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        socket.send(packet).await.unwrap();
    }
    for rubbish in [&b"\xff\xffrubbish"[..], b"\x00\x00", b"\x00\x05abcde", b"\x00"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(rubbish).await.unwrap();
    }
    assert_eq!(
        server.short("kubernetes.default.svc.cluster.local").await,
        ["10.96.0.1"]
    );
    assert_eq!(
        server.short("+tcp kubernetes.default.svc.cluster.local").await,
        ["10.96.0.1"]
    );
}

#[tokio::test]
async fn many_names_that_do_not_exist_are_all_denied() {
    let server = start(&cluster(), "cluster.local", Upstream::Nobody).await;
    server
        .becomes("kubernetes.default.svc.cluster.local", &["10.96.0.1"])
        .await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.address).await.unwrap();
    let ask = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let mut packet = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in [&format!("no-{number}"), "default", "svc", "cluster", "local"] {
            packet.push(u8::try_from(label.len()).unwrap());
            packet.extend(label.as_bytes());
        }
        packet.extend([0, 0, 1, 0, 1]);
        packet
    };
    let mut left: HashSet<u16> = (0..10_000).collect();
    let mut answer = [0; 512];
    // Datagrams may be lost: what got no answer is asked again.
    for _round in 0..20 {
        let asked: Vec<u16> = left.iter().copied().collect();
        for few in asked.chunks(32) {
            for number in few {
                socket.send(&ask(*number)).await.unwrap();
            }
            for _ in few {
                let Ok(read) = timeout(Duration::from_secs(2), socket.recv(&mut answer)).await else {
                    break;
                };
                let read = read.unwrap();
                assert_eq!(answer[3] & 0xf, 3, "NXDOMAIN: {:02x?}", &answer[..read]);
                left.remove(&u16::from_be_bytes([answer[0], answer[1]]));
            }
        }
        if left.is_empty() {
            break;
        }
    }
    assert!(left.is_empty(), "{} have no answer", left.len());
    assert_eq!(
        server.short("kubernetes.default.svc.cluster.local").await,
        ["10.96.0.1"]
    );
}

/// Endpoints that come and go all the time: answers hold what was told at some moment, whole, and in the end the last.
#[tokio::test]
async fn endpoints_that_flap_are_never_mixed_up() {
    let api = cluster();
    let server = start(&api, "cluster.local", Upstream::Nobody).await;
    let name = "nginx.default.svc.cluster.local";
    server.becomes(name, &["10.244.0.5", "10.244.0.6"]).await;
    let states = [[5, 6], [7, 8]];
    let told: Vec<BTreeSet<String>> = states
        .iter()
        .map(|hosts| hosts.iter().map(|host| format!("10.244.0.{host}")).collect())
        .collect();
    let flap = async {
        for hosts in states.into_iter().cycle() {
            api.tell("endpointslices", "MODIFIED", &slice("nginx", hosts));
            tokio::task::yield_now().await;
        }
    };
    let watch = async {
        for _ in 0..40 {
            let answer: BTreeSet<String> = server.short(name).await.into_iter().collect();
            assert!(told.contains(&answer), "{answer:?}");
        }
    };
    tokio::select! {
        () = watch => {}
        () = flap => {}
    }
    api.tell("endpointslices", "MODIFIED", &slice("nginx", [9]));
    server.becomes(name, &["10.244.0.9"]).await;
}

#[tokio::test]
async fn server_ends_when_told() {
    let mut server = start(&cluster(), "cluster.local", Upstream::Nobody).await;
    server.shutdown.cancel();
    server.tasks.join_next().await.unwrap().unwrap().unwrap();
    // The port is free again.
    UdpSocket::bind(server.address).await.unwrap();
}
