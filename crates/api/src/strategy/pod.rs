//! What the server says of a pod: its quality class.

use crate::quantity::{self, Quantity};
use serde_json::Value;
use std::collections::BTreeMap;

/// The quality-of-service class of a pod (or of anything with its `spec`): `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let containers: Vec<&Value> = if spec["resources"].is_object() {
        vec![spec]
    } else {
        ["containers", "initContainers"]
            .iter()
            .flat_map(|list| spec[*list].as_array().into_iter().flatten())
            .collect()
    };
    let mut requests = BTreeMap::new();
    let mut limits = BTreeMap::new();
    let mut all_limited = true;
    for container in containers {
        add(&mut requests, &container["resources"]["requests"]);
        let limited = add(&mut limits, &container["resources"]["limits"]);
        all_limited &= limited == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if all_limited && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Adds the CPU and memory of a resource list to sums; says how many of the two it names.
fn add(sums: &mut BTreeMap<&'static str, Quantity>, list: &Value) -> usize {
    let mut named = 0;
    for resource in ["cpu", "memory"] {
        let amount = list[resource]
            .as_str()
            .and_then(|text| quantity::parse(text).ok())
            .unwrap_or_default();
        if amount > Quantity::default() {
            let sum = sums.entry(resource).or_default();
            *sum = *sum + amount;
            named += 1;
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: &[Value]) -> Value {
        let containers: Vec<Value> = resources.iter().map(|r| json!({"resources": r})).collect();
        json!({"spec": {"containers": containers}})
    }

    #[test]
    fn quality_classes() {
        let full = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1Gi"}});
        let part = json!({"requests": {"cpu": "1"}});
        let cases = [
            (vec![json!({})], "BestEffort"),
            (vec![json!({"requests": {"cpu": "0"}})], "BestEffort"),
            (vec![full.clone()], "Guaranteed"),
            (vec![full.clone(), full.clone()], "Guaranteed"),
            (vec![full.clone(), json!({})], "Burstable"),
            (vec![part.clone()], "Burstable"),
            (
                vec![json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})],
                "Burstable",
            ),
            (
                vec![json!({"limits": {"cpu": "2", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}})],
                "Burstable",
            ),
            (vec![json!({"requests": {"ephemeral-storage": "1Gi"}})], "BestEffort"),
        ];
        for (resources, expected) in cases {
            assert_eq!(qos_class(&pod(&resources)), expected, "{resources:?}");
        }
    }
}
