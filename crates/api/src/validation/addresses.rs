//! What valid IPAddresses and ServiceCIDRs are.

use super::place::{Errors, Place};
use crate::error::FieldError;
use ipnet::IpNet;
use std::net::IpAddr;

pub(super) fn create(kind: &str, object: &Place<'_>, errors: &mut Errors) {
    match kind {
        "IPAddress" => address(object, errors),
        _ => ranges(&object.at("spec").at("cidrs"), errors),
    }
}

pub(super) fn update(kind: &str, new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    if kind == "IPAddress" {
        address(new, errors);
        spec.at("parentRef").must_not_change(&old_spec.at("parentRef"), errors);
        return;
    }
    let (ranges, before) = (spec.at("cidrs"), old_spec.at("cidrs"));
    // A second family may be added, nothing else.
    let grows = before.len() == 1
        && ranges.len() == 2
        && ranges.items().next().map(|range| range.text()) == before.items().next().map(|range| range.text());
    if grows {
        self::ranges(&ranges, errors);
    } else {
        ranges.must_not_change(&before, errors);
    }
}

/// The name of an address is the address in its canonical form.
pub(super) fn name_errors(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Ok(address) if address.to_string() == name => Vec::new(),
        Ok(address) => vec![format!("must be in canonical form ({:?})", address.to_string())],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

fn address(object: &Place<'_>, errors: &mut Errors) {
    let parent = object.at("spec").at("parentRef");
    if !parent.is_set() {
        errors.push(parent.required(""));
        return;
    }
    for field in ["resource", "name"] {
        if parent.at(field).text().is_empty() {
            errors.push(parent.at(field).required(""));
        }
    }
}

fn ranges(ranges: &Place<'_>, errors: &mut Errors) {
    match ranges.len() {
        0 => {
            errors.push(ranges.required("at least one CIDR required"));
            return;
        }
        1 | 2 => {}
        _ => {
            errors.push(ranges.invalid("may only hold up to 2 values"));
            return;
        }
    }
    let mut families = Vec::new();
    for range in ranges.items() {
        match range.text().parse::<IpNet>() {
            Ok(net) if net.trunc() == net && net.to_string() == range.text() => {
                families.push(net.addr().is_ipv4());
            }
            Ok(net) => {
                let canonical = net.trunc().to_string();
                errors.push(range.invalid(format!("must be in canonical form ({canonical:?})")));
            }
            Err(_) => {
                let words = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.push(range.invalid(words));
            }
        }
    }
    if let [first, second] = families.as_slice()
        && first == second
    {
        errors.push(FieldError::invalid(
            &ranges.path,
            ranges.value.clone(),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ));
    }
}
