//! The Node object: made at the start, its status kept true.

use crate::csi::attachment;
use crate::events::Severity;
use crate::images;
use crate::run::Node;
use crate::runtime::timed;
use api::k8s::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node as NodeObject, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec,
    NodeStatus, NodeSystemInfo,
};
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks at what the status says.
const PERIOD: Duration = Duration::from_secs(10);
/// An unchanged status is written again after this time, as kubelets do.
const REPORT_S: i64 = 300;
/// Between two tries to register.
const RETRY: Duration = Duration::from_millis(500);
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(10);
/// More images are not listed.
const IMAGES_MAX: usize = 50;

/// The labels that every node has, and the configured ones.
pub(crate) fn labels(node_name: &str, more: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let arch = architecture();
    let own = [
        ("kubernetes.io/hostname", node_name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ];
    own.into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .chain(more.clone())
        .collect()
}

/// The processor's name as Go, and so Kubernetes, has it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Makes or takes over the Node object; retried until it is there.
pub(crate) async fn register(node: &Node, shutdown: &CancellationToken) -> Option<NodeObject> {
    loop {
        match try_register(node).await {
            Ok(object) => return Some(object),
            Err(error) => tracing::warn!(%error, "the node could not be registered, trying again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn try_register(node: &Node) -> Result<NodeObject, kube::Error> {
    let nodes: Api<NodeObject> = Api::all(node.client.clone());
    let name = &node.config.node_name;
    let annotation = (
        "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
        "true".to_owned(),
    );
    let object = NodeObject {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(node.labels.clone()),
            annotations: Some([annotation].into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: node.config.pod_cidrs.first().cloned(),
            pod_cidrs: Some(node.config.pod_cidrs.clone()).filter(|cidrs| !cidrs.is_empty()),
            ..NodeSpec::default()
        }),
        status: Some(status(node, None).await),
    };
    let known = match nodes.create(&PostParams::default(), &object).await {
        Ok(created) => {
            tracing::info!(node = name, "registered the node");
            created
        }
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            let labels = json!({"metadata": {"labels": node.labels}});
            let known = nodes
                .patch(name, &PatchParams::default(), &Patch::Merge(labels))
                .await?;
            tell_pod_ranges(node, &nodes, known).await?
        }
        Err(error) => return Err(error),
    };
    node.recorder
        .node(&known, Severity::Normal, "Starting", "Starting kubelet.");
    report(node, &nodes, &known).await
}

/// The ranges of pods' addresses are told once, as the API has it.
async fn tell_pod_ranges(node: &Node, nodes: &Api<NodeObject>, known: NodeObject) -> Result<NodeObject, kube::Error> {
    let cidrs = &node.config.pod_cidrs;
    let is_told = known.spec.as_ref().is_some_and(|spec| spec.pod_cidrs.is_some());
    if is_told || cidrs.is_empty() {
        return Ok(known);
    }
    let ranges = json!({"spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs}});
    let name = &node.config.node_name;
    match nodes.patch(name, &PatchParams::default(), &Patch::Merge(ranges)).await {
        // Others may have told other ranges meanwhile, or forbid that this node tells any: it does its work without.
        Err(kube::Error::Api(answer)) => {
            tracing::warn!(
                error = answer.message,
                ?cidrs,
                "the ranges of pods' addresses could not be told"
            );
            Ok(known)
        }
        told => told,
    }
}

/// Writes the status; the object then.
async fn report(node: &Node, nodes: &Api<NodeObject>, known: &NodeObject) -> Result<NodeObject, kube::Error> {
    let status = status(node, known.status.as_ref()).await;
    let was_ready = ready_condition(known.status.as_ref()).map(|c| c.status.clone());
    let is_ready = ready_condition(Some(&status)).map(|c| c.status.clone());
    if was_ready != is_ready {
        let (reason, what) = match is_ready.as_deref() {
            Some("True") => ("NodeReady", "NodeReady"),
            _ => ("NodeNotReady", "NodeNotReady"),
        };
        let told = format!("Node {} status is now: {what}", node.config.node_name);
        node.recorder.node(known, Severity::Normal, reason, told);
    }
    let mut value = serde_json::to_value(&status).unwrap_or_default();
    if let Some(Value::Array(addresses)) = value.get_mut("addresses") {
        addresses.insert(0, json!({"$patch": "replace"}));
    }
    let had = known.status.as_ref().and_then(|status| status.allocatable.as_ref());
    remove_absent(&mut value["allocatable"], had);
    let patch = Patch::Strategic(json!({"status": value}));
    nodes
        .patch_status(&node.config.node_name, &PatchParams::default(), &patch)
        .await
}

fn ready_condition(status: Option<&NodeStatus>) -> Option<&NodeCondition> {
    status?.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready")
}

/// Keeps the status true until shutdown.
pub(crate) async fn run(node: Arc<Node>, mut known: NodeObject, shutdown: CancellationToken) {
    let nodes: Api<NodeObject> = Api::all(node.client.clone());
    let mut reported_at = Timestamp::now();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        // Others write the status, too: what lost this node for a while has called it Unknown.
        match nodes.get(&node.config.node_name).await {
            Ok(object) => known = object,
            Err(error) => tracing::debug!(%error, "the node could not be read"),
        }
        attachment::keep_told(&node, known.status.as_ref()).await;
        let fresh = status(&node, known.status.as_ref()).await;
        let due = Timestamp::now().duration_since(reported_at).as_secs() >= REPORT_S;
        if !due && known.status.as_ref().is_some_and(|old| same_but_times(old, &fresh)) {
            continue;
        }
        match report(&node, &nodes, &known).await {
            Ok(object) => {
                known = object;
                reported_at = Timestamp::now();
            }
            // Somebody deleted the node while it lives.
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                if let Some(object) = register(&node, &shutdown).await {
                    known = object;
                }
            }
            Err(error) => tracing::warn!(%error, "the node's status could not be written, trying again"),
        }
    }
}

fn same_but_times(old: &NodeStatus, new: &NodeStatus) -> bool {
    let essence = |status: &NodeStatus| {
        let mut value = serde_json::to_value(status).unwrap_or_default();
        let conditions = value.get_mut("conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
            condition.remove("lastHeartbeatTime");
        }
        [
            "conditions",
            "capacity",
            "allocatable",
            "addresses",
            "nodeInfo",
            "daemonEndpoints",
            "images",
            "runtimeHandlers",
            "features",
        ]
        .map(|name| value.get(name).cloned())
    };
    essence(old) == essence(new)
}

/// A strategic merge keeps what is not mentioned: mentions the resources that were taken from the node.
fn remove_absent(allocatable: &mut Value, had: Option<&BTreeMap<String, Quantity>>) {
    for name in had.into_iter().flat_map(BTreeMap::keys) {
        if allocatable.get(name).is_none() {
            allocatable[name] = Value::Null;
        }
    }
}

/// Resources that others say this node has (`example.com/dongle`) stay, and pods may use all of them, as on a kubelet's
/// node.
fn add_extended(
    capacity: &mut BTreeMap<String, Quantity>,
    allocatable: &mut BTreeMap<String, Quantity>,
    old: Option<&NodeStatus>,
) {
    for (name, amount) in old.and_then(|status| status.capacity.as_ref()).into_iter().flatten() {
        if !capacity.contains_key(name) {
            capacity.insert(name.clone(), amount.clone());
            allocatable.insert(name.clone(), amount.clone());
        }
    }
}

fn addresses(node: &Node) -> Vec<NodeAddress> {
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    let own = node.config.node_addresses().into_iter();
    own.map(|ip| address("InternalIP", ip))
        .chain([address("Hostname", node.config.node_name.clone())])
        .collect()
}

async fn status(node: &Node, old: Option<&NodeStatus>) -> NodeStatus {
    let mut capacity = node.machine.capacity(&node.config);
    let mut allocatable = node.machine.allocatable(&node.config);
    add_extended(&mut capacity, &mut allocatable, old);
    NodeStatus {
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        addresses: Some(addresses(node)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(node.kubelet_port),
            }),
        }),
        node_info: Some(node_info(node)),
        conditions: Some(conditions(node, old).await),
        images: Some(list_images(node).await),
        runtime_handlers: node.abilities.handlers.clone(),
        features: node.abilities.features.clone(),
        ..NodeStatus::default()
    }
}

