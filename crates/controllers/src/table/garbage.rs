//! The row that collects garbage: everything that has owners, whatever its kind.

use std::sync::Arc;

use api::k8s::apimachinery::pkg::apis::meta::v1::OwnerReference;
use controllers_plan::garbage::{Observed, Owner, concerns, owner_target, plan, waits_for_dependents};
use controllers_plan::{AnyObject, Key, Kind};

use super::Row;
use crate::cache::Change;
use crate::caches::{Caches, Watch};
use crate::custom::Definition;

/// The controller's name.
pub(super) const NAME: &str = "garbage-collector-controller";

pub(crate) fn row() -> Row {
    // Events have no owners, and there are many of them.
    let has_owners = |kind: &&'static api::kinds::Kind| kind.plural != "events";
    let kinds = stored_kinds().filter(has_owners);
    let mut watches: Vec<Watch> = kinds.map(|kind| Watch::metadata(kind.into(), concerned)).collect();
    watches.push(Watch::on::<Definition>(|_, _| Vec::new()));
    Row {
        name: NAME,
        watches,
        decide: Box::new(|caches, key, _| plan(&observe(caches, key))),
    }
}

/// Each kind of stored objects once, by the name under which it is stored.
pub(super) fn stored_kinds() -> impl Iterator<Item = &'static api::kinds::Kind> {
    api::kinds::kinds().iter().filter(|kind| kind.storage_kind() == *kind)
}

fn observe(caches: &Caches, key: &Key) -> Observed {
    let object = caches
        .metadata_of(key.kind)
        .and_then(|cache| cache.get(&key.namespace, &key.name));
    let Some(known) = &object else {
        return Observed::default();
    };
    let references = known.owner_references.iter();
    let owners = references.map(|reference| owner(caches, reference, known)).collect();
    let dependents = dependents(caches, known);
    Observed {
        object,
        owners,
        dependents,
    }
}

fn dependents(caches: &Caches, owner: &AnyObject) -> Vec<Arc<AnyObject>> {
    caches
        .all_metadata()
        .into_iter()
        .flat_map(|cache| cache.owned_by(&owner.uid))
        .collect()
}

/// The kind that a reference names, whatever its version, and whether it is in namespaces.
fn kind_of(caches: &Caches, reference: &OwnerReference) -> Option<(Kind, bool)> {
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    let fixed = stored_kinds().map(|kind| (Kind::from(kind), kind.namespaced));
    let mut all = fixed.chain(caches.custom_kinds());
    all.find(|(kind, _)| kind.kind == reference.kind && kind.group == group)
}

fn owner(caches: &Caches, reference: &OwnerReference, dependent: &AnyObject) -> Owner {
    let Some((kind, namespaced)) = kind_of(caches, reference) else {
        return Owner::Unknown;
    };
    let Some(cache) = caches.metadata_of(kind) else {
        return Owner::Unknown;
    };
    let Some(target) = owner_target(reference, kind, namespaced, dependent) else {
        return Owner::Misplaced { target: None };
    };
    let known = cache.get(&target.key.namespace, &target.key.name);
    if let Some(known) = known.filter(|known| *known.uid == *reference.uid) {
        return Owner::Exists(known);
    }
    let is_elsewhere = || cache.all().iter().any(|other| *other.uid == *reference.uid);
    if namespaced && is_elsewhere() {
        return Owner::Misplaced { target: Some(target) };
    }
    Owner::Missing(target)
}

pub(super) fn concerned(caches: &Caches, change: &Change<AnyObject>) -> Vec<Key> {
    match (&change.old, &change.new) {
        // Seen from one list to the next: the old one is gone, whatever has its name now.
        (Some(old), Some(new)) if old.uid != new.uid => {
            let mut keys = concerned_by_end(caches, old);
            keys.extend(concerned_by_birth(new));
            keys
        }
        (Some(old), Some(new)) => concerned_by_change(caches, old, new),
        (None, Some(new)) => concerned_by_birth(new).into_iter().collect(),
        (Some(old), None) => concerned_by_end(caches, old),
        (None, None) => Vec::new(),
    }
}

fn concerned_by_birth(new: &AnyObject) -> Option<Key> {
    (!new.owner_references.is_empty() || new.is_terminating).then(|| new.key())
}

fn concerned_by_change(caches: &Caches, old: &AnyObject, new: &AnyObject) -> Vec<Key> {
    if !concerns(old, new) {
        return Vec::new();
    }
    let mut keys = vec![new.key()];
    keys.extend(waiting_owners(caches, old));
    if waits_for_dependents(new) {
        keys.extend(keys_of_dependents(caches, new));
    }
    keys
}

fn concerned_by_end(caches: &Caches, last: &AnyObject) -> Vec<Key> {
    let mut keys = keys_of_dependents(caches, last);
    keys.extend(waiting_owners(caches, last));
    keys
}

fn keys_of_dependents(caches: &Caches, owner: &AnyObject) -> Vec<Key> {
    let dependents = dependents(caches, owner);
    dependents.iter().map(|dependent| dependent.key()).collect()
}

/// Owners that may be waiting for just this dependent.
fn waiting_owners(caches: &Caches, dependent: &AnyObject) -> Vec<Key> {
    let owners = dependent
        .owner_references
        .iter()
        .map(|reference| owner(caches, reference, dependent));
    let waiting = owners.filter_map(|owner| match owner {
        Owner::Exists(owner) if waits_for_dependents(&owner) => Some(owner.key()),
        _ => None,
    });
    waiting.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caches::Watchlist;
    use api::k8s::api::apps::v1::StatefulSet;
    use api::k8s::api::core::v1::Pod;
    use serde_json::json;

    fn head(kind: Kind, name: &str, uid: &str, version: u32, owners: &[&str]) -> AnyObject {
        let reference =
            |uid: &&str| json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": uid });
        let owners: Vec<_> = owners.iter().map(reference).collect();
        let metadata = json!({
            "namespace": "default", "name": name, "uid": uid, "resourceVersion": version.to_string(),
            "ownerReferences": owners,
        });
        AnyObject::new(Arc::new(kind), serde_json::from_value(metadata).expect("metadata"))
    }

    #[test]
    fn an_owner_remade_between_two_lists_leaves_dependents_to_be_looked_at() {
        let (sets, pods) = (Kind::of::<StatefulSet>(), Kind::of::<Pod>());
        let mut watchlist = Watchlist::default();
        for watch in row().watches {
            (watch.enlist)(&mut watchlist, 0);
        }
        let caches = watchlist.caches;
        let of = |kind| caches.metadata_of(kind).expect("watched");
        of(pods).apply(head(pods, "web-0", "pod", 2, &["first"]));
        of(sets).apply(head(sets, "web", "first", 1, &[]));
        of(sets).begin_list();
        let remade = of(sets).apply(head(sets, "web", "second", 9, &[])).expect("a change");
        assert_eq!(concerned(&caches, &remade), [Key::new(pods, "default", "web-0")]);
    }
}
