//! MutatingAdmissionWebhook: programs that whoever runs the cluster has named change what is written.

use super::concern::{Shown, as_kind, objects};
use super::webhook::{Asked, concerned, failed};
use super::{Operation, Review};
use crate::body;
use crate::policies::Sort;
use crate::status::Outcome;
use api::defaults;
use api::patch;
use api::schema::FieldValidation;
use serde_json::Value;

pub(super) async fn mutate(review: &mut Review<'_>, object: &mut Value) -> Outcome<()> {
    // A scale is a view of another object, which is not what the webhook would be shown.
    if !matches!(review.operation, Operation::Create | Operation::Update) || review.call.subresource == "scale" {
        return Ok(());
    }
    if review.server.policies.view.is_empty(Sort::Mutating) {
        return Ok(());
    }
    let shown = Shown::of(review, object)?;
    let hooks = concerned(review, Sort::Mutating, &shown).await?;
    let mut seen = Vec::with_capacity(hooks.len());
    for hook in &hooks {
        ask(review, hook, object).await?;
        seen.push(object.clone());
    }
    // Who wants to see what others have made of the object is asked once more.
    for (hook, seen) in hooks.iter().zip(&seen) {
        if hook.hook["reinvocationPolicy"] == "IfNeeded" && seen != object {
            ask(review, hook, object).await?;
        }
    }
    Ok(())
}

async fn ask(review: &mut Review<'_>, hook: &Asked, object: &mut Value) -> Outcome<()> {
    let shown = Shown::of(review, object)?;
    let Some(verdict) = hook.ask(review, &shown).await? else {
        return Ok(());
    };
    review.warnings.extend(verdict.warnings);
    for (key, value) in verdict.annotations {
        review.call.annotations.add(format!("{}/{key}", hook.name), value);
    }
    if !verdict.allowed {
        return Err(hook.denied(&verdict.status));
    }
    if verdict.patch.is_null() {
        return Ok(());
    }
    match changed(review, hook, &shown, &verdict.patch) {
        Ok(changed) => *object = changed,
        Err(why) if hook.hook["failurePolicy"] != "Ignore" => return Err(failed(&hook.name, &why)),
        Err(why) => tracing::warn!(webhook = hook.name, "the patch of a webhook cannot be applied: {why}"),
    }
    Ok(())
}

/// The object as the webhook wants it.
fn changed(review: &Review<'_>, hook: &Asked, shown: &Shown, patch: &Value) -> Result<Value, String> {
    let kind = &*review.call.kind;
    let [told, _] = objects(review, shown, hook.kind.as_ref()).map_err(|status| status.message)?;
    let patched = patch::json(&told, patch).map_err(|error| error.to_string())?;
    let patched = match &hook.kind {
        Some(other) => as_kind(other, kind, &patched).map_err(|status| status.message)?,
        None => patched,
    };
    let decoded = body::decode_value(kind, patched, FieldValidation::Ignore).map_err(|error| error.to_string())?;
    let mut object = decoded.object;
    for field in ["apiVersion", "kind"] {
        object[field] = shown.object[field].clone();
    }
    defaults::apply(kind, &mut object);
    Ok(object)
}
