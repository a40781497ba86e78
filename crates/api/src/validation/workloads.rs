//! What valid Deployments, ReplicaSets, DaemonSets, Jobs and disruption budgets are.

use super::place::{Errors, Place, percent};
use super::{jobs, metadata, pods, selectors};
use crate::error::FieldError;
use crate::kinds::Kind;
use crate::selector::LabelSelector;

pub(super) fn create(kind: &Kind, object: &Place<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    match kind.kind {
        "Deployment" => deployment(&spec, errors),
        "ReplicaSet" => replicas(&spec, "replicaset", errors),
        "DaemonSet" => daemonset(&spec, errors),
        "ReplicationController" => replication_controller(&spec, errors),
        "Job" => jobs::create(object, errors),
        "CronJob" => jobs::create_cron_job(object, errors),
        "PodDisruptionBudget" => budget(&spec, errors),
        "PodTemplate" => pods::template(&object.at("template"), &[], errors),
        _ => {}
    }
}

pub(super) fn update(kind: &Kind, new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    match kind.kind {
        "Job" => return jobs::update(new, old, errors),
        "CronJob" => return jobs::cron_job_spec(&spec, errors),
        _ => create(kind, new, errors),
    }
    let fixed: &[&str] = match kind.kind {
        "Deployment" | "ReplicaSet" | "DaemonSet" => &["selector"],
        _ => &[],
    };
    for field in fixed {
        spec.at(field).must_not_change(&old_spec.at(field), errors);
    }
}

fn replicas(spec: &Place<'_>, kind: &str, errors: &mut Errors) {
    spec.at("replicas").must_not_be_negative(errors);
    spec.at("minReadySeconds").must_not_be_negative(errors);
    selectors::and_template(spec, kind, errors);
    pods::template(&spec.at("template"), &[], errors);
    pods::must_restart_always(&spec.at("template").at("spec"), errors);
}

fn deployment(spec: &Place<'_>, errors: &mut Errors) {
    replicas(spec, "deployment", errors);
    let strategy = spec.at("strategy");
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "Recreate" if rolling.is_set() => {
            errors.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
        }
        "Recreate" => {}
        "RollingUpdate" => rolling_update(&rolling, errors),
        _ => errors.push(strategy.not_supported(&["Recreate", "RollingUpdate"])),
    }
    spec.at("revisionHistoryLimit").must_not_be_negative(errors);
    let deadline = spec.at("progressDeadlineSeconds");
    deadline.must_not_be_negative(errors);
    if deadline
        .number()
        .is_some_and(|deadline_s| deadline_s <= spec.at("minReadySeconds").number().unwrap_or(0))
    {
        errors.push(deadline.invalid("must be greater than minReadySeconds"));
    }
}

fn rolling_update(rolling: &Place<'_>, errors: &mut Errors) {
    let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
    unavailable.must_be_count_or_percent(errors);
    surge.must_be_count_or_percent(errors);
    let is_zero = |limit: &Place<'_>| limit.number() == Some(0) || percent(limit.value) == Some(0);
    if is_zero(&unavailable) && is_zero(&surge) {
        errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
    }
    if percent(unavailable.value).is_some_and(|percentage| percentage > 100) {
        errors.push(unavailable.invalid("must not be greater than 100%"));
    }
}

fn daemonset(spec: &Place<'_>, errors: &mut Errors) {
    replicas(spec, "daemonset", errors);
    let strategy = spec.at("updateStrategy");
    match strategy.at("type").text() {
        "OnDelete" => {}
        "RollingUpdate" => rolling_update(&strategy.at("rollingUpdate"), errors),
        _ => errors.push(FieldError::not_supported(
            strategy.at("type").path,
            strategy.at("type").text(),
            &["OnDelete", "RollingUpdate"],
        )),
    }
    spec.at("revisionHistoryLimit").must_not_be_negative(errors);
}

fn replication_controller(spec: &Place<'_>, errors: &mut Errors) {
    spec.at("replicas").must_not_be_negative(errors);
    spec.at("minReadySeconds").must_not_be_negative(errors);
    let selector = spec.at("selector");
    if selector.len() == 0 {
        errors.push(selector.required(""));
    }
    metadata::labels(&selector, errors);
    let labels = spec.at("template").at("metadata").at("labels");
    if !LabelSelector::from_map(selector.value).matches(labels.value) {
        errors.push(labels.invalid("`selector` does not match template `labels`"));
    }
    pods::template(&spec.at("template"), &[], errors);
    pods::must_restart_always(&spec.at("template").at("spec"), errors);
}

fn budget(spec: &Place<'_>, errors: &mut Errors) {
    let (available, unavailable) = (spec.at("minAvailable"), spec.at("maxUnavailable"));
    if available.is_set() && unavailable.is_set() {
        errors.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
    }
    for limit in [&available, &unavailable] {
        limit.must_be_count_or_percent(errors);
        if percent(limit.value).is_some_and(|percentage| percentage > 100) {
            errors.push(limit.invalid("must not be greater than 100%"));
        }
    }
    selectors::labels(&spec.at("selector"), errors);
    spec.at("unhealthyPodEvictionPolicy")
        .must_be_one_of(&["AlwaysAllow", "IfHealthyBudget"], errors);
}

pub(super) fn status_update(kind: &Kind, new: &Place<'_>, errors: &mut Errors) {
    let status = new.at("status");
    let counts: &[&str] = match kind.kind {
        "Deployment" => &[
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
        ],
        "ReplicaSet" | "ReplicationController" => {
            &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"]
        }
        "DaemonSet" => &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
        ],
        "PodDisruptionBudget" => &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"],
        "Job" => &["active", "succeeded", "failed"],
        _ => &[],
    };
    for field in counts.iter().chain(&["observedGeneration"]) {
        status.at(field).must_not_be_negative(errors);
    }
    if matches!(kind.kind, "ReplicaSet" | "ReplicationController") {
        let replicas = status.at("replicas").number().unwrap_or(0);
        for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
            if status.at(field).number().unwrap_or(0) > replicas {
                errors.push(status.at(field).invalid("cannot be greater than status.replicas"));
            }
        }
    }
}
