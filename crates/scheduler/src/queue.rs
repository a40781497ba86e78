//! The pods that wait for a node: which is next, which wait for a change, which must pause first.
//!
//! ```text
//!            add                 next                    placed
//! (none) ───────────▶ Queued ───────────▶ (being decided) ─────▶ Placed ──▶ (seen bound: removed)
//!                       ▲  ▲                    │ refused          │
//!                       │  └── woken, paused ── Waiting            │ failed
//!                       └─────────────────── after a pause ────────┘
//! ```
//! A pod with scheduling gates is Gated until they are gone.

use scheduler_plan::{Candidate, Key, Placement, WaitsFor};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The pause after the first failed try; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A pod without a node.
pub(crate) struct Pending {
    pub(crate) candidate: Arc<Candidate>,
    /// Tells whether anything that decisions depend on has changed.
    pub(crate) fingerprint: u64,
    pub(crate) state: State,
    /// What the pod's PodScheduled condition says: (status, message, since when), as the API shows it.
    pub(crate) condition: Option<Condition>,
    tries: u32,
    not_before: Instant,
    /// Order of arrival, among pods of equal priority.
    arrival: u64,
}

/// What the API shows of a PodScheduled condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) since: Option<String>,
}

/// Where a pending pod stands.
#[derive(Debug)]
pub(crate) enum State {
    /// Has gates; nobody looks at it.
    Gated,
    /// Waits for its turn or for the end of its pause.
    Queued,
    /// Was refused and waits for a change.
    Waiting(WaitsFor),
    /// Has a node; claims or the binding are under way.
    Placed {
        placement: Placement,
        /// What the placement needs of claims has been written.
        is_prepared: bool,
        /// The binding has been sent.
        is_binding: bool,
        /// When to stop waiting for the claims.
        give_up_at: Instant,
    },
}

/// All pods without a node.
#[derive(Default)]
pub(crate) struct Queue {
    pods: BTreeMap<Key, Pending>,
    ready: BTreeSet<(Reverse<i32>, u64, Key)>,
    pauses: BTreeSet<(Instant, Key)>,
    waiting: BTreeSet<Key>,
    /// When to stop waiting for the claims of placed pods.
    deadlines: BTreeSet<(Instant, Key)>,
    /// Placed pods, by the claims that they wait for.
    by_claim: BTreeMap<Key, BTreeSet<Key>>,
    arrivals: u64,
}

impl Queue {
    pub(crate) fn get(&self, key: &Key) -> Option<&Pending> {
        self.pods.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut Pending> {
        self.pods.get_mut(key)
    }

    /// The placed pods that wait for a claim.
    pub(crate) fn waiting_for(&self, claim: &Key) -> impl Iterator<Item = &Key> {
        self.by_claim.get(claim).into_iter().flatten()
    }

    /// All placed pods that wait for claims.
    pub(crate) fn waiting_for_claims(&self) -> impl Iterator<Item = &Key> {
        self.deadlines.iter().map(|(_, key)| key)
    }

    /// The placed pods that have waited too long, each told once.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Key> {
        let mut expired = Vec::new();
        while let Some((end, _)) = self.deadlines.first()
            && *end <= now
        {
            expired.extend(self.deadlines.pop_first().map(|(_, key)| key));
        }
        expired
    }

    /// Takes in a new pod.
    pub(crate) fn add(
        &mut self,
        candidate: Arc<Candidate>,
        fingerprint: u64,
        condition: Option<Condition>,
        is_gated: bool,
        now: Instant,
    ) {
        let key = candidate.key.clone();
        self.arrivals += 1;
        let (arrival, state) = (self.arrivals, State::Gated);
        let pod = Pending {
            candidate,
            fingerprint,
            state,
            condition,
            tries: 0,
            not_before: now,
            arrival,
        };
        self.pods.insert(key.clone(), pod);
        if !is_gated {
            self.enqueue(&key, now);
        }
    }

