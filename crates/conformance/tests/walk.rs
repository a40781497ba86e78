//! The textbook walk through a StatefulSet, with real kubectl, real containers, real volumes and real DNS.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime};
use conformance::kubectl::{Kubectl, PATIENCE};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

const MANIFEST: &str = r#"
apiVersion: v1
kind: Service
metadata:
  name: nginx
  labels: {app: nginx}
spec:
  clusterIP: None
  selector: {app: nginx}
  ports:
  - {name: web, port: 80}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: web
spec:
  serviceName: nginx
  replicas: 2
  selector:
    matchLabels: {app: nginx}
  template:
    metadata:
      labels: {app: nginx}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: nginx
        image: steadfast.local/web:1
        ports:
        - {containerPort: 80, name: web}
        readinessProbe:
          httpGet: {path: /, port: web}
          periodSeconds: 1
        lifecycle:
          postStart:
            exec: {command: ["/bin/sh", "-c", "test -e /www/index.html || hostname > /www/index.html"]}
        volumeMounts:
        - {name: www, mountPath: /www}
  volumeClaimTemplates:
  - metadata: {name: www}
    spec:
      accessModes: [ReadWriteOnce]
      resources:
        requests: {storage: 1Gi}
"#;

const DOMAIN: &str = "nginx.default.svc.cluster.local";

#[test]
fn the_walk_with_the_embedded_runtime() {
    walk(Runtime::Embedded).unwrap();
}

#[test]
fn the_walk_with_containerd() {
    walk(Runtime::Containerd).unwrap();
}

#[test]
fn the_walk_with_the_controllers_in_a_process_of_their_own() {
    let mut cluster = Cluster::start_with_controllers_apart(Runtime::Embedded).unwrap();
    walk_through(&mut cluster, Runtime::Embedded).unwrap();
    let controllers = cluster.controllers().unwrap();
    controllers.were_refused_nothing().unwrap();
}

fn walk(runtime: Runtime) -> anyhow::Result<()> {
    walk_through(&mut Cluster::start(runtime)?, runtime)
}

fn walk_through(cluster: &mut Cluster, runtime: Runtime) -> anyhow::Result<()> {
    let kubectl = cluster.kubectl();
    created_in_order(&kubectl).context("1: creation in order")?;
    names_resolve(cluster, &["web-0", "web-1"]).context("2: names")?;
    data_survives_deletion(cluster, &kubectl).context("3: deletion of both pods")?;
    scaled_in_order(&kubectl).context("4: scaling")?;
    rolled_from_the_top(&kubectl).context("5: rolling update")?;
    killed_at_bad_moments(cluster, &kubectl, runtime).context("6: kill -9")?;
    recreated_with_its_data(&kubectl).context("7: the set deleted and applied again")
}

