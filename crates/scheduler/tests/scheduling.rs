//! The scheduler against the real API server, in one process.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use api::k8s::api::core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::api::scheduling::v1::PriorityClass;
use api::k8s::api::storage::v1::StorageClass;
use apiserver::{ApiServer, Config, User, in_process};
use futures::StreamExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

/// Far more than anything here takes; only a hang is stopped by it.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    client: Client,
    shutdown: CancellationToken,
    scheduler: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Cluster {
    async fn start() -> Self {
        let server = ApiServer::new(Arc::new(MemoryStore::new()), Config::default())
            .await
            .unwrap();
        let client = Client::new(
            in_process(server.router(), User::new("admin", ["system:masters"])),
            "default",
        );
        let shutdown = CancellationToken::new();
        let scheduler = tokio::spawn(scheduler::run(client.clone(), shutdown.clone()));
        Self {
            client,
            shutdown,
            scheduler,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.scheduler.await.unwrap().unwrap();
    }

    fn namespaced<K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn node(&self, name: &str, pods: u32) {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        create(&nodes, node).await;
        let status = json!({"status": {"allocatable": {"cpu": "64", "memory": "64Gi", "pods": pods.to_string()}}});
        nodes
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    async fn pod(&self, name: &str, more: Value) {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        create(
            &self.namespaced::<Pod>(),
            json!({"metadata": {"name": name}, "spec": spec}),
        )
        .await;
    }

    async fn until_bound(&self, name: &str) -> Pod {
        until(&self.namespaced(), name, |pod: Option<&Pod>| node_of(pod).is_some())
            .await
            .unwrap()
    }

    async fn until_bound_count(&self, count: usize) {
        let mut bound = std::collections::BTreeSet::new();
        let watched = kube::runtime::watcher(self.namespaced::<Pod>(), kube::runtime::watcher::Config::default());
        let all = async {
            let mut stream = watched.boxed();
            while bound.len() < count {
                use kube::runtime::watcher::Event::{Apply, InitApply};
                if let Apply(pod) | InitApply(pod) = stream.next().await.unwrap().unwrap()
                    && node_of(Some(&pod)).is_some()
                {
                    bound.insert(pod.metadata.name);
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap();
    }

    async fn until_event(&self, reason: &str, message: &str) {
        let events: Api<Event> = self.namespaced();
        let told = async {
            let mut stream = kube::runtime::watcher(events, kube::runtime::watcher::Config::default()).boxed();
            use kube::runtime::watcher::Event::{Apply, InitApply};
            while let Some(event) = stream.next().await {
                if let Apply(event) | InitApply(event) = event.unwrap()
                    && event.reason.as_deref() == Some(reason)
                    && event.message.as_deref() == Some(message)
                {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, told)
            .await
            .unwrap_or_else(|_| panic!("no event {reason}: {message}"));
    }
}

async fn create<K: Clone + Debug + DeserializeOwned + Serialize>(api: &Api<K>, object: Value) {
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
}

async fn until<K>(api: &Api<K>, name: &str, condition: impl Condition<K>) -> Option<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition))
        .await
        .unwrap()
        .unwrap()
}

fn node_of(pod: Option<&Pod>) -> Option<&str> {
    pod?.spec.as_ref()?.node_name.as_deref()
}

fn scheduled(pod: Option<&Pod>) -> Option<(&str, &str)> {
    let conditions = pod?.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    Some((&found.status, found.message.as_deref().unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_pods_is_spread_without_overbooking() {
    let cluster = Cluster::start().await;
    for index in 0..10 {
        cluster.node(&format!("n{index}"), 100).await;
    }
    let begin = Instant::now();
    let names: Vec<String> = (0..1000).map(|index| format!("p{index}")).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(32, |name| cluster.pod(name, json!({})))
        .await;
    let created = begin.elapsed();
    cluster.until_bound_count(names.len()).await;
    eprintln!(
        "1000 pods: created after {created:?}, bound after {:?}",
        begin.elapsed()
    );
    let pods = cluster.namespaced::<Pod>().list(&ListParams::default()).await.unwrap();
    for index in 0..10 {
        let node = format!("n{index}");
        assert_eq!(pods.iter().filter(|pod| node_of(Some(pod)) == Some(&node)).count(), 100);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_so_and_is_bound_once_it_fits() {
    let cluster = Cluster::start().await;
    cluster.pod("p", json!({})).await;
    let message = "no nodes available to schedule pods";
    cluster.until_event("FailedScheduling", message).await;
    until(&cluster.namespaced(), "p", |pod: Option<&Pod>| {
        scheduled(pod) == Some(("False", message))
    })
    .await;
    cluster.node("full", 0).await;
    let message = "0/1 nodes are available: 1 Too many pods.";
    until(&cluster.namespaced(), "p", |pod: Option<&Pod>| {
        scheduled(pod) == Some(("False", message))
    })
    .await;
    cluster.node("empty", 1).await;
    let pod = cluster.until_bound("p").await;
    assert_eq!(node_of(Some(&pod)), Some("empty"));
    assert_eq!(scheduled(Some(&pod)).unwrap().0, "True");
    cluster
        .until_event("Scheduled", "Successfully assigned default/p to empty")
        .await;

    // A pod that leaves makes room for the next.
    cluster.pod("q", json!({})).await;
    let message = "0/2 nodes are available: 2 Too many pods.";
    until(&cluster.namespaced(), "q", |pod: Option<&Pod>| {
        scheduled(pod) == Some(("False", message))
    })
    .await;
    let now = kube::api::DeleteParams {
        grace_period_seconds: Some(0),
        ..Default::default()
    };
    cluster.namespaced::<Pod>().delete("p", &now).await.unwrap();
    cluster.until_bound("q").await;
    cluster.stop().await;
}

#[tokio::test]
async fn an_important_pod_makes_others_leave_and_gets_their_room() {
    let cluster = Cluster::start().await;
    let classes: Api<PriorityClass> = Api::all(cluster.client.clone());
    create(&classes, json!({"metadata": {"name": "urgent"}, "value": 1000})).await;
    cluster.node("n1", 10).await;
    let cpu = |amount: &str| json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": amount}}}]);
    cluster.pod("low", json!({"containers": cpu("60")})).await;
    cluster.until_bound("low").await;
    let urgent = json!({"containers": cpu("30"), "priorityClassName": "urgent"});
    cluster.pod("urgent", urgent).await;

    let pods: Api<Pod> = cluster.namespaced();
    let low = until(&pods, "low", |pod: Option<&Pod>| {
        pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some())
    })
    .await
    .unwrap();
    let conditions = low.status.unwrap().conditions.unwrap();
    let why = conditions
        .iter()
        .find(|condition| condition.type_ == "DisruptionTarget")
        .unwrap();
    assert_eq!(
        (&*why.status, why.reason.as_deref()),
        ("True", Some("PreemptionByScheduler"))
    );
    let nominated = pods.get("urgent").await.unwrap();
    let uid = nominated.metadata.uid.unwrap();
    assert_eq!(nominated.status.unwrap().nominated_node_name.as_deref(), Some("n1"));
    let told = format!("Preempted by pod {uid} on node n1");
    cluster.until_event("Preempted", &told).await;

    // Room for this one there would be, but it is kept.
    cluster.pod("late", json!({"containers": cpu("40")})).await;
    let now = kube::api::DeleteParams {
        grace_period_seconds: Some(0),
        ..Default::default()
    };
    pods.delete("low", &now).await.unwrap();
    cluster.until_bound("urgent").await;
    until(&pods, "late", |pod: Option<&Pod>| {
        scheduled(pod).is_some_and(|(status, _)| status == "False")
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn gates_and_other_schedulers_are_respected() {
    let cluster = Cluster::start().await;
    cluster
        .pod("gated", json!({"schedulingGates": [{"name": "example.com/wait"}]}))
        .await;
    cluster.pod("foreign", json!({"schedulerName": "other"})).await;
    cluster.node("n1", 10).await;
    cluster.pod("last", json!({})).await;
    cluster.until_bound("last").await;
    let pods: Api<Pod> = cluster.namespaced();
    for name in ["gated", "foreign"] {
        assert_eq!(node_of(Some(&pods.get(name).await.unwrap())), None, "{name}");
    }
    let patch = json!({"spec": {"schedulingGates": null}});
    pods.patch("gated", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    cluster.until_bound("gated").await;
    assert_eq!(node_of(Some(&pods.get("foreign").await.unwrap())), None);
    cluster.stop().await;
}

#[tokio::test]
async fn a_pod_is_bound_after_its_claim() {
    let cluster = Cluster::start().await;
    cluster.node("n1", 10).await;
    let classes: Api<StorageClass> = Api::all(cluster.client.clone());
    let class = json!({"metadata": {"name": "local"}, "provisioner": "steadfast.io/local", "volumeBindingMode": "WaitForFirstConsumer"});
    create(&classes, class).await;
    let volume = json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]});
    cluster.pod("p", volume).await;
    let message = "0/1 nodes are available: persistentvolumeclaim \"data\" not found.";
    cluster.until_event("FailedScheduling", message).await;

    let claims: Api<PersistentVolumeClaim> = cluster.namespaced();
    let claim = json!({"metadata": {"name": "data"}, "spec": {"storageClassName": "local",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    create(&claims, claim).await;
    let is_chosen = |claim: Option<&PersistentVolumeClaim>| {
        let annotations = claim.and_then(|claim| claim.metadata.annotations.as_ref());
        annotations
            .and_then(|all| all.get("volume.kubernetes.io/selected-node"))
            .is_some_and(|node| node == "n1")
    };
    let claim = until(&claims, "data", is_chosen).await.unwrap();

    // Now we are the provisioner.
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let volume = json!({"metadata": {"name": "v"}, "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp/v"},
        "claimRef": {"namespace": "default", "name": "data", "uid": claim.metadata.uid},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}}}});
    create(&volumes, volume).await;
    let patch =
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "v"}});
    claims
        .patch("data", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    let pod = cluster.until_bound("p").await;
    assert_eq!(node_of(Some(&pod)), Some("n1"));
    cluster.stop().await;
}
