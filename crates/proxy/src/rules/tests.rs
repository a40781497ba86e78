use super::*;
use crate::element::{Map, Way};
use crate::service::Protocol;
use api::k8s::api::{core::v1 as core, discovery::v1 as discovery};
use serde_json::{Value, json};

fn around() -> Surroundings {
    Surroundings {
        pod_cidrs: vec![(Family::V4, "10.244.0.0/16".to_owned())],
        own: BTreeSet::new(),
        masquerade_all: false,
        zone: Some("a".to_owned()),
    }
}

/// The rules of a Service `web` with this spec and these endpoints (address, ready, serving, terminating, node).
fn part_of(around: &Surroundings, spec: &Value, endpoints: &[(&str, bool, bool, bool, &str)]) -> Part {
    let object: core::Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"}, "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}},
    }))
    .unwrap();
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, ready, serving, terminating, node)| {
            let conditions = json!({"ready": ready, "serving": serving, "terminating": terminating});
            json!({"addresses": [address], "nodeName": node, "conditions": conditions})
        })
        .collect();
    let slice: discovery::EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }))
    .unwrap();
    let key = service_watch::owner_of(&slice).unwrap();
    let slice = Slice::read(&slice, "here");
    let service = Service::read(&object).unwrap();
    of_service(around, Family::V4, &key, &service, [&slice])
}

fn cluster_ip() -> Value {
    json!({"clusterIP": "10.96.0.5", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]})
}

