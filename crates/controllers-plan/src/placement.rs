//! Whether a pod may be on a node: node selectors, required node affinity, taints.

use api::fit::{self, NodeIdentity};
use api::k8s::api::core::v1::{Node, PodSpec, Taint, Toleration};
use std::collections::BTreeMap;

/// Whether a pod's node selector and required node affinity allow a node.
pub(crate) fn fits(spec: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let identity = NodeIdentity {
        name: node.metadata.name.as_deref().unwrap_or_default(),
        labels: node.metadata.labels.as_ref().unwrap_or(&none),
    };
    fit::is_selected(spec, identity)
}

/// The taints with one of these effects that no toleration covers.
pub(crate) fn untolerated<'a>(node: &'a Node, tolerations: &[Toleration], effects: &[&str]) -> Vec<&'a Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    fit::untolerated(taints.unwrap_or_default(), tolerations, effects).collect()
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
}
