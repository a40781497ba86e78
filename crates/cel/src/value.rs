//! Values of expressions.

use crate::access::{self, Decision, Inquiry};
use crate::network;
use crate::quantity::Quantity;
use crate::types::{Type, escape};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Number, Value as Json};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating point number.
    Double(f64),
    /// Text.
    String(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A span of time.
    Duration(SignedDuration),
    /// A point in time.
    Timestamp(Timestamp),
    /// A list.
    List(Arc<Vec<Self>>),
    /// A map, or an object.
    Map(Arc<BTreeMap<Key, Self>>),
    /// A value that may be absent.
    Optional(Option<Arc<Self>>),
    /// A type.
    Type(Arc<str>),
    /// An amount of a resource.
    Quantity(Quantity),
    /// A URL.
    Url(Arc<network::Url>),
    /// An IP address.
    Ip(std::net::IpAddr),
    /// An IP network.
    Cidr(ipnet::IpNet),
    /// A semantic version.
    Semver(Arc<crate::strings::Semver>),
    /// A format of strings.
    Format(&'static str),
    /// A question to an authorizer.
    Inquiry(Arc<Inquiry>),
    /// An answer of an authorizer.
    Decision(Arc<Decision>),
}

/// The key of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An unsigned integer beyond the signed ones.
    Uint(u64),
    /// Text.
    String(Arc<str>),
}

impl Key {
    /// The value of the key.
    pub fn value(&self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(value) => Value::String(value.clone()),
        }
    }
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(text.into())
    }

    /// A list.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// A map with text as keys.
    pub fn object(fields: impl IntoIterator<Item = (String, Self)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, value)| (Key::String(name.into()), value));
        Self::Map(Arc::new(fields.collect()))
    }

    /// JSON as a value of a type. What the type does not know is not seen.
    pub fn from_json(json: &Json, of: &Type) -> Self {
        match (of, json) {
            (_, Json::Null) => Self::Null,
            (_, Json::Bool(value)) => Self::Bool(*value),
            (Type::Double, Json::Number(number)) => Self::Double(number.as_f64().unwrap_or(0.0)),
            (Type::Uint, Json::Number(number)) => number.as_u64().map_or(Self::Int(0), Self::Uint),
            (Type::Int, Json::Number(number)) => Self::Int(whole(number)),
            (_, Json::Number(number)) => match number.as_i64() {
                Some(whole) => Self::Int(whole),
                None => Self::Double(number.as_f64().unwrap_or(0.0)),
            },
            (Type::Timestamp, Json::String(text)) => {
                let parsed = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse());
                parsed.map_or_else(|_| Self::text(text.as_str()), Self::Timestamp)
            }
            (Type::Duration, Json::String(text)) => {
                crate::strings::duration(text).map_or_else(|| Self::text(text.as_str()), Self::Duration)
            }
            (Type::Bytes(_), Json::String(text)) => match STANDARD.decode(text) {
                Ok(bytes) => Self::Bytes(bytes.into()),
                Err(_) => Self::text(text.as_str()),
            },
            (_, Json::String(text)) => Self::text(text.as_str()),
            (Type::List(item, _), Json::Array(items)) => {
                Self::list(items.iter().map(|json| Self::from_json(json, item)).collect())
            }
            (_, Json::Array(items)) => Self::list(items.iter().map(|json| Self::from_json(json, &Type::Dyn)).collect()),
            (Type::Object(of), Json::Object(fields)) => {
                // A null counts as absent.
                let given = fields.iter().filter(|(_, json)| !json.is_null());
                let known = given.filter_map(|(name, json)| {
                    let name = escape(name)?;
                    let of = of.fields.get(&name)?;
                    Some((name, Self::from_json(json, of)))
                });
                Self::object(known)
            }
            (Type::Map(_, value, _), Json::Object(fields)) => Self::object(
                fields
                    .iter()
                    .map(|(name, json)| (name.clone(), Self::from_json(json, value))),
            ),
            (_, Json::Object(fields)) => Self::object(
                fields
                    .iter()
                    .map(|(name, json)| (name.clone(), Self::from_json(json, &Type::Dyn))),
            ),
        }
    }

    /// The value as JSON, for what is made by an expression; `None` for what JSON cannot say.
    pub fn to_json(&self) -> Option<Json> {
        Some(match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => Json::from(*value),
            Self::Uint(value) => Json::from(*value),
            Self::Double(value) => Json::Number(Number::from_f64(*value)?),
            Self::String(text) => Json::from(&**text),
            Self::Bytes(bytes) => Json::from(STANDARD.encode(bytes)),
            Self::Timestamp(time) => Json::from(time.to_string()),
            Self::Duration(_) | Self::Quantity(_) | Self::Ip(_) | Self::Cidr(_) => {
                Json::from(crate::strings::to_text(self)?)
            }
            Self::List(items) => Json::Array(items.iter().map(Self::to_json).collect::<Option<_>>()?),
            Self::Map(entries) => {
                let entry =
                    |(key, value): (&Key, &Self)| Some((crate::strings::to_text(&key.value())?, value.to_json()?));
                Json::Object(entries.iter().map(entry).collect::<Option<_>>()?)
            }
            Self::Optional(Some(inner)) => inner.to_json()?,
            _ => return None,
        })
    }

    /// The name of the type at run time.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Inquiry(inquiry) => inquiry.type_name(),
            Self::Decision(_) => access::DECISION,
        }
    }

    /// The value as a key of a map.
    pub(crate) fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(value) => Key::Bool(*value),
            Self::Int(value) => Key::Int(*value),
            Self::Uint(value) => i64::try_from(*value).map_or(Key::Uint(*value), Key::Int),
            Self::Double(value) if value.fract() == 0.0 => Key::Int(whole(&Number::from_f64(*value)?)),
            Self::String(text) => Key::String(text.clone()),
            _ => return None,
        })
    }

    /// Which of two values is greater, if they can be compared.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Uint(a), Self::Uint(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Uint(a), Self::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Int(_) | Self::Uint(_) | Self::Double(_), Self::Int(_) | Self::Uint(_) | Self::Double(_)) => {
                self.double()?.partial_cmp(&other.double()?)
            }
            (Self::String(a), Self::String(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Quantity(a), Self::Quantity(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    pub(crate) fn double(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "as CEL compares integers with doubles")]
        Some(match self {
            Self::Int(value) => *value as f64,
            Self::Uint(value) => *value as f64,
            Self::Double(value) => *value,
            _ => return None,
        })
    }

    /// How many parts the value has, for what it costs to go through it.
    pub(crate) fn parts(&self) -> u64 {
        let count = match self {
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => items.len(),
            Self::Map(entries) => entries.len(),
            _ => 1,
        };
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a fraction of an integer is dropped")]
fn whole(number: &Number) -> i64 {
    number.as_i64().unwrap_or_else(|| number.as_f64().unwrap_or(0.0) as i64)
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a == b,
            (Self::Format(a), Self::Format(b)) => a == b,
            (Self::Inquiry(a), Self::Inquiry(b)) => Arc::ptr_eq(a, b),
            (Self::Decision(a), Self::Decision(b)) => a == b,
            (a, b) => a.order(b) == Some(Ordering::Equal),
        }
    }
}