    /// Forgets a pod; what is returned is what was known of it.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Pending> {
        self.leave_state(key);
        self.pods.remove(key)
    }

    /// Puts a pod in the queue, after its pause if it has one.
    pub(crate) fn enqueue(&mut self, key: &Key, now: Instant) {
        self.leave_state(key);
        let Some(pod) = self.pods.get_mut(key) else { return };
        pod.state = State::Queued;
        if pod.not_before > now {
            self.pauses.insert((pod.not_before, key.clone()));
        } else {
            self.ready
                .insert((Reverse(pod.candidate.priority), pod.arrival, key.clone()));
        }
    }

    /// Puts a pod aside until something changes.
    pub(crate) fn wait(&mut self, key: &Key, waits_for: WaitsFor, now: Instant) {
        self.leave_state(key);
        let Some(pod) = self.pods.get_mut(key) else { return };
        pod.state = State::Waiting(waits_for);
        pod.lengthen_pause(now);
        self.waiting.insert(key.clone());
    }

    /// Puts a pod back after something failed: it is tried again after its pause.
    pub(crate) fn retry(&mut self, key: &Key, now: Instant) {
        if let Some(pod) = self.pods.get_mut(key) {
            pod.lengthen_pause(now);
            self.enqueue(key, now);
        }
    }

    /// Notes the node of a pod.
    pub(crate) fn place(&mut self, key: &Key, placement: Placement, give_up_at: Instant) {
        self.leave_state(key);
        let Some(pod) = self.pods.get_mut(key) else { return };
        let is_prepared = placement.steps.is_empty();
        if !is_prepared {
            self.deadlines.insert((give_up_at, key.clone()));
        }
        for step in &placement.steps {
            self.by_claim
                .entry(step.claim().clone())
                .or_default()
                .insert(key.clone());
        }
        pod.state = State::Placed {
            placement,
            is_prepared,
            is_binding: false,
            give_up_at,
        };
    }

    /// Queues the waiting pods that a change may help.
    pub(crate) fn wake(&mut self, helps: impl Fn(&WaitsFor) -> bool, now: Instant) {
        let is_helped = |key: &&Key| match self.pods.get(*key).map(|pod| &pod.state) {
            Some(State::Waiting(waits_for)) => helps(waits_for),
            _ => false,
        };
        let helped: Vec<Key> = self.waiting.iter().filter(is_helped).cloned().collect();
        for key in helped {
            self.enqueue(&key, now);
        }
    }

    /// The next pod to decide about; it stays queued until its state is set.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Arc<Candidate>> {
        while let Some((end, _)) = self.pauses.first()
            && *end <= now
        {
            let (_, key) = self.pauses.pop_first()?;
            self.enqueue(&key, now);
        }
        let (.., key) = self.ready.pop_first()?;
        self.pods.get(&key).map(|pod| Arc::clone(&pod.candidate))
    }

    /// When to look again though nothing happens: a pause ends or a placed pod has waited too long.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let pause = self.pauses.first().map(|(end, _)| *end);
        let give_up = self.deadlines.first().map(|(end, _)| *end);
        pause.into_iter().chain(give_up).min()
    }

    fn leave_state(&mut self, key: &Key) {
        let Some(pod) = self.pods.get(key) else { return };
        self.ready
            .remove(&(Reverse(pod.candidate.priority), pod.arrival, key.clone()));
        self.pauses.remove(&(pod.not_before, key.clone()));
        self.waiting.remove(key);
        let State::Placed {
            placement, give_up_at, ..
        } = &pod.state
        else {
            return;
        };
        self.deadlines.remove(&(*give_up_at, key.clone()));
        for step in &placement.steps {
            if let Some(pods) = self.by_claim.get_mut(step.claim()) {
                pods.remove(key);
                if pods.is_empty() {
                    self.by_claim.remove(step.claim());
                }
            }
        }
    }
}

impl Pending {
    fn lengthen_pause(&mut self, now: Instant) {
        let factor = 1_u32 << self.tries.min(10);
        self.tries += 1;
        self.not_before = now + (PAUSE_FIRST * factor).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("ns".to_owned(), name.to_owned())
    }

    fn candidate(name: &str, priority: i32) -> Arc<Candidate> {
        Arc::new(Candidate {
            key: key(name),
            priority,
            ..Candidate::default()
        })
    }

    fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.next(now))
            .map(|pod| pod.key.1.clone())
            .collect()
    }

    #[test]
    fn priority_goes_first_then_arrival() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("b", 0), ("a", 0), ("urgent", 9)] {
            queue.add(candidate(name, priority), 0, None, false, now);
        }
        queue.add(candidate("gated", 9), 0, None, true, now);
        assert_eq!(names(&mut queue, now), ["urgent", "b", "a"]);
    }

    #[test]
    fn a_refused_pod_waits_for_its_change_and_its_pause() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(candidate("a", 0), 0, None, false, now);
        for tries in 0..9 {
            let now = now + PAUSE_MAX * tries;
            assert_eq!(names(&mut queue, now), ["a"], "try {tries}");
            queue.wait(
                &key("a"),
                WaitsFor {
                    volumes: true,
                    ..WaitsFor::default()
                },
                now,
            );
            queue.wake(|waits_for| waits_for.pods_gone, now);
            assert_eq!(queue.next_deadline(), None);
            queue.wake(|waits_for| waits_for.volumes, now);
            assert_eq!(names(&mut queue, now), [""; 0]);
            assert!(queue.next_deadline().unwrap() <= now + PAUSE_MAX);
        }
    }
}
