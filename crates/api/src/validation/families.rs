//! What addresses and address families of a Service go together, and how they may change.

use super::place::{Errors, Place};
use crate::error::FieldError;
use std::net::IpAddr;

/// As many as there are families.
const IPS_MAX: usize = 2;

const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

/// What must hold whichever families the cluster has.
pub(super) fn check(service: &Place<'_>, errors: &mut Errors) {
    let spec = service.at("spec");
    if spec.at("type").text() == "ExternalName" {
        return;
    }
    let (one, many) = (spec.at("clusterIP"), spec.at("clusterIPs"));
    match many.items().next() {
        None if !one.text().is_empty() => errors.push(many.required("")),
        Some(_) if one.text().is_empty() => {
            errors.push(many.invalid("must be empty when `clusterIP` is not specified"));
        }
        Some(first) if first.text() != one.text() => {
            errors.push(many.invalid("first value must match `clusterIP`"));
        }
        _ => {}
    }
    let mut seen = Vec::new();
    for family in spec.at("ipFamilies").items() {
        family.must_be_given_of(&["IPv4", "IPv6"], errors);
        if seen.contains(&family.text()) {
            errors.push(family.duplicate());
        }
        seen.push(family.text());
    }
    spec.at("ipFamilyPolicy").must_be_one_of(&POLICIES, errors);
    if are_addresses(&many, errors) {
        one_of_each(&spec, errors);
    }
}

/// Whether each is an address, or `None` stands alone: else there is no more to be said of them.
fn are_addresses(many: &Place<'_>, errors: &mut Errors) -> bool {
    let before = errors.len();
    for (index, ip) in many.items().enumerate() {
        if index == 0 && ip.text() == "None" {
            if many.len() > 1 {
                errors.push(many.invalid("'None' must be the first and only value"));
            }
        } else {
            ip.must_be_ip(errors);
        }
    }
    let are_valid = errors.len() == before;
    if many.len() > IPS_MAX {
        errors.push(many.invalid("may only hold up to 2 values"));
    }
    are_valid
}

fn one_of_each(spec: &Place<'_>, errors: &mut Errors) {
    let many = spec.at("clusterIPs");
    let are_six: Vec<bool> = many.items().filter_map(|ip| is_six(ip.text())).collect();
    let is_dual = are_six.contains(&true) && are_six.contains(&false);
    if are_six.len() > 1 && !is_dual {
        errors.push(many.invalid("may specify no more than one IP for each IP family"));
    }
    for (index, (ip, family)) in many.items().zip(spec.at("ipFamilies").items()).enumerate() {
        let wrong = match (is_six(ip.text()), family.text()) {
            (Some(true), "IPv4") => "an IPv4",
            (Some(false), "IPv6") => "an IPv6",
            _ => continue,
        };
        let why = format!("expected {wrong} value as indicated by `ipFamilies[{index}]`");
        errors.push(ip.invalid(why));
    }
}

fn is_six(ip: &str) -> Option<bool> {
    Some(ip.parse::<IpAddr>().ok()?.to_canonical().is_ipv6())
}

fn texts<'a>(list: &Place<'a>) -> Vec<&'a str> {
    list.items().map(|item| item.text()).collect()
}

fn is_headless(spec: &Place<'_>) -> bool {
    texts(&spec.at("clusterIPs")) == ["None"]
}

/// The first address stays for good, the second one until the Service is said to have one family.
pub(super) fn update(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    let has_none = |spec: &Place<'_>| spec.at("type").text() == "ExternalName";
    if has_none(&spec) || has_none(&old_spec) {
        return;
    }
    if !(is_headless(&spec) && is_headless(&old_spec)) {
        let unset = "primary clusterIP can not be unset";
        must_stay(&spec, &old_spec, "clusterIPs", (unset, "clusterIP"), errors);
    }
    if !is_headless(&spec) && !is_headless(&old_spec) {
        let unset = "primary ipFamily can not be unset";
        must_stay(&spec, &old_spec, "ipFamilies", (unset, "ipFamily"), errors);
    }
}

fn must_stay(spec: &Place<'_>, old_spec: &Place<'_>, field: &str, words: (&str, &str), errors: &mut Errors) {
    let (unset, noun) = words;
    let list = spec.at(field);
    let (now, before) = (texts(&list), texts(&old_spec.at(field)));
    let changed = |index: usize| {
        let path = format!("{}[{index}]", list.path);
        FieldError::invalid(path, list.value.clone(), "may not change once set")
    };
    if now.len() == before.len() {
        let differing = now
            .iter()
            .zip(&before)
            .enumerate()
            .filter(|(_, (now, before))| now != before);
        errors.extend(differing.map(|(index, _)| changed(index)));
        return;
    }
    let is_reduced = now.len() < before.len();
    if now.is_empty() {
        errors.push(FieldError::invalid(
            format!("{}[0]", list.path),
            list.value.clone(),
            unset,
        ));
    }
    if let (Some(now), Some(before)) = (now.first(), before.first())
        && now != before
    {
        errors.push(changed(0));
    }
    let policy = spec.at("ipFamilyPolicy");
    if is_reduced && now.len() == 1 && policy.text() != "SingleStack" {
        errors.push(policy.invalid(format!(
            "must be set to 'SingleStack' when releasing the secondary {noun}"
        )));
    }
}
