//! Merging of an applied configuration into an object, and removal of what is applied no more.

use super::node::{Node, is_bare};
use super::set::{self, FieldSet};
use serde_json::{Map, Value};

/// The paths that a value sets.
pub(super) fn field_set(node: Node<'_>, value: &Value) -> FieldSet {
    let mut found = FieldSet::default();
    match (node, value) {
        (Node::Struct(_) | Node::Map(_) | Node::Root(_) | Node::Custom(_) | Node::Deduced, Value::Object(fields)) => {
            for (name, value) in fields {
                let mut child = field_set(node.child(name), value);
                child.member |= value.is_null() || value.as_object().is_some_and(Map::is_empty) || !node.names(name);
                found.add(set::field(name), child);
            }
        }
        (Node::Set | Node::Keyed { .. } | Node::Items(_), Value::Array(items)) => match node.elements(items) {
            Some(elements) => {
                for (element, item) in elements.into_iter().zip(items) {
                    let mut child = field_set(node.item(), item);
                    child.member = true;
                    found.add(element, child);
                }
            }
            None => found.member = true,
        },
        (
            Node::Struct(_)
            | Node::Map(_)
            | Node::Root(_)
            | Node::Custom(_)
            | Node::Set
            | Node::Keyed { .. }
            | Node::Items(_),
            Value::Null,
        ) => {}
        _ => found.member = true,
    }
    found
}

/// The set with every field of a struct that has something below it; keys of maps and items are added by their owners.
pub(super) fn with_named_fields(node: Node<'_>, fields: &FieldSet) -> FieldSet {
    let mut all = FieldSet::default();
    all.member = fields.member;
    for (element, child) in fields.children() {
        let name = element.strip_prefix("f:");
        let below = name.map_or_else(|| node.item(), |name| node.child(name));
        let mut child = with_named_fields(below, child);
        child.member |= name.is_some_and(|name| node.names(name));
        all.add(element.to_owned(), child);
    }
    all
}

/// The value without what is in the set; `None` if that leaves nothing of something.
pub(super) fn without(node: Node<'_>, value: &Value, gone: &FieldSet) -> Option<Value> {
    if is_bare(Some(value)) {
        return Some(value.clone());
    }
    match (node, value) {
        (Node::Struct(_) | Node::Map(_) | Node::Root(_) | Node::Custom(_) | Node::Deduced, Value::Object(fields)) => {
            let mut rest = Map::new();
            for (name, value) in fields {
                let element = set::field(name);
                let kept = match gone.child(&element) {
                    Some(gone) if gone.member => None,
                    Some(gone) => without(node.child(name), value, gone),
                    None => Some(value.clone()),
                };
                rest.extend(kept.map(|value| (name.clone(), value)));
            }
            (!rest.is_empty()).then_some(Value::Object(rest))
        }
        (Node::Set | Node::Keyed { .. } | Node::Items(_), Value::Array(items)) => {
            let Some(elements) = node.elements(items) else {
                return Some(value.clone());
            };
            let mut rest = Vec::new();
            for (element, item) in elements.iter().zip(items) {
                match gone.child(element) {
                    Some(gone) if gone.member => {}
                    Some(gone) => rest.push(without(node.item(), item, gone).unwrap_or(Value::Object(Map::new()))),
                    None => rest.push(item.clone()),
                }
            }
            (!rest.is_empty()).then_some(Value::Array(rest))
        }
        _ => Some(value.clone()),
    }
}

/// The first list or object in a value that is owned as a whole, if there is one.
pub(super) fn whole(node: Node<'_>, value: &Value, path: &str) -> Option<String> {
    match (node, value) {
        (Node::Leaf, Value::Array(_) | Value::Object(_)) => Some(path.to_owned()),
        (_, Value::Object(fields)) => fields
            .iter()
            .find_map(|(name, value)| whole(node.child(name), value, &format!("{path}.{name}"))),
        (_, Value::Array(items)) => {
            let mut numbered = items.iter().enumerate();
            numbered.find_map(|(index, item)| whole(node.item(), item, &format!("{path}[{index}]")))
        }
        _ => None,
    }
}

/// Merges the configuration into the live value. Atomic values are replaced.
pub(super) fn merge(node: Node<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let (Some(before), Some(after)) = (live, config) else {
        return config.or(live).cloned();
    };
    match (node, before, after) {
        (
            Node::Struct(_) | Node::Map(_) | Node::Root(_) | Node::Custom(_) | Node::Deduced,
            Value::Object(before),
            Value::Object(after),
        ) => {
            let mut merged = before.clone();
            for (name, value) in after {
                if let Some(value) = merge(node.child(name), before.get(name), Some(value)) {
                    merged.insert(name.clone(), value);
                }
            }
            Some(Value::Object(merged))
        }
        (Node::Set | Node::Keyed { .. } | Node::Items(_), Value::Array(before), Value::Array(after)) => {
            match (node.elements(before), node.elements(after)) {
                (Some(old), Some(new)) => Some(Value::Array(merge_items(node, [&old, &new], [before, after]))),
                _ => Some(Value::Array(after.clone())),
            }
        }
        (
            Node::Struct(_)
            | Node::Map(_)
            | Node::Root(_)
            | Node::Custom(_)
            | Node::Set
            | Node::Keyed { .. }
            | Node::Items(_),
            before,
            Value::Null,
        ) => Some(before.clone()),
        (_, _, after) => Some(after.clone()),
    }
}

/// Merges two lists. The configuration's order wins; items that only the live list has stay before the shared item
/// that they stood before.
fn merge_items(node: Node<'_>, elements: [&[String]; 2], items: [&[Value]; 2]) -> Vec<Value> {
    let ([old, new], [before, after]) = (elements, items);
    let is_new = |element: &String| new.contains(element);
    // An element that stands several times in the live list has no one item to merge with.
    let live_of = |element: &String| {
        let mut found = old
            .iter()
            .zip(before)
            .filter(|(other, _)| *other == element)
            .map(|(_, item)| item);
        match (found.next(), found.next()) {
            (Some(item), None) => Some(item),
            _ => None,
        }
    };
    let mut shared = new.iter().filter(|element| old.contains(element)).peekable();
    let mut merged = Vec::with_capacity(before.len() + after.len());
    let mut at = 0;
    for (element, item) in new.iter().zip(after) {
        // Live items up to the next shared one come first; shared ones out of their order wait for their turn.
        while let Some(next) = old.get(at) {
            if is_new(next) && shared.peek() == Some(&next) {
                break;
            }
            if !is_new(next) {
                merged.push(before[at].clone());
            }
            at += 1;
        }
        if shared.next_if_eq(&element).is_some() && old.get(at) == Some(element) {
            at += 1;
        }
        merged.extend(merge(node.item(), live_of(element), Some(item)));
    }
    let rest = old.iter().zip(before).skip(at).filter(|(element, _)| !is_new(element));
    merged.extend(rest.map(|(_, item)| item.clone()));
    merged
}
