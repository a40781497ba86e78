//! What of a ResourceQuota is used, counted anew.
//!
//! The API server charges what is created in the very same write. Nobody tells a quota what has gone; so it is counted
//! again when something goes, and when the quota itself changes.

use api::k8s::api::core::v1::ResourceQuota;
use api::quota::{is_counted, total};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Action, Kind, Plan, Reason, Target, is_terminating};

/// An object of the quota's namespace.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Its kind.
    pub kind: Kind,
    /// As much of it as its kind counts by.
    pub object: Value,
}

/// Decides what to say of a quota. `kinds` are those whose objects are all among `objects`.
pub fn plan(quota: &ResourceQuota, kinds: &[Kind], objects: &[Counted], now: Timestamp) -> Plan {
    if is_terminating(&quota.metadata) {
        return Plan::default();
    }
    let whole = json!(quota);
    let listed = objects
        .iter()
        .map(|counted| (counted.kind.group, counted.kind.plural, &counted.object));
    let mut used = total(&whole, listed, now.as_second());
    let hard = whole["spec"]["hard"].clone();
    let stored = &whole["status"];
    for name in hard.as_object().into_iter().flatten().map(|(name, _)| name) {
        let is_known = kinds.iter().any(|kind| is_counted(name, kind.group, kind.plural));
        // What is not seen cannot be counted: what was charged for it stays.
        if !is_known && stored["used"][name].is_string() {
            used[name] = stored["used"][name].clone();
        }
    }
    let hard = if hard.is_null() { json!({}) } else { hard };
    let new = json!({ "hard": hard, "used": used });
    let Some(change) = crate::difference::between(stored, &new) else {
        return Plan::default();
    };
    let name = quota.metadata.name.clone().unwrap_or_default();
    let message = format!("the use of {name} is not what it was");
    Plan {
        status: Some(Action::patch_status(Target::of(quota), json!({ "status": change }))),
        because: vec![Reason::acts(name, "Recounts", message)],
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Write;
    use api::k8s::api::core::v1::{ConfigMap, Pod};

    fn status(used: &Value, objects: &[Counted]) -> Option<Value> {
        let hard = json!({"pods": "3", "requests.cpu": "2", "count/configmaps": "5", "count/widgets.example.com": "5"});
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}});
        let quota = serde_json::from_value(quota).unwrap();
        let kinds = [Kind::of::<Pod>(), Kind::of::<ConfigMap>()];
        let plan = plan(&quota, &kinds, objects, "2026-11-22T12:00:00Z".parse().unwrap());
        match plan.status?.write {
            Write::Patch { patch, .. } => Some(patch["status"].clone()),
            _ => None,
        }
    }

    #[test]
    fn what_is_there_is_counted_and_what_cannot_be_seen_is_kept() {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "500m"}}});
        let pod = Counted {
            kind: Kind::of::<Pod>(),
            object: json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}}),
        };
        let map = Counted {
            kind: Kind::of::<ConfigMap>(),
            object: json!({"metadata": {"name": "m"}}),
        };
        let stored =
            json!({"pods": "3", "requests.cpu": "0", "count/configmaps": "1", "count/widgets.example.com": "4"});
        let change = status(&stored, &[pod.clone(), map.clone()]).unwrap();
        assert_eq!(change, json!({"used": {"pods": "1", "requests.cpu": "500m"}}));
        let right =
            json!({"pods": "1", "requests.cpu": "500m", "count/configmaps": "1", "count/widgets.example.com": "4"});
        assert_eq!(status(&right, &[pod, map]), None);
    }
}
