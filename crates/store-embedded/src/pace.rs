//! When the writer begins the next group: a commit costs much the same for one change as for twenty, so it is worth
//! waiting a moment for writers who are known to be on their way.
//!
//! Whoever writes alone never waits.

use std::time::Duration;

/// The longest wait, however slow the disk.
const DELAY_MAX: Duration = Duration::from_millis(2);

/// What the last groups tell of the next one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// How many write at the same time.
    writers: usize,
    /// What the last commit took.
    commit: Duration,
}

impl Pace {
    /// How many changes are worth waiting for: half of the writers, since the others are busy with the answers to their
    /// last writes while these are made durable.
    pub(crate) fn group(&self) -> usize {
        (self.writers / 2).max(1)
    }

    /// How long they are waited for: not much longer than what it saves.
    pub(crate) fn delay(&self) -> Duration {
        (self.commit * 2).min(DELAY_MAX)
    }

    /// Notes a group: how many it had, how many more came while it was made durable, and how long that took.
    pub(crate) fn note(&mut self, committed: usize, waiting: usize, took: Duration) {
        self.writers = committed + waiting;
        self.commit = took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn groups_grow_to_half_of_those_who_write() {
        for (committed, waiting, expected) in [(0, 0, 1), (1, 0, 1), (1, 1, 1), (2, 2, 2), (4, 28, 16), (32, 0, 16)] {
            let mut pace = Pace::default();
            pace.note(committed, waiting, MS);
            assert_eq!(pace.group(), expected, "{committed} and {waiting}");
        }
        assert_eq!(Pace::default().group(), 1);
    }

    #[test]
    fn the_wait_is_as_short_as_the_disk_is_fast() {
        let delay = |took| {
            let mut pace = Pace::default();
            pace.note(4, 4, took);
            pace.delay()
        };
        assert_eq!(delay(MS / 10), MS / 5);
        assert_eq!(delay(100 * MS), DELAY_MAX);
    }
}
