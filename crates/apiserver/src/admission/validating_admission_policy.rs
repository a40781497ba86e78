//! ValidatingAdmissionPolicy: rules that whoever runs the cluster has written say what may be written.

use super::concern::{Concern, Misfit, Shown, concerned};
use super::{Operation, Review};
use crate::call::Call;
use crate::policies::{Held, Sort};
use crate::server::Server;
use crate::status::Outcome;
use api::error::Status;
use api::policy::Denial;
use serde_json::{Value, json};

/// The annotation of the audit log that tells of rules that did not hold.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

pub(super) async fn validate(review: &mut Review<'_>, object: &Value) -> Outcome<()> {
    // An eviction is judged as what it is, not as the delete that it ends in.
    if review.call.subresource == "eviction" || review.server.policies.view.is_empty(Sort::Validating) {
        return Ok(());
    }
    let shown = Shown::of(review, object)?;
    judge(review, &shown, object).await
}

/// Lets policies and webhooks judge something that is sent to a subresource and stored nowhere; `object` says what it is.
pub(crate) async fn validate_sent(
    server: &Server,
    call: &mut Call,
    operation: Operation,
    object: &Value,
) -> Outcome<()> {
    let mut review = Review::new(server, call, operation, None);
    let shown = Shown::sent(object);
    judge(&mut review, &shown, object).await?;
    super::validating_admission_webhook::judge(&mut review, &shown).await?;
    let warnings = review.warnings;
    call.warn(warnings);
    Ok(())
}

async fn judge(review: &mut Review<'_>, shown: &Shown, object: &Value) -> Outcome<()> {
    let (concerns, misfits) = concerned(review, Sort::Validating, shown).await?;
    let mut refused: Option<(String, String)> = None;
    for misfit in misfits {
        refused = refused.or_else(|| misfit.refusal(Sort::Validating));
    }
    let mut failures = Vec::new();
    for concern in concerns {
        let policy = concern.policy.policy();
        for params in &concern.params {
            let judgement = policy.judge(&concern.subject, params.as_ref());
            for denial in judgement.denials {
                let said = concern.act(review, &denial, &mut failures);
                refused = refused.or(said);
            }
            for (key, value) in judgement.annotations {
                review
                    .call
                    .annotations
                    .add(format!("{}/{key}", concern.policy.name), value);
            }
            for error in judgement.annotation_errors {
                let words = refusal(Sort::Validating, &concern.policy, Some(&concern.binding), &error);
                refused = refused.or(Some((words, String::new())));
            }
        }
    }
    if !failures.is_empty() {
        review
            .call
            .annotations
            .add(FAILURES.to_owned(), Value::from(failures).to_string());
    }
    match refused {
        Some((message, reason)) => Err(denied(review, object, &message, &reason)),
        None => Ok(()),
    }
}

impl Concern {
    /// Does with a rule that does not hold what the binding says; the message and reason of the refusal, if it is one.
    fn act(&self, review: &mut Review<'_>, denial: &Denial, failures: &mut Vec<Value>) -> Option<(String, String)> {
        let (policy, binding) = (&self.policy.name, &self.binding.name);
        let actions = &self.binding.spec["validationActions"];
        let mut refused = None;
        for action in actions.as_array().into_iter().flatten() {
            match action.as_str() {
                Some("Deny") => {
                    let words = refusal(Sort::Validating, &self.policy, Some(&self.binding), &denial.message);
                    refused = Some((words, denial.reason.clone()));
                }
                Some("Warn") => review.warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {}",
                    denial.message
                )),
                Some("Audit") => failures.push(json!({
                    "message": denial.message, "policy": policy, "binding": binding,
                    "expressionIndex": denial.index, "validationActions": actions,
                })),
                _ => {}
            }
        }
        refused
    }
}

impl Misfit {
    /// The message and reason of the refusal, unless the policy takes it lightly.
    pub(super) fn refusal(&self, sort: Sort) -> Option<(String, String)> {
        let is_fatal = self.policy.policy().fails_closed();
        let what = match self.binding {
            Some(_) => "binding",
            None => "policy",
        };
        let why = format!("failed to configure {what}: {}", self.why);
        is_fatal.then(|| {
            (
                refusal(sort, &self.policy, self.binding.as_deref(), &why),
                String::new(),
            )
        })
    }
}

/// Upstream's words for a refusal.
pub(super) fn refusal(sort: Sort, policy: &Held, binding: Option<&Held>, why: &str) -> String {
    let (sort, policy) = (sort.name(), &policy.name);
    match binding {
        Some(binding) => format!(
            "{sort} '{policy}' with binding '{}' denied request: {why}",
            binding.name
        ),
        None => format!("{sort} '{policy}' denied request: {why}"),
    }
}

/// The refusal as an answer.
pub(super) fn denied(review: &Review<'_>, object: &Value, message: &str, reason: &str) -> Box<Status> {
    let mut status = review.forbidden(object, message);
    (status.code, status.reason) = match reason {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    status.details["causes"] = json!([{ "message": message }]);
    status
}
