//! Claims that are filled from snapshots of the driver of local disks. Who makes VolumeSnapshots elsewhere (upstream's
//! snapshot controller with the external-snapshotter) is the test itself here: it has the driver make a snapshot, and
//! writes down what they would.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime};
use csi::v1;
use csi::v1::controller_client::ControllerClient;
use serde_json::{Value, json};
use std::path::Path;

const GROUP: &str = "snapshot.storage.k8s.io";

/// A claim of a class, and a pod that has it.
fn claim_and_pod(name: &str, source: &Value) -> String {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "disks",
        "resources": {"requests": {"storage": "32Mi"}},
    });
    if !source.is_null() {
        spec["dataSource"] = source.clone();
    }
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}],
        "containers": [{"name": "main", "image": "steadfast.local/web:1",
            "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
    }});
    list(&[claim, pod])
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// The kinds of snapshots, as far as they matter here.
fn kinds() -> String {
    let kind = |kind: &str, scope: &str| {
        let plural = format!("{}s", kind.to_lowercase());
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{GROUP}"),
                "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
            "spec": {"group": GROUP, "scope": scope, "names": {"plural": plural, "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        })
    };
    list(&[
        kind("VolumeSnapshot", "Namespaced"),
        kind("VolumeSnapshotContent", "Cluster"),
    ])
}

#[test]
fn a_claim_is_filled_from_a_snapshot() {
    run().unwrap();
}

fn run() -> anyhow::Result<()> {
    let cluster = Cluster::start(Runtime::Embedded)?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("create -f -", &kinds())?;
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "disks"},
        "provisioner": "local.csi.steadfast.io", "volumeBindingMode": "WaitForFirstConsumer",
        "parameters": {"fs": "directory"}});
    kubectl.run_with("create -f -", &class.to_string())?;
    kubectl.run_with("create -f -", &claim_and_pod("first", &Value::Null))?;
    kubectl.run("wait --for=condition=Ready pod/first --timeout=120s")?;
    kubectl.shell("first", "echo then > /data/file")?;

    let volume = kubectl.get("pvc first")?["spec"]["volumeName"].clone();
    let volume = kubectl.get(&format!("pv {}", volume.as_str().unwrap_or_default()))?;
    let handle = volume["spec"]["csi"]["volumeHandle"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let snapshot_id = snapshot(&cluster.data_dir().join("csi.sock"), &handle)?;
    kubectl.shell("first", "echo now > /data/file")?;

    // A claim may come before its snapshot is ready.
    let source = json!({"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": "s"});
    kubectl.run_with("create -f -", &claim_and_pod("second", &source))?;
    let snapshot = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshot", "metadata": {"name": "s"},
        "status": {"readyToUse": true, "restoreSize": "32Mi", "boundVolumeSnapshotContentName": "c"}});
    kubectl.run_with("create -f -", &snapshot.to_string())?;
    let uid = kubectl.get("volumesnapshot s")?["metadata"]["uid"].clone();
    let content = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshotContent", "metadata": {"name": "c"},
        "spec": {"driver": "local.csi.steadfast.io", "volumeSnapshotRef": {"uid": uid}},
        "status": {"snapshotHandle": snapshot_id}});
    kubectl.run_with("create -f -", &content.to_string())?;
    kubectl.run("wait --for=condition=Ready pod/second --timeout=120s")?;
    let told = kubectl.shell("second", "cat /data/file")?;
    ensure!(told == "then\n", "{told}");
    Ok(())
}

/// Has the driver make a snapshot; what it calls it.
fn snapshot(socket: &Path, volume: &str) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = v1::CreateSnapshotRequest {
        source_volume_id: volume.to_owned(),
        name: "snapshot-1".to_owned(),
        ..v1::CreateSnapshotRequest::default()
    };
    let made = runtime.block_on(async {
        let mut driver = ControllerClient::new(csi::connect(socket));
        driver.create_snapshot(request).await
    })?;
    let snapshot = made
        .into_inner()
        .snapshot
        .context("the driver's answer has no snapshot")?;
    ensure!(snapshot.ready_to_use, "{snapshot:?}");
    Ok(snapshot.snapshot_id)
}
