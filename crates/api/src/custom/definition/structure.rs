//! What makes a schema structural: every value has a type that is said in one place, and junctors only restrict.

use super::{Errors, items, text};
use crate::error::FieldError;
use regex::Regex;
use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What keeps a schema from being structural; sorted, as upstream has it.
pub(super) fn validate(props: &Value, path: &str, errors: &mut Errors) {
    let mut found = Errors::new();
    invariants(props, Level::Root, path, &mut found);
    complete(props, path, &mut found);
    found.sort_by_key(ToString::to_string);
    errors.extend(found);
}

fn invariants(props: &Value, level: Level, path: &str, errors: &mut Errors) {
    if !props.is_object() {
        return;
    }
    let at = |name: &str| format!("{path}.{name}");
    let flag = |name: &str| props[name] == true;
    let (of, embedded) = (text(&props["type"]), flag("x-kubernetes-embedded-resource"));
    let (int_or_string, preserve) = (
        flag("x-kubernetes-int-or-string"),
        flag("x-kubernetes-preserve-unknown-fields"),
    );
    if of == "array" && props["items"].is_null() {
        errors.push(FieldError::required(at("items"), "must be specified"));
    }
    invariants(&props["items"], Level::Item, &at("items"), errors);
    for (name, inner) in props["properties"].as_object().into_iter().flatten() {
        invariants(inner, Level::Field, &format!("{path}.properties[{name}]"), errors);
    }
    if !props["additionalProperties"].is_null() {
        if level == Level::Root {
            errors.push(FieldError::forbidden(
                at("additionalProperties"),
                "must not be used at the root",
            ));
        }
        if embedded {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(FieldError::forbidden(at("additionalProperties"), detail));
        }
        let inner = &props["additionalProperties"];
        invariants(inner, Level::Field, &at("additionalProperties"), errors);
    }
    for (name, is_set) in [
        ("x-kubernetes-preserve-unknown-fields", preserve),
        ("x-kubernetes-embedded-resource", embedded),
    ] {
        if int_or_string && is_set {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(at(name), true, detail));
        }
    }
    let skip_any_of = is_int_or_string(&props["anyOf"]);
    let skip_first = is_int_or_string(&props["allOf"][0]["anyOf"]);
    restrictions(props, skip_any_of, skip_first, path, errors);
    type_is_said(of, level, embedded, int_or_string || preserve, path, errors);
    if embedded && !preserve && props["properties"].as_object().is_none_or(serde_json::Map::is_empty) {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(at("properties"), detail));
    }
    if level == Level::Root || embedded {
        object_fields(&props["properties"], level, path, errors);
    }
}

fn type_is_said(of: &str, level: Level, embedded: bool, is_free: bool, path: &str, errors: &mut Errors) {
    let at = format!("{path}.type");
    if embedded && of != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match of {
            "" => FieldError::required(at, detail),
            of => FieldError::invalid(at, of, detail),
        });
    } else if of.is_empty() && !is_free {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(at, detail));
    } else if level == Level::Root && !of.is_empty() && of != "object" {
        errors.push(FieldError::invalid(at, of, "must be object at the root"));
    }
}

/// `apiVersion`, `kind` and `metadata` of an object are what they are everywhere.
fn object_fields(properties: &Value, level: Level, path: &str, errors: &mut Errors) {
    for (name, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(of) = properties.get(name) else { continue };
        if of["type"] != wanted {
            let (at, of) = (format!("{path}.properties[{name}].type"), text(&of["type"]));
            errors.push(FieldError::invalid(at, of, format!("must be {wanted}")));
        }
    }
    if let Some(metadata) = properties.get("metadata").filter(|_| level == Level::Root) {
        let may_restrict = |name: &String| name == "name" || name == "generateName";
        let properties = metadata["properties"].as_object();
        let is_plain = metadata.as_object().is_some_and(|fields| {
            fields
                .keys()
                .all(|name| matches!(name.as_str(), "type" | "properties" | "description"))
        });
        if !is_plain || properties.is_some_and(|properties| !properties.keys().all(may_restrict)) {
            let detail = "must not specify anything other than name and generateName, but metadata is implicitly \
                          specified";
            errors.push(FieldError::forbidden(format!("{path}.properties[metadata]"), detail));
        }
    }
}

