//! Services of two address families: what they get, keep and give back, over HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use apiserver::Config;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const FOUR: &str = "10.96.0.0/16";
const SIX: &str = "fd00:10:96::/108";

async fn cluster(ranges: &[&str]) -> Api {
    Api::with(config(ranges)).await
}

fn config(ranges: &[&str]) -> Config {
    let dns = |range: &&str| match range.contains(':') {
        true => "fd00:10:96::a".parse::<IpAddr>().unwrap(),
        false => "10.96.0.10".parse().unwrap(),
    };
    Config {
        service_cidrs: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        dns_ips: ranges.iter().map(dns).collect(),
        ..Config::default()
    }
}

fn service(name: &str, extra: &Value) -> Value {
    let mut spec = json!({"selector": {"a": "b"}, "ports": [{"port": 80}]});
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

fn texts(service: &Value, field: &str) -> Vec<String> {
    let list = service["spec"][field].as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The families and whether the addresses are of them, one each.
fn families(service: &Value) -> String {
    let (families, ips) = (texts(service, "ipFamilies"), texts(service, "clusterIPs"));
    assert_eq!(service["spec"]["clusterIP"], ips[0], "{service}");
    if ips[0] != "None" {
        let of = |ip: &String| match ip.parse::<IpAddr>().unwrap() {
            IpAddr::V4(_) => "IPv4",
            IpAddr::V6(_) => "IPv6",
        };
        assert_eq!(ips.iter().map(of).collect::<Vec<_>>(), families, "{service}");
    }
    families.join(",")
}

async fn message(api: &Api, service: &Value) -> String {
    let (code, _, message) = api.post(SERVICES, service).await.failure();
    assert_eq!(code, 422, "{message}");
    message
}

#[tokio::test]
async fn a_cluster_of_two_families_gives_addresses_of_both() {
    let api = cluster(&[FOUR, SIX]).await;
    let make = async |name: &str, extra: Value| api.post(SERVICES, &service(name, &extra)).await.ok();
    let plain = make("plain", json!({})).await;
    assert_eq!(
        (families(&plain).as_str(), &plain["spec"]["ipFamilyPolicy"]),
        ("IPv4", &json!("SingleStack"))
    );
    let dual = make("dual", json!({"ipFamilyPolicy": "PreferDualStack"})).await;
    assert_eq!(families(&dual), "IPv4,IPv6");
    let six = make("six", json!({"ipFamilies": ["IPv6"]})).await;
    assert_eq!(families(&six), "IPv6");
    let both = make(
        "both",
        json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
    )
    .await;
    assert_eq!(families(&both), "IPv6,IPv4");
    let headless = make(
        "headless",
        json!({"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack"}),
    )
    .await;
    assert_eq!(families(&headless), "IPv4,IPv6");

    for ip in texts(&dual, "clusterIPs") {
        let shown = api.get(&format!("{ADDRESSES}/{ip}")).await.ok();
        assert_eq!(shown["spec"]["parentRef"]["name"], "dual");
        let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
        assert_eq!(shown["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], family);
    }
    let own = api.get(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(
        (own["spec"]["clusterIP"].as_str(), families(&own).as_str()),
        (Some("10.96.0.1"), "IPv4")
    );
    let dns = api.get("/api/v1/namespaces/kube-system/services/kube-dns").await.ok();
    assert_eq!(texts(&dns, "clusterIPs"), ["10.96.0.10", "fd00:10:96::a"]);
    let range = api.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").await.ok();
    assert_eq!(range["spec"]["cidrs"], json!([FOUR, SIX]));
}

#[tokio::test]
async fn the_first_range_is_the_default_one() {
    for ranges in [&[SIX, FOUR][..], &[SIX]] {
        let api = cluster(ranges).await;
        let made = api.post(SERVICES, &service("plain", &json!({}))).await.ok();
        assert_eq!(families(&made), "IPv6");
        let own = api.get(&format!("{SERVICES}/kubernetes")).await.ok();
        assert_eq!(
            (own["spec"]["clusterIP"].as_str(), families(&own).as_str()),
            (Some("fd00:10:96::1"), "IPv6")
        );
        let prefers = service("prefers", &json!({"ipFamilyPolicy": "PreferDualStack"}));
        let expected = if ranges.len() == 2 { "IPv6,IPv4" } else { "IPv6" };
        assert_eq!(families(&api.post(SERVICES, &prefers).await.ok()), expected);
    }
    let alone = cluster(&[SIX]).await;
    let refused = message(&alone, &service("r", &json!({"ipFamilyPolicy": "RequireDualStack"}))).await;
    assert!(
        refused.ends_with("this cluster is not configured for dual-stack services"),
        "{refused}"
    );
    let refused = message(&alone, &service("r", &json!({"clusterIP": "10.96.0.7"}))).await;
    assert!(refused.ends_with("IPv4 is not configured on this cluster"), "{refused}");
}

#[tokio::test]
async fn addresses_that_are_asked_for_are_held_once() {
    let api = cluster(&[FOUR, SIX]).await;
    let ask = |name: &str, ips: [&str; 2]| {
        let wanted = json!({"clusterIP": ips[0], "clusterIPs": ips, "ipFamilyPolicy": "RequireDualStack"});
        service(name, &wanted)
    };
    api.post(SERVICES, &ask("a", ["10.96.7.7", "fd00:10:96::7"])).await.ok();
    // The same address in other words.
    let message = message(&api, &ask("b", ["10.96.7.8", "fd00:10:96:0::7"])).await;
    assert!(
        message.ends_with("failed to allocate IP fd00:10:96:0::7: provided IP is already allocated"),
        "{message}"
    );
    // What was asked for besides is free: nothing of a write that fails remains.
    api.post(SERVICES, &ask("c", ["10.96.7.8", "fd00:10:96::8"])).await.ok();
    let (_, _, message) = api
        .post(SERVICES, &ask("d", ["10.96.7.9", "fd00:10:97::9"]))
        .await
        .failure();
    assert!(
        message.ends_with("the provided network does not match the current range"),
        "{message}"
    );
}

#[tokio::test]
async fn a_service_is_upgraded_and_downgraded() {
    let api = cluster(&[FOUR, SIX]).await;
    let path = format!("{SERVICES}/s");
    let one = api.post(SERVICES, &service("s", &json!({}))).await.ok();
    let patch = async |spec: Value| api.patch(&path, "merge", &json!({"spec": spec})).await;
    let two = patch(json!({"ipFamilyPolicy": "PreferDualStack"})).await.ok();
    assert_eq!(families(&two), "IPv4,IPv6");
    assert_eq!(two["spec"]["clusterIP"], one["spec"]["clusterIP"]);
    // A client that sends what it made the Service from changes nothing.
    let again = json!({"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    let kept = api.put(&path, &again).await.ok();
    assert_eq!(kept["spec"], two["spec"]);
    // Nor does one that knows one address only.
    let known = json!({"clusterIP": two["spec"]["clusterIP"], "ipFamilyPolicy": "PreferDualStack"});
    for extra in [json!({"clusterIP": two["spec"]["clusterIP"]}), known] {
        let kept = api.put(&path, &service("s", &extra)).await.ok();
        assert_eq!(kept["spec"], two["spec"]);
    }
    let (_, _, message) = patch(json!({"ipFamilies": ["IPv6", "IPv4"]})).await.failure();
    assert!(
        message.contains("spec.clusterIPs[0]") && message.contains("expected an IPv6 value"),
        "{message}"
    );
    let (_, _, message) = patch(json!({"clusterIPs": [two["spec"]["clusterIP"]]})).await.failure();
    assert!(
        message.contains("must be 'SingleStack' to release the secondary cluster IP"),
        "{message}"
    );
    let released = texts(&two, "clusterIPs")[1].clone();
    let one = patch(json!({"ipFamilyPolicy": "SingleStack"})).await.ok();
    assert_eq!(families(&one), "IPv4");
    assert_eq!(api.get(&format!("{ADDRESSES}/{released}")).await.code, 404);
    let taker = json!({"clusterIP": released, "ipFamilies": ["IPv6"]});
    api.post(SERVICES, &service("taker", &taker)).await.ok();

    let named = patch(json!({"type": "ExternalName", "externalName": "foo.example.com"}))
        .await
        .ok();
    assert!(
        named["spec"].get("ipFamilies").is_none() && named["spec"].get("ipFamilyPolicy").is_none(),
        "{named}"
    );
    let back = json!({"type": "ClusterIP", "externalName": null, "ipFamilyPolicy": "RequireDualStack"});
    let back = patch(back).await.ok();
    assert_eq!(families(&back), "IPv4,IPv6");
    for ip in texts(&back, "clusterIPs") {
        assert_eq!(api.get(&format!("{ADDRESSES}/{ip}")).await.code, 200);
    }
    api.delete(&path, &Value::Null).await.ok();
    for ip in texts(&back, "clusterIPs") {
        assert_eq!(api.get(&format!("{ADDRESSES}/{ip}")).await.code, 404);
    }
}

#[tokio::test]
async fn many_services_never_share_an_address_of_either_family() {
    let mut config = config(&["10.96.0.0/26", "fd00:10:96::/122"]);
    config.dns_ips = vec!["10.96.0.10".parse().unwrap(), "fd00:10:96::a".parse().unwrap()];
    let api = Api::with(config).await;
    let creates = (0..40).map(|index| {
        let api = api.clone();
        let dual = json!({"ipFamilyPolicy": "RequireDualStack"});
        async move { api.post(SERVICES, &service(&format!("s{index}"), &dual)).await.ok() }
    });
    let made = futures::future::join_all(creates).await;
    let ips: BTreeSet<String> = made.iter().flat_map(|service| texts(service, "clusterIPs")).collect();
    assert_eq!(ips.len(), 80);
    assert!(
        ips.iter()
            .all(|ip| !["10.96.0.1", "10.96.0.10", "fd00:10:96::1", "fd00:10:96::a"].contains(&ip.as_str()))
    );
}

#[tokio::test]
async fn a_cluster_gets_a_second_family_and_services_get_it_when_told() {
    let before = cluster(&[FOUR]).await;
    let prefers = service("prefers", &json!({"ipFamilyPolicy": "PreferDualStack"}));
    let made = before.post(SERVICES, &prefers).await.ok();
    let after = Api::on(before.store.clone(), config(&[FOUR, SIX])).await;
    let range = after
        .get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes")
        .await
        .ok();
    assert_eq!(range["spec"]["cidrs"], json!([FOUR, SIX]));
    // A write that does not speak of families changes none.
    let path = format!("{SERVICES}/prefers");
    let patch = async |patch: Value| after.patch(&path, "merge", &patch).await.ok();
    let labelled = patch(json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(labelled["spec"], made["spec"]);
    let both = patch(json!({"spec": {"ipFamilyPolicy": "RequireDualStack"}})).await;
    assert_eq!(families(&both), "IPv4,IPv6");
    // And back: what was given stays until it is told to go, and nothing new is given.
    let back = Api::on(before.store.clone(), config(&[FOUR])).await;
    let kept = back.get(&path).await.ok();
    assert_eq!(kept["spec"], both["spec"]);
    let single = json!({"spec": {"ipFamilyPolicy": "SingleStack"}});
    assert_eq!(families(&back.patch(&path, "merge", &single).await.ok()), "IPv4");
    let six = texts(&both, "clusterIPs")[1].clone();
    assert_eq!(back.get(&format!("{ADDRESSES}/{six}")).await.code, 404);
}

#[tokio::test]
async fn a_server_starts_with_ranges_of_another_family() {
    let at = |ranges: &[&str], advertise: &str| Config {
        advertise: advertise.parse().unwrap(),
        ..config(ranges)
    };
    let before = Api::with(at(&[SIX], "[2001:db8::1]:6443")).await;
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    assert_eq!(before.get(slice).await.ok()["addressType"], "IPv6");
    let own = before.get(&format!("{SERVICES}/kubernetes")).await.ok();
    let after = Api::on(before.store.clone(), at(&[FOUR], "192.0.2.1:6443")).await;
    let shown = after.get(slice).await.ok();
    assert_eq!(shown["addressType"], "IPv4");
    assert_eq!(shown["endpoints"][0]["addresses"], json!(["192.0.2.1"]));
    // What people must sort out stays as it is.
    assert_eq!(
        after.get(&format!("{SERVICES}/kubernetes")).await.ok()["spec"],
        own["spec"]
    );
    let range = after
        .get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes")
        .await
        .ok();
    assert_eq!(range["spec"]["cidrs"], json!([SIX]));
    let made = after.post(SERVICES, &service("new", &json!({}))).await.ok();
    assert_eq!(families(&made), "IPv4");
}

#[tokio::test]
async fn servers_on_one_store_never_give_an_address_twice() {
    let ranges = config(&["10.96.0.0/27", "fd00:10:96::/123"]);
    let one = Api::with(ranges.clone()).await;
    let other = Api::on(one.store.clone(), ranges).await;
    let creates = (0..20).map(|index| {
        let api = if index % 2 == 0 { one.clone() } else { other.clone() };
        let dual = json!({"ipFamilyPolicy": "RequireDualStack"});
        async move { api.post(SERVICES, &service(&format!("s{index}"), &dual)).await.ok() }
    });
    let made = futures::future::join_all(creates).await;
    let ips: BTreeSet<String> = made.iter().flat_map(|service| texts(service, "clusterIPs")).collect();
    assert_eq!(ips.len(), 40);
}
