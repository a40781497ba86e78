//! What valid Nodes, Namespaces, Leases, Events, rights and priorities are.

use super::names;
use super::place::{Errors, Place};
use crate::error::FieldError;
use crate::kinds::Kind;
use std::collections::BTreeSet;

pub(super) fn create(kind: &Kind, object: &Place<'_>, errors: &mut Errors) {
    match (kind.group, kind.kind) {
        ("", "Node") => node(object, errors),
        ("", "Namespace") => {
            for finalizer in object.at("spec").at("finalizers").items() {
                finalizer.must_have_form(names::qualified_name_errors, errors);
            }
        }
        ("coordination.k8s.io", "Lease") => lease(object, errors),
        ("", "Event") => event(object, &object.at("involvedObject"), errors),
        ("events.k8s.io", "Event") => event(object, &object.at("regarding"), errors),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => rules(object, errors),
        ("rbac.authorization.k8s.io", _) => binding(object, errors),
        ("scheduling.k8s.io", _) => priority(object, errors),
        ("networking.k8s.io", "IngressClass") => {
            object
                .at("spec")
                .at("controller")
                .must_be_named(names::qualified_name_errors, errors);
        }
        ("storage.k8s.io", "VolumeAttachment") => attachment(object, errors),
        _ => {}
    }
}

pub(super) fn update(kind: &Kind, new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    create(kind, new, errors);
    match (kind.group, kind.kind) {
        ("rbac.authorization.k8s.io", _) if new.at("roleRef").value != old.at("roleRef").value => {
            errors.push(new.at("roleRef").invalid("cannot change roleRef"));
        }
        ("scheduling.k8s.io", _) => {
            if new.at("value").number() != old.at("value").number() {
                errors.push(new.at("value").forbidden("may not be changed in an update."));
            }
            new.at("preemptionPolicy")
                .must_not_change(&old.at("preemptionPolicy"), errors);
        }
        ("networking.k8s.io", "IngressClass") => {
            new.at("spec")
                .at("controller")
                .must_not_change(&old.at("spec").at("controller"), errors);
        }
        ("storage.k8s.io", "VolumeAttachment") => new.at("spec").must_not_change(&old.at("spec"), errors),
        ("", "Node") => node_update(new, old, errors),
        _ => {}
    }
}

fn node(node: &Place<'_>, errors: &mut Errors) {
    let spec = node.at("spec");
    let mut seen = BTreeSet::new();
    for taint in spec.at("taints").items() {
        let (key, effect) = (taint.at("key"), taint.at("effect"));
        key.must_have_form(names::qualified_name_errors, errors);
        if !taint.at("value").text().is_empty() {
            taint.at("value").must_have_form(names::label_value_errors, errors);
        }
        effect.must_be_given_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        if !seen.insert((key.text(), effect.text())) {
            errors.push(FieldError::duplicate(&taint.path, taint.value.clone()));
        }
    }
    for range in spec.at("podCIDRs").items() {
        if range.text().parse::<ipnet::IpNet>().is_err() {
            errors.push(range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
        }
    }
    for list in ["capacity", "allocatable"] {
        for (_, amount) in node.at("status").at(list).entries() {
            amount.must_not_be_negative_amount(errors);
        }
    }
}

/// A node's pod range and provider are given once.
fn node_update(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    for (field, why) in [
        (
            "podCIDRs",
            "node updates may not change podCIDR except from \"\" to valid",
        ),
        (
            "providerID",
            "node updates may not change providerID except from \"\" to valid",
        ),
    ] {
        let before = old.at("spec").at(field);
        if before.is_set() && before.value != "" && before.value != new.at("spec").at(field).value {
            errors.push(FieldError::forbidden(new.at("spec").at(field).path, why));
        }
    }
}

fn lease(lease: &Place<'_>, errors: &mut Errors) {
    let spec = lease.at("spec");
    let duration = spec.at("leaseDurationSeconds");
    if duration.number().is_some_and(|duration_s| duration_s <= 0) {
        errors.push(duration.invalid("must be greater than 0"));
    }
    spec.at("leaseTransitions").must_not_be_negative(errors);
}

/// An event lives where the object it is about does; one about a cluster's object lives in `default`.
fn event(event: &Place<'_>, about: &Place<'_>, errors: &mut Errors) {
    let own = event.at("metadata").at("namespace").text();
    let namespace = about.at("namespace");
    let fits = if namespace.text().is_empty() {
        matches!(own, "" | "default" | "kube-system")
    } else {
        namespace.text() == own
    };
    if !fits {
        errors.push(FieldError::invalid(
            &namespace.path,
            namespace.text(),
            "does not match event.namespace",
        ));
    }
}

fn rules(role: &Place<'_>, errors: &mut Errors) {
    for rule in role.at("rules").items() {
        if rule.at("verbs").len() == 0 {
            errors.push(rule.at("verbs").required("verbs must contain at least one value"));
        }
        if rule.at("nonResourceURLs").len() > 0 {
            if role.at("metadata").at("namespace").is_set() {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.push(rule.at("nonResourceURLs").invalid(why));
            }
            continue;
        }
        if rule.at("apiGroups").len() == 0 {
            errors.push(
                rule.at("apiGroups")
                    .required("resource rules must supply at least one api group"),
            );
        }
        if rule.at("resources").len() == 0 {
            errors.push(
                rule.at("resources")
                    .required("resource rules must supply at least one resource"),
            );
        }
    }
}

fn binding(binding: &Place<'_>, errors: &mut Errors) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let role = binding.at("roleRef");
    if role.at("apiGroup").text() != GROUP {
        errors.push(role.at("apiGroup").not_supported(&[GROUP]));
    }
    role.at("kind").must_be_one_of(&["ClusterRole", "Role"], errors);
    if role.at("name").text().is_empty() {
        errors.push(role.at("name").required(""));
    }
    for subject in binding.at("subjects").items() {
        if subject.at("name").text().is_empty() {
            errors.push(subject.at("name").required(""));
        }
        subject
            .at("kind")
            .must_be_one_of(&["Group", "ServiceAccount", "User"], errors);
        let is_account = subject.at("kind").text() == "ServiceAccount";
        if is_account && subject.at("namespace").text().is_empty() && !binding.at("metadata").at("namespace").is_set() {
            errors.push(subject.at("namespace").required(""));
        }
    }
}

fn priority(class: &Place<'_>, errors: &mut Errors) {
    const USER_PRIORITY_MAX: i64 = 1_000_000_000;
    let name = class.at("metadata").at("name");
    let is_system = matches!(name.text(), "system-node-critical" | "system-cluster-critical");
    if is_system {
        return;
    }
    if name.text().starts_with("system-") {
        let why = "priority class names with 'system-' prefix are reserved for system use only";
        errors.push(FieldError::forbidden("metadata.name", why));
    }
    if class.at("value").number().unwrap_or(0) > USER_PRIORITY_MAX {
        let why = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
        errors.push(class.at("value").forbidden(why));
    }
    class
        .at("preemptionPolicy")
        .must_be_one_of(&["Never", "PreemptLowerPriority"], errors);
}

fn attachment(attachment: &Place<'_>, errors: &mut Errors) {
    let spec = attachment.at("spec");
    for field in ["attacher", "nodeName"] {
        if spec.at(field).text().is_empty() {
            errors.push(spec.at(field).required(""));
        }
    }
    let source = spec.at("source");
    if source.at("persistentVolumeName").is_set() == source.at("inlineVolumeSpec").is_set() {
        errors.push(source.required("must specify exactly one of inlineVolumeSpec and persistentVolumeName"));
    }
}
