//! Rules written in CEL (`x-kubernetes-validations`).
//!
//! A rule sees the value where it stands as `self`, and what it was as `oldSelf`; one that uses `oldSelf` is only asked
//! when there is an old value. What has not changed is not asked again.

use super::check::old_item;
use super::schema::{Additional, Checks, Rule, Schema, Type as Kind, is_type_or_metadata};
use crate::error::{FieldError, FieldErrorType};
use cel::{Budget, Environment, EvalError, ObjectType, Program, Type, Value as CelValue, escape};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one rule may cost when it runs.
const RULE_BUDGET: u64 = 1_000_000;
/// What all rules of one object may cost.
const OBJECT_BUDGET: u64 = 10_000_000;
/// What one rule may be expected to cost.
const EXPECTED_RULE_MAX: u64 = 10_000_000;
/// What all rules of a schema may be expected to cost.
const EXPECTED_TOTAL_MAX: u64 = 100_000_000;
/// Our expectations are a little other than upstream's; only what is clearly too much is refused.
const TOLERANCE: u64 = 3;

/// The most bytes that an object can have.
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;

/// A rule that can be asked.
#[derive(Debug)]
pub(crate) struct Compiled {
    rule: Program,
    message: Option<Program>,
    of: Type,
}

/// The type of a value as rules see it; `None` if they do not see it.
fn type_of(schema: &Schema, name: &str, is_object: bool) -> Option<Type> {
    if schema.int_or_string {
        return Some(Type::Dyn);
    }
    Some(match schema.of? {
        Kind::Boolean => Type::Bool,
        Kind::Integer => Type::Int,
        Kind::Number => Type::Double,
        Kind::String => text_type(&schema.checks),
        Kind::Array => {
            let of = schema.items.as_deref()?;
            let item = type_of(of, &format!("{name}.@idx"), of.embedded)?;
            let most = (REQUEST_BYTES_MAX - 2) / (least_bytes(of) + 1);
            Type::List(Box::new(item), limit(schema.checks.max_items, most))
        }
        Kind::Object => match &schema.additional {
            Some(Additional::Of(of)) => {
                let value = type_of(of, &format!("{name}.@elem"), of.embedded)?;
                let most = (REQUEST_BYTES_MAX - 2) / (least_bytes(of) + 6);
                let most = limit(schema.checks.max_properties, most);
                Type::Map(Box::new(Type::TEXT), Box::new(value), most)
            }
            _ => object_type(schema, name, is_object),
        },
    })
}

/// The type of whole objects as rules see them.
pub(crate) fn rule_type(schema: &Schema) -> Type {
    type_of(schema, "self", true).unwrap_or(Type::Dyn)
}

fn object_type(schema: &Schema, name: &str, is_object: bool) -> Type {
    let mut fields: BTreeMap<String, Type> = BTreeMap::new();
    for (field, of) in &schema.properties {
        if is_object && is_type_or_metadata(field) {
            continue;
        }
        if let (Some(escaped), Some(of)) = (escape(field), type_of(of, &format!("{name}.{field}"), of.embedded)) {
            fields.insert(escaped, of);
        }
    }
    if is_object {
        let names = ["name", "generateName"].map(|field| (field.to_owned(), Type::String(253)));
        let metadata = ObjectType {
            name: format!("{name}.metadata"),
            fields: names.into(),
        };
        fields.insert("metadata".to_owned(), Type::Object(Arc::new(metadata)));
        for field in ["apiVersion", "kind"] {
            fields.insert(field.to_owned(), Type::String(253));
        }
    }
    Type::Object(Arc::new(ObjectType {
        name: name.to_owned(),
        fields,
    }))
}

fn text_type(checks: &Checks) -> Type {
    match checks.format.as_str() {
        "byte" => Type::Bytes(limit(checks.max_length, REQUEST_BYTES_MAX)),
        "duration" => Type::Duration,
        "date" | "date-time" | "datetime" => Type::Timestamp,
        _ => {
            let longest = checks.allowed.iter().filter_map(Value::as_str).map(str::len).max();
            let longest = longest.and_then(|longest| u64::try_from(longest).ok());
            Type::String(longest.unwrap_or_else(|| limit(checks.max_length, REQUEST_BYTES_MAX - 2)))
        }
    }
}

