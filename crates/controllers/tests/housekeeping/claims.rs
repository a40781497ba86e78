//! Claims and local volumes.

use api::k8s::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::api::storage::v1::StorageClass;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::cluster::{Cluster, create, delete, patch, uid, until, until_gone};

fn phase(claim: Option<&PersistentVolumeClaim>) -> Option<&str> {
    claim?.status.as_ref()?.phase.as_deref()
}

fn volume_phase(volume: Option<&PersistentVolume>) -> Option<&str> {
    volume?.status.as_ref()?.phase.as_deref()
}

fn claim(name: &str, class: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}})
}

async fn class(cluster: &Cluster, name: &str, mode: &str, provisioner: &str) {
    let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode,
        "reclaimPolicy": "Delete", "parameters": {"path": "/data"}});
    create(&cluster.all::<StorageClass>(), class).await;
}

#[tokio::test]
async fn a_local_volume_is_made_for_its_first_consumer_and_released_with_its_claim() {
    let cluster = Cluster::start().await;
    cluster.node("n1").await;
    class(&cluster, "local", "WaitForFirstConsumer", "steadfast.io/local").await;
    let claims = cluster.of::<PersistentVolumeClaim>();
    let created = create(&claims, claim("data", "local")).await;
    cluster
        .until_event(
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        )
        .await;
    patch(
        &claims,
        "data",
        json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}),
    )
    .await;
    let bound = until(&claims, "data", |claim: Option<&PersistentVolumeClaim>| {
        phase(claim) == Some("Bound")
    })
    .await
    .unwrap();
    let name = format!("pvc-{}", uid(&created));
    assert_eq!(bound.spec.unwrap().volume_name.as_ref(), Some(&name));
    let volumes = cluster.all::<PersistentVolume>();
    let volume = until(&volumes, &name, |volume: Option<&PersistentVolume>| {
        volume_phase(volume) == Some("Bound")
    })
    .await;
    let path = volume.unwrap().spec.unwrap().host_path.unwrap().path;
    assert_eq!(path, format!("/data/{name}"));
    cluster
        .until_event(
            "ProvisioningSucceeded",
            &format!("Successfully provisioned volume {name}"),
        )
        .await;

    // A pod that runs keeps the claim, the claim keeps the volume.
    let volume = json!({"spec": {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}});
    cluster.pod("user", volume, json!({"phase": "Running"})).await;
    delete(&claims, "data", &DeleteParams::default()).await;
    cluster.pod("later", json!({}), json!({"phase": "Running"})).await;
    assert!(claims.get("data").await.unwrap().metadata.deletion_timestamp.is_some());
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    delete(&cluster.of::<Pod>(), "user", &now).await;
    until_gone(&claims, "data").await;
    until(&volumes, &name, |volume: Option<&PersistentVolume>| {
        volume_phase(volume) == Some("Released")
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn volumes_made_by_hand_are_found_whatever_comes_first() {
    let cluster = Cluster::start().await;
    let claims = cluster.of::<PersistentVolumeClaim>();
    create(&claims, claim("early", "hand")).await;
    cluster
        .until_event("ProvisioningFailed", "storageclass.storage.k8s.io \"hand\" not found")
        .await;
    class(&cluster, "hand", "Immediate", "kubernetes.io/no-provisioner").await;
    for (name, size) in [("large", "10Gi"), ("small", "1Gi")] {
        let volume = json!({"metadata": {"name": name}, "spec": {"storageClassName": "hand", "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": size}, "hostPath": {"path": "/tmp/x"}, "persistentVolumeReclaimPolicy": "Retain"}});
        create(&cluster.all::<PersistentVolume>(), volume).await;
    }
    create(&claims, claim("late", "hand")).await;
    let mut names = Vec::new();
    for name in ["early", "late"] {
        let bound = until(&claims, name, |claim: Option<&PersistentVolumeClaim>| {
            phase(claim) == Some("Bound")
        })
        .await;
        names.push(bound.unwrap().spec.unwrap().volume_name.unwrap());
    }
    names.sort();
    assert_eq!(names, ["large", "small"]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_pod_with_an_ephemeral_volume_gets_its_claim() {
    let cluster = Cluster::start().await;
    let template = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let volume = json!({"spec": {"volumes": [{"name": "tmp", "ephemeral": {"volumeClaimTemplate": template}}]}});
    cluster.pod("p", volume, json!({"phase": "Pending"})).await;
    let claims = cluster.of::<PersistentVolumeClaim>();
    until(&claims, "p-tmp", |claim: Option<&PersistentVolumeClaim>| {
        claim.is_some()
    })
    .await;
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    delete(&cluster.of::<Pod>(), "p", &now).await;
    until_gone(&claims, "p-tmp").await;
    cluster.stop().await;
}
