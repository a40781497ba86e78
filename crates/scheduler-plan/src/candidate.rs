//! A pod as the scheduler sees it: all that filters and scores ask about, parsed once.

use api::fit::{HostPort, host_ports};
use api::k8s::api::core::v1::{
    Affinity, NodeSelector, Pod, PodAffinityTerm, PodSpec, PreferredSchedulingTerm, Toleration,
    TopologySpreadConstraint,
};
use api::k8s::apimachinery::pkg::apis::meta::v1::LabelSelector as SelectorObject;
use api::pod_resources::{Resources, requests_of};
use api::selector::{LabelSelector, Operator, Requirement};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Namespace and name of an object.
pub type Key = (String, String);

/// A pod that wants a node, or already has one and takes part in others' fate.
#[derive(Clone, Debug, Default)]
pub struct Candidate {
    /// Namespace and name.
    pub key: Key,
    /// The pod's uid.
    pub uid: String,
    /// Its labels, as an object or null.
    pub labels: Value,
    /// The uid of its controller; siblings are spread.
    pub controller: Option<String>,
    /// Whether its deletion was asked for.
    pub is_terminating: bool,
    /// Higher goes first.
    pub priority: i32,
    /// Whether less important pods may be made to leave for it.
    pub may_preempt: bool,
    /// When it was started, in seconds since 1970; a pod that was not counts as the youngest.
    pub started_at: i64,
    /// What it needs of a node.
    pub requests: Resources,
    /// What it weighs when nodes are compared: its requests, and something for those that ask for nothing.
    pub footprint: Resources,
    /// What it puts up with.
    pub tolerations: Vec<Toleration>,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity.
    pub node_affinity: Option<NodeSelector>,
    /// Preferred node affinity.
    pub preferred_nodes: Vec<PreferredSchedulingTerm>,
    /// The node it insists on.
    pub node_name: Option<String>,
    /// Ports of the node: address (empty for all), protocol, number.
    pub host_ports: Vec<HostPort>,
    /// Claims it mounts: (name, whether the claim must be controlled by this pod because it is of an ephemeral volume).
    pub claims: Vec<(String, bool)>,
    /// Pods it must be near to.
    pub affinity: Vec<PodTerm>,
    /// Pods it must not be near to.
    pub anti_affinity: Vec<PodTerm>,
    /// Pods it would like to be near to (positive weight) or far from (negative).
    pub preferred_pods: Vec<(i64, PodTerm)>,
    /// Topologies it is spread over.
    pub spread: Vec<Spread>,
}

/// Which pods, and what being near means.
#[derive(Clone, Debug)]
pub struct PodTerm {
    /// The node label whose equal values mean near.
    pub topology_key: String,
    pods: LabelSelector,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
}

/// A topology spread constraint.
#[derive(Clone, Debug)]
pub struct Spread {
    /// The node label whose values are the domains.
    pub topology_key: String,
    /// How uneven the domains may become.
    pub skew_max: i64,
    /// Fewer domains than this count as if one were empty.
    pub domains_min: usize,
    /// Whether it is a must (`DoNotSchedule`) or a wish.
    pub is_required: bool,
    /// Whether nodes that the pod's node affinity rules out are left out of the count.
    pub honors_affinity: bool,
    /// Whether nodes whose taints are not tolerated are left out of the count.
    pub honors_taints: bool,
    /// The pods that are counted.
    pub pods: LabelSelector,
}

impl PodTerm {
    /// Whether the term means this pod; `namespace_labels` are the labels of the pod's namespace.
    pub fn matches(&self, pod: &Candidate, namespace_labels: &Value) -> bool {
        let by_name = self.namespaces.contains(&pod.key.0);
        let by_labels = || {
            self.namespace_selector
                .as_ref()
                .is_some_and(|selector| selector.matches(namespace_labels))
        };
        (by_name || by_labels()) && self.pods.matches(&pod.labels)
    }

    fn of(term: &PodAffinityTerm, namespace: &str) -> Option<Self> {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        Some(Self {
            topology_key: term.topology_key.clone(),
            // A term without a selector means no pod at all.
            pods: selector_of(term.label_selector.as_ref()?)?,
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().and_then(selector_of),
        })
    }
}

