//! Objects in, records out, as tables.

use super::*;
use api::k8s::api::core::v1 as core;
use api::k8s::api::discovery::v1 as discovery;
use serde_json::{Value, json};

fn service(spec: Value) -> core::Service {
    serde_json::from_value(json!({"metadata": {"name": "Nginx".to_lowercase(), "namespace": "default"}, "spec": spec}))
        .unwrap()
}

fn slice(ports: Value, endpoints: Value) -> discovery::EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {
            "name": "nginx-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "nginx"},
        },
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    }))
    .unwrap()
}

/// One line per record; `@` stands for the Service's own name.
#[track_caller]
fn check(spec: Value, slices: &[discovery::EndpointSlice], expected: &[&str]) {
    let records = match Service::read(&service(spec)) {
        Some(service) => {
            let key = Key {
                namespace: "default".to_owned(),
                name: "nginx".to_owned(),
            };
            let slices: Vec<Slice> = slices.iter().map(Slice::read).collect();
            of_service("cluster.local", &key, &service, &slices)
        }
        None => Vec::new(),
    };
    let mut found: Vec<String> = records.iter().map(text).collect();
    found.sort();
    let mut expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
    expected.sort();
    assert_eq!(found, expected);
}

fn text(record: &Record) -> String {
    let own = "nginx.default.svc.cluster.local";
    let text = match &record.data {
        Data::Address(address) if address.is_ipv4() => format!("{} A {address}", record.name),
        Data::Address(address) => format!("{} AAAA {address}", record.name),
        Data::Alias(target) => format!("{} CNAME {target}", record.name),
        Data::Port { port, target } => format!("{} SRV {port} {target}", record.name),
        Data::Pointer(target) => format!("{} PTR {target}", record.name),
        Data::Text(text) => format!("{} TXT {text}", record.name),
    };
    text.replace(own, "@")
}

#[test]
fn cluster_address_and_named_ports() {
    check(
        json!({
            "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
            "ports": [
                {"name": "http", "port": 80, "targetPort": 8080},
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"port": 99},
            ],
        }),
        &[slice(
            json!([{"name": "http", "port": 8080}]),
            json!([{"addresses": ["10.244.0.5"], "hostname": "web-0"}]),
        )],
        &[
            "@ A 10.96.0.7",
            "@ AAAA fd00::7",
            "_http._tcp.@ SRV 80 @",
            "_dns._udp.@ SRV 53 @",
            "7.0.96.10.in-addr.arpa PTR @",
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR @",
        ],
    );
}

#[test]
fn service_without_an_address_yet_has_no_records() {
    check(json!({"ports": [{"name": "http", "port": 80}]}), &[], &[]);
    check(
        json!({"clusterIP": "", "ports": [{"name": "http", "port": 80}]}),
        &[],
        &[],
    );
}

#[test]
fn headless_service_leads_to_its_pods() {
    check(
        json!({"clusterIP": "None", "ports": [{"name": "web", "port": 80}]}),
        &[slice(
            json!([{"name": "web", "port": 8080, "protocol": "TCP"}, {"name": "", "port": 1}]),
            json!([
                {"addresses": ["10.244.0.5"], "hostname": "web-0", "conditions": {"ready": true}},
                {"addresses": ["10.244.0.6"], "hostname": "web-1"},
                {"addresses": ["10.244.0.7"], "hostname": "web-2", "conditions": {"ready": false, "serving": true}},
                {"addresses": ["10.244.0.8"]},
            ]),
        )],
        &[
            "@ A 10.244.0.5",
            "@ A 10.244.0.6",
            "@ A 10.244.0.8",
            "web-0.@ A 10.244.0.5",
            "web-1.@ A 10.244.0.6",
            "10-244-0-8.@ A 10.244.0.8",
            "_web._tcp.@ SRV 8080 web-0.@",
            "_web._tcp.@ SRV 8080 web-1.@",
            "_web._tcp.@ SRV 8080 10-244-0-8.@",
            "5.0.244.10.in-addr.arpa PTR web-0.@",
            "6.0.244.10.in-addr.arpa PTR web-1.@",
            "8.0.244.10.in-addr.arpa PTR 10-244-0-8.@",
        ],
    );
}

#[test]
fn headless_service_without_ready_endpoints_does_not_exist() {
    let endpoints = json!([{"addresses": ["10.244.0.5"], "hostname": "web-0", "conditions": {"ready": false}}]);
    check(json!({"clusterIP": "None"}), &[slice(json!([]), endpoints)], &[]);
}

#[test]
fn endpoint_in_two_slices_is_one() {
    let one = slice(json!([]), json!([{"addresses": ["fd00::1:2"]}]));
    check(
        json!({"clusterIP": "None"}),
        &[one.clone(), one],
        &[
            "@ AAAA fd00::1:2",
            "fd00-0-0-0-0-0-1-2.@ AAAA fd00::1:2",
            "2.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR fd00-0-0-0-0-0-1-2.@",
        ],
    );
}

#[test]
fn external_name_is_an_alias() {
    check(
        json!({"type": "ExternalName", "externalName": "DB.example.com."}),
        &[],
        &["@ CNAME db.example.com"],
    );
    check(json!({"type": "ExternalName", "externalName": ""}), &[], &[]);
}

#[test]
fn pods_names_are_their_addresses() {
    let domain = "cluster.local";
    let address = |name: &str| pod_address(domain, &format!("{name}.pod.{domain}")).map(|address| address.to_string());
    assert_eq!(address("10-244-0-5.default").as_deref(), Some("10.244.0.5"));
    assert_eq!(address("fd00-0-0-0-0-0-1-2.default").as_deref(), Some("fd00::1:2"));
    assert_eq!(address("10-244-0.default"), None);
    assert_eq!(address("10-244-0-5"), None);
    assert_eq!(address("x.10-244-0-5.default"), None);
}

#[test]
fn a11_4_a_set_s_pods_have_names_below_their_headless_service() {
    let pod = |name: &str, ip: &str, ready: bool| json!({"addresses": [ip], "hostname": name, "conditions": {"ready": ready}});
    check(
        json!({"clusterIP": "None", "ports": [{"name": "web", "port": 80}]}),
        &[slice(
            json!([{"name": "web", "port": 80, "protocol": "TCP"}]),
            json!([pod("web-0", "10.0.0.1", true), pod("web-1", "10.0.0.2", false)]),
        )],
        &[
            "@ A 10.0.0.1",
            "web-0.@ A 10.0.0.1",
            "_web._tcp.@ SRV 80 web-0.@",
            "1.0.0.10.in-addr.arpa PTR web-0.@",
        ],
    );
}
