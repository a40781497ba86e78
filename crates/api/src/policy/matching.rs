//! Which writes a policy, or one of its bindings, is about: `matchConstraints` and `matchResources`.

use crate::kinds::{Kind, KindRef};
use crate::selector::LabelSelector;
use serde_json::Value;

/// A write, as far as it decides which policies are about it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The kind of the resource that is written to.
    pub kind: &'a Kind,
    /// The part of the resource; may be empty.
    pub subresource: &'a str,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'a str,
    /// Empty for what is in no namespace.
    pub namespace: &'a str,
    /// May be empty.
    pub name: &'a str,
    /// The object, or null.
    pub object: &'a Value,
    /// The object before, or null.
    pub old: &'a Value,
    /// The labels of its namespace.
    pub namespace_labels: &'a Value,
}

/// Whether a policy is about a write.
#[derive(Clone, Debug)]
pub enum Match {
    /// It is not.
    No,
    /// It is.
    Yes,
    /// It is about the same object under another kind.
    As(KindRef),
}

/// Whether resources (`matchConstraints` of a policy, `matchResources` of a binding) take in a write. `others` are the
/// other kinds under which the same objects are served.
///
/// # Errors
/// What is wrong with a selector.
pub fn matches(resources: &Value, target: &Target<'_>, others: &[KindRef]) -> Result<Match, String> {
    if resources.is_null() {
        return Ok(Match::Yes);
    }
    let namespace = is_in_namespace(&resources["namespaceSelector"], target);
    if namespace == Ok(false) {
        return Ok(Match::No);
    }
    let object = is_selected(&resources["objectSelector"], target);
    if object == Ok(false) {
        return Ok(Match::No);
    }
    let exact = resources["matchPolicy"] == "Exact";
    let others = if exact { &[] } else { others };
    if !matches!(by_rules(&resources["excludeResourceRules"], target, others), Match::No) {
        return Ok(Match::No);
    }
    let rules = &resources["resourceRules"];
    let found = if rules.as_array().is_none_or(Vec::is_empty) {
        Match::Yes
    } else {
        by_rules(rules, target, others)
    };
    if !matches!(found, Match::No) {
        namespace?;
        object?;
    }
    Ok(found)
}

fn selector(of: &Value) -> Result<Option<LabelSelector>, String> {
    if of.is_null() {
        return Ok(None);
    }
    let selector = LabelSelector::from_object(of)?;
    Ok((!selector.is_empty()).then_some(selector))
}

fn is_in_namespace(of: &Value, target: &Target<'_>) -> Result<bool, String> {
    let is_namespace = target.kind.group.is_empty() && target.kind.kind == "Namespace";
    // What is in no namespace is never left out.
    if target.namespace.is_empty() && !is_namespace {
        return Ok(true);
    }
    Ok(selector(of)?.is_none_or(|selector| selector.matches(target.namespace_labels)))
}

fn is_selected(of: &Value, target: &Target<'_>) -> Result<bool, String> {
    let Some(selector) = selector(of)? else {
        return Ok(true);
    };
    let fits = |object: &Value| object.is_object() && selector.matches(&object["metadata"]["labels"]);
    Ok(fits(target.object) || fits(target.old))
}

fn by_rules(rules: &Value, target: &Target<'_>, others: &[KindRef]) -> Match {
    let rules = || rules.as_array().into_iter().flatten();
    if rules().any(|rule| takes(rule, target.kind, target)) {
        return Match::Yes;
    }
    let other = others.iter().find(|kind| rules().any(|rule| takes(rule, kind, target)));
    other.map_or(Match::No, |kind| Match::As(kind.clone()))
}

/// Whether a rule takes in the write to a resource of this kind.
fn takes(rule: &Value, kind: &Kind, target: &Target<'_>) -> bool {
    let names = |list: &str, wanted: &str| {
        let mut items = rule[list].as_array().into_iter().flatten();
        items.any(|item| *item == "*" || *item == wanted)
    };
    let is_resource = |item: &Value| {
        let (resource, part) = item
            .as_str()
            .unwrap_or_default()
            .split_once('/')
            .unwrap_or((item.as_str().unwrap_or_default(), ""));
        (resource == "*" || resource == kind.plural) && (part == "*" || part == target.subresource)
    };
    let scope = match rule["scope"].as_str() {
        Some("Namespaced") => kind.namespaced,
        Some("Cluster") => !kind.namespaced,
        _ => true,
    };
    let named = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
    scope
        && names("operations", target.operation)
        && names("apiGroups", kind.group)
        && names("apiVersions", kind.version)
        && rule["resources"].as_array().into_iter().flatten().any(is_resource)
        && named.is_none_or(|names| names.iter().any(|name| *name == target.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::by_resource;
    use serde_json::json;

    fn rule(resources: &[&str]) -> Value {
        json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": resources})
    }

    fn check(resources: &Value, subresource: &str, expected: bool) {
        let object = json!({"metadata": {"name": "web", "labels": {"a": "1"}}});
        let labels = json!({"team": "x"});
        let target = Target {
            kind: by_resource("apps", "v1", "deployments").unwrap(),
            subresource,
            operation: "CREATE",
            namespace: "default",
            name: "web",
            object: &object,
            old: &Value::Null,
            namespace_labels: &labels,
        };
        let found = matches(resources, &target, &[]).unwrap();
        assert_eq!(!matches!(found, Match::No), expected, "{resources} {subresource}");
    }

    #[test]
    fn rules_name_resources_and_their_parts() {
        check(&Value::Null, "", true);
        check(&json!({"resourceRules": [rule(&["deployments"])]}), "", true);
        check(&json!({"resourceRules": [rule(&["deployments"])]}), "scale", false);
        check(&json!({"resourceRules": [rule(&["*/scale"])]}), "scale", true);
        check(&json!({"resourceRules": [rule(&["*"])]}), "scale", false);
        check(&json!({"resourceRules": [rule(&["*/*"])]}), "scale", true);
        check(&json!({"resourceRules": [rule(&["replicasets"])]}), "", false);
        let named = |name: &str| {
            let mut rule = rule(&["deployments"]);
            rule["resourceNames"] = json!([name]);
            json!({"resourceRules": [rule]})
        };
        check(&named("web"), "", true);
        check(&named("db"), "", false);
    }

    #[test]
    fn selectors_and_exclusions_leave_out() {
        let with = |field: &str, value: Value| {
            let mut resources = json!({"resourceRules": [rule(&["deployments"])]});
            resources[field] = value;
            resources
        };
        check(
            &with("namespaceSelector", json!({"matchLabels": {"team": "x"}})),
            "",
            true,
        );
        check(
            &with("namespaceSelector", json!({"matchLabels": {"team": "y"}})),
            "",
            false,
        );
        check(&with("objectSelector", json!({"matchLabels": {"a": "1"}})), "", true);
        check(&with("objectSelector", json!({"matchLabels": {"a": "2"}})), "", false);
        check(&with("objectSelector", json!({})), "", true);
        check(
            &with("excludeResourceRules", json!([rule(&["deployments"])])),
            "",
            false,
        );
    }
}