fn is_int_or_string(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

/// The junctors of a schema.
fn restrictions(props: &Value, skip_any_of: bool, skip_first: bool, path: &str, errors: &mut Errors) {
    for name in ["anyOf", "allOf", "oneOf"] {
        if name == "anyOf" && skip_any_of {
            continue;
        }
        for (index, inner) in items(&props[name]).iter().enumerate() {
            let skip = name == "allOf" && index == 0 && skip_first;
            restriction(inner, skip, &format!("{path}.{name}[{index}]"), errors);
        }
    }
    restriction(&props["not"], false, &format!("{path}.not"), errors);
    let pattern = text(&props["pattern"]);
    if let Err(error) = Regex::new(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(format!("{path}.pattern"), pattern, detail));
    }
}

/// A schema under a junctor may say nothing of its own.
fn restriction(props: &Value, skip_any_of: bool, path: &str, errors: &mut Errors) {
    if !props.is_object() {
        return;
    }
    restrictions(props, skip_any_of, false, path, errors);
    restriction(&props["items"], false, &format!("{path}.items"), errors);
    for (name, inner) in props["properties"].as_object().into_iter().flatten() {
        restriction(inner, false, &format!("{path}.properties[{name}]"), errors);
    }
    for (name, detail) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("externalDocs", "must be undefined to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        let is_set =
            !matches!(&props[name], Value::Null | Value::Bool(false)) && props[name] != "" && props[name] != json!([]);
        if is_set {
            errors.push(FieldError::forbidden(format!("{path}.{name}"), detail));
        }
    }
    if props["properties"].get("metadata").is_some() {
        let detail = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(format!("{path}.properties[metadata]"), detail));
    }
}

/// What a junctor speaks of must be specified outside of it.
fn complete(props: &Value, path: &str, errors: &mut Errors) {
    junctors(props, props, path, path, errors);
    for (name, inner) in props["properties"].as_object().into_iter().flatten() {
        complete(inner, &format!("{path}.properties[{name}]"), errors);
    }
    for name in ["items", "additionalProperties"] {
        if props[name].is_object() {
            complete(&props[name], &format!("{path}.{name}"), errors);
        }
    }
}

/// `at` is where the junctors stand, `path` where what they speak of must stand.
fn junctors(inner: &Value, outer: &Value, at: &str, path: &str, errors: &mut Errors) {
    for name in ["anyOf", "allOf", "oneOf"] {
        for (index, inner) in items(&inner[name]).iter().enumerate() {
            specified(inner, outer, &format!("{at}.{name}[{index}]"), path, errors);
        }
    }
    specified(&inner["not"], outer, &format!("{at}.not"), path, errors);
}

fn specified(inner: &Value, outer: &Value, at: &str, path: &str, errors: &mut Errors) {
    if !inner.is_object() {
        return;
    }
    let properties = inner["properties"].as_object().into_iter().flatten();
    let named = properties.map(|(name, of)| (format!("properties[{name}]"), of, &outer["properties"][name.as_str()]));
    let of_items = inner["items"]
        .is_object()
        .then(|| ("items".to_owned(), &inner["items"], &outer["items"]));
    for (step, inner, outer) in named.chain(of_items) {
        let (at, path) = (format!("{at}.{step}"), format!("{path}.{step}"));
        if outer.is_object() {
            specified(inner, outer, &at, &path, errors);
        } else {
            errors.push(FieldError::required(path, format!("because it is defined in {at}")));
        }
    }
    junctors(inner, outer, at, path, errors);
}
