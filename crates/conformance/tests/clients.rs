//! Real clients, unmodified: the machine's kubectl, Debian's kubectl 1.20, the Python client.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime};
use conformance::kubectl::{Kubectl, PATIENCE};
use conformance::process::{Process, within};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const SAMPLE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: nginx}
spec:
  clusterIP: None
  selector: {app: nginx}
  ports: [{name: web, port: 80}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: nginx
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: nginx
        image: steadfast.local/web:1
        command: ["/bin/sh", "-c", "echo started as $HOSTNAME; exec httpd -f -p 80 -h /www"]
        readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
"#;

fn old_kubectl() -> PathBuf {
    let default = conformance::cluster::target().join("debian/kubernetes-client/usr/bin/kubectl");
    std::env::var_os("STEADFAST_OLD_KUBECTL").map_or(default, PathBuf::from)
}

#[test]
fn kubectl_of_today() {
    let cluster = Cluster::start(Runtime::Embedded).unwrap();
    let kubectl = cluster.kubectl();
    all_commands(&kubectl).unwrap();
    explain(&kubectl, "KIND:       StatefulSet").unwrap();
    server_side_apply(&kubectl).unwrap();
}

#[test]
fn kubectl_1_20() {
    let cluster = Cluster::start(Runtime::Embedded).unwrap();
    let kubectl = Kubectl::new(old_kubectl(), &cluster.kubeconfig());
    all_commands(&kubectl).unwrap();
    explain(&kubectl, "KIND:     StatefulSet").unwrap();
}

fn all_commands(kubectl: &Kubectl) -> anyhow::Result<()> {
    let version = kubectl.run("version -o json")?;
    ensure!(version.contains(r#""gitVersion": "v1.36"#), "{version}");
    ensure!(kubectl.run("cluster-info")?.contains("is running at"));
    let kinds = kubectl.run("api-resources")?;
    for kind in ["statefulsets", "persistentvolumeclaims", "endpointslices"] {
        ensure!(kinds.contains(kind), "{kinds}");
    }
    kubectl.run_with("apply -f -", SAMPLE)?;
    kubectl.run("rollout status statefulset/web --timeout=120s")?;
    ensure!(
        kubectl
            .run_with("apply -f -", SAMPLE)?
            .contains("statefulset.apps/web unchanged")
    );
    tables(kubectl).context("tables")?;
    describe(kubectl).context("describe")?;
    writes(kubectl).context("writes")?;
    logs(kubectl).context("logs")?;
    exec(kubectl).context("exec")?;
    kubectl.run("delete statefulset web")?;
    kubectl.run("wait --for=delete pod/web-0 --timeout=120s").map(drop)
}

fn tables(kubectl: &Kubectl) -> anyhow::Result<()> {
    let has = |line: &str, words: &[&str]| -> anyhow::Result<()> {
        let text = kubectl.run(line)?;
        ensure!(words.iter().all(|w| text.contains(w)), "kubectl {line}: {text}");
        Ok(())
    };
    has("get sts", &["NAME", "READY", "AGE", "web", "1/1"])?;
    has("get sts -o wide", &["CONTAINERS", "IMAGES", "steadfast.local/web:1"])?;
    has(
        "get pods",
        &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "web-0", "Running"],
    )?;
    has("get pods -o wide", &["IP", "NODE", "NOMINATED NODE", "READINESS GATES"])?;
    has("get svc", &["CLUSTER-IP", "None", "80/TCP"])?;
    has("get nodes", &["ROLES", "VERSION", "Ready"])?;
    has("get all", &["pod/web-0", "service/nginx", "statefulset.apps/web"])?;
    has("get endpoints,endpointslices", &["endpoints/nginx"])?;
    has("get storageclass", &["standard (default)", "steadfast.io/local"])?;
    has("get pods -o name", &["pod/web-0"])?;
    has("get pod web-0 -o yaml", &["kind: Pod", "nodeName:"])?;
    has("get pods -A --field-selector=metadata.name=web-0", &["web-0"])?;
    has("get sts web -o jsonpath={.status.readyReplicas}", &["1"])?;
    has("get namespaces", &["default", "kube-system", "Active"])
}

fn describe(kubectl: &Kubectl) -> anyhow::Result<()> {
    let set = kubectl.run("describe statefulset web")?;
    ensure!(
        set.contains("create Pod web-0") || set.contains("Create Pod web-0"),
        "no event: {set}"
    );
    ensure!(set.contains("1 Running / 0 Waiting"), "{set}");
    let pod = kubectl.run("describe pod web-0")?;
    for word in [
        "Successfully assigned default/web-0",
        "Started container nginx",
        "Ready             True",
    ] {
        ensure!(
            pod.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .contains(&words(word)),
            "no {word:?}: {pod}"
        );
    }
    kubectl.run("describe node")?;
    kubectl.run("describe service nginx").map(drop)
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn writes(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.run("label statefulset web tier=front")?;
    kubectl.run("annotate statefulset web note=here")?;
    kubectl.run_words(&[
        "patch",
        "statefulset",
        "web",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/metadata/labels/tier"}]"#,
    ])?;
    kubectl.run_words(&[
        "patch",
        "statefulset",
        "web",
        "--type=merge",
        "-p",
        r#"{"metadata":{"labels":{"a":"b"}}}"#,
    ])?;
    let labels = kubectl.get("statefulset web")?["metadata"]["labels"].clone();
    ensure!(labels == serde_json::json!({"a": "b"}), "{labels}");
    kubectl.run("scale statefulset web --replicas=2")?;
    kubectl.run("wait --for=condition=Ready pod/web-0 --timeout=120s")?;
    kubectl.run("rollout status statefulset/web --timeout=120s")?;
    kubectl.run("create configmap settings --from-literal=k=v")?;
    // An editor that edits by itself.
    let mut edit = kubectl.command(["edit", "configmap", "settings"]);
    let edited = edit.env("KUBE_EDITOR", "sed -i s/k:\\ v/k:\\ w/").output()?;
    ensure!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    let data = kubectl.get("configmap settings")?["data"].clone();
    ensure!(data == serde_json::json!({"k": "w"}), "{data}");
    let text = kubectl.run("get configmap settings -o yaml")?;
    kubectl.run_with("replace -f -", &text.replace("k: w", "k: x"))?;
    kubectl.run("delete configmap settings")?;
    kubectl.run("create namespace other")?;
    kubectl.run("create configmap settings -n other")?;
    kubectl.run("delete namespace other --timeout=120s")?;
    let gone = kubectl.output("get namespace other")?;
    ensure!(!gone.status.success());
    kubectl.run("scale statefulset web --replicas=1")?;
    kubectl.run("wait --for=delete pod/web-1 --timeout=120s").map(drop)
}

fn logs(kubectl: &Kubectl) -> anyhow::Result<()> {
    ensure!(kubectl.run("logs web-0")?.trim() == "started as web-0");
    ensure!(
        kubectl
            .run("logs web-0 --tail=1 --timestamps")?
            .contains("Z started as web-0")
    );
    let mut follow = Process::start(kubectl.command(["logs", "-f", "web-0"]).stdout(Stdio::piped()))?;
    let mut out = follow.child().stdout.take().context("no pipe")?;
    kubectl.shell("web-0", "echo a line that comes later > /proc/1/fd/1")?;
    let text = within(PATIENCE, "logs -f", move || {
        let (mut text, mut buffer) = (String::new(), [0; 256]);
        while !text.contains("later") {
            let length = out.read(&mut buffer)?;
            ensure!(length > 0, "it ended");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        Ok(text)
    })?;
    ensure!(text == "started as web-0\na line that comes later\n", "{text:?}");
    Ok(())
}

fn exec(kubectl: &Kubectl) -> anyhow::Result<()> {
    ensure!(kubectl.shell("web-0", "hostname")?.trim() == "web-0");
    let failed = kubectl.output_of(["exec", "web-0", "--", "/bin/sh", "-c", "echo bad >&2; exit 7"], None)?;
    ensure!(failed.status.code() == Some(7), "{failed:?}");
    ensure!(String::from_utf8_lossy(&failed.stderr).contains("bad"));
    let copied = kubectl.output_of(["exec", "-i", "web-0", "--", "cat"], Some("through standard input\n"))?;
    ensure!(copied.stdout == b"through standard input\n", "{copied:?}");
    // A terminal on both sides: `script` gives kubectl one.
    let command = format!(
        "{:?}",
        kubectl.command(["exec", "-it", "web-0", "--", "/bin/sh", "-c", "'tty; stty size'"])
    );
    let mut script = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--command",
            &command.replace('"', ""),
            "/dev/null",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = script.stdin.take().context("no pipe")?;
    let out = within(PATIENCE, "exec -it", move || Ok(script.wait_with_output()?))?;
    stdin.flush()?;
    let text = String::from_utf8_lossy(&out.stdout);
    ensure!(text.contains("/dev/pts/"), "{text}");
    Ok(())
}

fn explain(kubectl: &Kubectl, head: &str) -> anyhow::Result<()> {
    let text = kubectl.run("explain statefulset.spec.replicas")?;
    ensure!(
        text.contains(head) && text.contains("desired number of replicas"),
        "{text}"
    );
    Ok(())
}

fn server_side_apply(kubectl: &Kubectl) -> anyhow::Result<()> {
    let map = |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ssa}}\ndata: {{k: {value}}}\n");
    kubectl.run_with("apply --server-side --field-manager=anna -f -", &map("a"))?;
    let said = kubectl.refused("apply --server-side --field-manager=bert -f -", &map("b"))?;
    ensure!(
        said.contains("Apply failed with 1 conflict: conflict with \"anna\": .data.k"),
        "{said}"
    );
    kubectl.run_with(
        "apply --server-side --field-manager=bert --force-conflicts -f -",
        &map("b"),
    )?;
    ensure!(kubectl.get("configmap ssa")?["data"]["k"] == "b");
    kubectl.run_with("diff -f -", &map("b"))?;
    Ok(())
}

#[test]
fn the_python_client() {
    let cluster = Cluster::start(Runtime::Embedded).unwrap();
    let default = conformance::cluster::target().join("python/bin/python");
    let python = std::env::var_os("STEADFAST_PYTHON").map_or(default, PathBuf::from);
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client.py"))
        .env("KUBECONFIG", cluster.kubeconfig())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    assert!(said.contains("all held"), "{said}");
}
