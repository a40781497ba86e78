//! The end of namespaces: emptied, pods first, then let go.

mod conditions;

use crate::{Action, AnyObject, Guard, Kind, Plan, Propagation, Reason, Step, Target, Write, is_terminating};
use api::k8s::api::core::v1::Namespace;
use jiff::Timestamp;
use serde_json::json;
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
        .filter(|object| !object.is_terminating);
    // Without a version: content that changes all the time is deleted just as well.
    let chain = |object: &Arc<AnyObject>| {
        let target = Target {
            resource_version: String::new(),
            ..object.target()
        };
        vec![Action::from(Write::Delete {
            target,
            // Kinds whose default leaves dependents behind must not do so here: the dependents go, too.
            propagation: Some(Propagation::Background),
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
        status: conditions::status(namespace, &observed.contents, now),
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
