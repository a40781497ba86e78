//! PodSecurity: pods comply with the level of the Pod Security Standards that their namespace's labels ask for.

use super::{Operation, Review, kind};
use crate::status::Outcome;
use crate::stored::Stored;
use api::error::Status;
use api::pod_security::{self, Bound, Level, Policy};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How many pods of a namespace are looked at when its policy becomes stricter; upstream's figure.
const PODS_MAX: usize = 3000;

/// Subresources of pods that change nothing which the standards are about.
const HARMLESS: &[&str] = &["binding", "eviction", "status"];

pub(super) async fn validate(review: &mut Review<'_>, object: &Value) -> Outcome<()> {
    let of = &review.call.kind;
    if review.operation == Operation::Delete {
        return Ok(());
    }
    if review.is("", "Namespace", &[Operation::Create, Operation::Update]) {
        return namespace(review, object).await;
    }
    let is_pod = of.group.is_empty() && of.kind == "Pod";
    let subresource = review.call.subresource.as_str();
    if (is_pod && HARMLESS.contains(&subresource)) || (!is_pod && !subresource.is_empty()) {
        return Ok(());
    }
    let Some((metadata, spec)) = pod_security::pod_of(of.group, of.kind, object) else {
        return Ok(());
    };
    if is_pod && review.old.is_some_and(|old| !pod_security::is_significant(object, old)) {
        return Ok(());
    }
    let namespace = review.server.read(kind("", "namespaces"), "", &review.call.namespace);
    let labels = namespace
        .await?
        .map(|kv| Stored::from(&kv).labels())
        .unwrap_or_default();
    let (policy, _) = Policy::of(&labels);
    if is_pod {
        let bound = policy.enforce;
        let found = pod_security::violations(bound, metadata, spec);
        if !found.is_empty() {
            let details = pod_security::details(&found);
            let why = format!("violates PodSecurity \"{bound}\": {details}");
            return Err(review.forbidden(object, &why));
        }
    }
    let bound = policy.warn;
    let found = pod_security::violations(bound, metadata, spec);
    if !found.is_empty() {
        let details = pod_security::details(&found);
        let warning = format!("would violate PodSecurity \"{bound}\": {details}");
        review.warnings.push(warning);
    }
    Ok(())
}

/// The labels must be readable; whoever makes them stricter learns which pods would not be let in again.
async fn namespace(review: &mut Review<'_>, object: &Value) -> Outcome<()> {
    let (policy, errors) = Policy::of(&object["metadata"]["labels"]);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let old = review.old.map(|old| Policy::of(&old["metadata"]["labels"]));
    let (old_policy, old_errors) = old.unwrap_or((policy, Vec::new()));
    if !errors.is_empty() && errors != old_errors {
        return Err(Box::new(Status::invalid(&review.call.kind, name, &errors)));
    }
    let (new, old) = (policy.enforce, old_policy.enforce);
    let is_relaxed = new.version == old.version && new.level <= old.level;
    if new != old && new.level != Level::Privileged && !is_relaxed {
        let warnings = existing_pods(review, name, new).await?;
        review.warnings.extend(warnings);
    }
    Ok(())
}

/// Warnings of the pods that do not comply with a namespace's new policy.
async fn existing_pods(review: &Review<'_>, namespace: &str, bound: Bound) -> Outcome<Vec<String>> {
    let pods = kind("", "pods");
    let found = review.server.read_namespace(pods, namespace).await?;
    let found: Vec<Value> = found
        .iter()
        .map(|kv| Stored::from(kv).object(pods))
        .collect::<Outcome<_>>()?;
    let mut by_reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for pod in prioritized(&found).into_iter().take(PODS_MAX) {
        let violations = pod_security::violations(bound, &pod["metadata"], &pod["spec"]);
        if !violations.is_empty() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            by_reasons
                .entry(pod_security::reasons(&violations))
                .or_default()
                .push(name);
        }
    }
    let mut warnings = Vec::new();
    if found.len() > PODS_MAX {
        let all = found.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {all} existing pods"
        ));
    }
    if !by_reasons.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{bound}\""
        ));
    }
    let mut of_pods: Vec<String> = by_reasons.iter().map(|(reasons, names)| told(reasons, names)).collect();
    of_pods.sort_unstable();
    warnings.extend(of_pods);
    Ok(warnings)
}

/// The first of the pods that share their reasons, and how many more there are.
fn told(reasons: &str, names: &[&str]) -> String {
    let first = names.iter().min().copied().unwrap_or_default();
    match names.len() {
        0 | 1 => format!("{first}: {reasons}"),
        2 => format!("{first} (and 1 other pod): {reasons}"),
        count => format!("{first} (and {} other pods): {reasons}", count - 1),
    }
}

/// Pods of their own first, with one of each controller's; its others look the same.
fn prioritized(pods: &[Value]) -> Vec<&Value> {
    let mut seen = BTreeSet::new();
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for pod in pods {
        let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let mut controllers = owners.filter(|owner| owner["controller"] == true);
        let is_new = controllers
            .next()
            .is_none_or(|owner| seen.insert(owner["uid"].as_str().unwrap_or_default()));
        if is_new { first.push(pod) } else { others.push(pod) }
    }
    first.append(&mut others);
    first
}
