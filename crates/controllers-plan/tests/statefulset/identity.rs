//! A1: names, labels, volumes of pods.

use controllers_plan::statefulset::parse_name;
use serde_json::json;

use crate::world::world;

#[test]
fn a1_2_parent_and_ordinal_are_read_from_the_name() {
    assert_eq!(parse_name("web-3"), Some(("web", Some(3))));
    assert_eq!(parse_name("a-b-01"), Some(("a-b", Some(1))));
    assert_eq!(parse_name("web-99999999999"), Some(("web", None)));
    for other in ["web", "web-", "web-x", "web-3x"] {
        assert_eq!(parse_name(other), None, "{other}");
    }
}

#[test]
fn a1_5_created_pod_carries_name_labels_and_owner() {
    let mut world = world(json!({
        "template": { "metadata": { "annotations": { "a": "b" }, "finalizers": ["example.com/keep"] } },
    }));
    world.settle();
    let pod = world.pod("web-0");
    let revision = world.names("ControllerRevision")[0].to_owned();
    assert_eq!(pod["metadata"]["generateName"], "web-");
    assert_eq!(
        pod["metadata"]["labels"],
        json!({
            "app": "nginx", "statefulset.kubernetes.io/pod-name": "web-0", "apps.kubernetes.io/pod-index": "0",
            "controller-revision-hash": revision,
        })
    );
    assert_eq!(pod["metadata"]["annotations"], json!({ "a": "b" }));
    assert_eq!(pod["metadata"]["finalizers"], json!(["example.com/keep"]));
    assert_eq!(
        pod["metadata"]["ownerReferences"],
        json!([{
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": world.set()["metadata"]["uid"],
            "controller": true, "blockOwnerDeletion": true,
        }])
    );
}

#[test]
fn a1_6_hostname_and_subdomain_override_the_template() {
    let mut world = world(json!({ "template": { "spec": { "hostname": "x", "subdomain": "y" } } }));
    world.settle();
    assert_eq!(world.pod("web-0")["spec"]["hostname"], "web-0");
    assert_eq!(world.pod("web-0")["spec"]["subdomain"], "nginx");
}

#[test]
fn a1_7_claim_volumes_replace_those_of_the_same_name_and_keep_the_others() {
    let volumes = json!([{ "name": "www", "emptyDir": {} }, { "name": "tmp", "emptyDir": {} }]);
    let mut world = world(json!({ "template": { "spec": { "volumes": volumes } } }));
    world.settle();
    assert_eq!(
        world.pod("web-0")["spec"]["volumes"],
        json!([
            { "name": "www", "persistentVolumeClaim": { "claimName": "www-web-0" } },
            { "name": "tmp", "emptyDir": {} },
        ])
    );
}

#[test]
fn a1_8_identity_labels_are_repaired() {
    for label in ["statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"] {
        let mut world = world(json!({}));
        world.run();
        world.edit("Pod", "web-1", &json!({ "metadata": { "labels": { label: null } } }));
        assert_eq!(world.settle(), ["patch Pod web-1"], "{label}");
        assert_eq!(
            world.pod("web-1")["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"],
            "web-1"
        );
        assert_eq!(
            world.pod("web-1")["metadata"]["labels"]["apps.kubernetes.io/pod-index"],
            "1"
        );
    }
}

#[test]
fn a1_8_pod_without_revision_label_is_outdated_and_replaced() {
    let mut world = world(json!({}));
    world.run();
    world.edit(
        "Pod",
        "web-1",
        &json!({ "metadata": { "labels": { "controller-revision-hash": null } } }),
    );
    assert_eq!(world.pod_steps(), ["delete Pod web-1"]);
}

#[test]
fn a1_9_pod_with_foreign_volume_is_told_of_and_left_alone() {
    let mut world = world(json!({}));
    world.run();
    world.edit("Pod", "web-1", &json!({ "spec": { "volumes": [] } }));
    let plan = world.plan();
    assert!(plan.steps.is_empty());
    assert_eq!(plan.events[0].notice.reason, "FailedUpdate");
    assert_eq!(world.because()[0], "web-1 ForeignVolume web-1");
}

#[test]
fn a1_3_pod_with_padded_ordinal_is_no_replica() {
    let mut world = world(json!({}));
    world.run();
    let mut stranger = world.pod("web-1").clone();
    stranger["metadata"]["name"] = json!("web-01");
    stranger["metadata"]["uid"] = json!("other");
    world.insert("Pod", stranger);
    assert!(world.plan().steps.is_empty());
    world.objects.remove(&("Pod".to_owned(), "web-1".to_owned()));
    assert_eq!(world.pod_steps(), ["create Pod web-1"]);
}
