//! The strategic merge patch: lists are merged by the keys and strategies of the schema, and directives in the patch
//! (`$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`) say what merging cannot.
//!
//! The rules are those of the Kubernetes document "Strategic Merge Patch" and of the server's behaviour where that
//! document is silent.

use super::PatchError;
use super::order::{arrange, same};
use crate::schema::table::{self, Field, Shape, Type};
use serde_json::{Map, Value};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

/// Applies the patch to an object of the type `schema`.
pub(super) fn apply(schema: &str, current: &Value, patch: &Map<String, Value>) -> Result<Value, PatchError> {
    let of = table::by_name(schema).map_or(Of::Unknown, Of::Object);
    let current = current.as_object().cloned().unwrap_or_default();
    merge_object(of, current, patch).map(Value::Object)
}

/// What the schema says of a value.
#[derive(Clone, Copy)]
enum Of {
    Object(&'static Type),
    Map(&'static Shape),
    Unknown,
}

impl Of {
    fn shape(shape: &'static Shape) -> Self {
        match shape {
            Shape::Named(id) => Self::Object(table::by_id(*id)),
            Shape::Map(values) => Self::Map(values),
            Shape::Array(items) => Self::shape(items),
            _ => Self::Unknown,
        }
    }

    fn field(self, name: &str) -> Option<&'static Field> {
        match self {
            Self::Object(of) => of.field(name).map(|(_, field)| field),
            Self::Map(_) | Self::Unknown => None,
        }
    }

    /// The type of a field; of the items, if it is a list.
    fn child(self, name: &str) -> Self {
        match self {
            Self::Object(_) => self
                .field(name)
                .map_or(Self::Unknown, |field| Self::shape(&field.shape)),
            Self::Map(values) => Self::shape(values),
            Self::Unknown => Self::Unknown,
        }
    }
}

/// How a list is patched.
#[derive(Clone, Copy)]
struct ListRule {
    items: Of,
    merges: bool,
    key: Option<&'static str>,
}

impl ListRule {
    fn of(of: Of, name: &str) -> Self {
        let field = of.field(name);
        Self {
            items: of.child(name),
            merges: field.is_some_and(Field::merges),
            key: field.and_then(|field| field.merge_key),
        }
    }
}

fn malformed<T>(message: impl Into<String>) -> Result<T, PatchError> {
    Err(PatchError::Malformed(message.into()))
}

fn merge_object(
    of: Of,
    mut current: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, PatchError> {
    match directive(patch)? {
        Directive::Delete => return Ok(Map::new()),
        // What replaces is taken as it stands, but for directives and nulls, which mean nothing any more.
        Directive::Replace => current = Map::new(),
        Directive::Merge => {}
    }
    retain_keys(&mut current, patch)?;
    for (key, values) in patch.iter().filter(|(key, _)| key.starts_with(DELETE_FROM_LIST)) {
        delete_from_list(&mut current, &key[DELETE_FROM_LIST.len()..], values)?;
    }
    for (name, value) in patch {
        if !name.starts_with('$') || (name != PATCH && name != RETAIN_KEYS && !name.contains('/')) {
            merge_field(of, &mut current, name, value, order_of(patch, name)?)?;
        }
    }
    for (key, wanted) in patch.iter().filter(|(key, _)| key.starts_with(SET_ELEMENT_ORDER)) {
        let name = &key[SET_ELEMENT_ORDER.len()..];
        if !patch.contains_key(name)
            && let Some(Value::Array(items)) = current.get_mut(name)
        {
            let Value::Array(wanted) = wanted else {
                return malformed("invalid patch format of setElementOrder list");
            };
            let server = items.clone();
            *items = arrange(std::mem::take(items), wanted, &server, ListRule::of(of, name).key);
        }
    }
    Ok(current)
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Map<String, Value>) -> Result<Directive, PatchError> {
    match patch.get(PATCH) {
        None => Ok(Directive::Merge),
        Some(Value::String(word)) if word == "merge" => Ok(Directive::Merge),
        Some(Value::String(word)) if word == "replace" => Ok(Directive::Replace),
        Some(Value::String(word)) if word == "delete" => Ok(Directive::Delete),
        Some(other) => {
            let word = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            malformed(format!(
                "unknown patch type: {word} in map: {}",
                Value::Object(patch.clone())
            ))
        }
    }
}

/// `$retainKeys`: fields that are not in the list go.
fn retain_keys(current: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    let Some(keys) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(keys) = keys else {
        return malformed("invalid patch format of retainKeys");
    };
    let keeps = |name: &str| keys.iter().any(|key| key == name);
    if patch
        .iter()
        .any(|(name, value)| !value.is_null() && !name.starts_with('$') && !keeps(name))
    {
        return malformed("invalid patch format of retainKeys");
    }
    current.retain(|name, _| keeps(name));
    Ok(())
}

/// `$deleteFromPrimitiveList/NAME`: these values go.
fn delete_from_list(current: &mut Map<String, Value>, name: &str, values: &Value) -> Result<(), PatchError> {
    let Value::Array(values) = values else {
        return malformed("invalid patch format of primitive list");
    };
    if let Some(Value::Array(items)) = current.get_mut(name) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

/// The value of `$setElementOrder/NAME`, if the patch has one.
fn order_of<'p>(patch: &'p Map<String, Value>, name: &str) -> Result<Option<&'p [Value]>, PatchError> {
    match patch
        .iter()
        .find(|(key, _)| key.strip_prefix(SET_ELEMENT_ORDER) == Some(name))
    {
        None => Ok(None),
        Some((_, Value::Array(order))) => Ok(Some(order)),
        Some(_) => malformed("invalid patch format of setElementOrder list"),
    }
}

fn merge_field(
    of: Of,
    current: &mut Map<String, Value>,
    name: &str,
    patch: &Value,
    order: Option<&[Value]>,
) -> Result<(), PatchError> {
    let before = current.remove(name);
    let replaces = of.field(name).is_some_and(|field| field.has_strategy("replace"));
    let merged = match patch {
        Value::Null => return Ok(()),
        // What is not there cannot be emptied.
        Value::Object(patch) if before.is_none() && matches!(directive(patch)?, Directive::Delete) => return Ok(()),
        Value::Object(patch) => {
            let before = match before {
                Some(Value::Object(before)) if !replaces => before,
                _ => Map::new(),
            };
            Value::Object(merge_object(of.child(name), before, patch)?)
        }
        Value::Array(patch) => {
            let before = match before {
                Some(Value::Array(before)) => before,
                _ => Vec::new(),
            };
            Value::Array(merge_list(ListRule::of(of, name), before, patch, order)?)
        }
        other => other.clone(),
    };
    current.insert(name.to_owned(), merged);
    Ok(())
}

fn merge_list(
    rule: ListRule,
    before: Vec<Value>,
    patch: &[Value],
    order: Option<&[Value]>,
) -> Result<Vec<Value>, PatchError> {
    if !rule.merges {
        return patch.iter().map(|item| as_new(rule.items, item)).collect();
    }
    let server = before.clone();
    let (merged, named) = match rule.key {
        Some(key) if patch.iter().chain(&before).any(Value::is_object) => merge_items(rule.items, key, before, patch)?,
        Some(_) if !patch.is_empty() => return malformed("cannot merge lists of different kinds of elements"),
        _ => (merge_primitives(before, patch)?, patch.to_vec()),
    };
    Ok(arrange(merged, order.unwrap_or(&named), &server, rule.key))
}

/// Merges two sets of primitive values.
fn merge_primitives(before: Vec<Value>, patch: &[Value]) -> Result<Vec<Value>, PatchError> {
    if patch.iter().any(|item| item.is_object() || item.is_array()) {
        return malformed("cannot merge lists without merge key");
    }
    let mut merged = Vec::with_capacity(before.len() + patch.len());
    for item in before.iter().chain(patch) {
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    Ok(merged)
}

/// Merges the items of a list of objects; also tells which items the patch is about.
fn merge_items(
    of: Of,
    key: &str,
    mut items: Vec<Value>,
    patch: &[Value],
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replaces = false;
    for item in patch {
        let Value::Object(fields) = item else {
            return malformed(format!("map: {item} does not contain declared merge key: {key}"));
        };
        match directive(fields)? {
            Directive::Merge => plain.push(item),
            Directive::Replace => replaces = true,
            Directive::Delete => {
                has_key(item, key)?;
                items.retain(|other| !same(other, item, Some(key)));
            }
        }
    }
    if replaces {
        // The item with the directive says only that: the list becomes the other items.
        let new: Result<Vec<Value>, PatchError> = plain.into_iter().map(|item| as_new(of, item)).collect();
        return new.map(|new| (new, Vec::new()));
    }
    for item in &plain {
        has_key(item, key)?;
        match items.iter_mut().find(|other| same(other, item, Some(key))) {
            Some(Value::Object(found)) => {
                let fields = item.as_object().expect("only objects are kept above");
                *found = merge_object(of, std::mem::take(found), fields)?;
            }
            _ => items.push(as_new(of, item)?),
        }
    }
    Ok((items, plain.into_iter().cloned().collect()))
}

fn has_key(item: &Value, key: &str) -> Result<(), PatchError> {
    match item.get(key) {
        Some(_) => Ok(()),
        None => malformed(format!("map: {item} does not contain declared merge key: {key}")),
    }
}

/// A value of the patch that meets nothing to merge with: without directives and nulls.
fn as_new(of: Of, value: &Value) -> Result<Value, PatchError> {
    match value {
        Value::Object(fields) => merge_object(of, Map::new(), fields).map(Value::Object),
        Value::Array(items) => items
            .iter()
            .map(|item| as_new(of, item))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        other => Ok(other.clone()),
    }
}
