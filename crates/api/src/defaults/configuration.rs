//! Defaults of autoscalers, admission, aggregation, flow control and device requests.

use super::{items, set_absent, set_zero};
use serde_json::{Value, json};

/// How much of its request of CPU a pod uses on average when an autoscaler that names no metric is content.
const CPU_PERCENT: u8 = 80;

pub(super) fn apply(name: &str, value: &mut Value) {
    match name {
        "admissionregistration.v1.MutatingWebhook" => {
            webhook(value);
            set_zero(value, "reinvocationPolicy", "Never");
        }
        "admissionregistration.v1.ValidatingWebhook" => webhook(value),
        "admissionregistration.v1.RuleWithOperations" | "admissionregistration.v1.NamedRuleWithOperations" => {
            set_zero(value, "scope", "*");
        }
        "admissionregistration.v1.ServiceReference"
        | "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.ServiceReference" => set_absent(value, "port", 443),
        "admissionregistration.v1.ValidatingAdmissionPolicySpec"
        | "admissionregistration.v1.MutatingAdmissionPolicySpec" => set_zero(value, "failurePolicy", "Fail"),
        "admissionregistration.v1.MatchResources" => matching(value),
        "autoscaling.v1.HorizontalPodAutoscalerSpec" => set_absent(value, "minReplicas", 1),
        "autoscaling.v1.HorizontalPodAutoscaler" => {
            let metrics = "autoscaling.alpha.kubernetes.io/metrics";
            if value["metadata"]["annotations"][metrics].is_null() {
                set_absent(&mut value["spec"], "targetCPUUtilizationPercentage", CPU_PERCENT);
            }
        }
        "autoscaling.v2.HorizontalPodAutoscalerSpec" => autoscaler(value),
        "flowcontrol.v1.FlowSchemaSpec" => set_zero(value, "matchingPrecedence", 1000),
        "flowcontrol.v1.ExemptPriorityLevelConfiguration" => {
            set_absent(value, "nominalConcurrencyShares", 0);
            set_absent(value, "lendablePercent", 0);
        }
        "flowcontrol.v1.LimitedPriorityLevelConfiguration" => {
            set_absent(value, "nominalConcurrencyShares", 30);
            set_absent(value, "lendablePercent", 0);
        }
        "flowcontrol.v1.QueuingConfiguration" => {
            set_zero(value, "queues", 64);
            set_zero(value, "handSize", 8);
            set_zero(value, "queueLengthLimit", 50);
        }
        "resource.v1.ExactDeviceRequest" | "resource.v1.DeviceSubRequest" => {
            set_zero(value, "allocationMode", "ExactCount");
            if value["allocationMode"] == "ExactCount" {
                set_zero(value, "count", 1);
            }
        }
        "resource.v1.DeviceToleration" => set_zero(value, "operator", "Equal"),
        _ => {}
    }
}

fn webhook(hook: &mut Value) {
    set_absent(hook, "failurePolicy", "Fail");
    set_absent(hook, "timeoutSeconds", 10);
    matching(hook);
}

fn matching(value: &mut Value) {
    set_absent(value, "matchPolicy", "Equivalent");
    set_absent(value, "namespaceSelector", json!({}));
    set_absent(value, "objectSelector", json!({}));
}

fn autoscaler(spec: &mut Value) {
    set_absent(spec, "minReplicas", 1);
    if items(spec, "metrics").next().is_none() {
        spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": CPU_PERCENT}}}]);
    }
    if !spec["behavior"].is_object() {
        return;
    }
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (rules, policies) in [("scaleUp", vec![pods, percent.clone()]), ("scaleDown", vec![percent])] {
        let behavior = &mut spec["behavior"];
        set_absent(behavior, rules, json!({}));
        set_absent(&mut behavior[rules], "selectPolicy", "Max");
        set_absent(&mut behavior[rules], "policies", policies);
    }
    set_absent(&mut spec["behavior"]["scaleUp"], "stabilizationWindowSeconds", 0);
}
