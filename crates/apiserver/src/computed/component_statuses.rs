//! `componentstatuses`: whether the parts of the control plane are well.

use crate::server::Server;
use crate::status::chain;
use serde_json::{Value, json};

/// All parts that this server knows of.
pub(super) async fn all(server: &Server) -> Vec<Value> {
    // What runs in the same process is well as long as there is a process: it does not outlive any of its parts.
    let parts = server.config.parts.iter().map(|name| (name.as_str(), Ok(())));
    let store = server.store.revision().await.map(drop).map_err(|error| chain(&error));
    let parts = parts.chain([("etcd-0", store)]);
    parts.map(|(name, health)| status(name, &health)).collect()
}

fn status(name: &str, health: &Result<(), String>) -> Value {
    let condition = match health {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(why) => json!({"type": "Healthy", "status": "False", "error": why}),
    };
    json!({"metadata": {"name": name}, "conditions": [condition]})
}
