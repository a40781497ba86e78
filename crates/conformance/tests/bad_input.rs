//! What is wrong is refused with the words and field paths of a kube-apiserver, and nothing is stored; what cannot run
//! says why and harms nobody else.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime};
use conformance::kubectl::Kubectl;
use serde_json::{Value, json};

fn set(change: impl FnOnce(&mut Value)) -> String {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "bad"},
        "spec": {
            "serviceName": "bad", "replicas": 1, "selector": {"matchLabels": {"app": "bad"}},
            "template": {
                "metadata": {"labels": {"app": "bad"}},
                "spec": {"containers": [{"name": "c", "image": "steadfast.local/web:1"}]},
            },
        },
    });
    change(&mut set);
    set.to_string()
}

/// (what is wrong, the manifest, what kubectl must say)
fn refused() -> Vec<(&'static str, String, &'static [&'static str])> {
    vec![
        (
            "an unknown field",
            set(|s| s["spec"]["replcas"] = json!(1)),
            &["unknown field \"spec.replcas\""],
        ),
        (
            "a wrong type",
            set(|s| s["spec"]["replicas"] = json!("two")),
            &["cannot unmarshal string into Go struct field StatefulSetSpec.spec.replicas of type int32"],
        ),
        (
            "a selector that does not match",
            set(|s| s["spec"]["selector"]["matchLabels"]["app"] = json!("other")),
            &[
                "spec.template.metadata.labels",
                "`selector` does not match template `labels`",
            ],
        ),
        (
            "a negative replica count",
            set(|s| s["spec"]["replicas"] = json!(-1)),
            &["spec.replicas: Invalid value: -1", "must be greater than or equal to 0"],
        ),
        (
            "a name too long",
            set(|s| s["metadata"]["name"] = json!("n".repeat(60))),
            &["metadata.name"],
        ),
        (
            "no image",
            set(|s| s["spec"]["template"]["spec"]["containers"][0]["image"] = Value::Null),
            &["spec.template.spec.containers[0].image: Required value"],
        ),
        (
            "a volume that is not there",
            set(|s| {
                s["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
                    json!([{"name": "nope", "mountPath": "/x"}]);
            }),
            &["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"nope\""],
        ),
    ]
}

#[test]
fn wrong_manifests_are_refused_and_not_stored() {
    check_refusals().unwrap();
}

fn check_refusals() -> anyhow::Result<()> {
    let cluster = Cluster::start(Runtime::None)?;
    let kubectl = cluster.kubectl();
    for (what, manifest, words) in refused() {
        for verb in ["create", "apply"] {
            let said = kubectl.refused(&format!("{verb} -f -"), &manifest).context(what)?;
            ensure!(words.iter().all(|w| said.contains(w)), "{what}, {verb}: {said}");
        }
        let stored = kubectl.get("statefulsets")?;
        ensure!(stored["items"] == json!([]), "{what}: {stored}");
    }
    kubectl.run_with("create -f -", &set(|_| {}))?;
    let said = kubectl.refused("apply -f -", &set(|s| s["spec"]["serviceName"] = json!("other")))?;
    ensure!(
        said.contains("updates to statefulset spec for fields other than"),
        "{said}"
    );
    ensure!(kubectl.get("statefulset bad")?["spec"]["serviceName"] == "bad");
    Ok(())
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"test": "bad"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "steadfast.local/web:1", "command": ["sleep", "3600"]}],
        },
    });
    change(&mut pod);
    pod.to_string()
}

/// Waits until the pod's container waits for one of `reasons`.
fn waits_for(kubectl: &Kubectl, name: &str, reasons: &'static [&'static str]) -> anyhow::Result<()> {
    kubectl
        .watch(&format!("pod {name}"), move |_, pod| {
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
            reasons.iter().any(|reason| waiting == reason)
        })
        .with_context(|| format!("{name} does not get to {reasons:?}"))?;
    Ok(())
}

#[test]
fn pods_that_cannot_start_say_why_and_harm_nobody() {
    check_pods(Runtime::Embedded).unwrap();
}

#[test]
fn pods_that_cannot_start_say_why_under_containerd() {
    check_pods(Runtime::Containerd).unwrap();
}

/// Makes pods that each lack something, and one that lacks nothing.
fn create_pods(kubectl: &Kubectl) -> anyhow::Result<()> {
    let container = |pod: &mut Value, field: &str, value: Value| pod["spec"]["containers"][0][field] = value;
    kubectl.run_with("create -f -", &pod("good", |_| {}))?;
    kubectl.run_with(
        "create -f -",
        &pod("no-image", |p| container(p, "image", json!("127.0.0.1:1/none:1"))),
    )?;
    kubectl.run_with(
        "create -f -",
        &pod("never", |p| {
            container(p, "image", json!("steadfast.local/none:1"));
            container(p, "imagePullPolicy", json!("Never"));
        }),
    )?;
    kubectl.run_with(
        "create -f -",
        &pod("bad-name", |p| container(p, "image", json!("UPPER:::x"))),
    )?;
    kubectl.run_with(
        "create -f -",
        &pod("no-command", |p| container(p, "command", json!(["/bin/nothing"]))),
    )?;
    kubectl.run_with(
        "create -f -",
        &pod("crashes", |p| container(p, "command", json!(["false"]))),
    )?;
    kubectl.run_with(
        "create -f -",
        &pod("no-map", |p| {
            container(p, "envFrom", json!([{"configMapRef": {"name": "absent"}}]));
        }),
    )?;
    kubectl.run_with(
        "create -f -",
        &pod("no-claim", |p| {
            p["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "absent"}}]);
        }),
    )?;
    Ok(())
}

fn check_pods(runtime: Runtime) -> anyhow::Result<()> {
    let cluster = Cluster::start(runtime)?;
    let kubectl = cluster.kubectl();
    create_pods(&kubectl)?;
    waits_for(&kubectl, "no-image", &["ImagePullBackOff"])?;
    waits_for(&kubectl, "never", &["ErrImageNeverPull"])?;
    waits_for(&kubectl, "bad-name", &["InvalidImageName"])?;
    waits_for(&kubectl, "crashes", &["CrashLoopBackOff"])?;
    waits_for(&kubectl, "no-map", &["CreateContainerConfigError"])?;
    // Kubernetes calls a command that is not there a start that failed: terminated once, then backed off.
    waits_for(
        &kubectl,
        "no-command",
        &["CreateContainerError", "RunContainerError", "CrashLoopBackOff"],
    )?;
    kubectl.watch("pod no-claim", |_, pod| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| {
            c["reason"] == "Unschedulable"
                && c["message"]
                    .as_str()
                    .is_some_and(|m| m.contains("\"absent\" not found"))
        })
    })?;
    kubectl.watch("events", |_, event| {
        event["involvedObject"]["name"] == "no-image"
            && event["type"] == "Warning"
            && event["message"]
                .as_str()
                .is_some_and(|m| m.contains("127.0.0.1:1/none:1"))
    })?;
    kubectl.run("wait --for=condition=Ready pod/good --timeout=120s")?;
    let good = kubectl.get("pod good")?;
    ensure!(
        good["status"]["containerStatuses"][0]["restartCount"] == 0,
        "{}",
        good["status"]
    );
    kubectl.run("delete pod -l test=bad --wait=true --timeout=120s")?;
    Ok(())
}
