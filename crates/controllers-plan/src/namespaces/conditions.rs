//! What people see while a namespace is being emptied: how much is left of what, and which finalizers hold it.

use crate::{Action, AnyObject, Kind, Target};
use api::k8s::api::core::v1::{Namespace, NamespaceCondition};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a condition should say, but for the time.
struct Wanted {
    type_: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

/// Three conditions that can only be false here: there is one server, and it serves what it stores.
const NEVER: [(&str, &str, &str); 3] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
];

/// The write of the conditions, if they do not say so already.
pub(super) fn status(namespace: &Namespace, contents: &[Arc<AnyObject>], now: Timestamp) -> Option<Action> {
    let never = NEVER.map(|(type_, reason, message)| Wanted {
        type_,
        holds: false,
        reason,
        message: message.to_owned(),
    });
    let wanted: Vec<Wanted> = never
        .into_iter()
        .chain([remaining(contents), finalizers(contents)])
        .collect();
    let known = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let conditions: Vec<NamespaceCondition> = wanted.iter().map(|one| condition(one, &known, now)).collect();
    if conditions.iter().all(|one| known.contains(one)) {
        return None;
    }
    let others = known
        .into_iter()
        .filter(|one| wanted.iter().all(|wanted| wanted.type_ != one.type_));
    let conditions: Vec<NamespaceCondition> = others.chain(conditions).collect();
    Some(Action::patch_status(
        Target::of(namespace),
        json!({"status": {"conditions": conditions}}),
    ))
}

fn remaining(contents: &[Arc<AnyObject>]) -> Wanted {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for object in contents {
        *counts.entry(resource(*object.kind)).or_default() += 1;
    }
    let list: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} has {count} resource instances"))
        .collect();
    let message = format!("Some resources are remaining: {}", list.join(", "));
    Wanted {
        type_: "NamespaceContentRemaining",
        holds: true,
        reason: "SomeResourcesRemain",
        message,
    }
}

fn finalizers(contents: &[Arc<AnyObject>]) -> Wanted {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for finalizer in contents.iter().flat_map(|object| &object.finalizers) {
        *counts.entry(finalizer).or_default() += 1;
    }
    let type_ = "NamespaceFinalizersRemaining";
    if counts.is_empty() {
        let message = "All content-preserving finalizers finished".to_owned();
        return Wanted {
            type_,
            holds: false,
            reason: "ContentHasNoFinalizers",
            message,
        };
    }
    let list: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} in {count} resource instances"))
        .collect();
    let message = format!(
        "Some content in the namespace has finalizers remaining: {}",
        list.join(", ")
    );
    Wanted {
        type_,
        holds: true,
        reason: "SomeFinalizersRemain",
        message,
    }
}

fn resource(kind: Kind) -> String {
    if kind.group.is_empty() {
        kind.plural.to_owned()
    } else {
        format!("{}.{}", kind.plural, kind.group)
    }
}

/// A condition as it should be; it keeps the time of its last change if it does not change now.
fn condition(wanted: &Wanted, known: &[NamespaceCondition], now: Timestamp) -> NamespaceCondition {
    let status = if wanted.holds { "True" } else { "False" };
    let before = known
        .iter()
        .find(|one| one.type_ == wanted.type_ && one.status == status);
    let whole_second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    NamespaceCondition {
        type_: wanted.type_.to_owned(),
        status: status.to_owned(),
        reason: Some(wanted.reason.to_owned()),
        message: Some(wanted.message.clone()),
        last_transition_time: before
            .and_then(|one| one.last_transition_time.clone())
            .or(Some(Time(whole_second))),
    }
}
