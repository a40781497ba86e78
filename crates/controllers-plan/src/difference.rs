//! What has to be said to make one value of another: a JSON merge patch (RFC 7386), as small as it can be.

use serde::Serialize;
use serde_json::{Map, Value};

/// The merge patch from `old` to `new`; `None` if they are the same.
pub(crate) fn between(old: &impl Serialize, new: &impl Serialize) -> Option<Value> {
    let json = |value: Result<Value, serde_json::Error>| value.expect("Kubernetes objects have string keys only");
    patch(&json(serde_json::to_value(old)), &json(serde_json::to_value(new)))
}

fn patch(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut changes = Map::new();
    for field in before.keys().filter(|field| !after.contains_key(*field)) {
        changes.insert(field.clone(), Value::Null);
    }
    for (field, value) in after {
        let change = match before.get(field) {
            Some(known) => patch(known, value),
            None => Some(value.clone()),
        };
        changes.extend(change.map(|change| (field.clone(), change)));
    }
    (!changes.is_empty()).then_some(Value::Object(changes))
}

/// A count as upstream serializes it: left out when it is zero.
pub(crate) fn unless_zero(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_said() {
        let old = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1], "f": 0});
        let new = json!({"a": 1, "b": {"c": 2, "d": 4}, "e": [1, 2], "g": {}});
        let expected = json!({"b": {"d": 4}, "e": [1, 2], "f": null, "g": {}});
        assert_eq!(between(&old, &new), Some(expected));
        assert_eq!(between(&old, &old), None);
    }
}