fn limit(given: Option<i64>, most: u64) -> u64 {
    given
        .and_then(|given| u64::try_from(given).ok())
        .map_or(most, |given| given.min(most))
}

/// How few bytes a value can have as JSON.
fn least_bytes(schema: &Schema) -> u64 {
    match schema.of {
        Some(Kind::Object) => {
            let required = schema.checks.required.iter();
            let fields = required.filter_map(|name| Some((name, schema.properties.get(name)?)));
            2 + fields
                .map(|(name, of)| name.len() as u64 + 4 + least_bytes(of))
                .sum::<u64>()
        }
        Some(Kind::Array | Kind::String) | None => 2,
        Some(Kind::Boolean) => 4,
        Some(Kind::Integer | Kind::Number) => 1,
    }
}

fn environment(of: &Type, optional_old: bool) -> Environment {
    let old = if optional_old {
        Type::Optional(Box::new(of.clone()))
    } else {
        of.clone()
    };
    Environment::default().with("self", of.clone()).with("oldSelf", old)
}

/// Why a rule is not taken: which part of it, and what is wrong.
type Refusal = (&'static str, String);

fn compile(rule: &Rule, of: &Type) -> Result<Compiled, Refusal> {
    let environment = environment(of, rule.optional_old_self);
    let program =
        Program::compile(&rule.rule, &environment).map_err(|error| ("rule", format!("compilation failed: {error}")))?;
    if !matches!(program.result_type(), Type::Bool | Type::Dyn) {
        return Err(("rule", "cel expression must evaluate to a bool".to_owned()));
    }
    let message = match rule.message_expression.trim() {
        "" => None,
        text => {
            let program = Program::compile(text, &environment).map_err(|error| {
                (
                    "messageExpression",
                    format!("messageExpression compilation failed: {error}"),
                )
            })?;
            if !matches!(program.result_type(), Type::String(_) | Type::Dyn) {
                let detail = "messageExpression must evaluate to a string";
                return Err(("messageExpression", detail.to_owned()));
            }
            Some(program)
        }
    };
    Ok(Compiled {
        rule: program,
        message,
        of: of.clone(),
    })
}

/// Where in a schema the look at its rules is.
#[derive(Clone)]
struct Spot {
    path: String,
    is_object: bool,
    /// How many values can stand here.
    count: u64,
    /// The part of the schema in which old values cannot be told from each other.
    unrelated: Option<String>,
}

/// What is wrong with the rules of a schema.
pub(crate) fn validate(schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let spot = Spot {
        path: path.to_owned(),
        is_object: true,
        count: 1,
        unrelated: None,
    };
    let mut total = 0u64;
    validate_at(schema, &spot, &mut total, errors);
    if total > EXPECTED_TOTAL_MAX.saturating_mul(TOLERANCE) {
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(path, too_costly(what, total, EXPECTED_TOTAL_MAX)));
    }
}

fn validate_at(schema: &Schema, spot: &Spot, total: &mut u64, errors: &mut Vec<FieldError>) {
    let of = if schema.rules.is_empty() {
        None
    } else {
        Some(type_of(schema, "self", spot.is_object).unwrap_or(Type::Dyn))
    };
    for (index, rule) in schema.rules.iter().enumerate() {
        let at = |part: &str| format!("{}.x-kubernetes-validations[{index}].{part}", spot.path);
        let Some(of) = &of else { continue };
        match compile(rule, of) {
            Err((part, why)) => errors.push(FieldError::invalid(at(part), rule.shown(), why)),
            Ok(compiled) => {
                let cost = compiled.rule.cost_bound().saturating_mul(spot.count);
                *total = total.saturating_add(cost);
                if cost > EXPECTED_RULE_MAX.saturating_mul(TOLERANCE) {
                    let why = too_costly("estimated rule cost", cost, EXPECTED_RULE_MAX);
                    errors.push(FieldError::forbidden(at("rule"), why));
                }
                let uses_old = compiled.rule.uses("oldSelf");
                if let Some(within) = spot.unrelated.as_ref().filter(|_| uses_old) {
                    let why =
                        format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
                    errors.push(FieldError::invalid(at("rule"), rule.rule.as_str(), why));
                }
                if !uses_old && rule.optional_old_self {
                    let why = "may not be set if oldSelf is not used in rule";
                    errors.push(FieldError::invalid(at("optionalOldSelf"), true, why));
                }
            }
        }
    }
    for (inner, spot) in below(schema, spot) {
        validate_at(inner, &spot, total, errors);
    }
}

