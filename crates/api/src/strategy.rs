//! What a write may touch: which part of a request is kept and which comes from the stored object.

use crate::kinds::Kind;
use serde_json::Value;

/// Readies a new object: clears status (for kinds with a status subresource, setting the initial one, e.g. a pod's
/// `phase: Pending` and `qosClass`), sets generation 1.
pub fn prepare_create(_kind: &Kind, _object: &mut Value) {
    unimplemented!()
}

/// Readies a replacement through the main resource: status from `old`, generation +1 iff the spec changed.
pub fn prepare_update(_kind: &Kind, _new: &mut Value, _old: &Value) {
    unimplemented!()
}

/// Readies a replacement through `/status`: everything but status, labels and annotations from `old`.
pub fn prepare_status_update(_kind: &Kind, _new: &mut Value, _old: &Value) {
    unimplemented!()
}

/// Whether deleting the object is graceful, and for how many seconds: a pod's grace (option, else
/// `spec.terminationGracePeriodSeconds`; 0 if it has no node or has ended), `None` for all other kinds.
pub fn grace_period_s(_kind: &Kind, _object: &Value, _option_s: Option<i64>) -> Option<i64> {
    unimplemented!()
}
