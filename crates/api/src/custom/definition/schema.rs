//! What a valid schema is: which keywords may be used where, and which go together.

use super::structure;
use super::{Errors, items, text};
use crate::custom::check;
use crate::custom::decode;
use crate::custom::schema::{Schema, is_type_or_metadata};
use crate::custom::{defaulting, rules};
use crate::error::FieldError;
use serde_json::Value;

/// Keywords that may stand at the root where there is a status subresource.
const AT_ROOT: [&str; 21] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
];
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// Where a schema stands.
#[derive(Clone, Copy)]
struct Context<'a> {
    is_root: bool,
    /// Inside `metadata`, `kind` or `apiVersion` of an object.
    in_metadata: bool,
    /// Why there can be no default, if so.
    no_default: Option<&'a str>,
    depth: usize,
}

/// How deep schemas may lie in one another.
const DEPTH_MAX: usize = 100;

/// What is wrong with the schema of a version.
pub(super) fn validate(props: &Value, has_status: bool, path: &str, errors: &mut Errors) {
    let before = errors.len();
    let keywords = props.as_object().into_iter().flatten();
    let strange = keywords
        .filter(|(name, value)| !AT_ROOT.contains(&name.as_str()) && !value.is_null() && **value != false)
        .find(|(name, _)| name.as_str() != "x-kubernetes-validations" && name.as_str() != "nullable");
    if has_status && strange.is_some() {
        let detail = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            AT_ROOT.join(" ")
        );
        errors.push(FieldError::invalid(path, props.clone(), detail));
    }
    if props["nullable"] == true {
        errors.push(FieldError::forbidden(
            format!("{path}.nullable"),
            "nullable cannot be true at the root",
        ));
    }
    let context = Context {
        is_root: true,
        in_metadata: false,
        no_default: None,
        depth: 0,
    };
    keywords_of(props, path, context, errors);
    structure::validate(props, path, errors);
    if errors.len() > before {
        return;
    }
    let schema = Schema::read(props);
    defaults(&schema, path, errors);
    if errors.len() == before {
        rules::validate(&schema, path, errors);
    }
}

fn keywords_of(props: &Value, path: &str, context: Context<'_>, errors: &mut Errors) {
    let Some(fields) = props.as_object() else { return };
    if context.depth > DEPTH_MAX {
        errors.push(FieldError::forbidden(path, "the schema is too deep"));
        return;
    }
    own_keywords(props, path, context, errors);
    lists_and_maps(props, path, errors);
    rule_texts(&props["x-kubernetes-validations"], path, errors);
    let inner = Context {
        is_root: false,
        depth: context.depth + 1,
        ..context
    };
    for (name, of) in fields
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let is_meta = (context.is_root || props["x-kubernetes-embedded-resource"] == true) && is_type_or_metadata(name);
        let why = format!("in top-level {name}");
        let inner = Context {
            in_metadata: inner.in_metadata || is_meta,
            no_default: if is_meta && context.is_root {
                Some(&why)
            } else {
                inner.no_default
            },
            ..inner
        };
        keywords_of(of, &format!("{path}.properties[{name}]"), inner, errors);
    }
    let additional = Context {
        no_default: match context.in_metadata {
            true => Some("inside additionalProperties applying to object metadata"),
            false => inner.no_default,
        },
        ..inner
    };
    keywords_of(
        &props["additionalProperties"],
        &format!("{path}.additionalProperties"),
        additional,
        errors,
    );
    keywords_of(&props["items"], &format!("{path}.items"), inner, errors);
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, of) in items(&props[name]).iter().enumerate() {
            keywords_of(of, &format!("{path}.{name}[{index}]"), inner, errors);
        }
    }
    keywords_of(&props["not"], &format!("{path}.not"), inner, errors);
}

