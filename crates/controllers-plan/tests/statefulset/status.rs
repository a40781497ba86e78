//! A8: what the status says, and when it is written.

use controllers_plan::statefulset::Gates;
use serde_json::json;

use crate::world::{World, world};

fn ready_world() -> World {
    let mut world = world(json!({}));
    world.run();
    world
}

#[test]
fn a8_1_generation_revisions_and_collisions_are_always_told() {
    let world = ready_world();
    let status = &world.set()["status"];
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["collisionCount"], 0);
    assert_eq!(status["currentRevision"], world.names("ControllerRevision")[0]);
    assert_eq!(status["updateRevision"], status["currentRevision"]);
}

#[test]
fn a8_2_terminating_pods_are_ready_replicas_but_of_no_revision() {
    let mut world = ready_world();
    world.delete("Pod", "web-2");
    world.settle();
    let counts = [
        "replicas",
        "readyReplicas",
        "availableReplicas",
        "currentReplicas",
        "updatedReplicas",
    ];
    assert_eq!(counts.map(|count| world.status(count)), [3, 3, 3, 2, 2]);
}

#[test]
fn a8_2_ready_for_too_short_is_not_available() {
    let mut world = world(json!({ "podManagementPolicy": "Parallel", "minReadySeconds": 60 }));
    world.settle();
    for pod in ["web-0", "web-1", "web-2"] {
        world.ready(pod);
    }
    world.settle();
    assert_eq!(
        (world.status("readyReplicas"), world.status("availableReplicas")),
        (3, 0)
    );
    world.pass(60);
    world.settle();
    assert_eq!(world.status("availableReplicas"), 3);
}

#[test]
fn a8_2_zero_counts_are_left_out_as_upstream_does() {
    let mut world = world(json!({}));
    world.settle();
    world.settle();
    let status = world.set()["status"].as_object().unwrap();
    assert!(!status.contains_key("readyReplicas"));
    assert_eq!(status["availableReplicas"], 0);
    assert_eq!(status["replicas"], 1);
}

#[test]
fn a8_4_current_replicas_never_falls_below_zero() {
    let mut world = ready_world();
    world.edit(
        "Pod",
        "web-2",
        &json!({ "metadata": { "labels": { "controller-revision-hash": "third" } } }),
    );
    world.set_image("two");
    for _ in 0..100 {
        world.settle();
        assert!(world.status("currentReplicas") >= 0);
        if !world.live(0) {
            break;
        }
    }
    assert_eq!(world.status("updatedReplicas"), 3);
}

#[test]
fn a8_5_rollout_is_complete_when_all_are_updated_and_ready() {
    let mut world = ready_world();
    let first = world.set()["status"]["currentRevision"].clone();
    world.set_image("two");
    world.settle();
    assert_eq!(world.set()["status"]["currentRevision"], first);
    assert_ne!(world.set()["status"]["updateRevision"], first);
    world.run();
    assert_ne!(world.set()["status"]["currentRevision"], first);
    assert_eq!(world.status("currentReplicas"), 3);
}

/// All pods updated and ready, none of them for long enough.
fn ready_but_not_available() -> World {
    let strategy = json!({ "rollingUpdate": { "maxUnavailable": 3 } });
    let mut world = world(json!({ "podManagementPolicy": "Parallel", "updateStrategy": strategy }));
    world.run();
    world.edit_set(json!({ "minReadySeconds": 600 }));
    world.pass(600);
    world.set_image("two");
    world.settle();
    (0..3).for_each(|_| assert!(world.live(0)));
    world.settle();
    for pod in ["web-0", "web-1", "web-2"] {
        world.ready(pod);
    }
    world
}

#[test]
fn a8_5_completion_takes_ready_for_enough_unless_told_otherwise() {
    let is_complete =
        |world: &World| world.set()["status"]["currentRevision"] == world.set()["status"]["updateRevision"];
    let mut lenient = ready_but_not_available();
    lenient.settle();
    assert!(is_complete(&lenient));
    let mut strict = ready_but_not_available();
    strict.gates = Gates {
        completion_by_availability: true,
        ..strict.gates
    };
    strict.settle();
    assert!(!is_complete(&strict));
    strict.pass(600);
    strict.settle();
    assert!(is_complete(&strict));
}

#[test]
fn a8_5_on_delete_never_completes() {
    let mut world = world(json!({ "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } }));
    world.run();
    world.set_image("two");
    for pod in ["web-0", "web-1", "web-2"] {
        world.delete("Pod", pod);
        world.run();
    }
    assert_eq!(world.status("updatedReplicas"), 3);
    assert_ne!(
        world.set()["status"]["currentRevision"],
        world.set()["status"]["updateRevision"]
    );
}

#[test]
fn a8_6_nothing_new_is_not_written() {
    let mut world = ready_world();
    assert!(world.plan().status.is_none());
    world.edit("Pod", "web-0", &json!({ "metadata": { "annotations": { "x": "y" } } }));
    assert!(world.plan().status.is_none());
    world.edit_set(json!({ "revisionHistoryLimit": 3 }));
    assert!(world.plan().status.is_some());
}

#[test]
fn a8_7_conditions_of_others_are_kept() {
    let mut world = ready_world();
    let theirs = json!({ "type": "Theirs", "status": "True" });
    world.edit("StatefulSet", "web", &json!({ "status": { "conditions": [theirs] } }));
    world.gates.waiting_condition = true;
    world.unready("web-1");
    world.settle();
    let conditions = world.set()["status"]["conditions"].clone();
    assert_eq!(conditions[0], theirs);
    assert_eq!(
        (&conditions[1]["type"], &conditions[1]["status"]),
        (&json!("Waiting"), &json!("True"))
    );
    assert_eq!(
        conditions[1]["message"],
        "web-1 is not available: it runs and is not ready"
    );
    world.ready("web-1");
    world.settle();
    let conditions = &world.set()["status"]["conditions"];
    assert_eq!(
        (&conditions[1]["status"], &conditions[1]["reason"]),
        (&json!("False"), &json!("AsDesired"))
    );
    assert!(world.plan().is_quiet());
}
