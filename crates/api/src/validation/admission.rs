//! What valid admission policies, their bindings and webhook configurations are.
//!
//! Their rules must compile.

use super::place::{Errors, Place};
use super::{names, selectors};
use crate::error::FieldError;
use crate::kinds::Kind;
use serde_json::json;
use std::collections::BTreeSet;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

pub(super) fn create(kind: &Kind, object: &Place<'_>, errors: &mut Errors) {
    let spec = object.at("spec");
    match kind.kind {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => webhooks(object, errors),
        "ValidatingAdmissionPolicy" => {
            validating(&spec, errors);
            rules(&spec, errors);
        }
        "MutatingAdmissionPolicy" => {
            mutating(&spec, errors);
            rules(&spec, errors);
        }
        "ValidatingAdmissionPolicyBinding" => {
            binding(&spec, errors);
            actions(&spec.at("validationActions"), errors);
        }
        "MutatingAdmissionPolicyBinding" => binding(&spec, errors),
        _ => {}
    }
}

fn webhooks(object: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for hook in object.at("webhooks").items() {
        let name = hook.at("name");
        if !seen.insert(name.text()) {
            errors.push(name.duplicate());
        }
        webhook(&hook, errors);
    }
}

fn webhook(hook: &Place<'_>, errors: &mut Errors) {
    fully_qualified(&hook.at("name"), errors);
    for rule in hook.at("rules").items() {
        resource_rule(&rule, errors);
    }
    hook.at("failurePolicy").must_be_one_of(&["Fail", "Ignore"], errors);
    hook.at("matchPolicy").must_be_one_of(&["Equivalent", "Exact"], errors);
    hook.at("reinvocationPolicy")
        .must_be_one_of(&["IfNeeded", "Never"], errors);
    let effects = hook.at("sideEffects");
    if effects.is_set() {
        effects.must_be_one_of(&["None", "NoneOnDryRun"], errors);
    } else {
        errors.push(effects.required("must specify one of None, NoneOnDryRun"));
    }
    let timeout = hook.at("timeoutSeconds");
    if timeout.number().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        selectors::labels(&hook.at(selector), errors);
    }
    let versions = hook.at("admissionReviewVersions");
    if versions.len() == 0 {
        errors.push(versions.required("must specify one of v1, v1beta1"));
    } else if !versions
        .items()
        .any(|version| matches!(version.text(), "v1" | "v1beta1"))
    {
        errors.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
    client(&hook.at("clientConfig"), errors);
    let conditions = hook.at("matchConditions");
    match_conditions(&conditions, errors);
    for problem in crate::policy::problems(&json!({ "matchConditions": conditions.value })) {
        let field = problem.field.replacen("spec", &hook.path, 1);
        errors.push(FieldError::invalid(field, problem.expression, problem.why));
    }
}

/// A name of at least three parts, e.g. `check.example.com`.
fn fully_qualified(name: &Place<'_>, errors: &mut Errors) {
    if name.text().is_empty() {
        errors.push(name.required(""));
        return;
    }
    let wrong = names::subdomain_errors(name.text());
    if wrong.is_empty() && name.text().split('.').count() < 3 {
        errors.push(name.invalid("should be a domain with at least three segments separated by dots"));
    }
    for why in wrong {
        errors.push(name.invalid(why));
    }
}

fn resource_rule(rule: &Place<'_>, errors: &mut Errors) {
    let operations = rule.at("operations");
    if operations.len() == 0 {
        errors.push(operations.required(""));
    }
    if operations.len() > 1 && operations.items().any(|operation| operation.text() == "*") {
        errors.push(operations.invalid("if '*' is present, must not specify other operations"));
    }
    for operation in operations.items() {
        operation.must_be_one_of(OPERATIONS, errors);
    }
    for field in ["apiGroups", "apiVersions", "resources"] {
        let list = rule.at(field);
        if list.len() == 0 {
            errors.push(list.required(""));
        }
        if field != "resources" && list.len() > 1 && list.items().any(|item| item.text() == "*") {
            let what = if field == "apiGroups" {
                "API groups"
            } else {
                "API versions"
            };
            errors.push(list.invalid(format!("if '*' is present, must not specify other {what}")));
        }
        for item in list
            .items()
            .filter(|item| field != "apiGroups" && item.text().is_empty())
        {
            errors.push(item.required(""));
        }
    }
    rule.at("scope").must_be_one_of(&["*", "Cluster", "Namespaced"], errors);
}