fn own_keywords(props: &Value, path: &str, context: Context<'_>, errors: &mut Errors) {
    let is_set = |name: &str| match &props[name] {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    let at = |name: &str| format!("{path}.{name}");
    let of = text(&props["type"]);
    if of == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(at("type"), detail));
    } else if !of.is_empty() && !TYPES.contains(&of) {
        errors.push(FieldError::not_supported(at("type"), of, &TYPES));
    }
    if let Some(why) = context.no_default.filter(|_| is_set("default")) {
        errors.push(FieldError::forbidden(at("default"), format!("must not be set {why}")));
    }
    for name in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        if is_set(name) {
            errors.push(FieldError::forbidden(at(name), format!("{name} is not supported")));
        }
    }
    if props["items"].is_array() {
        let detail = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(at("items"), detail));
    }
    if props["uniqueItems"] == true {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(at("uniqueItems"), detail));
    }
    if is_set("properties") && matches!(props["additionalProperties"], Value::Object(_) | Value::Bool(false)) {
        let detail = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(at("additionalProperties"), detail));
    }
    if context.in_metadata && props["x-kubernetes-embedded-resource"] == true {
        let detail = "must not be used inside of resource meta";
        errors.push(FieldError::forbidden(at("x-kubernetes-embedded-resource"), detail));
    }
    if props["x-kubernetes-preserve-unknown-fields"] == false {
        let field = at("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(field, false, "must be true or undefined"));
    }
}

fn lists_and_maps(props: &Value, path: &str, errors: &mut Errors) {
    let at = |name: &str| format!("{path}.{name}");
    let of = text(&props["type"]);
    for (keyword, wanted, words) in [
        ("x-kubernetes-map-type", "object", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", "array", &["atomic", "set", "map"][..]),
    ] {
        let Some(given) = props[keyword].as_str() else { continue };
        let detail = format!("must be {wanted} if {keyword} is specified");
        match of {
            "" => errors.push(FieldError::required(at("type"), detail)),
            of if of != wanted => errors.push(FieldError::invalid(at("type"), of, detail)),
            _ => {}
        }
        if !words.contains(&given) {
            errors.push(FieldError::not_supported(at(keyword), given, words));
        }
    }
    let (list, keys) = (
        props["x-kubernetes-list-type"].as_str(),
        items(&props["x-kubernetes-list-map-keys"]),
    );
    let needs_map = "must be map if x-kubernetes-list-map-keys is non-empty";
    match list {
        None if !keys.is_empty() => errors.push(FieldError::required(at("x-kubernetes-list-type"), needs_map)),
        Some(other) if other != "map" && !keys.is_empty() => {
            errors.push(FieldError::invalid(at("x-kubernetes-list-type"), other, needs_map));
        }
        Some("map") => map_keys(props, keys, path, errors),
        Some("set") => set_items(&props["items"], path, errors),
        _ => {}
    }
    if let Some(kind @ ("set" | "map")) = list
        && props["items"]["nullable"] == true
    {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(FieldError::forbidden(at("items.nullable"), detail));
    }
}

fn set_items(of: &Value, path: &str, errors: &mut Errors) {
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (keyword, is_wrong) = match text(&of["type"]) {
        "array" => (
            "x-kubernetes-list-type",
            of["x-kubernetes-list-type"]
                .as_str()
                .is_some_and(|kind| kind != "atomic"),
        ),
        "object" => ("x-kubernetes-map-type", of["x-kubernetes-map-type"] != "atomic"),
        _ => return,
    };
    if is_wrong {
        let value = of[keyword].clone();
        errors.push(FieldError::invalid(format!("{path}.items.{keyword}"), value, detail));
    }
}

fn map_keys(props: &Value, keys: &[Value], path: &str, errors: &mut Errors) {
    let at = |name: &str| format!("{path}.{name}");
    let of = &props["items"];
    if keys.is_empty() {
        errors.push(FieldError::required(
            at("x-kubernetes-list-map-keys"),
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    if of.is_null() {
        errors.push(FieldError::required(
            at("items"),
            "must have a schema if x-kubernetes-list-type is map",
        ));
        return;
    }
    if of["type"] != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(at("items.type"), text(&of["type"]), detail));
        return;
    }
    let required = items(&of["required"]);
    for (index, key) in keys.iter().enumerate() {
        let keys_at = at("x-kubernetes-list-map-keys");
        let invalid = |detail: &str| FieldError::invalid(keys_at.clone(), Value::from(keys.to_vec()), detail);
        if keys[..index].contains(key) {
            errors.push(invalid("must not contain duplicate entries"));
        }
        let Some(property) = of["properties"].get(text(key)) else {
            errors.push(invalid("entries must all be names of item properties"));
            continue;
        };
        let property_at = format!("{path}.items.properties[{}]", text(key));
        if matches!(text(&property["type"]), "array" | "object") {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(format!("{property_at}.type"), "object", detail));
        }
        if !required.contains(key) && property["default"].is_null() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                          property";
            errors.push(FieldError::required(format!("{property_at}.default"), detail));
        }
        if property["nullable"] == true {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(format!("{property_at}.nullable"), detail));
        }
    }
}

