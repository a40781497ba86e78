//! Delays that double with each failure.

use jiff::{SignedDuration, Timestamp};

/// A delay that starts at `first_s` and doubles up to `max_s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// After the first failure, in seconds.
    pub first_s: u32,
    /// Never more than this, in seconds.
    pub max_s: u32,
}

/// Between a container's end and its next start.
pub const RESTART_DELAY: Delay = Delay {
    first_s: 10,
    max_s: 300,
};
/// Between two tries to pull an image.
pub const IMAGE_PULL_DELAY: Delay = Delay {
    first_s: 10,
    max_s: 300,
};
/// Between two tries to make a sandbox.
pub const SANDBOX_DELAY: Delay = Delay { first_s: 1, max_s: 30 };
/// Between two tries to mount volumes.
pub const MOUNT_DELAY: Delay = Delay { first_s: 1, max_s: 60 };

impl Delay {
    /// Seconds after `times` failures in a row (1 is the first).
    pub fn after(self, times: u32) -> u32 {
        let doublings = times.saturating_sub(1).min(20);
        self.first_s.saturating_mul(1 << doublings).min(self.max_s)
    }

    /// The time of the next try after `times` failures in a row, the last one `now`.
    pub fn retry_at(self, now: Timestamp, times: u32) -> Timestamp {
        plus_s(now, i64::from(self.after(times)))
    }
}

/// `seconds` later; the end of time if there is no such time.
pub(crate) fn plus_s(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// Whole and broken seconds from `earlier` to `later`.
pub(crate) fn elapsed(earlier: Timestamp, later: Timestamp) -> SignedDuration {
    later.duration_since(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum() {
        let seconds: Vec<u32> = (1..8).map(|n| RESTART_DELAY.after(n)).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(RESTART_DELAY.after(u32::MAX), 300);
    }
}
