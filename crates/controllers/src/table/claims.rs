//! The rows that bind claims to volumes, make local volumes, and protect both while they are used.

use std::sync::Arc;

use api::k8s::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::api::storage::v1::StorageClass;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::volumes::{class_of_claim, class_of_volume};
use controllers_plan::claims::{
    ObservedClaim, ObservedPod, ObservedUse, ObservedVolume, is_unbound, is_used_by, plan_claim, plan_claim_protection,
    plan_ephemeral, plan_volume, plan_volume_protection,
};
use controllers_plan::{Key, Kind};

use super::Row;
use crate::cache::Change;
use crate::caches::{Caches, Watch};

/// Claims and volumes find each other.
pub(crate) fn row() -> Row {
    Row {
        name: "persistentvolume-binder-controller",
        watches: vec![
            Watch::on::<PersistentVolumeClaim>(claim_and_its_volumes),
            Watch::on::<PersistentVolume>(volume_and_its_claims),
            Watch::on::<StorageClass>(claims_of_class),
            Watch::on::<Node>(claims_without_volume),
            Watch::on::<Pod>(|_, _| Vec::new()),
        ],
        decide: Box::new(|caches, key, now| {
            if key.kind == Kind::of::<PersistentVolumeClaim>() {
                plan_claim(&observe_claim(caches, key))
            } else {
                plan_volume(&observe_volume(caches, key), now)
            }
        }),
    }
}

/// A claim stays while a pod uses it.
pub(crate) fn claim_protection_row() -> Row {
    Row {
        name: "persistentvolumeclaim-protection-controller",
        watches: vec![
            Watch::on::<PersistentVolumeClaim>(|_, change| vec![claim_key(&change.latest().metadata)]),
            Watch::on::<Pod>(claims_a_pod_lets_go),
        ],
        decide: Box::new(|caches, key, _| {
            let claim = caches.of::<PersistentVolumeClaim>().get(&key.namespace, &key.name);
            let is_going = claim
                .as_ref()
                .is_some_and(|claim| claim.metadata.deletion_timestamp.is_some());
            let pods = if is_going { users(caches, key) } else { Vec::new() };
            plan_claim_protection(&ObservedUse { claim, pods })
        }),
    }
}

/// A volume stays while a claim is bound to it.
pub(crate) fn volume_protection_row() -> Row {
    Row {
        name: "persistentvolume-protection-controller",
        watches: vec![Watch::on::<PersistentVolume>(|_, change| {
            vec![volume_key(&change.latest().metadata)]
        })],
        decide: Box::new(|caches, key, _| {
            plan_volume_protection(caches.of::<PersistentVolume>().get("", &key.name).as_deref())
        }),
    }
}

/// Pods with generic ephemeral volumes get the claims for them.
pub(crate) fn ephemeral_row() -> Row {
    Row {
        name: "ephemeral-volume-controller",
        watches: vec![
            Watch::on::<Pod>(|_, change| pods_with_ephemeral_volumes(change.new.as_ref())),
            Watch::on::<PersistentVolumeClaim>(owner_of_claim),
        ],
        decide: Box::new(|caches, key, _| {
            let pod = caches.of::<Pod>().get(&key.namespace, &key.name);
            let names = pod.iter().flat_map(|pod| ObservedPod::claim_names(pod));
            let claims = names.filter_map(|name| caches.of::<PersistentVolumeClaim>().get(&key.namespace, &name));
            plan_ephemeral(&ObservedPod {
                claims: claims.collect(),
                pod,
            })
        }),
    }
}

fn observe_claim(caches: &Caches, key: &Key) -> ObservedClaim {
    let claim = caches.of::<PersistentVolumeClaim>().get(&key.namespace, &key.name);
    if claim.is_none() {
        return ObservedClaim::default();
    }
    let has_no_node = |pod: &Arc<Pod>| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none());
    let is_unbound = claim.as_ref().is_some_and(|claim| is_unbound(claim));
    let users = if is_unbound { users(caches, key) } else { Vec::new() };
    let waiting = users
        .iter()
        .filter(|pod| has_no_node(pod))
        .filter_map(|pod| pod.metadata.name.clone());
    ObservedClaim {
        claim,
        volumes: caches.of::<PersistentVolume>().all(),
        classes: caches.of::<StorageClass>().all(),
        nodes: caches.of::<Node>().all(),
        waiting_pods: waiting.collect(),
    }
}

fn observe_volume(caches: &Caches, key: &Key) -> ObservedVolume {
    let volume = caches.of::<PersistentVolume>().get("", &key.name);
    let promise = volume.as_ref().and_then(|volume| promised_claim(volume));
    let claim = promise.and_then(|key| caches.of::<PersistentVolumeClaim>().get(&key.namespace, &key.name));
    ObservedVolume { volume, claim }
}

fn users(caches: &Caches, claim: &Key) -> Vec<Arc<Pod>> {
    let mut pods = caches.of::<Pod>().in_namespace(&claim.namespace);
    pods.retain(|pod| is_used_by(&claim.name, pod));
    pods
}