fn node_info(node: &Node) -> NodeSystemInfo {
    let machine = &node.machine;
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: node.runtime_version.clone(),
        kernel_version: machine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: node.config.version.clone(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: machine.os_image.clone(),
        swap: None,
        system_uuid: machine.system_uuid.clone(),
    }
}

async fn conditions(node: &Node, old: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let (ready, reason, message) = match runtime_trouble(node).await {
        None => ("True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(why) => ("False", "KubeletNotReady", why),
    };
    let now = Timestamp::now();
    let felt = node.pressure.lately(now);
    let either = |type_, is_felt, bad: (_, &str), good: (_, &str)| {
        let (status, (reason, what)) = if is_felt { ("True", bad) } else { ("False", good) };
        (type_, status, reason, format!("kubelet has {what}"))
    };
    let all = [
        either(
            "MemoryPressure",
            felt.memory,
            ("KubeletHasInsufficientMemory", "insufficient memory available"),
            ("KubeletHasSufficientMemory", "sufficient memory available"),
        ),
        either(
            "DiskPressure",
            felt.disk,
            ("KubeletHasDiskPressure", "disk pressure"),
            ("KubeletHasNoDiskPressure", "no disk pressure"),
        ),
        either(
            "PIDPressure",
            felt.pids,
            ("KubeletHasInsufficientPID", "insufficient PID available"),
            ("KubeletHasSufficientPID", "sufficient PID available"),
        ),
        ("Ready", ready, reason, message),
    ];
    let seconds = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let old = old.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    all.into_iter()
        .map(|(type_, status, reason, message)| {
            let same = old.iter().find(|c| c.type_ == type_ && c.status == status);
            NodeCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_heartbeat_time: Some(seconds.clone()),
                last_transition_time: same
                    .and_then(|c| c.last_transition_time.clone())
                    .or(Some(seconds.clone())),
            }
        })
        .collect()
}

