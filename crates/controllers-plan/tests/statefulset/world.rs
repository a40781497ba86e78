//! A model cluster: objects, a server's rules for writing them, a kubelet, and a garbage collector.

use std::collections::BTreeMap;

use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet};
use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod};
use controllers_plan::statefulset::{Gates, Observed, plan};
use controllers_plan::{Action, Key, Plan, Step, Target, Write};
use jiff::{SignedDuration, Timestamp};
use json_patch::merge;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The image of containers that never become ready.
pub(crate) const BROKEN: &str = "broken";

/// Everything there is.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) objects: BTreeMap<(String, String), Value>,
    pub(crate) now: Timestamp,
    pub(crate) gates: Gates,
    pub(crate) early_ends: BTreeMap<i64, u32>,
    counter: u64,
}

/// A set `web` with a claim template `www`; `spec` is merged into its spec.
pub(crate) fn world(spec: Value) -> World {
    let mut world = World {
        objects: BTreeMap::new(),
        now: "2026-11-22T12:00:00Z".parse().unwrap(),
        gates: Gates {
            waiting_condition: false,
            ..Gates::default()
        },
        early_ends: BTreeMap::new(),
        counter: 0,
    };
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "name": "web", "namespace": "default", "generation": 1 },
        "spec": {
            "replicas": 3, "serviceName": "nginx", "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10,
            "selector": { "matchLabels": { "app": "nginx" } },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } },
            "template": {
                "metadata": { "labels": { "app": "nginx" } },
                "spec": { "containers": [{ "name": "nginx", "image": "one", "resources": {} }] },
            },
            "volumeClaimTemplates": [{
                "metadata": { "name": "www", "labels": { "tier": "web" }, "annotations": { "note": "mine" } },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
            }],
        },
        "status": { "replicas": 0 },
    });
    merge(&mut set, &json!({ "spec": spec }));
    world.insert("StatefulSet", set);
    world
}

impl World {
    pub(crate) fn insert(&mut self, kind: &str, mut object: Value) {
        self.counter += 1;
        let meta = &mut object["metadata"];
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{}", self.counter));
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = json!(self.now.to_string());
        }
        meta["resourceVersion"] = json!(self.counter.to_string());
        let name = meta["name"].as_str().unwrap().to_owned();
        self.objects.insert((kind.to_owned(), name), object);
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    pub(crate) fn pod(&self, name: &str) -> &Value {
        self.get("Pod", name).unwrap_or_else(|| panic!("no pod {name}"))
    }

    pub(crate) fn set(&self) -> &Value {
        self.get("StatefulSet", "web").expect("the set")
    }

    pub(crate) fn names(&self, kind: &str) -> Vec<&str> {
        self.objects
            .keys()
            .filter(|(known, _)| known == kind)
            .map(|(_, name)| name.as_str())
            .collect()
    }