fn client(config: &Place<'_>, errors: &mut Errors) {
    let (url, service) = (config.at("url"), config.at("service"));
    if url.is_set() == service.is_set() {
        errors.push(FieldError::required(
            &config.path,
            "exactly one of url or service is required",
        ));
    }
    if url.is_set() {
        address(&url, errors);
    }
    if service.is_set() {
        for field in ["name", "namespace"] {
            if service.at(field).text().is_empty() {
                let words = format!("service {field} is required");
                errors.push(service.at(field).required(&words));
            }
        }
        service.at("port").must_be_port(errors);
        service_path(&service.at("path"), errors);
    }
}

/// The rules of upstream's `ValidateWebhookURL`.
fn address(url: &Place<'_>, errors: &mut Errors) {
    const FORM: &str = "desired format: https://host[/path]";
    let Some(rest) = url.text().strip_prefix("https://") else {
        errors.push(url.invalid(format!("'https' is the only allowed URL scheme; {FORM}")));
        return;
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        errors.push(url.invalid(format!("host must be specified; {FORM}")));
    }
    for (is_there, what) in [
        (host.contains('@'), "user information is"),
        (rest.contains('#'), "fragments are"),
        (rest.contains('?'), "query parameters are"),
    ] {
        if is_there {
            errors.push(url.invalid(format!("{what} not permitted in the URL")));
        }
    }
}

/// The rules of upstream's `ValidateWebhookService` for the path, which may be empty.
fn service_path(path: &Place<'_>, errors: &mut Errors) {
    let text = path.text();
    let Some(rest) = text.strip_prefix('/') else {
        if !text.is_empty() {
            errors.push(path.invalid("must start with a '/'"));
        }
        return;
    };
    let steps: Vec<_> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
    for (i, step) in steps.iter().enumerate().filter(|_| !rest.is_empty()) {
        if step.is_empty() {
            errors.push(path.invalid(format!("segment[{i}] may not be empty")));
            continue;
        }
        for problem in names::subdomain_errors(step) {
            errors.push(path.invalid(format!("segment[{i}]: {problem}")));
        }
    }
}

fn match_conditions(conditions: &Place<'_>, errors: &mut Errors) {
    const CONDITIONS_MAX: usize = 64;
    if conditions.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(&conditions.path, conditions.len(), CONDITIONS_MAX));
    }
    let mut seen = BTreeSet::new();
    for condition in conditions.items() {
        let name = condition.at("name");
        name.must_be_named(names::qualified_name_errors, errors);
        if !seen.insert(name.text()) {
            errors.push(name.duplicate());
        }
        expression(&condition, errors);
    }
}

fn expression(of: &Place<'_>, errors: &mut Errors) {
    if of.at("expression").text().trim().is_empty() {
        errors.push(of.at("expression").required("expression is not specified"));
    }
}

/// What both sorts of policies have.
fn policy(spec: &Place<'_>, errors: &mut Errors) {
    spec.at("failurePolicy").must_be_one_of(&["Fail", "Ignore"], errors);
    let kind = spec.at("paramKind");
    if kind.is_set() {
        for field in ["apiVersion", "kind"] {
            if kind.at(field).text().is_empty() {
                errors.push(kind.at(field).required(""));
            }
        }
    }
    let constraints = spec.at("matchConstraints");
    if constraints.is_set() {
        if constraints.at("resourceRules").len() == 0 {
            errors.push(constraints.at("resourceRules").required(""));
        }
        match_resources(&constraints, errors);
    } else {
        errors.push(constraints.required(""));
    }
    match_conditions(&spec.at("matchConditions"), errors);
    let mut seen = BTreeSet::new();
    for variable in spec.at("variables").items() {
        let name = variable.at("name");
        if name.text().trim().is_empty() {
            errors.push(name.required("name is not specified"));
        } else if !is_identifier(name.text()) {
            errors.push(name.invalid("name is not a valid CEL identifier"));
        }
        if !seen.insert(name.text()) {
            errors.push(name.duplicate());
        }
        expression(&variable, errors);
    }
}

fn is_identifier(name: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(starts)
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !matches!(name, "true" | "false" | "null" | "in")
}

/// What the compiler says of the rules of a policy.
fn rules(spec: &Place<'_>, errors: &mut Errors) {
    for problem in crate::policy::problems(spec.value) {
        errors.push(FieldError::invalid(problem.field, problem.expression, problem.why));
    }
}

fn match_resources(resources: &Place<'_>, errors: &mut Errors) {
    for selector in ["namespaceSelector", "objectSelector"] {
        selectors::labels(&resources.at(selector), errors);
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        for rule in resources.at(rules).items() {
            resource_rule(&rule, errors);
        }
    }
    resources
        .at("matchPolicy")
        .must_be_one_of(&["Equivalent", "Exact"], errors);
}

