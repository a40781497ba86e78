//! MutatingAdmissionPolicy: rules that whoever runs the cluster has written change what is written.

use super::concern::{Concern, Shown, concerned};
use super::validating_admission_policy::{denied, refusal};
use super::{Operation, Review};
use crate::body;
use crate::policies::Sort;
use crate::status::Outcome;
use api::defaults;
use api::schema::FieldValidation;
use serde_json::Value;

pub(super) async fn mutate(review: &mut Review<'_>, object: &mut Value) -> Outcome<()> {
    // A scale is a view of another object, which is not what the policy speaks of.
    if !matches!(review.operation, Operation::Create | Operation::Update) || review.call.subresource == "scale" {
        return Ok(());
    }
    if review.server.policies.view.is_empty(Sort::Mutating) {
        return Ok(());
    }
    let shown = Shown::of(review, object)?;
    let (concerns, misfits) = concerned(review, Sort::Mutating, &shown).await?;
    for misfit in misfits {
        if let Some((message, reason)) = misfit.refusal(Sort::Mutating) {
            return Err(denied(review, object, &message, &reason));
        }
    }
    let mut seen = Vec::with_capacity(concerns.len());
    for concern in &concerns {
        change(review, concern, object)?;
        seen.push(object.clone());
    }
    // Who wants to see what others have made of the object sees it once more.
    for (concern, seen) in concerns.iter().zip(&seen) {
        if concern.policy.spec["reinvocationPolicy"] == "IfNeeded" && seen != object {
            change(review, concern, object)?;
        }
    }
    Ok(())
}

fn change(review: &Review<'_>, concern: &Concern, object: &mut Value) -> Outcome<()> {
    let policy = concern.policy.policy();
    let kind = &*review.call.kind;
    for params in &concern.params {
        let subject = concern.subject.clone().with_object(object);
        let refuse = |why: &str| {
            let words = refusal(Sort::Mutating, &concern.policy, Some(&concern.binding), why);
            denied(review, object, &words, "")
        };
        let changed = policy.mutate(kind, &subject, params.as_ref(), object);
        let Some(changed) = changed.map_err(|why| refuse(&why))? else {
            continue;
        };
        if changed == *object {
            continue;
        }
        if changed["metadata"]["name"] != object["metadata"]["name"]
            || changed["metadata"]["namespace"] != object["metadata"]["namespace"]
        {
            return Err(refuse("name and namespace of an object cannot be changed"));
        }
        let decoded = body::decode_value(kind, changed, FieldValidation::Ignore);
        let mut decoded = decoded.map_err(|error| refuse(&error.to_string()))?.object;
        for field in ["apiVersion", "kind"] {
            decoded[field] = object[field].clone();
        }
        defaults::apply(kind, &mut decoded);
        *object = decoded;
    }
    Ok(())
}
