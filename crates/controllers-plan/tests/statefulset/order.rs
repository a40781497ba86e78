//! A7.0 to A7.4, A7.11 to A7.14: what is created, awaited and removed, in which order.

use serde_json::json;

use crate::world::{World, world};

fn ready_world(spec: serde_json::Value) -> World {
    let mut world = world(spec);
    world.run();
    world
}

#[test]
fn a7_2_ordered_set_creates_one_pod_and_waits_until_it_is_ready() {
    let mut world = world(json!({}));
    assert_eq!(
        world.settle(),
        [
            "create ControllerRevision web-5c8f58585b",
            "create PersistentVolumeClaim www-web-0",
            "create Pod web-0"
        ]
        .map(|word| word.replace("web-5c8f58585b", world.names("ControllerRevision")[0]))
    );
    assert!(world.settle().is_empty());
    world.unready("web-0");
    assert!(world.pod_steps().is_empty());
    world.ready("web-0");
    assert_eq!(world.pod_steps(), ["create Pod web-1"]);
}

#[test]
fn a7_2_ordered_set_comes_up_and_rests() {
    let world = ready_world(json!({}));
    assert_eq!(world.names("Pod"), ["web-0", "web-1", "web-2"]);
    assert!(world.plan().is_quiet());
    assert!(world.plan().because.is_empty());
    assert_eq!(world.status("readyReplicas"), 3);
}

#[test]
fn a7_2_parallel_set_creates_all_pods_at_once() {
    let world = world(json!({ "podManagementPolicy": "Parallel", "volumeClaimTemplates": [] }));
    assert_eq!(
        world.pod_steps(),
        ["create Pod web-0", "create Pod web-1", "create Pod web-2"]
    );
}

#[test]
fn a7_2_parallel_set_creates_what_it_can_when_one_name_is_taken() {
    let mut world = world(json!({ "podManagementPolicy": "Parallel" }));
    world.insert(
        "Pod",
        json!({ "metadata": { "name": "web-0" }, "status": { "phase": "Running" } }),
    );
    assert_eq!(world.pod_steps(), ["create Pod web-1", "create Pod web-2"]);
    assert!(world.because().contains(&"web-0 NameTaken web-0".to_owned()));
}

#[test]
fn a7_2_1_failed_and_succeeded_pods_are_replaced() {
    for phase in ["Failed", "Succeeded"] {
        let mut world = ready_world(json!({}));
        world.pass(60);
        world.phase("web-1", phase, false);
        assert_eq!(world.step(), ["delete Pod web-1"]);
        assert_eq!(world.pod_steps(), ["create Pod web-1"]);
    }
}

#[test]
fn a7_2_1_failed_pod_that_is_terminating_is_only_awaited() {
    let mut world = ready_world(json!({}));
    world.delete("Pod", "web-1");
    world.phase("web-1", "Failed", false);
    assert!(world.pod_steps().is_empty());
    assert_eq!(world.because(), ["web-1 Terminating web-1"]);
}

#[test]
fn a7_2_3_claim_of_a_pending_pod_is_created_again() {
    let mut world = world(json!({}));
    world.settle();
    world
        .objects
        .remove(&("PersistentVolumeClaim".to_owned(), "www-web-0".to_owned()));
    assert_eq!(world.settle(), ["create PersistentVolumeClaim www-web-0"]);
}

#[test]
fn a7_2_4_terminating_pod_is_awaited_and_not_replaced() {
    let mut world = ready_world(json!({}));
    world.delete("Pod", "web-0");
    world.edit_set(json!({ "replicas": 4 }));
    assert!(world.pod_steps().is_empty());
    world.live(0);
    assert_eq!(world.pod_steps(), ["create Pod web-0"]);
}

#[test]
fn a7_2_6_ordered_set_waits_for_min_ready_seconds() {
    let mut world = world(json!({ "minReadySeconds": 10 }));
    world.settle();
    world.ready("web-0");
    let plan = world.plan();
    assert!(world.pod_steps().is_empty());
    assert_eq!(plan.again_at, Some("2026-11-22T12:00:10Z".parse().unwrap()));
    world.pass(9);
    assert!(world.pod_steps().is_empty());
    world.pass(1);
    assert_eq!(world.pod_steps(), ["create Pod web-1"]);
}

#[test]
fn a7_4_scale_down_takes_the_highest_and_waits_until_it_is_gone() {
    let mut world = ready_world(json!({}));
    world.edit_set(json!({ "replicas": 1 }));
    assert_eq!(world.settle(), ["delete Pod web-2"]);
    world.live(0);
    assert_eq!(world.settle(), ["delete Pod web-1"]);
    world.live(0);
    assert!(world.settle().is_empty());
    assert_eq!(world.names("Pod"), ["web-0"]);
    assert_eq!(world.names("PersistentVolumeClaim").len(), 3);
}

#[test]
fn a7_4_scale_down_waits_until_every_remaining_replica_is_available() {
    let mut world = ready_world(json!({}));
    world.unready("web-0");
    world.edit_set(json!({ "replicas": 1 }));
    assert!(world.pod_steps().is_empty());
    assert!(world.because().contains(&"web-2 ScaleDownWaits web-0".to_owned()));
}

#[test]
fn a7_4_one_unhealthy_condemned_pod_is_deleted() {
    let mut world = ready_world(json!({}));
    world.unready("web-2");
    world.edit_set(json!({ "replicas": 1 }));
    assert_eq!(world.pod_steps(), ["delete Pod web-2"]);
}

#[test]
fn a7_4_healthy_highest_condemned_pod_goes_although_a_lower_one_is_unhealthy() {
    let mut world = ready_world(json!({}));
    world.unready("web-1");
    world.edit_set(json!({ "replicas": 1 }));
    assert_eq!(world.pod_steps(), ["delete Pod web-2"]);
}

