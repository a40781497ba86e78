//! The machine's kubectl against a server on loopback. `KUBECTL=/path` tries another one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use apiserver::Config;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use test_authority::Authority;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: nginx, labels: {app: nginx}}
spec:
  clusterIP: None
  selector: {app: nginx}
  ports: [{port: 80, name: web}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: nginx
  replicas: 2
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      containers:
      - {name: nginx, image: 'nginx:1', ports: [{containerPort: 80, name: web}]}
  volumeClaimTemplates:
  - metadata: {name: www}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 1Gi}}
";

/// A server and a home for its client.
struct Cluster {
    home: tempfile::TempDir,
    shutdown: CancellationToken,
}

impl Cluster {
    async fn start() -> Self {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let authority = Authority::new().unwrap();
        let api = Api::with(Config {
            advertise: address,
            ..Config::default()
        })
        .await;
        let shutdown = CancellationToken::new();
        let tls = Arc::new(authority.server(ip).unwrap());
        tokio::spawn(apiserver::serve(listener, tls, api.router(), shutdown.clone()));
        let home = tempfile::tempdir().unwrap();
        let kubeconfig = authority.kubeconfig(address, "admin", "system:masters").unwrap();
        std::fs::write(home.path().join("kubeconfig"), kubeconfig).unwrap();
        Self { home, shutdown }
    }

