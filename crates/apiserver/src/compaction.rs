//! Forgets history that is older than anyone may ask for, and sooner when it takes too much memory.

use crate::config::Config;
use crate::server::Server;
use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;
use store::Revision;
use tokio::time::Instant;

/// How many marks are set within the history kept: what is forgotten is older than it by at most one step.
const STEPS: u32 = 5;

/// How often the size is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Which revisions were the latest when.
#[derive(Debug, Default)]
struct Marks(VecDeque<(Instant, Revision)>);

impl Marks {
    /// Sets a mark, if the last one is a step old, and takes off those that are older than the history kept: the last
    /// of them is what may be forgotten.
    fn advance(&mut self, now: Instant, latest: Revision, history: Duration) -> Option<Revision> {
        if self.0.back().is_none_or(|(set, _)| now - *set >= history / STEPS) {
            self.0.push_back((now, latest));
        }
        let mut due = None;
        while self.0.front().is_some_and(|(set, _)| now - *set >= history) {
            due = self.0.pop_front();
        }
        due.map(|(_, revision)| revision)
    }
}

/// Compacts the store at intervals, until the server is gone.
pub(crate) async fn run(server: Weak<Server>, config: Config) {
    let mut marks = Marks::default();
    let mut interval = tokio::time::interval(LOOK_INTERVAL.min(config.history / STEPS));
    loop {
        interval.tick().await;
        let Some(server) = server.upgrade() else { return };
        let kept = server.store.history();
        let large = (kept.bytes > config.history_bytes).then_some(kept.middle);
        let aged = marks.advance(Instant::now(), kept.latest, config.history);
        let Some(revision) = aged.max(large) else { continue };
        match server.store.compact(revision).await {
            Ok(()) => {}
            // What is old was large before.
            Err(store::Error::Compacted { .. }) => {}
            Err(error) => tracing::warn!(error = crate::status::chain(&error), revision, "compaction failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_history_is_forgotten_in_steps() {
        let (mut marks, history) = (Marks::default(), Duration::from_secs(50));
        let begun = Instant::now();
        let mut forgotten = Vec::new();
        for second in 0..75 {
            let now = begun + Duration::from_secs(second);
            forgotten.extend(
                marks
                    .advance(now, 100 + second, history)
                    .map(|revision| (second, revision)),
            );
        }
        assert_eq!(forgotten, [(50, 100), (60, 110), (70, 120)]);
    }
}
