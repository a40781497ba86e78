//! A7.5 to A7.8: which pod gives way to a new revision.

use controllers_plan::statefulset::Gates;
use serde_json::{Value, json};

use crate::world::{BROKEN, World, world};

fn ready_world(spec: Value) -> World {
    let mut world = world(spec);
    world.run();
    world
}

fn updating(spec: Value) -> World {
    let mut world = ready_world(spec);
    world.set_image("two");
    world.settle();
    world
}

fn without_gate(mut world: World) -> World {
    world.gates = Gates {
        max_unavailable: false,
        ..world.gates
    };
    world
}

#[test]
fn a7_5_on_delete_leaves_the_update_to_people() {
    let mut world = ready_world(json!({ "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } }));
    world.set_image("two");
    world.settle();
    assert!(world.pod_steps().is_empty());
    assert_eq!(world.because()[0], "web-0 WaitsForDeletion web-0");
    world.delete("Pod", "web-1");
    world.run();
    assert_eq!(world.pod("web-1")["spec"]["containers"][0]["image"], "two");
    assert_eq!(world.pod("web-0")["spec"]["containers"][0]["image"], "one");
}

#[test]
fn a7_6_rolling_update_goes_from_the_highest_down_one_by_one() {
    for gate in [true, false] {
        let mut world = ready_world(json!({}));
        world.gates.max_unavailable = gate;
        world.set_image("two");
        let mut deleted = Vec::new();
        for _ in 0..50 {
            deleted.extend(world.settle().into_iter().filter(|word| word.starts_with("delete")));
            if !world.live(0) {
                break;
            }
        }
        assert_eq!(deleted, ["delete Pod web-2", "delete Pod web-1", "delete Pod web-0"]);
        assert_eq!(
            world.set()["status"]["currentRevision"],
            world.set()["status"]["updateRevision"]
        );
    }
}

#[test]
fn a7_6_ordered_update_waits_while_any_replica_is_unhealthy() {
    let mut world = ready_world(json!({}));
    world.unready("web-0");
    world.set_image("two");
    world.settle();
    assert!(world.pod_steps().is_empty());
    assert!(world.because().contains(&"web-2 UpdateWaits web-0".to_owned()));
    let told = world.plan().because;
    assert!(told[0].message.contains("delete web-0 by hand"), "{}", told[0].message);
}

#[test]
fn a7_6_update_waits_until_the_updated_pod_is_available_and_not_only_ready() {
    let mut world = updating(json!({ "minReadySeconds": 10 }));
    world.live(0);
    world.settle();
    world.ready("web-2");
    assert!(world.pod_steps().is_empty());
    world.pass(10);
    assert_eq!(world.pod_steps(), ["delete Pod web-1"]);
}

#[test]
fn a7_6_partition_holds_lower_pods_back() {
    let mut world = updating(json!({ "updateStrategy": { "rollingUpdate": { "partition": 2 } } }));
    world.run();
    let images: Vec<_> = ["web-0", "web-1", "web-2"]
        .map(|pod| {
            world.pod(pod)["spec"]["containers"][0]["image"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .to_vec();
    assert_eq!(images, ["one", "one", "two"]);
    assert!(world.plan().is_quiet());
}

#[test]
fn a7_6_parallel_without_gate_replaces_a_broken_outdated_pod_at_once() {
    let mut world = without_gate(ready_world(json!({ "podManagementPolicy": "Parallel" })));
    world.unready("web-2");
    world.set_image("two");
    assert_eq!(world.pod_steps(), ["delete Pod web-2"]);
    world.ready("web-2");
    world.unready("web-0");
    assert_eq!(world.pod_steps(), ["delete Pod web-2"]);
}

#[test]
fn a7_7_max_unavailable_takes_that_many_from_the_top() {
    let strategy = json!({ "rollingUpdate": { "maxUnavailable": 2 } });
    let mut world = ready_world(json!({ "replicas": 5, "updateStrategy": strategy }));
    world.set_image("two");
    assert_eq!(world.pod_steps(), ["delete Pod web-4", "delete Pod web-3"]);
    let gated = without_gate(world.clone());
    assert_eq!(gated.pod_steps(), ["delete Pod web-4"]);
}

#[test]
fn a7_7_ordered_batch_is_recreated_one_by_one() {
    let strategy = json!({ "rollingUpdate": { "maxUnavailable": 2 } });
    let mut world = updating(json!({ "replicas": 5, "updateStrategy": strategy }));
    world.live(0);
    world.live(0);
    assert_eq!(world.pod_steps(), ["create Pod web-3"]);
    world.run();
    assert!((0..5).all(|ordinal| world.pod(&format!("web-{ordinal}"))["spec"]["containers"][0]["image"] == "two"));
}

#[test]
fn a7_8_parallel_refills_the_budget_as_soon_as_a_pod_is_available() {
    let strategy = json!({ "rollingUpdate": { "maxUnavailable": 2 } });
    let spec = json!({ "replicas": 5, "updateStrategy": strategy, "podManagementPolicy": "Parallel" });
    let mut world = updating(spec);
    world.live(0);
    world.settle();
    assert!(world.pod_steps().is_empty());
    world.ready("web-3");
    assert_eq!(world.pod_steps(), ["delete Pod web-2"]);
}

#[test]
fn a7_8_parallel_gives_up_all_outdated_unavailable_pods_whatever_the_budget() {
    let mut world = ready_world(json!({ "replicas": 5, "podManagementPolicy": "Parallel" }));
    for pod in ["web-0", "web-1", "web-4"] {
        world.unready(pod);
    }
    world.set_image("two");
    assert_eq!(
        world.pod_steps(),
        ["delete Pod web-4", "delete Pod web-1", "delete Pod web-0"]
    );
}

#[test]
fn a7_8_parallel_counts_the_budget_before_the_broken_ones_go() {
    let strategy = json!({ "rollingUpdate": { "maxUnavailable": 2 } });
    let mut world =
        ready_world(json!({ "replicas": 5, "updateStrategy": strategy, "podManagementPolicy": "Parallel" }));
    world.unready("web-0");
    world.set_image("two");
    assert_eq!(world.pod_steps(), ["delete Pod web-0", "delete Pod web-4"]);
}

#[test]
fn a7_8_parallel_leaves_unavailable_pods_below_the_partition() {
    let strategy = json!({ "rollingUpdate": { "partition": 3 } });
    let mut world =
        ready_world(json!({ "replicas": 5, "updateStrategy": strategy, "podManagementPolicy": "Parallel" }));
    world.unready("web-0");
    world.set_image("two");
    assert!(world.pod_steps().is_empty());
    assert!(world.because().contains(&"web-4 UpdateWaits web-0".to_owned()));
}

#[test]
fn a7_8_parallel_recovers_from_a_broken_revision() {
    let mut world = ready_world(json!({ "podManagementPolicy": "Parallel" }));
    world.set_image(BROKEN);
    world.run();
    assert_eq!(world.status("readyReplicas"), 2);
    world.set_image("three");
    world.run();
    assert_eq!(world.status("readyReplicas"), 3);
    assert_eq!(world.status("updatedReplicas"), 3);
}

#[test]
fn a7_6_ordered_set_stays_at_a_broken_revision_until_the_pod_is_deleted_by_hand() {
    let mut world = ready_world(json!({}));
    world.set_image(BROKEN);
    world.run();
    world.set_image("one");
    world.run();
    assert_eq!(world.status("readyReplicas"), 2);
    world.delete("Pod", "web-2");
    world.run();
    assert_eq!(world.status("readyReplicas"), 3);
}

#[test]
fn a7_8_failed_outdated_pod_is_replaced_once() {
    let mut world = ready_world(json!({ "podManagementPolicy": "Parallel" }));
    world.pass(60);
    world.set_image("two");
    world.phase("web-1", "Failed", false);
    assert_eq!(world.pod_steps(), ["delete Pod web-1"]);
}

#[test]
fn a7_8_outdated_pod_with_wrong_labels_is_deleted_and_not_repaired_first() {
    let mut world = ready_world(json!({ "podManagementPolicy": "Parallel" }));
    world.edit(
        "Pod",
        "web-2",
        &json!({ "metadata": { "labels": { "apps.kubernetes.io/pod-index": null } } }),
    );
    world.set_image("two");
    assert_eq!(world.pod_steps(), ["delete Pod web-2"]);
}
