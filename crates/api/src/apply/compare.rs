//! Which fields differ between two versions of an object.

use super::node::{Node, is_bare};
use super::set::{self, FieldSet};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What differs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Added, or of another value.
    pub(super) changed: FieldSet,
    /// Gone.
    pub(super) removed: FieldSet,
}

impl Difference {
    fn add(&mut self, element: &str, part: Self) {
        if !part.changed.is_empty() {
            self.changed.add(element.to_owned(), part.changed);
        }
        if !part.removed.is_empty() {
            self.removed.add(element.to_owned(), part.removed);
        }
    }
}

/// Compares two versions of a value; `None` means absent.
pub(super) fn compare(node: Node<'_>, old: Option<&Value>, new: Option<&Value>) -> Difference {
    let parts = match node {
        // What is empty on both sides can differ only as a whole: `{}` is not nothing.
        _ if is_bare(old) && is_bare(new) => None,
        Node::Leaf => None,
        Node::Struct(_) | Node::Map(_) | Node::Root(_) | Node::Custom(_) | Node::Deduced => objects(node, old, new),
        Node::Set | Node::Keyed { .. } | Node::Items(_) => lists(node, old, new),
    };
    let Some(mut difference) = parts else {
        return whole(old, new);
    };
    match (old, new) {
        (None, _) => difference.changed.member = true,
        (_, None) => difference.removed.member = true,
        _ => {}
    }
    difference
}

fn whole(old: Option<&Value>, new: Option<&Value>) -> Difference {
    let mut difference = Difference::default();
    if new.is_none() {
        difference.removed.member = old.is_some();
    } else {
        difference.changed.member = old != new;
    }
    difference
}

/// `None` if one of the two is something else than an object.
fn objects(node: Node<'_>, old: Option<&Value>, new: Option<&Value>) -> Option<Difference> {
    let (old, new) = (fields(old)?, fields(new)?);
    let mut difference = Difference::default();
    let mut compare_field = |name: &str, old: Option<&Value>, new: Option<&Value>| {
        if old != new {
            difference.add(&set::field(name), compare(node.child(name), old, new));
        }
    };
    for (name, value) in new.into_iter().flatten() {
        compare_field(name, old.and_then(|old| old.get(name)), Some(value));
    }
    for (name, value) in old.into_iter().flatten() {
        if new.is_none_or(|new| !new.contains_key(name)) {
            compare_field(name, Some(value), None);
        }
    }
    Some(difference)
}

/// The fields of an object that may be absent or null; the outer `None` says that it is something else.
#[expect(clippy::option_option, reason = "absent and of another type are different answers")]
fn fields(value: Option<&Value>) -> Option<Option<&Map<String, Value>>> {
    match value {
        None | Some(Value::Null) => Some(None),
        Some(Value::Object(fields)) => Some(Some(fields)),
        Some(_) => None,
    }
}

fn items(value: Option<&Value>) -> Option<&[Value]> {
    match value {
        None | Some(Value::Null) => Some(&[]),
        Some(Value::Array(items)) => Some(items),
        Some(_) => None,
    }
}

/// `None` if the items cannot be told apart.
fn lists(node: Node<'_>, old: Option<&Value>, new: Option<&Value>) -> Option<Difference> {
    let (old, new) = (items(old)?, items(new)?);
    let mut parts: BTreeMap<String, [Vec<&Value>; 2]> = BTreeMap::new();
    for (side, items) in [old, new].into_iter().enumerate() {
        for (element, item) in node.elements(items)?.into_iter().zip(items) {
            parts.entry(element).or_default()[side].push(item);
        }
    }
    let item = node.item();
    let compare_item = |old: Option<&Value>, new: Option<&Value>| {
        if old == new {
            return Difference::default();
        }
        let mut part = compare(item, old, new);
        // An item is there or not, whatever is in it.
        part.changed.member |= old.is_none() && new.is_some();
        part.removed.member |= old.is_some() && new.is_none();
        part
    };
    let mut difference = Difference::default();
    for (element, [old, new]) in parts {
        let part = match (old.as_slice(), new.as_slice()) {
            ([] | [_], [] | [_]) => compare_item(old.first().copied(), new.first().copied()),
            // Items that stand several times are owned together.
            ([_, _, ..], [_, _, ..]) if old == new => Difference::default(),
            ([_, _, ..], [_, _, ..]) | ([], _) => Difference {
                changed: FieldSet::leaf(),
                removed: FieldSet::default(),
            },
            ([one], _) => {
                let mut part = compare_item(Some(one), None);
                part.changed.member = true;
                part.removed.member = false;
                part
            }
            (_, rest) => {
                let mut part = rest
                    .first()
                    .map_or_else(Difference::default, |one| compare_item(None, Some(one)));
                part.removed.member = rest.is_empty();
                part
            }
        };
        difference.add(&element, part);
    }
    Some(difference)
}
