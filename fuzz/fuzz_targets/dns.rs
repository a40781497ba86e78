//! DNS packets: every one gets an answer that fits and that others can read, or none because it is no query.

#![no_main]

use dns::Answers;
use futures::FutureExt;
use hickory_resolver::proto::op::Message;
use serde_json::json;
use std::sync::LazyLock;

/// The most that goes into a datagram here, and over TCP.
const BYTES_MAX: [usize; 2] = [1232, 65_535];

/// The fixed part of a message.
const HEADER_BYTES: usize = 12;

/// A cluster with names of each sort: an address, endpoints with and without host names, aliases that lead on, in circles
/// and outside.
static CLUSTER: LazyLock<Answers> = LazyLock::new(|| {
    let service = |name: &str, spec| json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let alias = |name: &str, target: &str| service(name, json!({"type": "ExternalName", "externalName": target}));
    let services = json!([
        service(
            "kubernetes",
            json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]})
        ),
        service(
            "nginx",
            json!({"clusterIP": "None", "ports": [{"name": "web", "port": 80}]})
        ),
        service("big", json!({"clusterIP": "None"})),
        alias("near", "kubernetes.default.svc.cluster.local"),
        alias("far", "example.com"),
        alias("round", "and-round.default.svc.cluster.local"),
        alias("and-round", "round.default.svc.cluster.local"),
    ]);
    let slice = |service: &str, endpoints: serde_json::Value| {
        json!({
            "metadata": {"name": service, "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
        })
    };
    let many: Vec<_> = (0..200)
        .map(|host| json!({"addresses": [format!("10.244.3.{host}")]}))
        .collect();
    let two = json!([
        {"addresses": ["10.244.0.5"], "hostname": "web-0"}, {"addresses": ["10.244.0.6"], "hostname": "web-1"},
    ]);
    let slices = json!([slice("nginx", two), slice("big", json!(many))]);
    let read = "they are objects of these kinds";
    let services: Vec<_> = serde_json::from_value(services).expect(read);
    let slices: Vec<_> = serde_json::from_value(slices).expect(read);
    Answers::of("cluster.local", &services, &slices)
});

libfuzzer_sys::fuzz_target!(|packet: &[u8]| {
    for (is_tcp, bytes_max) in [false, true].into_iter().zip(BYTES_MAX) {
        let answer = CLUSTER.to(packet, is_tcp).now_or_never().expect("nobody is asked");
        let Some(answer) = answer else {
            let is_query = packet.len() >= HEADER_BYTES && packet[2] & 0x80 == 0;
            assert!(!is_query, "a query gets an answer, if only that it is none");
            continue;
        };
        assert!(answer.len() <= bytes_max, "{} bytes", answer.len());
        assert_eq!(answer[..2], packet[..2], "it has the number of its question");
        assert_ne!(answer[2] & 0x80, 0, "it is a response");
        if let Err(error) = Message::from_vec(&answer) {
            // Whoever asks with bytes that are no name gets them back.
            assert!(Message::from_vec(packet).is_err(), "{error}: {answer:02x?}");
        }
    }
});
