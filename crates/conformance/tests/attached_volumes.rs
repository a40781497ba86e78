//! Volumes that are attached to a node before they are mounted, by a driver that the test plays: it serves CSI on a
//! socket as drivers do, and acts on VolumeAttachments as the external-attacher does.

#[path = "attached_volumes/driver.rs"]
mod driver;

use anyhow::ensure;
use conformance::cluster::{Cluster, Runtime};
use conformance::kubectl::Kubectl;
use driver::{DRIVER, Driver};
use serde_json::json;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);

const SET: &str = r#"
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: attached.example.com}
spec: {attachRequired: true, volumeLifecycleModes: [Persistent]}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: attached
  csi: {driver: attached.example.com, volumeHandle: disk-1}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: steadfast.local/web:1
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: attached
      resources: {requests: {storage: 1Gi}}
"#;

#[test]
fn a_set_keeps_its_attached_volume_through_restarts_of_pod_and_daemon() {
    run(&mut Cluster::start(Runtime::Embedded).unwrap(), true).unwrap();
}

#[test]
fn the_rights_that_are_shipped_for_controllers_are_enough_to_attach() {
    let mut cluster = Cluster::start_with_controllers_apart(Runtime::Embedded).unwrap();
    run(&mut cluster, false).unwrap();
    cluster.controllers().unwrap().were_refused_nothing().unwrap();
}

fn run(cluster: &mut Cluster, is_killed: bool) -> anyhow::Result<()> {
    let kubectl = cluster.kubectl();
    let registry = cluster.data_dir().join("node/plugins_registry");
    let driver = Driver::start(&registry, &cluster.kubeconfig())?;
    kubectl.run_with("create -f -", SET)?;

    // Nothing is mounted before the attacher has done its part.
    let attachment = until("there is a VolumeAttachment", || {
        Ok(kubectl.get("volumeattachments")?["items"].get(0).cloned())
    })?;
    let spec = &attachment["spec"];
    ensure!(
        spec["attacher"] == DRIVER && spec["source"]["persistentVolumeName"] == "disk",
        "{attachment}"
    );
    ensure!(!driver.has_any(), "the node did not wait");
    driver.attach();
    ready(&kubectl)?;
    kubectl.shell("db-0", "echo kept > /data/kept")?;
    let unique = format!("kubernetes.io/csi/{DRIVER}^disk-1");
    let status = kubectl.get("nodes")?["items"][0]["status"].clone();
    ensure!(status["volumesInUse"] == json!([unique]), "{status}");
    let listed = json!([{"name": unique, "devicePath": ""}]);
    ensure!(status["volumesAttached"] == listed, "{status}");

    // The daemon may die while the volume goes from one pod to the next.
    kubectl.run("delete pod db-0 --wait=false")?;
    if is_killed {
        cluster.kill()?;
        cluster.up()?;
    }
    ready(&kubectl)?;
    let kept = kubectl.shell("db-0", "cat /data/kept")?;
    ensure!(kept == "kept\n", "{kept}");

    kubectl.run("delete statefulset db --timeout=120s")?;
    until("the volume is detached and nobody says otherwise", || {
        let attachments = kubectl.get("volumeattachments")?["items"].clone();
        let status = kubectl.get("nodes")?["items"][0]["status"].clone();
        let is_left = |list: &str| status[list].as_array().is_some_and(|list| !list.is_empty());
        let is_clean = attachments == json!([]) && !is_left("volumesInUse") && !is_left("volumesAttached");
        Ok(is_clean.then_some(()))
    })?;
    ensure!(!driver.has_any(), "the driver has volumes left on the node");
    let wrong = driver.wrong();
    ensure!(
        wrong.is_empty(),
        "the driver was asked for what is not right: {wrong:?}"
    );
    Ok(())
}

fn ready(kubectl: &Kubectl) -> anyhow::Result<()> {
    until("the pod is ready", || {
        // Between two pods of the name there is none.
        let pods = kubectl.get("pods")?["items"].clone();
        let conditions = pods[0]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = conditions
            .iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True");
        let is_going = !pods[0]["metadata"]["deletionTimestamp"].is_null();
        Ok((is_ready && !is_going).then_some(()))
    })
}

fn until<T>(what: &str, look: impl Fn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
