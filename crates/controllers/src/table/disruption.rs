//! The row of PodDisruptionBudgets, and of pods that were meant to be disrupted.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::k8s::api::apps::v1::{Deployment, ReplicaSet};
use api::k8s::api::core::v1::{Pod, ReplicationController};
use api::k8s::api::policy::v1::PodDisruptionBudget;
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use controllers_plan::disruption::{Observed, Scale, plan, plan_pod};
use controllers_plan::{Key, Kind, Plan, controller_of, is_terminating, selection};
use jiff::Timestamp;

use super::Row;
use super::keys::{
    BY_LABEL, BY_SELECTOR, itself, key_of, label_terms, may_select, namespace_of, selected, selector_term, uid_of,
};
use crate::cache::Change;
use crate::caches::{Caches, Watch};
use crate::served::ServedSet;

pub(crate) mod scales;

pub(crate) const NAME: &str = "disruption-controller";

pub(crate) fn row() -> Row {
    Row {
        name: NAME,
        watches: vec![
            Watch::on::<PodDisruptionBudget>(itself).indexed(BY_SELECTOR, |budget: &PodDisruptionBudget| {
                selector_term(
                    &budget.metadata,
                    budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()),
                )
            }),
            Watch::on::<Pod>(of_pod).indexed(BY_LABEL, |pod: &Pod| label_terms(&pod.metadata)),
            Watch::on::<Deployment>(|_, _| Vec::new()),
            Watch::on::<ReplicaSet>(|_, _| Vec::new()),
            Watch::on::<ReplicationController>(|_, _| Vec::new()),
            Watch::on::<ServedSet>(|_, _| Vec::new()),
        ],
        decide: Box::new(|caches, key, now| {
            if key.kind == Kind::of::<Pod>() {
                let pod = caches.of::<Pod>().get(&key.namespace, &key.name);
                pod.map(|pod| plan_pod(&pod, now)).unwrap_or_default()
            } else {
                decide(caches, key, now)
            }
        }),
    }
}

/// A pod concerns the budgets that select it before or after a change, if they count it otherwise than before.
fn of_pod(caches: &Caches, change: &Change<Pod>) -> Vec<Key> {
    let mut keys = Vec::new();
    if change.new.as_ref().is_some_and(|pod| is_target(pod)) {
        keys.push(key_of(Kind::of::<Pod>(), &change.latest().metadata));
    }
    if change.old.as_ref().map(counted) == change.new.as_ref().map(counted) {
        return keys;
    }
    for pod in change.states() {
        let labels = pod.metadata.labels.as_ref();
        let budgets = may_select(caches.of::<PodDisruptionBudget>(), &pod.metadata);
        let selects = |budget: &&Arc<PodDisruptionBudget>| {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            selector.is_some_and(|selector| selection::selects(selector, labels))
        };
        let selecting = budgets.iter().filter(selects);
        keys.extend(selecting.map(|budget| key_of(Kind::of::<PodDisruptionBudget>(), &budget.metadata)));
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What of a pod a budget goes by.
fn counted(pod: &Arc<Pod>) -> (bool, bool, Option<String>, ObjectMeta) {
    let meta = ObjectMeta {
        name: pod.metadata.name.clone(),
        labels: pod.metadata.labels.clone(),
        ..ObjectMeta::default()
    };
    let owner = controller_of(&pod.metadata).map(|owner| owner.uid.clone());
    (has(pod, "Ready"), is_terminating(&pod.metadata), owner, meta)
}

fn is_target(pod: &Pod) -> bool {
    has(pod, "DisruptionTarget") && !is_terminating(&pod.metadata)
}

fn has(pod: &Pod, type_: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == type_ && condition.status == "True")
}

fn decide(caches: &Caches, key: &Key, now: Timestamp) -> Plan {
    let Some(budget) = caches.of::<PodDisruptionBudget>().get(&key.namespace, &key.name) else {
        return Plan::default();
    };
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let pods = selector.map(|selector| selected(caches.of::<Pod>(), &key.namespace, selector));
    let pods = pods.unwrap_or_default();
    let mut scales = BTreeMap::new();
    for owner in pods.iter().filter_map(|pod| controller_of(&pod.metadata)) {
        if !scales.contains_key(&owner.uid)
            && let Some(scale) = scale(caches, &key.namespace, owner)
        {
            scales.insert(owner.uid.clone(), scale);
        }
    }
    let seen = Observed {
        budget: &budget,
        pods: pods.iter().map(Arc::as_ref).collect(),
        scales,
    };
    plan(&seen, now)
}

/// How many pods an owner wants; a ReplicaSet of a Deployment wants what that wants.
fn scale(caches: &Caches, namespace: &str, owner: &OwnerReference) -> Option<Scale> {
    let scale = |meta: &ObjectMeta, replicas: Option<i32>| {
        (uid_of(meta) == owner.uid).then(|| Scale {
            uid: owner.uid.clone(),
            replicas: replicas.unwrap_or(1),
        })
    };
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, owner.kind.as_str()) {
        ("apps", "ReplicaSet") => {
            let set = caches.of::<ReplicaSet>().get(namespace, &owner.name)?;
            match controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment") {
                Some(deployment) if uid_of(&set.metadata) == owner.uid => {
                    self::scale(caches, namespace_of(&set.metadata), deployment)
                }
                _ => scale(&set.metadata, set.spec.as_ref().and_then(|spec| spec.replicas)),
            }
        }
        ("apps", "Deployment") => {
            let deployment = caches.of::<Deployment>().get(namespace, &owner.name)?;
            scale(
                &deployment.metadata,
                deployment.spec.as_ref().and_then(|spec| spec.replicas),
            )
        }
        ("apps", "StatefulSet") => {
            let served = caches.of::<ServedSet>().get(namespace, &owner.name)?;
            scale(
                &served.set.metadata,
                served.set.spec.as_ref().and_then(|spec| spec.replicas),
            )
        }
        ("", "ReplicationController") => {
            let set = caches.of::<ReplicationController>().get(namespace, &owner.name)?;
            scale(&set.metadata, set.spec.as_ref().and_then(|spec| spec.replicas))
        }
        _ => caches.scale(&owner.uid),
    }
}

/// The owners of a budget's pods whose kinds no cache holds, each once.
fn foreign_owners(caches: &Caches, key: &Key) -> Vec<OwnerReference> {
    let budget = caches.of::<PodDisruptionBudget>().get(&key.namespace, &key.name);
    let budget = budget.filter(|_| key.kind == Kind::of::<PodDisruptionBudget>());
    let selector = budget
        .as_ref()
        .and_then(|budget| budget.spec.as_ref()?.selector.as_ref());
    let pods = selector.map(|selector| selected(caches.of::<Pod>(), &key.namespace, selector));
    let pods = pods.unwrap_or_default();
    let owners = pods.iter().filter_map(|pod| controller_of(&pod.metadata));
    let foreign = owners.filter(|owner| {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        !matches!(
            (group, owner.kind.as_str()),
            ("apps", "ReplicaSet" | "Deployment" | "StatefulSet") | ("", "ReplicationController")
        )
    });
    let by_uid: BTreeMap<&str, &OwnerReference> = foreign.map(|owner| (owner.uid.as_str(), owner)).collect();
    by_uid.into_values().cloned().collect()
}
