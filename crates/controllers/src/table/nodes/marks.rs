//! Which pods have been called not ready because their node is not: once each time the node is lost, or the node's agent
//! and we would go on contradicting each other.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use api::k8s::api::core::v1::{Node, Pod};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use controllers_plan::{Kind, Plan, Write};

/// Of each node that is not ready.
#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<String, Marked>>);

/// The pods (uid, and the version that said ready) that were marked since the node's Ready condition last changed.
#[derive(Default)]
struct Marked {
    since: Option<Time>,
    pods: BTreeMap<String, String>,
}

impl Marks {
    /// What has been marked since the node is as it is.
    pub(super) fn of(&self, node: &Node) -> BTreeMap<String, String> {
        let marks = self.lock();
        let known = marks.get(name_of(node)).filter(|known| known.since == changed_at(node));
        known.map(|known| known.pods.clone()).unwrap_or_default()
    }

    /// Remembers what a plan for the node is about to mark.
    pub(super) fn note(&self, node: &Node, plan: &Plan) {
        let marked = plan.actions().filter_map(|action| match &action.write {
            Write::Patch { target, .. } if target.key.kind == Kind::of::<Pod>() => {
                Some((target.uid.clone(), target.resource_version.clone()))
            }
            _ => None,
        });
        let marked: BTreeMap<_, _> = marked.collect();
        let mut marks = self.lock();
        if marks
            .get(name_of(node))
            .is_some_and(|known| known.since != changed_at(node))
        {
            marks.remove(name_of(node));
        }
        if !marked.is_empty() {
            let known = marks.entry(name_of(node).to_owned()).or_default();
            known.since = changed_at(node);
            known.pods.extend(marked);
        }
    }

    /// The node is gone.
    pub(super) fn forget(&self, node: &str) {
        self.lock().remove(node);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Marked>> {
        self.0.lock().expect("no panic while held")
    }
}

fn name_of(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// When the node's readiness last changed.
fn changed_at(node: &Node) -> Option<Time> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|known| known.type_ == "Ready")?;
    ready.last_transition_time.clone()
}
