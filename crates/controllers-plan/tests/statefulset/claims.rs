//! A9: claims, their owners, and what deletes them.

use serde_json::{Value, json};

use crate::world::{World, words, world};

fn with_policy(scaled: &str, deleted: &str) -> World {
    let policy = json!({ "whenScaled": scaled, "whenDeleted": deleted });
    let mut world = world(json!({ "persistentVolumeClaimRetentionPolicy": policy }));
    world.run();
    world
}

fn owners(world: &World, claim: &str) -> Vec<String> {
    let claim = world
        .get("PersistentVolumeClaim", claim)
        .unwrap_or_else(|| panic!("no claim {claim}"));
    let owners = claim["metadata"]["ownerReferences"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let tell = |owner: &Value| {
        format!(
            "{} {}",
            owner["kind"].as_str().unwrap(),
            owner["name"].as_str().unwrap()
        )
    };
    owners.iter().map(tell).collect()
}

#[test]
fn a9_1_claim_has_name_labels_and_annotations_and_no_owner_at_first() {
    let policy = json!({ "whenScaled": "Retain", "whenDeleted": "Delete" });
    let mut world = world(json!({ "persistentVolumeClaimRetentionPolicy": policy }));
    world.step();
    let claim = world.get("PersistentVolumeClaim", "www-web-0").unwrap();
    assert_eq!(claim["metadata"]["labels"], json!({ "tier": "web", "app": "nginx" }));
    assert_eq!(claim["metadata"]["annotations"], json!({ "note": "mine" }));
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
    assert!(claim["metadata"]["ownerReferences"].is_null());
    world.settle();
    assert_eq!(owners(&world, "www-web-0"), ["StatefulSet web"]);
}

#[test]
fn a9_2_existing_claim_is_used_as_it_is() {
    let mut world = world(json!({}));
    world.insert(
        "PersistentVolumeClaim",
        json!({ "metadata": { "name": "www-web-0" }, "spec": { "volumeName": "x" } }),
    );
    world.run();
    assert_eq!(
        world.get("PersistentVolumeClaim", "www-web-0").unwrap()["spec"],
        json!({ "volumeName": "x" })
    );
}

#[test]
fn a9_3_pod_is_not_created_while_its_claim_is_being_deleted() {
    let mut world = with_policy("Retain", "Retain");
    world.delete("PersistentVolumeClaim", "www-web-1");
    world.objects.remove(&("Pod".to_owned(), "web-1".to_owned()));
    let plan = world.plan();
    assert!(world.pod_steps().is_empty());
    assert_eq!(plan.events[0].notice.reason, "FailedCreate");
    assert_eq!(
        plan.events[0].notice.message,
        "Create Pod web-1 in StatefulSet web failed error: pvc www-web-1 is being deleted"
    );
    assert!(world.because().contains(&"web-1 ClaimDeleting www-web-1".to_owned()));
    world.live(0);
    assert_eq!(
        words(&world.plan()),
        ["create PersistentVolumeClaim www-web-1", "create Pod web-1"]
    );
}

#[test]
fn a9_4_claims_come_before_their_pod() {
    let claims = ["a", "b"].map(|name| json!({ "metadata": { "name": name }, "spec": {} }));
    let world = world(json!({ "volumeClaimTemplates": claims }));
    let expected = [
        "create PersistentVolumeClaim a-web-0",
        "create PersistentVolumeClaim b-web-0",
        "create Pod web-0",
    ];
    assert_eq!(words(&world.plan())[1..], expected);
}

#[test]
fn a9_5_retained_claims_survive_scale_down_and_serve_again() {
    let mut world = with_policy("Retain", "Retain");
    let uid = world.get("PersistentVolumeClaim", "www-web-2").unwrap()["metadata"]["uid"].clone();
    world.edit_set(json!({ "replicas": 0 }));
    world.run();
    assert!(world.names("Pod").is_empty());
    world.edit_set(json!({ "replicas": 3 }));
    world.run();
    assert_eq!(
        world.get("PersistentVolumeClaim", "www-web-2").unwrap()["metadata"]["uid"],
        uid
    );
}

#[test]
fn a9_6_owners_follow_the_policy() {
    let table = [
        ("Retain", "Retain", vec![], vec![]),
        ("Retain", "Delete", vec!["StatefulSet web"], vec!["StatefulSet web"]),
        ("Delete", "Retain", vec![], vec!["Pod web-2"]),
        ("Delete", "Delete", vec!["StatefulSet web"], vec!["Pod web-2"]),
        ("Nonsense", "Nonsense", vec![], vec![]),
    ];
    for (scaled, deleted, in_range, condemned) in table {
        let mut world = with_policy(scaled, deleted);
        assert_eq!(owners(&world, "www-web-2"), in_range, "{scaled}/{deleted} in range");
        world.edit_set(json!({ "replicas": 2 }));
        world.settle();
        assert_eq!(owners(&world, "www-web-2"), condemned, "{scaled}/{deleted} condemned");
    }
}

#[test]
fn a9_6_scaled_away_claims_are_collected_and_others_stay() {
    for (scaled, left) in [("Delete", 1), ("Retain", 3)] {
        let mut world = with_policy(scaled, "Retain");
        world.edit_set(json!({ "replicas": 1 }));
        world.run();
        assert_eq!(world.names("PersistentVolumeClaim").len(), left, "{scaled}");
    }
}

#[test]
fn a9_6_changed_policy_changes_owners_of_existing_pods_claims() {
    let mut world = with_policy("Retain", "Retain");
    let policy = |deleted: &str| json!({ "persistentVolumeClaimRetentionPolicy": { "whenDeleted": deleted } });
    world.edit_set(policy("Delete"));
    world.settle();
    assert_eq!(owners(&world, "www-web-1"), ["StatefulSet web"]);
    world.edit_set(policy("Retain"));
    world.settle();
    assert!(owners(&world, "www-web-1").is_empty());
}

#[test]
fn a9_7_stale_owner_is_left_alone() {
    let mut world = with_policy("Retain", "Retain");
    let stale = json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "old" }]);
    world.edit(
        "PersistentVolumeClaim",
        "www-web-1",
        &json!({ "metadata": { "ownerReferences": stale } }),
    );
    world.edit_set(json!({ "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete" } }));
    world.settle();
    assert_eq!(
        world.get("PersistentVolumeClaim", "www-web-1").unwrap()["metadata"]["ownerReferences"],
        stale
    );
}

