//! The row of DaemonSets.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::k8s::api::apps::v1::{ControllerRevision, DaemonSet};
use api::k8s::api::core::v1::{Node, Pod, Taint};
use controllers_plan::daemonset::{Observed, plan};
use controllers_plan::{Key, Kind, Plan, selection};
use jiff::Timestamp;
use kube::Resource;

use super::Row;
use super::keys::{BY_SELECTOR, controllers, itself, key_of, may_select, name_of, orphan, selector_term, uid_of};
use crate::cache::Change;
use crate::caches::{Caches, Watch, Watched};
use crate::served::ServedDaemonSet;

mod failed_pods;

use failed_pods::FailedPods;

pub(crate) fn row() -> Row {
    let failed_pods = FailedPods::default();
    Row {
        name: "daemonset-controller",
        watches: vec![
            Watch::on::<ServedDaemonSet>(itself).indexed(BY_SELECTOR, |served: &ServedDaemonSet| {
                selector_term(served.meta(), served.set.spec.as_ref().map(|spec| &spec.selector))
            }),
            Watch::on::<Pod>(of_owned),
            Watch::on::<ControllerRevision>(of_owned),
            Watch::on::<Node>(of_node),
        ],
        decide: Box::new(move |caches, key, now| decide(caches, key, now, &failed_pods)),
    }
}

/// An object concerns the set that controls it, and if it is nobody's, all that could adopt it.
fn of_owned<T: Watched>(caches: &Caches, change: &Change<T>) -> Vec<Key> {
    let kind = Kind::of::<DaemonSet>();
    let mut keys = controllers(kind, change);
    if let Some(orphan) = orphan(change) {
        let labels = orphan.meta().labels.as_ref();
        let adopters = may_select(caches.of::<ServedDaemonSet>(), orphan.meta());
        let selects = |served: &&Arc<ServedDaemonSet>| {
            let selector = served.set.spec.as_ref().map(|spec| &spec.selector);
            selector.is_some_and(|selector| !selection::is_empty(selector) && selection::selects(selector, labels))
        };
        keys.extend(
            adopters
                .iter()
                .filter(selects)
                .map(|served| key_of(kind, served.meta())),
        );
    }
    keys
}

/// A node concerns every set when something changes that decides about placement; its heartbeats do not.
fn of_node(caches: &Caches, change: &Change<Node>) -> Vec<Key> {
    type Decisive = (Option<BTreeMap<String, String>>, Option<Vec<Taint>>);
    let decisive = |node: &Arc<Node>| -> Decisive {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone());
        (node.metadata.labels.clone(), taints)
    };
    if change.old.as_ref().map(decisive) == change.new.as_ref().map(decisive) {
        return Vec::new();
    }
    let sets = caches.of::<ServedDaemonSet>().all();
    sets.iter()
        .map(|served| key_of(Kind::of::<DaemonSet>(), served.meta()))
        .collect()
}

fn decide(caches: &Caches, key: &Key, now: Timestamp, failed_pods: &FailedPods) -> Plan {
    let Some(served) = caches.of::<ServedDaemonSet>().get(&key.namespace, &key.name) else {
        failed_pods.forget(key);
        return Plan::default();
    };
    let selector = served.set.spec.as_ref().map(|spec| &spec.selector);
    let mut pods = caches.of::<Pod>().controlled_by(uid_of(served.meta()));
    let orphans = caches.of::<Pod>().uncontrolled_in(&key.namespace).into_iter();
    pods.extend(
        orphans
            .filter(|pod| selector.is_some_and(|selector| selection::selects(selector, pod.metadata.labels.as_ref()))),
    );
    let all = caches.of::<ControllerRevision>();
    let revisions = all.controlled_by(uid_of(served.meta())).into_iter();
    let namesakes = all.with_prefix(&key.namespace, &format!("{}-", key.name));
    let revisions = revisions.chain(namesakes).chain(all.uncontrolled_in(&key.namespace));
    let revisions: BTreeMap<String, _> = revisions
        .map(|known| (name_of(&known.metadata).to_owned(), known))
        .collect();
    let nodes = caches.of::<Node>().all();
    let failures = failed_pods.note(key, &served.set, pods.iter().map(Arc::as_ref), now);
    let seen = Observed {
        set: &served.set,
        template: &served.template,
        pods: pods.iter().map(Arc::as_ref).collect(),
        revisions: revisions.values().map(Arc::as_ref).collect(),
        nodes: nodes.iter().map(Arc::as_ref).collect(),
        failures: &failures,
    };
    plan(&seen, now)
}
