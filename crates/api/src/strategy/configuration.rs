//! What a write may touch in kinds that configure a cluster.

use super::take_field;
use crate::kinds::Kind;
use serde_json::{Value, json};

/// Conditions that only `/approval` changes.
const DECIDED: [&str; 2] = ["Approved", "Denied"];

/// Whether a write through `/status` leaves labels, annotations and finalizers as they are.
pub fn is_status_only(kind: &Kind) -> bool {
    matches!(
        (kind.group, kind.kind),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
            | ("apiregistration.k8s.io", "APIService")
            | ("flowcontrol.apiserver.k8s.io", _)
            | ("networking.k8s.io", "ServiceCIDR")
            | ("resource.k8s.io", "ResourceClaim")
            | ("storage.k8s.io", "VolumeAttachment")
    )
}

/// The status that an autoscaler is born with.
pub(super) fn autoscaler_status(kind: &Kind) -> Value {
    if kind.version == "v1" {
        json!({"currentReplicas": 0, "desiredReplicas": 0})
    } else {
        json!({"desiredReplicas": 0, "currentMetrics": null})
    }
}

/// A group that this server serves itself is available from the start.
pub(super) fn api_service_status(service: &Value) -> Value {
    if service["spec"]["service"].is_object() {
        return json!({});
    }
    json!({"conditions": [{"type": "Available", "status": "True", "reason": "Local",
        "message": "Local APIServices are always available",
        "lastTransitionTime": service["metadata"]["creationTimestamp"]}]})
}

/// Decisions stay as they are, however a write through `/status` shows them; adding one is left to validation to refuse.
pub(super) fn keep_decisions(new: &mut Value, old: &Value) {
    for decided in DECIDED {
        let find = |list: &Value| {
            let list = list["status"]["conditions"].as_array()?;
            list.iter().position(|condition| condition["type"] == decided)
        };
        if let (Some(old_at), Some(new_at)) = (find(old), find(new)) {
            new["status"]["conditions"][new_at] = old["status"]["conditions"][old_at].clone();
        }
    }
}

/// Readies a replacement through `/approval`: only the conditions come from the client.
pub fn approve(new: &mut Value, old: &Value) {
    let conditions = new["status"]["conditions"].take();
    for field in ["spec", "status"] {
        take_field(new, old, field);
    }
    if new["status"].is_null() {
        new["status"] = json!({});
    }
    if conditions.is_null() {
        super::remove(&mut new["status"], "conditions");
    } else {
        new["status"]["conditions"] = conditions;
    }
    super::keep_metadata(new, old);
    take_field(&mut new["metadata"], &old["metadata"], "generation");
}
