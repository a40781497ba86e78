//! What a valid CustomResourceDefinition is.
//!
//! Upstream keeps what all versions have in common in one place, so errors of a schema that all versions share name
//! `spec.validation`, not the version; likewise for subresources, columns and selectable fields.

mod schema;
mod structure;

use super::establish::{approval, is_protected};
use super::jsonpath::Path;
use super::schema::{Schema, Type};
use crate::error::FieldError;
use crate::validation::names;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// How many fields a version can be selected by.
const SELECTABLE_MAX: usize = 8;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
    "uuid",
];

type Errors = Vec<FieldError>;

/// Fills in what follows from the rest.
pub(crate) fn fill_defaults(definition: &mut Value) {
    let spec = &mut definition["spec"];
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    let names = &mut spec["names"];
    let is_empty = |value: &Value| value.as_str().unwrap_or_default().is_empty();
    if is_empty(&names["singular"]) {
        names["singular"] = json!(kind.to_lowercase());
    }
    if is_empty(&names["listKind"]) && !kind.is_empty() {
        names["listKind"] = json!(format!("{kind}List"));
    }
    if !spec["conversion"].is_object() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    let service = &mut spec["conversion"]["webhook"]["clientConfig"]["service"];
    if service.is_object() && service["port"].is_null() {
        service["port"] = json!(443);
    }
    // Looking for the service has made what was not there.
    if let Some(conversion) = spec["conversion"].as_object_mut()
        && conversion
            .get("webhook")
            .is_some_and(|webhook| webhook["clientConfig"]["service"].is_null())
    {
        match conversion.get_mut("webhook") {
            Some(webhook)
                if webhook["clientConfig"]
                    .as_object()
                    .is_some_and(|config| config.len() > 1) =>
            {
                webhook["clientConfig"]
                    .as_object_mut()
                    .map(|config| config.remove("service"));
            }
            _ => drop(conversion.remove("webhook")),
        }
    }
}

/// Notes the version in which objects are stored from now on.
pub(crate) fn note_storage(definition: &mut Value) {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let stored = versions.into_iter().find(|version| version["storage"] == true);
    let Some(name) = stored.map(|version| version["name"].clone()) else {
        return;
    };
    let list = &mut definition["status"]["storedVersions"];
    if !list.is_array() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut()
        && !list.contains(&name)
    {
        list.push(name);
    }
}

