//! Replacing a Service: what the server allocated stays with it unless the client asks for something else.

use super::families::listed;
use super::{remove, take_field};
use serde_json::{Value, json};

pub(super) fn kind_of(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

fn has_cluster_ip(service: &Value) -> bool {
    kind_of(service) != "ExternalName"
}

fn has_node_ports(service: &Value) -> bool {
    let allocates = service["spec"]["allocateLoadBalancerNodePorts"]
        .as_bool()
        .unwrap_or(true);
    kind_of(service) == "NodePort" || (kind_of(service) == "LoadBalancer" && allocates)
}

/// Carries allocated addresses and node ports over, and drops those that the new type has no use for.
pub(super) fn keep_allocated(new: &mut Value, old: &Value) {
    if has_cluster_ip(new) && has_cluster_ip(old) {
        keep_addresses(new, old);
    } else if has_cluster_ip(old) && !has_cluster_ip(new) {
        drop_unchanged(
            new,
            old,
            &[
                "clusterIP",
                "clusterIPs",
                "ipFamilies",
                "ipFamilyPolicy",
                "internalTrafficPolicy",
            ],
        );
    }
    if has_node_ports(new) && has_node_ports(old) {
        keep_node_ports(new, old);
    } else if has_node_ports(old) && !has_node_ports(new) {
        drop_node_ports(new, old);
    }
    let is_external = |service: &Value| matches!(kind_of(service), "NodePort" | "LoadBalancer");
    if is_external(old) && !is_external(new) {
        drop_unchanged(
            new,
            old,
            &[
                "externalTrafficPolicy",
                "healthCheckNodePort",
                "allocateLoadBalancerNodePorts",
            ],
        );
    }
}

/// Old clients know one address only, so a list that was left out, or does not go with a changed address, is not what
/// they mean to say. What a changed address makes of a list that was left out is up to [`list_address`].
fn keep_addresses(new: &mut Value, old: &Value) {
    let is_empty = |value: &Value| value.as_str().unwrap_or_default().is_empty();
    if is_empty(&new["spec"]["clusterIP"]) {
        take_field(&mut new["spec"], &old["spec"], "clusterIP");
    }
    let is_changed = new["spec"]["clusterIP"] != old["spec"]["clusterIP"];
    if is_changed && listed(new, "clusterIPs") == listed(old, "clusterIPs") {
        remove(&mut new["spec"], "clusterIPs");
    } else if !is_changed && listed(new, "clusterIPs").is_empty() {
        take_field(&mut new["spec"], &old["spec"], "clusterIPs");
    }
}

/// Lists the address that an old client asks for. Only for what it had no list of before: until then a list that was
/// left out cannot be told from one that is meant to be shorter.
pub(super) fn list_address(service: &mut Value) {
    let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    if !ip.is_empty() && listed(service, "clusterIPs").is_empty() {
        service["spec"]["clusterIPs"] = json!([ip]);
    }
}

/// A port is the same port if its number and protocol are.
fn keep_node_ports(new: &mut Value, old: &Value) {
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if port["nodePort"].as_i64().unwrap_or(0) != 0 {
            continue;
        }
        let before = old["spec"]["ports"].as_array().into_iter().flatten();
        let same = before
            .clone()
            .find(|o| o["port"] == port["port"] && o["protocol"] == port["protocol"]);
        if let Some(number) = same.and_then(|o| o.get("nodePort")) {
            port["nodePort"] = number.clone();
        }
    }
}

fn drop_node_ports(new: &mut Value, old: &Value) {
    let numbers: Vec<&Value> = old["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|port| port.get("nodePort"))
        .collect();
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if port.get("nodePort").is_some_and(|number| numbers.contains(&number)) {
            remove(port, "nodePort");
        }
    }
}

fn drop_unchanged(new: &mut Value, old: &Value, fields: &[&str]) {
    for field in fields {
        if new["spec"].get(field) == old["spec"].get(field) {
            remove(&mut new["spec"], field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old() -> Value {
        json!({"spec": {
            "type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}],
        }})
    }

    #[test]
    fn what_was_allocated_stays() {
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}], "externalTrafficPolicy": "Cluster"}});
        keep_allocated(&mut new, &old());
        let mut expected = old();
        // What families go with the addresses is settled later.
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            remove(&mut expected["spec"], field);
        }
        assert_eq!(new, expected);
    }

    #[test]
    fn a_changed_type_gives_back_what_it_does_not_need() {
        let mut new = old();
        new["spec"]["type"] = json!("ClusterIP");
        keep_allocated(&mut new, &old());
        assert_eq!(new["spec"]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
        assert!(new["spec"].get("externalTrafficPolicy").is_none());
        assert_eq!(new["spec"]["clusterIP"], "10.96.0.7");
        new["spec"]["type"] = json!("ExternalName");
        keep_allocated(&mut new, &old());
        assert!(new["spec"].get("clusterIP").is_none());
        assert!(new["spec"].get("clusterIPs").is_none());
    }

    #[test]
    fn a_changed_address_is_left_for_validation_to_refuse() {
        let mut new = old();
        new["spec"]["clusterIP"] = json!("10.96.0.8");
        keep_allocated(&mut new, &old());
        list_address(&mut new);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.0.8"]));
        remove(&mut new["spec"], "clusterIPs");
        keep_allocated(&mut new, &old());
        list_address(&mut new);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.0.8"]));
    }

    #[test]
    fn clients_that_know_one_address_keep_both() {
        let services = crate::kinds::by_resource("", "v1", "services").unwrap();
        let mut old = old();
        old["spec"]["clusterIPs"] = json!(["10.96.0.7", "fd00::7"]);
        let mut new = old.clone();
        remove(&mut new["spec"], "clusterIPs");
        crate::defaults::apply(services, &mut new);
        crate::strategy::prepare_update(services, &mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], old["spec"]["clusterIPs"]);
    }

    #[test]
    fn an_address_is_listed_where_there_was_none() {
        let services = crate::kinds::by_resource("", "v1", "services").unwrap();
        let asked = json!({"spec": {"clusterIP": "10.96.0.7"}});
        let mut created = asked.clone();
        crate::strategy::prepare_create(services, &mut created);
        assert_eq!(created["spec"]["clusterIPs"], json!(["10.96.0.7"]));
        let mut changed = asked;
        let named = json!({"spec": {"type": "ExternalName", "externalName": "a.example"}});
        crate::strategy::prepare_update(services, &mut changed, &named);
        assert_eq!(changed["spec"]["clusterIPs"], json!(["10.96.0.7"]));
    }
}
