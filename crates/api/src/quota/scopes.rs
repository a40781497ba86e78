//! Which objects a quota is about: all, or those of its scopes.

use crate::strategy::qos_class;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Whether a quota is about an object, going by its scopes.
pub fn selects(quota: &Value, group: &str, plural: &str, object: &Value) -> bool {
    let spec = &quota["spec"];
    let plain = spec["scopes"].as_array().into_iter().flatten();
    let plain = plain.map(|scope| json!({"scopeName": scope, "operator": "Exists"}));
    let chosen = spec["scopeSelector"]["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten();
    plain.chain(chosen.cloned()).all(|scope| match (group, plural) {
        ("", "pods") => selects_pod(&scope, object),
        ("", "persistentvolumeclaims") => selects_claim(&scope, object),
        // Scopes are about nothing else.
        _ => false,
    })
}

fn selects_pod(scope: &Value, pod: &Value) -> bool {
    let spec = &pod["spec"];
    let ends_by_itself = spec["activeDeadlineSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds >= 0);
    let is_best_effort = || qos_class(pod) == "BestEffort";
    match scope["scopeName"].as_str() {
        Some("Terminating") => ends_by_itself,
        Some("NotTerminating") => !ends_by_itself,
        Some("BestEffort") => is_best_effort(),
        Some("NotBestEffort") => !is_best_effort(),
        Some("PriorityClass") => {
            let class = spec["priorityClassName"].as_str().filter(|name| !name.is_empty());
            fits(scope, &class.into_iter().collect())
        }
        Some("CrossNamespacePodAffinity") => looks_into_other_namespaces(&spec["affinity"]),
        _ => false,
    }
}

fn selects_claim(scope: &Value, claim: &Value) -> bool {
    if scope["scopeName"] != "VolumeAttributesClass" {
        return false;
    }
    let status = &claim["status"];
    let names = [
        &claim["spec"]["volumeAttributesClassName"],
        &status["currentVolumeAttributesClassName"],
        &status["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ];
    let names = names.into_iter().filter_map(Value::as_str);
    fits(scope, &names.filter(|name| !name.is_empty()).collect())
}

/// Whether one of the names that an object has fits a scope's operator and values.
fn fits(scope: &Value, names: &BTreeSet<&str>) -> bool {
    let values: Vec<&str> = scope["values"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match scope["operator"].as_str() {
        Some("In") => names.iter().any(|name| values.contains(name)),
        Some("NotIn") => names.is_empty() || names.iter().any(|name| !values.contains(name)),
        Some("DoesNotExist") => names.is_empty(),
        _ => !names.is_empty(),
    }
}

fn looks_into_other_namespaces(affinity: &Value) -> bool {
    let looks = |term: &Value| {
        let named = term["namespaces"].as_array().is_some_and(|names| !names.is_empty());
        named || !term["namespaceSelector"].is_null()
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    ["podAffinity", "podAntiAffinity"].iter().any(|side| {
        let side = &affinity[*side];
        let required = list(&side["requiredDuringSchedulingIgnoredDuringExecution"]);
        let preferred = list(&side["preferredDuringSchedulingIgnoredDuringExecution"]);
        required.iter().any(looks) || preferred.iter().any(|term| looks(&term["podAffinityTerm"]))
    })
}
