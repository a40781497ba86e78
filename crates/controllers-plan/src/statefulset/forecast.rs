//! What will happen: the planner run against a model of the cluster until it is quiet.
//!
//! The model is a fair world: new pods become ready, pods that are deleted end, claims without owners are collected.
//! Pods that are not ready now stay so unless they are replaced (young ones are believed to be coming up).

use std::collections::{BTreeMap, BTreeSet};

use api::k8s::api::apps::v1::{ControllerRevision, StatefulSet};
use api::k8s::api::core::v1::{PersistentVolumeClaim, Pod};
use jiff::{SignedDuration, Timestamp};
use json_patch::merge;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Gates, Observed, plan};
use crate::{Action, Plan, Reason, Write};

/// A pod that is younger than this and not ready is believed to be coming up.
const YOUTH: SignedDuration = SignedDuration::from_secs(60);

/// A forecast that is longer than this helps nobody.
const ROUNDS_MAX: usize = 20_000;

/// The cluster as it is, with the set as it is to be.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// The set with the change made.
    pub set: Value,
    /// The pods of its namespace.
    pub pods: Vec<Value>,
    /// The claims.
    pub claims: Vec<Value>,
    /// The revisions.
    pub revisions: Vec<Value>,
    /// The pod that somebody deletes, if any.
    pub deleted_pod: Option<String>,
    /// What is switched on in the controllers.
    pub gates: Gates,
}

/// One step of what will happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Foreseen {
    /// What is done, e.g. `create pod web-3`.
    pub does: String,
    /// Why.
    pub because: String,
    /// What must have happened before; nothing if it is done at once.
    pub after: Vec<String>,
}

/// What will happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// The steps, in order.
    pub steps: Vec<Foreseen>,
    /// How many pods are ready before.
    pub ready_before: usize,
    /// The lowest number of ready pods on the way.
    pub ready_lowest: usize,
    /// How many pods are ready in the end.
    pub ready_after: usize,
    /// Claims that are made.
    pub claims_created: Vec<String>,
    /// Claims that are deleted, as the retention policy says.
    pub claims_deleted: Vec<String>,
    /// Claims that no pod uses any more and that stay.
    pub claims_orphaned: Vec<String>,
    /// What it comes to rest at without being as desired.
    pub blocked: Vec<String>,
}

/// Looks ahead until nothing happens any more.
pub fn forecast(beginning: &Beginning, now: Timestamp) -> Forecast {
    let mut model = Model::of(beginning, now);
    let mut forecast = Forecast {
        ready_before: model.ready(),
        ready_lowest: model.ready(),
        ..Forecast::default()
    };
    let used_before = model.names("PersistentVolumeClaim");
    if let Some(pod) = &beginning.deleted_pod {
        model.delete("Pod", pod);
        forecast.note(Foreseen {
            does: format!("delete pod {pod}"),
            because: "you delete it".to_owned(),
            after: Vec::new(),
        });
    }
    for _ in 0..ROUNDS_MAX {
        forecast.ready_lowest = forecast.ready_lowest.min(model.ready());
        let Some(plan) = model.plan() else { break };
        if !plan.is_quiet() {
            carry_out(&mut model, &plan, &mut forecast);
        } else if !model.live() {
            match plan.again_at.filter(|at| *at > model.now) {
                Some(at) => model.now = at,
                None => {
                    let waits = |reason: &&Reason| reason.waits_for.is_some();
                    forecast.blocked = plan
                        .because
                        .iter()
                        .filter(waits)
                        .map(|reason| reason.message.clone())
                        .collect();
                    break;
                }
            }
        }
    }
    forecast.ready_after = model.ready();
    let claims = model.names("PersistentVolumeClaim");
    forecast.claims_created = claims.difference(&used_before).cloned().collect();
    forecast.claims_deleted = used_before.difference(&claims).cloned().collect();
    forecast.claims_orphaned = claims
        .into_iter()
        .filter(|claim| model.was_used(claim, beginning))
        .collect();
    forecast
}

impl Forecast {
    fn note(&mut self, step: Foreseen) {
        self.steps.push(step);
    }

