//! Forgets history that is older than anyone may ask for.

use crate::server::Server;
use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;
use store::Revision;
use tokio::time::Instant;

/// How many marks are set within the history kept: what is forgotten is older than it by at most one step.
const STEPS: u32 = 5;

/// Compacts the store at intervals, until the server is gone.
pub(crate) async fn run(server: Weak<Server>, history: Duration) {
    let mut marks: VecDeque<(Instant, Revision)> = VecDeque::new();
    let mut interval = tokio::time::interval(history / STEPS);
    loop {
        interval.tick().await;
        let Some(server) = server.upgrade() else { return };
        let Ok(revision) = server.store.revision().await else {
            continue;
        };
        marks.push_back((Instant::now(), revision));
        let mut due = None;
        while marks.front().is_some_and(|(set, _)| set.elapsed() >= history) {
            due = marks.pop_front();
        }
        if let Some((_, revision)) = due
            && let Err(error) = server.store.compact(revision).await
        {
            tracing::warn!(error = crate::status::chain(&error), revision, "compaction failed");
        }
    }
}
