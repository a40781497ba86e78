//! What the server adds to a pod before it is stored: its priority, its patience with lost nodes, its quality class.

use crate::quantity::{self, Quantity};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long a pod stays on a node that is lost, unless it says otherwise.
const LOST_NODE_PATIENCE_S: i64 = 300;

/// Fills in what upstream's admission plug-ins fill in (priority, default tolerations, service account's name).
pub(super) fn admit(pod: &mut Value) {
    if !pod["spec"].is_object() {
        return;
    }
    let spec = &mut pod["spec"];
    if spec["priority"].is_null() {
        spec["priority"] = json!(match spec["priorityClassName"].as_str() {
            Some("system-node-critical") => 2_000_001_000,
            Some("system-cluster-critical") => 2_000_000_000,
            _ => 0,
        });
    }
    if spec["preemptionPolicy"].is_null() {
        spec["preemptionPolicy"] = json!("PreemptLowerPriority");
    }
    // A pod that mirrors a manifest of its node has no account.
    let is_mirror = pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string();
    let spec = &mut pod["spec"];
    if !is_mirror && spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        spec["serviceAccountName"] = json!("default");
        spec["serviceAccount"] = json!("default");
    }
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        tolerate(spec, key);
    }
}

fn tolerate(spec: &mut Value, key: &str) {
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let Some(tolerations) = spec["tolerations"].as_array_mut() else {
        return;
    };
    let is_tolerated = tolerations.iter().any(|toleration| {
        let covers = |field: &str, value: &str| {
            let given = toleration[field].as_str().unwrap_or_default();
            given.is_empty() || given == value
        };
        covers("key", key) && covers("effect", "NoExecute")
    });
    if !is_tolerated {
        tolerations.push(json!({
            "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LOST_NODE_PATIENCE_S,
        }));
    }
}

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

    #[test]
    fn a_pod_tolerates_lost_nodes_for_a_while_unless_it_says_how_long() {
        let mut plain = json!({"spec": {}});
        admit(&mut plain);
        let added = plain["spec"]["tolerations"].as_array().unwrap();
        assert_eq!(added.len(), 2);
        assert_eq!(added[0]["tolerationSeconds"], 300);
        let once = plain.clone();
        admit(&mut plain);
        assert_eq!(plain, once, "admission is idempotent");
        let mut own = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        admit(&mut own);
        assert_eq!(own["spec"]["tolerations"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_pod_gets_priority_and_account() {
        let mut plain = json!({"spec": {}});
        admit(&mut plain);
        assert_eq!(plain["spec"]["priority"], 0);
        assert_eq!(plain["spec"]["preemptionPolicy"], "PreemptLowerPriority");
        assert_eq!(plain["spec"]["serviceAccountName"], "default");
        let mut critical = json!({"spec": {"priorityClassName": "system-node-critical"}});
        admit(&mut critical);
        assert_eq!(critical["spec"]["priority"], 2_000_001_000);
    }
}
