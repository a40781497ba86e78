//! EndpointSlices: as few and as small writes as keep them true.
//!
//! Slices are sorted by address family and by set of ports. A slice keeps what is in it as long as that is wanted, new
//! endpoints go where something is written anyway, and only what finds no room makes a new slice.

use super::{has_members, labels_for, labels_patch, member};
use crate::{Action, Announcement, Kind, Notice, Object, Plan, Reason, Step, Target, Write, owner_reference};
use api::k8s::api::core::v1::{Node, Pod, Service};
use api::k8s::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Says which slices are ours.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// Our name there.
pub const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
/// Names the Service a slice belongs to.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// More endpoints than this make another slice, as upstream.
const ENDPOINTS_MAX: usize = 100;
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// A Service, the pods that it selects, their nodes, and the slices that there are.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Service; `None` if it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// Those pods' nodes, by name.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// Our slices for it.
    pub slices: Vec<Arc<EndpointSlice>>,
}

/// Whether a slice is ours, and for which Service of its namespace.
pub fn service_of(slice: &EndpointSlice) -> Option<&str> {
    let labels = slice.metadata.labels.as_ref()?;
    let is_ours = labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY);
    labels.get(SERVICE_LABEL).filter(|_| is_ours).map(String::as_str)
}

/// Endpoints by what tells them apart: the pod's uid.
type Endpoints = BTreeMap<String, Endpoint>;

/// Decides what to write so that the slices say what is true.
pub fn plan(observed: &Observed) -> Plan {
    let Some(service) = &observed.service else {
        return without_service(&observed.slices);
    };
    if !has_members(service) {
        let is_external = service
            .spec
            .as_ref()
            .is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"));
        return if is_external {
            without_service(&observed.slices)
        } else {
            Plan::default()
        };
    }
    // A Service that waits for its dependents to go must not be given new ones.
    if service.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let mut writes = Writes::new(service);
    let families = member::families(service);
    for family in &families {
        plan_family(family, observed, &mut writes);
    }
    // Families that the Service is not served in any more.
    for slice in observed
        .slices
        .iter()
        .filter(|slice| !families.contains(&slice.address_type.as_str()))
    {
        writes.delete(slice);
    }
    writes.into_plan()
}

fn without_service(slices: &[Arc<EndpointSlice>]) -> Plan {
    let chains = slices
        .iter()
        .map(|slice| vec![Action::delete(Target::of(slice.as_ref()))])
        .collect::<Vec<_>>();
    let told = |slice: &Arc<EndpointSlice>| {
        let name = slice.metadata.name.clone().unwrap_or_default();
        Reason::acts(name, "ServiceGone", "its Service is gone")
    };
    Plan {
        because: slices.iter().map(told).collect(),
        steps: if chains.is_empty() {
            Vec::new()
        } else {
            vec![Step::Together(chains)]
        },
        ..Plan::default()
    }
}

fn plan_family(family: &'static str, observed: &Observed, writes: &mut Writes<'_>) {
    let is_here =
        |slice: &&Arc<EndpointSlice>| slice.address_type == family && slice.metadata.deletion_timestamp.is_none();
    let mut rest: Vec<Arc<EndpointSlice>> = observed.slices.iter().filter(is_here).cloned().collect();
    let mut count = 0;
    for (ports, endpoints) in desired(family, observed, writes.service).into_values() {
        let (same, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|slice| ports_of(slice) == ports);
        rest = others;
        let group = fill(same, endpoints, &writes.labels);
        count += group.slices.len() + group.created.len();
        for slice in group.slices {
            writes.update(&slice);
        }
        for endpoints in &group.created {
            writes.create(family, &ports, endpoints);
        }
        rest.extend(group.emptied);
    }
    // A Service without endpoints keeps one empty slice, so that a client can tell "none" from "not yet looked at".
    if count == 0 {
        match rest
            .iter()
            .position(|slice| endpoints_of(slice).is_empty() && ports_of(slice).is_empty())
        {
            Some(index) => writes.update(&Filled::unchanged(rest.swap_remove(index))),
            None => writes.create(family, &[], &[]),
        }
    }
    for slice in rest {
        writes.delete(&slice);
    }
}

