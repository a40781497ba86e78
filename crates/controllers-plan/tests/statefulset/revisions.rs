//! A6: which revision, by which name, and how much history.

use controllers_plan::{Guard, Step, Write};
use serde_json::{Value, json};

use crate::world::{World, world};

fn rolled_out(images: &[&str]) -> World {
    let mut world = world(json!({ "replicas": 1 }));
    world.run();
    for image in images {
        world.set_image(image);
        world.run();
    }
    world
}

fn revisions(world: &World) -> Vec<(i64, String)> {
    let names = world.names("ControllerRevision").into_iter();
    let mut found: Vec<_> = names
        .map(|name| {
            (
                world.get("ControllerRevision", name).unwrap()["revision"]
                    .as_i64()
                    .unwrap(),
                name.to_owned(),
            )
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a6_1_only_the_template_makes_revisions() {
    let mut world = rolled_out(&[]);
    world.edit_set(json!({ "replicas": 2, "minReadySeconds": 1, "updateStrategy": { "type": "OnDelete" } }));
    world.run();
    assert_eq!(revisions(&world).len(), 1);
    world.set_image("two");
    world.settle();
    assert_eq!(revisions(&world).len(), 2);
}

#[test]
fn a6_4_revision_carries_labels_annotations_owner_and_number() {
    let mut world = world(json!({ "template": { "metadata": { "labels": { "more": "x" } } } }));
    world.edit(
        "StatefulSet",
        "web",
        &json!({ "metadata": { "annotations": { "kubernetes.io/change-cause": "why" } } }),
    );
    world.settle();
    let (number, name) = revisions(&world)[0].clone();
    let revision = world.get("ControllerRevision", &name).unwrap();
    let hash = name.strip_prefix("web-").unwrap();
    assert_eq!(number, 1);
    assert_eq!(
        revision["metadata"]["labels"],
        json!({ "app": "nginx", "more": "x", "controller.kubernetes.io/hash": hash })
    );
    assert_eq!(
        revision["metadata"]["annotations"],
        json!({ "kubernetes.io/change-cause": "why" })
    );
    assert_eq!(
        revision["metadata"]["ownerReferences"][0]["uid"],
        world.set()["metadata"]["uid"]
    );
    assert_eq!(revision["data"]["spec"]["template"]["$patch"], "replace");
}

/// Else one who has not heard that the set is gone makes it as often as the garbage collector removes it.
#[test]
fn a6_4_revision_is_made_only_while_the_set_lives() {
    let plan = world(json!({})).plan();
    let Some(Step::One(first)) = plan.steps.first() else {
        panic!("{:?}", plan.steps);
    };
    assert!(matches!(&first.write, Write::Create(object) if object.key.kind.kind == "ControllerRevision"));
    assert!(matches!(&first.guard, Some(Guard::Alive(set)) if set.key.name == "web"));
}

#[test]
fn a6_5_equal_older_revision_becomes_the_newest_again() {
    let mut world = rolled_out(&["two", "three"]);
    let before = revisions(&world);
    world.set_image("one");
    world.run();
    let after = revisions(&world);
    assert_eq!(after.len(), 3);
    assert_eq!(after.last(), Some(&(4, before[0].1.clone())));
    assert_eq!(world.revision("web-0"), before[0].1);
}

#[test]
fn a6_5_newest_revision_that_lacks_only_defaults_is_taken_as_equal() {
    let mut world = rolled_out(&[]);
    let mut template = world.set()["spec"]["template"].clone();
    let mut set = world.set().clone();
    api::defaults::apply(api::kinds::by_kind("apps/v1", "StatefulSet").unwrap(), &mut set);
    assert_ne!(set["spec"]["template"], template);
    std::mem::swap(&mut template, &mut set["spec"]["template"]);
    world.edit_set(json!({ "template": template }));
    world.settle();
    assert_eq!(revisions(&world).len(), 1);
}

#[test]
fn a6_5_taken_name_counts_as_a_collision() {
    let expected = {
        let mut world = world(json!({}));
        world.settle();
        revisions(&world)[0].1.clone()
    };
    let mut world = world(json!({}));
    let owner = json!([{ "apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": true }]);
    let stranger = json!({ "metadata": { "name": expected, "ownerReferences": owner }, "revision": 7, "data": {} });
    world.insert("ControllerRevision", stranger);
    world.settle();
    assert_eq!(world.status("collisionCount"), 1);
    let own = revisions(&world)
        .into_iter()
        .find(|(_, name)| *name != expected)
        .unwrap();
    let hash =
        world.get("ControllerRevision", &own.1).unwrap()["metadata"]["labels"]["controller.kubernetes.io/hash"].clone();
    assert_eq!(format!("web-{}", hash.as_str().unwrap()), expected);
    assert_eq!(world.revision("web-0"), own.1);
}

#[test]
fn a6_6_pod_that_dies_mid_rollout_comes_back_at_the_update_revision() {
    let mut world = world(json!({}));
    world.run();
    world.set_image("two");
    world.settle();
    world.objects.remove(&("Pod".to_owned(), "web-0".to_owned()));
    world.settle();
    assert_eq!(world.pod("web-0")["spec"]["containers"][0]["image"], "two");
}

#[test]
fn a6_6_pod_below_the_partition_comes_back_at_the_current_revision() {
    let mut world = world(json!({ "updateStrategy": { "rollingUpdate": { "partition": 2 } } }));
    world.run();
    world.set_image("two");
    world.run();
    assert_eq!(world.pod("web-2")["spec"]["containers"][0]["image"], "two");
    for pod in ["web-0", "web-1"] {
        world.delete("Pod", pod);
        world.run();
        assert_eq!(world.pod(pod)["spec"]["containers"][0]["image"], "one");
    }
}

#[test]
fn a6_6_without_rolling_update_parameters_as_many_as_current_stay_current() {
    let mut world = world(json!({ "updateStrategy": { "rollingUpdate": null } }));
    world.run();
    world.set_image("two");
    world.settle();
    world.objects.remove(&("Pod".to_owned(), "web-0".to_owned()));
    world.settle();
    // One of three is current and running, so ordinal 0 is below the count and stays current.
    assert_eq!(world.pod("web-0")["spec"]["containers"][0]["image"], "one");
    world.run();
    for pod in ["web-0", "web-1", "web-2"] {
        assert_eq!(world.pod(pod)["spec"]["containers"][0]["image"], "two");
    }
}

#[test]
fn a6_7_history_is_truncated_to_its_limit() {
    let mut world = world(json!({ "replicas": 1, "revisionHistoryLimit": 2 }));
    world.run();
    for image in ["two", "three", "four", "five"] {
        world.set_image(image);
        world.run();
    }
    let numbers: Vec<_> = revisions(&world).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [3, 4, 5]);
}

#[test]
fn a6_7_limit_zero_keeps_only_live_revisions_and_a_negative_one_keeps_all() {
    for (limit, kept) in [(0, 1), (-1, 4)] {
        let mut world = world(json!({ "replicas": 1, "revisionHistoryLimit": limit }));
        world.run();
        for image in ["two", "three", "four"] {
            world.set_image(image);
            world.run();
        }
        assert_eq!(revisions(&world).len(), kept, "limit {limit}");
    }
}

#[test]
fn a6_8_partition_is_compared_with_the_index() {
    let strategy = json!({ "rollingUpdate": { "partition": 1 } });
    let mut world = world(json!({ "ordinals": { "start": 5 }, "updateStrategy": strategy }));
    world.run();
    world.set_image("two");
    world.run();
    let images = ["web-5", "web-6", "web-7"].map(|pod| world.pod(pod)["spec"]["containers"][0]["image"].clone());
    assert_eq!(images, [json!("one"), json!("two"), json!("two")] as [Value; 3]);
}
