//! Keys and index terms that many rows make: of an object itself, of its controller, of its labels.

use std::sync::Arc;

use api::k8s::api::core::v1::Pod;
use api::k8s::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use controllers_plan::{Key, Kind, controller_of, selection};

use crate::cache::{Cache, Change};
use crate::caches::{Caches, Watched, kind_of};

/// The index of pods by their labels.
pub(crate) const BY_LABEL: &str = "labels";

/// The index of workloads by a label that all they select has.
pub(crate) const BY_SELECTOR: &str = "selector";

/// The index of pods by their nodes.
pub(crate) const BY_NODE: &str = "node";

/// An object concerns the controller of its own kind.
pub(crate) fn itself<T: Watched>(_: &Caches, change: &Change<T>) -> Vec<Key> {
    vec![key_of(kind_of::<T>(), change.latest().meta())]
}

/// The key of an object.
pub(crate) fn key_of(kind: Kind, meta: &ObjectMeta) -> Key {
    Key::new(kind, namespace_of(meta), name_of(meta))
}

/// Keys of the objects of a kind that control an object before and after a change.
pub(crate) fn controllers<T: Watched>(kind: Kind, change: &Change<T>) -> Vec<Key> {
    let controller = |object: &Arc<T>| {
        let meta = object.meta();
        let owner =
            controller_of(meta).filter(|owner| owner.kind == kind.kind && owner.api_version == kind.api_version())?;
        Some(Key::new(kind, namespace_of(meta), owner.name.clone()))
    };
    let mut keys: Vec<Key> = change.states().filter_map(controller).collect();
    keys.dedup();
    keys
}

/// The object of nobody that a change leaves, if it leaves one.
pub(crate) fn orphan<T: Watched>(change: &Change<T>) -> Option<&Arc<T>> {
    let orphan = |object: &&Arc<T>| {
        let meta = object.meta();
        controller_of(meta).is_none() && meta.deletion_timestamp.is_none()
    };
    change.new.as_ref().filter(orphan)
}

/// Those of a cache that is indexed [`BY_SELECTOR`] that may select an object.
pub(crate) fn may_select<T: Watched>(cache: &Cache<T>, meta: &ObjectMeta) -> Vec<Arc<T>> {
    let namespace = namespace_of(meta);
    let named = meta
        .labels
        .iter()
        .flatten()
        .map(|(key, value)| term(namespace, key, value));
    let mut found: Vec<Arc<T>> = named.flat_map(|term| cache.with_term(&term)).collect();
    found.extend(cache.with_term(&term(namespace, "", "")));
    found
}

/// The term of a selector: one label that all selected objects have, or that there is none.
pub(crate) fn selector_term(meta: &ObjectMeta, selector: Option<&LabelSelector>) -> Vec<String> {
    let (key, value) = selector.and_then(selection::term).unwrap_or_default();
    vec![term(namespace_of(meta), key, value)]
}

/// The terms of labels.
pub(crate) fn label_terms(meta: &ObjectMeta) -> Vec<String> {
    let namespace = namespace_of(meta);
    let labels = meta.labels.iter().flatten();
    labels.map(|(key, value)| term(namespace, key, value)).collect()
}

/// The pods of a cache indexed [`BY_LABEL`] that a selector selects.
pub(crate) fn selected(pods: &Cache<Pod>, namespace: &str, selector: &LabelSelector) -> Vec<Arc<Pod>> {
    let mut found = match selection::term(selector) {
        Some((key, value)) => pods.with_term(&term(namespace, key, value)),
        None => pods.in_namespace(namespace),
    };
    found.retain(|pod| selection::selects(selector, pod.metadata.labels.as_ref()));
    found
}

/// The term of the pods of a node.
pub(crate) fn node_terms(pod: &Pod) -> Vec<String> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.filter(|node| !node.is_empty())
        .map(|node| format!("@{node}"))
        .into_iter()
        .collect()
}

/// The pods of a node, from a cache indexed [`BY_NODE`].
pub(crate) fn on_node(pods: &Cache<Pod>, node: &str) -> Vec<Arc<Pod>> {
    pods.with_term(&format!("@{node}"))
}

pub(crate) fn namespace_of(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

pub(crate) fn uid_of(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

fn term(namespace: &str, key: &str, value: &str) -> String {
    format!("{namespace}/{key}={value}")
}
