//! The node agent against real containerd and our API server: a pod's whole life, a killed agent, pods that cannot run.
//!
//! Needs root and containerd; does nothing where either is missing. Pods live in the node's network, so no network
//! plug-in is needed.

#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]

#[path = "support/containerd.rs"]
mod containerd;

use api::k8s::api::core::v1::{ConfigMap, Event, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use apiserver::{ApiServer, Config as ApiConfig, User};
use containerd::Containerd;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::memory::MemoryStore;
use test_authority::Authority;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(90);

/// The configuration of a node agent named `dev`, with everything below `root`.
fn node_config(authority: &Authority, endpoint: &str, root: &Path, ip: IpAddr) -> anyhow::Result<node::Config> {
    Ok(node::Config {
        node_name: "dev".into(),
        node_labels: BTreeMap::new(),
        root_dir: root.join("node"),
        log_dir: root.join("logs"),
        runtime_endpoint: endpoint.to_owned(),
        node_ips: vec![ip],
        pod_cidrs: Vec::new(),
        cluster_dns: vec!["10.96.0.10".parse()?],
        cluster_domain: "cluster.local".into(),
        resolv_conf: "/etc/resolv.conf".into(),
        listen: (ip, 0).into(),
        tls: Arc::new(authority.server(ip)?),
        max_pods: 110,
        reserved: node::Reserved::default(),
        pod_pids_max: 0,
        cgroup_root: format!("/steadfast-test-{}", std::process::id()),
        version: "v1.36.1+steadfast".into(),
    })
}

struct Cluster {
    client: kube::Client,
    config: node::Config,
    runtime: Containerd,
}

impl Cluster {
    async fn new() -> Option<Self> {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // The first test to come sets it for all.
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init()
            .ok();
        let runtime = Containerd::start()?;
        let authority = Authority::new().unwrap();
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let kubelet_client = authority
            .client("kube-apiserver-kubelet-client", "system:masters")
            .unwrap();
        let api_config = ApiConfig {
            kubelet_client: Some(Arc::new(kubelet_client)),
            ..ApiConfig::default()
        };
        let server = ApiServer::new(Arc::new(MemoryStore::new()), api_config).await.unwrap();
        let user = User {
            name: "admin".into(),
            uid: String::new(),
            groups: vec!["system:masters".into()],
            extra: BTreeMap::new(),
        };
        let client = kube::Client::new(apiserver::in_process(server.router(), user), "default");
        let config = node_config(&authority, &runtime.endpoint(), runtime.dir(), ip).unwrap();
        Some(Self {
            client,
            config,
            runtime,
        })
    }

    /// Runs the agent until the handle is aborted, which is as good as a kill.
    fn run_node(&self) -> JoinHandle<()> {
        let (client, config) = (self.client.clone(), self.config.clone());
        tokio::spawn(async move { node::run(client, config, CancellationToken::new()).await.unwrap() })
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    async fn create(&self, pod: Value) {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    /// Makes a claim and its volume here, as the claims controller would.
    async fn bind_claim(&self, claim: &str, volume: &str, dir: &Path) -> Api<PersistentVolume> {
        let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(self.client.clone());
        let object = json!({
            "metadata": {"name": claim},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "standard", "volumeName": volume,
                "resources": {"requests": {"storage": "1Mi"}},
            },
        });
        let made = claims
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
        let terms = json!([{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["dev"]},
        ]}]);
        let object = json!({
            "metadata": {
                "name": volume, "finalizers": ["steadfast.io/local-volume"],
                "annotations": {"pv.kubernetes.io/provisioned-by": "steadfast.io/local"},
            },
            "spec": {
                "capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "standard",
                "persistentVolumeReclaimPolicy": "Delete",
                "hostPath": {"path": dir, "type": "DirectoryOrCreate"},
                "claimRef": {"namespace": "default", "name": claim, "uid": made.metadata.uid},
                "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            },
        });
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        volumes
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
        let bound = json!({"status": {"phase": "Bound"}});
        claims
            .patch_status(claim, &PatchParams::default(), &Patch::Merge(bound))
            .await
            .unwrap();
        volumes
    }

    /// Waits until the pod is as wanted.
    async fn until(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut pods = watcher(self.pods(), config).default_backoff().applied_objects().boxed();
        let mut last = None;
        let wait = async {
            while let Some(pod) = pods.next().await {
                let pod = pod.unwrap();
                if holds(&pod) {
                    return pod;
                }
                last = Some(pod);
            }
            panic!("the watch ended");
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(pod) => pod,
            Err(_) => panic!("{name} is never {what}: {:#?}", last.and_then(|p| p.status)),
        }
    }

    async fn until_gone(&self, name: &str) {
        let wait = async {
            while self.pods().get_opt(name).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{name} does not go"));
    }
}

fn pod(name: &str, container: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": "dev", "hostNetwork": true, "terminationGracePeriodSeconds": 2,
            "containers": [container],
        },
    })
}

