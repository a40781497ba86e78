//! A value together with where it stands, so that a rule can be written once and its errors name the right field.

use super::names;
use crate::error::FieldError;
use crate::quantity::{self, Quantity};
use serde_json::Value;

/// The errors found so far.
pub(super) type Errors = Vec<FieldError>;

/// What an absent field reads as.
static ABSENT: Value = Value::Null;

/// A value and its path; the value of an absent field is null.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) value: &'a Value,
    pub(super) path: String,
}

impl<'a> Place<'a> {
    /// The whole object.
    pub(super) fn root(value: &'a Value) -> Self {
        Self {
            value,
            path: String::new(),
        }
    }

    /// A value at a path.
    pub(super) fn new(value: &'a Value, path: impl Into<String>) -> Self {
        Self {
            value,
            path: path.into(),
        }
    }

    /// A field of an object.
    pub(super) fn at(&self, field: &str) -> Self {
        let value = self.value.get(field).unwrap_or(&ABSENT);
        Self {
            value,
            path: if self.path.is_empty() {
                field.to_owned()
            } else {
                format!("{}.{field}", self.path)
            },
        }
    }

    /// The item of a list.
    fn index(&self, index: usize, value: &'a Value) -> Self {
        Self {
            value,
            path: format!("{}[{index}]", self.path),
        }
    }

    /// The items of a list; none if it is none.
    pub(super) fn items(&self) -> impl Iterator<Item = Self> {
        self.value
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(index, value)| self.index(index, value))
    }

    /// The entries of a map with their keys; none if it is none.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Self)> {
        self.value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), self.key_of(key, value)))
    }

    fn key_of(&self, key: &str, value: &'a Value) -> Self {
        Self {
            value,
            path: format!("{}[{key}]", self.path),
        }
    }

    /// The entry of a map.
    pub(super) fn key(&self, key: &str) -> Self {
        self.key_of(key, self.value.get(key).unwrap_or(&ABSENT))
    }

    pub(super) fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Text, or the empty text.
    pub(super) fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    pub(super) fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    pub(super) fn is_true(&self) -> bool {
        self.value == &Value::Bool(true)
    }

    /// How many items or entries there are.
    pub(super) fn len(&self) -> usize {
        self.value
            .as_array()
            .map(Vec::len)
            .or_else(|| self.value.as_object().map(serde_json::Map::len))
            .unwrap_or(0)
    }

    /// The amount, if it is one.
    pub(super) fn quantity(&self) -> Option<Quantity> {
        self.value.as_str().and_then(|text| quantity::parse(text).ok())
    }

    pub(super) fn required(&self, detail: &str) -> FieldError {
        FieldError::required(&self.path, detail)
    }

    pub(super) fn invalid(&self, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path, self.value.clone(), detail)
    }

    pub(super) fn forbidden(&self, detail: impl Into<String>) -> FieldError {
        FieldError::forbidden(&self.path, detail)
    }

    pub(super) fn not_supported(&self, supported: &[&str]) -> FieldError {
        FieldError::not_supported(&self.path, self.value.clone(), supported)
    }

    pub(super) fn duplicate(&self) -> FieldError {
        FieldError::duplicate(&self.path, self.value.clone())
    }

    /// One error for each thing wrong with the text, e.g. from [`names::label_errors`].
    pub(super) fn must_have_form(&self, errors_of: impl Fn(&str) -> Vec<String>, errors: &mut Errors) {
        for why in errors_of(self.text()) {
            errors.push(self.invalid(why));
        }
    }

    /// Required, then well formed.
    pub(super) fn must_be_named(&self, errors_of: impl Fn(&str) -> Vec<String>, errors: &mut Errors) {
        if self.text().is_empty() {
            errors.push(self.required(""));
        } else {
            self.must_have_form(errors_of, errors);
        }
    }

    /// One of some words; an absent one is left to others.
    pub(super) fn must_be_one_of(&self, words: &[&str], errors: &mut Errors) {
        if self.is_set() && !words.contains(&self.text()) {
            errors.push(self.not_supported(words));
        }
    }

    /// One of some words, and given.
    pub(super) fn must_be_given_of(&self, words: &[&str], errors: &mut Errors) {
        if self.text().is_empty() {
            errors.push(self.required(""));
        } else {
            self.must_be_one_of(words, errors);
        }
    }

    /// A count, where there is one.
    pub(super) fn must_not_be_negative(&self, errors: &mut Errors) {
        if self.number().is_some_and(|number| number < 0) {
            errors.push(self.invalid("must be greater than or equal to 0"));
        }
    }

    /// A whole number of a range, where there is one.
    pub(super) fn must_be_within(&self, min: i64, max: i64, errors: &mut Errors) {
        if self.number().is_some_and(|number| !(min..=max).contains(&number)) {
            errors.push(self.invalid(format!("must be between {min} and {max}, inclusive")));
        }
    }

    /// A port's number.
    pub(super) fn must_be_port(&self, errors: &mut Errors) {
        self.must_be_within(1, 65535, errors);
    }

    /// A port's number or its name.
    pub(super) fn must_be_port_or_name(&self, errors: &mut Errors) {
        match self.value {
            Value::Number(_) => self.must_be_port(errors),
            _ => self.must_have_form(names::port_name_errors, errors),
        }
    }

    /// An address of either family.
    pub(super) fn must_be_ip(&self, errors: &mut Errors) {
        if self.text().parse::<std::net::IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(self.invalid(detail));
        }
    }

    /// Not negative, as an amount.
    pub(super) fn must_not_be_negative_amount(&self, errors: &mut Errors) {
        if self.quantity().is_some_and(|amount| amount < Quantity::default()) {
            errors.push(self.invalid("must be greater than or equal to 0"));
        }
    }

    /// A count that is not negative, or a percentage.
    pub(super) fn must_be_count_or_percent(&self, errors: &mut Errors) {
        match self.value {
            Value::Number(_) => self.must_not_be_negative(errors),
            Value::String(_) if percent(self.value).is_none() => errors.push(self.invalid(
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                 regex used for validation is '[0-9]+%')",
            )),
            _ => {}
        }
    }

    /// The same as before; told with upstream's words if not.
    pub(super) fn must_not_change(&self, old: &Self, errors: &mut Errors) {
        if !crate::strategy::semantically_equal(self.value, old.value) {
            errors.push(self.invalid("field is immutable"));
        }
    }
}

/// The number of a percentage such as `25%`.
pub(super) fn percent(value: &Value) -> Option<u64> {
    let digits = value.as_str()?.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Leaves a field out.
pub(super) fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}
