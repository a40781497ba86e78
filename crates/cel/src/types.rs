//! Types, and how large their values can be.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The most bytes that an object can have, so the most of anything in it.
pub(crate) const SIZE_MAX: u64 = 3 * 1024 * 1024;

/// The type of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Known only when the expression runs.
    Dyn,
    /// `null`.
    Null,
    /// `true` and `false`.
    Bool,
    /// A signed integer of 64 bits.
    Int,
    /// An unsigned integer of 64 bits.
    Uint,
    /// A floating point number.
    Double,
    /// Text of at most so many characters.
    String(u64),
    /// Bytes.
    Bytes(u64),
    /// A span of time.
    Duration,
    /// A point in time.
    Timestamp,
    /// A list of at most so many items.
    List(Box<Self>, u64),
    /// A map of at most so many entries.
    Map(Box<Self>, Box<Self>, u64),
    /// An object with named fields.
    Object(Arc<ObjectType>),
    /// A value that may be absent.
    Optional(Box<Self>),
    /// A type as a value.
    Type,
    /// A type that only functions can look into, e.g. `kubernetes.Quantity`.
    Opaque(&'static str),
    /// A type parameter of a function.
    Parameter(char),
}

/// A type with named fields. Names are escaped, see [`escape`].
#[derive(Debug, PartialEq)]
pub struct ObjectType {
    /// The name in messages.
    pub name: String,
    /// The fields.
    pub fields: BTreeMap<String, Type>,
}

impl Type {
    /// Text of any length.
    pub const TEXT: Self = Self::String(SIZE_MAX);

    /// A list of any length.
    pub fn list(item: Self) -> Self {
        Self::List(Box::new(item), SIZE_MAX / 2)
    }

    /// A map of any size.
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Box::new(key), Box::new(value), SIZE_MAX / 2)
    }

    /// How many parts (characters, items, entries) a value has at most.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::String(max) | Self::Bytes(max) | Self::List(_, max) | Self::Map(_, _, max) => *max,
            Self::Dyn => SIZE_MAX,
            Self::Optional(inner) => inner.size(),
            _ => 1,
        }
    }

    /// The type of what is gone through by a macro: items of lists, keys of maps.
    pub(crate) fn item(&self) -> Option<Self> {
        match self {
            Self::Dyn => Some(Self::Dyn),
            Self::List(item, _) => Some((**item).clone()),
            Self::Map(key, _, _) => Some((**key).clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String(_) => f.write_str("string"),
            Self::Bytes(_) => f.write_str("bytes"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::List(item, _) => write!(f, "list({item})"),
            Self::Map(key, value, _) => write!(f, "map({key}, {value})"),
            Self::Object(of) => f.write_str(&of.name),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Type => f.write_str("type"),
            Self::Opaque(name) => f.write_str(name),
            Self::Parameter(name) => write!(f, "{name}"),
        }
    }
}

/// Words of the language that cannot be names of fields as they are.
const RESERVED: [&str; 17] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
];

/// The name of a field in expressions; `None` if it cannot be written. `a.b/c-d` is `a__dot__b__slash__c__dash__d`.
pub fn escape(name: &str) -> Option<String> {
    if RESERVED.contains(&name) || matches!(name, "return" | "var" | "void" | "while") {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || matches!(c, '.' | '-' | '/');
    if !name.chars().next().is_some_and(starts) {
        return None;
    }
    while let Some(c) = chars.next() {
        match c {
            '_' if chars.next_if_eq(&'_').is_some() => escaped.push_str("__underscores__"),
            '.' => escaped.push_str("__dot__"),
            '-' => escaped.push_str("__dash__"),
            '/' => escaped.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => escaped.push(c),
            _ => return None,
        }
    }
    Some(escaped)
}
