//! A7.9: strategy `Recreate`, behind its gate.

use serde_json::json;

use crate::world::{BROKEN, World, world};

fn recreating(policy: &str) -> World {
    let mut world = world(json!({
        "podManagementPolicy": policy, "updateStrategy": { "type": "Recreate", "rollingUpdate": null },
    }));
    world.gates.recreate = true;
    world.run();
    world
}

fn pods_deleted(words: Vec<String>) -> Vec<String> {
    words
        .into_iter()
        .filter(|word| word.starts_with("delete Pod"))
        .collect()
}

#[test]
fn a7_9_recreate_deletes_all_pods_of_an_old_revision_at_once_and_condemned_ones_too() {
    for policy in ["OrderedReady", "Parallel"] {
        let mut world = recreating(policy);
        world.set_image("two");
        world.edit_set(json!({ "replicas": 2 }));
        let deleted = pods_deleted(world.settle());
        assert_eq!(
            deleted,
            ["delete Pod web-0", "delete Pod web-1", "delete Pod web-2"],
            "{policy}"
        );
    }
}

#[test]
fn a7_9_recreate_makes_nothing_before_the_last_old_pod_is_gone() {
    let mut world = recreating("Parallel");
    world.set_image("two");
    world.settle();
    for gone in ["web-0", "web-1"] {
        world.objects.remove(&("Pod".to_owned(), gone.to_owned()));
        assert!(world.settle().iter().all(|word| !word.contains(" Pod ")));
        assert!(world.because().contains(&format!("{gone} WaitsForOldRevision web-2")));
    }
    world.objects.remove(&("Pod".to_owned(), "web-2".to_owned()));
    let created = ["create Pod web-0", "create Pod web-1", "create Pod web-2"];
    assert_eq!(world.pod_steps(), created);
}

#[test]
fn a7_9_recreate_comes_back_under_the_management_policy_with_its_claims() {
    let mut world = recreating("OrderedReady");
    let uid = |world: &World| world.get("PersistentVolumeClaim", "www-web-1").unwrap()["metadata"]["uid"].clone();
    let before = uid(&world);
    world.set_image("two");
    world.settle();
    while world.names("Pod").len() > 1 || world.revision("web-2") != world.set()["status"]["updateRevision"] {
        assert!(world.live(0), "the pods end");
        let created = world.settle();
        assert!(created.iter().filter(|word| word.starts_with("create Pod")).count() <= 1);
        if world.names("Pod") == ["web-0"] {
            break;
        }
    }
    world.run();
    assert_eq!(world.names("Pod"), ["web-0", "web-1", "web-2"]);
    assert_eq!(world.pod("web-2")["spec"]["containers"][0]["image"], "two");
    assert_eq!(uid(&world), before);
    assert_eq!(
        world.set()["status"]["currentRevision"],
        world.set()["status"]["updateRevision"]
    );
    assert!(world.plan().because.is_empty());
}

#[test]
fn a7_9_recreate_cures_a_broken_revision() {
    let mut world = recreating("OrderedReady");
    world.set_image(BROKEN);
    world.run();
    assert_eq!(world.names("Pod"), ["web-0"]);
    world.set_image("three");
    world.run();
    assert_eq!(world.names("Pod"), ["web-0", "web-1", "web-2"]);
}

#[test]
fn a7_9_changing_only_the_strategy_to_recreate_triggers_nothing() {
    let mut world = world(json!({}));
    world.gates.recreate = true;
    world.run();
    world.edit_set(json!({ "updateStrategy": { "type": "Recreate", "rollingUpdate": null } }));
    assert!(world.settle().iter().all(|word| !word.contains(" Pod ")));
}

#[test]
fn a7_9_recreate_without_its_gate_is_a_rolling_update() {
    let mut world = recreating("OrderedReady");
    world.gates.recreate = false;
    world.set_image("two");
    assert_eq!(pods_deleted(world.settle()), ["delete Pod web-2"]);
}

#[test]
fn a7_9_recreate_hands_the_claims_of_condemned_pods_over_before_they_go() {
    let mut world = recreating("OrderedReady");
    world.edit_set(
        json!({ "persistentVolumeClaimRetentionPolicy": { "whenScaled": "Delete", "whenDeleted": "Retain" } }),
    );
    world.set_image("two");
    world.edit_set(json!({ "replicas": 2 }));
    world.run();
    assert_eq!(world.names("PersistentVolumeClaim"), ["www-web-0", "www-web-1"]);
}
