//! ValidatingAdmissionWebhook: programs that whoever runs the cluster has named say what may be written.

use super::Review;
use super::concern::Shown;
use super::webhook::{Asked, concerned};
use crate::policies::Sort;
use crate::status::Outcome;
use futures::future::join_all;
use serde_json::Value;

pub(super) async fn validate(review: &mut Review<'_>, object: &Value) -> Outcome<()> {
    // An eviction is judged as what it is, not as the delete that it ends in.
    if review.call.subresource == "eviction" || review.server.policies.view.is_empty(Sort::Validating) {
        return Ok(());
    }
    let shown = Shown::of(review, object)?;
    judge(review, &shown).await
}

/// Asks all webhooks that are about the write, at once.
pub(super) async fn judge(review: &mut Review<'_>, shown: &Shown) -> Outcome<()> {
    let hooks = concerned(review, Sort::Validating, shown).await?;
    let asked: &Review<'_> = review;
    let verdicts = join_all(hooks.iter().map(|hook| hook.ask(asked, shown))).await;
    let heard: Vec<(&Asked, _)> = hooks.iter().zip(verdicts).collect();
    let mut refused = Ok(());
    for (hook, verdict) in heard {
        match verdict {
            Ok(Some(verdict)) => {
                review.warnings.extend(verdict.warnings);
                for (key, value) in verdict.annotations {
                    review.call.annotations.add(format!("{}/{key}", hook.name), value);
                }
                if !verdict.allowed {
                    refused = refused.and(Err(hook.denied(&verdict.status)));
                }
            }
            Ok(None) => {}
            Err(status) => refused = refused.and(Err(status)),
        }
    }
    refused
}
