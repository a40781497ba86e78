//! The Endpoints object of a Service: the older form of the same truth, one object whatever its size.

use super::{has_members, is_headless, labels_for, labels_patch, member};
use crate::{Action, Announcement, Notice, Object, Plan, Reason, Step, Target};
use api::k8s::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Says that an Endpoints object is ours.
pub const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
/// Our name there.
pub const MANAGED_BY: &str = "endpoint-controller";
/// When we last wrote; upstream's name for nearly the same.
const WRITTEN_AT: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Says that not all addresses are in the object.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// More addresses than this are cut off, as upstream.
const ADDRESSES_MAX: usize = 1000;
/// Every write costs as much as there are addresses, so the next one is put off by so much for each.
const REST_PER_ADDRESS: SignedDuration = SignedDuration::from_millis(2);

/// A Service, the pods that it selects, and its Endpoints.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Service; `None` if it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// The Endpoints of the Service's name.
    pub endpoints: Option<Arc<Endpoints>>,
}

/// Whether an Endpoints object was made by us.
pub fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY_LABEL))
        .is_some_and(|by| by == MANAGED_BY)
}

/// Decides what to write so that the Endpoints say what is true.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let existing = observed.endpoints.as_deref();
    let Some(service) = observed.service.as_deref().filter(|service| !is_external(service)) else {
        return existing
            .filter(|endpoints| is_ours(endpoints))
            .map(without_service)
            .unwrap_or_default();
    };
    if !has_members(service) || service.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let wanted = Wanted::of(service, &observed.pods);
    let Some(existing) = existing else {
        return act(service, "NewEndpoints", wanted.create(service, now));
    };
    let Some(patch) = wanted.patch(existing, now) else {
        return Plan::default();
    };
    let last = existing
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(WRITTEN_AT)?.parse::<Timestamp>().ok());
    let rest = REST_PER_ADDRESS * i32::try_from(wanted.count).unwrap_or(i32::MAX);
    match last.map(|last| last + rest) {
        // A clock that was set back must not put it off for long.
        Some(due) if due > now && due <= now + rest => {
            let why = "it is large and was written a moment ago";
            let name = service.metadata.name.clone().unwrap_or_default();
            let because = vec![Reason::waits(name, "EndpointsRest", "time", why)];
            Plan {
                because,
                again_at: Some(due),
                ..Plan::default()
            }
        }
        _ => act(service, "EndpointsOutdated", Action::patch(Target::of(existing), patch)),
    }
}

fn is_external(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"))
}

fn without_service(endpoints: &Endpoints) -> Plan {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    Plan {
        steps: vec![Step::One(Action::delete(Target::of(endpoints)))],
        because: vec![Reason::acts(name, "ServiceGone", "its Service is gone")],
        ..Plan::default()
    }
}

fn act(service: &Service, reason: &'static str, action: Action) -> Plan {
    let (namespace, name) = (
        service.metadata.namespace.clone(),
        service.metadata.name.clone().unwrap_or_default(),
    );
    let message = format!("Failed to update endpoint {}/{name}", namespace.unwrap_or_default());
    let failed = Notice {
        reason: "FailedToUpdateEndpoint",
        message,
    };
    let action = action.announced(Announcement {
        about: Target::of(service),
        done: None,
        failed: Some(failed),
    });
    Plan {
        steps: vec![Step::One(action)],
        because: vec![Reason::acts(name, reason, "the pods behind the Service have changed")],
        ..Plan::default()
    }
}

/// What the object should say.
struct Wanted {
    labels: BTreeMap<String, String>,
    subsets: Vec<EndpointSubset>,
    count: usize,
    is_truncated: bool,
}

