//! The rows that keep the addresses behind Services: EndpointSlices, the older Endpoints, and slices of Endpoints that
//! others keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::k8s::api::core::v1::{Endpoints, Node, Pod, Service};
use api::k8s::api::discovery::v1::EndpointSlice;
use controllers_plan::endpoints::{concerns_endpoints, legacy, mirror, selects, slices};
use controllers_plan::{Key, Kind};

use super::Row;
use crate::cache::Change;
use crate::caches::{Caches, Watch};

pub(crate) fn row() -> Row {
    Row {
        name: "endpointslice-controller",
        watches: vec![
            Watch::on::<Service>(itself),
            Watch::on::<Pod>(services_of_pod),
            Watch::on::<Node>(services_of_node),
            Watch::on::<EndpointSlice>(service_of_slice),
        ],
        decide: Box::new(|caches, key, _| slices::plan(&observe(caches, key))),
    }
}

pub(crate) fn legacy_row() -> Row {
    Row {
        name: "endpoints-controller",
        watches: vec![
            Watch::on::<Service>(itself),
            Watch::on::<Pod>(services_of_pod),
            Watch::on::<Endpoints>(service_of_endpoints),
        ],
        decide: Box::new(|caches, key, now| legacy::plan(&observe_legacy(caches, key), now)),
    }
}

pub(crate) fn mirroring_row() -> Row {
    Row {
        name: "endpointslice-mirroring-controller",
        watches: vec![
            Watch::on::<Service>(itself),
            Watch::on::<Endpoints>(service_of_endpoints),
            Watch::on::<EndpointSlice>(service_of_mirror),
        ],
        decide: Box::new(|caches, key, _| mirror::plan(&observe_mirrors(caches, key))),
    }
}

fn observe_mirrors(caches: &Caches, key: &Key) -> mirror::Observed {
    let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
    let mut slices = caches.of::<EndpointSlice>().in_namespace(namespace);
    slices.retain(|slice| mirror::endpoints_of(slice) == Some(name));
    mirror::Observed {
        service: caches.of::<Service>().get(namespace, name),
        endpoints: caches.of::<Endpoints>().get(namespace, name),
        slices,
    }
}

fn observe(caches: &Caches, key: &Key) -> slices::Observed {
    let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
    let mut slices = caches.of::<EndpointSlice>().in_namespace(namespace);
    slices.retain(|slice| slices::service_of(slice) == Some(name));
    let service = caches.of::<Service>().get(namespace, name);
    let pods = selected(caches, service.as_deref());
    let mut nodes = BTreeMap::new();
    for node in pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_ref()) {
        if !nodes.contains_key(node)
            && let Some(known) = caches.of::<Node>().get("", node)
        {
            nodes.insert(node.clone(), known);
        }
    }
    slices::Observed {
        service,
        pods,
        nodes,
        slices,
    }
}

fn observe_legacy(caches: &Caches, key: &Key) -> legacy::Observed {
    let service = caches.of::<Service>().get(&key.namespace, &key.name);
    let pods = selected(caches, service.as_deref());
    let endpoints = caches.of::<Endpoints>().get(&key.namespace, &key.name);
    legacy::Observed {
        service,
        pods,
        endpoints,
    }
}

fn selected(caches: &Caches, service: Option<&Service>) -> Vec<Arc<Pod>> {
    let Some(service) = service else { return Vec::new() };
    let mut pods = caches
        .of::<Pod>()
        .in_namespace(service.metadata.namespace.as_deref().unwrap_or_default());
    pods.retain(|pod| selects(service, pod));
    pods
}

fn itself(_: &Caches, change: &Change<Service>) -> Vec<Key> {
    vec![key_of(change.latest())]
}

fn key_of(service: &Service) -> Key {
    let metadata = &service.metadata;
    service_key(
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn service_key(namespace: String, name: String) -> Key {
    Key::new(Kind::of::<Service>(), namespace, name)
}

fn services_of_pod(caches: &Caches, change: &Change<Pod>) -> Vec<Key> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && !concerns_endpoints(old, new)
    {
        return Vec::new();
    }
    let namespace = change.latest().metadata.namespace.clone().unwrap_or_default();
    let services = caches.of::<Service>().in_namespace(&namespace);
    let is_concerned = |service: &&Arc<Service>| change.states().any(|pod| selects(service, pod));
    services
        .iter()
        .filter(is_concerned)
        .map(|service| key_of(service))
        .collect()
}

/// A node that comes, goes or moves matters to whoever has pods there; that is rare enough to look at every Service.
fn services_of_node(caches: &Caches, change: &Change<Node>) -> Vec<Key> {
    let zone = |node: &Arc<Node>| {
        node.metadata
            .labels
            .as_ref()?
            .get("topology.kubernetes.io/zone")
            .cloned()
    };
    match (&change.old, &change.new) {
        (Some(old), Some(new)) if zone(old) == zone(new) => Vec::new(),
        _ => caches
            .of::<Service>()
            .all()
            .iter()
            .map(|service| key_of(service))
            .collect(),
    }
}

fn service_of_slice(_: &Caches, change: &Change<EndpointSlice>) -> Vec<Key> {
    let key = |slice: &Arc<EndpointSlice>| {
        let name = slices::service_of(slice)?.to_owned();
        Some(service_key(slice.metadata.namespace.clone().unwrap_or_default(), name))
    };
    change.states().filter_map(key).collect()
}

fn service_of_mirror(_: &Caches, change: &Change<EndpointSlice>) -> Vec<Key> {
    let key = |slice: &Arc<EndpointSlice>| {
        let name = mirror::endpoints_of(slice)?.to_owned();
        Some(service_key(slice.metadata.namespace.clone().unwrap_or_default(), name))
    };
    change.states().filter_map(key).collect()
}

fn service_of_endpoints(_: &Caches, change: &Change<Endpoints>) -> Vec<Key> {
    let metadata = &change.latest().metadata;
    vec![service_key(
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )]
}
