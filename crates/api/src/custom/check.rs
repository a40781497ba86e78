//! What is wrong with a value, in the words of upstream's validator of custom resources.
//!
//! What was wrong before and has not changed is let pass ("ratcheting"): a value that equals its old one is not looked
//! at. Items of a list have an old one only where they are told apart by keys.

use super::formats;
use super::schema::{Checks, ListKind, Schema, is_type_or_metadata, keys_of};
use crate::error::{FieldError, FieldErrorType};
use serde_json::{Map, Value, json};

/// Where upstream has no path to name.
const NOWHERE: &str = "<nil>";

/// What is wrong with an object.
pub(crate) fn object(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    fields(schema, new, old, "", true, &mut errors);
    let lists = |value: &Value| {
        let mut errors = Vec::new();
        unique(schema, value, String::new(), &mut errors);
        errors
    };
    // Doubles that were there before are let pass as a whole.
    if old.is_none_or(|old| lists(old).is_empty()) {
        errors.extend(lists(new));
    }
    errors
}

/// What is wrong with a default.
pub(crate) fn value(schema: &Schema, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(schema, new, None, "", &mut errors);
    unique(schema, new, String::new(), &mut errors);
    errors
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn shown(path: &str) -> String {
    if path.is_empty() {
        NOWHERE.to_owned()
    } else {
        path.to_owned()
    }
}

/// Upstream's words name the place again.
fn words(path: &str, rest: &str) -> String {
    format!("{path} in body {rest}")
}

fn invalid(path: &str, value: &Value, rest: &str) -> FieldError {
    FieldError::invalid(shown(path), value.clone(), words(path, rest))
}

fn type_error(path: &str, wanted: &str, got: &str) -> FieldError {
    let detail = words(path, &format!("must be of type {wanted}: {got:?}"));
    FieldError {
        error: FieldErrorType::TypeInvalid,
        ..FieldError::invalid(shown(path), got, detail)
    }
}

/// The type of a value, as messages have it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    if old == Some(value) {
        return;
    }
    if !schema.takes(value) {
        errors.push(type_error(path, &schema.types(), type_of(value)));
        return;
    }
    junctors(&schema.checks, value, old, path, errors);
    allowed(&schema.checks, value, path, errors);
    match value {
        Value::String(text) => string(&schema.checks, text, value, path, errors),
        Value::Number(_) => number(&schema.checks, value, path, errors),
        Value::Array(items) => list(schema, items, old, path, errors),
        Value::Object(_) => fields(schema, value, old, path, schema.embedded, errors),
        Value::Null | Value::Bool(_) => {}
    }
}

fn allowed(checks: &Checks, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if checks.allowed.is_empty() || checks.allowed.iter().any(|one| same(one, value)) {
        return;
    }
    let quoted = checks.allowed.iter().map(|one| match one {
        Value::String(text) => format!("{text:?}"),
        other => format!("{:?}", other.to_string()),
    });
    let quoted: Vec<String> = quoted.collect();
    errors.push(FieldError {
        error: FieldErrorType::NotSupported,
        field: shown(path),
        value: Some(value.clone()),
        detail: format!("supported values: {}", quoted.join(", ")),
    });
}

/// Equal, where 1 and 1.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && b.is_number() && a.as_f64() == b.as_f64())
}

fn string(checks: &Checks, text: &str, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        errors.push(FieldError::too_long(shown(path), usize::try_from(max).unwrap_or(0)));
    }
    if let Some(min) = checks.min_length.filter(|min| length < *min) {
        errors.push(invalid(path, value, &format!("should be at least {min} chars long")));
    }
    if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        errors.push(invalid(path, value, &format!("should match '{}'", pattern.text)));
    }
    if !formats::matches(&checks.format, text) {
        errors.push(type_error(path, &checks.format, text));
    }
}

fn number(checks: &Checks, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let number = value.as_f64().unwrap_or(0.0);
    if let Some(max) = checks.maximum {
        let (exceeds, than) = match checks.exclusive_maximum {
            true => (number >= max, "less than"),
            false => (number > max, "less than or equal to"),
        };
        if exceeds {
            errors.push(invalid(path, value, &format!("should be {than} {}", go_float(max))));
        }
    }
    if let Some(min) = checks.minimum {
        let (falls_short, than) = match checks.exclusive_minimum {
            true => (number <= min, "greater than"),
            false => (number < min, "greater than or equal to"),
        };
        if falls_short {
            errors.push(invalid(path, value, &format!("should be {than} {}", go_float(min))));
        }
    }
    if let Some(of) = checks
        .multiple_of
        .filter(|of| *of > 0.0 && (number / of).fract() != 0.0)
    {
        errors.push(invalid(
            path,
            value,
            &format!("should be a multiple of {}", go_float(of)),
        ));
    }
    let fits = match checks.format.as_str() {
        "int32" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        _ => true,
    };
    if !fits {
        errors.push(invalid(path, value, &format!("must be of type {}", checks.format)));
    }
}

