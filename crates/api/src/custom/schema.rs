//! A structural schema: what a definition says of the values of its resource.

use super::rules::Compiled;
use regex::Regex;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What values a schema takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// How a list is merged and owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListKind {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// What other fields than the named ones an object may have.
#[derive(Debug)]
pub(crate) enum Additional {
    Any,
    None,
    Of(Box<Schema>),
}

/// A rule written in CEL (`x-kubernetes-validations`).
#[derive(Debug, Default)]
pub(crate) struct Rule {
    pub(crate) rule: String,
    pub(crate) message: String,
    pub(crate) message_expression: String,
    pub(crate) reason: String,
    pub(crate) field_path: String,
    pub(crate) optional_old_self: bool,
    /// The rule as it can be asked, made when it is first needed.
    pub(crate) compiled: OnceLock<Option<Compiled>>,
}

/// A regular expression, compiled when it is first needed.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            compiled: OnceLock::new(),
        }
    }

    /// Whether the text matches; one that cannot be compiled was refused when it was defined, and takes everything.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Regex::new(&self.text).ok());
        compiled.as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

/// What a value must satisfy beside its type.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) required: Vec<String>,
    pub(crate) allowed: Vec<Value>,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_maximum: bool,
    pub(crate) minimum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) max_length: Option<i64>,
    pub(crate) min_length: Option<i64>,
    pub(crate) max_items: Option<i64>,
    pub(crate) min_items: Option<i64>,
    pub(crate) max_properties: Option<i64>,
    pub(crate) min_properties: Option<i64>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) format: String,
    pub(crate) all_of: Vec<Schema>,
    pub(crate) any_of: Vec<Schema>,
    pub(crate) one_of: Vec<Schema>,
    pub(crate) not: Option<Box<Schema>>,
}

/// A schema of one value.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    pub(crate) of: Option<Type>,
    pub(crate) nullable: bool,
    pub(crate) int_or_string: bool,
    /// Fields that are not named are kept.
    pub(crate) preserve: bool,
    /// The value is a whole Kubernetes object.
    pub(crate) embedded: bool,
    pub(crate) properties: BTreeMap<String, Self>,
    pub(crate) additional: Option<Additional>,
    pub(crate) items: Option<Box<Self>>,
    pub(crate) list: ListKind,
    /// The object is owned as one value.
    pub(crate) atomic: bool,
    pub(crate) default: Option<Value>,
    pub(crate) checks: Checks,
    pub(crate) rules: Vec<Rule>,
    /// Whether there are rules here or further in.
    pub(crate) has_rules: bool,
}

impl Schema {
    /// Reads `JSONSchemaProps`. What is not structural is refused elsewhere, and left out here.
    pub(crate) fn read(props: &Value) -> Self {
        let flag = |name: &str| props[name] == Value::Bool(true);
        let list = match props["x-kubernetes-list-type"].as_str() {
            Some("set") => ListKind::Set,
            Some("map") => ListKind::Map(texts(&props["x-kubernetes-list-map-keys"])),
            _ => ListKind::Atomic,
        };
        let properties = props["properties"].as_object().into_iter().flatten();
        let rules = props["x-kubernetes-validations"].as_array().into_iter().flatten();
        let mut schema = Self {
            of: props["type"].as_str().and_then(Type::of),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            properties: properties.map(|(name, of)| (name.clone(), Self::read(of))).collect(),
            additional: additional(&props["additionalProperties"]),
            items: props["items"]
                .is_object()
                .then(|| Box::new(Self::read(&props["items"]))),
            list,
            atomic: props["x-kubernetes-map-type"] == "atomic",
            default: props.get("default").filter(|value| !value.is_null()).cloned(),
            checks: Checks::read(props),
            rules: rules.map(Rule::read).collect(),
            has_rules: false,
        };
        let inside = match &schema.additional {
            Some(Additional::Of(of)) => Some(of),
            _ => None,
        };
        let mut inner = schema
            .properties
            .values()
            .chain(schema.items.as_deref())
            .chain(inside.map(Box::as_ref));
        schema.has_rules = !schema.rules.is_empty() || inner.any(|inner| inner.has_rules);
        schema
    }

    /// The schema of a field of an object.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Of(of)) => Some(of),
            _ => None,
        })
    }

    /// The words for what types are taken; empty if all are.
    pub(crate) fn types(&self) -> String {
        match (self.of, self.int_or_string) {
            (Some(of), _) => of.word().to_owned(),
            (None, true) => "integer,string".to_owned(),
            (None, false) => String::new(),
        }
    }

    /// Whether the type is one of those taken.
    pub(crate) fn takes(&self, value: &Value) -> bool {
        match (self.of, value) {
            (_, Value::Null) => self.nullable || (self.of.is_none() && !self.int_or_string),
            (None, _) if self.int_or_string => value.is_string() || is_integer(value),
            (None, _)
            | (Some(Type::Object), Value::Object(_))
            | (Some(Type::Array), Value::Array(_))
            | (Some(Type::String), Value::String(_))
            | (Some(Type::Number), Value::Number(_))
            | (Some(Type::Boolean), Value::Bool(_)) => true,
            (Some(Type::Integer), value) => is_integer(value),
            _ => false,
        }
    }
}

/// A number without a fraction, however it is written.
pub(crate) fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn additional(props: &Value) -> Option<Additional> {
    match props {
        Value::Bool(true) => Some(Additional::Any),
        Value::Bool(false) => Some(Additional::None),
        Value::Object(_) => Some(Additional::Of(Box::new(Schema::read(props)))),
        _ => None,
    }
}

impl Checks {
    fn read(props: &Value) -> Self {
        let several = |name: &str| -> Vec<Schema> {
            let found = props[name].as_array().into_iter().flatten();
            found.map(Schema::read).collect()
        };
        let (number, count) = (|name: &str| props[name].as_f64(), |name: &str| props[name].as_i64());
        let flag = |name: &str| props[name] == Value::Bool(true);
        Self {
            required: texts(&props["required"]),
            allowed: props["enum"].as_array().cloned().unwrap_or_default(),
            maximum: number("maximum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            pattern: props["pattern"]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(Pattern::new),
            format: props["format"].as_str().unwrap_or_default().to_owned(),
            all_of: several("allOf"),
            any_of: several("anyOf"),
            one_of: several("oneOf"),
            not: props["not"].is_object().then(|| Box::new(Schema::read(&props["not"]))),
        }
    }
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
        Self {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: text("reason"),
            field_path: text("fieldPath"),
            optional_old_self: rule["optionalOldSelf"] == Value::Bool(true),
            compiled: OnceLock::new(),
        }
    }
}

fn texts(list: &Value) -> Vec<String> {
    let found = list.as_array().into_iter().flatten();
    found.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The fields that every object has, whatever its schema says.
pub(crate) fn is_type_or_metadata(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// The values of the keys by which items of a list are told apart, with their defaults; `None` for what is no object.
pub(crate) fn keys_of(item: &Value, keys: &[String], schema: Option<&Schema>) -> Option<Map<String, Value>> {
    let fields = item.as_object()?;
    let mut found = Map::new();
    for key in keys {
        let default = || schema?.properties.get(key)?.default.as_ref();
        if let Some(value) = fields.get(key).or_else(default) {
            found.insert(key.clone(), value.clone());
        }
    }
    Some(found)
}
