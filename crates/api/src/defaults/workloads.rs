//! Defaults of what makes pods: StatefulSets (contract A2), Deployments, Jobs and the rest.

use super::{items, set_absent, set_zero};
use serde_json::{Value, json};

pub(super) fn apply(name: &str, value: &mut Value) {
    match name {
        "apps.v1.StatefulSetSpec" => statefulset(value),
        "apps.v1.DeploymentSpec" => deployment(value),
        "apps.v1.DaemonSetSpec" => daemonset(value),
        "apps.v1.ReplicaSetSpec" => set_absent(value, "replicas", 1),
        "core.v1.ReplicationController" => replication_controller(value),
        "batch.v1.Job" => job(value),
        "batch.v1.CronJobSpec" => {
            set_zero(value, "concurrencyPolicy", "Allow");
            set_absent(value, "suspend", false);
            set_absent(value, "successfulJobsHistoryLimit", 3);
            set_absent(value, "failedJobsHistoryLimit", 1);
        }
        "scheduling.v1.PriorityClass" => set_absent(value, "preemptionPolicy", "PreemptLowerPriority"),
        _ => {}
    }
}

fn statefulset(spec: &mut Value) {
    set_zero(spec, "podManagementPolicy", "OrderedReady");
    set_absent(spec, "updateStrategy", json!({}));
    let strategy = &mut spec["updateStrategy"];
    // An explicit type without parameters keeps them absent: a rule of its own decides the revisions then (A6.6).
    if strategy["type"].as_str().unwrap_or_default().is_empty() {
        strategy["type"] = json!("RollingUpdate");
        set_absent(strategy, "rollingUpdate", json!({}));
    }
    if strategy["rollingUpdate"].is_object() {
        set_absent(&mut strategy["rollingUpdate"], "partition", 0);
    }
    set_absent(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
    for moment in ["whenDeleted", "whenScaled"] {
        set_zero(&mut spec["persistentVolumeClaimRetentionPolicy"], moment, "Retain");
    }
    set_absent(spec, "replicas", 1);
    set_absent(spec, "revisionHistoryLimit", 10);
    for template in items(spec, "volumeClaimTemplates") {
        template["apiVersion"] = json!("v1");
        template["kind"] = json!("PersistentVolumeClaim");
    }
    if let Value::Object(fields) = &mut spec["updateStrategy"] {
        fields.retain(|_, value| !value.is_null());
    }
}

fn deployment(spec: &mut Value) {
    set_absent(spec, "replicas", 1);
    set_absent(spec, "strategy", json!({}));
    let strategy = &mut spec["strategy"];
    set_zero(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        set_absent(strategy, "rollingUpdate", json!({}));
        set_absent(&mut strategy["rollingUpdate"], "maxUnavailable", "25%");
        set_absent(&mut strategy["rollingUpdate"], "maxSurge", "25%");
    }
    set_absent(spec, "revisionHistoryLimit", 10);
    set_absent(spec, "progressDeadlineSeconds", 600);
}

fn daemonset(spec: &mut Value) {
    set_absent(spec, "updateStrategy", json!({}));
    let strategy = &mut spec["updateStrategy"];
    set_zero(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        set_absent(strategy, "rollingUpdate", json!({}));
        set_absent(&mut strategy["rollingUpdate"], "maxUnavailable", 1);
        set_absent(&mut strategy["rollingUpdate"], "maxSurge", 0);
    }
    set_absent(spec, "revisionHistoryLimit", 10);
}

fn replication_controller(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        set_absent(&mut object["spec"], "selector", labels.clone());
        set_absent(&mut object["metadata"], "labels", labels);
    }
    if object["spec"].is_object() {
        set_absent(&mut object["spec"], "replicas", 1);
    }
}

fn job(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        set_absent(&mut job["metadata"], "labels", labels);
    }
    let spec = &mut job["spec"];
    if !spec.is_object() {
        return;
    }
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        spec["completions"] = json!(1);
    }
    set_absent(spec, "parallelism", 1);
    let retries = if spec["backoffLimitPerIndex"].is_null() {
        6
    } else {
        i32::MAX
    };
    set_absent(spec, "backoffLimit", retries);
    set_absent(spec, "completionMode", "NonIndexed");
    set_absent(spec, "suspend", false);
    let replacement = if spec["podFailurePolicy"].is_null() {
        "TerminatingOrFailed"
    } else {
        "Failed"
    };
    set_absent(spec, "podReplacementPolicy", replacement);
    if let Value::Object(fields) = spec {
        fields.retain(|_, value| !value.is_null());
    }
}
