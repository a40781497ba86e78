//! What valid HorizontalPodAutoscalers are, in either version.

use super::names;
use super::place::{Errors, Place};
use crate::error::FieldError;

pub(super) fn create(object: &Place<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    let (min, max) = (spec.at("minReplicas"), spec.at("maxReplicas"));
    if min.number().is_some_and(|min| min < 1) {
        errors.push(min.invalid("must be greater than or equal to 1"));
    }
    if max.number().unwrap_or(0) < 1 {
        errors.push(FieldError::invalid(
            &max.path,
            max.number().unwrap_or(0),
            "must be greater than 0",
        ));
    } else if max.number() < min.number() {
        errors.push(max.invalid("must be greater than or equal to `minReplicas`"));
    }
    target(&spec.at("scaleTargetRef"), errors);
    let percentage = spec.at("targetCPUUtilizationPercentage");
    if percentage.number().is_some_and(|percent| percent < 1) {
        errors.push(percentage.invalid("must be greater than 0"));
    }
    for metric in spec.at("metrics").items() {
        self::metric(&metric, errors);
    }
    for rules in ["scaleUp", "scaleDown"] {
        scaling_rules(&spec.at("behavior").at(rules), errors);
    }
}

fn target(target: &Place<'_>, errors: &mut Errors) {
    for field in ["kind", "name"] {
        target.at(field).must_be_named(names::path_segment_errors, errors);
    }
}

fn metric(metric: &Place<'_>, errors: &mut Errors) {
    let source = match metric.at("type").text() {
        "" => {
            errors.push(metric.at("type").required("must specify a metric source type"));
            return;
        }
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "External" => "external",
        _ => {
            let known = ["ContainerResource", "External", "Object", "Pods", "Resource"];
            errors.push(metric.at("type").not_supported(&known));
            return;
        }
    };
    let place = metric.at(source);
    if !place.is_set() {
        let words = "must populate information for the given metric source";
        errors.push(place.required(words));
        return;
    }
    if source == "resource" || source == "containerResource" {
        if place.at("name").text().is_empty() {
            errors.push(place.at("name").required("must specify a resource name"));
        }
        if source == "containerResource" && place.at("container").text().is_empty() {
            errors.push(place.at("container").required("must specify a container"));
        }
    } else if place.at("metric").at("name").text().is_empty() {
        errors.push(place.at("metric").at("name").required("must specify a metric name"));
    }
    metric_target(&place.at("target"), errors);
}

fn metric_target(target: &Place<'_>, errors: &mut Errors) {
    target
        .at("type")
        .must_be_given_of(&["AverageValue", "Utilization", "Value"], errors);
    let percent = target.at("averageUtilization");
    if percent.number().is_some_and(|percent| percent < 1) {
        errors.push(percent.invalid("must be greater than 0"));
    }
    for field in ["value", "averageValue"] {
        let amount = target.at(field);
        if amount
            .quantity()
            .is_some_and(|amount| amount <= crate::quantity::Quantity::default())
        {
            errors.push(amount.invalid("must be positive"));
        }
    }
}

fn scaling_rules(rules: &Place<'_>, errors: &mut Errors) {
    if !rules.is_set() {
        return;
    }
    let window = rules.at("stabilizationWindowSeconds");
    window.must_not_be_negative(errors);
    if window.number().is_some_and(|seconds| seconds > 3600) {
        errors.push(window.invalid("must be less than or equal to 3600"));
    }
    rules
        .at("selectPolicy")
        .must_be_one_of(&["Disabled", "Max", "Min"], errors);
    if rules.at("policies").len() == 0 {
        errors.push(rules.at("policies").required("must specify at least one Policy"));
    }
    for policy in rules.at("policies").items() {
        policy.at("type").must_be_one_of(&["Percent", "Pods"], errors);
        for field in ["value", "periodSeconds"] {
            if policy.at(field).number().unwrap_or(0) <= 0 {
                errors.push(policy.at(field).invalid("must be greater than zero"));
            }
        }
        if policy
            .at("periodSeconds")
            .number()
            .is_some_and(|seconds| seconds > 1800)
        {
            errors.push(policy.at("periodSeconds").invalid("must be less than or equal to 1800"));
        }
    }
}