    /// Changes an object as a user or another component would.
    pub(crate) fn edit(&mut self, kind: &str, name: &str, patch: &Value) {
        let key = (kind.to_owned(), name.to_owned());
        let mut object = self.objects.remove(&key).unwrap_or_else(|| panic!("no {kind} {name}"));
        let old_spec = object["spec"].clone();
        merge(&mut object, patch);
        if kind == "StatefulSet" && old_spec != object["spec"] {
            object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_i64().unwrap() + 1);
        }
        self.insert(kind, object);
    }

    pub(crate) fn edit_set(&mut self, spec: Value) {
        self.edit("StatefulSet", "web", &json!({ "spec": spec }));
    }

    pub(crate) fn set_image(&mut self, image: &str) {
        let containers = json!([{ "name": "nginx", "image": image, "resources": {} }]);
        self.edit_set(json!({ "template": { "spec": { "containers": containers } } }));
    }

    /// Deletes as a server does: a pod that a kubelet has in hand, or a claim in use, only gets its time set.
    pub(crate) fn delete(&mut self, kind: &str, name: &str) {
        let is_held = match kind {
            "Pod" => self.pod(name)["status"]["phase"] == "Running",
            "PersistentVolumeClaim" => self.pods_using(name) > 0,
            _ => false,
        };
        if is_held {
            let time = json!({ "metadata": { "deletionTimestamp": self.now.to_string() } });
            self.edit(kind, name, &time);
        } else {
            self.objects.remove(&(kind.to_owned(), name.to_owned()));
        }
    }

    fn pods_using(&self, claim: &str) -> usize {
        let uses = |pod: &&Value| {
            let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            volumes
                .into_iter()
                .any(|volume| volume["persistentVolumeClaim"]["claimName"] == json!(claim))
        };
        self.objects
            .iter()
            .filter(|((kind, _), _)| kind == "Pod")
            .map(|(_, pod)| pod)
            .filter(uses)
            .count()
    }

    /// Sets a pod's phase and readiness.
    pub(crate) fn phase(&mut self, name: &str, phase: &str, ready: bool) {
        let since = json!(self.now.to_string());
        let conditions = json!([{
            "type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": since,
        }]);
        let status = json!({ "phase": phase, "conditions": conditions });
        self.edit(
            "Pod",
            name,
            &json!({ "spec": { "nodeName": "node" }, "status": status }),
        );
    }

    pub(crate) fn ready(&mut self, name: &str) {
        self.phase(name, "Running", true);
    }

    pub(crate) fn unready(&mut self, name: &str) {
        self.phase(name, "Running", false);
    }

    pub(crate) fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    /// One thing that kubelet or collectors would do, the `choice`-th of those possible. `false` if there is none.
    pub(crate) fn live(&mut self, choice: usize) -> bool {
        let mut possible: Vec<(&str, String)> = Vec::new();
        for ((kind, name), object) in &self.objects {
            let is_going = !object["metadata"]["deletionTimestamp"].is_null();
            let phase = object["status"]["phase"].as_str().unwrap_or_default();
            let is_ready = object["status"]["conditions"][0]["status"] == "True";
            let is_broken = object["spec"]["containers"][0]["image"] == BROKEN;
            match kind.as_str() {
                "Pod" if is_going => possible.push(("end", name.clone())),
                "Pod" if phase == "Pending" => possible.push(("start", name.clone())),
                "Pod" if phase == "Running" && !is_ready && !is_broken => possible.push(("ready", name.clone())),
                "PersistentVolumeClaim" if is_going && self.pods_using(name) == 0 => {
                    possible.push(("free", name.clone()))
                }
                "PersistentVolumeClaim" | "Pod" | "ControllerRevision" if self.is_orphaned(object) => {
                    possible.push(("collect", format!("{kind}/{name}")));
                }
                _ => {}
            }
        }
        if possible.is_empty() {
            return false;
        }
        let (what, name) = possible.swap_remove(choice % possible.len());
        match what {
            "end" => drop(self.objects.remove(&("Pod".to_owned(), name))),
            "start" => self.unready(&name),
            "ready" => self.ready(&name),
            "free" => drop(self.objects.remove(&("PersistentVolumeClaim".to_owned(), name))),
            _ => {
                let (kind, name) = name.split_once('/').unwrap();
                self.delete(kind, name);
            }
        }
        true
    }

    /// Whether all owners of an object are gone, so that a garbage collector deletes it.
    fn is_orphaned(&self, object: &Value) -> bool {
        let owners = object["metadata"]["ownerReferences"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let is_gone = |owner: &Value| {
            let known = self.get(owner["kind"].as_str().unwrap(), owner["name"].as_str().unwrap());
            known.is_none_or(|known| known["metadata"]["uid"] != owner["uid"])
        };
        !owners.is_empty() && owners.iter().all(is_gone) && object["metadata"]["deletionTimestamp"].is_null()
    }

    pub(crate) fn plan(&self) -> Plan {
        let set: StatefulSet = serde_json::from_value(self.set().clone()).unwrap();
        let pods: Vec<Pod> = self.all("Pod");
        let claims: Vec<PersistentVolumeClaim> = self.all("PersistentVolumeClaim");
        let revisions: Vec<ControllerRevision> = self.all("ControllerRevision");
        let observed = Observed {
            set: &set,
            template: &self.set()["spec"]["template"],
            pods: pods.iter().collect(),
            claims: claims.iter().collect(),
            revisions: revisions.iter().collect(),
            service: None,
            early_ends: &self.early_ends,
            gates: self.gates,
        };
        let made = plan(&observed, self.now);
        assert_eq!(
            made,
            plan(&observed, self.now),
            "a plan depends on what is observed and on nothing else"
        );
        let says_something = made.steps.is_empty() || !made.because.is_empty();
        assert!(says_something, "steps without a reason: {:?}", made.steps);
        made
    }

    fn all<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let objects = self.objects.iter().filter(|((known, _), _)| known == kind);
        objects
            .map(|(_, object)| serde_json::from_value(object.clone()).unwrap())
            .collect()
    }

    /// Does one action as a server does, or says why not.
    pub(crate) fn apply(&mut self, action: &Action) -> Result<(), String> {
        match &action.write {
            Write::Create(object) => {
                let Key { kind, name, .. } = &object.key;
                if self.get(kind.kind, name).is_some() {
                    return Err(format!("{name} exists"));
                }
                let mut body = object.body.clone();
                if kind.kind == "Pod" {
                    body["status"] = json!({ "phase": "Pending" });
                }
                self.insert(kind.kind, body);
            }
            Write::Patch {
                target,
                subresource,
                patch,
            } => {
                self.check(target)?;
                let is_status = patch.as_object().unwrap().keys().any(|key| key == "status");
                assert_eq!(
                    is_status,
                    *subresource == "status",
                    "status goes through its subresource: {patch}"
                );
                self.edit(target.key.kind.kind, &target.key.name, patch);
            }
            Write::Delete { target, .. } => {
                self.check(target)?;
                self.delete(target.key.kind.kind, &target.key.name);
            }
            Write::Replace { .. } | Write::Kill { .. } => panic!("not used here"),
        }
        Ok(())
    }

    fn check(&self, target: &Target) -> Result<(), String> {
        let name = &target.key.name;
        let object = self
            .get(target.key.kind.kind, name)
            .ok_or_else(|| format!("{name} is gone"))?;
        assert!(
            !target.uid.is_empty() && !target.resource_version.is_empty(),
            "no precondition on {name}"
        );
        let is_seen = object["metadata"]["uid"] == json!(target.uid)
            && object["metadata"]["resourceVersion"] == json!(target.resource_version);
        if is_seen {
            Ok(())
        } else {
            Err(format!("{name} has changed"))
        }
    }

    /// Plans and does it all, status included. Returns what was done, in words such as `create Pod web-0`.
    pub(crate) fn step(&mut self) -> Vec<String> {
        let plan = self.plan();
        for action in plan.actions().chain(&plan.status) {
            self.apply(action).unwrap();
        }
        words(&plan)
    }

    /// Plans and acts until nothing is left to do, without kubelet.
    pub(crate) fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..100 {
            let plan = self.plan();
            if plan.is_quiet() {
                return done;
            }
            done.extend(self.step());
        }
        panic!("the controller never rests: {done:?}");
    }

    /// Lets controller, kubelet and collectors go on until all is quiet.
    pub(crate) fn run(&mut self) {
        for _ in 0..1000 {
            self.settle();
            if !self.live(0) {
                match self.plan().again_at {
                    Some(at) => self.now = at,
                    None => return,
                }
            }
        }
        panic!("no rest in this world: {:?}", self.objects.keys());
    }

    pub(crate) fn status(&self, field: &str) -> i64 {
        self.set()["status"][field].as_i64().unwrap_or(0)
    }

    pub(crate) fn revision(&self, pod: &str) -> &str {
        self.pod(pod)["metadata"]["labels"]["controller-revision-hash"]
            .as_str()
            .unwrap_or_default()
    }

    /// The reasons of the plan, as `subject reason waits_for`.
    pub(crate) fn because(&self) -> Vec<String> {
        let tell = |reason: &controllers_plan::Reason| {
            let waits_for = reason.waits_for.clone().unwrap_or_else(|| "-".to_owned());
            format!("{} {} {waits_for}", reason.subject, reason.reason)
        };
        self.plan().because.iter().map(tell).collect()
    }

    /// What the next plan does, in words, without doing it. Claims, revisions and status are left out.
    pub(crate) fn pod_steps(&self) -> Vec<String> {
        words(&self.plan())
            .into_iter()
            .filter(|word| word.contains(" Pod "))
            .collect()
    }
}

/// What a plan does, in order.
pub(crate) fn words(plan: &Plan) -> Vec<String> {
    let of_step = |step: &Step| match step {
        Step::One(action) => vec![word(action)],
        Step::Together(chains) => chains.iter().flatten().map(word).collect(),
    };
    plan.steps.iter().flat_map(of_step).collect()
}

fn word(action: &Action) -> String {
    let verb = match &action.write {
        Write::Create(_) => "create",
        Write::Patch { .. } => "patch",
        Write::Replace { .. } => "replace",
        Write::Delete { .. } => "delete",
        Write::Kill { .. } => "kill",
    };
    format!("{verb} {} {}", action.key().kind.kind, action.key().name)
}