fn script(text: &str) -> Value {
    json!({"name": "main", "image": containerd::IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", text]})
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn waiting_reason(pod: &Pod) -> String {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_deref())
        .unwrap_or_default();
    let state = statuses.first().and_then(|s| s.state.as_ref());
    state
        .and_then(|s| s.waiting.as_ref())
        .and_then(|w| w.reason.clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_outlives_the_agent_and_ends_in_order() {
    let Some(cluster) = Cluster::new().await else { return };
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "cm"}, "data": {"k": "v1"}})).unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    maps.create(&PostParams::default(), &map).await.unwrap();
    let agent = cluster.run_node();
    let mut main = script("echo up $K; trap 'echo down; exit 0' TERM; while true; do sleep 0.1; done");
    main["env"] = json!([{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]);
    main["volumeMounts"] = json!([{"name": "cm", "mountPath": "/cm"}, {"name": "memory", "mountPath": "/memory"}]);
    main["readinessProbe"] = json!({"exec": {"command": ["/bin/sh", "-c", "test -e /cm/k"]}, "periodSeconds": 1});
    let mut web = pod("web-0", main);
    web["spec"]["volumes"] =
        json!([{"name": "cm", "configMap": {"name": "cm"}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]);
    cluster.create(web).await;
    let before = cluster.until("web-0", "ready", is_ready).await;
    assert_eq!(
        cluster.pods().logs("web-0", &LogParams::default()).await.unwrap(),
        "up v1\n"
    );
    let node: Node = Api::all(cluster.client.clone()).get("dev").await.unwrap();
    assert!(
        node.status
            .unwrap()
            .node_info
            .unwrap()
            .container_runtime_version
            .starts_with("containerd://")
    );

    agent.abort();
    assert!(agent.await.unwrap_err().is_cancelled());
    let changed = json!({"data": {"k": "v2"}});
    maps.patch("cm", &PatchParams::default(), &Patch::Merge(changed))
        .await
        .unwrap();
    let agent = cluster.run_node();
    let uid = before.metadata.uid.clone().unwrap();
    let file = cluster
        .config
        .root_dir
        .join("pods")
        .join(&uid)
        .join("volumes/kubernetes.io~configmap/cm/k");
    let wait = async {
        while std::fs::read_to_string(&file).unwrap() != "v2" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("the new agent brings files up to date");
    let after = cluster.pods().get("web-0").await.unwrap();
    assert_eq!(
        after.status, before.status,
        "the same container, no restart, nothing to tell"
    );

    let ended = cluster.until("web-0", "ended", |pod| {
        pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Succeeded")
    });
    let (pods, params) = (cluster.pods(), DeleteParams::default());
    let (_, deleted) = tokio::join!(ended, pods.delete("web-0", &params));
    deleted.unwrap();
    cluster.until_gone("web-0").await;
    assert!(!cluster.config.root_dir.join("pods").join(&uid).exists());
    assert_eq!(cluster.runtime.containers(), "");
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_given_to_the_group_and_reclaimed_after_the_last_container() {
    let Some(cluster) = Cluster::new().await else { return };
    let agent = cluster.run_node();
    let mut main =
        script("trap '' TERM; id; echo $(cat /secret/p); echo data > /data/sub/f; while true; do sleep 0.1; done");
    main["volumeMounts"] = json!([
        {"name": "data", "mountPath": "/data/sub", "subPath": "a/b"},
        {"name": "secret", "mountPath": "/secret", "readOnly": true},
    ]);
    main["readinessProbe"] = json!({"exec": {"command": ["/bin/sh", "-c", "test -s /data/sub/f"]}, "periodSeconds": 1});
    let mut db = pod("db-0", main);
    db["spec"]["securityContext"] = json!({"runAsUser": 1000, "fsGroup": 2000});
    db["spec"]["volumes"] = json!([
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "secret", "secret": {"secretName": "secret", "defaultMode": 0o440}},
    ]);
    let secret = json!({"metadata": {"name": "secret"}, "stringData": {"p": "word"}});
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client.clone());
    secrets
        .create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
        .await
        .unwrap();
    cluster.create(db).await;
    let dir = cluster.runtime.dir().join("volumes/pv-1");
    let volumes = cluster.bind_claim("data", "pv-1", &dir).await;
    let running = cluster.until("db-0", "ready", is_ready).await;
    let log = cluster.pods().logs("db-0", &LogParams::default()).await.unwrap();
    assert!(
        log.contains("uid=1000") && log.contains("2000") && log.contains("word"),
        "{log}"
    );
    assert_eq!(std::fs::read_to_string(dir.join("a/b/f")).unwrap(), "data\n");

    // Deleted by force: the API has forgotten the pod, its container still lives for its grace.
    cluster
        .pods()
        .delete("db-0", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let released = json!({"status": {"phase": "Released"}});
    volumes
        .patch_status("pv-1", &PatchParams::default(), &Patch::Merge(released))
        .await
        .unwrap();
    let uid = running.metadata.uid.unwrap();
    let wait = async {
        // Other finalizers are other controllers'.
        let held = |v: &PersistentVolume| v.finalizers().iter().any(|f| f == "steadfast.io/local-volume");
        while volumes.get_opt("pv-1").await.unwrap().is_some_and(|v| held(&v)) {
            assert!(
                cluster.runtime.running() == 0 || dir.exists(),
                "the volume went before its container"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("the volume is reclaimed");
    assert!(!dir.exists() && dir.parent().unwrap().exists());
    assert!(!cluster.config.root_dir.join("pods").join(uid).exists());
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_cannot_run_say_why_and_harm_nobody() {
    let Some(cluster) = Cluster::new().await else { return };
    let agent = cluster.run_node();
    let mut absent = script("true");
    absent["image"] = json!("localhost:1/absent:1");
    absent["imagePullPolicy"] = json!("IfNotPresent");
    let mut never = script("true");
    never["image"] = json!("localhost/absent:1");
    let mut unnamed = script("true");
    unnamed["image"] = json!("Not An Image");
    let mut unset = script("true");
    unset["env"] = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k"}}}]);
    let mut no_command = script("true");
    no_command["command"] = json!(["/absent"]);
    let cases = [
        ("absent", absent, "ImagePullBackOff"),
        ("never", never, "ErrImageNeverPull"),
        ("unnamed", unnamed, "InvalidImageName"),
        ("unset", unset, "CreateContainerConfigError"),
        ("no-command", no_command, "RunContainerError"),
        ("crash", script("echo last words; exit 3"), "CrashLoopBackOff"),
    ];
    for (name, container, _) in &cases {
        cluster.create(pod(name, container.clone())).await;
    }
    cluster.create(pod("fine", script("sleep 1000"))).await;
    for (name, _, reason) in &cases {
        cluster.until(name, reason, |pod| waiting_reason(pod) == *reason).await;
    }
    cluster.until("fine", "ready", is_ready).await;
    let events: Api<Event> = Api::default_namespaced(cluster.client.clone());
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let about = |pod: &str, reason: &str| {
        events
            .iter()
            .any(|e| e.involved_object.name.as_deref() == Some(pod) && e.reason.as_deref() == Some(reason))
    };
    for (pod, reason) in [
        ("absent", "BackOff"),
        ("absent", "Failed"),
        ("never", "ErrImageNeverPull"),
        ("crash", "BackOff"),
    ] {
        assert!(about(pod, reason), "no event {reason} of {pod}");
    }
    let crash = cluster
        .pods()
        .get("crash")
        .await
        .unwrap()
        .status
        .unwrap()
        .container_statuses
        .unwrap();
    assert_eq!(crash[0].last_state.clone().unwrap().terminated.unwrap().exit_code, 3);

    agent.abort();
    assert!(agent.await.unwrap_err().is_cancelled());
    node::remove_all(&cluster.runtime.endpoint(), &cluster.config.root_dir)
        .await
        .unwrap();
    assert_eq!(cluster.runtime.containers(), "");
    assert_eq!(
        std::fs::read_dir(cluster.config.root_dir.join("pods")).unwrap().count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_pod_of_a_name_waits_for_what_is_left_of_the_old() {
    let Some(cluster) = Cluster::new().await else { return };
    let agent = cluster.run_node();
    // Ignores SIGTERM: lives on for its grace after it is gone from the API.
    let stubborn = script("trap '' TERM; while true; do sleep 0.1; done");
    cluster.create(pod("web-0", stubborn.clone())).await;
    cluster.until("web-0", "ready", is_ready).await;
    agent.abort();
    assert!(agent.await.unwrap_err().is_cancelled());
    cluster
        .pods()
        .delete("web-0", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    cluster.until_gone("web-0").await;
    cluster.create(pod("web-0", stubborn)).await;
    let agent = cluster.run_node();
    let both = async {
        loop {
            assert!(cluster.runtime.running() <= 1, "two live containers of one identity");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = both => {}
        _ = cluster.until("web-0", "ready", is_ready) => {}
    }
    agent.abort();
    assert!(agent.await.unwrap_err().is_cancelled());
    node::remove_all(&cluster.runtime.endpoint(), &cluster.config.root_dir)
        .await
        .unwrap();
}
