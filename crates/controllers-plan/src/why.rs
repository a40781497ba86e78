//! Why something is not as desired: from what was asked about to the root, link by link.
//!
//! The planner says who waits for whom; pods, claims, nodes and events say the rest. Nothing is asked of a server here:
//! whoever calls brings the [`Facts`] of one namespace.

use std::collections::BTreeSet;

use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet};
use api::k8s::api::core::v1::{Event, Node, PersistentVolumeClaim, Pod, Service};
use api::k8s::api::storage::v1::StorageClass;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::statefulset::{self, Gates, Observed, claim_names, parse_name, service_problem, trouble};
use crate::{Reason, is_terminating};

/// Where the scheduler says which node a claim's volume is wanted on.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// What is known of a namespace, and of the cluster around it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The sets, each with its template as served.
    pub sets: Vec<(StatefulSet, Value)>,
    /// The pods.
    pub pods: Vec<Pod>,
    /// The claims.
    pub claims: Vec<PersistentVolumeClaim>,
    /// The revisions.
    pub revisions: Vec<ControllerRevision>,
    /// The Services.
    pub services: Vec<Service>,
    /// The events.
    pub events: Vec<Event>,
    /// The nodes of the cluster.
    pub nodes: Vec<Node>,
    /// The storage classes of the cluster.
    pub classes: Vec<StorageClass>,
    /// What is switched on in the controllers.
    pub gates: Gates,
}

/// One link of a chain: an object and what is the matter with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// E.g. `pod/web-2`.
    pub object: String,
    /// Machine-readable, e.g. `Unschedulable`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// One thing that is not as desired, down to its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// From what was asked about to the root.
    pub chain: Vec<Link>,
    /// What else waits for the same root.
    pub also: Vec<String>,
}

/// Why a set is not as desired; nothing if it is, `None` if there is none of this name.
pub fn of_set(facts: &Facts, name: &str, now: Timestamp) -> Option<Vec<Finding>> {
    let (set, template) = facts.set(name)?;
    let mut findings = Vec::new();
    for reason in facts.because(set, template, now) {
        add(&mut findings, facts.chain_of(&reason, now));
    }
    if let Some((reason, message)) = service_problem(set, facts.service_of(set)) {
        add(&mut findings, vec![link("sts", name, reason, message)]);
    }
    Some(findings)
}

/// Why a pod is not as desired, or is not there; `None` if nothing is known of such a pod.
pub fn of_pod(facts: &Facts, name: &str, now: Timestamp) -> Option<Vec<Finding>> {
    let mut findings = Vec::new();
    let owner = parse_name(name).and_then(|(parent, _)| facts.set(parent));
    let reasons = owner
        .map(|(set, template)| facts.because(set, template, now))
        .unwrap_or_default();
    for reason in reasons.iter().filter(|reason| reason.subject == name) {
        add(&mut findings, facts.chain_of(reason, now));
    }
    let Some(pod) = facts.pod(name) else {
        if let (Some((set, _)), true) = (owner, findings.is_empty()) {
            let message = absence(set, name);
            add(&mut findings, vec![link("pod", name, "Absent", message)]);
        }
        return (owner.is_some()).then_some(findings);
    };
    if findings.is_empty() {
        let chain = facts.pod_links(pod, now, &mut BTreeSet::new());
        if !chain.is_empty() {
            add(&mut findings, chain);
        }
    }
    Some(findings)
}

/// Why a claim is not bound, or is not there; `None` if nothing is known of such a claim.
pub fn of_claim(facts: &Facts, name: &str, now: Timestamp) -> Option<Vec<Finding>> {
    if let Some(claim) = facts.claim(name) {
        let chain = facts.claim_links(claim, now, &mut BTreeSet::new());
        let mut findings = Vec::new();
        if !chain.is_empty() {
            add(&mut findings, chain);
        }
        return Some(findings);
    }
    let pod = facts.pod_of_claim(name)?;
    let mut findings = of_pod(facts, &pod, now)?;
    let message = format!("{name} is made together with {pod}");
    if findings.is_empty() {
        add(&mut findings, vec![link("pvc", name, "Absent", message)]);
        return Some(findings);
    }
    for finding in &mut findings {
        finding.chain.insert(0, link("pvc", name, "Absent", message.clone()));
    }
    Some(findings)
}