#[test]
fn a7_4_two_unhealthy_condemned_pods_block_scale_down() {
    let mut world = ready_world(json!({}));
    for pod in ["web-0", "web-1", "web-2"] {
        world.unready(pod);
    }
    world.edit_set(json!({ "replicas": 0 }));
    world.settle();
    assert!(world.pod_steps().is_empty());
    assert_eq!(world.names("Pod").len(), 3);
    assert!(world.because().contains(&"web-2 ScaleDownWaits web-0".to_owned()));
}

#[test]
fn a7_4_parallel_scale_down_deletes_all_at_once() {
    let mut world = ready_world(json!({ "podManagementPolicy": "Parallel" }));
    world.unready("web-0");
    world.edit_set(json!({ "replicas": 0 }));
    assert_eq!(
        world.pod_steps(),
        ["delete Pod web-2", "delete Pod web-1", "delete Pod web-0"]
    );
}

#[test]
fn a1_1_start_ordinal_shifts_the_range() {
    let mut world = ready_world(json!({ "ordinals": { "start": 2 }, "replicas": 2 }));
    assert_eq!(world.names("Pod"), ["web-2", "web-3"]);
    world.edit_set(json!({ "ordinals": { "start": 1 } }));
    world.run();
    assert_eq!(world.names("Pod"), ["web-1", "web-2"]);
    world.edit_set(json!({ "ordinals": null }));
    world.run();
    assert_eq!(world.names("Pod"), ["web-0", "web-1"]);
}

#[test]
fn a7_0_pods_below_the_start_are_condemned_and_the_highest_goes_first() {
    let mut world = ready_world(json!({ "replicas": 2 }));
    world.edit_set(json!({ "ordinals": { "start": 2 } }));
    world.run();
    assert_eq!(world.names("Pod"), ["web-2", "web-3"]);
}

#[test]
fn a7_12_pod_that_fails_at_once_is_replaced_after_a_pause() {
    let mut world = world(json!({}));
    world.settle();
    world.phase("web-0", "Failed", false);
    let plan = world.plan();
    assert!(world.pod_steps().is_empty());
    assert_eq!(plan.again_at, Some("2026-11-22T12:00:01Z".parse().unwrap()));
    world.pass(1);
    assert_eq!(world.pod_steps(), ["delete Pod web-0"]);
}

#[test]
fn a7_12_pod_that_fails_again_and_again_is_replaced_after_longer_pauses() {
    for (ends, pause_s) in [(0, 1), (1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (400, 30)] {
        let mut world = world(json!({}));
        world.settle();
        let made_at = world.now;
        world.phase("web-0", "Failed", false);
        world.early_ends.insert(0, ends);
        let again_at = made_at + jiff::SignedDuration::from_secs(pause_s);
        assert_eq!(world.plan().again_at, Some(again_at), "after {ends} ends");
        world.pass(pause_s);
        assert_eq!(world.pod_steps(), ["delete Pod web-0"]);
    }
}

#[test]
fn a7_12_pause_of_one_ordinal_does_not_hold_the_others_of_a_parallel_set_back() {
    let mut world = world(json!({ "podManagementPolicy": "Parallel", "replicas": 2 }));
    world.settle();
    world.phase("web-0", "Failed", false);
    world.phase("web-1", "Failed", false);
    world.early_ends.insert(0, 9);
    world.pass(1);
    assert_eq!(world.pod_steps(), ["delete Pod web-1"]);
}

#[test]
fn a7_13_missing_lower_pod_is_recreated_although_a_higher_one_is_unhealthy() {
    let mut world = ready_world(json!({}));
    world.unready("web-2");
    world.objects.remove(&("Pod".to_owned(), "web-0".to_owned()));
    assert_eq!(world.pod_steps(), ["create Pod web-0"]);
}

#[test]
fn a7_13_missing_higher_pod_waits_for_all_lower_ones() {
    let mut world = ready_world(json!({}));
    world.unready("web-0");
    world.objects.remove(&("Pod".to_owned(), "web-2".to_owned()));
    assert!(world.pod_steps().is_empty());
    assert_eq!(
        world.because(),
        ["web-0 NotReady web-0", "web-2 WaitsForPredecessor web-0"]
    );
}

#[test]
fn a7_14_after_loss_of_all_pods_they_come_back_one_by_one() {
    let mut world = ready_world(json!({}));
    world.objects.retain(|(kind, _), _| kind != "Pod");
    assert_eq!(world.pod_steps(), ["create Pod web-0"]);
    world.settle();
    world.ready("web-0");
    assert_eq!(world.pod_steps(), ["create Pod web-1"]);
}

#[test]
fn a7_1_set_being_deleted_only_gets_its_status() {
    let mut world = ready_world(json!({}));
    world.edit(
        "StatefulSet",
        "web",
        &json!({ "metadata": { "deletionTimestamp": "2026-11-22T12:00:00Z" } }),
    );
    world.objects.remove(&("Pod".to_owned(), "web-1".to_owned()));
    world.set_image("two");
    let plan = world.plan();
    assert!(plan.steps.is_empty());
    assert!(plan.status.is_some());
}

#[test]
fn huge_replicas_make_no_huge_plan() {
    let world = world(json!({ "podManagementPolicy": "Parallel", "replicas": i32::MAX, "volumeClaimTemplates": [] }));
    assert_eq!(world.pod_steps().len(), 500);
    let mut ordered = world.clone();
    ordered.edit_set(json!({ "podManagementPolicy": "OrderedReady" }));
    assert_eq!(ordered.pod_steps(), ["create Pod web-0"]);
}