fn with(mut spec: Value, more: Value) -> Value {
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

const TWO: [(&str, bool, bool, bool, &str); 2] = [
    ("10.244.0.2", true, true, false, "here"),
    ("10.244.1.3", true, true, false, "there"),
];

/// The lead of an element, written as in the kernel's table.
fn lead(part: &Part, map: Map, key: &str) -> Option<String> {
    let mut elements = part.elements.iter();
    let found = elements.find(|(element, _)| element.map() == map && element.to_string() == key);
    found.map(|(_, lead)| lead.to_string().trim_start_matches(" : ").to_owned())
}

fn rules_of(part: &Part, kind: &str) -> Vec<String> {
    let found = part
        .chains
        .iter()
        .find(|(name, _)| name.starts_with(&format!("{kind}-")));
    found.map(|(_, rules)| rules.clone()).unwrap_or_default()
}

fn rules_of_shape(kind: Kind, all: usize) -> Vec<String> {
    let protocol = Protocol::Tcp;
    Shape { kind, protocol, all }.rules(Family::V4)
}

/// The endpoints in a map that a destination has.
fn targets(part: &Part, way: Way, among: Among, to: &str) -> Vec<String> {
    let (map, to) = (Map::Endpoints(way, Protocol::Tcp, among), to.replace("tcp . ", ""));
    let numbered = (0..).map_while(|number| lead(part, map, &format!("{to} . {number}")));
    numbered.map(|place| place.replace(" . ", ":")).collect()
}

/// Where packets to the Service's own address go.
fn inside(part: &Part) -> Vec<String> {
    let targets = targets(part, Way::Address, Among::All, OWN);
    let expected = (!targets.is_empty()).then(|| format!("goto inside-tcp-{}", targets.len()));
    assert_eq!(lead(part, Map::Services, OWN), expected, "{part:?}");
    targets
}

const OWN: &str = "10.96.0.5 . tcp . 80";

#[test]
fn address_of_a_service_leads_to_each_ready_endpoint() {
    let part = part_of(&around(), &cluster_ip(), &TWO);
    assert_eq!(inside(&part), ["10.244.0.2:8080", "10.244.1.3:8080"]);
    assert!(lead(&part, Map::ClusterIps, "10.96.0.5").is_some());
    assert!(lead(&part, Map::Hairpins, "10.244.0.2 . 10.244.0.2").is_some());
    assert_eq!((part.chains.len(), part.sets.len()), (0, 0));
    let rules = rules_of_shape(Kind::Inside, 2);
    assert_eq!(rules[0], "jump mark-strangers");
    assert!(
        rules[1].ends_with("numgen random mod 2 map @endpoints-tcp"),
        "{rules:?}"
    );
}

#[test]
fn endpoints_that_are_not_ready_get_nothing_unless_all_are_leaving() {
    let mixed = [
        TWO[0],
        ("10.244.0.9", false, true, true, "here"),
        ("10.244.0.8", false, false, false, "here"),
    ];
    assert_eq!(inside(&part_of(&around(), &cluster_ip(), &mixed)), ["10.244.0.2:8080"]);
    assert_eq!(
        inside(&part_of(&around(), &cluster_ip(), &mixed[1..])),
        ["10.244.0.9:8080"]
    );
}

#[test]
fn service_without_endpoints_refuses() {
    let part = part_of(
        &around(),
        &with(
            cluster_ip(),
            json!({"type": "NodePort", "ports": [
        {"name": "http", "port": 80, "nodePort": 30080}]}),
        ),
        &[],
    );
    assert_eq!(lead(&part, Map::Services, OWN), None);
    let refused = Some("goto reject-chain".to_owned());
    assert_eq!(lead(&part, Map::NoEndpointServices, OWN), refused);
    assert_eq!(lead(&part, Map::NoEndpointNodePorts, "tcp . 30080"), refused);
}

#[test]
fn internal_policy_local_stays_on_the_node_and_drops_without_endpoints_there() {
    let local = with(cluster_ip(), json!({"internalTrafficPolicy": "Local"}));
    let part = part_of(&around(), &local, &TWO);
    assert_eq!(inside(&part), ["10.244.0.2:8080"]);
    let part = part_of(&around(), &local, &TWO[1..]);
    assert_eq!(lead(&part, Map::NoEndpointServices, OWN).as_deref(), Some("drop"));
}

#[test]
fn external_policy_local_keeps_the_source_and_serves_insiders_from_anywhere() {
    let spec = with(
        cluster_ip(),
        json!({"type": "NodePort", "externalTrafficPolicy": "Local",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
    );
    let part = part_of(&around(), &spec, &TWO);
    let to = "tcp . 30080";
    assert_eq!(
        lead(&part, Map::NodePorts, to).as_deref(),
        Some("goto nodeport-local-tcp-2-1")
    );
    assert_eq!(
        targets(&part, Way::NodePort, Among::All, to),
        ["10.244.0.2:8080", "10.244.1.3:8080"]
    );
    assert_eq!(targets(&part, Way::NodePort, Among::Here, to), ["10.244.0.2:8080"]);
    let rules = rules_of_shape(Kind::OutsideLocal(Way::NodePort, 1), 2);
    assert!(rules[0].starts_with("ip saddr @pods dnat ip to tcp dport"), "{rules:?}");
    assert!(rules[0].ends_with("mod 2 map @nodeport-endpoints-tcp"), "{rules:?}");
    assert!(
        rules[3].ends_with("mod 1 map @nodeport-endpoints-tcp-here"),
        "{rules:?}"
    );
    let nobody_here = part_of(&around(), &spec, &TWO[1..]);
    assert_eq!(
        lead(&nobody_here, Map::NoEndpointNodePorts, to).as_deref(),
        Some("drop")
    );
    assert_eq!(
        lead(&nobody_here, Map::NodePorts, to).as_deref(),
        Some("goto nodeport-local-tcp-1-0")
    );
    assert_eq!(rules_of_shape(Kind::OutsideLocal(Way::NodePort, 0), 1).len(), 3);
}

#[test]
fn external_policy_cluster_replaces_the_source() {
    let spec = with(cluster_ip(), json!({"externalIPs": ["203.0.113.9"]}));
    let part = part_of(&around(), &spec, &TWO);
    // The address of the load balancer goes the same way.
    for to in ["203.0.113.9 . tcp . 80", "198.51.100.7 . tcp . 80"] {
        assert_eq!(lead(&part, Map::Services, to).as_deref(), Some("goto outside-tcp-2"));
        assert_eq!(targets(&part, Way::Address, Among::All, to).len(), 2);
    }
    let rules = rules_of_shape(Kind::Outside(Way::Address), 2);
    assert_eq!(rules[0], "jump mark-for-masquerade");
    assert_eq!(lead(&part, Map::Firewall, "198.51.100.7 . tcp . 80"), None);
}

#[test]
fn source_ranges_guard_the_load_balancer_only() {
    let spec = with(
        cluster_ip(),
        json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]}),
    );
    let part = part_of(&around(), &spec, &TWO);
    assert!(lead(&part, Map::Firewall, "198.51.100.7 . tcp . 80").is_some());
    assert_eq!(rules_of(&part, "firewall"), ["ip saddr != { 192.0.2.0/24 } drop"]);
}

