//! What all parts of an episode share: chance, faults, the truth about containers, the checkers, the trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::check::Checkers;

/// How many nodes there are.
pub(crate) const NODES: usize = 3;

/// No cluster of this size has more to do in its life.
const STEPS_MAX: u64 = 20_000;

/// Who makes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// All controllers, one process.
    Controllers,
    /// The scheduler.
    Scheduler,
    /// The agent of a node.
    Node(usize),
    /// The person at the keyboard.
    User,
}

/// The names of the faults.
pub const FAULTS: [&str; 10] = [
    "refused",
    "unwell",
    "conflict",
    "unanswered",
    "belated",
    "late",
    "crash",
    "stall",
    "cut",
    "twice",
];

/// How often what goes wrong, from 0 (never) to 1 (at every occasion).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Faults {
    /// A request does not reach the server.
    pub(crate) refused: f64,
    /// The server is busy (429) or not itself (500).
    pub(crate) unwell: f64,
    /// A write is answered with a conflict.
    pub(crate) conflict: f64,
    /// A write takes effect, and its answer gets lost.
    pub(crate) unanswered: f64,
    /// A write takes effect when nobody waits for it any more.
    pub(crate) belated: f64,
    /// A request or its answer is late.
    pub(crate) late: f64,
    /// Whoever asks dies before the request or after it.
    pub(crate) crash: f64,
    /// A watch stalls, so that its caches become stale.
    pub(crate) stall: f64,
    /// A watch loses events and says so, or ends.
    pub(crate) cut: f64,
    /// A watch tells an event twice.
    pub(crate) twice: f64,
}

impl Faults {
    /// Nothing goes wrong.
    pub(crate) const NONE: Self = Self {
        refused: 0.0,
        unwell: 0.0,
        conflict: 0.0,
        unanswered: 0.0,
        belated: 0.0,
        late: 0.0,
        crash: 0.0,
        stall: 0.0,
        cut: 0.0,
        twice: 0.0,
    };

    /// The same without some of them, by name.
    pub(crate) fn without(mut self, names: &[String]) -> Self {
        let all = [
            &mut self.refused,
            &mut self.unwell,
            &mut self.conflict,
            &mut self.unanswered,
            &mut self.belated,
            &mut self.late,
            &mut self.crash,
            &mut self.stall,
            &mut self.cut,
            &mut self.twice,
        ];
        for (fault, name) in all.into_iter().zip(FAULTS) {
            if names.iter().any(|left_out| left_out == name) {
                *fault = 0.0;
            }
        }
        self
    }

    /// All that can go wrong, in a mix that the seed chooses.
    pub(crate) fn of(chance: &mut Chance) -> Self {
        let strength = chance.one_of(&[0.0, 0.3, 1.0, 1.0, 3.0]);
        let mut weigh = |base: f64| strength * base * chance.one_of(&[0.0, 1.0, 1.0, 2.0]);
        Self {
            refused: weigh(0.02),
            unwell: weigh(0.01),
            conflict: weigh(0.03),
            unanswered: weigh(0.02),
            belated: weigh(0.04),
            late: weigh(0.1),
            crash: weigh(0.004),
            stall: weigh(0.05),
            cut: weigh(0.01),
            twice: weigh(0.02),
        }
    }
}

/// A container that lives, whatever the API says.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) name: String,
    pub(crate) node: usize,
    pub(crate) ip: String,
    pub(crate) claims: Vec<String>,
    pub(crate) ready_at: Option<Instant>,
    pub(crate) unready_until: Option<Instant>,
    pub(crate) ends_at: Option<Instant>,
}

/// The shared part of an episode.
#[derive(Clone)]
pub(crate) struct World(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    crashes: BTreeMap<Who, Notify>,
    enough: Notify,
    began: Instant,
}

/// What is behind the lock.
pub(crate) struct State {
    pub(crate) chance: Chance,
    pub(crate) faults: Faults,
    /// The live containers, by pod uid.
    pub(crate) containers: BTreeMap<String, Live>,
    pub(crate) addresses_given: u32,
    pub(crate) cut_off: BTreeSet<Who>,
    pub(crate) powerless: BTreeSet<usize>,
    pub(crate) checkers: Checkers,
    pub(crate) steps: u64,
    has_enough: bool,
    pub(crate) last_write: Instant,
    /// Requests that nobody waits for any more.
    pub(crate) belated: JoinSet<()>,
    /// Kept only when somebody wants to read it.
    pub(crate) trace: Option<Vec<String>>,
    /// What distinguishes this episode from any other, step by step.
    pub(crate) digest: u64,
}

