//! The rows of ReplicaSets and ReplicationControllers.

use std::sync::Arc;

use api::k8s::api::apps::v1::{Deployment, ReplicaSet};
use api::k8s::api::core::v1::{Pod, ReplicationController};
use controllers_plan::replicaset::{Observed, Replicated, plan};
use controllers_plan::{Key, Kind, Plan, controller_of};
use jiff::Timestamp;

use super::Row;
use super::keys::{
    BY_SELECTOR, controllers, itself, key_of, may_select, name_of, namespace_of, orphan, selector_term, uid_of,
};
use crate::cache::Change;
use crate::caches::{Caches, Watch, Watched, kind_of};

const REPLICA_SETS: &str = "replicaset-controller";
const REPLICATION_CONTROLLERS: &str = "replicationcontroller-controller";

pub(crate) fn row() -> Row {
    Row {
        name: REPLICA_SETS,
        watches: vec![
            Watch::on::<ReplicaSet>(itself).indexed(BY_SELECTOR, |set: &ReplicaSet| {
                selector_term(&set.metadata, set.spec.as_ref().map(|spec| &spec.selector))
            }),
            Watch::on::<Pod>(of_pod::<ReplicaSet>),
        ],
        decide: Box::new(|caches, key, now| decide::<ReplicaSet>(REPLICA_SETS, caches, key, now, siblings)),
    }
}

pub(crate) fn replication_controller_row() -> Row {
    Row {
        name: REPLICATION_CONTROLLERS,
        watches: vec![
            Watch::on::<ReplicationController>(itself).indexed(BY_SELECTOR, |set: &ReplicationController| {
                let selector = set.spec.as_ref().and_then(|spec| spec.selector.clone());
                let selector = api::k8s::apimachinery::pkg::apis::meta::v1::LabelSelector {
                    match_labels: selector,
                    match_expressions: None,
                };
                selector_term(&set.metadata, Some(&selector))
            }),
            Watch::on::<Pod>(of_pod::<ReplicationController>),
        ],
        decide: Box::new(|caches, key, now| {
            decide::<ReplicationController>(REPLICATION_CONTROLLERS, caches, key, now, |_, _| Vec::new())
        }),
    }
}

/// A pod concerns the set that controls it, the one that did, and, if it is nobody's, all that could adopt it.
fn of_pod<T: Watched>(caches: &Caches, change: &Change<Pod>) -> Vec<Key>
where
    for<'a> Replicated<'a>: From<&'a T>,
{
    let mut keys = controllers(kind_of::<T>(), change);
    if let Some(orphan) = orphan(change) {
        let labels = orphan.metadata.labels.as_ref();
        let adopters = may_select(caches.of::<T>(), &orphan.metadata);
        let adopters = adopters
            .iter()
            .filter(|set| Replicated::from(set.as_ref()).selects(labels));
        keys.extend(adopters.map(|set| key_of(kind_of::<T>(), set.meta())));
    }
    keys
}

fn decide<T: Watched>(
    controller: &'static str,
    caches: &Caches,
    key: &Key,
    now: Timestamp,
    siblings: fn(&Caches, &T) -> Vec<Arc<Pod>>,
) -> Plan
where
    for<'a> Replicated<'a>: From<&'a T>,
{
    let Some(set) = caches.of::<T>().get(&key.namespace, &key.name) else {
        return Plan::default();
    };
    let replicated = Replicated::from(set.as_ref());
    let mut pods = caches.of::<Pod>().controlled_by(uid_of(set.meta()));
    let orphans = caches.of::<Pod>().uncontrolled_in(namespace_of(set.meta()));
    pods.extend(
        orphans
            .into_iter()
            .filter(|pod| replicated.selects(pod.metadata.labels.as_ref())),
    );
    let related = siblings(caches, &set);
    let seen = Observed {
        set: replicated,
        pods: pods.iter().map(Arc::as_ref).collect(),
        related: related.iter().map(Arc::as_ref).collect(),
        failure: caches.refusals.of(controller, key),
    };
    plan(&seen, now)
}

/// The pods of the other ReplicaSets of the same Deployment; of interest only to a set that has to shrink.
fn siblings(caches: &Caches, set: &ReplicaSet) -> Vec<Arc<Pod>> {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let is_shrinking = set.status.as_ref().is_some_and(|status| status.replicas > wanted);
    let deployment = controller_of(&set.metadata).filter(|owner| owner.kind == Kind::of::<Deployment>().kind);
    let Some(deployment) = deployment.filter(|_| is_shrinking) else {
        return Vec::new();
    };
    let sets = caches.of::<ReplicaSet>().controlled_by(&deployment.uid);
    let others = sets
        .iter()
        .filter(|other| name_of(&other.metadata) != name_of(&set.metadata));
    others
        .flat_map(|other| caches.of::<Pod>().controlled_by(uid_of(&other.metadata)))
        .collect()
}