#[test]
fn affinity_remembers_the_endpoint_of_a_client() {
    let spec = with(
        cluster_ip(),
        json!({"sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}),
    );
    let part = part_of(&around(), &spec, &TWO);
    assert_eq!(part.sets.len(), 2);
    assert!(part.sets.values().all(|set| set.contains("timeout 60s")));
    assert!(lead(&part, Map::Services, OWN).unwrap().starts_with("goto inside-"));
    let rules = rules_of(&part, "inside");
    assert!(
        rules[0] == "jump mark-strangers" && rules[1].starts_with("goto choose-all-"),
        "{rules:?}"
    );
    let rules = rules_of(&part, "choose-all");
    assert!(
        rules[0].contains("ip saddr @affinity-") && rules[1].contains("ip saddr @affinity-"),
        "{rules:?}"
    );
    let endpoint = rules_of(&part, "endpoint");
    assert!(endpoint[0].starts_with("update @affinity-"), "{endpoint:?}");
    assert!(endpoint[1].ends_with("dnat to 10.244.0.2:8080"), "{endpoint:?}");
}

#[test]
fn addresses_that_this_machine_answers_on_are_never_refused() {
    let mut around = around();
    around.own.insert("10.96.0.5".parse().unwrap());
    let spec = with(cluster_ip(), json!({"type": "ClusterIP"}));
    let part = part_of(&around, &spec, &[]);
    assert_eq!(lead(&part, Map::ClusterIps, "10.96.0.5"), None);
    assert_eq!(lead(&part, Map::NoEndpointServices, OWN), None);
    let part = part_of(&around, &spec, &TWO);
    assert_eq!(lead(&part, Map::ClusterIps, "10.96.0.5"), None);
    assert_eq!(inside(&part).len(), 2);
}

#[test]
fn other_family_has_no_part() {
    let object: core::Service =
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": cluster_ip()}))
            .unwrap();
    let service = Service::read(&object).unwrap();
    let key = Key {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
    };
    let part = of_service(&around(), Family::V6, &key, &service, []);
    assert_eq!(part, Part::default());
}

#[test]
fn headless_external_and_foreign_services_have_no_rules() {
    for (spec, labels) in [
        (json!({"clusterIP": "None"}), json!({})),
        (
            json!({"type": "ExternalName", "externalName": "example.com"}),
            json!({}),
        ),
        (
            cluster_ip(),
            json!({"service.kubernetes.io/service-proxy-name": "other"}),
        ),
        (cluster_ip(), json!({"service.kubernetes.io/headless": ""})),
    ] {
        let object = json!({"metadata": {"name": "web", "namespace": "shop", "labels": labels}, "spec": spec});
        assert_eq!(Service::read(&serde_json::from_value(object).unwrap()), None);
    }
}

#[test]
fn names_stay_within_what_the_kernel_takes() {
    let long = "x".repeat(63);
    let key = Key {
        namespace: long.clone(),
        name: long.clone(),
    };
    let port = Port {
        name: long[..15].into(),
        protocol: Protocol::Sctp,
        port: 65535,
        node_port: None,
    };
    let widest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    assert!("endpoint-".len() + id(&key, &port).len() + 1 + widest.len() + "/65535".len() < 128);
}

/// The node and the zone that an endpoint is meant for.
type Hint = (Option<&'static str>, Option<&'static str>);

/// The endpoints that get packets, of some with these hints.
fn near(hints: &[Hint]) -> Vec<String> {
    let endpoints: Vec<Value> = hints
        .iter()
        .enumerate()
        .map(|(i, (node, zone))| {
            let named = |name: &Option<&str>| name.map(|name| json!([{"name": name}]));
            let hints = json!({"forNodes": named(node), "forZones": named(zone)});
            json!({"addresses": [format!("10.244.0.{i}")], "conditions": {"ready": true}, "hints": hints})
        })
        .collect();
    let slice: discovery::EndpointSlice = serde_json::from_value(json!({
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}],
    }))
    .unwrap();
    let service: core::Service = serde_json::from_value(json!({"spec": cluster_ip()})).unwrap();
    let key = Key {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
    };
    let service = Service::read(&service).unwrap();
    let part = of_service(&around(), Family::V4, &key, &service, [&Slice::read(&slice, "here")]);
    inside(&part)
}

#[test]
fn traffic_stays_near_if_all_endpoints_say_where_they_are_meant_for() {
    let (one, two) = ("10.244.0.0:8080", "10.244.0.1:8080");
    // This node is `here`, in zone `a`.
    let table: [(&[Hint], &[&str]); 6] = [
        (&[(None, Some("a")), (None, Some("b"))], &[one]),
        (&[(None, Some("b")), (None, Some("b"))], &[one, two]),
        (&[(None, Some("a")), (None, None)], &[one, two]),
        (&[(Some("here"), Some("a")), (Some("there"), Some("a"))], &[one]),
        (&[(Some("elsewhere"), Some("b")), (Some("there"), Some("a"))], &[two]),
        (&[(Some("here"), None), (None, None)], &[one, two]),
    ];
    for (hints, expected) in table {
        assert_eq!(near(hints), expected, "{hints:?}");
    }
}
