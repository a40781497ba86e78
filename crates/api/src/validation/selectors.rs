//! What valid label selectors inside objects are.

use super::names;
use super::place::{Errors, Place};
use crate::error::FieldError;
use crate::selector::LabelSelector;

/// What is wrong with a `LabelSelector`; an absent one is left to others.
pub(super) fn labels(selector: &Place<'_>, errors: &mut Errors) {
    super::metadata::labels(&selector.at("matchLabels"), errors);
    for expression in selector.at("matchExpressions").items() {
        let (operator, values) = (expression.at("operator"), expression.at("values"));
        match operator.text() {
            "In" | "NotIn" if values.len() == 0 => {
                errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if values.len() > 0 => {
                errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(operator.invalid("not a valid selector operator")),
        }
        expression
            .at("key")
            .must_have_form(names::qualified_name_errors, errors);
        for value in values.items() {
            value.must_have_form(names::label_value_errors, errors);
        }
    }
}

/// What is wrong with the selector and template of a workload: the selector must be given, select something in
/// particular, and select the template's labels. `kind` is the workload's name in upstream's words.
pub(super) fn and_template(spec: &Place<'_>, kind: &str, errors: &mut Errors) {
    let selector = spec.at("selector");
    if !selector.is_set() {
        errors.push(selector.required(""));
        return;
    }
    labels(&selector, errors);
    if selector.at("matchLabels").len() + selector.at("matchExpressions").len() == 0 {
        errors.push(selector.invalid(format!("empty selector is invalid for {kind}")));
    }
    let Ok(parsed) = LabelSelector::from_object(selector.value) else {
        errors.push(selector.invalid(""));
        return;
    };
    let labels = spec.at("template").at("metadata").at("labels");
    if !parsed.matches(labels.value) {
        let shown = if labels.is_set() {
            labels.value.clone()
        } else {
            serde_json::Value::Null
        };
        errors.push(FieldError::invalid(
            &labels.path,
            shown,
            "`selector` does not match template `labels`",
        ));
    }
}