/// The schemas inside a schema.
fn below<'a>(schema: &'a Schema, spot: &Spot) -> Vec<(&'a Schema, Spot)> {
    let mut inner: Vec<(&Schema, Spot)> = Vec::new();
    let unrelated = |is_related: bool| match is_related {
        true => spot.unrelated.clone(),
        false => spot.unrelated.clone().or_else(|| Some(spot.path.clone())),
    };
    for (name, of) in &schema.properties {
        let path = format!("{}.properties[{name}]", spot.path);
        let spot = Spot {
            path,
            is_object: of.embedded,
            count: spot.count,
            unrelated: unrelated(!schema.atomic),
        };
        inner.push((of, spot));
    }
    let many = |schema: &Schema| {
        type_of(schema, "self", false).map_or(1, |of| match of {
            Type::List(_, most) | Type::Map(_, _, most) => most,
            _ => 1,
        })
    };
    if let Some(Additional::Of(of)) = &schema.additional {
        let spot = Spot {
            path: format!("{}.additionalProperties", spot.path),
            is_object: of.embedded,
            count: spot.count.saturating_mul(many(schema)),
            unrelated: unrelated(!schema.atomic),
        };
        inner.push((of, spot));
    }
    if let Some(of) = &schema.items {
        let spot = Spot {
            path: format!("{}.items", spot.path),
            is_object: of.embedded,
            count: spot.count.saturating_mul(many(schema)),
            unrelated: unrelated(matches!(schema.list, super::schema::ListKind::Map(_))),
        };
        inner.push((of, spot));
    }
    inner
}

