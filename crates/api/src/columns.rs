//! The columns of `kubectl get`: what the server puts into a `Table`.

mod duration;

use crate::kinds::Kind;
use serde_json::{Value, json};

pub use duration::human;

/// `columnDefinitions` of a kind's table.
pub fn definitions(_kind: &Kind) -> Value {
    json!([
        {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
        {"name": "Age", "type": "string", "format": "", "description": "", "priority": 0},
    ])
}

/// `cells` of one object's row. `now_s` is the time as seconds since 1970, for ages.
pub fn cells(_kind: &Kind, object: &Value, now_s: i64) -> Vec<Value> {
    vec![
        object["metadata"]["name"].clone(),
        json!(duration::since(&object["metadata"]["creationTimestamp"], now_s)),
    ]
}