/// A number as Go's `%v` prints it.
fn go_float(number: f64) -> String {
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn list(schema: &Schema, items: &[Value], old: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(max) = schema.checks.max_items.and_then(|max| usize::try_from(max).ok())
        && items.len() > max
    {
        errors.push(FieldError::too_many(shown(path), items.len(), max));
    }
    if let Some(min) = schema.checks.min_items.filter(|min| (items.len() as i64) < *min) {
        let value = json!(items);
        errors.push(invalid(path, &value, &format!("should have at least {min} items")));
    }
    let Some(of) = &schema.items else { return };
    for (index, item) in items.iter().enumerate() {
        let old = old_item(schema, item, old);
        check(of, item, old, &format!("{path}[{index}]"), errors);
    }
}

/// The item of the old list that has the same keys.
pub(crate) fn old_item<'a>(schema: &Schema, item: &Value, old: Option<&'a Value>) -> Option<&'a Value> {
    let ListKind::Map(keys) = &schema.list else { return None };
    let of = schema.items.as_deref();
    let wanted = keys_of(item, keys, of)?;
    let found = old?.as_array()?.iter();
    found
        .into_iter()
        .find(|other| keys_of(other, keys, of).as_ref() == Some(&wanted))
}

fn fields(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    is_object: bool,
    errors: &mut Vec<FieldError>,
) {
    let Value::Object(given) = value else { return };
    count(&schema.checks, given, value, path, errors);
    for name in &schema.checks.required {
        if !given.contains_key(name) {
            errors.push(FieldError::required(join(path, name), ""));
        }
    }
    for (name, value) in given {
        let of = match schema.field(name) {
            // A schema may restrict names; all else of metadata is checked as metadata.
            Some(of) if is_object && is_type_or_metadata(name) => schema.properties.get(name).map(|_| of),
            of => of,
        };
        if let Some(of) = of {
            let old = old.and_then(|old| old.get(name));
            check(of, value, old, &join(path, name), errors);
        }
    }
    if path.is_empty() && is_object {
        // The root itself is not checked by type, but by all else.
        junctors(&schema.checks, value, old, path, errors);
    }
}

