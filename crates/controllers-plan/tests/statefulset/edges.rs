//! Rules that are about the whole of a plan, or about what lies at its edges.

use std::collections::BTreeSet;

use controllers_plan::{Guard, Step, Write};
use serde_json::json;

use crate::world::{World, words, world};

fn ready_world(spec: serde_json::Value) -> World {
    let mut world = world(spec);
    world.run();
    world
}

#[test]
fn a0_7_only_pods_claims_revisions_and_the_set_are_written_and_no_finalizer_is_set() {
    let mut world = world(json!({ "persistentVolumeClaimRetentionPolicy": { "whenScaled": "Delete" } }));
    let mut kinds = BTreeSet::new();
    for round in 0..60 {
        let plan = world.plan();
        for action in plan.actions().chain(&plan.status) {
            kinds.insert(action.key().kind.kind);
            assert!(!format!("{action:?}").contains("finalizers"));
        }
        world.settle();
        world.live(0);
        match round {
            20 => world.set_image("two"),
            40 => world.edit_set(json!({ "replicas": 1 })),
            _ => {}
        }
    }
    let expected = ["ControllerRevision", "PersistentVolumeClaim", "Pod", "StatefulSet"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a1_4_pod_with_an_ordinal_beyond_32_bits_is_neither_replica_nor_condemned() {
    let mut world = ready_world(json!({}));
    let mut stranger = world.pod("web-0").clone();
    stranger["metadata"]["name"] = json!("web-99999999999");
    stranger["metadata"]["uid"] = json!(null);
    world.insert("Pod", stranger);
    assert!(world.plan().steps.is_empty());
    assert_eq!(world.status("replicas"), 3);
}

#[test]
fn a4_3_pods_name_their_set_by_kind_name_and_uid_as_their_controller() {
    let world = ready_world(json!({}));
    let owner = &world.pod("web-1")["metadata"]["ownerReferences"][0];
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": world.set()["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    });
    assert_eq!(*owner, expected);
}

#[test]
fn a5_5_every_adoption_of_pods_and_revisions_asks_whether_the_set_lives() {
    let mut world = ready_world(json!({}));
    let nobody_s = json!({ "metadata": { "ownerReferences": null } });
    let revision = world.names("ControllerRevision")[0].to_owned();
    world.edit("Pod", "web-0", &nobody_s);
    world.edit("ControllerRevision", &revision, &nobody_s);
    let plan = world.plan();
    let uid = world.set()["metadata"]["uid"].as_str().unwrap();
    assert_eq!(plan.actions().count(), 2);
    for action in plan.actions() {
        assert!(matches!(&action.guard, Some(Guard::Alive(set)) if set.uid == uid));
    }
}

#[test]
fn a5_8_taken_name_is_awaited_without_an_event() {
    let mut world = ready_world(json!({}));
    world.edit("Pod", "web-1", &json!({ "metadata": { "labels": { "app": "other" } } }));
    world.settle();
    let plan = world.plan();
    assert!(plan.steps.is_empty() && plan.events.is_empty());
    assert_eq!(world.because(), ["web-1 NameTaken web-1"]);
}

#[test]
fn a5_11_every_deletion_carries_uid_and_version() {
    let mut world = ready_world(json!({ "podManagementPolicy": "Parallel" }));
    world.edit_set(json!({ "replicas": 0 }));
    let plan = world.plan();
    let mut deleted = 0;
    for action in plan.actions() {
        let Write::Delete { target, .. } = &action.write else {
            continue;
        };
        let pod = &world.pod(&target.key.name)["metadata"];
        assert_eq!(
            (json!(target.uid), json!(target.resource_version)),
            (pod["uid"].clone(), pod["resourceVersion"].clone())
        );
        deleted += 1;
    }
    assert_eq!(deleted, 3);
}

#[test]
fn a6_9_revision_data_is_a_patch_that_replaces_the_template() {
    let mut world = ready_world(json!({}));
    let before = world.set()["spec"]["template"].clone();
    let revision = world.names("ControllerRevision")[0].to_owned();
    world.set_image("two");
    world.run();
    let mut undo = world.get("ControllerRevision", &revision).unwrap()["data"].clone();
    let directive = undo["spec"]["template"].as_object_mut().unwrap().remove("$patch");
    assert_eq!(directive, Some(json!("replace")));
    assert_eq!(undo, json!({ "spec": { "template": before } }));
    world.edit_set(undo["spec"].clone());
    world.run();
    assert_eq!(world.revision("web-0"), revision);
}

