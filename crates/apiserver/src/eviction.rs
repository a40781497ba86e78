//! Eviction: a delete that asks the disruption budgets first.
//!
//! No part of this server keeps budgets yet, so every eviction is granted.

use crate::body;
use crate::call::Call;
use crate::delete::{DeleteOptions, remove};
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, bad_request};
use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// POST to `pods/NAME/eviction`.
pub(crate) async fn evict(server: &Arc<Server>, call: &Call, body: Bytes) -> Outcome<Response<Body>> {
    let text = body::json_text(&call.headers, body)?;
    let eviction: Value = serde_json::from_slice(&text).map_err(|error| {
        bad_request(format!(
            "Eviction in version \"v1\" cannot be handled as a Eviction: {error}"
        ))
    })?;
    let name = eviction["metadata"]["name"].as_str().unwrap_or(&call.name);
    if name != call.name {
        return Err(bad_request("name in URL does not match name in Eviction object"));
    }
    let options = DeleteOptions::from_value(&eviction["deleteOptions"])?;
    remove(server, call, &call.name, &options).await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::value(call, StatusCode::CREATED, &success)
}
