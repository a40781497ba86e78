//! What valid ResourceClaims, their templates, DeviceClasses and ResourceSlices are.

use super::names;
use super::place::{Errors, Place};
use crate::error::FieldError;
use crate::kinds::Kind;
use std::collections::BTreeSet;

const REQUESTS_MAX: usize = 32;
const DEVICES_MAX: usize = 128;

pub(super) fn create(kind: &Kind, object: &Place<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    match kind.kind {
        "ResourceClaim" => claim(&spec, errors),
        "ResourceClaimTemplate" => claim(&spec.at("spec"), errors),
        "DeviceClass" => {
            selectors(&spec.at("selectors"), errors);
            for config in spec.at("config").items() {
                configuration(&config, errors);
            }
        }
        "ResourceSlice" => slice(&spec, errors),
        _ => {}
    }
}

pub(super) fn update(kind: &Kind, new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    match kind.kind {
        "ResourceClaim" | "ResourceClaimTemplate" => spec.must_not_change(&old_spec, errors),
        "ResourceSlice" => {
            for field in ["driver", "nodeName"] {
                spec.at(field).must_not_change(&old_spec.at(field), errors);
            }
            let (pool, old_pool) = (spec.at("pool").at("name"), old_spec.at("pool").at("name"));
            pool.must_not_change(&old_pool, errors);
        }
        _ => {}
    }
    create(kind, new, errors);
}

/// What may not change once a claim is allocated.
pub(super) fn status_update(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (allocation, before) = (new.at("status").at("allocation"), old.at("status").at("allocation"));
    if allocation.is_set() && before.is_set() {
        allocation.must_not_change(&before, errors);
    }
    let users = new.at("status").at("reservedFor");
    if users.len() > 0 && !allocation.is_set() {
        errors.push(users.forbidden("may not be specified when `allocated` is not set"));
    }
    let mut seen = BTreeSet::new();
    for user in users.items() {
        for field in ["resource", "name", "uid"] {
            if user.at(field).text().is_empty() {
                errors.push(user.at(field).required(""));
            }
        }
        if !seen.insert(user.at("uid").text()) {
            errors.push(FieldError::duplicate(user.at("uid").path, user.at("uid").text()));
        }
    }
}

fn claim(spec: &Place<'_>, errors: &mut Errors) {
    let requests = spec.at("devices").at("requests");
    if requests.len() > REQUESTS_MAX {
        errors.push(FieldError::too_many(&requests.path, requests.len(), REQUESTS_MAX));
    }
    let mut known = BTreeSet::new();
    for request in requests.items() {
        let name = request.at("name");
        name.must_be_named(names::label_errors, errors);
        if !known.insert(name.text()) {
            errors.push(name.duplicate());
        }
        let (exactly, first) = (request.at("exactly"), request.at("firstAvailable"));
        match (exactly.is_set(), first.len() > 0) {
            (false, false) => {
                errors.push(request.required("exactly one of `exactly` or `firstAvailable` is required"));
            }
            (true, true) => {
                errors.push(
                    request.invalid(
                        "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
                    ),
                );
            }
            (true, false) => wanted(&exactly, errors),
            (false, true) => {
                for (part, index) in first.items().zip(0..) {
                    part.at("name").must_be_named(names::label_errors, errors);
                    if index < 8 {
                        wanted(&part, errors);
                    }
                }
            }
        }
    }
    for field in ["constraints", "config"] {
        for user in spec.at("devices").at(field).items() {
            for request in user.at("requests").items() {
                let name = request.text().split('/').next().unwrap_or_default();
                if !known.contains(name) {
                    let words = "must be the name of a request in the claim or the name of a request and a \
                                 subrequest separated by '/'";
                    errors.push(request.invalid(words));
                }
            }
            if field == "config" {
                configuration(&user, errors);
            }
        }
    }
}

fn wanted(request: &Place<'_>, errors: &mut Errors) {
    request
        .at("deviceClassName")
        .must_be_named(names::subdomain_errors, errors);
    selectors(&request.at("selectors"), errors);
    let count = request.at("count");
    match request.at("allocationMode").text() {
        "ExactCount" if count.number().unwrap_or(0) <= 0 => {
            errors.push(count.invalid("must be greater than zero"));
        }
        "All" if count.number().unwrap_or(0) != 0 => {
            let words = "must not be specified when allocationMode is 'All'";
            errors.push(count.invalid(words));
        }
        "ExactCount" | "All" => {}
        _ => errors.push(request.at("allocationMode").not_supported(&["All", "ExactCount"])),
    }
    for toleration in request.at("tolerations").items() {
        toleration.at("operator").must_be_one_of(&["Equal", "Exists"], errors);
        toleration
            .at("effect")
            .must_be_one_of(&["", "NoExecute", "NoSchedule"], errors);
    }
}

fn selectors(selectors: &Place<'_>, errors: &mut Errors) {
    if selectors.len() > 32 {
        errors.push(FieldError::too_many(&selectors.path, selectors.len(), 32));
    }
    for selector in selectors.items() {
        if !selector.at("cel").is_set() {
            errors.push(selector.at("cel").required(""));
        } else if selector.at("cel").at("expression").text().trim().is_empty() {
            errors.push(selector.at("cel").at("expression").required(""));
        }
    }
}

fn configuration(config: &Place<'_>, errors: &mut Errors) {
    let opaque = config.at("opaque");
    if !opaque.is_set() {
        errors.push(opaque.required("exactly one field must be set"));
        return;
    }
    opaque.at("driver").must_be_named(names::subdomain_errors, errors);
    if !opaque.at("parameters").value.is_object() {
        errors.push(opaque.at("parameters").required(""));
    }
}

fn slice(spec: &Place<'_>, errors: &mut Errors) {
    spec.at("driver")
        .must_be_named(|text| names::subdomain_errors(&text.to_lowercase()), errors);
    let pool = spec.at("pool");
    let name = pool.at("name");
    if name.text().is_empty() {
        errors.push(name.required(""));
    }
    for part in name.text().split('/').filter(|_| !name.text().is_empty()) {
        for why in names::subdomain_errors(part) {
            errors.push(name.invalid(why));
        }
    }
    pool.at("generation").must_not_be_negative(errors);
    if pool.at("resourceSliceCount").number().unwrap_or(0) <= 0 {
        errors.push(pool.at("resourceSliceCount").invalid("must be greater than zero"));
    }
    let given = [
        !spec.at("nodeName").text().is_empty(),
        spec.at("nodeSelector").is_set(),
        spec.at("allNodes").is_true(),
        spec.at("perDeviceNodeSelection").is_true(),
    ];
    if spec.at("sharedCounters").len() == 0 || spec.at("devices").len() > 0 {
        let words = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        match given.iter().filter(|given| **given).count() {
            0 => errors.push(spec.required(words)),
            1 => {}
            _ => errors.push(FieldError::invalid(
                &spec.path,
                "",
                format!("{words}, but multiple fields are set"),
            )),
        }
    }
    let devices = spec.at("devices");
    if devices.len() > DEVICES_MAX {
        errors.push(FieldError::too_many(&devices.path, devices.len(), DEVICES_MAX));
    }
    let mut seen = BTreeSet::new();
    for device in devices.items() {
        let name = device.at("name");
        name.must_be_named(names::label_errors, errors);
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(&device.path, name.text()));
        }
    }
}
