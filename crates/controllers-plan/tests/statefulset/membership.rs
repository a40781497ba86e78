//! A5 and A12: claiming, adopting, releasing, and what is left of earlier sets.

use controllers_plan::{Action, Guard, Plan};
use serde_json::{Value, json};

use crate::world::{World, words, world};

fn orphan(world: &mut World, name: &str) {
    let owners = json!({ "metadata": { "ownerReferences": null } });
    world.edit("Pod", name, &owners);
}

fn ready_world() -> World {
    let mut world = world(json!({}));
    world.run();
    world
}

fn guards(plan: &Plan) -> Vec<&Guard> {
    plan.actions()
        .filter_map(|action: &Action| action.guard.as_ref())
        .collect()
}

#[test]
fn a5_4_matching_orphan_is_adopted_after_a_live_look_at_the_set() {
    let mut world = ready_world();
    orphan(&mut world, "web-1");
    let plan = world.plan();
    assert_eq!(words(&plan), ["patch Pod web-1"]);
    assert!(matches!(guards(&plan)[..], [Guard::Alive(owner)] if owner.key.name == "web"));
    world.settle();
    assert_eq!(world.pod("web-1")["metadata"]["ownerReferences"][0]["name"], "web");
    assert!(world.plan().is_quiet());
}

#[test]
fn a5_4_orphan_is_not_adopted_while_it_or_the_set_is_being_deleted() {
    let mut world = ready_world();
    orphan(&mut world, "web-1");
    let mut going = world.clone();
    going.delete("Pod", "web-1");
    assert!(going.plan().steps.is_empty());
    world.edit(
        "StatefulSet",
        "web",
        &json!({ "metadata": { "deletionTimestamp": "2026-11-22T12:00:00Z" } }),
    );
    assert!(world.plan().steps.is_empty());
}

#[test]
fn a5_4_owned_pod_that_does_not_match_is_released_and_its_name_awaited() {
    let mut world = ready_world();
    world.edit("Pod", "web-1", &json!({ "metadata": { "labels": { "app": "other" } } }));
    assert_eq!(words(&world.plan()), ["patch Pod web-1"]);
    world.settle();
    assert_eq!(world.pod("web-1")["metadata"]["ownerReferences"], json!([]));
    assert_eq!(world.because(), ["web-1 NameTaken web-1"]);
    world.objects.remove(&("Pod".to_owned(), "web-1".to_owned()));
    assert_eq!(world.pod_steps(), ["create Pod web-1"]);
}

#[test]
fn a5_4_pod_of_another_owner_is_ignored() {
    let mut world = ready_world();
    let owner = json!([{ "apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": true }]);
    world.edit("Pod", "web-1", &json!({ "metadata": { "ownerReferences": owner } }));
    world.settle();
    assert_eq!(world.status("replicas"), 2);
    assert!(world.pod_steps().is_empty());
}

#[test]
fn a5_6_orphan_revisions_are_adopted() {
    let mut world = ready_world();
    let revision = world.names("ControllerRevision")[0].to_owned();
    world.edit(
        "ControllerRevision",
        &revision,
        &json!({ "metadata": { "ownerReferences": null } }),
    );
    assert_eq!(world.settle(), [format!("patch ControllerRevision {revision}")]);
}

#[test]
fn a5_7_selector_that_cannot_be_parsed_is_only_told_of() {
    let mut world = ready_world();
    let selector = json!({ "matchExpressions": [{ "key": "a", "operator": "Near", "values": ["b"] }] });
    world.edit_set(json!({ "selector": selector }));
    assert!(world.plan().is_quiet());
    assert_eq!(world.because(), ["web InvalidSelector web"]);
}

#[test]
fn a5_9_recreated_set_waits_for_the_pods_of_the_old_one() {
    let mut world = ready_world();
    let mut set = world.set().clone();
    set["metadata"]["uid"] = json!("new");
    set["status"] = json!({ "replicas": 0 });
    world.insert("StatefulSet", set);
    world.settle();
    assert!(world.because().contains(&"web-0 NameTaken web-0".to_owned()));
    world.run();
    assert_eq!(world.names("Pod").len(), 3);
    assert_eq!(world.pod("web-0")["metadata"]["ownerReferences"][0]["uid"], "new");
    assert_eq!(world.names("PersistentVolumeClaim").len(), 3);
}

#[test]
fn a12_3_new_set_adopts_what_an_orphaning_deletion_left_and_restarts_nothing() {
    let mut world = ready_world();
    let uids = |world: &World| ["web-0", "web-1", "web-2"].map(|pod| world.pod(pod)["metadata"]["uid"].clone());
    let before = uids(&world);
    let mut set = world.set().clone();
    set["metadata"]["uid"] = json!("new");
    set["status"] = json!({ "replicas": 0 });
    world.insert("StatefulSet", set);
    for (kind, name) in world
        .objects
        .clone()
        .into_keys()
        .filter(|(kind, _)| kind != "StatefulSet")
    {
        world.edit(&kind, &name, &json!({ "metadata": { "ownerReferences": Value::Null } }));
    }
    world.run();
    assert_eq!(uids(&world), before);
    assert_eq!(world.pod("web-2")["metadata"]["ownerReferences"][0]["uid"], "new");
    assert_eq!(world.status("currentReplicas"), 3);
}