/// Adds a chain, or only its first object if the root is known already.
fn add(findings: &mut Vec<Finding>, chain: Vec<Link>) {
    let root = chain.last().cloned();
    match findings.iter_mut().find(|known| known.chain.last() == root.as_ref()) {
        Some(known) => {
            let first = chain.first().map(|link| link.object.clone()).unwrap_or_default();
            if known.chain.iter().all(|link| link.object != first) && !known.also.contains(&first) {
                known.also.push(first);
            }
        }
        None => findings.push(Finding {
            chain,
            also: Vec::new(),
        }),
    }
}

fn absence(set: &StatefulSet, pod: &str) -> String {
    let spec = set.spec.as_ref();
    let start = spec.and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or(0);
    let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let set = name_of(&set.metadata);
    if replicas == 0 {
        return format!("{pod} is not wanted: {set} has 0 replicas");
    }
    let last = i64::from(start) + i64::from(replicas) - 1;
    format!("{pod} is not there: {set} has {replicas} replicas, {set}-{start} to {set}-{last}")
}

fn link(kind: &str, name: &str, reason: &str, message: impl Into<String>) -> Link {
    Link {
        object: format!("{kind}/{name}"),
        reason: reason.to_owned(),
        message: message.into(),
    }
}

fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

impl Facts {
    fn set(&self, name: &str) -> Option<(&StatefulSet, &Value)> {
        let found = self.sets.iter().find(|(set, _)| name_of(&set.metadata) == name);
        found.map(|(set, template)| (set, template))
    }

