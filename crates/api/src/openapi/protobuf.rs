//! The document of OpenAPI v2 as the protobuf message `openapi.v2.Document` of the published `OpenAPIv2.proto`.
//!
//! Written by hand from the JSON document: only the parts that our documents have, each with its field number.

use serde_json::{Map, Value};

/// The wire type of integers.
const VARINT: u64 = 0;
/// The wire type of floating point numbers.
const FIXED: u64 = 1;
/// The wire type of strings and messages.
const LENGTH_DELIMITED: u64 = 2;

/// `openapi.v2.Document`.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, document.get("swagger"));
    out.message(2, document.get("info"), |out, info| {
        out.text(1, info.get("title"));
        out.text(2, info.get("version"));
    });
    out.message(8, document.get("paths"), |out, paths| out.named(2, paths, path_item));
    out.message(9, document.get("definitions"), |out, definitions| {
        out.named(1, definitions, schema)
    });
    out.0
}

/// The bytes of a message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        // Seven bits in each byte, the lowest first; the eighth says that more follow.
        while value >= 0x80 {
            self.0.push(low_seven_bits(value) | 0x80);
            value >>= 7;
        }
        self.0.push(low_seven_bits(value));
    }

    fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.varint(number << 3 | LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, number: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str).filter(|text| !text.is_empty()) {
            self.bytes(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u64, values: Option<&Value>) {
        for text in values
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            self.bytes(number, text.as_bytes());
        }
    }

    fn flag(&mut self, number: u64, value: Option<&Value>) {
        if value == Some(&Value::Bool(true)) {
            self.varint(number << 3 | VARINT);
            self.varint(1);
        }
    }

    fn integer(&mut self, number: u64, value: Option<&Value>) {
        if let Some(value) = value.and_then(Value::as_i64) {
            self.varint(number << 3 | VARINT);
            self.varint(value.cast_unsigned());
        }
    }

    fn double(&mut self, number: u64, value: Option<&Value>) {
        if let Some(value) = value.and_then(Value::as_f64) {
            self.varint(number << 3 | FIXED);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// A message inside this one; absent if the value is.
    fn message(&mut self, number: u64, value: Option<&Value>, fill: impl FnOnce(&mut Self, &Value)) {
        if let Some(value) = value {
            let mut inner = Self::default();
            fill(&mut inner, value);
            self.bytes(number, &inner.0);
        }
    }

    /// One message for each item of a list.
    fn each(&mut self, number: u64, values: Option<&Value>, fill: impl Fn(&mut Self, &Value)) {
        for value in values.and_then(Value::as_array).into_iter().flatten() {
            self.message(number, Some(value), &fill);
        }
    }

    /// A map, as one message (`name` = 1, `value` = 2) for each entry.
    fn named(&mut self, number: u64, values: &Value, fill: impl Fn(&mut Self, &Value)) {
        for (name, value) in values.as_object().into_iter().flatten() {
            self.entry(number, name, value, &fill);
        }
    }

    fn entry(&mut self, number: u64, name: &str, value: &Value, fill: impl Fn(&mut Self, &Value)) {
        let mut entry = Self::default();
        entry.bytes(1, name.as_bytes());
        entry.message(2, Some(value), &fill);
        self.bytes(number, &entry.0);
    }

    /// The vendor extensions of an object: entries that begin with `x-`.
    fn extensions(&mut self, number: u64, value: &Value) {
        let fields = value.as_object().into_iter().flat_map(Map::iter);
        for (name, value) in fields.filter(|(name, _)| name.starts_with("x-")) {
            self.entry(number, name, value, any);
        }
    }
}

fn low_seven_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).expect("seven bits fit")
}

/// `Any`: the value as YAML, of which JSON is a part.
fn any(out: &mut Message, value: &Value) {
    out.bytes(2, format!("{value}\n").as_bytes());
}

