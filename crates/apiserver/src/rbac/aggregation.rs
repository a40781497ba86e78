//! Aggregating roles show the rules that they have by way of others.
//!
//! What such a role gives is worked out when it is asked for, so nothing waits for this: it is for those who read roles.

use crate::admission::kind;
use crate::bootstrap::own_call;
use crate::server::Server;
use crate::status::Outcome;
use crate::update::{self, Part, Proposed};
use serde_json::json;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long to wait until a role that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Writes rules of aggregating roles after each change, until the server is gone.
pub(crate) async fn run(server: Weak<Server>) {
    let Some(rbac) = server.upgrade().map(|server| Arc::clone(&server.access.rbac)) else {
        return;
    };
    loop {
        let Some(this) = server.upgrade() else { return };
        let written = write(&this).await;
        drop(this);
        if let Err(status) = written {
            tracing::debug!("an aggregating role cannot be written: {}", status.message);
            tokio::time::sleep(RETRY).await;
            continue;
        }
        rbac.view.changed.notified().await;
    }
}

/// Writes the rules of those roles that do not show them.
pub(crate) async fn write(server: &Arc<Server>) -> Outcome<()> {
    let roles = kind("rbac.authorization.k8s.io", "clusterroles");
    for (name, rules) in server.access.rbac.view.stale() {
        let mut call = own_call(roles, "", &name);
        let changed = update::change(server, &mut call, Part::Main, |_, current| {
            let mut current = current.clone();
            current["rules"] = json!(rules);
            Ok(Proposed::tracked(current))
        });
        match changed.await {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}
