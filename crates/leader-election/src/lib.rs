//! One of several processes works, the others wait: a Lease of the Kubernetes API says who.
//!
//! The protocol is client-go's, so ours and upstream's components can stand for the same Lease:
//!
//! ```text
//!  candidate ──the Lease is absent, released, or was not renewed for its duration──▶ leader ──▶ works, renews
//!      ▲                                                                               │
//!      └──── its work has ended ◀── work told to stop ◀── not renewed for the deadline ─┘
//! ```
//!
//! Whoever composes a process wraps a component in a candidate; the component itself knows nothing of it:
//!
//! ```ignore
//! let candidate = Candidate::new(client.clone(), Config::new("kube-scheduler", &identity(&node_name)))?;
//! candidate.run(shutdown, |leading| scheduler::run(client.clone(), leading)).await?;
//! ```
//!
//! Clocks of different machines are never compared: a candidate measures with its own clock how long it has seen the
//! Lease unchanged. The guarantee is that of the protocol: two leaders at a time only if a clock runs wildly fast or a
//! process stands still between a check and a write; so every write of a leader still carries its preconditions.

mod candidate;
mod protocol;

pub use candidate::{Candidate, Ended};

use std::time::Duration;

/// Which Lease is stood for, as whom, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// Who we are; no two candidates may have the same.
    pub identity: String,
    /// How long a Lease that nobody renews is respected.
    pub lease_duration: Duration,
    /// How long a leader that cannot renew goes on.
    pub renew_deadline: Duration,
    /// How often a leader renews and a candidate looks (a little less often, at random).
    pub retry_period: Duration,
}

impl Config {
    /// The Lease `kube-system/name` with the times that upstream's components use by default.
    pub fn new(name: &str, identity: &str) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        if self.identity.is_empty() {
            return Err(InvalidConfig::NoIdentity);
        }
        if self.lease_duration.as_secs() == 0 {
            return Err(InvalidConfig::LeaseTooShort);
        }
        if self.lease_duration <= self.renew_deadline {
            return Err(InvalidConfig::DeadlineAfterLease);
        }
        if self.renew_deadline <= self.retry_period.mul_f64(protocol::JITTER) || self.retry_period.is_zero() {
            return Err(InvalidConfig::RetryAfterDeadline);
        }
        Ok(())
    }
}

/// An identity that no other candidate has, also not one of the same machine: the machine's name and a random part.
pub fn identity(host: &str) -> String {
    format!("{host}_{:016x}", rand::random::<u64>())
}

/// Why a candidate cannot stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// An empty identity means that nobody holds the Lease.
    #[error("a candidate needs an identity")]
    NoIdentity,
    /// The Lease counts in seconds.
    #[error("the lease duration must be one second at least")]
    LeaseTooShort,
    /// Others could lead before the leader has stopped.
    #[error("the lease duration must be longer than the renew deadline")]
    DeadlineAfterLease,
    /// The leader would give up before it has tried again.
    #[error("the renew deadline must be longer than 1.2 retry periods, which must not be zero")]
    RetryAfterDeadline,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_make_no_sense_are_refused() {
        let default = Config::new("l", "a");
        let seconds = Duration::from_secs;
        assert_eq!(default.check(), Ok(()));
        let check = |change: fn(&mut Config), error| {
            let mut config = default.clone();
            change(&mut config);
            assert_eq!(config.check(), Err(error));
        };
        check(|c| c.identity.clear(), InvalidConfig::NoIdentity);
        check(
            |c| c.lease_duration = Duration::from_millis(900),
            InvalidConfig::LeaseTooShort,
        );
        check(
            |c| c.renew_deadline = c.lease_duration,
            InvalidConfig::DeadlineAfterLease,
        );
        check(|c| c.retry_period = c.renew_deadline, InvalidConfig::RetryAfterDeadline);
        check(|c| c.retry_period = Duration::ZERO, InvalidConfig::RetryAfterDeadline);
        assert!(default.lease_duration > default.renew_deadline && default.renew_deadline > seconds(2));
    }
}
