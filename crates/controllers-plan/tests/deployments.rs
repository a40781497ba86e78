//! Deployments in a model world: however users change their minds and pods fare, there are never too many pods and
//! never too few available ones, and in the end the newest template is all there is.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use std::collections::BTreeMap;

use api::k8s::api::apps::v1::{Deployment, ReplicaSet};
use controllers_plan::deployment::{HASH_LABEL, Observed, REVISION_ANNOTATION, plan};
use controllers_plan::{Action, Plan, Step, Write};
use jiff::{SignedDuration, Timestamp};
use json_patch::merge;
use proptest::prelude::*;
use serde_json::{Value, json};

struct World {
    deployment: Value,
    sets: BTreeMap<String, Value>,
    now: Timestamp,
}

impl World {
    fn new(replicas: i32, strategy: &Value) -> Self {
        let template =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "0"}]}});
        let metadata = json!({"name": "web", "namespace": "default", "uid": "web", "generation": 1});
        let spec = json!({
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, "strategy": strategy,
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
        });
        Self {
            deployment: json!({"metadata": metadata, "spec": spec, "status": {}}),
            sets: BTreeMap::new(),
            now: "2026-11-22T12:00:00Z".parse().unwrap(),
        }
    }

    fn plan(&self) -> Plan {
        let deployment: Deployment = serde_json::from_value(self.deployment.clone()).unwrap();
        let sets: Vec<ReplicaSet> = self
            .sets
            .values()
            .map(|set| serde_json::from_value(set.clone()).unwrap())
            .collect();
        let seen = Observed {
            deployment: &deployment,
            replica_sets: sets.iter().collect(),
            pods: Vec::new(),
            failure: None,
        };
        plan(&seen, self.now)
    }

    fn edit(&mut self, patch: &Value) {
        merge(&mut self.deployment, patch);
        let generation = self.deployment["metadata"]["generation"].as_i64().unwrap();
        self.deployment["metadata"]["generation"] = json!(generation + 1);
    }

    /// Carries out the first so many writes of a plan.
    fn turn(&mut self, interrupted_after: usize) -> bool {
        let plan = self.plan();
        let steps = plan.steps.iter().flat_map(|step| match step {
            Step::One(action) => vec![action.clone()],
            Step::Together(chains) => chains.iter().flatten().cloned().collect(),
        });
        let writes: Vec<Action> = steps.chain(plan.status.clone()).collect();
        for action in writes.iter().take(interrupted_after) {
            self.carry_out(action);
        }
        self.now += SignedDuration::from_secs(1);
        !writes.is_empty()
    }

    fn carry_out(&mut self, action: &Action) {
        match &action.write {
            Write::Create(object) => {
                let mut set = object.body.clone();
                set["metadata"]["uid"] = json!(object.key.name);
                set["metadata"]["generation"] = json!(1);
                set["metadata"]["creationTimestamp"] = json!(self.now.to_string());
                set["status"] = json!({"replicas": 0, "observedGeneration": 1});
                assert!(self.sets.insert(object.key.name.clone(), set).is_none());
            }
            Write::Patch { target, patch, .. } if target.key.kind.kind == "Deployment" => {
                merge(&mut self.deployment, patch)
            }
            Write::Patch { target, patch, .. } => merge(self.sets.get_mut(&target.key.name).unwrap(), patch),
            Write::Delete { target, .. } => {
                let set = self.sets.remove(&target.key.name).unwrap();
                assert_eq!(set["spec"]["replicas"], 0, "a ReplicaSet with replicas is deleted");
            }
            Write::Replace { .. } | Write::Kill { .. } => panic!("not for ReplicaSets"),
        }
    }

    /// The ReplicaSets do their work: one of them has one pod more or less, or one more that is available.
    fn pods_move(&mut self, which: usize) -> bool {
        let moves = |set: &Value| {
            let number = |field: &str| set["status"][field].as_i64().unwrap_or(0);
            let size = set["spec"]["replicas"].as_i64().unwrap();
            let is_broken = set["spec"]["template"]["spec"]["containers"][0]["image"] == "broken";
            number("replicas") != size || (number("availableReplicas") < size && !is_broken)
        };
        let names: Vec<String> = self
            .sets
            .iter()
            .filter(|(_, set)| moves(set))
            .map(|(name, _)| name.clone())
            .collect();
        let Some(name) = names.get(which % names.len().max(1)) else {
            return false;
        };
        let set = self.sets.get_mut(name).unwrap();
        let size = set["spec"]["replicas"].as_i64().unwrap();
        let (pods, available) = (
            set["status"]["replicas"].as_i64().unwrap_or(0),
            set["status"]["availableReplicas"].as_i64().unwrap_or(0),
        );
        let (pods, available) = match pods.cmp(&size) {
            std::cmp::Ordering::Less => (pods + 1, available),
            // What is of no use goes first.
            std::cmp::Ordering::Greater => (pods - 1, available.min(pods - 1)),
            std::cmp::Ordering::Equal => (pods, available + 1),
        };
        set["status"] = json!({"replicas": pods, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1});
        true
    }

    fn sum(&self, pointer: &str) -> i64 {
        self.sets
            .values()
            .map(|set| set.pointer(pointer).and_then(Value::as_i64).unwrap_or(0))
            .sum()
    }

    fn settle(&mut self) {
        for _ in 0..2000 {
            let has_written = self.turn(usize::MAX);
            let has_moved = self.pods_move(0);
            if !has_written && !has_moved {
                return;
            }
        }
        panic!("never quiet: {} {:#?}", self.deployment, self.sets);
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Turn(usize),
    Pods(usize),
    Image(u8),
    Pause(bool),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (0..5usize).prop_map(Happening::Turn),
        6 => (0..5usize).prop_map(Happening::Pods),
        1 => (0..4u8).prop_map(Happening::Image),
        1 => any::<bool>().prop_map(Happening::Pause),
    ];
    prop::collection::vec(one, 0..80)
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_rollout_keeps_its_limits(happenings in happenings(), replicas in 1..8i32, surge in 0..4i32, unavailable in 0..4i32) {
        prop_assume!(surge + unavailable > 0);
        let limits = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let mut world = World::new(replicas, &json!({"type": "RollingUpdate", "rollingUpdate": limits}));
        world.settle();
        prop_assert_eq!(world.sum("/status/availableReplicas"), i64::from(replicas));
        for happening in &happenings {
            match happening {
                Happening::Turn(writes) => { world.turn(*writes); }
                Happening::Pods(which) => { world.pods_move(*which); }
                Happening::Image(number) => world.edit(&image(&number.to_string())),
                Happening::Pause(paused) => world.edit(&json!({"spec": {"paused": paused}})),
            }
            prop_assert!(world.sum("/spec/replicas") <= i64::from(replicas + surge), "too many pods");
            let available = world.sum("/status/availableReplicas");
            prop_assert!(available >= i64::from(replicas - unavailable.min(replicas)), "too few available: {}", available);
        }
        world.edit(&json!({"spec": {"paused": false}}));
        world.settle();
        let template = &world.deployment["spec"]["template"]["spec"];
        let live: Vec<_> = world.sets.values().filter(|set| set["spec"]["replicas"] != 0).collect();
        prop_assert_eq!(live.len(), 1);
        prop_assert_eq!(&live[0]["spec"]["template"]["spec"], template);
        prop_assert_eq!(&live[0]["spec"]["replicas"], &json!(replicas));
        prop_assert_eq!(
            &live[0]["metadata"]["annotations"][REVISION_ANNOTATION],
            &world.deployment["metadata"]["annotations"][REVISION_ANNOTATION]
        );
        prop_assert!(world.sets.len() <= 3, "history beyond its limit");
        prop_assert!(world.sets.values().all(|set| set["metadata"]["labels"][HASH_LABEL].is_string()));
    }
}