/// What is wrong with a definition; `old` is what it was.
pub(crate) fn validate(definition: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let spec = &definition["spec"];
    if old.is_none() {
        name(definition, &mut errors);
    }
    group(definition, old, &mut errors);
    match text(&spec["scope"]) {
        "" => errors.push(FieldError::required("spec.scope", "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported(
            "spec.scope",
            other,
            &["Cluster", "Namespaced"],
        )),
    }
    if spec["preserveUnknownFields"] == true && old.is_none_or(|old| old["spec"]["preserveUnknownFields"] != true) {
        errors.push(FieldError::invalid("spec.preserveUnknownFields", true, "must be false"));
    }
    versions(spec, &mut errors);
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(&spec["names"][field]).is_empty() {
            errors.push(FieldError::required(format!("spec.names.{field}"), ""));
        }
    }
    resource_names(&spec["names"], "spec.names", &mut errors);
    conversion(&spec["conversion"], &mut errors);
    if let Some(old) = old {
        update(definition, old, &mut errors);
    }
    errors
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn name(definition: &Value, errors: &mut Errors) {
    let (name, spec) = (text(&definition["metadata"]["name"]), &definition["spec"]);
    let wanted = format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"]));
    if name != wanted && !name.is_empty() {
        errors.push(FieldError::invalid(
            "metadata.name",
            name,
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
}

fn group(definition: &Value, old: Option<&Value>, errors: &mut Errors) {
    let group = text(&definition["spec"]["group"]);
    let wrong = names::subdomain_errors(group);
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if !wrong.is_empty() {
        errors.push(FieldError::invalid("spec.group", group, wrong.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(
            "spec.group",
            group,
            "should be a domain with at least one dot",
        ));
    }
    // What was there before this was asked for is let be.
    if !is_protected(group) || old.is_some_and(|old| text(approval(old)).is_empty()) {
        return;
    }
    let field = "metadata.annotations[api-approved.kubernetes.io]";
    match text(approval(definition)) {
        "" => errors.push(FieldError::required(
            field,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
             https://github.com/kubernetes/enhancements/pull/1111",
        )),
        link if link.starts_with("http") || link.starts_with("unapproved") => {}
        other => errors.push(FieldError::invalid(
            field,
            other,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a \
             reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
        )),
    }
}

/// Where errors about a part of a version stand.
fn place(versions: &[Value], index: usize, part: &str, common: &str) -> String {
    let of_first = versions.first().map(|version| &version[part]);
    let is_common = versions.iter().all(|version| Some(&version[part]) == of_first);
    if is_common {
        format!("spec.{common}")
    } else {
        format!("spec.versions[{index}].{part}")
    }
}

fn versions(spec: &Value, errors: &mut Errors) {
    let versions = items(&spec["versions"]);
    let mut seen = BTreeSet::new();
    let mut told = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let name = text(&version["name"]);
        seen.insert(name);
        let wrong = names::label_1035_errors(name);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(
                format!("spec.versions[{index}].name"),
                name,
                wrong.join(","),
            ));
        }
        let warning = text(&version["deprecationWarning"]);
        if !warning.is_empty() && version["deprecated"] != true {
            errors.push(FieldError::invalid(
                format!("spec.versions[{index}].deprecationWarning"),
                warning,
                "can only be set for deprecated versions",
            ));
        }
        let mut once = |part: &str, common: &str, check: &mut dyn FnMut(&str, &mut Errors)| {
            let place = place(versions, index, part, common);
            if told.insert(place.clone()) {
                check(&place, errors);
            }
        };
        once("schema", "validation", &mut |place, errors| {
            let has_status = version["subresources"]["status"].is_object();
            version_schema(version, index, has_status, place, errors);
        });
        once("subresources", "subresources", &mut |place, errors| {
            scale(&version["subresources"]["scale"], place, errors);
        });
        once(
            "additionalPrinterColumns",
            "additionalPrinterColumns",
            &mut |place, errors| {
                columns(&version["additionalPrinterColumns"], place, errors);
            },
        );
        once("selectableFields", "selectableFields", &mut |place, errors| {
            selectable(version, place, errors);
        });
    }
    if seen.len() < versions.len() {
        let detail = "must contain unique version names";
        errors.push(FieldError::invalid("spec.versions", spec["versions"].clone(), detail));
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", spec["versions"].clone(), detail));
    }
}

fn version_schema(version: &Value, index: usize, has_status: bool, place: &str, errors: &mut Errors) {
    let props = &version["schema"]["openAPIV3Schema"];
    if !props.is_object() {
        errors.push(FieldError::required(
            format!("spec.versions[{index}].schema.openAPIV3Schema"),
            "schemas are required",
        ));
        return;
    }
    schema::validate(props, has_status, &format!("{place}.openAPIV3Schema"), errors);
}

/// What is wrong with the names of a resource.
pub(crate) fn resource_names(names_given: &Value, path: &str, errors: &mut Errors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = text(&names_given[field]);
        let is_kind = matches!(field, "kind" | "listKind");
        let wrong = names::label_1035_errors(&if is_kind { name.to_lowercase() } else { name.to_owned() });
        if !name.is_empty() && !wrong.is_empty() {
            let mixed = if is_kind {
                "may have mixed case, but should otherwise match: "
            } else {
                ""
            };
            let detail = format!("{mixed}{}", wrong.join(","));
            errors.push(FieldError::invalid(format!("{path}.{field}"), name, detail));
        }
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in items(&names_given[field]).iter().enumerate() {
            let wrong = names::label_1035_errors(text(name));
            if !wrong.is_empty() {
                errors.push(FieldError::invalid(
                    format!("{path}.{field}[{index}]"),
                    name.clone(),
                    wrong.join(","),
                ));
            }
        }
    }
    let kind = text(&names_given["kind"]);
    if !kind.is_empty() && names_given["kind"] == names_given["listKind"] {
        errors.push(FieldError::invalid(
            format!("{path}.listKind"),
            kind,
            "kind and listKind may not be the same",
        ));
    }
}

