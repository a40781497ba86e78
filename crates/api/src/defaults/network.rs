//! Defaults of Services, endpoints, network policies and ingresses.

use super::{items, set_absent, set_zero};
use serde_json::{Value, json};

/// How long a client stays with one endpoint under `sessionAffinity: ClientIP`: three hours.
const AFFINITY_S: i64 = 10_800;

pub(super) fn apply(name: &str, value: &mut Value) {
    match name {
        "core.v1.ServiceSpec" => service(value),
        "core.v1.EndpointPort" => set_zero(value, "protocol", "TCP"),
        "discovery.v1.EndpointPort" => {
            set_absent(value, "name", "");
            set_absent(value, "protocol", "TCP");
        }
        "networking.v1.NetworkPolicyPort" => set_absent(value, "protocol", "TCP"),
        "networking.v1.NetworkPolicySpec" => {
            let has_egress = value["egress"].as_array().is_some_and(|rules| !rules.is_empty());
            let types = if has_egress {
                json!(["Ingress", "Egress"])
            } else {
                json!(["Ingress"])
            };
            set_absent(value, "policyTypes", types);
        }
        "networking.v1.IngressClassParametersReference" => set_absent(value, "scope", "Cluster"),
        _ => {}
    }
}

fn service(spec: &mut Value) {
    set_zero(spec, "type", "ClusterIP");
    set_zero(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "ClientIP" {
        set_absent(spec, "sessionAffinityConfig", json!({}));
        set_absent(&mut spec["sessionAffinityConfig"], "clientIP", json!({}));
        set_absent(
            &mut spec["sessionAffinityConfig"]["clientIP"],
            "timeoutSeconds",
            AFFINITY_S,
        );
    } else if let Value::Object(fields) = spec {
        fields.remove("sessionAffinityConfig");
    }
    for port in items(spec, "ports") {
        set_zero(port, "protocol", "TCP");
        let number = port["port"].clone();
        set_zero(port, "targetPort", number);
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    let is_external = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    let has_external_ips = spec["externalIPs"].as_array().is_some_and(|ips| !ips.is_empty());
    if is_external || (kind == "ClusterIP" && has_external_ips) {
        set_zero(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set_absent(spec, "allocateLoadBalancerNodePorts", true);
    }
    if is_external || kind == "ClusterIP" {
        set_absent(spec, "internalTrafficPolicy", "Cluster");
    }
    // What addresses it has depends on those it had (`crate::strategy`).
    if let Value::Object(fields) = spec {
        fields.retain(|_, value| !value.is_null());
    }
}
