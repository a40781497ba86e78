//! Whether and when a container that ended is started again.
//!
//! ```text
//! first end: at once · second: 10 s after the end · then 20, 40 … 300 s · forgotten once it ran for 10 min
//! ```
//! The delay that follows a container is written on it when it is made, so it survives a restart of the node agent.

use crate::backoff::{RESTART_DELAY, elapsed, plus_s};
use crate::observed::Container;
use api::k8s::api::core::v1::{Container as Definition, PodSpec};
use jiff::Timestamp;

/// A container that ran this long has paid for its earlier crashes.
const FORGIVEN_AFTER_S: i64 = 600;

/// Whether the policy wants the ended container again.
pub fn should_restart(spec: &PodSpec, definition: &Definition, ended: &Container) -> bool {
    let rules = definition.restart_policy_rules.iter().flatten();
    for rule in rules {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|code| *code == ended.exit_code);
        let applies = if codes.operator == "NotIn" { !listed } else { listed };
        if applies && rule.action == "Restart" {
            return true;
        }
    }
    match definition.restart_policy.as_deref().or(spec.restart_policy.as_deref()) {
        Some("Never") => false,
        Some("OnFailure") => ended.exit_code != 0,
        _ => true,
    }
}

/// When the ended container may be started again. One of another definition may at once: the new one has not crashed.
pub fn restart_at(definition: &Definition, ended: &Container) -> Timestamp {
    let finished = ended.finished_at.unwrap_or(ended.created_at);
    if is_forgiven(ended) || is_outdated(ended, definition) {
        finished
    } else {
        plus_s(finished, i64::from(ended.backoff_s))
    }
}

/// The delay to write on the container that follows `ended` (`None`: it is the first, as it is of its definition).
pub fn next_backoff_s(definition: &Definition, ended: Option<&Container>) -> u32 {
    match ended.filter(|c| !is_outdated(c, definition)) {
        None => 0,
        Some(c) if c.backoff_s == 0 || is_forgiven(c) => RESTART_DELAY.first_s,
        Some(c) => c
            .backoff_s
            .saturating_mul(2)
            .clamp(RESTART_DELAY.first_s, RESTART_DELAY.max_s),
    }
}

fn is_forgiven(ended: &Container) -> bool {
    let (Some(started), Some(finished)) = (ended.started_at, ended.finished_at) else {
        return false;
    };
    elapsed(started, finished).as_secs() >= FORGIVEN_AFTER_S
}

/// A fingerprint of what makes a running container outdated: its name and image (other fields cannot change, or are
/// changed in place).
pub fn container_hash(definition: &Definition) -> String {
    let image = definition.image.as_deref().unwrap_or_default();
    // FNV-1a, 32 bits.
    let mut hash: u32 = 0x811c_9dc5;
    for byte in definition.name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{hash:x}")
}

/// Whether a container was made from another definition than the pod has now.
pub(crate) fn is_outdated(container: &Container, definition: &Definition) -> bool {
    !container.hash.is_empty() && container.hash != container_hash(definition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::{ContainerRestartRule, ContainerRestartRuleOnExitCodes};
    use proptest::prelude::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    fn ended(backoff_s: u32, ran_s: i64, exit_code: i32) -> Container {
        Container {
            backoff_s,
            exit_code,
            started_at: Some(at(1000)),
            finished_at: Some(at(1000 + ran_s)),
            ..Container::default()
        }
    }

    #[test]
    fn back_off_follows_the_crashes() {
        let mut seen = Vec::new();
        let mut backoff = next_backoff_s(&Definition::default(), None);
        for _ in 0..8 {
            let c = ended(backoff, 1, 1);
            seen.push(restart_at(&Definition::default(), &c).as_second() - 1001);
            backoff = next_backoff_s(&Definition::default(), Some(&c));
        }
        assert_eq!(seen, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_quiet_minutes_forgive() {
        let c = ended(300, 600, 1);
        assert_eq!(restart_at(&Definition::default(), &c), at(1600));
        assert_eq!(next_backoff_s(&Definition::default(), Some(&c)), 10);
    }

    #[test]
    fn policies() {
        let check = |policy: &str, code: i32, expected: bool| {
            let spec = PodSpec {
                restart_policy: Some(policy.into()),
                ..PodSpec::default()
            };
            assert_eq!(
                should_restart(&spec, &Definition::default(), &ended(0, 1, code)),
                expected,
                "{policy} {code}"
            );
        };
        check("Always", 0, true);
        check("Always", 1, true);
        check("OnFailure", 0, false);
        check("OnFailure", 1, true);
        check("Never", 0, false);
        check("Never", 1, false);
    }

    #[test]
    fn a_rule_on_exit_codes_overrules_the_policy() {
        let definition = Definition {
            restart_policy: Some("Never".into()),
            restart_policy_rules: Some(vec![ContainerRestartRule {
                action: "Restart".into(),
                exit_codes: Some(ContainerRestartRuleOnExitCodes {
                    operator: "In".into(),
                    values: Some(vec![42]),
                }),
            }]),
            ..Definition::default()
        };
        assert!(should_restart(&PodSpec::default(), &definition, &ended(0, 1, 42)));
        assert!(!should_restart(&PodSpec::default(), &definition, &ended(0, 1, 1)));
    }

    proptest! {
        #[test]
        fn never_waits_longer_than_the_maximum(backoff in 0u32..400, ran in 0i64..2000, code in -1i32..256) {
            let c = ended(backoff.min(300), ran, code);
            let wait = restart_at(&Definition::default(), &c).as_second() - c.finished_at.unwrap().as_second();
            prop_assert!((0..=300).contains(&wait));
            prop_assert!((10..=300).contains(&next_backoff_s(&Definition::default(), Some(&c))));
        }
    }
}
