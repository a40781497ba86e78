//! Jobs in a model world: whatever is interrupted wherever, every pod's end is counted once, and the job ends.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use std::collections::BTreeMap;

use api::k8s::api::batch::v1::Job;
use api::k8s::api::core::v1::Pod;
use controllers_plan::job::{Observed, TRACKING_FINALIZER, is_finished, plan};
use controllers_plan::{Action, Plan, Write};
use jiff::{SignedDuration, Timestamp};
use json_patch::merge;
use proptest::prelude::*;
use serde_json::{Value, json};

struct World {
    job: Value,
    pods: BTreeMap<String, Value>,
    now: Timestamp,
    /// Every pod that there ever was, by name, and how it ended.
    ends: BTreeMap<String, Option<&'static str>>,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut whole = json!({
            "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {"matchLabels": {"job": "a"}},
            "template": {"metadata": {"labels": {"job": "a"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
        });
        merge(&mut whole, &spec);
        let metadata = json!({"name": "a", "namespace": "default", "uid": "a", "generation": 1});
        Self {
            job: json!({"metadata": metadata, "spec": whole, "status": {}}),
            pods: BTreeMap::new(),
            now: "2026-11-22T12:00:00Z".parse().unwrap(),
            ends: BTreeMap::new(),
        }
    }

    fn job(&self) -> Job {
        serde_json::from_value(self.job.clone()).unwrap()
    }

    fn plan(&self) -> Plan {
        let (job, pods) = (self.job(), self.pods.values());
        let pods: Vec<Pod> = pods.map(|pod| serde_json::from_value(pod.clone()).unwrap()).collect();
        plan(
            &Observed {
                job: &job,
                pods: pods.iter().collect(),
            },
            self.now,
        )
    }

    fn carry_out(&mut self, action: &Action) {
        match &action.write {
            Write::Create(object) => {
                let mut pod = object.body.clone();
                pod["metadata"]["uid"] = json!(object.key.name);
                pod["metadata"]["creationTimestamp"] = json!(self.now.to_string());
                pod["status"] = json!({"phase": "Running"});
                self.ends.insert(object.key.name.clone(), None);
                assert!(self.pods.insert(object.key.name.clone(), pod).is_none());
            }
            Write::Patch { target, patch, .. } if target.key.kind.kind == "Job" => merge(&mut self.job, patch),
            Write::Patch { target, patch, .. } => {
                if let Some(pod) = self.pods.get_mut(&target.key.name) {
                    merge(pod, patch);
                }
                self.sweep();
            }
            Write::Delete { target, .. } => {
                let now = self.now.to_string();
                if let Some(pod) = self.pods.get_mut(&target.key.name) {
                    pod["metadata"]["deletionTimestamp"] = json!(now);
                }
                self.sweep();
            }
            Write::Replace { .. } | Write::Kill { .. } => panic!("not for jobs"),
        }
    }

    /// Deleted pods that nobody holds are gone once they have ended.
    fn sweep(&mut self) {
        self.pods.retain(|_, pod| {
            let is_held = pod["metadata"]["finalizers"]
                .as_array()
                .is_some_and(|held| !held.is_empty());
            pod["metadata"]["deletionTimestamp"].is_null() || is_held || pod["status"]["phase"] == "Running"
        });
    }

    /// A running pod ends.
    fn end(&mut self, which: usize, end: &'static str) {
        let running: Vec<String> = self.running();
        if let Some(name) = running.get(which % running.len().max(1)) {
            let pod = self.pods.get_mut(name).unwrap();
            let end = if pod["metadata"]["deletionTimestamp"].is_null() {
                end
            } else {
                "Failed"
            };
            pod["status"] = json!({"phase": end, "containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": i32::from(end == "Failed"), "finishedAt": self.now.to_string()}},
            }]});
            self.ends.insert(name.clone(), Some(end));
            self.sweep();
        }
    }

    fn running(&self) -> Vec<String> {
        let running = self.pods.iter().filter(|(_, pod)| pod["status"]["phase"] == "Running");
        running.map(|(name, _)| name.clone()).collect()
    }

    /// Carries out the first so many writes of a plan, as if it were interrupted then.
    fn turn(&mut self, interrupted_after: usize) {
        let plan = self.plan();
        let writes: Vec<Action> = plan.actions().cloned().chain(plan.status.clone()).collect();
        for action in writes.iter().take(interrupted_after) {
            self.carry_out(action);
        }
        let waits = plan.again_at.filter(|_| writes.is_empty());
        self.now = waits.unwrap_or(self.now + SignedDuration::from_secs(1));
    }

    /// Lets everything come to rest, all running pods ending so.
    fn settle(&mut self, end: &'static str) {
        for _ in 0..400 {
            if is_finished(&self.job()) && self.plan() == Plan::default() {
                return;
            }
            self.turn(usize::MAX);
            self.end(0, end);
        }
        panic!("never over: {} {:#?}", self.job["status"], self.pods);
    }

    fn count(&self, end: &str) -> i64 {
        i64::try_from(self.ends.values().filter(|known| **known == Some(end)).count()).unwrap()
    }

    /// How many pods run that have been told to stop.
    fn stopped(&self) -> i64 {
        let stopped = self
            .pods
            .values()
            .filter(|pod| pod["status"]["phase"] == "Running" && !pod["metadata"]["deletionTimestamp"].is_null());
        i64::try_from(stopped.count()).unwrap()
    }

    fn status(&self, field: &str) -> i64 {
        self.job["status"][field].as_i64().unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Turn(usize),
    Succeeds(usize),
    Fails(usize),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        (0..6usize).prop_map(Happening::Turn),
        (0..6usize).prop_map(Happening::Succeeds),
        (0..6usize).prop_map(Happening::Fails),
    ];
    prop::collection::vec(one, 0..40)
}

