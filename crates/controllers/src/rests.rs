//! How long a key rests after it was planned, so that a big object's storm of events is taken in gulps and planning
//! never takes more than a fifth of a processor per key for long.
//!
//! Planning makes a debt that time pays off, also the time that carrying the plan out takes. Only what exceeds a little
//! credit is waited for, so a key that changes now and then is looked at without delay, and one that changes all the
//! time is not.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::queue::WorkId;

/// A key owes this many times as long as its planning took: the planning is one part of so many.
const FACTOR: u32 = 5;

/// How much may be owed without a rest.
const CREDIT: Duration = Duration::from_millis(20);

/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(100);

/// From so many debtors on, those are looked for who owe nothing any more.
const DEBTORS_NOTABLE: usize = 256;

/// What the keys owe.
#[derive(Default)]
pub(crate) struct Rests {
    /// When each key will have paid.
    debts: Mutex<HashMap<WorkId, Instant>>,
}

impl Rests {
    /// When a key may be planned again whose planning took so long and ended at `ended`.
    pub(crate) fn until(&self, id: &WorkId, took: Duration, ended: Instant) -> Instant {
        let mut debts = self.debts.lock().expect("no panic while held");
        if debts.len() >= DEBTORS_NOTABLE {
            debts.retain(|_, paid_at| *paid_at > ended);
        }
        let owed = debts
            .get(id)
            .map_or(Duration::ZERO, |paid_at| paid_at.duration_since(ended));
        let owed = (owed + took * FACTOR).min(CREDIT + REST_MAX);
        debts.insert(id.clone(), ended + owed);
        ended + owed.saturating_sub(CREDIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::Pod;
    use controllers_plan::{Key, Kind};

    const MS: Duration = Duration::from_millis(1);

    fn id(name: &str) -> WorkId {
        WorkId {
            row: 0,
            key: Key::new(Kind::of::<Pod>(), "default", name),
        }
    }

    #[test]
    fn who_changes_now_and_then_does_not_rest() {
        let (rests, begin) = (Rests::default(), Instant::now());
        for turn in 0..100 {
            let ended = begin + turn * 5 * MS;
            assert_eq!(rests.until(&id("a"), MS, ended), ended);
        }
    }

    #[test]
    fn who_changes_all_the_time_is_planned_a_fifth_of_it() {
        let (rests, mut now, mut planned) = (Rests::default(), Instant::now(), Duration::ZERO);
        let end = now + 1000 * MS;
        while now < end {
            now += 3 * MS;
            planned += 3 * MS;
            now = rests.until(&id("a"), 3 * MS, now);
        }
        assert!((180 * MS..=220 * MS).contains(&planned), "{planned:?}");
        assert_eq!(rests.until(&id("b"), 3 * MS, now), now);
    }

    #[test]
    fn no_rest_is_longer_than_the_longest() {
        let (rests, now) = (Rests::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(rests.until(&id("a"), 1000 * MS, now), now + REST_MAX);
        }
    }

    #[test]
    fn who_owes_nothing_is_forgotten() {
        let (rests, begin) = (Rests::default(), Instant::now());
        for number in 0..10_000 {
            rests.until(&id(&number.to_string()), MS, begin + number * MS);
        }
        assert!(rests.debts.lock().unwrap().len() <= DEBTORS_NOTABLE);
    }
}
