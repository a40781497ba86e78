//! Jobs that have ended are deleted after the time that they name.

use api::k8s::api::batch::v1::Job;
use jiff::{SignedDuration, Timestamp};

use crate::job::finish_of;
use crate::pods::name_of;
use crate::{Action, Plan, Propagation, Reason, Step, Target, Write, is_terminating};

/// Decides whether a job is to go now.
pub fn plan(job: &Job, now: Timestamp) -> Plan {
    let ttl_s = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    let ended_at = finish_of(job).and_then(|end| end.last_transition_time.as_ref());
    let (Some(ttl_s), Some(ended_at)) = (ttl_s, ended_at.filter(|_| !is_terminating(&job.metadata))) else {
        return Plan::default();
    };
    let name = name_of(&job.metadata);
    let expires_at = ended_at
        .0
        .checked_add(SignedDuration::from_secs(i64::from(ttl_s)))
        .unwrap_or(Timestamp::MAX);
    if expires_at > now {
        let message = format!("{name} has ended and is deleted at {expires_at}");
        return Plan {
            because: vec![Reason::waits(name, "TTLAfterFinished", name, message)],
            again_at: Some(expires_at),
            ..Plan::default()
        };
    }
    // With the version that was seen: a longer time that is given at the last moment counts.
    let delete = Action::from(Write::Delete {
        target: Target::of(job),
        propagation: Some(Propagation::Foreground),
    });
    let message = format!("{name} ended more than {ttl_s} s ago");
    Plan {
        steps: vec![Step::One(delete)],
        because: vec![Reason::acts(name, "TTLAfterFinished", message)],
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_goes_when_its_time_is_over() {
        let plan_at = |now: &str, ttl_s: Option<i32>| {
            let condition = json!({"type": "Failed", "status": "True", "lastTransitionTime": "2026-11-22T12:00:00Z"});
            let job = serde_json::from_value(json!({
                "metadata": {"name": "a"}, "spec": {"template": {}, "ttlSecondsAfterFinished": ttl_s},
                "status": {"conditions": [condition]},
            }));
            plan(&job.unwrap(), now.parse().unwrap())
        };
        assert_eq!(
            plan_at("2026-11-22T12:00:09Z", Some(10)).again_at,
            Some("2026-11-22T12:00:10Z".parse().unwrap())
        );
        assert!(!plan_at("2026-11-22T12:00:10Z", Some(10)).is_quiet());
        assert!(!plan_at("2026-11-22T12:00:00Z", Some(0)).is_quiet());
        assert_eq!(plan_at("2026-11-22T12:00:10Z", None), Plan::default());
    }
}
