//! Feature gates of the API: what may be said only where it is switched on.
//!
//! As upstream does it: a field of a gate that is off is dropped, a value is refused, and what an object says already
//! may stay.

use crate::error::FieldError;
use crate::kinds::Kind;
use serde_json::{Value, json};

/// What is switched on. The defaults are upstream's of 1.37.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gates {
    /// `MaxUnavailableStatefulSet`: `rollingUpdate.maxUnavailable` of StatefulSets.
    pub max_unavailable: bool,
    /// `StatefulSetRecreateStrategy`: `updateStrategy.type: Recreate` of StatefulSets.
    pub recreate: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            max_unavailable: true,
            recreate: false,
        }
    }
}

const STRATEGY: &str = "/spec/updateStrategy/type";
const ROLLING: &str = "/spec/updateStrategy/rollingUpdate";

impl Gates {
    /// Takes out of a new object, or a new state of an object, what the gates do not let through, and says what must
    /// be refused.
    pub fn hold_back(&self, kind: &Kind, new: &mut Value, old: Option<&Value>) -> Vec<FieldError> {
        if (kind.group, kind.kind) != ("apps", "StatefulSet") {
            return Vec::new();
        }
        let has_limit = |set: &Value| !set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"].is_null();
        if !self.max_unavailable
            && !old.is_some_and(has_limit)
            && let Some(rolling) = new.pointer_mut(ROLLING).and_then(Value::as_object_mut)
        {
            rolling.remove("maxUnavailable");
        }
        let recreates = |set: &Value| set.pointer(STRATEGY) == Some(&json!("Recreate"));
        if !self.recreate && recreates(new) && !old.is_some_and(recreates) {
            let strategy = new["spec"]["updateStrategy"].clone();
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            return vec![FieldError::invalid("spec.updateStrategy", strategy, why)];
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::by_kind;

    fn set(strategy: Value) -> Value {
        json!({ "spec": { "updateStrategy": strategy } })
    }

    fn hold_back(gates: Gates, new: &mut Value, old: Option<&Value>) -> Vec<String> {
        let errors = gates.hold_back(by_kind("apps/v1", "StatefulSet").unwrap(), new, old);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a3_1_recreate_is_refused_without_its_gate_and_stays_where_it_is() {
        let (off, on) = (
            Gates::default(),
            Gates {
                recreate: true,
                ..Gates::default()
            },
        );
        let mut recreate = set(json!({ "type": "Recreate" }));
        let refused =
            ["spec.updateStrategy: Invalid value: {\"type\":\"Recreate\"}: must be 'RollingUpdate' or 'OnDelete'"];
        assert_eq!(hold_back(off, &mut recreate, None), refused);
        let rolling = set(json!({ "type": "RollingUpdate" }));
        assert_eq!(hold_back(off, &mut recreate, Some(&rolling)), refused);
        let stored = recreate.clone();
        assert_eq!(hold_back(off, &mut recreate, Some(&stored)), [""; 0]);
        assert_eq!(hold_back(on, &mut recreate, None), [""; 0]);
    }

    #[test]
    fn a0_3_max_unavailable_is_dropped_without_its_gate_unless_it_was_there() {
        let off = Gates {
            max_unavailable: false,
            ..Gates::default()
        };
        let with = set(json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 2, "partition": 1 } }));
        let mut new = with.clone();
        assert_eq!(hold_back(off, &mut new, None), [""; 0]);
        assert_eq!(
            new,
            set(json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } }))
        );
        let mut new = with.clone();
        hold_back(off, &mut new, Some(&with));
        assert_eq!(new, with);
        hold_back(Gates::default(), &mut new, None);
        assert_eq!(new, with);
    }
}
