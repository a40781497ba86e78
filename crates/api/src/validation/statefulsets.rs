//! What valid StatefulSets are (contract A3).

use super::place::{Errors, Place, percent};
use super::{claims, names, pods, selectors};
use crate::error::FieldError;
use crate::strategy::semantically_equal;
use serde_json::{Value, json};

const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

const FORBIDDEN_UPDATE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
     'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
     forbidden";

pub(super) fn create(set: &Place<'_>, errors: &mut Errors) {
    let spec = set.at("spec");
    parameters(&spec, errors);
    let service = spec.at("serviceName");
    if !service.text().is_empty() {
        service.must_have_form(names::label_errors, errors);
    }
    template(&spec, errors);
    for claim in spec.at("volumeClaimTemplates").items() {
        claim
            .at("metadata")
            .at("name")
            .must_be_named(names::label_errors, errors);
        claims::spec(&claim.at("spec"), errors);
    }
}

pub(super) fn update(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    parameters(&spec, errors);
    // What is wrong with the stored template already must not keep people from changing anything else.
    let mut old_errors = Errors::new();
    template(&old_spec, &mut old_errors);
    if old_errors.is_empty() {
        template(&spec, errors);
    }
    if !same_but_mutable(spec.value, old_spec.value) {
        errors.push(spec.forbidden(FORBIDDEN_UPDATE));
    }
}

fn same_but_mutable(new: &Value, old: &Value) -> bool {
    let rest = |spec: &Value| {
        let mut rest = spec.clone();
        if let Some(fields) = rest.as_object_mut() {
            fields.retain(|field, _| !MUTABLE.contains(&field.as_str()));
        }
        rest
    };
    semantically_equal(&rest(new), &rest(old))
}

/// Everything in the spec but the selector, the template and the claims.
fn parameters(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.at("podManagementPolicy");
    match policy.text() {
        "" => errors.push(policy.required("")),
        "OrderedReady" | "Parallel" => {}
        _ => errors.push(policy.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    update_strategy(&spec.at("updateStrategy"), errors);
    let retention = spec.at("persistentVolumeClaimRetentionPolicy");
    if retention.is_set() {
        for moment in ["whenDeleted", "whenScaled"] {
            let policy = retention.at(moment);
            if !matches!(policy.text(), "Retain" | "Delete") {
                let shown = json!(policy.text());
                errors.push(FieldError::not_supported(&policy.path, shown, &["Delete", "Retain"]));
            }
        }
    }
    spec.at("replicas").must_not_be_negative(errors);
    spec.at("minReadySeconds").must_not_be_negative(errors);
    spec.at("ordinals").at("start").must_not_be_negative(errors);
}

fn update_strategy(strategy: &Place<'_>, errors: &mut Errors) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "" => errors.push(strategy.required("")),
        // Whether `Recreate` may be said at all is a matter of its feature gate.
        "OnDelete" | "Recreate" => {
            if rolling.is_set() {
                errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
            }
        }
        "RollingUpdate" => {
            rolling.at("partition").must_not_be_negative(errors);
            max_unavailable(&rolling.at("maxUnavailable"), errors);
        }
        _ => errors.push(strategy.invalid("must be 'RollingUpdate' or 'OnDelete'")),
    }
}

fn max_unavailable(limit: &Place<'_>, errors: &mut Errors) {
    if !limit.is_set() {
        return;
    }
    limit.must_be_count_or_percent(errors);
    let percentage = percent(limit.value);
    if limit.number() == Some(0) || percentage == Some(0) {
        errors.push(limit.invalid("cannot be 0"));
    }
    if percentage.is_some_and(|percentage| percentage > 100) {
        errors.push(limit.invalid("must not be greater than 100%"));
    }
}

/// Selector and template. The controller sets hostname, subdomain and the claims' volumes, so what the template says
/// of the first two does not matter, and containers may mount the claims.
fn template(spec: &Place<'_>, errors: &mut Errors) {
    selectors::and_template(spec, "statefulset", errors);
    let template = spec.at("template");
    let claims: Vec<&str> = spec
        .at("volumeClaimTemplates")
        .items()
        .map(|claim| claim.at("metadata").at("name").text())
        .collect();
    let mut blanked = template.value.clone();
    if let Some(pod) = blanked.get_mut("spec").and_then(Value::as_object_mut) {
        pod.remove("hostname");
        pod.remove("subdomain");
    }
    pods::template(&Place::new(&blanked, &*template.path), &claims, errors);
    let pod = template.at("spec");
    pods::must_restart_always(&pod, errors);
    if pod.at("activeDeadlineSeconds").is_set() {
        errors.push(
            pod.at("activeDeadlineSeconds")
                .forbidden("activeDeadlineSeconds in StatefulSet is not Supported"),
        );
    }
}

pub(super) fn status_update(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (status, old_status) = (new.at("status"), old.at("status"));
    let count = |field: &str| status.at(field).number().unwrap_or(0);
    for field in [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ] {
        status.at(field).must_not_be_negative(errors);
    }
    for field in [
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ] {
        if count(field) > count("replicas") {
            errors.push(status.at(field).invalid("cannot be greater than status.replicas"));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        errors.push(
            status
                .at("availableReplicas")
                .invalid("cannot be greater than status.readyReplicas"),
        );
    }
    let collisions = status.at("collisionCount").number();
    if old_status.at("collisionCount").number() > collisions {
        errors.push(FieldError::invalid(
            "status.collisionCount",
            collisions.unwrap_or(0),
            "cannot be decremented",
        ));
    }
}
