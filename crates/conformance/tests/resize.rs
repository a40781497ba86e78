//! Resources of running containers change in place, on both runtimes; what the node has no room for waits.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime};
use conformance::kubectl::Kubectl;
use serde_json::{Value, json};

#[test]
fn a_pod_is_resized_in_the_embedded_runtime() {
    run(Runtime::Embedded).unwrap();
}

#[test]
fn a_pod_is_resized_in_containerd() {
    run(Runtime::Containerd).unwrap();
}

fn run(runtime: Runtime) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(runtime)?;
    let kubectl = cluster.kubectl();
    let container = |name: &str, policy: &str| {
        json!({
            "name": name, "image": "steadfast.local/web:1", "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 10000 & wait"],
            "resources": resources("100m", "64Mi"),
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "memory", "restartPolicy": policy}],
        })
    };
    let spec = json!({
        "terminationGracePeriodSeconds": 5,
        "containers": [container("stays", "NotRequired"), container("restarts", "RestartContainer")],
    });
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec});
    kubectl.run_with("create -f -", &pod.to_string())?;
    kubectl.run("wait --for=condition=Ready pod/p --timeout=120s")?;

    // Up: in place, except memory where the policy says restart.
    resize(&kubectl, "stays", resources("200m", "128Mi"))?;
    let pod = settled(&kubectl, "stays", "200m", "128Mi")?;
    ensure!(restarts(&pod, "stays") == 0, "restarted: {pod}");
    is_limited(&kubectl, "stays", 20_000, 128 << 20)?;
    resize(&kubectl, "restarts", resources("300m", "96Mi"))?;
    let pod = settled(&kubectl, "restarts", "300m", "96Mi")?;
    ensure!(restarts(&pod, "restarts") == 1, "not restarted: {pod}");
    is_limited(&kubectl, "restarts", 30_000, 96 << 20)?;

    // Down, over a crash of the daemon.
    cluster.kill()?;
    cluster.up()?;
    resize(&kubectl, "stays", resources("150m", "32Mi"))?;
    let pod = settled(&kubectl, "stays", "150m", "32Mi")?;
    ensure!(
        restarts(&pod, "stays") == 0 && restarts(&pod, "restarts") == 1,
        "restarted: {pod}"
    );
    is_limited(&kubectl, "stays", 15_000, 32 << 20)?;

    // More than the node has is told, and nothing changes.
    resize(&kubectl, "stays", resources("5000", "32Mi"))?;
    let pod = kubectl.watch("pod p", |_, pod| condition(pod, "PodResizePending").is_some())?;
    let pending = condition(&pod, "PodResizePending").context("pending")?;
    ensure!(pending["reason"] == "Infeasible", "{pending}");
    is_limited(&kubectl, "stays", 15_000, 32 << 20)?;
    resize(&kubectl, "stays", resources("150m", "32Mi"))?;
    kubectl.watch("pod p", |_, pod| condition(pod, "PodResizePending").is_none())?;
    Ok(())
}

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

fn resize(kubectl: &Kubectl, container: &str, resources: Value) -> anyhow::Result<()> {
    let patch = json!({"spec": {"containers": [{"name": container, "resources": resources}]}}).to_string();
    kubectl.run_words(&["patch", "pod", "p", "--subresource=resize", "--patch", &patch])?;
    Ok(())
}

fn condition<'a>(pod: &'a Value, type_: &str) -> Option<&'a Value> {
    let all = pod["status"]["conditions"].as_array()?;
    all.iter().find(|c| c["type"] == type_)
}

fn status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let all = pod["status"]["containerStatuses"].as_array()?;
    all.iter().find(|s| s["name"] == container)
}

fn restarts(pod: &Value, container: &str) -> i64 {
    status(pod, container)
        .and_then(|s| s["restartCount"].as_i64())
        .unwrap_or(-1)
}

/// Waits until the pod's status says that the container has this, and that nothing is under way.
fn settled(kubectl: &Kubectl, container: &str, cpu: &str, memory: &str) -> anyhow::Result<Value> {
    let (name, wanted) = (container.to_owned(), resources(cpu, memory));
    kubectl.watch("pod p", move |_, pod| {
        let has = status(pod, &name).is_some_and(|s| {
            s["resources"] == wanted && s["allocatedResources"] == wanted["requests"] && s["ready"] == true
        });
        let rests = ["PodResizePending", "PodResizeInProgress"]
            .iter()
            .all(|c| condition(pod, c).is_none());
        has && rests && pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
    })
}

/// What the container itself sees of its control group, whichever version that is.
fn is_limited(kubectl: &Kubectl, container: &str, quota_us: u64, memory: u64) -> anyhow::Result<()> {
    let script = "cd /sys/fs/cgroup; if [ -e cpu.max ]; then read q p < cpu.max; echo $q; cat memory.max; else \
        cat cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes; fi";
    let found = kubectl.run_words(&["exec", "p", "-c", container, "--", "/bin/sh", "-c", script])?;
    ensure!(
        found == format!("{quota_us}\n{memory}\n"),
        "{container} is limited to {found}"
    );
    Ok(())
}