/// Upstream's words for a rule that may cost too much.
fn too_costly(what: &str, cost: u64, limit: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is told roughly")]
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

impl Rule {
    fn compiled(&self, schema: &Schema, is_object: bool) -> Option<&Compiled> {
        let make = || {
            let of = type_of(schema, "self", is_object).unwrap_or(Type::Dyn);
            compile(self, &of).ok()
        };
        self.compiled.get_or_init(make).as_ref()
    }

    /// The rule as messages show it.
    fn shown(&self) -> Value {
        let mut shown = json!({"rule": self.rule});
        for (name, text) in [
            ("message", &self.message),
            ("messageExpression", &self.message_expression),
            ("reason", &self.reason),
            ("fieldPath", &self.field_path),
        ] {
            if !text.is_empty() {
                shown[name] = json!(text);
            }
        }
        shown
    }

    /// What the rule says when it does not hold.
    fn words(&self) -> String {
        match self.message.trim() {
            "" => format!("failed rule: {}", self.rule.trim()),
            message => message.to_owned(),
        }
    }
}

/// What the rules say is wrong with an object.
pub(crate) fn object(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut asking = Asking {
        budget: Budget::new(OBJECT_BUDGET),
        errors: Vec::new(),
        is_over: false,
    };
    if schema.has_rules {
        asking.ask(schema, new, old, "", true);
    }
    asking.errors
}

/// All rules of one object being asked.
struct Asking {
    budget: Budget,
    errors: Vec<FieldError>,
    is_over: bool,
}

impl Asking {
    fn ask(&mut self, schema: &Schema, new: &Value, old: Option<&Value>, path: &str, is_object: bool) {
        if self.is_over || !schema.has_rules || new.is_null() {
            return;
        }
        for rule in &schema.rules {
            if let Some(compiled) = rule.compiled(schema, is_object) {
                self.one(rule, compiled, schema, new, old, path);
            }
        }
        match new {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let old = old.and_then(|old| old.get(name));
                    if is_object && is_type_or_metadata(name) {
                        continue;
                    }
                    if let Some(of) = schema.properties.get(name) {
                        let path = if path.is_empty() {
                            name.clone()
                        } else {
                            format!("{path}.{name}")
                        };
                        self.ask(of, value, old, &path, of.embedded);
                    } else if let Some(of) = schema.field(name) {
                        self.ask(of, value, old, &format!("{path}[{name}]"), of.embedded);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(of) = &schema.items {
                        let old = old_item(schema, item, old);
                        self.ask(of, item, old, &format!("{path}[{index}]"), of.embedded);
                    }
                }
            }
            _ => {}
        }
    }

    fn one(&mut self, rule: &Rule, compiled: &Compiled, schema: &Schema, new: &Value, old: Option<&Value>, path: &str) {
        let uses_old = compiled.rule.uses("oldSelf");
        if (uses_old && old.is_none() && !rule.optional_old_self) || (!uses_old && old == Some(new)) || self.is_over {
            return;
        }
        let old = match (old, rule.optional_old_self) {
            (old, true) => CelValue::Optional(old.map(|old| Arc::new(CelValue::from_json(old, &compiled.of)))),
            (Some(old), false) => CelValue::from_json(old, &compiled.of),
            (None, false) => CelValue::Null,
        };
        let current = CelValue::from_json(new, &compiled.of);
        let before = self.budget.left();
        let mut own = Budget::new(RULE_BUDGET.min(before));
        let mut lookup = |name: &str| {
            Ok(match name {
                "self" => Some(current.clone()),
                "oldSelf" => Some(old.clone()),
                _ => None,
            })
        };
        let outcome = compiled.rule.evaluate(&mut lookup, &mut own);
        let spent = RULE_BUDGET.min(before) - own.left();
        let (at, of) = (place(path, &rule.field_path), schema.types());
        let detail = match outcome {
            Ok(CelValue::Bool(true)) => None,
            Ok(_) => {
                let made = compiled.message.as_ref().and_then(|message| {
                    match message.evaluate(&mut lookup, &mut Budget::new(RULE_BUDGET)) {
                        Ok(CelValue::String(text)) if !text.trim().is_empty() && !text.contains('\n') => {
                            Some(text.trim().to_owned())
                        }
                        _ => None,
                    }
                });
                Some(made.unwrap_or_else(|| rule.words()))
            }
            Err(EvalError::OverBudget) => {
                self.is_over = true;
                Some(format!(
                    "call cost exceeds limit for rule: {}; no further validation rules will be run",
                    rule.rule.trim()
                ))
            }
            Err(error) => Some(format!("{error} evaluating rule: {}", rule.words())),
        };
        if self.budget.spend(spent).is_err() {
            self.is_over = true;
        }
        self.errors.extend(detail.map(|detail| refusal(rule, at, &of, detail)));
    }
}

fn place(path: &str, field_path: &str) -> String {
    let whole = format!("{path}{field_path}");
    match whole.trim_start_matches('.') {
        "" => "<nil>".to_owned(),
        whole => whole.to_owned(),
    }
}