/// What keeps the runtime from running pods.
async fn runtime_trouble(node: &Node) -> Option<String> {
    let request = timed(cri::v1::StatusRequest { verbose: false }, RUNTIME_TIMEOUT);
    let status = match node.runtime.containers.clone().status(request).await {
        Ok(answer) => answer.into_inner().status.unwrap_or_default(),
        Err(status) => return Some(format!("container runtime is down: {}", images::message(&status))),
    };
    let bad = status
        .conditions
        .into_iter()
        .find(|c| !c.status && matches!(c.r#type.as_str(), "RuntimeReady" | "NetworkReady"))?;
    let what = if bad.r#type == "NetworkReady" {
        "container runtime network"
    } else {
        "container runtime"
    };
    Some(format!(
        "{what} not ready: {}=false reason:{} message:{}",
        bad.r#type, bad.reason, bad.message
    ))
}

async fn list_images(node: &Node) -> Vec<ContainerImage> {
    let request = timed(cri::v1::ListImagesRequest::default(), RUNTIME_TIMEOUT);
    let Ok(answer) = node.runtime.images.clone().list_images(request).await else {
        return Vec::new();
    };
    let mut images = answer.into_inner().images;
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let names = |image: cri::v1::Image| ContainerImage {
        names: Some(image.repo_digests.into_iter().chain(image.repo_tags).collect()),
        size_bytes: i64::try_from(image.size).ok(),
    };
    images.into_iter().take(IMAGES_MAX).map(names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_that_others_add_stay_and_may_be_used() {
        let amounts = |list: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
            list.iter()
                .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
                .collect()
        };
        let old = NodeStatus {
            capacity: Some(amounts(&[("cpu", "1"), ("example.com/dongle", "5")])),
            allocatable: Some(amounts(&[("cpu", "1")])),
            ..NodeStatus::default()
        };
        let (mut capacity, mut allocatable) = (amounts(&[("cpu", "2")]), amounts(&[("cpu", "1500m")]));
        add_extended(&mut capacity, &mut allocatable, Some(&old));
        assert_eq!(capacity, amounts(&[("cpu", "2"), ("example.com/dongle", "5")]));
        assert_eq!(allocatable, amounts(&[("cpu", "1500m"), ("example.com/dongle", "5")]));

        let mut without = json!({"cpu": "1500m"});
        remove_absent(&mut without, Some(&allocatable));
        assert_eq!(without, json!({"cpu": "1500m", "example.com/dongle": null}));
    }
}
