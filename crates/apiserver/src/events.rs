//! Events are one resource under two groups: stored as core/v1, served as `events.k8s.io/v1` with other field names.

use serde_json::{Map, Value, json};

/// (core/v1, events.k8s.io/v1) names of fields that mean the same.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// The `events.k8s.io/v1` form of a core/v1 event.
pub(crate) fn from_core(event: &Value) -> Value {
    rename(event, |(core, new)| (core, new))
}

/// The core/v1 form of an `events.k8s.io/v1` event.
pub(crate) fn to_core(event: &Value) -> Value {
    let mut core = rename(event, |(core, new)| (new, core));
    // Fields that core/v1 always shows.
    for (field, empty) in [
        ("source", json!({})),
        ("firstTimestamp", Value::Null),
        ("lastTimestamp", Value::Null),
        ("reportingComponent", json!("")),
        ("reportingInstance", json!("")),
        ("involvedObject", json!({})),
    ] {
        if core.get(field).is_none() {
            core[field] = empty;
        }
    }
    core
}

fn rename(event: &Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) -> Value {
    let mut renamed = Map::new();
    for (key, value) in event.as_object().into_iter().flatten() {
        let found = RENAMED
            .iter()
            .map(|pair| direction(*pair))
            .find(|(from, _)| from == key);
        renamed.insert(
            found.map_or_else(|| key.clone(), |(_, to)| to.to_owned()),
            value.clone(),
        );
    }
    Value::Object(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_renamed_both_ways() {
        let new = json!({"metadata": {"name": "e"}, "regarding": {"name": "web-0"}, "note": "n", "reason": "r",
            "reportingController": "c", "reportingInstance": "i", "eventTime": "2026-11-22T08:36:09.808670Z"});
        let core = to_core(&new);
        assert_eq!(core["involvedObject"]["name"], "web-0");
        assert_eq!(core["message"], "n");
        assert_eq!(core["reportingComponent"], "c");
        assert_eq!(core["firstTimestamp"], Value::Null);
        let back = from_core(&core);
        for (key, value) in new.as_object().unwrap() {
            assert_eq!(back[key], *value, "{key}");
        }
        assert_eq!(back["deprecatedSource"], json!({}));
    }
}