fn refusal(rule: &Rule, at: String, of: &str, detail: String) -> FieldError {
    let error = match rule.reason.as_str() {
        "FieldValueForbidden" => FieldErrorType::Forbidden,
        "FieldValueRequired" => FieldErrorType::Required,
        "FieldValueDuplicate" => FieldErrorType::Duplicate,
        _ => FieldErrorType::Invalid,
    };
    FieldError {
        error,
        ..FieldError::invalid(at, of, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(rules: Value) -> Schema {
        Schema::read(&json!({"type": "object", "properties": {"spec": {"type": "object",
            "x-kubernetes-validations": rules,
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}, "name": {"type": "string"},
                "list": {"type": "array", "maxItems": 10, "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["id"], "items": {"type": "object", "required": ["id"],
                        "properties": {"id": {"type": "string"}, "size": {"type": "integer",
                            "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "no shrinking"}]}}}}}}}}))
    }

    fn ask(rules: Value, new: Value, old: Option<Value>) -> Vec<String> {
        let found = object(
            &schema(rules),
            &json!({"spec": new}),
            old.map(|old| json!({"spec": old})).as_ref(),
        );
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_hold_or_say_why_not() {
        let rule = json!([{"rule": "self.x + self.y > 0"}]);
        assert!(ask(rule.clone(), json!({"x": 1, "y": 0}), None).is_empty());
        assert_eq!(
            ask(rule.clone(), json!({"x": 0, "y": 0}), None),
            [r#"spec: Invalid value: "object": failed rule: self.x + self.y > 0"#]
        );
        assert_eq!(
            ask(rule, json!({"x": 0}), None),
            [r#"spec: Invalid value: "object": no such key: y evaluating rule: failed rule: self.x + self.y > 0"#]
        );
        let rule =
            json!([{"rule": "self.x > 0", "message": "x is low", "reason": "FieldValueForbidden", "fieldPath": ".x"}]);
        assert_eq!(ask(rule, json!({"x": 0}), None), ["spec.x: Forbidden: x is low"]);
        let rule = json!([{"rule": "self.x > 0", "messageExpression": "'x is ' + string(self.x)"}]);
        assert_eq!(
            ask(rule, json!({"x": 0}), None),
            [r#"spec: Invalid value: "object": x is 0"#]
        );
    }

    #[test]
    fn transitions_are_asked_of_changes_only() {
        let none = json!([]);
        let list = |size: i64| json!({"list": [{"id": "a", "size": size}]});
        assert!(ask(none.clone(), list(1), None).is_empty());
        assert!(ask(none.clone(), list(2), Some(list(1))).is_empty());
        assert_eq!(
            ask(none, list(1), Some(list(2))),
            [r#"spec.list[0].size: Invalid value: "integer": no shrinking"#]
        );
        let rule = json!([{"rule": "!oldSelf.hasValue() || self.x == oldSelf.value().x", "optionalOldSelf": true}]);
        assert!(ask(rule.clone(), json!({"x": 1}), None).is_empty());
        assert_eq!(ask(rule, json!({"x": 1}), Some(json!({"x": 2}))).len(), 1);
    }

    #[test]
    fn what_was_wrong_and_has_not_changed_is_not_asked_again() {
        let rule = json!([{"rule": "self.x > 0"}]);
        assert!(ask(rule, json!({"x": 0}), Some(json!({"x": 0}))).is_empty());
    }

    fn wrong(rules: Value) -> Vec<String> {
        let mut errors = Vec::new();
        validate(&schema(rules), "schema", &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_are_checked_when_they_are_defined() {
        assert!(wrong(json!([{"rule": "self.x > 0"}])).is_empty());
        assert_eq!(
            wrong(json!([{"rule": "self.z == 100"}])),
            [
                "schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {\"rule\":\"self.z == 100\"}: \
              compilation failed: ERROR: <input>:1:5: undefined field 'z'\n | self.z == 100\n | ....^"
            ]
        );
        assert!(wrong(json!([{"rule": "self.x"}]))[0].ends_with("cel expression must evaluate to a bool"));
        assert!(
            wrong(json!([{"rule": "self.x > 0", "messageExpression": "self.x"}]))[0]
                .contains("must evaluate to a string")
        );
    }

    #[test]
    fn rules_that_may_cost_too_much_are_refused() {
        let nested = json!({"type": "object", "properties": {"spec": {"type": "array", "items": {"type": "array",
            "items": {"type": "string"}}, "x-kubernetes-validations": [{"rule": "self.all(a, a.all(b, b.contains('x')))"}]}}});
        let mut errors = Vec::new();
        validate(&Schema::read(&nested), "schema", &mut errors);
        assert!(
            errors[0]
                .to_string()
                .contains("exceeds budget by factor of more than 100x"),
            "{errors:?}"
        );
    }
}
