//! The row of StatefulSets: which changes concern a set, and what is observed of it.

use std::sync::Arc;

use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet};
use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use controllers_plan::statefulset::{self, Gates, Observed, parse_name};
use controllers_plan::{Key, Kind, Plan, controller_of, is_terminating};
use jiff::Timestamp;
use kube::Resource;

use super::Row;
use crate::Config;
use crate::cache::{Cache, Change};
use crate::caches::{Caches, Watch};
use crate::served::ServedSet;

mod early_ends;

use early_ends::EarlyEnds;

pub(crate) fn row(config: &Config) -> Row {
    let gates = config.gates;
    let early_ends = EarlyEnds::default();
    Row {
        name: "statefulset-controller",
        watches: vec![
            Watch::on::<ServedSet>(of_set),
            Watch::on::<Pod>(of_pod),
            Watch::on::<PersistentVolumeClaim>(of_claim),
            Watch::on::<ControllerRevision>(of_revision),
            // Read when a set is planned anyway: a Service alone changes nothing about its pods.
            Watch::on::<Service>(|_, _| Vec::new()),
        ],
        decide: Box::new(move |caches, key, now| decide(caches, key, now, gates, &early_ends)),
    }
}

fn key(namespace: &str, name: &str) -> Key {
    Key::new(Kind::of::<StatefulSet>(), namespace, name)
}

fn of_set(_: &Caches, change: &Change<ServedSet>) -> Vec<Key> {
    let meta = change.latest().meta();
    vec![key(namespace_of(meta), name_of(meta))]
}