#[test]
fn a6_10_a_finished_rollout_says_what_kubectl_waits_for() {
    let mut world = ready_world(json!({}));
    world.set_image("two");
    world.settle();
    assert_ne!(
        world.set()["status"]["currentRevision"],
        world.set()["status"]["updateRevision"]
    );
    world.run();
    let set = world.set();
    assert_eq!(set["status"]["observedGeneration"], set["metadata"]["generation"]);
    assert!(world.status("readyReplicas") >= 3 && world.status("updatedReplicas") >= 3);
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
}

#[test]
fn a7_3_condemned_pod_s_claims_change_hands_before_it_is_deleted() {
    let mut world = ready_world(json!({}));
    world.edit_set(json!({ "persistentVolumeClaimRetentionPolicy": { "whenScaled": "Delete" }, "replicas": 2 }));
    let steps = words(&world.plan());
    assert_eq!(
        steps[..2],
        ["patch PersistentVolumeClaim www-web-2", "delete Pod web-2"]
    );
}

#[test]
fn a7_10_whatever_part_of_a_plan_is_done_the_next_ones_complete_it() {
    let mut world = ready_world(json!({ "podManagementPolicy": "Parallel" }));
    world.edit_set(json!({ "persistentVolumeClaimRetentionPolicy": { "whenScaled": "Delete" }, "replicas": 5 }));
    world.set_image("two");
    let plan = world.plan();
    let actions: Vec<_> = plan.actions().chain(&plan.status).collect();
    assert!(actions.len() > 5);
    for done in 0..=actions.len() {
        let mut world = world.clone();
        for action in &actions[..done] {
            world.apply(action).unwrap();
        }
        world.run();
        assert_eq!(world.status("updatedReplicas"), 5, "after {done} actions");
        assert_eq!(
            world.set()["status"]["currentRevision"],
            world.set()["status"]["updateRevision"]
        );
    }
}

#[test]
fn a7_11_plan_is_made_again_when_the_next_ready_pod_becomes_available() {
    let mut world = world(json!({ "podManagementPolicy": "Parallel", "minReadySeconds": 10 }));
    world.settle();
    world.ready("web-1");
    world.pass(4);
    world.ready("web-0");
    let first = world.now + jiff::SignedDuration::from_secs(6);
    assert_eq!(world.plan().again_at, Some(first));
    world.pass(6);
    assert_eq!(world.plan().again_at, Some(first + jiff::SignedDuration::from_secs(4)));
    world.pass(4);
    assert_eq!(world.plan().again_at, None);
}

#[test]
fn a8_3_pods_that_a_plan_creates_are_counted_by_the_next() {
    let mut world = world(json!({ "podManagementPolicy": "Parallel" }));
    world.step();
    assert_eq!(world.status("replicas"), 0);
    world.step();
    assert_eq!(world.status("replicas"), 3);
}

#[test]
fn a9_8_claims_of_earlier_scale_downs_keep_their_owners_when_the_policy_changes() {
    let mut world = ready_world(json!({}));
    world.edit_set(json!({ "replicas": 1 }));
    world.run();
    world.edit_set(
        json!({ "persistentVolumeClaimRetentionPolicy": { "whenScaled": "Delete", "whenDeleted": "Delete" } }),
    );
    world.run();
    let owners =
        |claim: &str| world.get("PersistentVolumeClaim", claim).unwrap()["metadata"]["ownerReferences"].clone();
    assert!(owners("www-web-2").is_null() && owners("www-web-1").is_null());
    assert_eq!(owners("www-web-0")[0]["kind"], "StatefulSet");
}

#[test]
fn a9_10_owners_of_claims_come_after_all_pods_so_that_they_hold_nobody_back() {
    let mut world = ready_world(json!({ "podManagementPolicy": "Parallel" }));
    world.edit_set(json!({ "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete" }, "replicas": 4 }));
    let plan = world.plan();
    let [Step::Together(pods), Step::Together(owners)] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(
        pods.iter()
            .flatten()
            .filter(|action| action.key().kind.kind == "Pod")
            .count(),
        1
    );
    assert!(
        owners
            .iter()
            .flatten()
            .all(|action| action.key().kind.kind == "PersistentVolumeClaim")
    );
    assert_eq!(owners.len(), 3);
}

#[test]
fn a11_1_the_service_is_only_named_in_pods_and_may_be_absent() {
    let mut world = ready_world(json!({}));
    assert_eq!(world.pod("web-0")["spec"]["subdomain"], "nginx");
    assert!(world.names("Service").is_empty());
    world = ready_world(json!({ "serviceName": "" }));
    assert!(world.pod("web-0")["spec"]["subdomain"].is_null());
}
