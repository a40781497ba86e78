//! Whether a node takes a pod that was bound to it: schedulers may be wrong, stale, or passed by.

use api::fit::{self, NodeIdentity};
use api::k8s::api::core::v1::Pod;
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use api::pod_resources::{Resources, requests_of};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What upstream checks on nodes, in its order, and the reason it gives; resources that the node does not know are not its business.
const CHECKED: [(&str, &str); 3] = [
    ("cpu", "OutOfcpu"),
    ("memory", "OutOfmemory"),
    ("ephemeral-storage", "OutOfephemeral-storage"),
];

/// The reason when another pod has a port of the node that this one wants.
pub const NODE_PORTS: &str = "NodePorts";

/// On pods: they are for nodes of this operating system.
const OS_LABEL: &str = "kubernetes.io/os";

/// The operating system of all nodes.
const OS: &str = "linux";

const NANOS: i128 = 1_000_000_000;

/// Why a pod cannot be on this node beside `others`, which are: reason and message, in upstream's words.
///
/// # Source
/// The kubelet's admission of pods, `pkg/kubelet/lifecycle/predicate.go` in Kubernetes.
pub fn unfit(
    pod: &Pod,
    allocatable: &BTreeMap<String, Quantity>,
    others: &[Arc<Pod>],
) -> Option<(&'static str, String)> {
    let foreign = foreign(pod).map(|(reason, message)| (reason, message.to_owned()));
    foreign.or_else(|| lacking(pod, allocatable, others)).or_else(|| {
        let wanted = pod.spec.as_ref().map(fit::host_ports).unwrap_or_default();
        let taken: Vec<_> = others
            .iter()
            .filter_map(|other| other.spec.as_ref())
            .flat_map(fit::host_ports)
            .collect();
        let clashes = wanted
            .iter()
            .any(|port| taken.iter().any(|other| fit::clash(port, other)));
        clashes.then(|| predicate(NODE_PORTS, "node(s) didn't have free ports for the requested pod ports"))
    })
}

/// Why a pod is for nodes of another operating system.
fn foreign(pod: &Pod) -> Option<(&'static str, &'static str)> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(OS_LABEL));
    if label.is_some_and(|os| os != OS) {
        let why = "Pod was rejected: Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Some(("PodOSSelectorNodeLabelDoesNotMatch", why));
    }
    let os = pod.spec.as_ref()?.os.as_ref();
    let why = "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS";
    os.is_some_and(|os| os.name != OS).then_some(("PodOSNotSupported", why))
}

/// Why a pod's node selector or affinity rules this node out, as [`unfit`] tells it.
pub fn unselected(pod: &Pod, node: NodeIdentity<'_>) -> Option<(&'static str, String)> {
    let spec = pod.spec.as_ref()?;
    let is_selected = fit::is_selected(spec, node);
    (!is_selected).then(|| predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"))
}

fn predicate(name: &'static str, what: &str) -> (&'static str, String) {
    let message = format!("Pod was rejected: Predicate {name} failed: {what}");
    (name, message)
}

fn lacking(pod: &Pod, allocatable: &BTreeMap<String, Quantity>, others: &[Arc<Pod>]) -> Option<(&'static str, String)> {
    let capacity = Resources::of(Some(allocatable));
    let tell = |name: &str, requested: i128, used: i128, capacity: i128| {
        format!(
            "Pod was rejected: Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        )
    };
    let count = i128::try_from(others.len()).unwrap_or(i128::MAX);
    let pods_max = capacity.get("pods") / NANOS;
    if count >= pods_max {
        return Some(("OutOfpods", tell("pods", 1, count, pods_max)));
    }
    let wanted = requests_of(pod);
    let mut used = Resources::default();
    for other in others {
        used.add(&requests_of(other));
    }
    CHECKED.iter().find_map(|(name, reason)| {
        let (wanted, used, capacity) = (wanted.get(name), used.get(name), capacity.get(name));
        // Processors are told in thousandths, the rest in bytes.
        let unit = if *name == "cpu" { NANOS / 1000 } else { NANOS };
        let is_lacking = wanted > 0 && wanted + used > capacity;
        is_lacking.then(|| (*reason, tell(name, wanted / unit, used / unit, capacity / unit)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn asks(requests: Value) -> Pod {
        pod(json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
    }

    fn listens(ports: Value) -> Pod {
        pod(json!({"containers": [{"name": "c", "ports": ports}]}))
    }

    fn check(new: &Pod, others: &[&Pod], reason: Option<&str>) {
        let allocatable = [("cpu", "2"), ("memory", "1Gi"), ("pods", "2")];
        let allocatable = allocatable.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
        let others: Vec<_> = others.iter().map(|pod| Arc::new((*pod).clone())).collect();
        let told = unfit(new, &allocatable.into(), &others);
        assert_eq!(told.as_ref().map(|(reason, _)| *reason), reason, "{told:?}");
    }

    #[test]
    fn pods_for_other_systems_are_refused() {
        check(&pod(json!({"containers": [], "os": {"name": "linux"}})), &[], None);
        let windows = pod(json!({"containers": [], "os": {"name": "windows"}}));
        check(&windows, &[], Some("PodOSNotSupported"));
        let labelled = |os: &str| Pod {
            metadata: serde_json::from_value(json!({"labels": {OS_LABEL: os}})).unwrap(),
            ..Pod::default()
        };
        check(&labelled("linux"), &[], None);
        check(&labelled("windows"), &[], Some("PodOSSelectorNodeLabelDoesNotMatch"));
    }

    #[test]
    fn pods_that_do_not_fit_are_refused() {
        let big = asks(json!({"cpu": "1500m"}));
        check(&big, &[], None);
        check(&big, &[&big], Some("OutOfcpu"));
        check(&asks(json!({"memory": "2Gi"})), &[], Some("OutOfmemory"));
        check(&asks(json!({"example.com/unknown": "2"})), &[], None);
        let small = asks(json!({}));
        check(&small, &[&small, &small], Some("OutOfpods"));
        // Others may have been promised more than there is; who asks for nothing may still come.
        check(&small, &[&asks(json!({"cpu": "3"}))], None);
    }

    #[test]
    fn two_pods_cannot_have_one_port() {
        let web = listens(json!([{"containerPort": 80, "hostPort": 80}]));
        check(&web, &[], None);
        check(&web, &[&web], Some("NodePorts"));
        check(
            &listens(json!([{"containerPort": 80, "hostPort": 80, "protocol": "UDP"}])),
            &[&web],
            None,
        );
    }

    #[test]
    fn a_node_that_is_not_meant_is_said_so() {
        let labels = [("zone".to_owned(), "a".to_owned())].into();
        let node = NodeIdentity {
            name: "n",
            labels: &labels,
        };
        assert_eq!(unselected(&pod(json!({"containers": []})), node), None);
        let elsewhere = pod(json!({"containers": [], "nodeSelector": {"zone": "b"}}));
        assert_eq!(
            unselected(&elsewhere, node).unwrap().1,
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        );
    }
}