fn claim_key(metadata: &ObjectMeta) -> Key {
    let kind = Kind::of::<PersistentVolumeClaim>();
    Key::new(
        kind,
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn volume_key(metadata: &ObjectMeta) -> Key {
    Key::new(
        Kind::of::<PersistentVolume>(),
        "",
        metadata.name.clone().unwrap_or_default(),
    )
}

fn promised_claim(volume: &PersistentVolume) -> Option<Key> {
    let promise = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let kind = Kind::of::<PersistentVolumeClaim>();
    Some(Key::new(kind, promise.namespace.clone()?, promise.name.clone()?))
}

/// A claim that is new or gone concerns every volume that is promised to it, else only the one that it has.
fn claim_and_its_volumes(caches: &Caches, change: &Change<PersistentVolumeClaim>) -> Vec<Key> {
    let claim = change.latest();
    let mut keys = vec![claim_key(&claim.metadata)];
    if change.old.is_none() || change.new.is_none() {
        let is_promised = |volume: &&Arc<PersistentVolume>| promised_claim(volume).as_ref() == Some(&keys[0]);
        let volumes = caches.of::<PersistentVolume>().all();
        let promised: Vec<Key> = volumes
            .iter()
            .filter(is_promised)
            .map(|volume| volume_key(&volume.metadata))
            .collect();
        keys.extend(promised);
    } else if let Some(name) = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()) {
        keys.push(Key::new(Kind::of::<PersistentVolume>(), "", name));
    }
    keys
}

/// A volume concerns the claim it is promised to; a free one, the claims that may want it.
fn volume_and_its_claims(caches: &Caches, change: &Change<PersistentVolume>) -> Vec<Key> {
    let volume = change.latest();
    let mut keys = vec![volume_key(&volume.metadata)];
    keys.extend(change.states().filter_map(|volume| promised_claim(volume)));
    if promised_claim(volume).is_none() || change.old.is_none() {
        let (name, class) = (volume.metadata.name.clone(), class_of_volume(volume));
        keys.extend(unbound(caches, |claim| {
            let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
            wanted == name || (wanted.is_none() && class_of_claim(claim) == class)
        }));
    }
    keys
}

fn claims_of_class(caches: &Caches, change: &Change<StorageClass>) -> Vec<Key> {
    let name = change.latest().metadata.name.clone().unwrap_or_default();
    let names_none =
        |claim: &PersistentVolumeClaim| claim.spec.as_ref().is_none_or(|spec| spec.storage_class_name.is_none());
    unbound(caches, |claim| class_of_claim(claim) == name || names_none(claim))
}

/// A new node may be the one that a volume can be made on.
fn claims_without_volume(caches: &Caches, change: &Change<Node>) -> Vec<Key> {
    let is_open = |node: &Arc<Node>| node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true));
    let was_open = change.old.as_ref().is_some_and(is_open);
    if was_open {
        Vec::new()
    } else {
        unbound(caches, |_| true)
    }
}

fn unbound(caches: &Caches, is_wanted: impl Fn(&PersistentVolumeClaim) -> bool) -> Vec<Key> {
    let claims = caches.of::<PersistentVolumeClaim>().all();
    let wanted = claims.iter().filter(|claim| is_unbound(claim) && is_wanted(claim));
    wanted.map(|claim| claim_key(&claim.metadata)).collect()
}

/// Only a pod that ends or goes can set a claim free.
fn claims_a_pod_lets_go(_: &Caches, change: &Change<Pod>) -> Vec<Key> {
    let pod = change.latest();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if change.new.is_some() && !matches!(phase, Some("Succeeded" | "Failed")) {
        return Vec::new();
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let sources = volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| volume.persistent_volume_claim.as_ref());
    let named = sources
        .map(|source| source.claim_name.clone())
        .chain(ObservedPod::claim_names(pod));
    named
        .map(|name| Key::new(Kind::of::<PersistentVolumeClaim>(), namespace.clone(), name))
        .collect()
}

fn pods_with_ephemeral_volumes(pod: Option<&Arc<Pod>>) -> Vec<Key> {
    let pod = pod.filter(|pod| !ObservedPod::claim_names(pod).is_empty());
    pod.map(|pod| pod_key(&pod.metadata, pod.metadata.name.clone()))
        .into_iter()
        .collect()
}

fn owner_of_claim(_: &Caches, change: &Change<PersistentVolumeClaim>) -> Vec<Key> {
    let metadata = &change.latest().metadata;
    let owner = controllers_plan::controller_of(metadata).filter(|owner| owner.kind == "Pod");
    owner
        .map(|owner| pod_key(metadata, Some(owner.name.clone())))
        .into_iter()
        .collect()
}

fn pod_key(metadata: &ObjectMeta, name: Option<String>) -> Key {
    Key::new(
        Kind::of::<Pod>(),
        metadata.namespace.clone().unwrap_or_default(),
        name.unwrap_or_default(),
    )
}
