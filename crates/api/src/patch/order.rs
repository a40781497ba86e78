//! The order of a merged list: what the patch orders first, the server's other items where they were among those.

use serde_json::Value;

/// Whether two items stand for the same thing: equal merge keys, or equal values in a list of primitives.
pub(super) fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

/// Orders `merged`: items that `wanted` names in its order, the rest in the order of `server`, and the two interleaved
/// so that an item of the rest goes before a wanted one if it stood before it on the server.
pub(super) fn arrange(merged: Vec<Value>, wanted: &[Value], server: &[Value], key: Option<&str>) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item, key));
    let (mut first, mut rest): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(wanted, item).is_some());
    first.sort_by_cached_key(|item| place(wanted, item));
    // Items that the server does not know either stay behind those that it knows.
    rest.sort_by_cached_key(|item| place(server, item).unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(first.len() + rest.len());
    let mut rest = rest.into_iter().peekable();
    for item in first {
        if let Some(here) = place(server, &item) {
            while let Some(other) = rest.next_if(|other| place(server, other).is_some_and(|at| at < here)) {
                arranged.push(other);
            }
        }
        arranged.push(item);
    }
    arranged.extend(rest);
    arranged
}