/// What is wrong with rules before they are looked at as expressions.
fn rule_texts(rules: &Value, path: &str, errors: &mut Errors) {
    for (index, rule) in items(rules).iter().enumerate() {
        let at = |name: &str| format!("{path}.x-kubernetes-validations[{index}].{name}");
        let (expression, message) = (text(&rule["rule"]), text(&rule["message"]));
        let broken = |text: &str| text.trim().contains(['\n', '\r']);
        if expression.trim().is_empty() {
            errors.push(FieldError::required(at("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            let detail = "message must be non-empty if specified";
            errors.push(FieldError::invalid(at("message"), message, detail));
        } else if broken(message) {
            let detail = "message must not contain line breaks";
            errors.push(FieldError::invalid(at("message"), message, detail));
        } else if broken(expression) && message.trim().is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(at("message"), detail));
        }
        if let Some(expression) = rule["messageExpression"].as_str()
            && !expression.is_empty()
            && expression.trim().is_empty()
        {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(at("messageExpression"), detail));
        }
        let reason = text(&rule["reason"]);
        if !reason.is_empty() && !REASONS.contains(&reason) {
            errors.push(FieldError::not_supported(at("reason"), reason, &REASONS));
        }
        let field_path = text(&rule["fieldPath"]);
        if !field_path.is_empty() && (field_path.trim().is_empty() || field_path.contains(['\n', '\r'])) {
            let detail = "fieldPath must be a valid path";
            errors.push(FieldError::invalid(at("fieldPath"), field_path, detail));
        }
    }
}

/// Defaults must be what the schema takes, and have nothing that it does not know.
fn defaults(schema: &Schema, path: &str, errors: &mut Errors) {
    if let Some(default) = &schema.default {
        let at = format!("{path}.default");
        let mut pruned = default.clone();
        let mut unknown = Vec::new();
        decode::prune(schema, &mut pruned, schema.embedded, "", &mut unknown);
        if unknown.is_empty() {
            defaulting::fill(schema, &mut pruned, schema.embedded);
            for error in check::value(schema, &pruned) {
                let field = match error.field.as_str() {
                    "" | "<nil>" => at.clone(),
                    field => format!("{at}.{field}"),
                };
                errors.push(FieldError { field, ..error });
            }
        } else {
            errors.push(FieldError::invalid(at, default.clone(), "must not have unknown fields"));
        }
    }
    for (name, of) in &schema.properties {
        defaults(of, &format!("{path}.properties[{name}]"), errors);
    }
    if let Some(of) = &schema.items {
        defaults(of, &format!("{path}.items"), errors);
    }
    if let Some(crate::custom::schema::Additional::Of(of)) = &schema.additional {
        defaults(of, &format!("{path}.additionalProperties"), errors);
    }
}