/// Each pod by name: JSON as kubectl shows it.
fn pods(kubectl: &Kubectl) -> anyhow::Result<BTreeMap<String, Value>> {
    let list = kubectl.get("pods -l app=nginx")?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    Ok(items
        .into_iter()
        .map(|pod| (pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(), pod))
        .collect())
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Watches the set's pods until `names` and no others are Ready; returns in which order new pods appeared, and fails
/// if one appeared while a lower one was not Ready.
fn watch_creation(kubectl: &Kubectl, names: &[&str]) -> anyhow::Result<Vec<String>> {
    let want: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let (sender, results) = std::sync::mpsc::channel();
    kubectl.watch("pods -l app=nginx", move |kind, pod| {
        sender
            .send((kind.to_owned(), pod.clone()))
            .expect("the receiver lives as long as the watch");
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        kind != "DELETED" && name == want.last().map_or("", String::as_str) && is_ready(pod)
    })?;
    let (mut ready, mut order) = (BTreeMap::<String, bool>::new(), Vec::new());
    for (kind, pod) in results {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if kind == "DELETED" {
            ready.remove(&name);
            continue;
        }
        if !ready.contains_key(&name) {
            let waiting: Vec<_> = ready
                .iter()
                .filter(|(_, is_ready)| !**is_ready)
                .map(|(n, _)| n)
                .collect();
            ensure!(waiting.is_empty(), "{name} appeared while {waiting:?} was not Ready");
            order.push(name.clone());
        }
        ready.insert(name, is_ready(&pod));
    }
    Ok(order)
}

fn created_in_order(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.run_with("apply -f -", MANIFEST)?;
    let order = watch_creation(kubectl, &["web-0", "web-1"])?;
    ensure!(order == ["web-0", "web-1"], "created in the order {order:?}");
    let set = kubectl.get("statefulset web")?;
    for (ordinal, (name, pod)) in pods(kubectl)?.iter().enumerate() {
        ensure!(*name == format!("web-{ordinal}"));
        let labels = &pod["metadata"]["labels"];
        ensure!(
            labels["statefulset.kubernetes.io/pod-name"] == **name,
            "labels {labels}"
        );
        ensure!(
            labels["apps.kubernetes.io/pod-index"].as_str() == Some(&ordinal.to_string()),
            "labels {labels}"
        );
        ensure!(
            labels["controller-revision-hash"] == set["status"]["updateRevision"],
            "labels {labels}"
        );
        ensure!(pod["spec"]["hostname"] == **name && pod["spec"]["subdomain"] == "nginx");
        ensure!(kubectl.shell(name, "hostname")?.trim() == name);
        let claim = kubectl.get(&format!("pvc www-{name}"))?;
        ensure!(claim["status"]["phase"] == "Bound", "claim {}", claim["status"]);
        let volume = kubectl.get(&format!(
            "pv {}",
            claim["spec"]["volumeName"].as_str().unwrap_or_default()
        ))?;
        ensure!(
            volume["spec"]["claimRef"]["name"] == format!("www-{name}"),
            "volume {}",
            volume["spec"]
        );
        ensure!(
            kubectl.shell(name, "grep ' /www ' /proc/mounts").is_ok(),
            "{name} has nothing mounted at /www"
        );
    }
    let volumes: Vec<Value> = pods(kubectl)?
        .keys()
        .map(|name| Ok(kubectl.get(&format!("pvc www-{name}"))?["spec"]["volumeName"].clone()))
        .collect::<anyhow::Result<_>>()?;
    ensure!(volumes[0] != volumes[1], "both claims are bound to {}", volumes[0]);
    Ok(())
}

fn addresses(kubectl: &Kubectl) -> anyhow::Result<BTreeMap<String, String>> {
    Ok(pods(kubectl)?
        .into_iter()
        .map(|(name, pod)| (name, pod["status"]["podIP"].as_str().unwrap_or_default().to_owned()))
        .collect())
}

fn names_resolve(cluster: &Cluster, names: &[&str]) -> anyhow::Result<()> {
    let kubectl = cluster.kubectl();
    let addresses = addresses(&kubectl)?;
    let mut all: Vec<String> = addresses.values().cloned().collect();
    all.sort();
    for name in names {
        cluster.dig_until(&format!("{name}.{DOMAIN}"), "A", |found| {
            found == [addresses[*name].clone()]
        })?;
        let inside = kubectl.shell(names[0], &format!("nslookup {name}.{DOMAIN}"))?;
        ensure!(inside.contains(&addresses[*name]), "inside {}: {inside}", names[0]);
    }
    cluster.dig_until(DOMAIN, "A", |found| found == all)?;
    let resolver = kubectl.shell(names[0], "cat /etc/resolv.conf")?;
    ensure!(resolver.contains("nameserver 10.96.0.10"), "{resolver}");
    ensure!(
        resolver.contains("search default.svc.cluster.local svc.cluster.local cluster.local"),
        "{resolver}"
    );
    cluster.dig_until(&format!("_web._tcp.{DOMAIN}"), "SRV", |targets| {
        names
            .iter()
            .all(|name| targets.iter().any(|t| t.ends_with(&format!("80 {name}.{DOMAIN}."))))
    })?;
    let nothing = cluster.dig(&format!("web-9.{DOMAIN}"), "A")?;
    ensure!(nothing.is_empty(), "web-9 resolves to {nothing:?}");
    Ok(())
}

/// What the web server of a pod shows, fetched from the host.
fn page(address: &str) -> anyhow::Result<String> {
    let output = Command::new("/bin/busybox")
        .args(["wget", "-q", "-O-", &format!("http://{address}/")])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn write_pages(kubectl: &Kubectl, word: &str) -> anyhow::Result<()> {
    for name in pods(kubectl)?.keys() {
        kubectl.shell(name, &format!("echo {word} of {name} > /www/index.html"))?;
    }
    Ok(())
}

fn pages_are(kubectl: &Kubectl, word: &str) -> anyhow::Result<()> {
    for (name, address) in addresses(kubectl)? {
        let shown = page(&address).with_context(|| format!("{name} at {address}"))?;
        ensure!(shown == format!("{word} of {name}"), "{name} shows {shown:?}");
    }
    Ok(())
}

fn data_survives_deletion(cluster: &Cluster, kubectl: &Kubectl) -> anyhow::Result<()> {
    write_pages(kubectl, "page")?;
    pages_are(kubectl, "page")?;
    let before = addresses(kubectl)?;
    kubectl.run("delete pod web-0 web-1")?;
    let order = watch_creation(kubectl, &["web-0", "web-1"])?;
    ensure!(order == ["web-0", "web-1"], "came back in the order {order:?}");
    let after = addresses(kubectl)?;
    ensure!(before.keys().eq(after.keys()));
    ensure!(
        before.iter().all(|(name, address)| after[name] != *address),
        "addresses {before:?}, then {after:?}"
    );
    names_resolve(cluster, &["web-0", "web-1"])?;
    pages_are(kubectl, "page")
}

/// Does `action` and watches until the pod `last` is gone; returns the order in which pods were told to stop, and fails
/// if one was told while another still stopped.
fn watch_deletion(
    kubectl: &Kubectl,
    last: &str,
    action: impl FnOnce(&Kubectl) -> anyhow::Result<String>,
) -> anyhow::Result<Vec<String>> {
    let last = last.to_owned();
    let (started, start) = std::sync::mpsc::channel();
    let (sender, events) = std::sync::mpsc::channel();
    let watcher = kubectl.clone();
    let watch = std::thread::spawn(move || {
        watcher.watch("pods -l app=nginx", move |kind, pod| {
            // Only the first of these is waited for.
            started.send(()).ok();
            sender
                .send((kind.to_owned(), pod.clone()))
                .expect("the receiver lives as long as the watch");
            kind == "DELETED" && pod["metadata"]["name"] == *last
        })
    });
    start.recv_timeout(PATIENCE).context("no watch")?;
    action(kubectl)?;
    watch.join().expect("the watch does not panic")?;
    let (mut stopping, mut order) = (None, Vec::new());
    for (kind, pod) in events {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if kind == "DELETED" {
            stopping = None;
        } else if !pod["metadata"]["deletionTimestamp"].is_null() && stopping.as_ref() != Some(&name) {
            ensure!(
                stopping.is_none(),
                "{name} was stopped while {stopping:?} still stopped"
            );
            order.push(name.clone());
            stopping = Some(name);
        }
    }
    Ok(order)
}

fn scaled_in_order(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.run("scale statefulset web --replicas=4")?;
    let order = watch_creation(kubectl, &["web-0", "web-1", "web-2", "web-3"])?;
    ensure!(
        order == ["web-0", "web-1", "web-2", "web-3"],
        "scaled up in the order {order:?}"
    );
    write_pages(kubectl, "scaled")?;
    let order = watch_deletion(kubectl, "web-1", |kubectl| {
        kubectl.run("scale statefulset web --replicas=1")
    })?;
    ensure!(
        order == ["web-3", "web-2", "web-1"],
        "scaled down in the order {order:?}"
    );
    ensure!(pods(kubectl)?.len() == 1);
    let claims = kubectl.get("pvc")?["items"].as_array().map_or(0, Vec::len);
    ensure!(claims == 4, "{claims} claims are left");
    kubectl.run("scale statefulset web --replicas=2")?;
    kubectl.run("rollout status statefulset web --timeout=120s")?;
    pages_are(kubectl, "scaled")
}

fn revisions(kubectl: &Kubectl) -> anyhow::Result<usize> {
    Ok(kubectl.get("controllerrevisions -l app=nginx")?["items"]
        .as_array()
        .map_or(0, Vec::len))
}

fn rolled_from_the_top(kubectl: &Kubectl) -> anyhow::Result<()> {
    ensure!(revisions(kubectl)? == 1);
    let patch = r#"{"spec":{"template":{"spec":{"containers":[{"name":"nginx","image":"steadfast.local/web:2"}]}}}}"#;
    let order = watch_deletion(kubectl, "web-0", |kubectl| {
        kubectl.run_words(&["patch", "statefulset", "web", "-p", patch])
    })?;
    ensure!(order == ["web-1", "web-0"], "updated in the order {order:?}");
    kubectl.run("rollout status statefulset web --timeout=120s")?;
    for name in ["web-0", "web-1"] {
        ensure!(
            kubectl.shell(name, "echo $VERSION")?.trim() == "2",
            "{name} runs the old image"
        );
    }
    ensure!(revisions(kubectl)? == 2);
    let history = kubectl.run("rollout history statefulset web")?;
    ensure!(
        history.lines().filter(|l| l.starts_with(['1', '2'])).count() == 2,
        "{history}"
    );
    kubectl.run("rollout undo statefulset web")?;
    kubectl.run("rollout status statefulset web --timeout=120s")?;
    for name in ["web-0", "web-1"] {
        ensure!(
            kubectl.shell(name, "echo $VERSION")?.trim() == "1",
            "{name} was not rolled back"
        );
    }
    ensure!(revisions(kubectl)? == 2, "undo must reuse the old revision");
    pages_are(kubectl, "scaled")
}

/// What must not change when the daemon dies: uid, container id and restarts of each pod.
fn identities(kubectl: &Kubectl) -> anyhow::Result<BTreeMap<String, [Value; 3]>> {
    let identity = |pod: Value| {
        let container = &pod["status"]["containerStatuses"][0];
        [
            pod["metadata"]["uid"].clone(),
            container["containerID"].clone(),
            container["restartCount"].clone(),
        ]
    };
    Ok(pods(kubectl)?
        .into_iter()
        .map(|(name, pod)| (name, identity(pod)))
        .collect())
}

fn killed_at_bad_moments(cluster: &mut Cluster, kubectl: &Kubectl, runtime: Runtime) -> anyhow::Result<()> {
    // At rest: containers serve on without the daemon, and are the same ones after it.
    let (before, addresses) = (identities(kubectl)?, addresses(kubectl)?);
    cluster.kill()?;
    for (name, address) in &addresses {
        let shown = page(address).with_context(|| format!("{name} without the daemon"))?;
        ensure!(shown == format!("scaled of {name}"), "{name} shows {shown:?}");
    }
    cluster.up()?;
    kubectl.run("wait --for=condition=Ready pod/web-0 pod/web-1 --timeout=120s")?;
    ensure!(
        identities(kubectl)? == before,
        "{before:?} became {:?}",
        identities(kubectl)?
    );
    ensure!(self::addresses(kubectl)? == addresses);
    names_resolve(cluster, &["web-0", "web-1"])?;

    // In the middle of a scale-up, the moment a new pod appears.
    kubectl.run("scale statefulset web --replicas=4")?;
    kubectl.watch("pods -l app=nginx", |_, pod| pod["metadata"]["name"] == "web-2")?;
    cluster.kill()?;
    cluster.up()?;
    kubectl.run("rollout status statefulset web --timeout=120s")?;
    let after = identities(kubectl)?;
    ensure!(
        before.iter().all(|(name, identity)| after[name] == *identity),
        "{before:?} became {after:?}"
    );
    // A container that ran is never restarted. One whose start was under way is tried again: containerd gives up a start
    // whose caller is gone and records it as an exit (StartError), which counts, as it does for a kubelet.
    let tries = if runtime == Runtime::Containerd { 1 } else { 0 };
    let restarted =
        |name: &str, restarts: &Value| restarts.as_u64() > Some(if before.contains_key(name) { 0 } else { tries });
    ensure!(
        after.len() == 4 && !after.iter().any(|(name, [_, _, restarts])| restarted(name, restarts)),
        "{after:?}"
    );

    // In the middle of a rolling update, while a pod stops; then a scale-down must still work.
    kubectl.run("rollout restart statefulset web")?;
    kubectl.watch("pods -l app=nginx", |_, pod| {
        pod["metadata"]["name"] == "web-3" && !pod["metadata"]["deletionTimestamp"].is_null()
    })?;
    cluster.kill()?;
    cluster.up()?;
    kubectl.run("rollout status statefulset web --timeout=120s")?;
    kubectl.run("scale statefulset web --replicas=2")?;
    kubectl.run("wait --for=delete pod/web-2 pod/web-3 --timeout=120s")?;
    pages_are(kubectl, "scaled")
}

fn recreated_with_its_data(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.run("delete statefulset web")?;
    kubectl.run("wait --for=delete pod/web-0 pod/web-1 --timeout=120s")?;
    ensure!(pods(kubectl)?.is_empty());
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset web --timeout=120s")?;
    pages_are(kubectl, "scaled")
}
