//! What valid FlowSchemas and PriorityLevelConfigurations are.

use super::names;
use super::place::{Errors, Place};
use crate::error::FieldError;
use crate::kinds::Kind;

pub(super) fn create(kind: &Kind, object: &Place<'_>, errors: &mut Errors) {
    match kind.kind {
        "FlowSchema" => schema(object, errors),
        _ => level(object, errors),
    }
}

fn schema(object: &Place<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    let precedence = spec.at("matchingPrecedence");
    let value = precedence.number().unwrap_or(0);
    if value <= 0 {
        errors.push(precedence.invalid("must be a positive value"));
    } else if value > 10_000 {
        errors.push(precedence.invalid("must not be greater than 10000"));
    } else if value == 1 && object.at("metadata").at("name").text() != "exempt" {
        errors.push(precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1"));
    }
    let method = spec.at("distinguisherMethod");
    if method.is_set() {
        method.at("type").must_be_one_of(&["ByNamespace", "ByUser"], errors);
    }
    let level = spec.at("priorityLevelConfiguration").at("name");
    level.must_be_named(names::subdomain_errors, errors);
    for rule in spec.at("rules").items() {
        rules(&rule, errors);
    }
}

fn rules(rule: &Place<'_>, errors: &mut Errors) {
    if rule.at("subjects").len() == 0 {
        errors.push(rule.at("subjects").required("subjects must contain at least one value"));
    }
    for subject in rule.at("subjects").items() {
        let field = match subject.at("kind").text() {
            "User" => "user",
            "Group" => "group",
            "ServiceAccount" => "serviceAccount",
            _ => {
                let known = ["Group", "ServiceAccount", "User"];
                errors.push(subject.at("kind").not_supported(&known));
                continue;
            }
        };
        if !subject.at(field).is_set() {
            let words = format!(
                "{field} is required when subject kind is '{}'",
                subject.at("kind").text()
            );
            errors.push(subject.at(field).required(&words));
        } else if subject.at(field).at("name").text().is_empty() {
            errors.push(subject.at(field).at("name").required(""));
        }
    }
    let (resources, others) = (rule.at("resourceRules"), rule.at("nonResourceRules"));
    if resources.len() == 0 && others.len() == 0 {
        let words = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(rule.required(words));
    }
    for resource in resources.items() {
        for field in ["verbs", "apiGroups", "resources"] {
            if resource.at(field).len() == 0 {
                let words = format!("{field} must contain at least one value");
                errors.push(resource.at(field).required(&words));
            }
        }
        if resource.at("namespaces").len() == 0 && !resource.at("clusterScope").is_true() {
            let words = "resource rules that are not cluster scoped must supply at least one namespace";
            errors.push(resource.at("namespaces").required(words));
        }
    }
    for other in others.items() {
        for field in ["verbs", "nonResourceURLs"] {
            if other.at(field).len() == 0 {
                let words = format!("{field} must contain at least one value");
                errors.push(other.at(field).required(&words));
            }
        }
    }
}

fn level(object: &Place<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    let (limited, exempt) = (spec.at("limited"), spec.at("exempt"));
    match spec.at("type").text() {
        "Exempt" if limited.is_set() => {
            errors.push(limited.forbidden("must be nil if the type is not Limited"));
        }
        "Exempt" => {}
        "Limited" if exempt.is_set() => {
            errors.push(exempt.forbidden("must be nil if the type is Limited"));
        }
        "Limited" if !limited.is_set() => {
            errors.push(limited.required("must not be empty when type is Limited"));
        }
        "Limited" => limits(&limited, errors),
        _ => errors.push(spec.at("type").not_supported(&["Exempt", "Limited"])),
    }
}

fn limits(limited: &Place<'_>, errors: &mut Errors) {
    let shares = limited.at("nominalConcurrencyShares");
    shares.must_not_be_negative(errors);
    let lendable = limited.at("lendablePercent");
    if lendable.number().is_some_and(|percent| !(0..=100).contains(&percent)) {
        errors.push(lendable.invalid("must be between 0 and 100, inclusive"));
    }
    let response = limited.at("limitResponse");
    let queuing = response.at("queuing");
    match response.at("type").text() {
        "Reject" if queuing.is_set() => {
            errors.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited"));
        }
        "Reject" => {}
        "Queue" if !queuing.is_set() => {
            errors.push(queuing.required("must not be empty if limited.limitResponse.type is Limited"));
        }
        "Queue" => {
            for field in ["queues", "handSize", "queueLengthLimit"] {
                if queuing.at(field).number().unwrap_or(0) <= 0 {
                    errors.push(FieldError::invalid(
                        queuing.at(field).path,
                        queuing.at(field).number().unwrap_or(0),
                        "must be positive",
                    ));
                }
            }
            if queuing.at("handSize").number() > queuing.at("queues").number() {
                let words = format!(
                    "should not be greater than queues ({})",
                    queuing.at("queues").number().unwrap_or(0)
                );
                errors.push(queuing.at("handSize").invalid(words));
            }
        }
        _ => errors.push(response.at("type").not_supported(&["Queue", "Reject"])),
    }
}
