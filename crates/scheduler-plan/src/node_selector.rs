//! Node selectors, as node affinity of pods and volumes and topologies of storage classes write them.

use crate::snapshot::NodeState;
use api::k8s::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

/// Whether a node is selected: one term must hold; a selector without terms selects nothing.
pub(crate) fn matches(selector: &NodeSelector, node: &NodeState) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// Whether all of a term holds; an empty term holds nowhere.
pub(crate) fn term_matches(term: &NodeSelectorTerm, node: &NodeState) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |key: &str| (key == "metadata.name").then_some(node.name.as_str());
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

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::Node;
    use serde_json::{Value, json};

    fn check(terms: Value, expected: bool) {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"disk": "ssd", "cores": "8"}}}))
                .unwrap();
        let selector: NodeSelector = serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap();
        assert_eq!(matches(&selector, &NodeState::of(&node)), expected, "{selector:?}");
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
}