/// A pod concerns the set that controls it, the one that did, and the one whose name it bears: that one may adopt it,
/// or has been waiting for the name.
fn of_pod(caches: &Caches, change: &Change<Pod>) -> Vec<Key> {
    let mut keys = owners(change);
    let meta = &change.latest().metadata;
    if let Some((parent, _)) = parse_name(name_of(meta))
        && caches.of::<ServedSet>().get(namespace_of(meta), parent).is_some()
    {
        keys.push(key(namespace_of(meta), parent));
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// A claim concerns the set that made it when it goes, or when its owners change.
fn of_claim(caches: &Caches, change: &Change<PersistentVolumeClaim>) -> Vec<Key> {
    let fate = |claim: &Arc<PersistentVolumeClaim>| {
        (
            is_terminating(&claim.metadata),
            claim.metadata.owner_references.clone().unwrap_or_default(),
        )
    };
    // Nobody waits for a claim to appear: whoever needs one makes it.
    if change.old.is_none() || change.old.as_ref().map(fate) == change.new.as_ref().map(fate) {
        return Vec::new();
    }
    let meta = &change.latest().metadata;
    let Some((prefix, Some(ordinal))) = parse_name(name_of(meta)) else {
        return Vec::new();
    };
    // A claim is named `<template>-<set>-<ordinal>`, and both may hold dashes: whatever follows one may be the set.
    let sets = caches.of::<ServedSet>();
    let named = prefix.match_indices('-').map(|(dash, _)| &prefix[dash + 1..]);
    let made_it = |set: &Arc<ServedSet>| {
        statefulset::claim_names(&set.set, ordinal)
            .iter()
            .any(|(_, claim)| claim == name_of(meta))
    };
    named
        .filter(|name| sets.get(namespace_of(meta), name).is_some_and(|set| made_it(&set)))
        .map(|name| key(namespace_of(meta), name))
        .collect()
}

/// A revision concerns a set when it goes, when it changes hands, or when it is nobody's. (Those that a set makes
/// itself tell it nothing new.)
fn of_revision(caches: &Caches, change: &Change<ControllerRevision>) -> Vec<Key> {
    let owner = |revision: &Arc<ControllerRevision>| controller_of(&revision.metadata).map(|owner| owner.uid.clone());
    let (before, after) = (change.old.as_ref().map(owner), change.new.as_ref().map(owner));
    let is_new_and_owned = change.old.is_none() && after.as_ref().is_some_and(Option::is_some);
    if is_new_and_owned || (change.new.is_some() && before == after) {
        return Vec::new();
    }
    let meta = &change.latest().metadata;
    let named = name_of(meta)
        .rsplit_once('-')
        .map(|(set, _)| key(namespace_of(meta), set));
    let mut keys = owners(change);
    keys.extend(named.filter(|key| caches.of::<ServedSet>().get(&key.namespace, &key.name).is_some()));
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The sets that control an object before and after a change.
fn owners<T: Resource<DynamicType = ()>>(change: &Change<T>) -> Vec<Key> {
    let owner = |object: &Arc<T>| {
        let meta = object.meta();
        let owner =
            controller_of(meta).filter(|owner| owner.kind == "StatefulSet" && owner.api_version == "apps/v1")?;
        Some(key(namespace_of(meta), &owner.name))
    };
    change.states().filter_map(owner).collect()
}

fn decide(caches: &Caches, key: &Key, now: Timestamp, gates: Gates, early_ends: &EarlyEnds) -> Plan {
    let Some(served) = caches.of::<ServedSet>().get(&key.namespace, &key.name) else {
        early_ends.forget(key);
        return Plan::default();
    };
    let pods = in_sight(caches.of::<Pod>(), &served);
    let mut revisions = in_sight(caches.of::<ControllerRevision>(), &served);
    let prefix = prefix_of(&served);
    let orphans = caches.of::<ControllerRevision>().uncontrolled_in(&key.namespace);
    let others = orphans
        .into_iter()
        .filter(|orphan| !name_of(&orphan.metadata).starts_with(&prefix));
    revisions.extend(others);
    let claims = claims(caches, &served);
    let ends = early_ends.note(key, uid_of(served.meta()), pods.iter().map(Arc::as_ref));
    let service = service_of(caches, &served);
    let seen = Observed {
        set: &served.set,
        template: &served.template,
        pods: pods.iter().map(Arc::as_ref).collect(),
        claims: claims.iter().map(Arc::as_ref).collect(),
        revisions: revisions.iter().map(Arc::as_ref).collect(),
        service: Some(service.as_deref()),
        early_ends: &ends,
        gates,
    };
    statefulset::plan(&seen, now)
}

fn service_of(caches: &Caches, served: &ServedSet) -> Option<Arc<Service>> {
    let name = served.set.spec.as_ref()?.service_name.as_deref()?;
    caches.of::<Service>().get(namespace_of(served.meta()), name)
}

/// What a set controls, and what bears its name.
fn in_sight<T: Resource<DynamicType = ()>>(cache: &Cache<T>, served: &ServedSet) -> Vec<Arc<T>> {
    let meta = served.meta();
    let (namespace, prefix) = (namespace_of(meta), prefix_of(served));
    // Nearly all that a set controls bears its name, so the rest is asked for alone: this is done for every event.
    let others = cache.controlled_besides(uid_of(meta), namespace, &prefix);
    let mut objects = cache.with_prefix(namespace, &prefix);
    objects.extend(others);
    objects
}

/// What the names of all that a set makes begin with.
fn prefix_of(served: &ServedSet) -> String {
    format!("{}-", name_of(served.meta()))
}

fn claims(caches: &Caches, served: &ServedSet) -> Vec<Arc<PersistentVolumeClaim>> {
    let spec = served.set.spec.as_ref();
    let templates = spec
        .and_then(|spec| spec.volume_claim_templates.as_deref())
        .unwrap_or_default();
    let cache = caches.of::<PersistentVolumeClaim>();
    let (namespace, set) = (namespace_of(served.meta()), name_of(served.meta()));
    let prefix = |template: &PersistentVolumeClaim| format!("{}-{set}-", name_of(&template.metadata));
    templates
        .iter()
        .flat_map(|template| cache.with_prefix(namespace, &prefix(template)))
        .collect()
}

fn namespace_of(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

fn uid_of(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