/// What should be: ports and endpoints of one family, by a text that stands for the ports.
fn desired(
    family: &'static str,
    observed: &Observed,
    service: &Service,
) -> BTreeMap<String, (Vec<EndpointPort>, Endpoints)> {
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Endpoints)> = BTreeMap::new();
    for pod in observed.pods.iter().filter(|pod| !member::is_finished(pod)) {
        let Some(address) = member::address_in(pod, family) else {
            continue;
        };
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| observed.nodes.get(spec.node_name.as_ref()?));
        // What ran on a node that is gone is not there any more.
        if node.is_none() && !publishes_not_ready(service) {
            continue;
        }
        let ports = member::ports(service, pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let endpoint = endpoint(service, pod, address, node.map(AsRef::as_ref));
        let group = groups
            .entry(json!(ports).to_string())
            .or_insert_with(|| (ports, Endpoints::new()));
        group.1.insert(uid, endpoint);
    }
    groups
}

fn publishes_not_ready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.publish_not_ready_addresses == Some(true))
}

fn endpoint(service: &Service, pod: &Pod, address: &str, node: Option<&Node>) -> Endpoint {
    let (serving, terminating) = (member::is_ready(pod), member::is_terminating(pod));
    let zone = node.and_then(|node| node.metadata.labels.as_ref()?.get(ZONE_LABEL).cloned());
    let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: hints(service, zone.as_deref(), node_name.as_deref()),
        hostname: member::hostname(service, pod),
        node_name,
        target_ref: Some(member::reference(pod)),
        zone,
        ..Endpoint::default()
    }
}

/// Where the endpoint is to be used from, if the Service asks for traffic to stay near.
fn hints(service: &Service, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
    let wish = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    if !matches!(wish, "PreferClose" | "PreferSameZone" | "PreferSameNode") {
        return None;
    }
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let for_nodes = node
        .filter(|_| wish == "PreferSameNode")
        .map(|node| vec![ForNode { name: node.to_owned() }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones })
}

fn ports_of(slice: &EndpointSlice) -> Vec<EndpointPort> {
    let mut ports = slice.ports.clone().unwrap_or_default();
    member::sort_ports(&mut ports);
    ports
}

fn endpoints_of(slice: &EndpointSlice) -> &[Endpoint] {
    slice.endpoints.as_deref().unwrap_or_default()
}

fn uid_of(endpoint: &Endpoint) -> String {
    endpoint
        .target_ref
        .as_ref()
        .and_then(|reference| reference.uid.clone())
        .unwrap_or_default()
}

/// A slice that stays, with what is to be in it.
struct Filled {
    slice: Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    is_changed: bool,
}

/// What becomes of the slices of one family and one set of ports.
#[derive(Default)]
struct Group {
    slices: Vec<Filled>,
    created: Vec<Vec<Endpoint>>,
    emptied: Vec<Arc<EndpointSlice>>,
}

impl Filled {
    fn unchanged(slice: Arc<EndpointSlice>) -> Self {
        Self {
            endpoints: endpoints_of(&slice).to_vec(),
            slice,
            is_changed: false,
        }
    }

    /// Keeps what is still wanted, brought up to date, and takes it out of what is wanted.
    fn keeping(slice: Arc<EndpointSlice>, wanted: &mut Endpoints, labels: &BTreeMap<String, String>) -> Self {
        let mut endpoints = Vec::new();
        for known in endpoints_of(&slice) {
            endpoints.extend(wanted.remove(&uid_of(known)));
        }
        let is_changed = endpoints != endpoints_of(&slice) || slice.metadata.labels.as_ref() != Some(labels);
        Self {
            slice,
            endpoints,
            is_changed,
        }
    }

    fn room(&self) -> usize {
        ENDPOINTS_MAX.saturating_sub(self.endpoints.len())
    }

    fn take(&mut self, wanted: &mut Endpoints) {
        while self.room() > 0
            && let Some((_, endpoint)) = wanted.pop_first()
        {
            self.endpoints.push(endpoint);
            self.is_changed = true;
        }
    }
}

