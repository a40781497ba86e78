//! What upstream's controllers register of the API server itself: an APIService for each group and version, the range
//! that Services get their addresses from, and the levels and flows of requests that no cluster is without.

use serde_json::{Value, json};

/// (group, its priority) as upstream ranks them.
const PRIORITIES: &[(&str, i32)] = &[
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("resource.k8s.io", 15900),
    ("metrics.k8s.io", 100),
];

/// The APIServices of the groups and versions that this server serves itself.
pub(crate) fn api_services() -> impl Iterator<Item = Value> {
    let served = crate::discovery::group_versions(&[]).into_iter();
    served.filter_map(|(group, version)| {
        let (_, priority) = PRIORITIES.iter().find(|(known, _)| *known == group)?;
        let version_priority = if version == "v2" { 30 } else { 15 };
        let mut spec =
            json!({"version": version, "groupPriorityMinimum": priority, "versionPriority": version_priority});
        if !group.is_empty() {
            spec["group"] = json!(group);
        }
        let labels = json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"});
        Some(json!({"metadata": {"name": format!("{version}.{group}"), "labels": labels}, "spec": spec}))
    })
}

/// The ServiceCIDR of the server's own ranges.
pub(crate) fn service_ranges(ranges: &[ipnet::IpNet]) -> Value {
    let cidrs: Vec<String> = ranges.iter().map(|range| range.trunc().to_string()).collect();
    json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}})
}

/// The status of that ServiceCIDR.
pub(crate) fn range_status(time: &str) -> Value {
    json!({"conditions": [{"type": "Ready", "status": "True", "reason": "",
        "message": "Kubernetes Service CIDR is ready", "lastTransitionTime": time}]})
}

/// That an object is the server's own, which keeps it as it should be.
fn own(name: &str) -> Value {
    json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}})
}

/// The PriorityLevelConfigurations that cannot be missing.
pub(crate) fn priority_levels() -> [Value; 2] {
    let exempt = json!({"nominalConcurrencyShares": 0, "lendablePercent": 0});
    let catch_all = json!({"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}});
    [
        json!({"metadata": own("exempt"), "spec": {"type": "Exempt", "exempt": exempt}}),
        json!({"metadata": own("catch-all"), "spec": {"type": "Limited", "limited": catch_all}}),
    ]
}

/// The FlowSchemas that cannot be missing.
pub(crate) fn flow_schemas() -> [Value; 2] {
    let schema = |name: &str, precedence: i32, groups: &[&str]| {
        let subjects: Vec<Value> = groups
            .iter()
            .map(|group| json!({"kind": "Group", "group": {"name": group}}))
            .collect();
        let resources = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true,
            "namespaces": ["*"]}]);
        let others = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
        json!({"metadata": own(name), "spec": {"priorityLevelConfiguration": {"name": name},
            "matchingPrecedence": precedence,
            "rules": [{"subjects": subjects, "resourceRules": resources, "nonResourceRules": others}]}})
    };
    let mut catch_all = schema("catch-all", 10_000, &["system:unauthenticated", "system:authenticated"]);
    catch_all["spec"]["distinguisherMethod"] = json!({"type": "ByUser"});
    [schema("exempt", 1, &["system:masters"]), catch_all]
}

/// The status of a FlowSchema whose level exists.
pub(crate) fn schema_status(schema: &Value, time: &str) -> Value {
    let level = schema["spec"]["priorityLevelConfiguration"]["name"]
        .as_str()
        .unwrap_or_default();
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists");
    json!({"conditions": [{"type": "Dangling", "status": "False", "reason": "Found", "message": message,
        "lastTransitionTime": time}]})
}
