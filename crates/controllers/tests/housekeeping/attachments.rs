//! Volumes of CSI drivers are attached to nodes. The test is their drivers and the agents of the nodes.

use api::k8s::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::cluster::{Cluster, create, delete, patch, patch_status, until, until_gone};

const DRIVER: &str = "disk.example.com";
const UNIQUE: &str = "kubernetes.io/csi/disk.example.com^h";
/// printf 'hdisk.example.comn1' | sha256sum
const ON_N1: &str = "csi-78d233004cda657bb5d1652c40a60ab81165be76abb7f0a1e4ebc14c54ece2fe";
/// The same of `n2`.
const ON_N2: &str = "csi-ec4cdc973fa7fe50a2ba78f1e6003929a3d7632bf49ebfc2e4def915e8a5a76e";

async fn node(cluster: &Cluster, name: &str) {
    let node = json!({"metadata": {"name": name,
        "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}}});
    let nodes = cluster.all::<Node>();
    create(&nodes, node).await;
    patch_status(
        &nodes,
        name,
        json!({"conditions": [{"type": "Ready", "status": "True"}]}),
    )
    .await;
}

/// A claim, bound to a volume of the driver.
async fn volume(cluster: &Cluster) {
    let claim = json!({"metadata": {"name": "data"}, "spec": {"storageClassName": "", "volumeName": "pv",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    create(&cluster.of::<PersistentVolumeClaim>(), claim).await;
    let volume = json!({"metadata": {"name": "pv"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "csi": {"driver": DRIVER, "volumeHandle": "h"}}});
    create(&cluster.all::<PersistentVolume>(), volume).await;
}

fn on(node: &str) -> Value {
    json!({"spec": {"nodeName": node, "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}})
}

fn lists(node: Option<&Node>, wanted: bool) -> bool {
    let status = node.and_then(|node| node.status.as_ref());
    let mut all = status
        .into_iter()
        .flat_map(|status| status.volumes_attached.iter().flatten());
    all.any(|volume| volume.name == UNIQUE) == wanted
}

/// What the driver's attacher does.
async fn attach(attachments: &Api<VolumeAttachment>, name: &str) {
    until(attachments, name, |object: Option<&VolumeAttachment>| object.is_some()).await;
    patch(
        attachments,
        name,
        json!({"metadata": {"finalizers": ["external-attacher/x"]}}),
    )
    .await;
    patch_status(attachments, name, json!({"attached": true})).await;
}

async fn finish_detaching(attachments: &Api<VolumeAttachment>, name: &str) {
    until(attachments, name, |object: Option<&VolumeAttachment>| {
        object.is_some_and(|object| object.metadata.deletion_timestamp.is_some())
    })
    .await;
    patch(attachments, name, json!({"metadata": {"finalizers": null}})).await;
    until_gone(attachments, name).await;
}

fn at_once() -> DeleteParams {
    DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    }
}

#[tokio::test]
async fn a_volume_goes_from_node_to_node_and_is_never_on_two() {
    let cluster = Cluster::start().await;
    let (nodes, attachments, pods) = (cluster.all::<Node>(), cluster.all(), cluster.of::<Pod>());
    node(&cluster, "n1").await;
    node(&cluster, "n2").await;
    volume(&cluster).await;
    cluster.pod("first", on("n1"), json!({"phase": "Running"})).await;
    attach(&attachments, ON_N1).await;
    until(&nodes, "n1", |node: Option<&Node>| lists(node, true)).await;
    let attached = "AttachVolume.Attach succeeded for volume \"pv\" ";
    cluster.until_event("SuccessfulAttachVolume", attached).await;
    let spec = attachments.get(ON_N1).await.unwrap().spec;
    let source = spec.source.persistent_volume_name.as_deref();
    assert_eq!((spec.attacher.as_str(), source), (DRIVER, Some("pv")));

    // Its agent says that it uses it; a pod elsewhere waits.
    patch_status(&nodes, "n1", json!({"volumesInUse": [UNIQUE]})).await;
    cluster.pod("second", on("n2"), json!({"phase": "Pending"})).await;
    let in_the_way = "Multi-Attach error for volume \"pv\" Volume is already used by pod(s) first";
    cluster.until_event("FailedAttachVolume", in_the_way).await;
    assert!(attachments.get_opt(ON_N2).await.unwrap().is_none());

    // Nobody needs it any more, but it is still mounted.
    delete(&pods, "first", &at_once()).await;
    cluster.pod("third", on("n2"), json!({"phase": "Pending"})).await;
    let still = "Multi-Attach error for volume \"pv\" Volume is already exclusively attached to one node";
    cluster.until_event("FailedAttachVolume", still).await;
    let known: VolumeAttachment = attachments.get(ON_N1).await.unwrap();
    assert!(known.metadata.deletion_timestamp.is_none(), "it is in use");
    assert!(lists(Some(&nodes.get("n1").await.unwrap()), true));

    patch_status(&nodes, "n1", json!({"volumesInUse": null})).await;
    until(&nodes, "n1", |node: Option<&Node>| lists(node, false)).await;
    assert!(
        attachments.get_opt(ON_N2).await.unwrap().is_none(),
        "it is not off the other node yet"
    );
    finish_detaching(&attachments, ON_N1).await;
    attach(&attachments, ON_N2).await;
    until(&nodes, "n2", |node: Option<&Node>| lists(node, true)).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_dead_node_that_people_have_taken_out_of_service_loses_its_volumes() {
    let cluster = Cluster::start().await;
    let (nodes, attachments, pods) = (cluster.all::<Node>(), cluster.all(), cluster.of::<Pod>());
    node(&cluster, "n1").await;
    volume(&cluster).await;
    cluster.pod("first", on("n1"), json!({"phase": "Running"})).await;
    attach(&attachments, ON_N1).await;
    until(&nodes, "n1", |node: Option<&Node>| lists(node, true)).await;
    let unknown = json!([{"type": "Ready", "status": "Unknown"}]);
    patch_status(&nodes, "n1", json!({"volumesInUse": [UNIQUE], "conditions": unknown})).await;
    delete(&pods, "first", &at_once()).await;
    let taint = json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]);
    patch(&nodes, "n1", json!({"spec": {"taints": taint}})).await;
    finish_detaching(&attachments, ON_N1).await;
    cluster.stop().await;
}

#[tokio::test]
async fn drivers_that_need_no_attaching_get_none() {
    let cluster = Cluster::start().await;
    node(&cluster, "n1").await;
    volume(&cluster).await;
    cluster.pod("first", on("n1"), json!({"phase": "Running"})).await;
    let attachments = cluster.all::<VolumeAttachment>();
    until(&attachments, ON_N1, |object: Option<&VolumeAttachment>| {
        object.is_some()
    })
    .await;
    // It was taken for one that does until it said so.
    let driver = json!({"metadata": {"name": DRIVER}, "spec": {"attachRequired": false}});
    create(&cluster.all::<CSIDriver>(), driver).await;
    until_gone(&attachments, ON_N1).await;
    cluster.stop().await;
}
