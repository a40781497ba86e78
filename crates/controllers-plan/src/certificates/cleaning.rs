//! Requests are kept for a while after they were decided, so that whoever asked can fetch the answer, and then deleted.

use api::k8s::api::certificates::v1::CertificateSigningRequest;
use jiff::{SignedDuration, Timestamp};

use super::{certificate, conditions};
use crate::pods::name_of;
use crate::{Action, Plan, Reason, Step, Target, is_terminating};

/// How long an answer stays.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// How long a request that nobody decides about stays.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Deletes a request whose time is over. `not_after` is when the certificate that was issued ends.
pub fn plan_cleaning(request: &CertificateSigningRequest, not_after: Option<Timestamp>, now: Timestamp) -> Plan {
    let name = name_of(&request.metadata);
    let Some((due, why)) = due(request, not_after).filter(|_| !is_terminating(&request.metadata)) else {
        return Plan::default();
    };
    if now <= due {
        let message = format!("{name} is {why}, and kept until {due}");
        return Plan {
            because: vec![Reason::waits(name, "Kept", name, message)],
            again_at: due.checked_add(SignedDuration::from_secs(1)).ok(),
            ..Plan::default()
        };
    }
    Plan {
        steps: vec![Step::One(Action::delete(Target::of(request)))],
        because: vec![Reason::acts(name, "Forgotten", format!("{name} is {why}"))],
        ..Plan::default()
    }
}

/// The earliest time after which it goes, and what it is until then.
fn due(request: &CertificateSigningRequest, not_after: Option<Timestamp>) -> Option<(Timestamp, &'static str)> {
    let conditions = conditions(request);
    if conditions.is_empty() {
        let made_at = request.metadata.creation_timestamp.as_ref()?.0;
        return Some((made_at.checked_add(PENDING).ok()?, "undecided"));
    }
    let is_issued = certificate(request).is_some();
    let decided = conditions.iter().filter_map(|condition| {
        let at = condition.last_update_time.as_ref()?.0.checked_add(DECIDED).ok()?;
        match condition.type_.as_str() {
            "Approved" if is_issued => Some((at, "issued")),
            "Denied" => Some((at, "denied")),
            "Failed" => Some((at, "failed")),
            _ => None,
        }
    });
    let is_approved = conditions.iter().any(|condition| condition.type_ == "Approved");
    let expired = not_after.filter(|_| is_issued && is_approved).map(|at| (at, "issued"));
    decided.chain(expired).min()
}
