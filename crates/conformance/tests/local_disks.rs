//! Volumes of the CSI driver of local disks in real pods: full at their size, grown while they are used, copied, as
//! devices, for one pod alone; and nothing of them is left when they are gone.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime};
use conformance::kubectl::Kubectl;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);

/// The size of a claim at first, and what it grows to: btrfs cannot be as small as ext4.
fn sizes(fs: &str) -> (&'static str, &'static str) {
    if fs == "ext4" {
        ("32Mi", "64Mi")
    } else {
        ("128Mi", "256Mi")
    }
}

/// Mebibytes that have room only when the volume has grown.
fn too_much(fs: &str) -> u32 {
    if fs == "ext4" { 40 } else { 140 }
}

#[test]
fn local_disks_in_the_embedded_runtime() {
    run(Runtime::Embedded).unwrap();
}

#[test]
fn local_disks_in_containerd() {
    run(Runtime::Containerd).unwrap();
}

fn run(runtime: Runtime) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(runtime)?;
    let kubectl = cluster.kubectl();
    for fs in ["ext4", "btrfs"] {
        kubectl.run_with("create -f -", &class_and_set(fs))?;
    }
    for fs in ["ext4", "btrfs"] {
        kubectl.run(&format!(
            "wait --for=jsonpath={{.status.readyReplicas}}=1 sts/{fs} --timeout=120s"
        ))?;
        is_full_at_its_size(&cluster, &kubectl, fs).with_context(|| format!("{fs} is full"))?;
    }
    grows_under_its_pod(&kubectl).context("btrfs grows")?;
    cluster.kill()?;
    cluster.up()?;
    grows_at_the_latest_with_the_next_pod(&kubectl).context("ext4 grows")?;
    is_copied(&kubectl).context("a clone")?;
    is_a_device(&kubectl).context("a device")?;
    goes_with_its_pod(&cluster, &kubectl).context("an ephemeral volume")?;
    kubectl.run("delete statefulsets,pods,persistentvolumeclaims --all --timeout=120s")?;
    until("no volume is left", || {
        let volumes = kubectl.get("persistentvolumes")?;
        Ok(volumes["items"].as_array().is_some_and(Vec::is_empty))
    })?;
    until("nothing is mounted or attached", || {
        Ok(traces(&cluster.data_dir().join("csi"))?.is_empty())
    })?;
    ensure!(ids(&cluster)?.is_empty(), "the driver has volumes left");
    Ok(())
}

fn class_and_set(fs: &str) -> String {
    format!(
        r#"
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {fs}}}
provisioner: steadfast.io/local
volumeBindingMode: WaitForFirstConsumer
allowVolumeExpansion: true
parameters: {{fs: {fs}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: {fs}}}
spec:
  serviceName: {fs}
  selector: {{matchLabels: {{app: {fs}}}}}
  template:
    metadata: {{labels: {{app: {fs}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      securityContext: {{fsGroup: 4321}}
      containers:
      - name: main
        image: steadfast.local/web:1
        volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec:
      accessModes: [ReadWriteOnce]
      storageClassName: {fs}
      resources: {{requests: {{storage: {size}}}}}
"#,
        size = sizes(fs).0
    )
}

fn is_full_at_its_size(cluster: &Cluster, kubectl: &Kubectl, fs: &str) -> anyhow::Result<()> {
    let pod = format!("{fs}-0");
    kubectl.shell(&pod, "echo kept > /data/kept")?;
    let much = too_much(fs);
    let script = format!("dd if=/dev/zero of=/data/big bs=1M count={much} 2>&1; rm /data/big");
    let told = kubectl.shell(&pod, &script)?;
    ensure!(told.contains("No space left on device"), "{told}");
    let claim = kubectl.get(&format!("pvc data-{fs}-0"))?;
    let volume = claim["spec"]["volumeName"].as_str().unwrap_or_default().to_owned();
    let pod = kubectl.get(&format!("pod {pod}"))?;
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let place = format!("node/pods/{uid}/volumes/kubernetes.io~csi/{volume}/mount");
    let group = std::fs::metadata(cluster.data_dir().join(place))?.gid();
    ensure!(group == 4321, "the volume belongs to group {group}");
    let volume = kubectl.get(&format!("pv {volume}"))?;
    ensure!(
        volume["spec"]["csi"]["driver"] == "local.csi.steadfast.io"
            && volume["spec"]["capacity"]["storage"] == sizes(fs).0,
        "{volume}"
    );
    Ok(())
}

fn ask_for_more(kubectl: &Kubectl, fs: &str) -> anyhow::Result<()> {
    let patch = format!(
        r#"{{"spec":{{"resources":{{"requests":{{"storage":"{}"}}}}}}}}"#,
        sizes(fs).1
    );
    kubectl.run_words(&["patch", "pvc", &format!("data-{fs}-0"), "-p", &patch])?;
    Ok(())
}

fn wait_for_more(kubectl: &Kubectl, fs: &str) -> anyhow::Result<()> {
    let (size, much) = (sizes(fs).1, too_much(fs));
    let claim = kubectl.watch(&format!("pvc data-{fs}-0"), move |_, claim| {
        claim["status"]["capacity"]["storage"] == size
    })?;
    let conditions = &claim["status"]["conditions"];
    ensure!(conditions.as_array().is_none_or(Vec::is_empty), "{conditions}");
    let script = format!("dd if=/dev/zero of=/data/big bs=1M count={much} 2>&1 && rm /data/big && cat /data/kept");
    let told = kubectl.shell(&format!("{fs}-0"), &script)?;
    ensure!(told.ends_with("kept\n"), "{told}");
    Ok(())
}

fn grows_under_its_pod(kubectl: &Kubectl) -> anyhow::Result<()> {
    let before = kubectl.get("pod btrfs-0")?;
    ask_for_more(kubectl, "btrfs")?;
    wait_for_more(kubectl, "btrfs")?;
    let after = kubectl.get("pod btrfs-0")?;
    let container = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    ensure!(container(&before) == container(&after), "the container was restarted");
    Ok(())
}

/// Where the daemon lacks CAP_SYS_RESOURCE, ext4 waits for its next mount, and the claim says so.
fn grows_at_the_latest_with_the_next_pod(kubectl: &Kubectl) -> anyhow::Result<()> {
    ask_for_more(kubectl, "ext4")?;
    let claim = kubectl.watch("pvc data-ext4-0", |_, claim| {
        let waits = claim["status"]["conditions"][0]["type"] == "FileSystemResizePending";
        waits || claim["status"]["capacity"]["storage"] == "64Mi"
    })?;
    if claim["status"]["capacity"]["storage"] != "64Mi" {
        kubectl.run("delete pod ext4-0 --timeout=120s")?;
        kubectl.watch("pod ext4-0", |_, pod| pod["status"]["phase"] == "Running")?;
    }
    wait_for_more(kubectl, "ext4")
}

const CLONE: &str = r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: clone}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: ext4
  dataSource: {kind: PersistentVolumeClaim, name: data-ext4-0}
  resources: {requests: {storage: 64Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: clone}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, persistentVolumeClaim: {claimName: clone}}]
  containers:
  - name: main
    image: steadfast.local/web:1
    volumeMounts: [{name: v, mountPath: /data}]