#[test]
fn a_broken_rollout_is_rolled_back_by_its_annotation() {
    let mut world = World::new(
        2,
        &json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
    );
    world.settle();
    world.edit(&image("broken"));
    world.settle();
    assert_eq!(world.sum("/status/availableReplicas"), 2);
    world.edit(&json!({"metadata": {"annotations": {"deprecated.deployment.rollback.to": "0"}}}));
    let plan = world.plan();
    assert_eq!(plan.events[0].notice.reason, "DeploymentRollback");
    world.settle();
    assert_eq!(
        world.deployment["spec"]["template"]["spec"]["containers"][0]["image"],
        "0"
    );
    assert!(world.deployment["metadata"]["annotations"]["deprecated.deployment.rollback.to"].is_null());
    assert_eq!(world.sum("/spec/replicas"), 2);
}

#[test]
fn a_name_that_is_taken_brings_on_another_hash() {
    let mut world = World::new(1, &json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}));
    let Write::Create(object) = world.plan().actions().next().unwrap().write.clone() else {
        panic!("no creation")
    };
    let mut other = object.body.clone();
    merge(&mut other, &image("other"));
    other["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": true}]);
    world.sets.insert(object.key.name.clone(), other);
    world.turn(usize::MAX);
    assert_eq!(world.deployment["status"]["collisionCount"], 1);
    let next = world.plan();
    let created = next
        .actions()
        .find(|action| matches!(action.write, Write::Create(_)))
        .unwrap();
    assert_ne!(created.key().name, object.key.name);
}
