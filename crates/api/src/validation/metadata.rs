//! What valid metadata are, for objects of every kind.

use super::names;
use super::place::{Errors, Place};
use crate::error::FieldError;
use crate::kinds::Kind;
use serde_json::Value;

/// Longest total of an object's annotations: 256 KiB.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Longest name of a StatefulSet whose pods can exist: the label `controller-revision-hash` of a pod is the set's
/// name, a dash and up to ten characters, and no label's value is longer than 63 (contract A1.10).
const STATEFULSET_NAME_LENGTH_MAX: usize = 52;

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// What is wrong with the metadata of a new object.
pub(super) fn create(kind: &Kind, object: &Place<'_>, errors: &mut Errors) {
    let metadata = object.at("metadata");
    name(kind, &metadata, errors);
    namespace(kind, &metadata, errors);
    content(&metadata, finalizer_names(kind), errors);
}

fn name(kind: &Kind, metadata: &Place<'_>, errors: &mut Errors) {
    let generated = metadata.at("generateName");
    if !generated.text().is_empty() {
        // A dash may end it, for more will follow.
        let stem = generated
            .text()
            .strip_suffix('-')
            .map_or_else(|| generated.text().to_owned(), |s| format!("{s}a"));
        for why in name_errors(kind, &stem) {
            errors.push(generated.invalid(why));
        }
    }
    let name = metadata.at("name");
    if name.text().is_empty() {
        errors.push(FieldError::required(&name.path, "name or generateName is required"));
        return;
    }
    name.must_have_form(|text| name_errors(kind, text), errors);
    if kind.group == "apps" && kind.kind == "StatefulSet" && name.text().len() > STATEFULSET_NAME_LENGTH_MAX {
        errors.push(name.invalid(format!(
            "must be no more than {STATEFULSET_NAME_LENGTH_MAX} characters: each pod carries the label \
             controller-revision-hash with the value NAME-HASH, which ends at {} characters, so no pod of this \
             StatefulSet could be created",
            names::LABEL_LENGTH_MAX
        )));
    }
}

/// The form of names differs by kind.
fn name_errors(kind: &Kind, text: &str) -> Vec<String> {
    match (kind.group, kind.kind) {
        ("", "Namespace") | ("apps", "StatefulSet") => names::label_errors(text),
        ("", "Service") => names::label_1035_errors(text),
        ("rbac.authorization.k8s.io", _) | ("certificates.k8s.io", _) | ("apiregistration.k8s.io", _) => {
            names::path_segment_errors(text)
        }
        ("networking.k8s.io", "IPAddress") => super::addresses::name_errors(text),
        ("batch", "CronJob") if text.len() > 52 => vec!["must be no more than 52 characters".to_owned()],
        _ => names::subdomain_errors(text),
    }
}

fn namespace(kind: &Kind, metadata: &Place<'_>, errors: &mut Errors) {
    let namespace = metadata.at("namespace");
    match (kind.namespaced, namespace.text().is_empty()) {
        (true, true) => errors.push(namespace.required("")),
        (true, false) => namespace.must_have_form(names::label_errors, errors),
        (false, false) => errors.push(namespace.forbidden("not allowed on this type")),
        (false, true) => {}
    }
}

/// Which finalizers without a domain an object may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FinalizerNames {
    /// Those that Kubernetes itself has.
    Standard,
    /// Any: upstream's server of custom resources, a program of its own in principle, knows no standard ones.
    Any,
}

/// The finalizers that objects of a kind may have.
pub(super) fn finalizer_names(kind: &Kind) -> FinalizerNames {
    if kind.custom.is_some() || kind.group == "apiextensions.k8s.io" {
        FinalizerNames::Any
    } else {
        FinalizerNames::Standard
    }
}

/// Labels, annotations, owners, finalizers.
fn content(metadata: &Place<'_>, names: FinalizerNames, errors: &mut Errors) {
    metadata.at("generation").must_not_be_negative(errors);
    labels(&metadata.at("labels"), errors);
    annotations(&metadata.at("annotations"), errors);
    owners(&metadata.at("ownerReferences"), errors);
    finalizers(&metadata.at("finalizers"), names, errors);
}

