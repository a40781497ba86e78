//! What is to be looked at next: each key once, never by two workers at a time, with pauses after failures.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use controllers_plan::Key;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::OfController;

/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause. Upstream goes up to 1000 s; here a person may be waiting.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One object that one controller has to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkId {
    pub(crate) row: usize,
    pub(crate) key: Key,
}

/// The queue of all controllers.
///
/// ```text
///            add                 next               done
///  (absent) ─────▶ ready ─────────────────▶ running ─────▶ (absent)
///     │  add_at      ▲                        │ add meanwhile
///     └─────▶ waiting┘ (its time comes)       └─▶ running, dirty ── done ──▶ ready
/// ```
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    /// Those of each row; a queue without any counts nothing.
    metrics: Vec<Arc<OfController>>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<WorkId>,
    /// Value: since when.
    is_ready: HashMap<WorkId, Instant>,
    running: HashMap<WorkId, Turn>,
    waiting: BTreeSet<(Instant, WorkId)>,
    waits_until: HashMap<WorkId, Instant>,
    failures: HashMap<WorkId, u32>,
}

/// A key that is being looked at.
struct Turn {
    began: Instant,
    /// Whether it must be looked at again.
    is_dirty: bool,
}

impl Queue {
    /// A queue that counts what each row's keys do.
    pub(crate) fn new(metrics: Vec<Arc<OfController>>) -> Self {
        Self {
            metrics,
            ..Self::default()
        }
    }

    fn metrics_of(&self, id: &WorkId) -> Option<&OfController> {
        self.metrics.get(id.row).map(Arc::as_ref)
    }

    /// Something changed: look at it as soon as it is not being looked at.
    pub(crate) fn add(&self, id: WorkId) {
        if self.lock().add(id, &self.metrics) {
            self.changed.notify_one();
        }
    }

    /// Look at it at a time, if nothing brings it up before.
    pub(crate) fn add_at(&self, id: WorkId, at: Instant) {
        self.lock().add_at(id, at);
        self.changed.notify_one();
    }

    /// The last attempt failed: look again after a pause that grows, shortened by up to a half (`jitter` in 0..1).
    pub(crate) fn retry(&self, id: WorkId, now: Instant, jitter: f64) -> Duration {
        if let Some(metrics) = self.metrics_of(&id) {
            metrics.retried();
        }
        let mut state = self.lock();
        let failures = state.failures.entry(id.clone()).or_default();
        let full = FIRST_PAUSE.saturating_mul(1 << (*failures).min(20)).min(LONGEST_PAUSE);
        *failures += 1;
        let pause = full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
        state.add_at(id, now + pause);
        drop(state);
        self.changed.notify_one();
        pause
    }

    /// The last attempt went well: the next failure is a first one.
    pub(crate) fn forget_failures(&self, id: &WorkId) {
        self.lock().failures.remove(id);
    }

    /// The next to look at. It is marked as running until [`Queue::done`].
    pub(crate) async fn next(&self) -> WorkId {
        loop {
            let next_time = {
                let mut state = self.lock();
                let now = Instant::now();
                state.wake(now, &self.metrics);
                if let Some((id, since)) = state.start(now) {
                    if let Some(metrics) = self.metrics_of(&id) {
                        metrics.started(now.duration_since(since));
                    }
                    return id;
                }
                state.waiting.first().map(|(at, _)| *at)
            };
            match next_time {
                Some(at) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// It has been looked at.
    pub(crate) fn done(&self, id: &WorkId) {
        let mut state = self.lock();
        let Some(turn) = state.running.remove(id) else { return };
        if let Some(metrics) = self.metrics_of(id) {
            metrics.done(turn.began.elapsed());
        }
        if turn.is_dirty {
            state.add(id.clone(), &self.metrics);
            drop(state);
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

impl State {
    fn add(&mut self, id: WorkId, metrics: &[Arc<OfController>]) -> bool {
        if let Some(turn) = self.running.get_mut(&id) {
            turn.is_dirty = true;
            return false;
        }
        if self.is_ready.contains_key(&id) {
            return false;
        }
        if let Some(metrics) = metrics.get(id.row) {
            metrics.added();
        }
        self.is_ready.insert(id.clone(), Instant::now());
        self.ready.push_back(id);
        true
    }

    fn add_at(&mut self, id: WorkId, at: Instant) {
        if let Some(known) = self.waits_until.get(&id).copied() {
            if known <= at {
                return;
            }
            self.waiting.remove(&(known, id.clone()));
        }
        self.waits_until.insert(id.clone(), at);
        self.waiting.insert((at, id));
    }

    fn wake(&mut self, now: Instant, metrics: &[Arc<OfController>]) {
        while self.waiting.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.waiting.pop_first() else {
                return;
            };
            self.waits_until.remove(&id);
            self.add(id, metrics);
        }
    }

    fn start(&mut self, now: Instant) -> Option<(WorkId, Instant)> {
        let id = self.ready.pop_front()?;
        let since = self.is_ready.remove(&id).unwrap_or(now);
        let turn = Turn {
            began: now,
            is_dirty: false,
        };
        self.running.insert(id.clone(), turn);
        Some((id, since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::Pod;
    use controllers_plan::Kind;

    fn id(name: &str) -> WorkId {
        WorkId {
            row: 0,
            key: Key::new(Kind::of::<Pod>(), "default", name),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_adds_of_one_key_are_one_turn() {
        let queue = Queue::default();
        queue.add(id("a"));
        queue.add(id("b"));
        queue.add(id("a"));
        assert_eq!(queue.next().await, id("a"));
        assert_eq!(queue.next().await, id("b"));
        assert!(queue.lock().ready.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_key_is_not_given_out_again_before_it_is_done() {
        let queue = Queue::default();
        queue.add(id("a"));
        let first = queue.next().await;
        queue.add(id("a"));
        queue.add(id("b"));
        assert_eq!(queue.next().await, id("b"));
        queue.done(&first);
        assert_eq!(queue.next().await, id("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_and_end_with_success() {
        let queue = Queue::default();
        let now = Instant::now();
        let pauses: Vec<_> = (0..4).map(|_| queue.retry(id("a"), now, 0.0).as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40]);
        for _ in 0..40 {
            queue.retry(id("a"), now, 0.0);
        }
        assert_eq!(queue.retry(id("a"), now, 0.0), LONGEST_PAUSE);
        assert_eq!(queue.retry(id("a"), now, 1.0), LONGEST_PAUSE / 2);
        queue.forget_failures(&id("a"));
        assert_eq!(queue.retry(id("a"), now, 0.0), FIRST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_times_counts() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_at(id("a"), start + Duration::from_secs(10));
        queue.add_at(id("a"), start + Duration::from_secs(3));
        queue.add_at(id("a"), start + Duration::from_secs(7));
        assert_eq!(queue.next().await, id("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
        assert!(queue.lock().waiting.is_empty());
    }
}
