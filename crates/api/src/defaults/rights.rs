//! Defaults of secrets, role bindings and limits.

use super::{set_absent, set_zero};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn apply(name: &str, value: &mut Value) {
    match name {
        "core.v1.Secret" => secret(value),
        "rbac.v1.RoleRef" => set_zero(value, "apiGroup", RBAC_GROUP),
        "rbac.v1.Subject" if matches!(value["kind"].as_str(), Some("User" | "Group")) => {
            set_zero(value, "apiGroup", RBAC_GROUP);
        }
        "core.v1.LimitRangeItem" if value["type"] == "Container" => {
            // Each list fills the gaps of the next.
            for (from, to) in [
                ("max", "default"),
                ("default", "defaultRequest"),
                ("min", "defaultRequest"),
            ] {
                let Some(given) = value[from].as_object().cloned() else {
                    continue;
                };
                for (resource, amount) in given {
                    set_absent(&mut value[to], &resource, amount);
                }
            }
        }
        _ => {}
    }
}

/// `stringData` is a write-only way to say `data`.
fn secret(secret: &mut Value) {
    if let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|fields| fields.remove("stringData")) {
        for (key, text) in texts {
            secret["data"][key] = json!(STANDARD.encode(text.as_str().unwrap_or_default()));
        }
    }
    set_zero(secret, "type", "Opaque");
}
