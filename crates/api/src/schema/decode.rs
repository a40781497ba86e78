//! One pass over JSON that checks each value against its type and notes unknown and duplicate fields, in the order
//! and in the words of Go's decoder as Kubernetes uses it.

use super::table::{self, Form, Shape, Type};
use crate::quantity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

/// How many unknown and duplicate fields are told; as upstream.
const STRICT_MAX: usize = 100;
/// How deep values may lie in one another.
const DEPTH_MAX: usize = 128;

/// What the pass found.
pub(super) struct Found {
    /// The object without unknown fields and nulls.
    pub(super) object: Value,
    /// The first wrong type, in Go's words.
    pub(super) wrong: Option<String>,
    /// Unknown and duplicate fields, e.g. `unknown field "spec.foo"`.
    pub(super) strict: Vec<String>,
}

/// Reads one value of the type `schema`. A type that the table does not know takes any value.
pub(super) fn run<'de, D: Deserializer<'de>>(schema: &str, input: D) -> Result<Found, D::Error> {
    let notes = RefCell::new(Notes::default());
    let object = match table::by_name(schema) {
        Some(of) => Seed {
            target: Target::Type(of),
            at: &Place::ROOT,
            notes: &notes,
        }
        .deserialize(input)?,
        None => Some(Value::deserialize(input)?),
    };
    let notes = notes.into_inner();
    Ok(Found {
        object: object.unwrap_or_else(|| Value::Object(Map::new())),
        wrong: notes.wrong,
        strict: notes.strict,
    })
}

#[derive(Default)]
struct Notes {
    wrong: Option<String>,
    strict: Vec<String>,
}

impl Notes {
    fn strict(&mut self, problem: &str, place: &Place<'_>) {
        let text = format!("{problem} field \"{}\"", place.path());
        if self.strict.len() < STRICT_MAX && !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }
}

