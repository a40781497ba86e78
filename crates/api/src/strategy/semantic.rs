//! When two values mean the same to Kubernetes, though they are written differently.

use serde_json::Value;

/// Whether two values mean the same: an absent field, null, an empty list and an empty map of the same field are one.
///
/// Both values are expected in canonical form (see `defaults`), so that quantities and times compare as text.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys_of_a = a
                .iter()
                .all(|(key, value)| equal(value, b.get(key).unwrap_or(&Value::Null)));
            let keys_of_b = b.iter().all(|(key, value)| a.contains_key(key) || is_nothing(value));
            keys_of_a && keys_of_b
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        _ => a == b || (is_nothing(a) && is_nothing(b)),
    }
}

/// Null and the empty list. The empty object is something: `securityContext: {}` and `emptyDir: {}` are choices, and
/// the empty maps that are none are dropped by the canonical form.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_is_nothing_however_it_is_written() {
        assert!(equal(&json!({"a": [], "b": null}), &json!({})));
        assert!(equal(&json!({"a": {"b": []}}), &json!({"a": {}})));
        assert!(equal(&Value::Null, &json!([])));
        assert!(!equal(&json!({"emptyDir": {}}), &json!({})));
        assert!(!equal(&json!({"a": 0}), &json!({})));
        assert!(!equal(&json!([1, 2]), &json!([2, 1])));
        assert!(!equal(&json!({}), &json!({"a": 1})));
    }
}
