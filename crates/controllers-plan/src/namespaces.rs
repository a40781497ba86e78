//! The end of namespaces: emptied, pods first, then let go.

use crate::{Action, AnyObject, Guard, Kind, Plan, Reason, Step, Target, Write, is_terminating};
use api::k8s::api::core::v1::{Namespace, NamespaceCondition};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keeps a namespace until it is empty.
const FINALIZER: &str = "kubernetes";

/// A namespace and all that is in it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The namespace; `None` if it is gone.
    pub namespace: Option<Arc<Namespace>>,
    /// What is in it, of whatever kind.
    pub contents: Vec<Arc<AnyObject>>,
    /// All kinds that may be in a namespace.
    pub kinds: Vec<Kind>,
}

/// Decides what to do for a namespace that is being deleted.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let Some(namespace) = observed.namespace.as_deref() else {
        return Plan::default();
    };
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|spec| spec.finalizers.clone())
        .unwrap_or_default();
    if !is_terminating(&namespace.metadata) || !finalizers.iter().any(|one| one == FINALIZER) {
        return Plan::default();
    }
    let name = namespace.metadata.name.clone().unwrap_or_default();
    if observed.contents.is_empty() {
        return finalize(namespace, &finalizers, observed.kinds.clone());
    }
    // Pods go first, so that nothing that they use is taken away while they run.
    let is_pod = |object: &&Arc<AnyObject>| object.kind.kind == "Pod" && object.kind.group.is_empty();
    let has_pods = observed.contents.iter().any(|object| is_pod(&object));
    let is_next = |object: &&Arc<AnyObject>| !has_pods || is_pod(object);
    let doomed = observed
        .contents
        .iter()
        .filter(is_next)
        .filter(|object| !is_terminating(&object.metadata));
    // Without a version: content that changes all the time is deleted just as well.
    let chain = |object: &Arc<AnyObject>| {
        let target = Target {
            resource_version: String::new(),
            ..Target::from_meta(object.kind, &object.metadata)
        };
        vec![Action::from(Write::Delete {
            target,
            propagation: None,
        })]
    };
    let chains: Vec<_> = doomed.map(chain).collect();
    let steps = if chains.is_empty() {
        Vec::new()
    } else {
        vec![Step::Together(chains)]
    };
    let count = observed.contents.len();
    let message = if has_pods {
        "its pods go first".to_owned()
    } else {
        format!("{count} objects are left in it")
    };
    Plan {
        steps,
        status: status(namespace, &observed.contents, now),
        because: vec![Reason::waits(name, "NotEmpty", "its contents", message)],
        ..Plan::default()
    }
}

/// Nothing is left as far as we know; the server itself must say so before the namespace goes.
fn finalize(namespace: &Namespace, finalizers: &[String], kinds: Vec<Kind>) -> Plan {
    let name = namespace.metadata.name.clone().unwrap_or_default();
    let rest: Vec<&String> = finalizers.iter().filter(|one| *one != FINALIZER).collect();
    let mut body = json!(namespace);
    body["spec"]["finalizers"] = json!(rest);
    let write = Write::Replace {
        target: Target::of(namespace),
        subresource: "finalize",
        body,
    };
    let action = Action::from(write).guarded(Guard::NoneLeft {
        kinds,
        namespace: name.clone(),
    });
    let because = vec![Reason::acts(name, "Empty", "nothing is left in the namespace")];
    // Should something turn up that no watch has shown yet, the next look finds it.
    Plan {
        steps: vec![Step::One(action)],
        because,
        ..Plan::default()
    }
}

/// What people see while they wait: how much is left of what, and which finalizers hold it.
fn status(namespace: &Namespace, contents: &[Arc<AnyObject>], now: Timestamp) -> Option<Action> {
    let mut resources: BTreeMap<String, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for object in contents {
        let kind = object.kind;
        let resource = if kind.group.is_empty() {
            kind.plural.to_owned()
        } else {
            format!("{}.{}", kind.plural, kind.group)
        };
        *resources.entry(resource).or_default() += 1;
        for finalizer in object.metadata.finalizers.iter().flatten() {
            *finalizers.entry(finalizer).or_default() += 1;
        }
    }
    let list = |parts: Vec<String>| parts.join(", ");
    let remaining = resources
        .iter()
        .map(|(name, count)| format!("{name} has {count} resource instances"))
        .collect();
    let remaining = format!("Some resources are remaining: {}", list(remaining));
    let holding = finalizers
        .iter()
        .map(|(name, count)| format!("{name} in {count} resource instances"))
        .collect();
    let holding = format!(
        "Some content in the namespace has finalizers remaining: {}",
        list(holding)
    );
    let wanted = [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        ("NamespaceContentRemaining", true, "SomeResourcesRemain", &remaining),
        if finalizers.is_empty() {
            (
                "NamespaceFinalizersRemaining",
                false,
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            )
        } else {
            ("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", &holding)
        },
    ];
    let known = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let conditions: Vec<NamespaceCondition> = wanted
        .iter()
        .map(|(type_, holds, reason, message)| condition(&known, type_, *holds, reason, message, now))
        .collect();
    let is_known = |one: &NamespaceCondition| known.contains(one);
    if conditions.iter().all(is_known) {
        return None;
    }
    let others = known
        .into_iter()
        .filter(|one| wanted.iter().all(|(type_, ..)| *type_ != one.type_));
    let conditions: Vec<NamespaceCondition> = others.chain(conditions).collect();
    Some(Action::patch_status(
        Target::of(namespace),
        json!({"status": {"conditions": conditions}}),
    ))
}

fn condition(
    known: &[NamespaceCondition],
    type_: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> NamespaceCondition {
    let status = if holds { "True" } else { "False" };
    let before = known.iter().find(|one| one.type_ == type_ && one.status == status);
    let whole_second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    NamespaceCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: before
            .and_then(|one| one.last_transition_time.clone())
            .or(Some(Time(whole_second))),
    }
}
