//! What a valid pod spec is.

mod affinity;
mod containers;
mod environment;
mod probes;
mod resources;
mod security;
mod volumes;

use super::metadata;
use super::names;
use super::place::{Errors, Place};
use crate::error::FieldError;
use std::collections::BTreeMap;

pub(super) use affinity::node_selector;
pub(super) use containers::image;
pub(super) use volumes::host_path;

/// The volumes of a pod and what kind each has; a claim template's volume has the kind of a claim.
type Volumes<'a> = BTreeMap<&'a str, &'a str>;

/// Linux takes no longer host names.
const HOSTNAME_BYTES_MAX: usize = 64;

/// What is wrong with a pod spec. `claims` names volumes that the controller will add.
pub(super) fn validate(spec: &Place<'_>, claims: &[&str], errors: &mut Errors) {
    let mut known = volumes::validate(&spec.at("volumes"), errors);
    known.extend(claims.iter().map(|claim| (*claim, "persistentVolumeClaim")));
    containers::validate(spec, &known, errors);
    lifetime(spec, errors);
    placement(spec, errors);
    identity(spec, errors);
    dns(spec, errors);
    security::pod(&spec.at("securityContext"), spec, errors);
    if spec.at("resources").is_set() {
        resources::validate(&spec.at("resources"), errors);
    }
}

fn lifetime(spec: &Place<'_>, errors: &mut Errors) {
    spec.at("restartPolicy")
        .must_be_given_of(&["Always", "OnFailure", "Never"], errors);
    let grace = spec.at("terminationGracePeriodSeconds");
    if !grace.is_set() {
        errors.push(grace.required(""));
    }
    grace.must_not_be_negative(errors);
    spec.at("activeDeadlineSeconds")
        .must_be_within(1, i32::MAX.into(), errors);
}

fn placement(spec: &Place<'_>, errors: &mut Errors) {
    metadata::labels(&spec.at("nodeSelector"), errors);
    let node = spec.at("nodeName");
    if !node.text().is_empty() {
        node.must_have_form(names::subdomain_errors, errors);
    }
    spec.at("schedulerName")
        .must_be_named(names::qualified_name_errors, errors);
    spec.at("preemptionPolicy")
        .must_be_one_of(&["Never", "PreemptLowerPriority"], errors);
    for toleration_at in spec.at("tolerations").items() {
        toleration(&toleration_at, errors);
    }
    affinity::validate(&spec.at("affinity"), errors);
    for gate in spec.at("readinessGates").items() {
        gate.at("conditionType")
            .must_have_form(names::qualified_name_errors, errors);
    }
    affinity::spread(&spec.at("topologySpreadConstraints"), errors);
    let class = spec.at("runtimeClassName");
    if class.is_set() {
        class.must_have_form(names::subdomain_errors, errors);
    }
}

/// What is wrong with one toleration.
pub(super) fn toleration(toleration: &Place<'_>, errors: &mut Errors) {
    let (key, operator, effect) = (toleration.at("key"), toleration.at("operator"), toleration.at("effect"));
    if key.text().is_empty() {
        if operator.text() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&operator.path, operator.text(), why));
        }
    } else {
        key.must_have_form(names::qualified_name_errors, errors);
    }
    if toleration.at("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(&effect.path, effect.text(), why));
    }
    match operator.text() {
        "" | "Equal" => toleration.at("value").must_have_form(names::label_value_errors, errors),
        "Exists" if !toleration.at("value").text().is_empty() => {
            let why = "value must be empty when `operator` is 'Exists'";
            errors.push(FieldError::invalid(&operator.path, toleration.value.clone(), why));
        }
        "Exists" => {}
        _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
    }
    if !effect.text().is_empty() {
        effect.must_be_one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
    }
}

fn identity(spec: &Place<'_>, errors: &mut Errors) {
    for field in ["hostname", "subdomain"] {
        if !spec.at(field).text().is_empty() {
            spec.at(field).must_have_form(names::label_errors, errors);
        }
    }
    let overriding = spec.at("hostnameOverride");
    if !overriding.text().is_empty() {
        overriding.must_have_form(names::subdomain_errors, errors);
        if overriding.text().len() > HOSTNAME_BYTES_MAX {
            errors.push(overriding.invalid(names::too_long(HOSTNAME_BYTES_MAX)));
        }
        if spec.at("setHostnameAsFQDN").is_true() {
            errors.push(overriding.forbidden("may not be specified when `setHostnameAsFQDN` is true"));
        }
        if spec.at("hostNetwork").is_true() {
            errors.push(overriding.forbidden("may not be specified when `hostNetwork` is true"));
        }
    }
    let account = spec.at("serviceAccountName");
    if !account.text().is_empty() {
        account.must_have_form(names::subdomain_errors, errors);
    }
    let priority = spec.at("priorityClassName");
    if !priority.text().is_empty() {
        priority.must_have_form(names::subdomain_errors, errors);
    }
    for secret in spec.at("imagePullSecrets").items() {
        if secret.at("name").text().is_empty() {
            errors.push(secret.at("name").required(""));
        }
    }
    for alias in spec.at("hostAliases").items() {
        alias.at("ip").must_be_ip(errors);
        for name in alias.at("hostnames").items() {
            name.must_have_form(names::subdomain_errors, errors);
        }
    }
}

fn dns(spec: &Place<'_>, errors: &mut Errors) {
    const NAMESERVERS_MAX: usize = 3;
    const SEARCHES_MAX: usize = 32;
    let policy = spec.at("dnsPolicy");
    policy.must_be_given_of(&["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"], errors);
    let config = spec.at("dnsConfig");
    let servers = config.at("nameservers");
    if policy.text() == "None" && servers.len() == 0 {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(if config.is_set() {
            servers.required(why)
        } else {
            config.required(why)
        });
    }
    if servers.len() > NAMESERVERS_MAX {
        errors.push(servers.invalid(format!("must not have more than {NAMESERVERS_MAX} nameservers")));
    }
    for server in servers.items() {
        server.must_be_ip(errors);
    }
    let searches = config.at("searches");
    if searches.len() > SEARCHES_MAX {
        errors.push(searches.invalid(format!("must not have more than {SEARCHES_MAX} search paths")));
    }
    for search in searches.items() {
        // An absolute name may end in a dot, and `.` alone means no search.
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        if search.text() != "." {
            for why in names::subdomain_errors(&name.replace('_', "a")) {
                errors.push(search.invalid(why));
            }
        }
    }
    for option in config.at("options").items() {
        if option.at("name").text().is_empty() {
            errors.push(option.required("must not be empty"));
        }
    }
}