/// Distributes what is wanted: first into slices that are written anyway, then into the fullest one that has room for
/// all the rest, then into new ones.
fn fill(slices: Vec<Arc<EndpointSlice>>, mut wanted: Endpoints, labels: &BTreeMap<String, String>) -> Group {
    let mut group = Group::default();
    let mut filled: Vec<Filled> = slices
        .into_iter()
        .map(|slice| Filled::keeping(slice, &mut wanted, labels))
        .collect();
    for one in filled.iter_mut().filter(|one| one.is_changed) {
        one.take(&mut wanted);
    }
    while wanted.len() >= ENDPOINTS_MAX {
        let full = std::iter::from_fn(|| wanted.pop_first()).take(ENDPOINTS_MAX);
        group.created.push(full.map(|(_, endpoint)| endpoint).collect());
    }
    if !wanted.is_empty() {
        let fits = |one: &&mut Filled| !one.endpoints.is_empty() && one.room() >= wanted.len();
        match filled.iter_mut().filter(fits).min_by_key(|one| one.room()) {
            Some(one) => one.take(&mut wanted),
            None => group.created.push(wanted.into_values().collect()),
        }
    }
    for one in filled {
        if one.endpoints.is_empty() {
            group.emptied.push(one.slice)
        } else {
            group.slices.push(one)
        }
    }
    group
}

/// Collects the writes for one Service.
struct Writes<'a> {
    service: &'a Service,
    labels: BTreeMap<String, String>,
    written: Vec<Action>,
    deleted: Vec<Action>,
    because: Vec<Reason>,
}

impl<'a> Writes<'a> {
    fn new(service: &'a Service) -> Self {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let labels = labels_for(service, &[(MANAGED_BY_LABEL, MANAGED_BY), (SERVICE_LABEL, name)]);
        Self {
            service,
            labels,
            written: Vec::new(),
            deleted: Vec::new(),
            because: Vec::new(),
        }
    }

    fn create(&mut self, family: &str, ports: &[EndpointPort], endpoints: &[Endpoint]) {
        let metadata = &self.service.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let kind = Kind::of::<EndpointSlice>();
        let body = json!({"apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {
                "generateName": format!("{name}-"), "namespace": metadata.namespace, "labels": self.labels,
                "ownerReferences": [owner_reference(Kind::of::<Service>(), metadata)]},
            "addressType": family, "ports": ports, "endpoints": endpoints});
        let key = crate::Key::new(kind, metadata.namespace.clone().unwrap_or_default(), "");
        let because = Reason::acts(name, "NewSlice", format!("{} endpoints have no slice", endpoints.len()));
        self.because.push(because);
        self.written.push(Action::from(Write::Create(Object { key, body })));
    }

    fn update(&mut self, filled: &Filled) {
        let slice = filled.slice.as_ref();
        let labels = labels_patch(slice.metadata.labels.as_ref(), &self.labels);
        let mut patch = json!({});
        if filled.is_changed && filled.endpoints != endpoints_of(slice) {
            patch["endpoints"] = json!(filled.endpoints);
        }
        if let Some(labels) = labels {
            patch["metadata"] = json!({"labels": labels});
        }
        if patch != json!({}) {
            let name = slice.metadata.name.clone().unwrap_or_default();
            self.because.push(Reason::acts(
                name,
                "SliceOutdated",
                "the pods behind the Service have changed",
            ));
            self.written.push(Action::patch(Target::of(slice), patch));
        }
    }

    fn delete(&mut self, slice: &EndpointSlice) {
        let name = slice.metadata.name.clone().unwrap_or_default();
        self.because.push(Reason::acts(
            name,
            "SliceUnused",
            "no endpoint is left that belongs in it",
        ));
        self.deleted.push(Action::delete(Target::of(slice)));
    }

    /// What is new is written before what is old is deleted, so that no endpoint is missing in between.
    fn into_plan(self) -> Plan {
        let metadata = &self.service.metadata;
        let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
        let failed = Notice {
            reason: "FailedToUpdateEndpointSlices",
            message: format!(
                "Error updating Endpoint Slices for Service {}/{}",
                namespace.unwrap_or_default(),
                name.unwrap_or_default()
            ),
        };
        let announcement = Announcement {
            about: Target::of(self.service),
            done: None,
            failed: Some(failed),
        };
        let step = |actions: Vec<Action>| {
            let chain = |action: Action| vec![action.announced(announcement.clone())];
            (!actions.is_empty()).then(|| Step::Together(actions.into_iter().map(chain).collect()))
        };
        let steps = [step(self.written), step(self.deleted)].into_iter().flatten().collect();
        Plan {
            steps,
            because: self.because,
            ..Plan::default()
        }
    }
}
