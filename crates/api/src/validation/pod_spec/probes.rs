//! What valid probes and lifecycle hooks are.

use crate::error::FieldError;
use crate::validation::names;
use crate::validation::place::{Errors, Place};

/// What is wrong with the probes and hooks of a container.
pub(super) fn validate(container: &Place<'_>, errors: &mut Errors) {
    let lifecycle = container.at("lifecycle");
    for hook in ["postStart", "preStop"] {
        if lifecycle.at(hook).is_set() {
            handler(&lifecycle.at(hook), &["exec", "httpGet", "tcpSocket", "sleep"], errors);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let place = container.at(probe);
        if place.is_set() {
            one(&place, probe, errors);
        }
    }
}

fn one(probe: &Place<'_>, kind: &str, errors: &mut Errors) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        probe.at(field).must_not_be_negative(errors);
    }
    let grace = probe.at("terminationGracePeriodSeconds");
    if kind == "readinessProbe" {
        if grace.is_set() {
            errors.push(grace.invalid("must not be set for readinessProbes"));
        }
        return;
    }
    if grace.number().is_some_and(|grace_s| grace_s <= 0) {
        errors.push(grace.invalid("must be greater than 0"));
    }
    if probe.at("successThreshold").number().unwrap_or(1) != 1 {
        errors.push(probe.at("successThreshold").invalid("must be 1"));
    }
}

/// Exactly one of some ways to ask or to act.
fn handler(place: &Place<'_>, ways: &[&str], errors: &mut Errors) {
    let mut given = 0;
    for way in ways {
        let action = place.at(way);
        if !action.is_set() {
            continue;
        }
        given += 1;
        if given > 1 {
            errors.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        match *way {
            "exec" => {
                if action.at("command").len() == 0 {
                    errors.push(action.at("command").required(""));
                }
            }
            "httpGet" => http(&action, errors),
            "sleep" => action.at("seconds").must_not_be_negative(errors),
            _ => action.at("port").must_be_port_or_name(errors),
        }
    }
    if given == 0 {
        errors.push(place.required("must specify a handler type"));
    }
}

fn http(action: &Place<'_>, errors: &mut Errors) {
    if action.at("path").text().is_empty() {
        errors.push(action.at("path").required(""));
    }
    action.at("port").must_be_port_or_name(errors);
    let scheme = action.at("scheme");
    if !matches!(scheme.text(), "HTTP" | "HTTPS") {
        errors.push(FieldError::not_supported(
            &scheme.path,
            scheme.text(),
            &["HTTP", "HTTPS"],
        ));
    }
    for header in action.at("httpHeaders").items() {
        let name = header.at("name");
        if name.text().is_empty() || !name.text().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            errors.push(FieldError::invalid(
                format!("{}.httpHeaders", action.path),
                name.text(),
                "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used \
                 for validation is '[-A-Za-z0-9]+')",
            ));
        }
    }
    let host = action.at("host");
    if !host.text().is_empty() && host.text().parse::<std::net::IpAddr>().is_err() {
        host.must_have_form(names::subdomain_errors, errors);
    }
}