    fn pod(&self, name: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| name_of(&pod.metadata) == name)
    }

    fn claim(&self, name: &str) -> Option<&PersistentVolumeClaim> {
        self.claims.iter().find(|claim| name_of(&claim.metadata) == name)
    }

    fn service_of(&self, set: &StatefulSet) -> Option<&Service> {
        let name = set.spec.as_ref()?.service_name.as_deref()?;
        self.services.iter().find(|service| name_of(&service.metadata) == name)
    }

    /// What the planner holds back, and why.
    fn because(&self, set: &StatefulSet, template: &Value, now: Timestamp) -> Vec<Reason> {
        let early_ends = std::collections::BTreeMap::new();
        let seen = Observed {
            set,
            template,
            pods: self.pods.iter().collect(),
            claims: self.claims.iter().collect(),
            revisions: self.revisions.iter().collect(),
            service: None,
            early_ends: &early_ends,
            gates: self.gates,
        };
        let reasons = statefulset::because(&seen, now).into_iter();
        reasons.filter(|reason| reason.waits_for.is_some()).collect()
    }

    /// What the planner said, and what is behind it.
    fn chain_of(&self, reason: &Reason, now: Timestamp) -> Vec<Link> {
        let kind = self.kind_of(&reason.subject);
        let mut chain = vec![link(kind, &reason.subject, reason.reason, reason.message.clone())];
        let mut seen = BTreeSet::from([reason.subject.clone()]);
        let cause = reason.waits_for.as_deref().unwrap_or_default();
        if cause == reason.subject {
            if let Some(pod) = self.pod(cause) {
                chain.extend(self.behind_pod(pod, now, &mut seen));
            }
        } else if let Some(pod) = self.pod(cause) {
            chain.extend(self.pod_links(pod, now, &mut seen));
        } else if let Some(claim) = self.claim(cause) {
            chain.extend(self.claim_links(claim, now, &mut seen));
        }
        chain
    }

    fn kind_of(&self, name: &str) -> &'static str {
        if self.set(name).is_some() {
            "sts"
        } else if self.pod(name).is_none() && self.claim(name).is_some() {
            "pvc"
        } else {
            "pod"
        }
    }

    /// What is the matter with a pod, and what is behind it.
    fn pod_links(&self, pod: &Pod, now: Timestamp, seen: &mut BTreeSet<String>) -> Vec<Link> {
        let name = name_of(&pod.metadata);
        if !seen.insert(name.to_owned()) {
            return Vec::new();
        }
        let min_ready_s = parse_name(name)
            .and_then(|(parent, _)| self.set(parent))
            .and_then(|(set, _)| set.spec.as_ref()?.min_ready_seconds);
        let Some((reason, clause)) = trouble(pod, min_ready_s.unwrap_or(0), now) else {
            return Vec::new();
        };
        let mut links = vec![link("pod", name, reason, format!("{name} is not available: {clause}"))];
        links.extend(self.behind_pod(pod, now, seen));
        links
    }

    /// What is behind a pod's trouble: its claims, its node, what was last said of it.
    fn behind_pod(&self, pod: &Pod, now: Timestamp, seen: &mut BTreeSet<String>) -> Vec<Link> {
        let name = name_of(&pod.metadata);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if is_terminating(&pod.metadata) {
            return self.behind_ending(&pod.metadata, "pod", node);
        }
        if node.is_none() {
            let unbound = claims_of(pod).find_map(|claim| match self.claim(claim) {
                // It waits for the pod, not the other way round.
                Some(claim) if self.waits_for_consumer(claim) => None,
                None => Some(vec![link(
                    "pvc",
                    claim,
                    "ClaimMissing",
                    format!("there is no claim {claim}"),
                )]),
                Some(claim) => Some(self.claim_links(claim, now, seen)).filter(|links| !links.is_empty()),
            });
            if let Some(links) = unbound {
                return links;
            }
        }
        let said = self.last_warning("Pod", name).filter(|_| !is_ready(pod));
        said.into_iter()
            .chain(node.and_then(|node| self.node_link(node)))
            .collect()
    }

    /// Why something that is being deleted is still there.
    fn behind_ending(&self, meta: &ObjectMeta, kind: &str, node: Option<&str>) -> Vec<Link> {
        let finalizers = meta.finalizers.clone().unwrap_or_default();
        let held = (!finalizers.is_empty()).then(|| {
            let message = format!(
                "{} stays until these finalizers are removed: {}",
                name_of(meta),
                finalizers.join(", ")
            );
            link(kind, name_of(meta), "Finalizers", message)
        });
        node.and_then(|node| self.node_link(node))
            .into_iter()
            .chain(held)
            .collect()
    }

    /// What is the matter with a node.
    fn node_link(&self, name: &str) -> Option<Link> {
        let Some(node) = self.nodes.iter().find(|node| name_of(&node.metadata) == name) else {
            // Whoever asks may not be allowed to see nodes.
            let message = format!("there is no node {name}: its pods go when they are deleted by force");
            return (!self.nodes.is_empty()).then(|| link("node", name, "NodeGone", message));
        };
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready")?;
        let said = ready.message.as_deref().unwrap_or_default();
        (ready.status != "True").then(|| link("node", name, "NodeNotReady", format!("{name} is not ready: {said}")))
    }

    /// What is the matter with a claim, and what is behind it.
    fn claim_links(&self, claim: &PersistentVolumeClaim, now: Timestamp, seen: &mut BTreeSet<String>) -> Vec<Link> {
        let name = name_of(&claim.metadata);
        if !seen.insert(name.to_owned()) {
            return Vec::new();
        }
        if is_terminating(&claim.metadata) {
            let users: Vec<&str> = self
                .pods
                .iter()
                .filter(|pod| claims_of(pod).any(|used| used == name))
                .map(|pod| name_of(&pod.metadata))
                .collect();
            let by = if users.is_empty() {
                "nobody any more".to_owned()
            } else {
                users.join(", ")
            };
            let message = format!("{name} is being deleted and is used by {by}");
            let first = link("pvc", name, "ClaimDeleting", message);
            return [first]
                .into_iter()
                .chain(self.behind_ending(&claim.metadata, "pvc", None))
                .collect();
        }
        let phase = claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("Pending");
        match phase {
            "Bound" => Vec::new(),
            "Lost" => vec![link("pvc", name, "VolumeLost", format!("the volume of {name} is gone"))],
            _ => self.behind_pending(claim, name, now, seen),
        }
    }

    fn behind_pending(
        &self,
        claim: &PersistentVolumeClaim,
        name: &str,
        now: Timestamp,
        seen: &mut BTreeSet<String>,
    ) -> Vec<Link> {
        let mut links = vec![link("pvc", name, "ClaimPending", format!("{name} has no volume yet"))];
        let class = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.as_deref())
            .unwrap_or_default();
        let known = self.classes.iter().find(|known| name_of(&known.metadata) == class);
        if class.is_empty() {
            let message = format!("{name} has no storage class: it waits for a volume that somebody makes by hand");
            links.push(link("pvc", name, "NoClass", message));
        } else if known.is_none() && !self.classes.is_empty() {
            links.push(link(
                "storageclass",
                class,
                "ClassMissing",
                format!("there is no storage class {class}"),
            ));
        } else if let Some(said) = self.last_warning("PersistentVolumeClaim", name) {
            links.push(said);
        } else if self.waits_for_consumer(claim) {
            links.push(link(
                "pvc",
                name,
                "WaitForFirstConsumer",
                format!("{name} gets a volume when its pod has a node"),
            ));
            links.extend(self.behind_consumers(name, now, seen));
        } else if known.is_some() {
            let node = selected_node(claim).map(|node| format!(" on {node}"));
            let message = format!(
                "{name} waits for the provisioner of {class} to make its volume{}",
                node.unwrap_or_default()
            );
            links.push(link("pvc", name, "Provisioning", message));
        }
        links
    }

    /// Whether a claim gets its volume only after its pod has been placed, and it has not been.
    fn waits_for_consumer(&self, claim: &PersistentVolumeClaim) -> bool {
        let spec = claim.spec.as_ref();
        let class = spec.and_then(|spec| spec.storage_class_name.as_deref());
        let mut named = self
            .classes
            .iter()
            .filter(|known| class == Some(name_of(&known.metadata)));
        let is_late = |class: &StorageClass| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        phase.unwrap_or("Pending") == "Pending"
            && !is_terminating(&claim.metadata)
            && selected_node(claim).is_none()
            && self
                .last_warning("PersistentVolumeClaim", name_of(&claim.metadata))
                .is_none()
            && named.any(is_late)
    }

    /// What keeps the pods that use a claim from having a node, or from being there.
    fn behind_consumers(&self, claim: &str, now: Timestamp, seen: &mut BTreeSet<String>) -> Vec<Link> {
        let mut users = self
            .pods
            .iter()
            .filter(|pod| claims_of(pod).any(|used| used == claim))
            .peekable();
        if users.peek().is_some() {
            let chains = users.map(|pod| self.pod_links(pod, now, seen));
            return chains.into_iter().find(|links| !links.is_empty()).unwrap_or_default();
        }
        let Some(pod) = self.pod_of_claim(claim) else {
            return vec![link("pvc", claim, "NoConsumer", format!("no pod uses {claim}"))];
        };
        let first = of_pod(self, &pod, now).unwrap_or_default().into_iter().next();
        first.map(|finding| finding.chain).unwrap_or_default()
    }

    /// The pod that a claim is made for, whether it is there or not.
    fn pod_of_claim(&self, claim: &str) -> Option<String> {
        let ordinal = parse_name(claim)?.1?;
        let makes = |set: &StatefulSet| claim_names(set, ordinal).iter().any(|(_, name)| name == claim);
        let (set, _) = self.sets.iter().find(|(set, _)| makes(set))?;
        Some(statefulset::pod_name(name_of(&set.metadata), ordinal))
    }

    /// The last warning about an object.
    fn last_warning(&self, kind: &str, name: &str) -> Option<Link> {
        let about = |event: &&Event| {
            event.involved_object.kind.as_deref() == Some(kind) && event.involved_object.name.as_deref() == Some(name)
        };
        let warnings = self
            .events
            .iter()
            .filter(about)
            .filter(|event| event.type_.as_deref() == Some("Warning"));
        let last = warnings.max_by_key(|event| time_of(event))?;
        let kind = if kind == "Pod" { "pod" } else { "pvc" };
        let (reason, message) = (last.reason.as_deref()?, last.message.as_deref().unwrap_or_default());
        Some(link(kind, name, reason, message))
    }
}

fn time_of(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| Some(series.last_observed_time.as_ref()?.0));
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    series.or(last).or(event.event_time.as_ref().map(|time| time.0))
}

/// The node that a claim's volume is to be made for.
fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotations = claim.metadata.annotations.as_ref()?;
    Some(annotations.get(SELECTED_NODE)?.as_str())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}
