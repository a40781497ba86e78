//! What the server adds to CertificateSigningRequests: who asks, and when conditions changed.

use crate::clock;
use crate::create::{remove, text};
use crate::user::User;
use api::kinds::Kind;
use serde_json::{Value, json};

/// Whether the kind is that of requests.
pub(crate) fn is_request(kind: &Kind) -> bool {
    kind.group == "certificates.k8s.io" && kind.kind == "CertificateSigningRequest"
}

/// Writes down who asks; what the client says of it does not count.
pub(crate) fn sign(kind: &Kind, object: &mut Value, user: &User) {
    if !is_request(kind) || !object["spec"].is_object() {
        return;
    }
    let spec = &mut object["spec"];
    for field in ["uid", "groups", "extra"] {
        remove(spec, field);
    }
    spec["username"] = json!(user.name);
    if !user.uid.is_empty() {
        spec["uid"] = json!(user.uid);
    }
    if !user.groups.is_empty() {
        spec["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
}

/// Fills in the times of conditions that come without.
pub(crate) fn date_conditions(kind: &Kind, new: &mut Value, old: &Value) {
    if !is_request(kind) {
        return;
    }
    let before = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let now = clock::now_text();
    for condition in new["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if text(&condition["lastUpdateTime"]).is_none() {
            condition["lastUpdateTime"] = json!(now);
        }
        if text(&condition["lastTransitionTime"]).is_none() {
            let same = |old: &&Value| old["type"] == condition["type"] && old["status"] == condition["status"];
            let since = before
                .iter()
                .find(same)
                .and_then(|old| text(&old["lastTransitionTime"]));
            condition["lastTransitionTime"] = json!(since.unwrap_or(&now));
        }
    }
}
