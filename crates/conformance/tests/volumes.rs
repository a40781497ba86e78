//! Volumes that are block devices, mounts that are read-only all the way down, and variables from files in volumes.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime};
use conformance::kubectl::Kubectl;
use std::path::Path;
use std::process::Command;

#[test]
fn devices_and_mounts_in_the_embedded_runtime() {
    run(Runtime::Embedded).unwrap();
}

#[test]
fn devices_and_mounts_in_containerd() {
    run(Runtime::Containerd).unwrap();
}

fn run(runtime: Runtime) -> anyhow::Result<()> {
    let cluster = Cluster::start(runtime)?;
    let kubectl = cluster.kubectl();
    let folder = tempfile::Builder::new().prefix("sf-").tempdir_in("/var/tmp")?;
    block_device(&kubectl, folder.path()).context("a block device")?;
    variables(&kubectl).context("fileKeyRef")?;
    let below = Mount::new(folder.path())?;
    read_only(&kubectl, runtime, &below.outer).context("recursiveReadOnly")
}

const BLOCK: &str = r#"
apiVersion: v1
kind: PersistentVolume
metadata: {name: block}
spec:
  capacity: {storage: 1Mi}
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  storageClassName: ""
  local: {path: LOOP}
  nodeAffinity:
    required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/os, operator: Exists}]}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: block}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  storageClassName: ""
  volumeName: block
  resources: {requests: {storage: 1Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: block}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, persistentVolumeClaim: {claimName: block}}]
  containers:
  - name: main
    image: steadfast.local/web:1
    volumeDevices: [{name: v, devicePath: /dev/inside}]
"#;

fn block_device(kubectl: &Kubectl, folder: &Path) -> anyhow::Result<()> {
    let file = folder.join("disk");
    std::fs::File::create(&file)?.set_len(1 << 20)?;
    let device = Loop::new(&file)?;
    kubectl.run_with("create -f -", &BLOCK.replace("LOOP", &device.0))?;
    kubectl.run("wait --for=condition=Ready pod/block --timeout=120s")?;
    kubectl.shell(
        "block",
        "test -b /dev/inside && echo hello | dd of=/dev/inside conv=fsync,notrunc",
    )?;
    kubectl.run("delete pod block")?;
    let written = std::fs::read(&file)?;
    ensure!(written.starts_with(b"hello\n"), "the device has {:?}", &written[..8]);
    Ok(())
}

const VARIABLES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 0
  hostname: web
  hostnameOverride: db.example.host
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
  - name: init
    image: steadfast.local/web:1
    command: [sh, -c, "echo \"A = 'a  b'\" > /v/file; ln -s /etc/hostname /v/out"]
    volumeMounts: [{name: v, mountPath: /v}]
  containers:
  - name: main
    image: steadfast.local/web:1
    env:
    - {name: A, valueFrom: {fileKeyRef: {volumeName: v, path: PATH, key: A}}}
    - {name: B, valueFrom: {fileKeyRef: {volumeName: v, path: file, key: B, optional: true}}}
"#;

/// What an init container wrote is in the environment of those after it, if it lies in the volume.
fn variables(kubectl: &Kubectl) -> anyhow::Result<()> {
    let create = |name: &str, path: &str| {
        let pod = VARIABLES.replace("NAME", name).replace("PATH", path);
        kubectl.run_with("create -f -", &pod)
    };
    create("variables", "file")?;
    kubectl.run("wait --for=condition=Ready pod/variables --timeout=120s")?;
    kubectl.shell("variables", r#"test "$A" = "a  b" && test -z "${B+set}""#)?;
    kubectl.shell(
        "variables",
        r#"test "$(hostname);$(hostname -f)" = "db.example.host;db.example.host""#,
    )?;
    create("outside", "out")?;
    let pod = kubectl.watch("pod outside", |_, pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    })?;
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    ensure!(
        waiting
            .as_str()
            .is_some_and(|why| why.contains("leads out of the volume")),
        "{waiting}"
    );
    kubectl.run("delete pod outside variables").map(drop)
}

fn read_only(kubectl: &Kubectl, runtime: Runtime, outer: &Path) -> anyhow::Result<()> {
    for mode in ["Disabled", "IfPossible", "Enabled"] {
        let pod = format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{{name: v, hostPath: {{path: {path}}}}}]
  containers:
  - name: main
    image: steadfast.local/web:1
    volumeMounts: [{{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: {mode}}}]
"#,
            name = mode.to_lowercase(),
            path = outer.display()
        );
        kubectl.run_with("create -f -", &pod)?;
        let name = mode.to_lowercase();
        // Debian's containerd cannot.
        let can = runtime == Runtime::Embedded;
        if mode == "Enabled" && !can {
            kubectl.watch(&format!("pod {name}"), |_, pod| {
                pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
            })?;
            continue;
        }
        kubectl.run(&format!("wait --for=condition=Ready pod/{name} --timeout=120s"))?;
        ensure!(!writes(kubectl, &name, "/v/file"), "{mode}: /v can be written to");
        let is_recursive = mode != "Disabled" && can;
        ensure!(
            writes(kubectl, &name, "/v/inner/file") != is_recursive,
            "{mode}: /v/inner"
        );
        let pod = kubectl.get(&format!("pod {name}"))?;
        let told = &pod["status"]["containerStatuses"][0]["volumeMounts"][0]["recursiveReadOnly"];
        ensure!(
            *told == if is_recursive { "Enabled" } else { "Disabled" },
            "{mode}: {told}"
        );
    }
    Ok(())
}

fn writes(kubectl: &Kubectl, pod: &str, path: &str) -> bool {
    kubectl.shell(pod, &format!(": > {path}")).is_ok()
}

/// A file as a block device.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> anyhow::Result<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output()?;
        ensure!(
            output.status.success(),
            "losetup: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Self(String::from_utf8(output.stdout)?.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = Command::new("losetup").args(["--detach", &self.0]).status() {
            eprintln!("{} is left behind: {error}", self.0);
        }
    }
}

/// A folder with a file system mounted in it.
struct Mount {
    outer: std::path::PathBuf,
}

impl Mount {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        let outer = folder.join("outer");
        std::fs::create_dir_all(outer.join("inner"))?;
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(outer.join("inner"))
            .status()?;
        ensure!(status.success(), "mount");
        Ok(Self { outer })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = Command::new("umount").arg(self.outer.join("inner")).status() {
            eprintln!("{} stays mounted: {error}", self.outer.display());
        }
    }
}
