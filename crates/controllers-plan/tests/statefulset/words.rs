//! A10 and `because`: what people are told.

use controllers_plan::{Action, Plan};
use serde_json::{Value, json};

use crate::world::{World, world};

fn messages(world: &World) -> Vec<String> {
    world.plan().because.into_iter().map(|reason| reason.message).collect()
}

fn announcements(plan: &Plan) -> Vec<(String, String, String, String)> {
    let tell = |action: &Action| {
        let announcement = action.announcement.clone()?;
        let (done, failed) = (announcement.done?, announcement.failed?);
        Some((
            done.reason.to_owned(),
            done.message,
            failed.reason.to_owned(),
            failed.message,
        ))
    };
    plan.actions().filter_map(tell).collect()
}

#[test]
fn a10_creation_is_announced_in_upstream_s_words() {
    let world = world(json!({}));
    let plan = world.plan();
    let expected = [
        (
            "SuccessfulCreate",
            "Create Claim www-web-0 Pod web-0 in StatefulSet web success",
            "FailedCreate",
            "Create Claim www-web-0 for Pod web-0 in StatefulSet web failed",
        ),
        (
            "SuccessfulCreate",
            "Create Pod web-0 in StatefulSet web successful",
            "FailedCreate",
            "Create Pod web-0 in StatefulSet web failed",
        ),
    ];
    let expected = expected.map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned()));
    assert_eq!(announcements(&plan), expected);
}

#[test]
fn a10_deletion_is_announced_in_upstream_s_words() {
    let mut world = world(json!({}));
    world.run();
    world.edit_set(json!({ "replicas": 2 }));
    let told = announcements(&world.plan());
    assert_eq!(told[0].0, "SuccessfulDelete");
    assert_eq!(told[0].1, "Delete Pod web-2 in StatefulSet web successful");
}

fn blocked_by(status: Value, spec: Value) -> String {
    let mut world = world(json!({ "replicas": 2 }));
    world.settle();
    world.edit("Pod", "web-0", &json!({ "spec": spec, "status": status }));
    messages(&world).pop().unwrap()
}

#[test]
fn because_tells_what_the_next_pod_waits_for() {
    let placed = json!({ "nodeName": "node" });
    let condition =
        |type_: &str, status: &str, message: &str| json!([{ "type": type_, "status": status, "message": message }]);
    let container = |state: Value| json!([{ "name": "nginx", "ready": false, "state": state, "image": "", "imageID": "", "restartCount": 0 }]);
    let probing = json!({
        "nodeName": "node",
        "containers": [{ "name": "nginx", "image": "one", "readinessProbe": { "httpGet": { "port": 80 } } }],
    });
    let table = [
        (json!({}), json!({}), "it has no node yet"),
        (
            json!({ "conditions": condition("PodScheduled", "False", "0/1 nodes are available") }),
            json!({}),
            "no node takes it: 0/1 nodes are available",
        ),
        (json!({}), placed.clone(), "it has a node and is about to start"),
        (
            json!({ "containerStatuses": container(json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off" } })) }),
            placed.clone(),
            "container nginx waits: ImagePullBackOff: Back-off",
        ),
        (
            json!({ "containerStatuses": container(json!({ "terminated": { "exitCode": 3, "reason": "Error" } })) }),
            placed.clone(),
            "container nginx has ended with exit code 3: Error",
        ),
        (
            json!({ "phase": "Running", "containerStatuses": container(json!({ "running": {} })) }),
            probing,
            "the readiness probe of container nginx does not succeed",
        ),
        (
            json!({ "phase": "Running", "containerStatuses": container(json!({ "running": {} })) }),
            placed,
            "container nginx runs and is not ready yet",
        ),
    ];
    for (status, spec, cause) in table {
        assert_eq!(blocked_by(status, spec), format!("web-1 waits for web-0: {cause}"));
    }
}

#[test]
fn because_names_the_set_whose_pod_has_the_name() {
    let mut world = world(json!({ "replicas": 1 }));
    let owner =
        json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "old", "controller": true }]);
    world.insert(
        "Pod",
        json!({ "metadata": { "name": "web-0", "ownerReferences": owner } }),
    );
    let told = messages(&world).pop().unwrap();
    assert_eq!(
        told,
        "web-0 cannot be created while another pod has its name: it belongs to an earlier set of this name"
    );
}

#[test]
fn because_tells_many_waiting_pods_in_one_sentence() {
    let mut world = world(json!({ "replicas": 1000 }));
    world.settle();
    let told = messages(&world);
    assert_eq!(told.len(), 1 + 16 + 1);
    assert_eq!(
        told.last().unwrap(),
        "web-17 to web-999 wait for web-0: it has no node yet"
    );
}