fn count(checks: &Checks, given: &Map<String, Value>, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(max) = checks.max_properties.and_then(|max| usize::try_from(max).ok())
        && given.len() > max
    {
        errors.push(FieldError::too_many(shown(path), given.len(), max));
    }
    if let Some(min) = checks.min_properties.filter(|min| (given.len() as i64) < *min) {
        errors.push(invalid(path, value, &format!("should have at least {min} properties")));
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn junctors(checks: &Checks, value: &Value, old: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    let run = |schema: &Schema| {
        let mut found = Vec::new();
        check(schema, value, old, path, &mut found);
        found
    };
    let refuse = |errors: &mut Vec<FieldError>, text: String| errors.push(FieldError::invalid(NOWHERE, "", text));
    if !checks.any_of.is_empty() {
        let results: Vec<_> = checks.any_of.iter().map(run).collect();
        if results.iter().all(|found| !found.is_empty()) {
            refuse(errors, format!("{path:?} must validate at least one schema (anyOf)"));
            errors.extend(results.into_iter().min_by_key(Vec::len).unwrap_or_default());
        }
    }
    if !checks.one_of.is_empty() {
        let results: Vec<_> = checks.one_of.iter().map(run).collect();
        let valid = results.iter().filter(|found| found.is_empty()).count();
        if valid != 1 {
            let many = format!("Found {valid} valid alternatives");
            let why = if valid == 0 { "Found none valid" } else { &many };
            refuse(
                errors,
                format!("{path:?} must validate one and only one schema (oneOf). {why}"),
            );
            if valid == 0 {
                errors.extend(results.into_iter().min_by_key(Vec::len).unwrap_or_default());
            }
        }
    }
    if !checks.all_of.is_empty() {
        let results: Vec<_> = checks.all_of.iter().map(run).collect();
        let valid = results.iter().filter(|found| found.is_empty()).count();
        let total = results.len();
        errors.extend(results.into_iter().flatten());
        if valid < total {
            let rest = if valid == 0 { ". None validated" } else { "" };
            refuse(errors, format!("{path:?} must validate all the schemas (allOf){rest}"));
        }
    }
    if let Some(not) = &checks.not
        && run(not).is_empty()
    {
        refuse(errors, format!("{path:?} must not validate the schema (not)"));
    }
}

/// Items of sets and maps that stand twice.
fn unique(schema: &Schema, value: &Value, path: String, errors: &mut Vec<FieldError>) {
    match value {
        Value::Array(items) => {
            let mut seen: Vec<Value> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let at = format!("{path}[{index}]");
                let identity = match &schema.list {
                    ListKind::Atomic => None,
                    ListKind::Set => Some(item.clone()),
                    ListKind::Map(keys) => keys_of(item, keys, schema.items.as_deref()).map(Value::Object),
                };
                if let Some(identity) = identity {
                    if seen.contains(&identity) {
                        errors.push(FieldError::duplicate(at.clone(), identity));
                    } else {
                        seen.push(identity);
                    }
                }
                if let Some(of) = &schema.items {
                    unique(of, item, at, errors);
                }
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(of) = schema.properties.get(name) {
                    unique(of, value, join(&path, name), errors);
                } else if let Some(of) = schema.field(name) {
                    unique(of, value, format!("{path}[{name}]"), errors);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(schema: &Value, new: Value, old: Option<Value>) -> Vec<String> {
        let found = object(&Schema::read(schema), &new, old.as_ref());
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_are_printed_as_go_prints_them() {
        for (number, text) in [
            (1.0, "1"),
            (0.5, "0.5"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (65535.0, "65535"),
        ] {
            assert_eq!(go_float(number), text);
        }
    }

    #[test]
    fn errors_have_upstreams_words() {
        let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {
        "type": "object", "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": "^a+$", "maxLength": 3, "minLength": 1},
            "count": {"type": "integer", "minimum": 1, "maximum": 10},
            "kind": {"type": "string", "enum": ["x", "y"]},
            "port": {"x-kubernetes-int-or-string": true},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "when": {"type": "string", "format": "date-time"},
        }}}});
        assert_eq!(errors(&schema, json!({}), None), ["spec: Required value"]);
        assert_eq!(
            errors(&schema, json!({"spec": {}}), None),
            ["spec.name: Required value"]
        );
        let spec = json!({"spec": {"name": "b", "count": "1", "kind": "z", "port": true, "tags": ["a", "a"],
            "when": "now"}});
        assert_eq!(
            errors(&schema, spec, None),
            [
                r#"spec.count: Invalid value: "string": spec.count in body must be of type integer: "string""#,
                r#"spec.kind: Unsupported value: "z": supported values: "x", "y""#,
                r#"spec.name: Invalid value: "b": spec.name in body should match '^a+$'"#,
                r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
                r#"spec.when: Invalid value: "now": spec.when in body must be of type date-time: "now""#,
                r#"spec.tags[1]: Duplicate value: "a""#,
            ]
        );
        let spec = json!({"spec": {"name": "aaaa", "count": 11}});
        assert_eq!(
            errors(&schema, spec, None),
            [
                r#"spec.count: Invalid value: 11: spec.count in body should be less than or equal to 10"#,
                "spec.name: Too long: may not be more than 3 bytes",
            ]
        );
    }

    #[test]
    fn what_has_not_changed_is_let_pass() {
        let item = json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "size": {"type": "integer", "minimum": 5}}});
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "low": {"type": "integer", "minimum": 5},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": item}}}}});
        let old = json!({"spec": {"low": 1, "list": [{"name": "a", "size": 1}]}});
        let mut new = old.clone();
        new["spec"]["list"] = json!([{"name": "b", "size": 9}, {"name": "a", "size": 1}]);
        assert!(errors(&schema, new.clone(), Some(old.clone())).is_empty());
        new["spec"]["list"][1]["size"] = json!(2);
        assert_eq!(errors(&schema, new, Some(old)).len(), 1);
    }

    #[test]
    fn one_of_several_schemas() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}}});
        let nil = r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf)."#;
        assert_eq!(errors(&schema, json!({"spec": {"a": "1"}}), None), Vec::<String>::new());
        assert_eq!(
            errors(&schema, json!({"spec": {}}), None),
            [format!("{nil} Found none valid"), "spec.a: Required value".to_owned()]
        );
        assert_eq!(
            errors(&schema, json!({"spec": {"a": "1", "b": "2"}}), None),
            [format!("{nil} Found 2 valid alternatives")]
        );
    }
}
