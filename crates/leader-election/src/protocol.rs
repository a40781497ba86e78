//! What a candidate does next, decided from what it has seen; no clock, no network.

use crate::Config;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::time::Duration;
use tokio::time::Instant;

/// Candidates wait up to this many times longer, so that they do not all look at once; client-go's figure.
pub(crate) const JITTER: f64 = 1.2;

/// A Lease as it was seen, and since when (by our clock) it has not changed.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) spec: LeaseSpec,
    pub(crate) since: Instant,
}

/// The next step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Write this to be (or stay) the leader.
    Write(LeaseSpec),
    /// Another one leads.
    Wait,
}

/// Takes in what the API server shows. The time starts anew only when something has changed.
pub(crate) fn observe(before: Option<Observed>, spec: LeaseSpec, now: Instant) -> Observed {
    match before {
        Some(before) if before.spec == spec => before,
        _ => Observed { spec, since: now },
    }
}

/// Whether we may lead, and what says so. `observed` is `None` if there is no Lease.
pub(crate) fn next(config: &Config, observed: Option<&Observed>, now: Instant, wall: Timestamp) -> Step {
    let Some(observed) = observed else {
        return Step::Write(held(config, wall, wall, 0));
    };
    let spec = &observed.spec;
    let transitions = spec.lease_transitions.unwrap_or(0);
    if is_held_by(spec, &config.identity) {
        let acquired = spec.acquire_time.as_ref().map_or(wall, |time| time.0);
        return Step::Write(held(config, acquired, wall, transitions));
    }
    if is_held(spec) && now < observed.since + duration(spec) {
        return Step::Wait;
    }
    Step::Write(held(config, wall, wall, transitions.saturating_add(1)))
}

/// What a leader that goes leaves behind, so that nobody has to wait.
pub(crate) fn released(spec: &LeaseSpec, wall: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        acquire_time: Some(MicroTime(wall)),
        renew_time: Some(MicroTime(wall)),
        ..spec.clone()
    }
}

pub(crate) fn is_held_by(spec: &LeaseSpec, identity: &str) -> bool {
    spec.holder_identity.as_deref() == Some(identity)
}

fn is_held(spec: &LeaseSpec) -> bool {
    spec.holder_identity.as_deref().is_some_and(|holder| !holder.is_empty())
}

/// How long its holder wants the Lease to be respected.
fn duration(spec: &LeaseSpec) -> Duration {
    let seconds = spec.lease_duration_seconds.unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn held(config: &Config, acquired: Timestamp, renewed: Timestamp, transitions: i32) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(config.lease_duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: Some(MicroTime(acquired)),
        renew_time: Some(MicroTime(renewed)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("l", "we")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn spec(holder: &str, transitions: i32) -> LeaseSpec {
        let mut config = config();
        config.identity = holder.to_owned();
        held(&config, at(1), at(5), transitions)
    }

    fn seen(spec: LeaseSpec, since: Instant) -> Observed {
        Observed { spec, since }
    }

    #[test]
    fn an_absent_lease_is_made() {
        let expected = held(&config(), at(9), at(9), 0);
        assert_eq!(next(&config(), None, Instant::now(), at(9)), Step::Write(expected));
    }

    #[test]
    fn our_own_lease_is_renewed_without_a_transition() {
        let now = Instant::now();
        let expected = held(&config(), at(1), at(9), 3);
        assert_eq!(
            next(&config(), Some(&seen(spec("we", 3), now)), now, at(9)),
            Step::Write(expected)
        );
    }

    #[test]
    fn anothers_lease_is_respected_until_it_was_not_renewed_for_its_duration() {
        let since = Instant::now();
        let observed = seen(spec("they", 3), since);
        let after = |seconds| next(&config(), Some(&observed), since + Duration::from_secs(seconds), at(9));
        assert_eq!(after(0), Step::Wait);
        assert_eq!(after(14), Step::Wait);
        assert_eq!(after(15), Step::Write(held(&config(), at(9), at(9), 4)));
    }

    #[test]
    fn a_renewed_lease_starts_the_time_anew_and_an_unchanged_one_does_not() {
        let then = Instant::now();
        let now = then + Duration::from_secs(10);
        let before = seen(spec("they", 0), then);
        assert_eq!(observe(Some(before.clone()), spec("they", 0), now).since, then);
        let mut renewed = spec("they", 0);
        renewed.renew_time = Some(MicroTime(at(6)));
        assert_eq!(observe(Some(before), renewed, now).since, now);
        assert_eq!(observe(None, spec("they", 0), now).since, now);
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let now = Instant::now();
        let released = released(&spec("they", 3), at(8));
        assert_eq!(released.holder_identity.as_deref(), Some(""));
        assert_eq!(
            next(&config(), Some(&seen(released, now)), now, at(9)),
            Step::Write(held(&config(), at(9), at(9), 4))
        );
    }
}
