//! The textbook walk: create, lose, scale, update, undo, delete, create again.

use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet};
use api::k8s::api::core::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::json;

use crate::cluster::{BROKEN, Cluster, PATIENCE, image, web};

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

async fn settled(replicas: i32) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.create(&web(replicas)).await;
    cluster.until_settled(replicas).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_created_in_order_with_names_labels_and_claims() {
    let cluster = settled(2).await;
    assert_eq!(
        cluster.history(0, 4).await,
        strings(&["create web-0", "ready web-0", "create web-1", "ready web-1"])
    );
    let pod = cluster.pods().get("web-1").await.unwrap();
    let spec = pod.spec.unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("web-1"), Some("nginx"))
    );
    let revision = cluster.revisions().await[0].1.clone();
    let labels = pod.metadata.labels.unwrap();
    assert_eq!(labels["controller-revision-hash"], revision);
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "1");
    let claims: Vec<_> = cluster.claims().await.into_keys().collect();
    assert_eq!(claims, ["www-web-0", "www-web-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_pods_come_back_in_order_with_their_claims() {
    let cluster = settled(2).await;
    let (claims, before) = (cluster.claims().await, cluster.now());
    for pod in ["web-0", "web-1"] {
        cluster.pods().delete(pod, &DeleteParams::default()).await.unwrap();
    }
    let history = cluster.history(before, 8).await;
    let place = |word: &str| {
        history
            .iter()
            .position(|known| known == word)
            .unwrap_or_else(|| panic!("{word}: {history:?}"))
    };
    assert!(place("gone web-0") < place("create web-0"));
    assert!(place("gone web-1") < place("create web-1"));
    assert!(place("ready web-0") < place("create web-1"));
    cluster.until_settled(2).await;
    assert_eq!(cluster.claims().await, claims);
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_goes_up_in_order_and_down_in_reverse_and_keeps_claims() {
    let cluster = settled(1).await;
    let before = cluster.now();
    cluster.patch(json!({ "spec": { "replicas": 3 } })).await;
    cluster.until_settled(3).await;
    assert_eq!(
        cluster.history(before, 4).await,
        strings(&["create web-1", "ready web-1", "create web-2", "ready web-2"])
    );
    let (claims, before) = (cluster.claims().await, cluster.now());
    cluster.patch(json!({ "spec": { "replicas": 1 } })).await;
    cluster.until_settled(1).await;
    assert_eq!(
        cluster.history(before, 4).await,
        strings(&["end web-2", "gone web-2", "end web-1", "gone web-1"])
    );
    cluster.patch(json!({ "spec": { "replicas": 3 } })).await;
    cluster.until_settled(3).await;
    assert_eq!(cluster.claims().await, claims);
}

#[tokio::test(flavor = "multi_thread")]
async fn update_goes_from_the_highest_down_and_can_be_undone() {
    let cluster = settled(3).await;
    let before = cluster.now();
    cluster.patch(image("two")).await;
    cluster.until_settled(3).await;
    let expected = [2, 1, 0].map(|o| {
        [
            format!("end web-{o}"),
            format!("gone web-{o}"),
            format!("create web-{o}"),
            format!("ready web-{o}"),
        ]
    });
    assert_eq!(cluster.history(before, 12).await, expected.concat());
    let revisions = cluster.revisions().await;
    assert_eq!(revisions.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);

    // As `kubectl rollout undo` does.
    let api = Api::<ControllerRevision>::default_namespaced(cluster.client.clone());
    let data = api.get(&revisions[0].1).await.unwrap().data.unwrap().0;
    cluster
        .sets()
        .patch("web", &PatchParams::default(), &Patch::Strategic(data))
        .await
        .unwrap();
    let set = cluster.until_settled(3).await;
    assert_eq!(set.status.unwrap().current_revision, Some(revisions[0].1.clone()));
    assert_eq!(
        cluster.revisions().await,
        [(2, revisions[1].1.clone()), (3, revisions[0].1.clone())]
    );
    let pod = cluster.pods().get("web-0").await.unwrap();
    assert_eq!(pod.spec.unwrap().containers[0].image.as_deref(), Some("one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn set_created_again_finds_its_claims() {
    let cluster = settled(2).await;
    let (claims, before) = (cluster.claims().await, cluster.now());
    cluster.sets().delete("web", &DeleteParams::default()).await.unwrap();
    // At once, while the garbage collector is still busy with the pods of the old one.
    cluster.create(&web(2)).await;
    let history = cluster.history(before, 8).await;
    assert_eq!(
        history.iter().filter(|word| word.starts_with("gone")).count(),
        2,
        "{history:?}"
    );
    cluster.until_settled(2).await;
    assert_eq!(cluster.claims().await, claims);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_set_says_what_it_waits_for_and_recovers() {
    let cluster = settled(2).await;
    cluster.patch(image(BROKEN)).await;
    let set = cluster
        .until("waiting", |set| {
            let conditions = set.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let mut messages = conditions
                .into_iter()
                .filter_map(|condition| condition.message.as_deref());
            messages.any(|message| message.contains("the update of web-0 waits for web-1: it runs and is not ready"))
        })
        .await;
    assert_eq!(set.status.unwrap().ready_replicas, Some(1));
    cluster.patch(image("three")).await;
    cluster
        .until("observed", |set| {
            set.status.as_ref().unwrap().observed_generation == set.metadata.generation
        })
        .await;
    cluster.pods().delete("web-1", &DeleteParams::default()).await.unwrap();
    cluster.until_settled(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_without_owner_is_adopted() {
    let cluster = settled(1).await;
    let uid = cluster.pods().get("web-0").await.unwrap().metadata.uid;
    cluster.sets().delete("web", &DeleteParams::orphan()).await.unwrap();
    let gone = |set: Option<&StatefulSet>| set.is_none();
    let waiting = await_condition(cluster.sets(), "web", gone);
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("gone in time")
        .unwrap();
    assert_eq!(
        cluster.pods().get("web-0").await.unwrap().metadata.owner_references,
        None
    );
    cluster.create(&web(1)).await;
    cluster.until_settled(1).await;
    let pod = cluster.pods().get("web-0").await.unwrap();
    assert_eq!(pod.metadata.uid, uid);
    assert_eq!(cluster.revisions().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_told_as_events() {
    let cluster = settled(1).await;
    let events = Api::<Event>::default_namespaced(cluster.client.clone());
    let has_pod_event = |event: Option<&Event>| event.is_some();
    let listed = || async {
        let list = events
            .list(&ListParams::default().fields("involvedObject.kind=StatefulSet"))
            .await
            .unwrap();
        list.into_iter()
            .map(|event| (event.metadata.name.unwrap(), event.message.unwrap()))
            .collect::<Vec<_>>()
    };
    let expected = "Create Pod web-0 in StatefulSet web successful";
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some((name, _)) = listed().await.into_iter().find(|(_, message)| message == expected) {
                return name;
            }
            tokio::task::yield_now().await;
        }
    });
    let name = found.await.expect("told in time");
    await_condition(events.clone(), &name, has_pod_event).await.unwrap();
}
