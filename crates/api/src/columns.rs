//! The columns of `kubectl get`: what the server puts into a `Table`.

use crate::kinds::Kind;
use serde_json::Value;

/// `columnDefinitions` of a kind's table.
pub fn definitions(_kind: &Kind) -> Value {
    unimplemented!()
}

/// `cells` of one object's row. `now_s` is the time as seconds since 1970, for ages.
pub fn cells(_kind: &Kind, _object: &Value, _now_s: i64) -> Vec<Value> {
    unimplemented!()
}
