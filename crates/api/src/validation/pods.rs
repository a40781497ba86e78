//! What valid pods and pod templates are, and what may be changed in a pod.

use super::place::{Errors, Place};
use super::{metadata, pod_spec};
use crate::strategy::semantically_equal;
use serde_json::Value;

const FORBIDDEN_UPDATE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
     `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
     tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn create(pod: &Place<'_>, errors: &mut Errors) {
    let spec = pod.at("spec");
    pod_spec::validate(&spec, &[], errors);
    if spec.at("ephemeralContainers").len() > 0 {
        errors.push(spec.at("ephemeralContainers").forbidden("cannot be set on create"));
    }
}

/// A pod template; its containers may mount the volumes of these claims as well.
pub(super) fn template(template: &Place<'_>, claims: &[&str], errors: &mut Errors) {
    // Upstream's paths leave `metadata` out here.
    let labels = template.at("metadata").at("labels");
    metadata::labels(&Place::new(labels.value, format!("{}.labels", template.path)), errors);
    let annotations = template.at("metadata").at("annotations");
    metadata::annotations(
        &Place::new(annotations.value, format!("{}.annotations", template.path)),
        errors,
    );
    let spec = template.at("spec");
    pod_spec::validate(&spec, claims, errors);
    if spec.at("ephemeralContainers").len() > 0 {
        errors.push(
            spec.at("ephemeralContainers")
                .forbidden("ephemeral containers not allowed in pod template"),
        );
    }
}

/// What runs for ever has no other restart policy.
pub(super) fn must_restart_always(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.at("restartPolicy");
    if policy.text() != "Always" {
        errors.push(crate::error::FieldError::not_supported(
            &policy.path,
            policy.text(),
            &["Always"],
        ));
    }
}

pub(super) fn update(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    for (list, what) in [("containers", "containers"), ("initContainers", "init containers")] {
        if spec.at(list).len() != old_spec.at(list).len() {
            errors.push(
                spec.at(list)
                    .forbidden(format!("pod updates may not add or remove {what}")),
            );
            return;
        }
        for container in spec.at(list).items() {
            pod_spec::image(&container, errors);
        }
    }
    deadline(
        &spec.at("activeDeadlineSeconds"),
        &old_spec.at("activeDeadlineSeconds"),
        errors,
    );
    tolerations(&spec.at("tolerations"), &old_spec.at("tolerations"), errors);
    gates(&spec.at("schedulingGates"), &old_spec.at("schedulingGates"), errors);
    let grace = old_spec.at("terminationGracePeriodSeconds").number();
    let may_shorten =
        grace.is_some_and(|grace_s| grace_s < 0) && spec.at("terminationGracePeriodSeconds").number() == Some(1);
    if !semantically_equal(
        &fixed_part(spec.value, may_shorten),
        &fixed_part(old_spec.value, may_shorten),
    ) {
        errors.push(spec.forbidden(FORBIDDEN_UPDATE));
    }
}

/// The spec without what may change.
fn fixed_part(spec: &Value, without_grace: bool) -> Value {
    let mut rest = spec.clone();
    let Some(fields) = rest.as_object_mut() else {
        return rest;
    };
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        fields.remove(field);
    }
    if without_grace {
        fields.remove("terminationGracePeriodSeconds");
    }
    for list in ["containers", "initContainers"] {
        for container in fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.remove("image");
            }
        }
    }
    rest
}

/// A deadline may be set once and then only come nearer.
fn deadline(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    match (new.number(), old.number()) {
        (Some(new_s), _) if !(1..=i64::from(i32::MAX)).contains(&new_s) => {
            errors.push(new.invalid(format!("must be between 1 and {}, inclusive", i32::MAX)));
        }
        (Some(new_s), Some(old_s)) if new_s > old_s => {
            errors.push(new.invalid("must be less than or equal to previous value"));
        }
        (None, Some(_)) => errors.push(new.invalid("must not update from a positive integer to nil value")),
        _ => {}
    }
}

/// Tolerations may be added, and the patience of one may be changed.
fn tolerations(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let without_patience = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(fields) = toleration.as_object_mut() {
            fields.remove("tolerationSeconds");
        }
        toleration
    };
    let kept: Vec<Value> = new
        .items()
        .map(|toleration| without_patience(toleration.value))
        .collect();
    let lost = old
        .items()
        .any(|toleration| !kept.contains(&without_patience(toleration.value)));
    if lost {
        errors.push(new.forbidden("existing toleration can not be modified except its tolerationSeconds"));
    }
    for toleration in new.items() {
        pod_spec::toleration(&toleration, errors);
    }
}

fn gates(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    for gate in new.items() {
        if !old.items().any(|known| known.value == gate.value) {
            let why = "only deletion is allowed, but found new scheduling gate";
            errors.push(new.forbidden(format!("{why} '{}'", gate.at("name").text())));
        }
    }
}

pub(super) fn status_update(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (status, old_status) = (new.at("status"), old.at("status"));
    for ip in status.at("podIPs").items() {
        ip.at("ip").must_be_ip(errors);
    }
    let old_class = old_status.at("qosClass");
    if old_class.is_set() {
        status.at("qosClass").must_not_change(&old_class, errors);
    }
    let policy = new.at("spec").at("restartPolicy");
    if policy.text() != "Always" {
        ended_containers_stay_ended(&status, &old_status, policy.text(), errors);
    }
}

/// A container that nobody may restart does not come back to life.
fn ended_containers_stay_ended(status: &Place<'_>, old: &Place<'_>, policy: &str, errors: &mut Errors) {
    for container in status.at("containerStatuses").items() {
        let name = container.at("name");
        let old = old.at("containerStatuses");
        let Some(before) = old.items().find(|c| c.at("name").text() == name.text()) else {
            continue;
        };
        let ended = before.at("state").at("terminated");
        let may_restart = policy == "OnFailure" && ended.at("exitCode").number() != Some(0);
        if ended.is_set() && !may_restart && !container.at("state").at("terminated").is_set() {
            errors.push(
                container
                    .at("state")
                    .forbidden("may not be transitioned to non-terminated state"),
            );
        }
    }
}