fn validating(spec: &Place<'_>, errors: &mut Errors) {
    policy(spec, errors);
    let (validations, annotations) = (spec.at("validations"), spec.at("auditAnnotations"));
    if validations.len() == 0 && annotations.len() == 0 {
        errors.push(validations.required("validations or auditAnnotations must be non-empty"));
    }
    for validation in validations.items() {
        expression(&validation, errors);
        let (message, reason) = (validation.at("message"), validation.at("reason"));
        if message.is_set() && message.text().trim().is_empty() && !message.text().is_empty() {
            errors.push(message.invalid("message must be non-empty if specified"));
        }
        if message.text().contains('\n') {
            errors.push(message.invalid("message must not contain line breaks"));
        }
        reason.must_be_one_of(
            &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"],
            errors,
        );
    }
    for annotation in annotations.items() {
        annotation.at("key").must_be_named(names::qualified_name_errors, errors);
        if annotation.at("valueExpression").text().trim().is_empty() {
            errors.push(
                annotation
                    .at("valueExpression")
                    .required("valueExpression is not specified"),
            );
        }
    }
}

fn mutating(spec: &Place<'_>, errors: &mut Errors) {
    policy(spec, errors);
    let mutations = spec.at("mutations");
    if mutations.len() == 0 {
        errors.push(mutations.required("mutations must contain at least one item"));
    }
    for mutation in mutations.items() {
        let patch = mutation.at("patchType");
        patch.must_be_given_of(&["ApplyConfiguration", "JSONPatch"], errors);
        let (wanted, other) = match patch.text() {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            _ => continue,
        };
        let words = format!("must be specified when patchType is {}", patch.text());
        if mutation.at(wanted).is_set() {
            expression(&mutation.at(wanted), errors);
        } else {
            errors.push(mutation.at(wanted).required(&words));
        }
        if mutation.at(other).is_set() {
            let words = format!("must not be specified when patchType is {}", patch.text());
            errors.push(mutation.at(other).invalid(words));
        }
    }
    spec.at("reinvocationPolicy")
        .must_be_given_of(&["IfNeeded", "Never"], errors);
}

fn binding(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.at("policyName");
    policy.must_be_named(names::subdomain_errors, errors);
    let parameters = spec.at("paramRef");
    if parameters.is_set() {
        let (name, selector) = (parameters.at("name"), parameters.at("selector"));
        match (name.text().is_empty(), selector.is_set()) {
            (true, false) => errors.push(parameters.required("one of name or selector must be specified")),
            (false, true) => errors.push(name.forbidden("name and selector are mutually exclusive")),
            _ => {}
        }
        let action = parameters.at("parameterNotFoundAction");
        action.must_be_given_of(&["Allow", "Deny"], errors);
    }
    match_resources(&spec.at("matchResources"), errors);
}

fn actions(actions: &Place<'_>, errors: &mut Errors) {
    if actions.len() == 0 {
        errors.push(actions.required("at least one validation action is required"));
    }
    let mut seen = BTreeSet::new();
    for action in actions.items() {
        action.must_be_one_of(&["Audit", "Deny", "Warn"], errors);
        if !seen.insert(action.text()) {
            errors.push(action.duplicate());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.push(actions.invalid(
            "must not contain both Deny and Warn (repeating the same validation failure information in the API \
             response and headers serves no purpose)",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &serde_json::Value) -> Vec<String> {
        let mut errors = Errors::new();
        client(&Place::root(config), &mut errors);
        errors.iter().map(|error| error.detail.clone()).collect()
    }

    #[test]
    fn paths_of_services() {
        let of = |path: &str| problems(&json!({"service": {"name": "a", "namespace": "b", "path": path}}));
        for good in ["", "/", "/mutate", "/a/b.c/"] {
            assert!(of(good).is_empty(), "{good:?}: {:?}", of(good));
        }
        assert_eq!(of("mutate"), ["must start with a '/'"]);
        assert_eq!(of("//"), ["segment[0] may not be empty"]);
        assert_eq!(of("/a//b"), ["segment[1] may not be empty"]);
        assert!(of("/A")[0].starts_with("segment[0]: a lowercase RFC 1123 subdomain"));
    }

    #[test]
    fn addresses() {
        let of = |url: &str| problems(&json!({"url": url}));
        assert!(of("https://hooks.example.com:8443/a").is_empty());
        for (bad, words) in [
            ("http://a", "only allowed URL scheme"),
            ("https://", "host must be specified"),
            ("https://me@a", "user information"),
            ("https://a/#b", "fragments"),
            ("https://a?b=c", "query parameters"),
        ] {
            assert!(
                of(bad).iter().any(|problem| problem.contains(words)),
                "{bad}: {:?}",
                of(bad)
            );
        }
    }
}
