//! What ownership sees of the schema: which values are owned as a whole, and how the parts of the others are named.

use super::set;
use crate::custom::schema::{self as custom, Schema, is_type_or_metadata};
use crate::kinds::Kind;
use crate::schema;
use crate::schema::table::{self, Field, Form, ListKind, Shape, Type};
use serde_json::{Map, Value, json};

/// How a value is owned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node<'a> {
    /// As a whole.
    Leaf,
    /// Field by field.
    Struct(&'static Type),
    /// Key by key.
    Map(&'static Shape),
    /// Item by item; items are primitive values.
    Set,
    /// Item by item; items are told apart by the values of some fields.
    Keyed {
        keys: &'static [&'static str],
        item: &'static Shape,
    },
    /// A custom resource as a whole, or an object embedded in one: field by field, with metadata like all others.
    Root(&'a Schema),
    /// An object in a custom resource: field by field or key by key.
    Custom(&'a Schema),
    /// A list in a custom resource whose items are told apart by the values of some fields.
    Items(&'a Schema),
    /// Nothing is known: objects key by key, all else as a whole.
    Deduced,
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

impl<'a> Node<'a> {
    /// An object of a kind.
    pub(super) fn of_kind(kind: &'a Kind) -> Self {
        match &kind.custom {
            Some(version) => Self::Root(version.schema()),
            None => Self::of_type(kind.schema),
        }
    }

    /// A value in a custom resource.
    fn of_schema(schema: &'a Schema) -> Self {
        match schema.of {
            Some(custom::Type::Object) if schema.atomic => Self::Leaf,
            Some(custom::Type::Object) if schema.embedded => Self::Root(schema),
            Some(custom::Type::Object) if schema.properties.is_empty() && schema.additional.is_none() => Self::Deduced,
            Some(custom::Type::Object) => Self::Custom(schema),
            Some(custom::Type::Array) => match &schema.list {
                custom::ListKind::Atomic => Self::Leaf,
                custom::ListKind::Set => Self::Set,
                custom::ListKind::Map(_) => Self::Items(schema),
            },
            None if schema.preserve => Self::Deduced,
            _ => Self::Leaf,
        }
    }

    /// An object of the type `schema`.
    pub(super) fn of_type(schema: &str) -> Self {
        table::by_name(schema).map_or(Self::Deduced, Self::Struct)
    }

    /// An object of which nothing is set, as Go writes it.
    pub(super) fn nothing(self) -> Value {
        match self {
            Self::Struct(of) => schema::zero(of),
            _ => json!({"metadata": {}}),
        }
    }

    /// What lies under a name in an object.
    pub(super) fn child(self, name: &str) -> Self {
        match self {
            Self::Struct(of) => of
                .field(name)
                .map_or(Self::Deduced, |(_, field)| Self::of(&field.shape, Some(field))),
            Self::Map(values) => Self::of(values, None),
            Self::Root(_) if name == "metadata" => Self::of_type(OBJECT_META),
            Self::Root(_) if is_type_or_metadata(name) => Self::Leaf,
            Self::Root(schema) | Self::Custom(schema) => schema.field(name).map_or(Self::Deduced, Self::of_schema),
            _ => Self::Deduced,
        }
    }

    /// What an item of a list is.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Keyed { item, .. } => Self::of(item, None),
            Self::Items(schema) => schema.items.as_deref().map_or(Self::Deduced, Self::of_schema),
            _ => Self::Leaf,
        }
    }

    /// Whether `name` is a field of the schema, not a key of a map.
    pub(super) fn names(self, name: &str) -> bool {
        match self {
            Self::Struct(of) => of.field(name).is_some(),
            Self::Root(schema) => is_type_or_metadata(name) || schema.properties.contains_key(name),
            Self::Custom(schema) => schema.properties.contains_key(name),
            _ => false,
        }
    }

    fn of(shape: &'static Shape, field: Option<&'static Field>) -> Self {
        let atomic = field.is_some_and(Field::atomic_map);
        match shape {
            Shape::Named(id) => {
                let of = table::by_id(*id);
                if of.form == Form::Struct && !of.atomic && !atomic {
                    Self::Struct(of)
                } else {
                    Self::Leaf
                }
            }
            Shape::Map(values) if !atomic => Self::Map(values),
            Shape::Array(item) => match field.map(|field| &field.list) {
                Some(ListKind::Set) => Self::Set,
                Some(ListKind::Map(keys)) => Self::Keyed { keys, item },
                _ => Self::Leaf,
            },
            _ => Self::Leaf,
        }
    }

    /// The path elements of a list's items; `None` if one has none, for then the list can only be taken as a whole.
    pub(super) fn elements(self, items: &[Value]) -> Option<Vec<String>> {
        items.iter().map(|item| self.element(item).ok()).collect()
    }

    /// The path element of an item, or what keeps it from having one.
    pub(super) fn element(self, item: &Value) -> Result<String, String> {
        if let Self::Items(schema) = self {
            return custom_element(schema, item);
        }
        let Self::Keyed { keys, item: shape } = self else {
            if item.is_object() || item.is_array() {
                return Err("associative list without keys has an element that's a map or a list".to_owned());
            }
            return Ok(set::value(item));
        };
        let mut found = Map::new();
        for key in keys {
            let value = item.get(*key).cloned().or_else(|| default(shape, key));
            let value = value.ok_or_else(|| {
                format!(
                    "associative list with keys has an element that omits key field {key:?} \
                     (and doesn't have default value)"
                )
            })?;
            found.insert((*key).to_owned(), value);
        }
        Ok(set::keys(found))
    }
}

fn custom_element(schema: &Schema, item: &Value) -> Result<String, String> {
    let custom::ListKind::Map(keys) = &schema.list else {
        return Err("the list has no keys".to_owned());
    };
    let found = custom::keys_of(item, keys, schema.items.as_deref());
    let found = found.ok_or_else(|| "associative list with keys may not have non-map elements".to_owned())?;
    match keys.iter().find(|key| !found.contains_key(*key)) {
        Some(key) => Err(format!(
            "associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
        )),
        None => Ok(set::keys(found)),
    }
}

/// The default of a key field.
fn default(item: &Shape, key: &str) -> Option<Value> {
    let Shape::Named(id) = item else { return None };
    serde_json::from_str(table::by_id(*id).field(key)?.1.default?).ok()
}

/// Whether there is nothing in the value: absent, null, or an empty object or list.
pub(super) fn is_bare(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}