    /// Whether anything happens at all.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Does what a plan says; pods and claims are told of, the rest goes without saying.
fn carry_out(model: &mut Model, plan: &Plan, forecast: &mut Forecast) {
    for action in plan.actions().chain(&plan.status) {
        let (kind, name) = (action.key().kind.kind, action.key().name.clone());
        let verb = match &action.write {
            Write::Create(_) => "create",
            Write::Delete { .. } | Write::Kill { .. } => "delete",
            Write::Patch { .. } | Write::Replace { .. } => "change",
        };
        let shown = match kind {
            "Pod" => "pod",
            "PersistentVolumeClaim" => "claim",
            _ => "",
        };
        if !shown.is_empty() {
            let because = plan
                .because
                .iter()
                .find(|reason| reason.subject == name && reason.waits_for.is_none());
            let because = because.map(|reason| reason.message.clone()).unwrap_or_default();
            let after = std::mem::take(&mut model.happened);
            forecast.note(Foreseen {
                does: format!("{verb} {shown} {name}"),
                because,
                after,
            });
        }
        model.apply(action);
        forecast.ready_lowest = forecast.ready_lowest.min(model.ready());
    }
}

struct Model {
    objects: BTreeMap<(String, String), Value>,
    now: Timestamp,
    gates: Gates,
    counter: u64,
    /// Pods (by uid) that are not ready and will not be.
    broken: BTreeSet<String>,
    /// What has happened by itself since the last step.
    happened: Vec<String>,
}

impl Model {
    fn of(beginning: &Beginning, now: Timestamp) -> Self {
        let mut model = Self {
            objects: BTreeMap::new(),
            now,
            gates: Gates {
                waiting_condition: false,
                ..beginning.gates
            },
            counter: 0,
            broken: BTreeSet::new(),
            happened: Vec::new(),
        };
        model.put("StatefulSet", beginning.set.clone());
        for (kind, objects) in [
            ("Pod", &beginning.pods),
            ("PersistentVolumeClaim", &beginning.claims),
            ("ControllerRevision", &beginning.revisions),
        ] {
            for object in objects {
                model.put(kind, object.clone());
            }
        }
        let is_old = |pod: &Value| {
            let made: Option<Timestamp> = pod["metadata"]["creationTimestamp"]
                .as_str()
                .and_then(|time| time.parse().ok());
            made.is_none_or(|made| made.checked_add(YOUTH).is_ok_and(|grown| grown < now))
        };
        let hopeless = model.of_kind("Pod").filter(|pod| !is_ready(pod) && is_old(pod));
        model.broken = hopeless.map(|pod| text(&pod["metadata"]["uid"]).to_owned()).collect();
        model
    }

