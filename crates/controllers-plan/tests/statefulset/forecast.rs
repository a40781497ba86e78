//! What is foreseen of a change, against the model cluster in which it then happens.

use controllers_plan::statefulset::{Beginning, Forecast, forecast};
use serde_json::{Value, json};

use crate::world::{BROKEN, World, world};

fn ready_world(spec: Value) -> World {
    let mut world = world(spec);
    world.run();
    world.pass(120);
    world
}

fn foresee(world: &World, spec: &Value, deleted_pod: Option<&str>) -> Forecast {
    let mut set = world.set().clone();
    json_patch::merge(&mut set["spec"], spec);
    let all = |kind: &str| {
        world
            .names(kind)
            .iter()
            .map(|name| world.get(kind, name).unwrap().clone())
            .collect()
    };
    let beginning = Beginning {
        set,
        pods: all("Pod"),
        claims: all("PersistentVolumeClaim"),
        revisions: all("ControllerRevision"),
        deleted_pod: deleted_pod.map(str::to_owned),
        gates: world.gates,
    };
    forecast(&beginning, world.now)
}

fn does(forecast: &Forecast) -> Vec<&str> {
    forecast.steps.iter().map(|step| step.does.as_str()).collect()
}

fn image(image: &str) -> Value {
    json!({ "template": { "spec": { "containers": [{ "name": "nginx", "image": image, "resources": {} }] } } })
}

#[test]
fn nothing_is_foreseen_of_no_change() {
    let world = ready_world(json!({}));
    let foreseen = foresee(&world, &json!({}), None);
    assert!(foreseen.is_empty() && foreseen.blocked.is_empty());
    assert_eq!(
        (foreseen.ready_before, foreseen.ready_lowest, foreseen.ready_after),
        (3, 3, 3)
    );
}

#[test]
fn scaling_up_creates_claims_and_pods_one_after_the_other() {
    let foreseen = foresee(&ready_world(json!({})), &json!({ "replicas": 5 }), None);
    assert_eq!(
        does(&foreseen),
        [
            "create claim www-web-3",
            "create pod web-3",
            "create claim www-web-4",
            "create pod web-4"
        ]
    );
    assert_eq!(foreseen.steps[2].after, ["web-3 is ready"]);
    assert_eq!((foreseen.ready_lowest, foreseen.ready_after), (3, 5));
    assert_eq!(foreseen.claims_created, ["www-web-3", "www-web-4"]);
}

#[test]
fn scaling_down_leaves_claims_behind_or_deletes_them_as_the_policy_says() {
    let kept = foresee(&ready_world(json!({})), &json!({ "replicas": 1 }), None);
    assert_eq!(does(&kept), ["delete pod web-2", "delete pod web-1"]);
    assert_eq!(kept.steps[1].after, ["web-2 is gone"]);
    assert_eq!(kept.claims_orphaned, ["www-web-1", "www-web-2"]);
    let policy = json!({ "persistentVolumeClaimRetentionPolicy": { "whenScaled": "Delete" } });
    let deleted = foresee(&ready_world(policy), &json!({ "replicas": 1 }), None);
    assert_eq!(deleted.claims_deleted, ["www-web-1", "www-web-2"]);
    assert!(deleted.claims_orphaned.is_empty());
}

#[test]
fn rolling_update_shows_where_the_quorum_dips() {
    let one = foresee(&ready_world(json!({})), &image("two"), None);
    assert_eq!(one.ready_lowest, 2);
    assert_eq!(
        does(&one)[..3],
        ["delete pod web-2", "create pod web-2", "delete pod web-1"]
    );
    let mut two = image("two");
    two["updateStrategy"] = json!({ "rollingUpdate": { "maxUnavailable": 2 } });
    assert_eq!(foresee(&ready_world(json!({})), &two, None).ready_lowest, 1);
}

#[test]
fn deleted_pod_comes_back() {
    let foreseen = foresee(&ready_world(json!({})), &json!({}), Some("web-1"));
    assert_eq!(does(&foreseen), ["delete pod web-1", "create pod web-1"]);
    assert_eq!((foreseen.ready_lowest, foreseen.ready_after), (2, 3));
}

#[test]
fn update_of_an_ordered_set_with_a_broken_pod_is_blocked_and_says_by_what() {
    let mut world = ready_world(json!({}));
    world.unready("web-1");
    world.pass(120);
    let foreseen = foresee(&world, &image("two"), None);
    assert!(foreseen.is_empty());
    assert!(
        foreseen
            .blocked
            .iter()
            .any(|message| message.starts_with("web-1 is not available")),
        "{:?}",
        foreseen.blocked
    );
}

#[test]
fn what_is_foreseen_is_what_happens() {
    for (spec, change) in [
        (json!({}), image("two")),
        (json!({ "podManagementPolicy": "Parallel" }), json!({ "replicas": 6 })),
        (json!({}), json!({ "ordinals": { "start": 2 } })),
        (json!({ "replicas": 4 }), json!({ "replicas": 2 })),
        (json!({}), image(BROKEN)),
    ] {
        let mut world = ready_world(spec);
        let foreseen: Vec<String> = does(&foresee(&world, &change, None))
            .iter()
            .map(|&word| word.to_owned())
            .collect();
        world.edit_set(change.clone());
        let mut happened = Vec::new();
        loop {
            happened.extend(world.settle());
            if !world.live(0) {
                break;
            }
        }
        let shown = |word: &String| word.contains(" Pod ") || word.contains(" PersistentVolumeClaim ");
        let words = happened.into_iter().filter(shown).map(|word| {
            word.replace(" Pod ", " pod ")
                .replace(" PersistentVolumeClaim ", " claim ")
        });
        let words: Vec<String> = words.collect();
        // A pod that will never be ready is not foreseen; until then all is.
        let common = words.len().min(foreseen.len());
        assert!(common > 0, "{change}");
        assert_eq!(words[..common], foreseen[..common], "{change}");
    }
}
