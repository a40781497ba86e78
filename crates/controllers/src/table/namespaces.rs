//! The row that empties namespaces which are being deleted.

use api::k8s::api::core::v1::Namespace;
use controllers_plan::namespaces::{Observed, plan};
use controllers_plan::{AnyObject, Key, Kind, is_terminating};

use super::Row;
use super::garbage::stored_kinds;
use crate::cache::Change;
use crate::caches::{Caches, Watch};
use crate::custom::Definition;

/// The controller's name.
pub(super) const NAME: &str = "namespace-controller";

pub(crate) fn row() -> Row {
    let mut watches = vec![Watch::on::<Namespace>(|_, change| vec![key_of(change.latest())])];
    watches.extend(namespaced_kinds().map(|kind| Watch::metadata(kind, namespace_of)));
    watches.push(Watch::on::<Definition>(|_, _| Vec::new()));
    Row {
        name: NAME,
        watches,
        decide: Box::new(|caches, key, now| plan(&observe(caches, key), now)),
    }
}

fn namespaced_kinds() -> impl Iterator<Item = Kind> {
    stored_kinds().filter(|kind| kind.namespaced).map(Kind::from)
}

fn observe(caches: &Caches, key: &Key) -> Observed {
    let namespace = caches.of::<Namespace>().get("", &key.name);
    if !namespace
        .as_ref()
        .is_some_and(|namespace| is_terminating(&namespace.metadata))
    {
        return Observed::default();
    }
    let of_kind = |kind| caches.metadata_of(kind).map(|cache| cache.in_namespace(&key.name));
    let custom = caches.custom_kinds().into_iter().filter(|(_, namespaced)| *namespaced);
    let kinds: Vec<Kind> = namespaced_kinds().chain(custom.map(|(kind, _)| kind)).collect();
    Observed {
        namespace,
        contents: kinds.iter().copied().filter_map(of_kind).flatten().collect(),
        kinds,
    }
}

fn key_of(namespace: &Namespace) -> Key {
    Key::new(
        Kind::of::<Namespace>(),
        "",
        namespace.metadata.name.clone().unwrap_or_default(),
    )
}

/// What comes or goes in a namespace matters only while the namespace is going.
pub(super) fn namespace_of(caches: &Caches, change: &Change<AnyObject>) -> Vec<Key> {
    if change.old.is_some() && change.new.is_some() {
        return Vec::new();
    }
    let namespace = caches.of::<Namespace>().get("", change.latest().name.namespace());
    let terminating = namespace.filter(|namespace| is_terminating(&namespace.metadata));
    terminating.map(|namespace| key_of(&namespace)).into_iter().collect()
}