    fn put(&mut self, kind: &str, mut object: Value) {
        self.counter += 1;
        let meta = &mut object["metadata"];
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("foreseen-{}", self.counter));
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = json!(self.now.to_string());
        }
        meta["resourceVersion"] = json!(format!("foreseen-{}", self.counter));
        let name = text(&meta["name"]).to_owned();
        self.objects.insert((kind.to_owned(), name), object);
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects
            .iter()
            .filter(move |((known, _), _)| known == kind)
            .map(|(_, object)| object)
    }

    fn typed<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        self.of_kind(kind)
            .filter_map(|object| serde_json::from_value(object.clone()).ok())
            .collect()
    }

    fn names(&self, kind: &str) -> BTreeSet<String> {
        self.of_kind(kind)
            .map(|object| text(&object["metadata"]["name"]).to_owned())
            .collect()
    }

    fn plan(&self) -> Option<Plan> {
        let served = self.of_kind("StatefulSet").next()?;
        let set: StatefulSet = serde_json::from_value(served.clone()).ok()?;
        let pods: Vec<Pod> = self.typed("Pod");
        let claims: Vec<PersistentVolumeClaim> = self.typed("PersistentVolumeClaim");
        let revisions: Vec<ControllerRevision> = self.typed("ControllerRevision");
        let early_ends = BTreeMap::new();
        let seen = Observed {
            set: &set,
            template: &served["spec"]["template"],
            pods: pods.iter().collect(),
            claims: claims.iter().collect(),
            revisions: revisions.iter().collect(),
            service: None,
            early_ends: &early_ends,
            gates: self.gates,
        };
        Some(plan(&seen, self.now))
    }

    fn apply(&mut self, action: &Action) {
        let (kind, name) = (action.key().kind.kind, action.key().name.clone());
        match &action.write {
            Write::Create(object) => {
                let mut body = object.body.clone();
                if kind == "Pod" {
                    body["status"] = json!({ "phase": "Pending" });
                }
                self.put(kind, body);
            }
            Write::Patch { patch, .. } => self.edit(kind, &name, patch),
            Write::Replace { body, .. } => self.put(kind, body.clone()),
            Write::Delete { .. } | Write::Kill { .. } => self.delete(kind, &name),
        }
    }

    fn edit(&mut self, kind: &str, name: &str, patch: &Value) {
        if let Some(mut object) = self.objects.remove(&(kind.to_owned(), name.to_owned())) {
            merge(&mut object, patch);
            self.put(kind, object);
        }
    }

    /// A pod that runs, or a claim in use, only gets its time set.
    fn delete(&mut self, kind: &str, name: &str) {
        let key = (kind.to_owned(), name.to_owned());
        let is_held = match kind {
            "Pod" => self
                .objects
                .get(&key)
                .is_some_and(|pod| !pod["spec"]["nodeName"].is_null()),
            "PersistentVolumeClaim" => self.is_used(name),
            _ => false,
        };
        if is_held {
            let time = json!({ "metadata": { "deletionTimestamp": self.now.to_string() } });
            self.edit(kind, name, &time);
        } else {
            self.objects.remove(&key);
        }
    }

    fn is_used(&self, claim: &str) -> bool {
        self.of_kind("Pod").any(|pod| uses(pod, claim))
    }

    /// Whether a claim served a pod before and serves none now.
    fn was_used(&self, claim: &str, beginning: &Beginning) -> bool {
        beginning.pods.iter().any(|pod| uses(pod, claim)) && !self.is_used(claim)
    }

    /// The pods of the set that are ready and stay.
    fn ready(&self) -> usize {
        let set = self.of_kind("StatefulSet").next().map(|set| &set["metadata"]["uid"]);
        let is_own = |pod: &&Value| {
            let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.into_iter().any(|owner| Some(&owner["uid"]) == set)
        };
        let pods = self.of_kind("Pod").filter(is_own);
        pods.filter(|pod| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null())
            .count()
    }

    /// Lets one thing happen that happens by itself; `false` if there is none.
    fn live(&mut self) -> bool {
        let next = self.objects.iter().find_map(|((kind, name), object)| {
            let is_going = !object["metadata"]["deletionTimestamp"].is_null();
            let what = match kind.as_str() {
                "Pod" if is_going => "is gone",
                "Pod" if !is_ready(object) && !self.broken.contains(text(&object["metadata"]["uid"])) => "is ready",
                "PersistentVolumeClaim" if is_going && !self.is_used(name) => "is gone",
                "PersistentVolumeClaim" if !is_going && self.is_orphaned(object) => "is collected",
                _ => return None,
            };
            Some((kind.clone(), name.clone(), what))
        });
        let Some((kind, name, what)) = next else { return false };
        self.happened.push(format!("{name} {what}"));
        match what {
            "is gone" => drop(self.objects.remove(&(kind, name))),
            "is ready" => {
                let ready = json!([{ "type": "Ready", "status": "True", "lastTransitionTime": self.now.to_string() }]);
                let status = json!({ "phase": "Running", "conditions": ready });
                self.edit(
                    "Pod",
                    &name,
                    &json!({ "spec": { "nodeName": "foreseen" }, "status": status }),
                );
            }
            _ => self.delete(&kind, &name),
        }
        true
    }

    /// Whether all owners are gone.
    fn is_orphaned(&self, object: &Value) -> bool {
        let owners = object["metadata"]["ownerReferences"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let is_gone = |owner: &Value| {
            let key = (text(&owner["kind"]).to_owned(), text(&owner["name"]).to_owned());
            matches!(key.0.as_str(), "Pod" | "StatefulSet")
                && self
                    .objects
                    .get(&key)
                    .is_none_or(|known| known["metadata"]["uid"] != owner["uid"])
        };
        !owners.is_empty() && owners.iter().all(is_gone)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn uses(pod: &Value, claim: &str) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes
        .into_iter()
        .any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut conditions = conditions.into_iter();
    pod["status"]["phase"] == "Running"
        && conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