fn conversion(conversion: &Value, errors: &mut Errors) {
    let path = "spec.conversion";
    let (client, reviews) = (
        &conversion["webhook"]["clientConfig"],
        items(&conversion["webhook"]["conversionReviewVersions"]),
    );
    match text(&conversion["strategy"]) {
        "" => errors.push(FieldError::required(format!("{path}.strategy"), "")),
        "None" => {
            let detail = "should not be set when strategy is not set to Webhook";
            if client.is_object() {
                errors.push(FieldError::forbidden(format!("{path}.webhookClientConfig"), detail));
            }
            if !reviews.is_empty() {
                errors.push(FieldError::forbidden(
                    format!("{path}.conversionReviewVersions"),
                    detail,
                ));
            }
        }
        "Webhook" => {
            let field = format!("{path}.webhookClientConfig");
            if !client.is_object() {
                errors.push(FieldError::required(field, "required when strategy is set to Webhook"));
            } else if client["url"].is_string() == client["service"].is_object() {
                errors.push(FieldError::required(field, "exactly one of url or service is required"));
            }
            if reviews.is_empty() {
                errors.push(FieldError::required(format!("{path}.conversionReviewVersions"), ""));
            } else if !reviews.iter().any(|version| version == "v1" || version == "v1beta1") {
                errors.push(FieldError::invalid(
                    format!("{path}.conversionReviewVersions"),
                    json!(reviews),
                    "must include at least one of v1, v1beta1",
                ));
            }
        }
        other => errors.push(FieldError::not_supported(
            format!("{path}.strategy"),
            other,
            &["None", "Webhook"],
        )),
    }
}

fn simple_path(path: &str, field: &str, errors: &mut Errors) -> bool {
    let wrong = if path.is_empty() {
        "must not be empty"
    } else if !path.starts_with('.') {
        "must be a simple json path starting with ."
    } else {
        return true;
    };
    errors.push(FieldError::invalid(field, path, wrong));
    false
}

fn scale(scale: &Value, place: &str, errors: &mut Errors) {
    if !scale.is_object() {
        return;
    }
    for (name, root) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")] {
        let (path, field) = (text(&scale[name]), format!("{place}.scale.{name}"));
        if path.is_empty() {
            errors.push(FieldError::required(field, ""));
        } else if simple_path(path, &field, errors) && !path.starts_with(&format!("{root}.")) {
            let detail = format!("should be a json path under {root}");
            errors.push(FieldError::invalid(field, path, detail));
        } else if name == "specReplicasPath" && Path::parse(path).is_none_or(|path| path.names().is_none()) {
            errors.push(FieldError::invalid(field, path, "should be a path of names"));
        }
    }
    let (path, field) = (
        text(&scale["labelSelectorPath"]),
        format!("{place}.scale.labelSelectorPath"),
    );
    if !path.is_empty()
        && simple_path(path, &field, errors)
        && !path.starts_with(".spec.")
        && !path.starts_with(".status.")
    {
        let detail = "should be a json path under either .spec or .status";
        errors.push(FieldError::invalid(field, path, detail));
    }
}

