//! The row of ResourceQuotas.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use controllers_plan::quota::{Counted, plan};
use controllers_plan::{AnyObject, Key, Kind, Plan, Reason};
use jiff::Timestamp;
use serde_json::json;

use super::Row;
use super::garbage::stored_kinds;
use super::keys::{itself, key_of, namespace_of};
use crate::cache::Change;
use crate::caches::{Caches, Watch, Watched, kind_of};
use crate::custom::Definition;

/// The controller's name.
pub(super) const NAME: &str = "resourcequota-controller";

/// How long a quota must have rested before it is counted. The server charges a quota and stores the object in one
/// write, but the two are seen by two watches; counting in between would take the charge back.
const REST: Duration = Duration::from_millis(500);

/// When each quota's version was first seen, by namespace and name.
type Seen = Mutex<HashMap<(String, String), (Option<String>, Timestamp)>>;

pub(crate) fn row() -> Row {
    let seen = Seen::default();
    let mut watches = vec![
        Watch::on::<ResourceQuota>(itself),
        Watch::on::<Pod>(of_object),
        Watch::on::<PersistentVolumeClaim>(of_object),
        Watch::on::<Service>(of_object),
    ];
    watches.extend(heads().map(|kind| Watch::metadata(kind, of_head)));
    watches.push(Watch::on::<Definition>(|_, _| Vec::new()));
    Row {
        name: NAME,
        watches,
        decide: Box::new(move |caches, key, now| decide(caches, key, now, &seen)),
    }
}

/// The kinds of which more is counted than that they are there.
fn whole() -> [Kind; 3] {
    [
        Kind::of::<Pod>(),
        Kind::of::<PersistentVolumeClaim>(),
        Kind::of::<Service>(),
    ]
}

/// The kinds whose objects are just counted. Events come and go too fast, and expire by themselves.
fn heads() -> impl Iterator<Item = Kind> {
    let kinds = stored_kinds().filter(|kind| kind.namespaced).map(Kind::from);
    kinds.filter(|kind| !whole().contains(kind) && kind.kind != "Event")
}

/// The custom resources whose objects have all been seen.
fn custom(caches: &Caches) -> Vec<Kind> {
    let is_listed = |kind: &Kind| {
        let cache = caches.metadata_of(*kind);
        cache.is_some_and(|cache| cache.progress().borrow().lists_done > 0)
    };
    let kinds = caches.custom_kinds().into_iter();
    let namespaced = kinds.filter_map(|(kind, namespaced)| namespaced.then_some(kind));
    namespaced.filter(is_listed).collect()
}

fn quotas(caches: &Caches, namespace: &str) -> Vec<Key> {
    let quotas = caches.of::<ResourceQuota>().in_namespace(namespace);
    quotas
        .iter()
        .map(|quota| key_of(Kind::of::<ResourceQuota>(), &quota.metadata))
        .collect()
}

/// An object concerns the quotas of its namespace when it counts otherwise than before.
fn of_object<T: Watched + serde::Serialize>(caches: &Caches, change: &Change<T>) -> Vec<Key> {
    let namespace = namespace_of(change.latest().meta());
    let keys = quotas(caches, namespace);
    if keys.is_empty() {
        return keys;
    }
    let (kind, now_s) = (kind_of::<T>(), 0);
    let usage = |object: &Arc<T>| api::quota::usage(kind.group, kind.plural, &json!(object.as_ref()), now_s);
    let is_same = change.old.as_ref().map(usage) == change.new.as_ref().map(usage);
    if is_same { Vec::new() } else { keys }
}

pub(super) fn of_head(caches: &Caches, change: &Change<AnyObject>) -> Vec<Key> {
    if change.old.is_some() && change.new.is_some() {
        return Vec::new();
    }
    quotas(caches, change.latest().name.namespace())
}

fn decide(caches: &Caches, key: &Key, now: Timestamp, seen: &Seen) -> Plan {
    let memory = (key.namespace.clone(), key.name.clone());
    let mut seen = seen.lock().expect("no panic while held");
    let Some(quota) = caches.of::<ResourceQuota>().get(&key.namespace, &key.name) else {
        seen.remove(&memory);
        return Plan::default();
    };
    let version = quota.metadata.resource_version.clone();
    let since = match seen.get(&memory) {
        Some((known, since)) if *known == version => *since,
        _ => {
            seen.insert(memory, (version, now));
            now
        }
    };
    drop(seen);
    let is_new = quota.status.as_ref().is_none_or(|status| status.hard.is_none());
    let rested_at = since.checked_add(REST).unwrap_or(Timestamp::MAX);
    if rested_at > now && !is_new {
        let message = format!("{} is counted when it has rested", key.name);
        return Plan {
            because: vec![Reason::waits(&key.name, "Recounts", &key.name, message)],
            again_at: Some(rested_at),
            ..Plan::default()
        };
    }
    let counted: Vec<Kind> = heads().chain(custom(caches)).collect();
    let objects = objects(caches, &counted, &key.namespace);
    let kinds: Vec<Kind> = whole().into_iter().chain(counted).collect();
    plan(&quota, &kinds, &objects, now)
}

fn objects(caches: &Caches, heads: &[Kind], namespace: &str) -> Vec<Counted> {
    let mut objects = listed::<Pod>(caches, namespace);
    objects.extend(listed::<PersistentVolumeClaim>(caches, namespace));
    objects.extend(listed::<Service>(caches, namespace));
    for kind in heads.iter().copied() {
        let heads = caches.metadata_of(kind).map(|cache| cache.in_namespace(namespace));
        let counted = heads.into_iter().flatten().map(|head| Counted {
            kind,
            object: json!({ "metadata": {"name": head.name.name(), "namespace": head.name.namespace()} }),
        });
        objects.extend(counted);
    }
    objects
}

fn listed<T: Watched + serde::Serialize>(caches: &Caches, namespace: &str) -> Vec<Counted> {
    let objects = caches.of::<T>().in_namespace(namespace);
    let counted = objects.iter().map(|object| Counted {
        kind: kind_of::<T>(),
        object: json!(object.as_ref()),
    });
    counted.collect()
}