/// Where in the object the pass is: a list that lives on the stack.
struct Place<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    /// A field of a struct of this type.
    Field(&'static Type, &'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    const ROOT: Self = Self {
        parent: None,
        step: Step::Root,
        depth: 0,
    };

    fn then(&'a self, step: Step<'a>) -> Self {
        Self {
            parent: Some(self),
            step,
            depth: self.depth + 1,
        }
    }

    fn steps(&self) -> Vec<Step<'_>> {
        let mut steps: Vec<Step<'_>> = std::iter::successors(Some(self), |place| place.parent)
            .map(|place| place.step)
            .collect();
        steps.reverse();
        steps
    }

    /// The path as people write it, e.g. `spec.containers[0].image`.
    fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps() {
            match step {
                Step::Root => {}
                Step::Field(_, name) | Step::Key(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    /// What Go says of a wrong type here: it names the innermost struct and the fields on the way, no keys or indices.
    fn wrong_type(&self, got: &str, wanted: &str) -> String {
        let mut fields = Vec::new();
        let mut innermost = None;
        for step in self.steps() {
            if let Step::Field(of, name) = step {
                fields.push(name);
                innermost = Some(of);
            }
        }
        match innermost {
            Some(of) => {
                let (of, path) = (of.short_name(), fields.join("."));
                format!("json: cannot unmarshal {got} into Go struct field {of}.{path} of type {wanted}")
            }
            None => no_field(got, wanted),
        }
    }
}

fn no_field(got: &str, wanted: &str) -> String {
    format!("json: cannot unmarshal {got} into Go value of type {wanted}")
}

/// What a value is to be.
#[derive(Clone, Copy)]
enum Target {
    Type(&'static Type),
    Shape(&'static Shape),
}

impl Target {
    fn of(shape: &'static Shape) -> Self {
        match shape {
            Shape::Named(id) => Self::Type(table::by_id(*id)),
            other => Self::Shape(other),
        }
    }

    /// Whether any JSON is taken as it is.
    fn is_raw(self) -> bool {
        match self {
            Self::Type(of) => matches!(of.form, Form::Any | Form::Object),
            Self::Shape(shape) => *shape == Shape::Any,
        }
    }

    fn go_name(self) -> Cow<'static, str> {
        match self {
            Self::Type(of) => match of.form {
                Form::Time | Form::MicroTime => "string".into(),
                Form::IntOrString => "int32".into(),
                _ => of.go_name().into(),
            },
            Self::Shape(shape) => go_name(shape),
        }
    }

    /// What stands for null where something has to stand: the zero value.
    fn zero(self) -> Value {
        match self {
            Self::Shape(Shape::String | Shape::Byte) => Value::String(String::new()),
            Self::Shape(Shape::Int32 | Shape::Int64 | Shape::Double) => Value::from(0),
            Self::Shape(Shape::Bool) => Value::Bool(false),
            Self::Type(Type { form: Form::Struct, .. }) => Value::Object(Map::new()),
            Self::Type(Type {
                form: Form::Quantity, ..
            }) => Value::String("0".to_owned()),
            Self::Type(Type {
                form: Form::IntOrString,
                ..
            }) => Value::from(0),
            _ => Value::Null,
        }
    }
}

fn go_name(shape: &Shape) -> Cow<'static, str> {
    match shape {
        Shape::String => "string".into(),
        Shape::Int32 => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Double => "float64".into(),
        Shape::Bool => "bool".into(),
        Shape::Byte => "[]uint8".into(),
        Shape::Any => "interface {}".into(),
        Shape::Named(id) => table::by_id(*id).go_name().into(),
        Shape::Array(item) => format!("[]{}", go_name(item)).into(),
        Shape::Map(value) => format!("map[string]{}", go_name(value)).into(),
    }
}

/// Reads one value; `None` stands for null. A value of a wrong type is noted and becomes `None`, and the pass goes on.
struct Seed<'a> {
    target: Target,
    at: &'a Place<'a>,
    notes: &'a RefCell<Notes>,
}

impl Seed<'_> {
    fn wrong(&self, message: String) {
        self.notes.borrow_mut().wrong.get_or_insert(message);
    }

    fn wrong_type(&self, got: &str) {
        // Types that decode themselves do not know where they stand.
        let custom = matches!(
            self.target,
            Target::Type(Type {
                form: Form::Time | Form::MicroTime | Form::IntOrString,
                ..
            })
        );
        let wanted = self.target.go_name();
        self.wrong(match self.target {
            Target::Type(Type {
                form: Form::Quantity, ..
            }) => match quantity::parse("[") {
                Err(words) => words,
                Ok(_) => no_field(got, &wanted),
            },
            _ if custom => no_field(got, &wanted),
            _ => self.at.wrong_type(got, &wanted),
        });
    }

    fn number(&self, number: Number) -> Option<Value> {
        let fits = match self.target {
            Target::Shape(Shape::Int32)
            | Target::Type(Type {
                form: Form::IntOrString,
                ..
            }) => number.as_i64().is_some_and(|int| i32::try_from(int).is_ok()),
            Target::Shape(Shape::Int64) => number.as_i64().is_some(),
            Target::Shape(Shape::Double)
            | Target::Type(Type {
                form: Form::Quantity, ..
            }) => true,
            _ => {
                self.wrong_type("number");
                return None;
            }
        };
        if !fits {
            self.wrong_type(&format!("number {number}"));
        }
        fits.then_some(Value::Number(number))
    }

    fn text(&self, text: Cow<'_, str>) -> Option<Value> {
        let checked = match self.target {
            Target::Shape(Shape::String)
            | Target::Type(Type {
                form: Form::IntOrString,
                ..
            }) => Ok(text.into_owned()),
            Target::Shape(Shape::Byte) => base64_text(text),
            Target::Type(Type {
                form: Form::Quantity, ..
            }) => quantity::parse(text.trim()).map(|_| text.trim().to_owned()),
            Target::Type(Type { form: Form::Time, .. }) => time(text, "2006-01-02T15:04:05Z07:00"),
            Target::Type(Type {
                form: Form::MicroTime, ..
            }) => time(text, "2006-01-02T15:04:05.000000Z07:00"),
            _ => {
                self.wrong_type("string");
                return None;
            }
        };
        checked.map_err(|message| self.wrong(message)).ok().map(Value::String)
    }

    fn fields<'de, A: MapAccess<'de>>(&self, of: &'static Type, mut input: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let mut seen = 0u128;
        while let Some(key) = input.next_key::<String>()? {
            let Some((index, field)) = of.field(&key) else {
                self.notes
                    .borrow_mut()
                    .strict("unknown", &self.at.then(Step::Key(&key)));
                input.next_value::<IgnoredAny>()?;
                continue;
            };
            let at = self.at.then(Step::Field(of, field.name));
            if seen & (1 << index) != 0 {
                self.notes.borrow_mut().strict("duplicate", &at);
            }
            seen |= 1 << index;
            let seed = Seed {
                target: Target::of(&field.shape),
                at: &at,
                notes: self.notes,
            };
            if let Some(value) = input.next_value_seed(seed)? {
                object.insert(key, value);
            }
        }
        Ok(Value::Object(object))
    }

    fn map<'de, A: MapAccess<'de>>(&self, of: &'static Shape, mut input: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let target = Target::of(of);
        while let Some(key) = input.next_key::<String>()? {
            let at = self.at.then(Step::Key(&key));
            if object.contains_key(&key) {
                self.notes.borrow_mut().strict("duplicate", &at);
            }
            let value = input.next_value_seed(Seed {
                target,
                at: &at,
                notes: self.notes,
            })?;
            object.insert(key, value.unwrap_or_else(|| target.zero()));
        }
        Ok(Value::Object(object))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        if self.at.depth > DEPTH_MAX {
            return Err(D::Error::custom("recursion limit exceeded"));
        }
        if self.target.is_raw() {
            return Value::deserialize(input).map(|value| (!value.is_null()).then_some(value));
        }
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a value of type {}", self.target.go_name())
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        if matches!(self.target, Target::Shape(Shape::Bool)) {
            return Ok(Some(Value::Bool(value)));
        }
        self.wrong_type("bool");
        Ok(None)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        Ok(self.number(number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(self.text(value.into()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Self::Value, E> {
        Ok(self.text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Self::Value, A::Error> {
        let Target::Shape(Shape::Array(item)) = self.target else {
            self.wrong_type("array");
            while input.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let target = Target::of(item);
        let mut items = Vec::with_capacity(input.size_hint().unwrap_or(0).min(1024));
        loop {
            let at = self.at.then(Step::Index(items.len()));
            let Some(value) = input.next_element_seed(Seed {
                target,
                at: &at,
                notes: self.notes,
            })?
            else {
                break;
            };
            items.push(value.unwrap_or_else(|| target.zero()));
        }
        Ok(Some(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Self::Value, A::Error> {
        match self.target {
            Target::Type(of) if of.form == Form::Struct => self.fields(of, input).map(Some),
            Target::Shape(Shape::Map(of)) => self.map(of, input).map(Some),
            _ => {
                self.wrong_type("object");
                while input.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(None)
            }
        }
    }
}

/// Base64 as Go takes it (line ends anywhere), brought into one line.
fn base64_text(text: Cow<'_, str>) -> Result<String, String> {
    let text: String = match text.contains(['\r', '\n']) {
        true => text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect(),
        false => text.into_owned(),
    };
    match STANDARD.decode(&text) {
        Ok(_) => Ok(text),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => Err(format!("illegal base64 data at input byte {}", text.len() / 4 * 4)),
    }
}

/// A time as RFC 3339 has it; `layout` is how Go names the format.
fn time(text: Cow<'_, str>, layout: &str) -> Result<String, String> {
    let is_time = text.len() >= "2006-01-02T15:04:05Z".len()
        && text.as_bytes()[10] == b'T'
        && text.parse::<jiff::Timestamp>().is_ok();
    if is_time {
        return Ok(text.into_owned());
    }
    let rest = if text.starts_with(|c: char| c.is_ascii_digit()) {
        text.as_ref()
    } else {
        ""
    };
    let (rest, part) = if rest.is_empty() {
        (text.as_ref(), "2006")
    } else {
        (rest, "2006-01-02T15:04:05Z07:00")
    };
    Err(format!(
        "parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}"
    ))
}
