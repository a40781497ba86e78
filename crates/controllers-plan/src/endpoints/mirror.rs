//! Slices of Endpoints that somebody else keeps: of a Service without a selector, for readers of EndpointSlices only.
//!
//! There is one slice for each address family and set of ports, as upstream makes them.

use super::{labels_patch, member, slices};
use crate::{Action, Announcement, Key, Kind, Notice, Object, Plan, Reason, Step, Target, Write, owner_reference};
use api::k8s::api::core::v1 as core;
use api::k8s::api::core::v1::{Endpoints, Service};
use api::k8s::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Our name in the label that says which slices are ours.
pub const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
/// On Endpoints that are not to be mirrored.
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// On Endpoints that elect leaders: they hold no addresses.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that speak of the Endpoints' own writes.
const NOT_COPIED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];
/// More addresses than this do not go into a slice, as upstream (`--mirroring-max-endpoints-per-subset`).
const ENDPOINTS_MAX: usize = 1000;

/// A Service, the Endpoints of its name, and the slices made of these.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Service; `None` if it is gone.
    pub service: Option<Arc<Service>>,
    /// The Endpoints of the Service's name.
    pub endpoints: Option<Arc<Endpoints>>,
    /// Our slices for it.
    pub slices: Vec<Arc<EndpointSlice>>,
}

/// Whether a slice is ours, and of which Endpoints of its namespace.
pub fn endpoints_of(slice: &EndpointSlice) -> Option<&str> {
    let labels = slice.metadata.labels.as_ref()?;
    let is_ours = labels.get(slices::MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY);
    labels
        .get(slices::SERVICE_LABEL)
        .filter(|_| is_ours)
        .map(String::as_str)
}

/// Decides what to write so that the slices say what the Endpoints say.
pub fn plan(observed: &Observed) -> Plan {
    let is_ours_to_fill = |service: &&Arc<Service>| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_none_or(BTreeMap::is_empty)
    };
    let service = observed.service.as_ref().filter(is_ours_to_fill);
    let endpoints = observed.endpoints.as_deref().filter(|endpoints| is_mirrored(endpoints));
    let (Some(service), Some(endpoints)) = (service, endpoints) else {
        return without_endpoints(&observed.slices);
    };
    // A Service that waits for its dependents to go must not be given new ones.
    if service.metadata.deletion_timestamp.is_some() || endpoints.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let mut writes = Writes::new(endpoints);
    let mut rest = observed.slices.clone();
    for ((family, _), (ports, wanted)) in groups(endpoints) {
        let fits = |slice: &Arc<EndpointSlice>| slice.address_type == family && ports_of(slice) == ports;
        match rest.iter().position(fits) {
            Some(index) => writes.update(&rest.swap_remove(index), &wanted),
            None => writes.create(family, &ports, &wanted),
        }
    }
    rest.iter().for_each(|slice| writes.delete(slice));
    writes.into_plan()
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let metadata = &endpoints.metadata;
    let skips = metadata.labels.as_ref().and_then(|labels| labels.get(SKIP_LABEL));
    let annotations = metadata.annotations.as_ref();
    skips.is_none_or(|skips| skips != "true")
        && !annotations.is_some_and(|annotations| annotations.contains_key(LEADER_ANNOTATION))
}

fn without_endpoints(slices: &[Arc<EndpointSlice>]) -> Plan {
    let told = |slice: &Arc<EndpointSlice>| {
        let name = slice.metadata.name.clone().unwrap_or_default();
        Reason::acts(name, "EndpointsGone", "there are no Endpoints to mirror any more")
    };
    let chains: Vec<_> = slices
        .iter()
        .map(|slice| vec![Action::delete(Target::of(slice.as_ref()))])
        .collect();
    Plan {
        because: slices.iter().map(told).collect(),
        steps: (!chains.is_empty())
            .then_some(Step::Together(chains))
            .into_iter()
            .collect(),
        ..Plan::default()
    }
}

/// An address with all its ports, which may stand in several subsets.
struct Address<'a> {
    address: &'a core::EndpointAddress,
    is_ready: bool,
    ports: Vec<EndpointPort>,
}

/// The addresses by what tells them apart: themselves, and the uid of what they are of.
fn addresses(endpoints: &Endpoints) -> BTreeMap<(&str, &str), Address<'_>> {
    let mut found: BTreeMap<(&str, &str), Address<'_>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = || subset.ports.iter().flatten().map(port);
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.iter().flatten();
        for (address, is_ready) in ready.chain(others.map(|address| (address, false))) {
            let uid = address.target_ref.as_ref().and_then(|of| of.uid.as_deref());
            let one = found
                .entry((address.ip.as_str(), uid.unwrap_or_default()))
                .or_insert(Address {
                    address,
                    is_ready,
                    ports: Vec::new(),
                });
            one.is_ready &= is_ready;
            one.ports.extend(ports());
        }
    }
    found
}