/// The first moment of every episode.
pub(crate) const DAWN: &str = "2030-01-01T00:00:00Z";

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, checkers: Checkers, with_trace: bool) -> Self {
        let everybody = (0..NODES).map(Who::Node).chain([Who::Controllers, Who::Scheduler]);
        let state = State {
            chance: Chance::of(seed, "faults"),
            faults,
            containers: BTreeMap::new(),
            addresses_given: 0,
            cut_off: BTreeSet::new(),
            powerless: BTreeSet::new(),
            checkers,
            steps: 0,
            has_enough: false,
            last_write: Instant::now(),
            belated: JoinSet::new(),
            trace: with_trace.then(Vec::new),
            digest: seed,
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            crashes: everybody.map(|who| (who, Notify::new())).collect(),
            enough: Notify::new(),
            began: Instant::now(),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic while held")
    }

    /// Time since the episode began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Notes what happens, for the trace and for telling episodes apart.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        let at = self.elapsed();
        let mut state = self.lock();
        state.tell(at, what);
        if state.steps >= STEPS_MAX && !std::mem::replace(&mut state.has_enough, true) {
            state
                .checkers
                .blame(at, "invariant 7: the cluster is busy without end".to_owned());
            self.0.enough.notify_one();
        }
    }

    /// Waits until more has happened than can be meant.
    pub(crate) async fn has_enough(&self) {
        self.0.enough.notified().await;
    }

    /// Looks at every state that has been committed since the last look.
    pub(crate) fn look(&self) {
        let at = self.elapsed();
        let mut state = self.lock();
        if state.catch_up(at) {
            state.last_write = Instant::now();
        }
    }

    /// Ends a component at once.
    pub(crate) fn crash(&self, who: Who) {
        if let Some(crash) = self.0.crashes.get(&who) {
            crash.notify_one();
        }
    }

    /// Waits until a component is to end.
    pub(crate) async fn crashed(&self, who: Who) {
        match self.0.crashes.get(&who) {
            Some(crash) => crash.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn is_powerless(&self, node: usize) -> bool {
        self.lock().powerless.contains(&node)
    }
}

impl State {
    pub(crate) fn tell(&mut self, at: Duration, what: impl FnOnce() -> String) {
        self.steps += 1;
        let line = what();
        for byte in line.bytes().chain(at.as_micros().to_le_bytes()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:9.3} {line}", at.as_secs_f64()));
        }
    }

    /// Lets the checkers see what has been committed. Whether anything that counts as work has been.
    pub(crate) fn catch_up(&mut self, at: Duration) -> bool {
        let mut worked = false;
        while let Some(change) = self.checkers.next_change() {
            worked |= change.is_work;
            self.tell(at, || change.words.clone());
            self.checkers.take_in(at, &change, &self.containers);
        }
        worked
    }

    /// A container begins.
    pub(crate) fn begin(&mut self, at: Duration, uid: &str, live: Live) {
        self.tell(at, || {
            format!("container of {} begins on node-{}", live.name, live.node)
        });
        self.containers.insert(uid.to_owned(), live);
        self.checkers.containers_changed(at, &self.containers);
    }

    /// A container ends.
    pub(crate) fn end(&mut self, at: Duration, uid: &str) {
        if let Some(live) = self.containers.remove(uid) {
            self.tell(at, || format!("container of {} ends on node-{}", live.name, live.node));
        }
    }
}

/// Time and chance of the thread while an episode runs.
pub(crate) struct Given {
    pub(crate) chance: Chance,
    pub(crate) dawn: Timestamp,
    pub(crate) began: Instant,
    /// How often the time was asked for: asking takes time, so no two answers are the same.
    pub(crate) asked: i64,
}

impl ambient::Source for Given {
    fn now(&mut self) -> Timestamp {
        self.asked += 1;
        let passed = SignedDuration::try_from(self.began.elapsed()).unwrap_or_default();
        let passed = passed + SignedDuration::from_nanos(self.asked);
        self.dawn.checked_add(passed).unwrap_or(Timestamp::MAX)
    }

    fn random(&mut self) -> u64 {
        self.chance.number()
    }
}
