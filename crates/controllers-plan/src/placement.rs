//! Whether a pod may be on a node: node selectors, required node affinity, taints.

use api::k8s::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};

/// Whether a pod's node selector and required node affinity allow a node.
pub(crate) fn fits(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let has_labels = spec
        .node_selector
        .iter()
        .all(|wanted| crate::selection::has_all(wanted, labels));
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    has_labels && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches(term, node)))
}

/// A term without any requirement matches no node.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then(|| node.metadata.name.as_deref().unwrap_or_default());
    let is_empty = labels.clone().next().is_none() && fields.clone().next().is_none();
    !is_empty
        && labels
            .into_iter()
            .all(|requirement| holds(requirement, label(&requirement.key)))
        && fields
            .into_iter()
            .all(|requirement| holds(requirement, field(&requirement.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_listed = value.is_some_and(|value| values.iter().any(|listed| listed == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = || Some((number(value?)?, number(values.first()?)?));
    match requirement.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(value, limit)| value > limit),
        "Lt" => compared().is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}

/// The taints with one of these effects that no toleration covers.
pub(crate) fn untolerated<'a>(node: &'a Node, tolerations: &[Toleration], effects: &[&str]) -> Vec<&'a Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
        .collect()
}

/// Whether a toleration covers a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let is_open = |text: Option<&str>| text.is_none_or(str::is_empty);
    let effect = toleration.effect.as_deref();
    let key = toleration.key.as_deref();
    if !is_open(effect) && effect != Some(&taint.effect) || !is_open(key) && key != Some(&taint.key) {
        return false;
    }
    let (value, wanted) = (
        toleration.value.as_deref().unwrap_or_default(),
        taint.value.as_deref().unwrap_or_default(),
    );
    let numbers = || Some((wanted.parse::<i64>().ok()?, value.parse::<i64>().ok()?));
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => !is_open(key) && value == wanted,
        "Exists" => true,
        "Gt" => numbers().is_some_and(|(wanted, limit)| wanted > limit),
        "Lt" => numbers().is_some_and(|(wanted, limit)| wanted < limit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node() -> Node {
        let labels = json!({"zone": "a", "cores": "8"});
        let taints = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"taints": taints}}))
            .unwrap()
    }

    #[test]
    fn selectors_and_affinity_must_allow_the_node() {
        let affinity = |terms: Value| {
            json!({"affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
            }}})
        };
        let expression = |key: &str, operator: &str, value: &str| {
            affinity(json!([{"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]}]))
        };
        let cases = [
            (json!({}), true),
            (json!({"nodeSelector": {"zone": "a"}}), true),
            (json!({"nodeSelector": {"zone": "b"}}), false),
            (affinity(json!([])), false),
            (affinity(json!([{}])), false),
            (
                affinity(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}])),
                true,
            ),
            (
                affinity(json!([{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}])),
                false,
            ),
            (expression("zone", "In", "a"), true),
            (expression("zone", "NotIn", "a"), false),
            (expression("cores", "Gt", "4"), true),
            (expression("cores", "Lt", "4"), false),
            (expression("zone", "Gt", "4"), false),
        ];
        for (spec, expected) in cases {
            let mut whole = json!({"containers": []});
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            assert_eq!(
                fits(&serde_json::from_value(whole).unwrap(), &node()),
                expected,
                "{spec}"
            );
        }
    }

    #[test]
    fn tolerations_cover_taints() {
        let cases = [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "gpu", "operator": "Exists"}), true),
            (json!({"key": "gpu", "value": "yes"}), true),
            (json!({"key": "gpu", "value": "no"}), false),
            (
                json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}),
                false,
            ),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({}), false),
        ];
        for (toleration, expected) in cases {
            let tolerations = [serde_json::from_value(toleration.clone()).unwrap()];
            let node = node();
            let left = untolerated(&node, &tolerations, &["NoSchedule", "NoExecute"]);
            assert_eq!(left.is_empty(), expected, "{toleration}");
        }
        assert!(untolerated(&node(), &[], &["NoExecute"]).is_empty());
    }
}