fn live_through(world: &mut World, happenings: &[Happening]) {
    for happening in happenings {
        match happening {
            Happening::Turn(writes) => world.turn(*writes),
            Happening::Succeeds(which) => world.end(*which, "Succeeded"),
            Happening::Fails(which) => world.end(*which, "Failed"),
        }
        // Nothing is ever counted that did not happen.
        assert!(world.status("succeeded") <= world.count("Succeeded"));
        // When a job fails, what still runs counts as failed as soon as it is told to stop.
        assert!(world.status("failed") <= world.count("Failed") + world.stopped());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_end_is_counted_once(happenings in happenings(), parallelism in 1..4, completions in 1..6) {
        let mut world = World::new(json!({"parallelism": parallelism, "completions": completions, "backoffLimit": 100}));
        live_through(&mut world, &happenings);
        world.settle("Succeeded");
        prop_assert_eq!(world.status("succeeded"), world.count("Succeeded"));
        prop_assert_eq!(world.status("failed"), world.count("Failed"));
        prop_assert!(world.status("succeeded") >= i64::from(completions));
        prop_assert!(world.pods.values().all(|pod| !pod.to_string().contains(TRACKING_FINALIZER)));
        prop_assert_eq!(&world.job["status"]["uncountedTerminatedPods"], &json!({}));
    }

    #[test]
    fn every_index_succeeds_once(happenings in happenings(), parallelism in 1..4, completions in 1..6) {
        let spec = json!({
            "parallelism": parallelism, "completions": completions, "completionMode": "Indexed", "backoffLimit": 100,
        });
        let mut world = World::new(spec);
        live_through(&mut world, &happenings);
        world.settle("Succeeded");
        prop_assert_eq!(world.status("succeeded"), i64::from(completions));
        let expected = match completions { 1 => "0".to_owned(), 2 => "0,1".to_owned(), n => format!("0-{}", n - 1) };
        prop_assert_eq!(&world.job["status"]["completedIndexes"], &json!(expected));
    }

    #[test]
    fn a_job_fails_beyond_its_limit(happenings in happenings(), limit in 0..4) {
        let mut world = World::new(json!({"parallelism": 2, "completions": 50, "backoffLimit": limit}));
        live_through(&mut world, &happenings);
        world.settle("Failed");
        let conditions = world.job["status"]["conditions"].to_string();
        prop_assert!(conditions.contains("BackoffLimitExceeded"), "{}", conditions);
        prop_assert!(world.status("failed") > i64::from(limit));
        prop_assert!(world.running().is_empty());
    }

    #[test]
    fn each_index_has_its_own_limit(happenings in happenings()) {
        let spec = json!({
            "parallelism": 2, "completions": 3, "completionMode": "Indexed", "backoffLimit": 2147483647, "backoffLimitPerIndex": 1,
        });
        let mut world = World::new(spec);
        live_through(&mut world, &happenings);
        world.settle("Failed");
        let failed = world.job["status"]["failedIndexes"].as_str().unwrap_or_default().to_owned();
        let done = world.status("succeeded");
        prop_assert!(done == 3 || !failed.is_empty());
    }
}

#[test]
fn a_failed_pod_is_replaced_after_a_pause_that_doubles() {
    let mut world = World::new(json!({"completions": 1}));
    let mut pauses = Vec::new();
    for _ in 0..3 {
        while world.running().is_empty() {
            world.turn(usize::MAX);
        }
        world.end(0, "Failed");
        let failed_at = world.now;
        let until = std::iter::repeat_with(|| {
            world.turn(usize::MAX);
            (world.running().is_empty(), world.now)
        })
        .find(|(is_waiting, _)| !is_waiting);
        pauses.push((until.unwrap().1.duration_since(failed_at)).as_secs());
    }
    // A turn takes a second here.
    let expected = [10, 20, 40];
    for (pause, expected) in pauses.iter().zip(expected) {
        assert!((expected..=expected + 2).contains(pause), "{pauses:?}");
    }
}

#[test]
fn pods_of_a_job_that_manages_itself_elsewhere_are_left_alone() {
    let world = World::new(json!({"completions": 1, "managedBy": "example.com/queue"}));
    assert_eq!(world.plan(), Plan::default());
}

#[test]
fn an_index_with_two_pods_keeps_one() {
    let mut world = World::new(json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed"}));
    world.turn(usize::MAX);
    let (name, mut twin) = world
        .pods
        .iter()
        .next()
        .map(|(name, pod)| (name.clone(), pod.clone()))
        .unwrap();
    let twin_name = format!("{name}-twin");
    twin["metadata"]["name"] = json!(twin_name);
    twin["metadata"]["uid"] = json!(twin_name);
    world.pods.insert(twin_name, twin);
    let deletions: Vec<_> = world
        .plan()
        .actions()
        .filter(|action| matches!(action.write, Write::Delete { .. }))
        .cloned()
        .collect();
    assert_eq!(deletions.len(), 1);
}

#[test]
fn no_pod_is_let_go_of_while_nobody_keeps_the_record() {
    let mut world = World::new(json!({"completions": 1}));
    while world.running().is_empty() {
        world.turn(usize::MAX);
    }
    world.end(0, "Succeeded");
    world.job["status"]
        .as_object_mut()
        .unwrap()
        .remove("uncountedTerminatedPods");
    let plan = world.plan();
    assert!(plan.steps.is_empty() && plan.status.is_some());
    world.settle("Succeeded");
    assert_eq!(world.status("succeeded"), 1);
}