impl Spread {
    fn of(constraint: &TopologySpreadConstraint, pod_labels: &Value) -> Option<Self> {
        let mut pods = selector_of(constraint.label_selector.as_ref()?)?;
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = pod_labels.get(key).and_then(Value::as_str) {
                let values = vec![value.to_owned()];
                pods.requirements.push(Requirement {
                    key: key.clone(),
                    operator: Operator::In,
                    values,
                });
            }
        }
        Some(Self {
            topology_key: constraint.topology_key.clone(),
            skew_max: i64::from(constraint.max_skew),
            domains_min: constraint
                .min_domains
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(1),
            is_required: constraint.when_unsatisfiable == "DoNotSchedule",
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            pods,
        })
    }
}

impl Candidate {
    /// Reads a pod.
    pub fn of(pod: &Pod) -> Self {
        let key = (
            pod.metadata.namespace.clone().unwrap_or_default(),
            pod.metadata.name.clone().unwrap_or_default(),
        );
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        let mut candidate = Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            labels: json!(pod.metadata.labels),
            controller: owners
                .iter()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| owner.uid.clone()),
            is_terminating: pod.metadata.deletion_timestamp.is_some(),
            requests: requests_of(pod),
            started_at: started_at(pod),
            key,
            ..Self::default()
        };
        candidate.footprint = candidate.requests.footprint();
        if let Some(spec) = &pod.spec {
            candidate.read_spec(spec);
        }
        candidate
    }

    fn read_spec(&mut self, spec: &PodSpec) {
        self.priority = spec.priority.unwrap_or(0);
        self.may_preempt = spec.preemption_policy.as_deref() != Some("Never");
        self.tolerations = spec.tolerations.clone().unwrap_or_default();
        self.node_selector = spec.node_selector.clone().unwrap_or_default();
        self.node_name = spec.node_name.clone().filter(|name| !name.is_empty());
        self.host_ports = host_ports(spec);
        self.claims = claims(spec, &self.key.1);
        let spread = spec.topology_spread_constraints.iter().flatten();
        self.spread = spread
            .filter_map(|constraint| Spread::of(constraint, &self.labels))
            .collect();
        if let Some(affinity) = &spec.affinity {
            self.read_affinity(affinity);
        }
    }

    fn read_affinity(&mut self, affinity: &Affinity) {
        let namespace = self.key.0.clone();
        let terms = |terms: &Option<Vec<PodAffinityTerm>>| {
            terms
                .iter()
                .flatten()
                .filter_map(|term| PodTerm::of(term, &namespace))
                .collect::<Vec<_>>()
        };
        if let Some(nodes) = &affinity.node_affinity {
            self.node_affinity = nodes.required_during_scheduling_ignored_during_execution.clone();
            self.preferred_nodes = nodes
                .preferred_during_scheduling_ignored_during_execution
                .clone()
                .unwrap_or_default();
        }
        if let Some(near) = &affinity.pod_affinity {
            self.affinity = terms(&near.required_during_scheduling_ignored_during_execution);
            for wish in near
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
            {
                let term = PodTerm::of(&wish.pod_affinity_term, &namespace);
                self.preferred_pods
                    .extend(term.map(|term| (i64::from(wish.weight), term)));
            }
        }
        if let Some(far) = &affinity.pod_anti_affinity {
            self.anti_affinity = terms(&far.required_during_scheduling_ignored_during_execution);
            for wish in far
                .preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
            {
                let term = PodTerm::of(&wish.pod_affinity_term, &namespace);
                self.preferred_pods
                    .extend(term.map(|term| (-i64::from(wish.weight), term)));
            }
        }
    }
}

fn started_at(pod: &Pod) -> i64 {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    started.map_or(i64::MAX, |time| time.0.as_second())
}

pub(crate) fn selector_of(selector: &SelectorObject) -> Option<LabelSelector> {
    LabelSelector::from_object(&json!(selector)).ok()
}

fn claims(spec: &PodSpec, pod_name: &str) -> Vec<(String, bool)> {
    let mut claims = Vec::new();
    for volume in spec.volumes.iter().flatten() {
        if let Some(source) = &volume.persistent_volume_claim {
            claims.push((source.claim_name.clone(), false));
        } else if volume.ephemeral.is_some() {
            claims.push((format!("{pod_name}-{}", volume.name), true));
        }
    }
    claims
}