    /// Runs kubectl; its output and whether it succeeded.
    async fn try_run(&self, args: &str, input: &str) -> (String, bool) {
        let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
        let mut child = tokio::process::Command::new(program)
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            .env("HOME", self.home.path())
            .env("EDITOR", "sed -i s/old/new/")
            .args(args.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this test needs kubectl");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output())
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (text, output.status.success())
    }

    async fn run(&self, args: &str, input: &str) -> String {
        let (text, success) = self.try_run(args, input).await;
        assert!(success, "kubectl {args}: {text}");
        text
    }

    async fn expect(&self, args: &str, expected: &str) {
        let text = self.run(args, "").await;
        assert!(text.contains(expected), "kubectl {args}: {expected:?} is not in {text}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_are_applied_changed_and_deleted() {
    let cluster = Cluster::start().await;
    let made = cluster.run("apply -f -", WEB).await;
    assert!(
        made.contains("service/nginx created") && made.contains("statefulset.apps/web created"),
        "{made}"
    );
    assert!(cluster.run("apply -f -", WEB).await.contains("service/nginx unchanged"));
    cluster.expect("get sts web", "READY").await;
    cluster.expect("get sts web -o wide", "nginx:1").await;
    cluster.expect("get sts web -o yaml", "serviceName: nginx").await;
    cluster
        .expect("get sts web -o json", "\"podManagementPolicy\": \"OrderedReady\"")
        .await;
    cluster.expect("describe sts web", "RollingUpdate").await;
    cluster.expect("scale sts web --replicas=4", "scaled").await;
    cluster.expect("get sts web -o jsonpath={.spec.replicas}", "4").await;
    cluster
        .expect("patch sts web -p {\"spec\":{\"replicas\":1}}", "patched")
        .await;
    cluster.expect("set image sts/web nginx=nginx:2", "image updated").await;
    cluster
        .expect(
            "get sts web -o jsonpath={.spec.template.spec.containers[0].image}",
            "nginx:2",
        )
        .await;
    cluster.expect("label sts web a=b", "labeled").await;
    cluster.expect("get sts -l a=b -o name", "statefulset.apps/web").await;
    cluster.expect("rollout history sts web", "statefulset.apps/web").await;
    cluster.expect("get all", "service/kubernetes").await;
    let deleted = cluster.run("delete -f -", WEB).await;
    assert!(deleted.contains("\"web\" deleted"), "{deleted}");
    let (text, success) = cluster.try_run("get sts web", "").await;
    assert!(
        !success && text.contains("Error from server (NotFound): statefulsets.apps \"web\" not found"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_created_edited_and_waited_for() {
    let cluster = Cluster::start().await;
    cluster.expect("create namespace gold", "created").await;
    cluster
        .expect("create configmap cm --from-literal=k=old", "created")
        .await;
    cluster.expect("edit cm cm", "edited").await;
    cluster.expect("get cm cm -o jsonpath={.data.k}", "new").await;
    cluster.expect("auth can-i create pods", "yes").await;
    cluster.expect("run p --image=busybox", "pod/p created").await;
    cluster.expect("get pod p", "Pending").await;
    let wait = cluster.try_run("wait --for=delete pod/p --timeout=20s", "");
    let ((waited, success), ()) = tokio::join!(wait, cluster.expect("delete pod p --wait=false", "deleted"));
    // Old clients complain when they come too late.
    assert!(success || waited.contains("no matching resources found"), "{waited}");
    let watched = cluster.try_run("get cm -w --request-timeout=2s", "").await.0;
    assert!(watched.contains("cm"), "{watched}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_explains_itself() {
    let cluster = Cluster::start().await;
    cluster.expect("version", "v1.36.1+steadfast").await;
    cluster.expect("api-resources", "statefulsets").await;
    cluster.expect("api-versions", "apps/v1").await;
    cluster.expect("cluster-info", "is running at").await;
    cluster
        .expect(
            "explain statefulset.spec.serviceName",
            "serviceName is the name of the service",
        )
        .await;
    cluster.expect("get --raw /readyz", "ok").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_manifests_are_refused_with_the_field() {
    let cluster = Cluster::start().await;
    for (from, to, expected) in [
        (
            "replicas: 2",
            "replicas: -1",
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        ("replicas: 2", "replicos: 2", "unknown field \"spec.replicos\""),
        (
            "matchLabels: {app: nginx}",
            "matchLabels: {app: other}",
            "`selector` does not match template `labels`",
        ),
    ] {
        let set = WEB.split("---").nth(1).unwrap().replace(from, to);
        // Old clients look at the schema themselves; here the server is asked.
        let (text, success) = cluster.try_run("create --validate=false -f -", &set).await;
        // Without validation an unknown field is only warned of, by servers and clients that can.
        if from == "replicas: 2" && to == "replicos: 2" {
            assert!(success, "{text}");
            cluster.run("delete sts web", "").await;
            let (text, success) = cluster.try_run("create -f -", &set).await;
            assert!(!success && text.contains("replicos"), "{text}");
            continue;
        }
        assert!(!success && text.contains(expected), "{text}");
    }
}

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    additionalPrinterColumns: [{name: Spec, type: string, jsonPath: .spec.cronSpec}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations: [{rule: 'self.replicas <= 5', message: too many}]
            properties:
              cronSpec: {type: string, description: When it runs.}
              replicas: {type: integer, default: 1}
";

const TAB: &str = "
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: mine}
spec: {cronSpec: old}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_resources_are_like_all_others() {
    let cluster = Cluster::start().await;
    cluster.run("apply -f -", DEFINITION).await;
    cluster
        .expect(
            "wait --for=condition=Established crd/crontabs.stable.example.com --timeout=20s",
            "condition met",
        )
        .await;
    let made = cluster.run("apply -f -", TAB).await;
    assert!(made.contains("crontab.stable.example.com/mine created"), "{made}");
    assert!(cluster.run("apply -f -", TAB).await.contains("mine unchanged"));
    let changed = cluster.run("apply -f -", &TAB.replace("old", "old2")).await;
    assert!(changed.contains("mine configured"), "{changed}");
    cluster.expect("get ct", "SPEC").await;
    cluster.expect("get ct mine -o jsonpath={.spec.replicas}", "1").await;
    cluster.expect("explain crontab.spec.cronSpec", "When it runs.").await;
    cluster.expect("edit ct mine", "edited").await;
    cluster.expect("get ct mine -o jsonpath={.spec.cronSpec}", "new2").await;
    cluster
        .expect("patch ct mine --type=merge -p {\"spec\":{\"replicas\":2}}", "patched")
        .await;
    cluster.expect("scale ct mine --replicas=3", "scaled").await;
    let (text, success) = cluster.try_run("scale ct mine --replicas=6", "").await;
    assert!(!success && text.contains("too many"), "{text}");
    cluster.expect("label ct mine a=b", "labeled").await;
    let applied = cluster.run("apply --server-side --force-conflicts -f -", TAB).await;
    assert!(applied.contains("serverside-applied"), "{applied}");
    let strange = TAB.replace("cronSpec", "cronSpek").replace("mine", "other");
    // Old clients look at the schema themselves and say it in their own words.
    let (text, success) = cluster.try_run("create -f -", &strange).await;
    assert!(!success && text.contains("cronSpek"), "{text}");
    cluster.expect("describe ct mine", "Kind:").await;
    cluster.expect("delete ct mine", "deleted").await;
    cluster
        .expect("delete crd crontabs.stable.example.com", "deleted")
        .await;
    let (text, success) = cluster.try_run("get ct", "").await;
    assert!(
        !success && (text.contains("resource type") || text.contains("NotFound")),
        "{text}"
    );
}