fn columns(columns: &Value, place: &str, errors: &mut Errors) {
    for (index, column) in items(columns).iter().enumerate() {
        let field = |name: &str| format!("{place}[{index}].{name}");
        if text(&column["name"]).is_empty() {
            errors.push(FieldError::required(field("name"), ""));
        }
        let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
        match text(&column["type"]) {
            "" => errors.push(FieldError::required(field("type"), detail)),
            of if !COLUMN_TYPES.contains(&of) => errors.push(FieldError::invalid(field("type"), of, detail)),
            _ => {}
        }
        let format = text(&column["format"]);
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(field("format"), format, detail));
        }
        let path = text(&column["jsonPath"]);
        if path.is_empty() {
            errors.push(FieldError::required(field("JSONPath"), ""));
        } else if simple_path(path, &field("JSONPath"), errors) && Path::parse(path).is_none() {
            errors.push(FieldError::invalid(
                field("JSONPath"),
                path,
                "must be a valid json path",
            ));
        }
    }
}

fn selectable(version: &Value, place: &str, errors: &mut Errors) {
    let fields = items(&version["selectableFields"]);
    if fields.is_empty() {
        return;
    }
    let schema = Schema::read(&version["schema"]["openAPIV3Schema"]);
    let mut seen = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let (path, at) = (text(&field["jsonPath"]), format!("{place}[{index}].jsonPath"));
        if path.is_empty() {
            errors.push(FieldError::required(at, ""));
            continue;
        }
        let names = Path::parse(path).filter(|_| path.starts_with('.'));
        let names = names.as_ref().and_then(Path::names).unwrap_or_default();
        let found = names
            .iter()
            .try_fold(&schema, |schema, name| schema.properties.get(*name));
        let Some(found) = found.filter(|_| !names.is_empty()) else {
            let detail = "is an invalid path: does not refer to a valid field";
            errors.push(FieldError::invalid(at, path, detail));
            continue;
        };
        if names.first() == Some(&"metadata") {
            let detail = "must not point to fields in metadata";
            errors.push(FieldError::invalid(at.clone(), path, detail));
        }
        if !matches!(found.of, Some(Type::String | Type::Boolean | Type::Integer)) {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings \
                          with formats are allowed.";
            errors.push(FieldError::invalid(at.clone(), path, detail));
        }
        if !seen.insert(path) {
            errors.push(FieldError::duplicate(at, path));
        }
    }
    if seen.len() > SELECTABLE_MAX {
        errors.push(FieldError::too_many(place, seen.len(), SELECTABLE_MAX));
    }
}

fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let is_established = super::is_true(old, "Established");
    for (pointer, field, once_established) in [
        ("/spec/scope", "spec.scope", true),
        ("/spec/names/kind", "spec.names.kind", true),
        ("/spec/group", "spec.group", false),
        ("/spec/names/plural", "spec.names.plural", false),
    ] {
        let (now, then) = (new.pointer(pointer), old.pointer(pointer));
        if now != then && (is_established || !once_established) {
            let now = now.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(field, now, "field is immutable"));
        }
    }
    stored_versions(new, errors);
}

/// Versions in which objects may be stored cannot be taken away.
fn stored_versions(definition: &Value, errors: &mut Errors) {
    let names: Vec<&Value> = items(&definition["spec"]["versions"])
        .iter()
        .map(|version| &version["name"])
        .collect();
    for (index, stored) in items(&definition["status"]["storedVersions"]).iter().enumerate() {
        if !names.contains(&stored) {
            let field = format!("status.storedVersions[{index}]");
            errors.push(FieldError::invalid(
                field,
                stored.clone(),
                "must appear in spec.versions",
            ));
        }
    }
}

/// What a definition asks for and does not get.
pub(crate) fn warnings(definition: &Value) -> Vec<String> {
    let converts = definition["spec"]["conversion"]["strategy"] == "Webhook";
    let text = "spec.conversion.strategy: conversion webhooks are not called; every version shows objects as they were \
                written";
    converts.then(|| text.to_owned()).into_iter().collect()
}

/// What is wrong with a status.
pub(crate) fn validate_status(definition: &Value) -> Errors {
    let mut errors = Errors::new();
    resource_names(
        &definition["status"]["acceptedNames"],
        "status.acceptedNames",
        &mut errors,
    );
    errors
}

#[cfg(test)]
mod tests;