";

fn is_copied(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.run_with("create -f -", CLONE)?;
    kubectl.run("wait --for=condition=Ready pod/clone --timeout=120s")?;
    let told = kubectl.shell("clone", "cat /data/kept")?;
    ensure!(told == "kept\n", "{told}");
    Ok(())
}

const DEVICE: &str = r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: device}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  resources: {requests: {storage: 8Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: device}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, persistentVolumeClaim: {claimName: device}}]
  containers:
  - name: main
    image: steadfast.local/web:1
    volumeDevices: [{name: v, devicePath: /dev/inside}]
";

fn is_a_device(kubectl: &Kubectl) -> anyhow::Result<()> {
    let written = "test -b /dev/inside && echo hello | dd of=/dev/inside conv=fsync,notrunc";
    let mut told = String::new();
    for script in [written, "dd if=/dev/inside bs=6 count=1"] {
        kubectl.run_with("apply -f -", DEVICE)?;
        kubectl.run("wait --for=condition=Ready pod/device --timeout=120s")?;
        told = kubectl.shell("device", script)?;
        kubectl.run("delete pod device --timeout=120s")?;
    }
    ensure!(told == "hello\n", "the device has {told:?}");
    Ok(())
}

const INLINE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: inline}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - name: v
    csi: {driver: local.csi.steadfast.io, volumeAttributes: {fs: ext4, size: "16777216"}}
  containers:
  - name: main
    image: steadfast.local/web:1
    volumeMounts: [{name: v, mountPath: /data}]
"#;

fn goes_with_its_pod(cluster: &Cluster, kubectl: &Kubectl) -> anyhow::Result<()> {
    let before = ids(cluster)?;
    kubectl.run_with("create -f -", INLINE)?;
    kubectl.run("wait --for=condition=Ready pod/inline --timeout=120s")?;
    let told = kubectl.shell("inline", "dd if=/dev/zero of=/data/big bs=1M count=32 2>&1; true")?;
    ensure!(told.contains("No space left on device"), "{told}");
    ensure!(
        ids(cluster)?.len() == before.len() + 1,
        "the volume has no place of its own"
    );
    kubectl.run("delete pod inline --timeout=120s")?;
    until("the volume goes", || Ok(ids(cluster)? == before))
}

/// The volumes that the driver keeps.
fn ids(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(cluster.data_dir().join("csi/volumes"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            ids.push(name);
        }
    }
    ids.sort();
    Ok(ids)
}

/// Mounts and loop devices of a folder.
fn traces(folder: &Path) -> anyhow::Result<Vec<String>> {
    let name = folder.canonicalize()?.display().to_string();
    let node = folder.with_file_name("node").canonicalize()?.display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let is_ours = |line: &&str| line.contains(&name) || line.contains(&format!("{node}/plugins"));
    let mut traces: Vec<String> = mounts.lines().filter(is_ours).map(str::to_owned).collect();
    for block in std::fs::read_dir("/sys/block")? {
        let file = std::fs::read_to_string(block?.path().join("loop/backing_file"));
        traces.extend(file.ok().filter(|file| file.contains(&name)));
    }
    Ok(traces)
}

fn until(what: &str, is_so: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    while !is_so()? {
        ensure!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