/// `Schema`.
fn schema(out: &mut Message, value: &Value) {
    out.text(1, value.get("$ref"));
    out.text(2, value.get("format"));
    out.text(3, value.get("title"));
    out.text(4, value.get("description"));
    out.message(5, value.get("default"), any);
    out.double(6, value.get("multipleOf"));
    out.double(7, value.get("maximum"));
    out.flag(8, value.get("exclusiveMaximum"));
    out.double(9, value.get("minimum"));
    out.flag(10, value.get("exclusiveMinimum"));
    out.integer(11, value.get("maxLength"));
    out.integer(12, value.get("minLength"));
    out.text(13, value.get("pattern"));
    out.integer(14, value.get("maxItems"));
    out.integer(15, value.get("minItems"));
    out.integer(17, value.get("maxProperties"));
    out.integer(18, value.get("minProperties"));
    out.texts(19, value.get("required"));
    out.each(20, value.get("enum"), any);
    // AdditionalPropertiesItem, TypeItem, ItemsItem and Properties each wrap their content in field 1.
    out.message(21, value.get("additionalProperties"), |out, value| match value {
        Value::Bool(_) => out.flag(2, Some(value)),
        value => out.message(1, Some(value), schema),
    });
    out.message(22, value.get("type"), |out, value| out.text(1, Some(value)));
    out.message(23, value.get("items"), |out, value| out.message(1, Some(value), schema));
    out.message(25, value.get("properties"), |out, value| out.named(1, value, schema));
    out.message(29, value.get("externalDocs"), |out, value| {
        out.text(1, value.get("description"));
        out.text(2, value.get("url"));
    });
    out.message(30, value.get("example"), any);
    out.extensions(31, value);
}

/// `PathItem`.
fn path_item(out: &mut Message, value: &Value) {
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        out.message(number, value.get(method), operation);
    }
    out.each(9, value.get("parameters"), parameter);
}

/// `Operation`.
fn operation(out: &mut Message, value: &Value) {
    out.texts(1, value.get("tags"));
    out.text(3, value.get("description"));
    out.text(5, value.get("operationId"));
    out.texts(6, value.get("produces"));
    out.texts(7, value.get("consumes"));
    out.each(8, value.get("parameters"), parameter);
    out.message(9, value.get("responses"), |out, responses| {
        out.named(1, responses, |out, value| out.message(1, Some(value), response));
    });
    out.texts(10, value.get("schemes"));
    out.extensions(13, value);
}

/// `Response`.
fn response(out: &mut Message, value: &Value) {
    out.text(1, value.get("description"));
    out.message(2, value.get("schema"), |out, value| out.message(1, Some(value), schema));
}

/// `ParametersItem`: a `Parameter`, which is a `BodyParameter` or a `NonBodyParameter`.
fn parameter(out: &mut Message, value: &Value) {
    out.message(1, Some(value), |out, value| {
        match value.get("in").and_then(Value::as_str) {
            Some("body") => out.message(1, Some(value), body_parameter),
            Some("path") => out.message(2, Some(value), |out, value| out.message(4, Some(value), path_parameter)),
            _ => out.message(2, Some(value), |out, value| {
                out.message(3, Some(value), query_parameter)
            }),
        }
    });
}

fn body_parameter(out: &mut Message, value: &Value) {
    out.text(1, value.get("description"));
    out.text(2, value.get("name"));
    out.text(3, value.get("in"));
    out.flag(4, value.get("required"));
    out.message(5, value.get("schema"), schema);
}

fn query_parameter(out: &mut Message, value: &Value) {
    named_parameter(out, value);
    out.text(6, value.get("type"));
    out.flag(20, value.get("uniqueItems"));
}

fn path_parameter(out: &mut Message, value: &Value) {
    named_parameter(out, value);
    out.text(5, value.get("type"));
    out.flag(19, value.get("uniqueItems"));
}

fn named_parameter(out: &mut Message, value: &Value) {
    out.flag(1, value.get("required"));
    out.text(2, value.get("in"));
    out.text(3, value.get("description"));
    out.text(4, value.get("name"));
}