impl Wanted {
    fn of(service: &Service, pods: &[Arc<Pod>]) -> Self {
        let family = member::families(service).first().copied().unwrap_or("IPv4");
        let publishes_all = service
            .spec
            .as_ref()
            .is_some_and(|spec| spec.publish_not_ready_addresses == Some(true));
        let has_ports = service
            .spec
            .as_ref()
            .is_some_and(|spec| spec.ports.as_ref().is_some_and(|ports| !ports.is_empty()));
        let mut subsets: BTreeMap<String, EndpointSubset> = BTreeMap::new();
        let (mut count, mut is_truncated) = (0, false);
        let is_in = |pod: &&Arc<Pod>| !member::is_finished(pod) && (publishes_all || !member::is_terminating(pod));
        let is_ready = |pod: &Arc<Pod>| publishes_all || member::is_ready(pod);
        let (ready, others): (Vec<_>, Vec<_>) = pods.iter().filter(is_in).partition(|pod| is_ready(pod));
        // Those that are not ready are the first to be left out.
        for pod in ready.into_iter().chain(others) {
            let Some(address) = member::address_in(pod, family) else {
                continue;
            };
            let ports = member::ports(service, pod);
            if ports.is_empty() && (has_ports || !is_headless(service)) {
                continue;
            }
            count += 1;
            if count > ADDRESSES_MAX {
                (count, is_truncated) = (ADDRESSES_MAX, true);
                continue;
            }
            let address = EndpointAddress {
                ip: address.to_owned(),
                hostname: member::hostname(service, pod),
                node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
                target_ref: Some(member::reference(pod)),
            };
            let subset = subsets
                .entry(json!(ports).to_string())
                .or_insert_with(|| subset_of(&ports));
            let list = if is_ready(pod) {
                &mut subset.addresses
            } else {
                &mut subset.not_ready_addresses
            };
            list.get_or_insert_default().push(address);
        }
        let mut subsets: Vec<EndpointSubset> = subsets.into_values().collect();
        for subset in &mut subsets {
            for list in [&mut subset.addresses, &mut subset.not_ready_addresses]
                .into_iter()
                .flatten()
            {
                list.sort_by(|a, b| a.ip.cmp(&b.ip));
            }
        }
        let labels = labels_for(service, &[(MANAGED_BY_LABEL, MANAGED_BY)]);
        Self {
            labels,
            subsets,
            count,
            is_truncated,
        }
    }

    fn annotations(&self, now: Timestamp) -> Value {
        let over_capacity = self.is_truncated.then_some("truncated");
        json!({WRITTEN_AT: now.to_string(), OVER_CAPACITY: over_capacity})
    }

    fn create(&self, service: &Service, now: Timestamp) -> Action {
        let mut annotations = BTreeMap::from([(WRITTEN_AT.to_owned(), now.to_string())]);
        if self.is_truncated {
            annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
        }
        Action::create(Object::of(&Endpoints {
            metadata: ObjectMeta {
                name: service.metadata.name.clone(),
                namespace: service.metadata.namespace.clone(),
                labels: Some(self.labels.clone()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            subsets: Some(self.subsets.clone()).filter(|subsets| !subsets.is_empty()),
        }))
    }

    fn patch(&self, existing: &Endpoints, now: Timestamp) -> Option<Value> {
        let labels = labels_patch(existing.metadata.labels.as_ref(), &self.labels);
        let is_same = existing.subsets.clone().unwrap_or_default() == self.subsets;
        if is_same && labels.is_none() {
            return None;
        }
        let mut patch = json!({"metadata": {"annotations": self.annotations(now)}});
        if !is_same {
            patch["subsets"] = json!(self.subsets);
        }
        if let Some(labels) = labels {
            patch["metadata"]["labels"] = labels;
        }
        Some(patch)
    }
}

fn subset_of(ports: &[api::k8s::api::discovery::v1::EndpointPort]) -> EndpointSubset {
    let older = |port: &api::k8s::api::discovery::v1::EndpointPort| EndpointPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port.unwrap_or_default(),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    };
    EndpointSubset {
        ports: Some(ports.iter().map(older).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
        ..EndpointSubset::default()
    }
}
