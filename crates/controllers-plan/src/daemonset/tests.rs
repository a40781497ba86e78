use super::*;
use crate::Write;
use serde_json::{Value, json};

const NOW: &str = "2026-11-22T12:00:00Z";

struct World {
    set: DaemonSet,
    template: Value,
    pods: Vec<Pod>,
    nodes: Vec<Node>,
    revisions: Vec<ControllerRevision>,
    failures: BTreeMap<String, u32>,
}

fn world(strategy: &Value, nodes: &[Value]) -> World {
    let template =
        json!({"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}});
    let set = json!({
        "metadata": {"name": "d", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template, "updateStrategy": strategy},
    });
    let node = |(at, more): (usize, &Value)| {
        let mut node = json!({"metadata": {"name": format!("n{at}")}});
        node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(node).unwrap()
    };
    World {
        set: serde_json::from_value(set).unwrap(),
        template,
        pods: Vec::new(),
        nodes: nodes.iter().enumerate().map(node).collect(),
        revisions: Vec::new(),
        failures: BTreeMap::new(),
    }
}

fn nodes(count: usize) -> Vec<Value> {
    vec![json!({}); count]
}

impl World {
    fn plan(&self) -> Plan {
        let seen = Observed {
            set: &self.set,
            template: &self.template,
            pods: self.pods.iter().collect(),
            revisions: self.revisions.iter().collect(),
            nodes: self.nodes.iter().collect(),
            failures: &self.failures,
        };
        plan(&seen, NOW.parse().unwrap())
    }

    /// Does what a plan says; pods come up where they are meant to, ready unless told otherwise.
    fn carry_out(&mut self, plan: &Plan, ready: bool) {
        for action in plan.actions() {
            match &action.write {
                Write::Create(object) if object.key.kind.kind == "Pod" => {
                    let mut pod: Pod = serde_json::from_value(object.body.clone()).unwrap();
                    pod.metadata.uid.clone_from(&pod.metadata.name);
                    let node = target_of(&pod).map(str::to_owned);
                    pod.spec.as_mut().unwrap().node_name = node;
                    pod.status = serde_json::from_value(status(ready)).unwrap();
                    self.pods.push(pod);
                }
                Write::Create(object) => {
                    let mut revision: ControllerRevision = serde_json::from_value(object.body.clone()).unwrap();
                    revision.metadata.uid.clone_from(&revision.metadata.name);
                    self.revisions.push(revision);
                }
                Write::Delete { target, .. } => {
                    self.pods
                        .retain(|pod| pod.metadata.name.as_deref() != Some(&target.key.name));
                    self.revisions
                        .retain(|known| known.metadata.name.as_deref() != Some(&target.key.name));
                }
                Write::Patch { target, patch, .. } if target.key.kind.kind == "ControllerRevision" => {
                    let known = self
                        .revisions
                        .iter_mut()
                        .find(|known| known.metadata.name.as_deref() == Some(&target.key.name));
                    known.unwrap().revision = patch["revision"].as_i64().unwrap();
                }
                Write::Patch { .. } | Write::Replace { .. } | Write::Kill { .. } => {}
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            let plan = self.plan();
            if plan.steps.is_empty() {
                return;
            }
            self.carry_out(&plan, true);
        }
        panic!("never quiet");
    }

    fn set_image(&mut self, image: &str) {
        self.template["spec"]["containers"][0]["image"] = json!(image);
        self.set.spec.as_mut().unwrap().template = serde_json::from_value(self.template.clone()).unwrap();
    }

    fn images(&self) -> Vec<String> {
        let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        self.pods.iter().map(image).collect()
    }
}

fn status(ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    let condition = json!({"type": "Ready", "status": ready, "lastTransitionTime": "2026-11-22T11:00:00Z"});
    json!({"phase": "Running", "conditions": [condition]})
}

fn rolling(limits: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": limits})
}

fn counts(plan: &Plan) -> (usize, usize) {
    let of_pods = |action: &&Action| action.key().kind.kind == "Pod";
    let created = |action: &Action| matches!(action.write, Write::Create(_));
    let pods: Vec<_> = plan.actions().filter(of_pods).collect();
    let created = pods.iter().filter(|action| created(action)).count();
    (created, pods.len() - created)
}

#[test]
fn every_node_that_takes_it_gets_a_pod() {
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "k", "effect": effect}]}});
    let cordoned = json!({"spec": {"taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}});
    let mut world = world(
        &json!({}),
        &[
            json!({}),
            taint("NoSchedule"),
            taint("NoExecute"),
            taint("PreferNoSchedule"),
            cordoned,
        ],
    );
    world.settle();
    let mut on: Vec<_> = world
        .pods
        .iter()
        .map(|pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap())
        .collect();
    on.sort();
    assert_eq!(on, ["n0", "n3", "n4"]);
    // A pod that is there stays in spite of NoSchedule, and goes for NoExecute.
    world.nodes[0].spec = serde_json::from_value(taint("NoSchedule")["spec"].clone()).unwrap();
    assert_eq!(counts(&world.plan()), (0, 0));
    world.nodes[0].spec = serde_json::from_value(taint("NoExecute")["spec"].clone()).unwrap();
    assert_eq!(counts(&world.plan()), (0, 1));
}

#[test]
fn an_update_replaces_as_many_as_may_be_missing() {
    let mut world = world(&rolling(json!({"maxUnavailable": "50%"})), &nodes(4));
    world.settle();
    world.set_image("two");
    let plan = world.plan();
    assert_eq!(counts(&plan), (0, 2));
    world.carry_out(&plan, true);
    assert_eq!(counts(&world.plan()), (2, 0));
    world.settle();
    assert_eq!(world.images(), ["two"; 4]);
    assert_eq!(
        world.revisions.iter().map(|known| known.revision).collect::<Vec<_>>(),
        [1, 2]
    );
    // Back to the first template: its revision becomes the newest.
    world.set_image("one");
    world.settle();
    assert_eq!(
        world.revisions.iter().map(|known| known.revision).collect::<Vec<_>>(),
        [3, 2]
    );
}

#[test]
fn an_old_pod_that_does_not_serve_goes_beyond_the_limit() {
    let mut world = world(&rolling(json!({"maxUnavailable": 1})), &nodes(3));
    world.settle();
    world.pods[1].status = serde_json::from_value(status(false)).unwrap();
    world.set_image("two");
    assert_eq!(counts(&world.plan()), (0, 2));
}

#[test]
fn with_surge_the_new_pod_comes_before_the_old_one_goes() {
    let mut world = world(&rolling(json!({"maxSurge": 1, "maxUnavailable": 0})), &nodes(2));
    world.settle();
    world.set_image("two");
    let plan = world.plan();
    assert_eq!(counts(&plan), (1, 0));
    world.carry_out(&plan, false);
    assert_eq!(counts(&world.plan()), (0, 0), "the new one is not ready yet");
    let new = world.pods.last_mut().unwrap();
    new.status = serde_json::from_value(status(true)).unwrap();
    assert_eq!(counts(&world.plan()), (0, 1));
    world.settle();
    assert_eq!(world.images(), ["two"; 2]);
}

#[test]
fn on_delete_leaves_the_update_to_people() {
    let mut world = world(&json!({"type": "OnDelete"}), &nodes(2));
    world.settle();
    world.set_image("two");
    let plan = world.plan();
    assert_eq!(counts(&plan), (0, 0));
    world.carry_out(&plan, true);
    world.pods.remove(0);
    world.settle();
    assert_eq!(world.images(), ["one", "two"]);
}

#[test]
fn what_has_failed_is_replaced_at_once_the_first_time_and_after_growing_pauses_then() {
    let mut world = world(&json!({}), &nodes(1));
    world.settle();
    let born = serde_json::from_value(json!("2026-11-22T11:59:58Z")).unwrap();
    world.pods[0].metadata.creation_timestamp = Some(born);
    world.pods[0].status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
    let mut goes = |times, phase: &str| {
        world.failures = [("n0".to_owned(), times)].into();
        world.pods[0].status.as_mut().unwrap().phase = Some(phase.to_owned());
        let plan = world.plan();
        let said = plan.events.first().map(|event| event.notice.reason);
        (counts(&plan).1, plan.again_at.map(|at| at.to_string()), said)
    };
    let at_once = (1, None, Some("FailedDaemonPod"));
    let later = |at: &str| (0, Some(at.to_owned()), None);
    assert_eq!(goes(1, "Failed"), at_once);
    assert_eq!(goes(2, "Failed"), at_once);
    assert_eq!(goes(3, "Failed"), at_once);
    assert_eq!(goes(4, "Failed"), later("2026-11-22T12:00:02Z"));
    assert_eq!(goes(40, "Failed"), later("2026-11-22T12:14:58Z"));
    assert_eq!(goes(40, "Succeeded"), (1, None, Some("SucceededDaemonPod")));
}

#[test]
fn history_is_cut_but_for_what_pods_are_of() {
    let mut world = world(&json!({"type": "OnDelete"}), &nodes(1));
    world.set.spec.as_mut().unwrap().revision_history_limit = Some(0);
    world.settle();
    for image in ["two", "three"] {
        world.set_image(image);
        world.settle();
    }
    // The pod is of the first, the template of the third.
    assert_eq!(
        world.revisions.iter().map(|known| known.revision).collect::<Vec<_>>(),
        [1, 3]
    );
}
