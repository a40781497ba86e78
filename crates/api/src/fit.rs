//! Whether a pod may be on a node, as far as node and pod alone say: node selectors and affinity, taints, host ports.

use crate::k8s::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};
use std::collections::BTreeMap;

/// A node as selectors see it.
#[derive(Clone, Copy, Debug)]
pub struct NodeIdentity<'a> {
    /// The node's name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// A port of the node that a pod wants for itself: address (empty for all), protocol, number.
pub type HostPort = (String, String, i32);

/// Whether a pod's node selector and required node affinity allow a node.
pub fn is_selected(spec: &PodSpec, node: NodeIdentity<'_>) -> bool {
    let mut wanted = spec.node_selector.iter().flatten();
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    wanted.all(|(key, value)| node.labels.get(key) == Some(value))
        && required.is_none_or(|selector| selects(selector, node))
}

/// Whether a node is selected: one term must hold; a selector without terms selects nothing.
pub fn selects(selector: &NodeSelector, node: NodeIdentity<'_>) -> bool {
    selector.node_selector_terms.iter().any(|term| term_selects(term, node))
}

/// Whether all of a term holds; an empty term holds nowhere.
pub fn term_selects(term: &NodeSelectorTerm, node: NodeIdentity<'_>) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |key: &str| (key == "metadata.name").then_some(node.name);
    labels
        .iter()
        .all(|requirement| holds(requirement, node.labels.get(&requirement.key).map(String::as_str)))
        && fields
            .iter()
            .all(|requirement| holds(requirement, field(&requirement.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let wanted = requirement.values.as_deref().unwrap_or_default();
    let is_listed = || value.is_some_and(|value| wanted.iter().any(|one| one == value));
    match requirement.operator.as_str() {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(value, wanted).is_some_and(|(value, limit)| value > limit),
        "Lt" => compare(value, wanted).is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}

fn compare(value: Option<&str>, wanted: &[String]) -> Option<(i64, i64)> {
    let [limit] = wanted else { return None };
    Some((value?.parse().ok()?, limit.parse().ok()?))
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let is_open = |text: Option<&str>| text.is_none_or(str::is_empty);
    let (effect, key) = (toleration.effect.as_deref(), toleration.key.as_deref());
    if !is_open(effect) && effect != Some(&taint.effect) || !is_open(key) && key != Some(&taint.key) {
        return false;
    }
    let (mine, theirs) = (
        toleration.value.as_deref().unwrap_or_default(),
        taint.value.as_deref().unwrap_or_default(),
    );
    let numbers = || Some((theirs.parse::<i64>().ok()?, mine.parse::<i64>().ok()?));
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => !is_open(key) && mine == theirs,
        "Exists" => true,
        "Gt" => numbers().is_some_and(|(value, limit)| value > limit),
        "Lt" => numbers().is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}

/// The taints with one of these effects that no toleration covers.
pub fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> impl Iterator<Item = &'a Taint> {
    taints.iter().filter(move |taint| {
        effects.contains(&taint.effect.as_str()) && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    })
}

/// The ports of the node that a pod wants for itself, those of its sidecars too.
pub fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let init = spec.init_containers.iter().flatten();
    let sidecars = init.filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|address| address != "0.0.0.0");
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((address.unwrap_or_default(), protocol, number))
        })
        .collect()
}

/// Whether two pods cannot both have what they want.
pub fn clash(a: &HostPort, b: &HostPort) -> bool {
    let same_address = a.0 == b.0 || a.0.is_empty() || b.0.is_empty();
    same_address && a.1 == b.1 && a.2 == b.2
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(terms: Value, expected: bool) {
        let labels = BTreeMap::from([("disk", "ssd"), ("cores", "8")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let node = NodeIdentity {
            name: "n1",
            labels: &labels,
        };
        let selector: NodeSelector = serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap();
        assert_eq!(selects(&selector, node), expected, "{selector:?}");
    }

    fn label(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    #[test]
    fn each_operator_means_what_upstream_means() {
        check(json!([]), false);
        check(json!([{}]), false);
        check(json!([label("disk", "In", &["hdd", "ssd"])]), true);
        check(json!([label("disk", "NotIn", &["ssd"])]), false);
        check(json!([label("absent", "NotIn", &["ssd"])]), true);
        check(json!([label("absent", "Exists", &[])]), false);
        check(json!([label("absent", "DoesNotExist", &[])]), true);
        check(json!([label("cores", "Gt", &["7"])]), true);
        check(json!([label("cores", "Lt", &["8"])]), false);
        check(json!([label("disk", "Lt", &["8"])]), false);
        check(
            json!([label("disk", "In", &["hdd"]), label("cores", "Exists", &[])]),
            true,
        );
        check(
            json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]),
            true,
        );
        check(
            json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]),
            false,
        );
    }

    fn check_toleration(toleration: Value, expected: bool) {
        let taint: Taint = serde_json::from_value(json!({"key": "a", "value": "5", "effect": "NoSchedule"})).unwrap();
        let toleration: Toleration = serde_json::from_value(toleration).unwrap();
        assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}");
        let left = untolerated(std::slice::from_ref(&taint), &[toleration], &["NoSchedule"]).count();
        assert_eq!(left == 0, expected);
    }

    #[test]
    fn a_toleration_covers_what_upstream_says() {
        check_toleration(json!({"operator": "Exists"}), true);
        check_toleration(json!({"key": "a", "operator": "Exists"}), true);
        check_toleration(json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), false);
        check_toleration(json!({"key": "a", "value": "5"}), true);
        check_toleration(json!({"key": "a", "value": "6"}), false);
        check_toleration(json!({"key": "b", "operator": "Exists"}), false);
        check_toleration(json!({"key": "a", "operator": "Lt", "value": "6"}), true);
        check_toleration(json!({}), false);
    }

    #[test]
    fn a_port_without_address_clashes_with_each() {
        let port = |address: &str, protocol: &str| (address.to_owned(), protocol.to_owned(), 80);
        assert!(clash(&port("", "TCP"), &port("10.0.0.1", "TCP")));
        assert!(!clash(&port("10.0.0.2", "TCP"), &port("10.0.0.1", "TCP")));
        assert!(!clash(&port("", "UDP"), &port("", "TCP")));
    }
}