#[test]
fn a9_7_claim_of_another_controller_is_told_of_and_keeps_its_owner() {
    let mut world = with_policy("Retain", "Delete");
    let theirs = json!({ "apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": true });
    let ours = world.get("PersistentVolumeClaim", "www-web-1").unwrap()["metadata"]["ownerReferences"][0].clone();
    let both = json!([ours, theirs]);
    world.edit(
        "PersistentVolumeClaim",
        "www-web-1",
        &json!({ "metadata": { "ownerReferences": both } }),
    );
    let plan = world.plan();
    assert_eq!(plan.events[0].notice.reason, "ConflictingController");
    world.settle();
    assert_eq!(owners(&world, "www-web-1"), ["X x"]);
    let kept = world.plan();
    assert!(kept.steps.is_empty());
}

#[test]
fn a9_7_other_owners_are_kept_and_ours_made_controller() {
    let mut world = with_policy("Retain", "Retain");
    let other = json!({ "apiVersion": "v1", "kind": "X", "name": "x", "uid": "x" });
    let uid = world.set()["metadata"]["uid"].clone();
    let weak = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": uid });
    let both = json!([other, weak]);
    world.edit(
        "PersistentVolumeClaim",
        "www-web-1",
        &json!({ "metadata": { "ownerReferences": both } }),
    );
    world.edit_set(json!({ "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete" } }));
    world.settle();
    assert_eq!(owners(&world, "www-web-1"), ["X x", "StatefulSet web"]);
    let claim = world.get("PersistentVolumeClaim", "www-web-1").unwrap();
    assert_eq!(claim["metadata"]["ownerReferences"][1]["controller"], true);
}

#[test]
fn a9_9_scaling_up_again_waits_until_the_old_claim_is_gone() {
    let mut world = with_policy("Delete", "Retain");
    world.edit_set(json!({ "replicas": 2 }));
    world.settle();
    world.objects.remove(&("Pod".to_owned(), "web-2".to_owned()));
    world.edit_set(json!({ "replicas": 3 }));
    assert!(world.pod_steps().is_empty());
    assert!(world.because().contains(&"web-2 ClaimStale www-web-2".to_owned()));
    world.run();
    assert_eq!(world.names("Pod").len(), 3);
    assert_eq!(world.names("PersistentVolumeClaim").len(), 3);
}
