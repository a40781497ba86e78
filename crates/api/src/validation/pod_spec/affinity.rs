//! Where a pod may run: node selectors, affinity, spreading.

use crate::error::FieldError;
use crate::validation::place::{Errors, Place};
use crate::validation::{names, selectors};
use std::collections::BTreeSet;

pub(super) fn validate(affinity: &Place<'_>, errors: &mut Errors) {
    let node = affinity.at("nodeAffinity");
    let required = node.at("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        node_selector(&required, errors);
    }
    for preferred in node.at("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred, errors);
        node_selector_term(&preferred.at("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.at(kind);
        for term in pods.at("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_term(&term, errors);
        }
        for preferred in pods.at("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&preferred, errors);
            pod_term(&preferred.at("podAffinityTerm"), errors);
        }
    }
}

fn weight(preferred: &Place<'_>, errors: &mut Errors) {
    let weight = preferred.at("weight");
    if !(1..=100).contains(&weight.number().unwrap_or(0)) {
        errors.push(weight.invalid("must be in the range 1-100"));
    }
}

/// What is wrong with a node selector: terms, of which one must hold.
pub(in crate::validation) fn node_selector(selector: &Place<'_>, errors: &mut Errors) {
    let terms = selector.at("nodeSelectorTerms");
    if terms.len() == 0 {
        errors.push(terms.required("must have at least one node selector term"));
    }
    for term in terms.items() {
        node_selector_term(&term, errors);
    }
}

fn node_selector_term(term: &Place<'_>, errors: &mut Errors) {
    for expression in term.at("matchExpressions").items() {
        requirement(&expression, errors);
        expression
            .at("key")
            .must_have_form(names::qualified_name_errors, errors);
    }
    for field in term.at("matchFields").items() {
        let (key, operator, values) = (field.at("key"), field.at("operator"), field.at("values"));
        if !matches!(operator.text(), "In" | "NotIn") {
            errors.push(operator.invalid("not a valid selector operator"));
        } else if values.len() != 1 {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(values.required(why));
        }
        if key.text() != "metadata.name" {
            errors.push(key.invalid("not a valid field selector key"));
        }
    }
}

fn requirement(expression: &Place<'_>, errors: &mut Errors) {
    let (operator, values) = (expression.at("operator"), expression.at("values"));
    match operator.text() {
        "In" | "NotIn" => {
            if values.len() == 0 {
                errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
        }
        "Exists" | "DoesNotExist" => {
            if values.len() > 0 {
                errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                errors.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
        }
        _ => errors.push(operator.invalid("not a valid selector operator")),
    }
}

fn pod_term(term: &Place<'_>, errors: &mut Errors) {
    selectors::labels(&term.at("labelSelector"), errors);
    selectors::labels(&term.at("namespaceSelector"), errors);
    for namespace in term.at("namespaces").items() {
        namespace.must_have_form(names::label_errors, errors);
    }
    let topology = term.at("topologyKey");
    if topology.text().is_empty() {
        errors.push(topology.required("can not be empty"));
    } else {
        topology.must_have_form(names::qualified_name_errors, errors);
    }
}

/// What is wrong with topology spread constraints.
pub(super) fn spread(constraints: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for constraint in constraints.items() {
        let skew = constraint.at("maxSkew");
        if skew.number().unwrap_or(0) <= 0 {
            errors.push(FieldError::invalid(
                &skew.path,
                skew.number().unwrap_or(0),
                "must be greater than zero",
            ));
        }
        let (key, when) = (constraint.at("topologyKey"), constraint.at("whenUnsatisfiable"));
        if key.text().is_empty() {
            errors.push(key.required("can not be empty"));
        } else {
            key.must_have_form(names::qualified_name_errors, errors);
        }
        if !matches!(when.text(), "DoNotSchedule" | "ScheduleAnyway") {
            errors.push(when.not_supported(&["DoNotSchedule", "ScheduleAnyway"]));
        }
        if !seen.insert((key.text(), when.text())) {
            let pair = format!("{{{}, {}}}", key.text(), when.text());
            errors.push(FieldError::duplicate(
                format!("{}.{{topologyKey, whenUnsatisfiable}}", constraint.path),
                pair,
            ));
        }
        selectors::labels(&constraint.at("labelSelector"), errors);
    }
}