fn port(port: &core::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

/// What should be in slices, by address family and a text that stands for the ports.
type Groups = BTreeMap<(&'static str, String), (Vec<EndpointPort>, Vec<Endpoint>)>;

/// What should be in each slice; those that are ready first.
fn groups(endpoints: &Endpoints) -> Groups {
    let mut groups = Groups::new();
    let (ready, others): (Vec<_>, Vec<_>) = addresses(endpoints).into_values().partition(|one| one.is_ready);
    for mut one in ready.into_iter().chain(others) {
        let family = match one.address.ip.parse() {
            Ok(IpAddr::V4(_)) => "IPv4",
            Ok(IpAddr::V6(_)) => "IPv6",
            Err(_) => continue,
        };
        member::sort_ports(&mut one.ports);
        one.ports.dedup();
        let key = (family, json!(one.ports).to_string());
        let (_, group) = groups.entry(key).or_insert_with(|| (one.ports.clone(), Vec::new()));
        if group.len() < ENDPOINTS_MAX {
            group.push(endpoint(&one));
        }
    }
    groups
}

fn endpoint(one: &Address<'_>) -> Endpoint {
    Endpoint {
        addresses: vec![one.address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(one.is_ready),
            ..EndpointConditions::default()
        }),
        hostname: one.address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: one.address.node_name.clone(),
        target_ref: one.address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn ports_of(slice: &EndpointSlice) -> Vec<EndpointPort> {
    let mut ports = slice.ports.clone().unwrap_or_default();
    member::sort_ports(&mut ports);
    ports
}

/// Collects the writes for one Endpoints object.
struct Writes<'a> {
    endpoints: &'a Endpoints,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    actions: Vec<Action>,
    because: Vec<Reason>,
}

impl<'a> Writes<'a> {
    fn new(endpoints: &'a Endpoints) -> Self {
        let metadata = &endpoints.metadata;
        let mut labels = metadata.labels.clone().unwrap_or_default();
        let name = metadata.name.clone().unwrap_or_default();
        labels.insert(slices::SERVICE_LABEL.to_owned(), name);
        labels.insert(slices::MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
        let mut annotations = metadata.annotations.clone().unwrap_or_default();
        annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
        Self {
            endpoints,
            labels,
            annotations,
            actions: Vec::new(),
            because: Vec::new(),
        }
    }

    fn create(&mut self, family: &str, ports: &[EndpointPort], wanted: &[Endpoint]) {
        let metadata = &self.endpoints.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let kind = Kind::of::<EndpointSlice>();
        let body = json!({"apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {
                "generateName": format!("{name}-"), "namespace": metadata.namespace,
                "labels": self.labels, "annotations": self.annotations,
                "ownerReferences": [owner_reference(Kind::of::<Endpoints>(), metadata)]},
            "addressType": family, "ports": ports, "endpoints": wanted});
        let key = Key::new(kind, metadata.namespace.clone().unwrap_or_default(), "");
        let told = format!("{} addresses of the Endpoints have no slice", wanted.len());
        self.because.push(Reason::acts(name, "NewMirror", told));
        self.actions.push(Action::from(Write::Create(Object { key, body })));
    }

    fn update(&mut self, slice: &EndpointSlice, wanted: &[Endpoint]) {
        let metadata = &slice.metadata;
        let mut patch = json!({});
        if slice.endpoints.as_deref().unwrap_or_default() != wanted {
            patch["endpoints"] = json!(wanted);
        }
        if let Some(labels) = labels_patch(metadata.labels.as_ref(), &self.labels) {
            patch["metadata"]["labels"] = labels;
        }
        if let Some(annotations) = labels_patch(metadata.annotations.as_ref(), &self.annotations) {
            patch["metadata"]["annotations"] = annotations;
        }
        if patch != json!({}) {
            let name = metadata.name.clone().unwrap_or_default();
            self.because
                .push(Reason::acts(name, "MirrorOutdated", "the Endpoints have changed"));
            self.actions.push(Action::patch(Target::of(slice), patch));
        }
    }

    fn delete(&mut self, slice: &EndpointSlice) {
        let name = slice.metadata.name.clone().unwrap_or_default();
        let told = "no address of the Endpoints belongs in it";
        self.because.push(Reason::acts(name, "MirrorUnused", told));
        self.actions.push(Action::delete(Target::of(slice)));
    }

    fn into_plan(self) -> Plan {
        let metadata = &self.endpoints.metadata;
        let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
        let failed = Notice {
            reason: "FailedToUpdateEndpointSlices",
            message: format!(
                "Error updating Endpoint Slices for Endpoints {}/{}",
                namespace.unwrap_or_default(),
                name.unwrap_or_default()
            ),
        };
        let announcement = Announcement {
            about: Target::of(self.endpoints),
            done: None,
            failed: Some(failed),
        };
        let chain = |action: Action| vec![action.announced(announcement.clone())];
        let chains: Vec<_> = self.actions.into_iter().map(chain).collect();
        Plan {
            steps: (!chains.is_empty())
                .then_some(Step::Together(chains))
                .into_iter()
                .collect(),
            because: self.because,
            ..Plan::default()
        }
    }
}
