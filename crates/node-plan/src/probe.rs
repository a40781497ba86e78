//! The life of a probe: from single outcomes to verdicts.
//!
//! ```text
//!            successThreshold successes in a row
//!   failing ───────────────────────────────────▶ succeeding
//!           ◀───────────────────────────────────
//!             failureThreshold failures in a row
//! ```
//! Before the first verdict a liveness probe counts as succeeding, a readiness probe as failing, and a startup probe as
//! neither.

use api::k8s::api::core::v1::{Container, Probe};
use jiff::{SignedDuration, Timestamp};

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Holds the others back until it succeeds; its failure restarts the container.
    Startup,
    /// Its failure takes the pod out of its services.
    Readiness,
    /// Its failure restarts the container.
    Liveness,
}

/// What one try found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Success,
    /// The container answered badly or not at all; the text says how.
    Failure(String),
    /// The try itself could not be made; it counts for nothing.
    Unknown(String),
}

impl ProbeKind {
    /// The name as events say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// A container's probe of a kind.
pub fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
    }
}

/// A container's probes.
pub fn probes_of(container: &Container) -> impl Iterator<Item = (ProbeKind, &Probe)> {
    [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness]
        .into_iter()
        .filter_map(|kind| probe_of(container, kind).map(|probe| (kind, probe)))
}

/// The state of one probe of one running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeMachine {
    success_threshold: u32,
    failure_threshold: u32,
    initial_delay: SignedDuration,
    period: SignedDuration,
    last: Option<bool>,
    run: u32,
    verdict: Option<bool>,
}

impl ProbeMachine {
    /// The machine of a container that has just started; `verdict` is what is known already (after a restart of the
    /// node agent).
    pub fn new(probe: &Probe, verdict: Option<bool>) -> Self {
        let at_least_1 = |value: Option<i32>, default: u32| {
            value
                .and_then(|v| u32::try_from(v).ok())
                .filter(|v| *v > 0)
                .unwrap_or(default)
        };
        Self {
            success_threshold: at_least_1(probe.success_threshold, 1),
            failure_threshold: at_least_1(probe.failure_threshold, 3),
            initial_delay: SignedDuration::from_secs(i64::from(probe.initial_delay_seconds.unwrap_or(0).max(0))),
            period: SignedDuration::from_secs(i64::from(at_least_1(probe.period_seconds, 10))),
            last: None,
            run: 0,
            verdict,
        }
    }

    /// When the next try is due; `last_try` is the start of the one before.
    pub fn due(&self, started_at: Timestamp, last_try: Option<Timestamp>) -> Timestamp {
        let first = started_at.checked_add(self.initial_delay).unwrap_or(Timestamp::MAX);
        let next = last_try
            .and_then(|t| t.checked_add(self.period).ok())
            .unwrap_or(Timestamp::MIN);
        first.max(next)
    }

    /// Takes in what a try found; the verdict if it is now another one.
    pub fn observe(&mut self, outcome: &Outcome) -> Option<bool> {
        let good = match outcome {
            Outcome::Unknown(_) => return None,
            Outcome::Success => true,
            Outcome::Failure(_) => false,
        };
        self.run = if self.last == Some(good) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(good);
        let needed = if good {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.run < needed || self.verdict == Some(good) {
            return None;
        }
        self.verdict = Some(good);
        Some(good)
    }

    /// The verdict so far.
    pub fn verdict(&self) -> Option<bool> {
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn probe(success: i32, failure: i32) -> Probe {
        Probe {
            success_threshold: Some(success),
            failure_threshold: Some(failure),
            ..Probe::default()
        }
    }

    fn outcome(good: bool) -> Outcome {
        if good {
            Outcome::Success
        } else {
            Outcome::Failure(String::new())
        }
    }

    #[test]
    fn thresholds_count_in_a_row() {
        let mut machine = ProbeMachine::new(&probe(2, 3), None);
        let verdicts: Vec<Option<bool>> = [true, false, true, true, false, false, true, false, false, false]
            .map(|good| machine.observe(&outcome(good)))
            .to_vec();
        let expected = [None, None, None, Some(true), None, None, None, None, None, Some(false)];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn unknown_counts_for_nothing() {
        let mut machine = ProbeMachine::new(&probe(1, 2), Some(true));
        assert_eq!(machine.observe(&outcome(false)), None);
        assert_eq!(machine.observe(&Outcome::Unknown("no runtime".into())), None);
        assert_eq!(machine.observe(&outcome(false)), Some(false));
    }

    #[test]
    fn first_try_waits_for_the_initial_delay() {
        let p = Probe {
            initial_delay_seconds: Some(5),
            period_seconds: Some(2),
            ..Probe::default()
        };
        let machine = ProbeMachine::new(&p, None);
        let start = Timestamp::from_second(100).unwrap();
        assert_eq!(machine.due(start, None).as_second(), 105);
        assert_eq!(machine.due(start, Timestamp::from_second(110).ok()).as_second(), 112);
    }

    proptest! {
        #[test]
        fn a_verdict_changes_only_after_its_threshold(
            tries in proptest::collection::vec(any::<bool>(), 0..60), success in 1i32..5, failure in 1i32..5,
        ) {
            let mut machine = ProbeMachine::new(&probe(success, failure), None);
            for (i, good) in tries.iter().enumerate() {
                if let Some(verdict) = machine.observe(&outcome(*good)) {
                    prop_assert_eq!(verdict, *good);
                    let needed = usize::try_from(if verdict { success } else { failure }).unwrap();
                    prop_assert!(i + 1 >= needed && tries[i + 1 - needed..=i].iter().all(|t| *t == verdict));
                }
            }
        }
    }
}