/// What is wrong with a map of labels. Upstream names the map, not the entry.
pub(super) fn labels(labels: &Place<'_>, errors: &mut Errors) {
    for (key, entry) in labels.entries() {
        for why in names::qualified_name_errors(key) {
            errors.push(FieldError::invalid(&labels.path, key, why));
        }
        for why in names::label_value_errors(entry.text()) {
            errors.push(FieldError::invalid(&labels.path, entry.value.clone(), why));
        }
    }
}

/// What is wrong with a map of annotations.
pub(super) fn annotations(annotations: &Place<'_>, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, entry) in annotations.entries() {
        for why in names::qualified_name_errors(&key.to_lowercase()) {
            errors.push(FieldError::invalid(&annotations.path, key, why));
        }
        bytes += key.len() + entry.text().len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long(&annotations.path, ANNOTATIONS_BYTES_MAX));
    }
}

fn owners(owners: &Place<'_>, errors: &mut Errors) {
    let mut controller: Option<(&str, &str)> = None;
    for owner in owners.items() {
        // Upstream gives these errors the path without the index.
        let owner = Place::new(owner.value, &*owners.path);
        if owner
            .at("apiVersion")
            .text()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .is_empty()
        {
            errors.push(FieldError::invalid(
                format!("{}.apiVersion", owners.path),
                owner.at("apiVersion").text(),
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            if owner.at(field).text().is_empty() {
                errors.push(FieldError::invalid(
                    format!("{}.{field}", owners.path),
                    "",
                    "must not be empty",
                ));
            }
        }
        let (kind, name) = (owner.at("kind").text(), owner.at("name").text());
        if kind == "Event" && owner.at("apiVersion").text() == "v1" {
            errors.push(owner.invalid("/v1, Kind=Event is disallowed from being an owner"));
        }
        if !owner.at("controller").is_true() {
            continue;
        }
        match controller {
            None => controller = Some((kind, name)),
            Some((first_kind, first_name)) => errors.push(owners.invalid(format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for \
                 {first_kind}/{first_name} and {kind}/{name}"
            ))),
        }
    }
}

fn finalizers(finalizers: &Place<'_>, names: FinalizerNames, errors: &mut Errors) {
    let named: Vec<&str> = finalizers.items().map(|item| item.text()).collect();
    for name in &named {
        for why in names::qualified_name_errors(name) {
            errors.push(FieldError::invalid(&finalizers.path, *name, why));
        }
        if names == FinalizerNames::Standard && !name.contains('/') && !STANDARD_FINALIZERS.contains(name) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&finalizers.path, *name, why));
        }
    }
    if named.contains(&"orphan") && named.contains(&"foregroundDeletion") {
        errors.push(finalizers.invalid("finalizer orphan and foregroundDeletion cannot be both set"));
    }
}

/// What is wrong with replacing one object's metadata by another's.
pub(super) fn update(new: &Place<'_>, old: &Place<'_>, names: FinalizerNames, errors: &mut Errors) {
    let (new, old) = (new.at("metadata"), old.at("metadata"));
    content(&new, names, errors);
    if old.at("deletionTimestamp").is_set() {
        no_new_finalizers(&new.at("finalizers"), old.at("finalizers").value, errors);
    }
    if new.at("generation").number().unwrap_or(0) < old.at("generation").number().unwrap_or(0) {
        errors.push(new.at("generation").invalid("must not be decremented"));
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        new.at(field).must_not_change(&old.at(field), errors);
    }
}

fn no_new_finalizers(new: &Place<'_>, old: &Value, errors: &mut Errors) {
    let known = |item: &Value| old.as_array().is_some_and(|old| old.contains(item));
    let mut added: Vec<String> = new
        .items()
        .filter(|item| !known(item.value))
        .map(|item| format!("{:?}", item.text()))
        .collect();
    if !added.is_empty() {
        added.sort();
        errors.push(new.forbidden(format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        )));
    }
}
