//! What a container's valid environment is.

use super::Volumes;
use crate::error::FieldError;
use crate::validation::names;
use crate::validation::place::{Errors, Place};

/// The fields of a pod that a container may see.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The resources of a container that it may see.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const SOURCES: [&str; 5] = [
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

pub(super) fn validate(container: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    for variable in container.at("env").items() {
        variable.at("name").must_be_named(names::env_name_errors, errors);
        if variable.at("valueFrom").is_set() {
            value_from(&variable, volumes, errors);
        }
    }
    for source in container.at("envFrom").items() {
        let prefix = source.at("prefix");
        if !prefix.text().is_empty() {
            prefix.must_have_form(names::env_name_errors, errors);
        }
        let given: Vec<&str> = ["configMapRef", "secretRef"]
            .into_iter()
            .filter(|field| source.at(field).is_set())
            .collect();
        match given.as_slice() {
            [] => {
                let why = "must specify one of: `configMapRef` or `secretRef`";
                errors.push(FieldError::invalid(&source.path, "", why));
            }
            [one] => named(&source.at(one), errors),
            _ => {
                let why = "may not have more than one field specified at a time";
                errors.push(FieldError::invalid(&source.path, "", why));
            }
        }
    }
}

fn value_from(variable: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let from = variable.at("valueFrom");
    let given: Vec<&str> = SOURCES.into_iter().filter(|field| from.at(field).is_set()).collect();
    for source in &given {
        let source = from.at(source);
        match &source.path[from.path.len() + 1..] {
            "fieldRef" => field(&source, errors),
            "resourceFieldRef" => resource(&source, errors),
            "fileKeyRef" => file(&source, volumes, errors),
            _ => {
                named(&source, errors);
                source.at("key").must_be_named(names::config_key_errors, errors);
            }
        }
    }
    if given.is_empty() {
        let why =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(FieldError::invalid(&from.path, "", why));
    } else if !variable.at("value").text().is_empty() {
        errors.push(FieldError::invalid(
            &from.path,
            "",
            "may not be specified when `value` is not empty",
        ));
    } else if given.len() > 1 {
        let why = "may not have more than one field specified at a time";
        errors.push(FieldError::invalid(&from.path, "", why));
    }
}

/// A key in a file of an empty directory, which a container before this one may write.
fn file(source: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let (volume, path) = (source.at("volumeName"), source.at("path"));
    volume.must_be_named(names::label_errors, errors);
    match volumes.get(volume.text()) {
        _ if volume.text().is_empty() => {}
        None => errors.push(FieldError::not_found(&volume.path, volume.text())),
        Some(&"emptyDir") => {}
        Some(_) => errors.push(volume.invalid("referenced volume must be of type emptyDir")),
    }
    if path.text().is_empty() {
        errors.push(path.required(""));
    } else {
        super::volumes::relative_path(&path, errors);
    }
    source.at("key").must_be_named(names::env_name_errors, errors);
}

fn named(source: &Place<'_>, errors: &mut Errors) {
    source.at("name").must_be_named(names::subdomain_errors, errors);
}

fn field(source: &Place<'_>, errors: &mut Errors) {
    if source.at("apiVersion").text().is_empty() {
        errors.push(source.at("apiVersion").required(""));
    }
    let path = source.at("fieldPath");
    if path.text().is_empty() {
        errors.push(path.required(""));
    } else if !entry(&path, errors) && !FIELDS.contains(&path.text()) {
        errors.push(path.not_supported(&FIELDS));
    }
}

/// Whether the path names one label or annotation, e.g. `metadata.labels['app']`; says what is wrong with its key.
fn entry(path: &Place<'_>, errors: &mut Errors) -> bool {
    for (map, is_annotation) in [("metadata.annotations", true), ("metadata.labels", false)] {
        let Some(key) = path.text().strip_prefix(map).and_then(|rest| rest.strip_prefix("['")) else {
            continue;
        };
        let Some(key) = key.strip_suffix("']") else { continue };
        let key = if is_annotation {
            key.to_lowercase()
        } else {
            key.to_owned()
        };
        for why in names::qualified_name_errors(&key) {
            errors.push(path.invalid(why));
        }
        return true;
    }
    false
}

/// A reference to a field of the pod from a volume's file, where whole maps are allowed as well.
pub(super) fn field_of_file(source: &Place<'_>, errors: &mut Errors) {
    const FILE_FIELDS: [&str; 5] = [
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
    ];
    let path = source.at("fieldPath");
    if path.text().is_empty() {
        errors.push(path.required(""));
    } else if !entry(&path, errors) && !FILE_FIELDS.contains(&path.text()) {
        errors.push(path.not_supported(&FILE_FIELDS));
    }
}

/// A reference to a resource of a container; of its own, unless it names another.
pub(super) fn resource(source: &Place<'_>, errors: &mut Errors) {
    let resource = source.at("resource");
    if resource.text().is_empty() {
        errors.push(resource.required(""));
    } else if !RESOURCES.contains(&resource.text()) && !resource.text().contains(".hugepages-") {
        errors.push(resource.not_supported(&RESOURCES));
    }
    let divisor = source.at("divisor");
    let allowed: &[&str] = match resource.text().rsplit('.').next() {
        Some("cpu") => &["0", "1", "1m"],
        _ => &[
            "0", "1", "1E", "1Ei", "1G", "1Gi", "1Ki", "1M", "1Mi", "1P", "1Pi", "1T", "1Ti", "1k",
        ],
    };
    if divisor.is_set() && !allowed.contains(&divisor.text()) {
        let why = if resource.text().ends_with("cpu") {
            "only divisor's values 1m and 1 are supported with the cpu resource"
        } else {
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the \
             memory resource"
        };
        errors.push(FieldError::invalid(
            format!("{}.divisor", source.path),
            divisor.value.clone(),
            why,
        ));
    }
}
