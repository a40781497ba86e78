//! The row of Deployments.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::k8s::api::apps::v1::{Deployment, ReplicaSet};
use api::k8s::api::core::v1::Pod;
use controllers_plan::deployment::{Observed, plan};
use controllers_plan::{Key, Kind, Plan, controller_of, selection};
use jiff::Timestamp;

use super::Row;
use super::keys::{
    BY_SELECTOR, controllers, itself, key_of, may_select, name_of, namespace_of, orphan, selector_term, uid_of,
};
use crate::cache::Change;
use crate::caches::{Caches, Watch};

const NAME: &str = "deployment-controller";

pub(crate) fn row() -> Row {
    Row {
        name: NAME,
        watches: vec![
            Watch::on::<Deployment>(itself).indexed(BY_SELECTOR, |deployment: &Deployment| {
                selector_term(
                    &deployment.metadata,
                    deployment.spec.as_ref().map(|spec| &spec.selector),
                )
            }),
            Watch::on::<ReplicaSet>(of_set),
            Watch::on::<Pod>(of_pod),
        ],
        decide: Box::new(decide),
    }
}

fn of_set(caches: &Caches, change: &Change<ReplicaSet>) -> Vec<Key> {
    let kind = Kind::of::<Deployment>();
    let mut keys = controllers(kind, change);
    if let Some(orphan) = orphan(change) {
        let adopters = may_select(caches.of::<Deployment>(), &orphan.metadata);
        let selects = |deployment: &&Arc<Deployment>| {
            let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
            selector.is_some_and(|selector| selection::selects(selector, orphan.metadata.labels.as_ref()))
        };
        keys.extend(
            adopters
                .iter()
                .filter(selects)
                .map(|deployment| key_of(kind, &deployment.metadata)),
        );
    }
    keys
}

/// Only a pod that goes or ends can be what a Deployment waits for, and only one that recreates its pods.
fn of_pod(caches: &Caches, change: &Change<Pod>) -> Vec<Key> {
    let pod = change.latest();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if change.new.is_some() && !matches!(phase, Some("Succeeded" | "Failed")) {
        return Vec::new();
    }
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == Kind::of::<ReplicaSet>().kind);
    let set = owner.and_then(|owner| caches.of::<ReplicaSet>().get(namespace_of(&pod.metadata), &owner.name));
    let deployment = set.as_ref().and_then(|set| controller_of(&set.metadata));
    let deployment =
        deployment.and_then(|owner| caches.of::<Deployment>().get(namespace_of(&pod.metadata), &owner.name));
    let recreates = deployment.filter(|deployment| is_recreate(deployment));
    recreates
        .map(|deployment| key_of(Kind::of::<Deployment>(), &deployment.metadata))
        .into_iter()
        .collect()
}

fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref()?.type_.as_deref());
    strategy == Some("Recreate")
}

fn decide(caches: &Caches, key: &Key, now: Timestamp) -> Plan {
    let Some(deployment) = caches.of::<Deployment>().get(&key.namespace, &key.name) else {
        return Plan::default();
    };
    let all = caches.of::<ReplicaSet>();
    let own = all.controlled_by(uid_of(&deployment.metadata));
    // Namesakes are of interest because their names are taken.
    let namesakes = all.with_prefix(&key.namespace, &format!("{}-", key.name));
    let orphans = all.uncontrolled_in(&key.namespace);
    let sets = own.into_iter().chain(namesakes).chain(orphans);
    let sets: BTreeMap<String, Arc<ReplicaSet>> = sets.map(|set| (name_of(&set.metadata).to_owned(), set)).collect();
    let pods: Vec<Arc<Pod>> = if is_recreate(&deployment) {
        let uid = uid_of(&deployment.metadata);
        let own = sets
            .values()
            .filter(|set| controller_of(&set.metadata).is_some_and(|owner| owner.uid == uid));
        own.flat_map(|set| caches.of::<Pod>().controlled_by(uid_of(&set.metadata)))
            .collect()
    } else {
        Vec::new()
    };
    let seen = Observed {
        deployment: &deployment,
        replica_sets: sets.values().map(Arc::as_ref).collect(),
        pods: pods.iter().map(Arc::as_ref).collect(),
        failure: caches.refusals.of(NAME, key),
    };
    plan(&seen, now)
}
