//! Invariant 3: ordered sets grow upward and shrink downward, one pod at a time; nothing else is deleted without cause.
//!
//! A controller can only go by what it was told. So each of its writes is held against what the links have delivered to
//! it: all states that were the latest it knew at some moment of the last while.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::{image_of, is_ready, ordinal_of};

/// A plan is carried out within this time, with every request late.
const WHILE: Duration = Duration::from_secs(20);

/// States of one object: since when each was the latest known.
type Known = VecDeque<(Duration, Option<Value>)>;

#[derive(Default)]
pub(super) struct Order {
    known: BTreeMap<(String, String), Known>,
}

impl Order {
    pub(super) fn delivered(&mut self, at: Duration, event: &Value) {
        let object = &event["object"];
        let (Some(kind), Some(name)) = (object["kind"].as_str(), object["metadata"]["name"].as_str()) else {
            return;
        };
        if matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED" | "DELETED")) {
            let state = (event["type"] != "DELETED").then(|| object.clone());
            self.learn(at, kind, name, state);
        }
    }

    pub(super) fn listed(&mut self, at: Duration, list: &Value) {
        let kind = match list["kind"].as_str() {
            Some("PodList") => "Pod",
            Some("StatefulSetList") => "StatefulSet",
            _ => return,
        };
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let name_of = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let there: Vec<String> = items.iter().map(name_of).collect();
        let known = self.known.keys().filter(|(known, _)| known == kind);
        let gone: Vec<String> = known
            .map(|(_, name)| name.clone())
            .filter(|name| !there.contains(name))
            .collect();
        for name in gone {
            self.learn(at, kind, &name, None);
        }
        for item in items {
            self.learn(at, kind, &name_of(&item), Some(item.clone()));
        }
    }

    fn learn(&mut self, at: Duration, kind: &str, name: &str, state: Option<Value>) {
        let known = self.known.entry((kind.to_owned(), name.to_owned())).or_default();
        known.push_back((at, state));
        // The second oldest is older than the while: then the oldest was not the latest within it.
        while known.get(1).is_some_and(|(since, _)| *since + WHILE < at) {
            known.pop_front();
        }
    }

    /// All states of an object that were the latest known at some moment of the last while; absence counts as one.
    fn states(&self, at: Duration, kind: &str, name: &str) -> Vec<Option<&Value>> {
        let Some(known) = self.known.get(&(kind.to_owned(), name.to_owned())) else {
            return vec![None];
        };
        let until = |index: usize| known.get(index + 1).map_or(at, |(since, _)| *since);
        let recent = known
            .iter()
            .enumerate()
            .filter(|(index, _)| until(*index) + WHILE >= at);
        recent.map(|(_, (_, state))| state.as_ref()).collect()
    }

    fn specs(&self, at: Duration, set: &str) -> Vec<&Value> {
        self.states(at, "StatefulSet", set)
            .into_iter()
            .flatten()
            .map(|set| &set["spec"])
            .collect()
    }

    fn was_well(&self, at: Duration, pod: &str) -> bool {
        let is_well = |pod: &&Value| is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null();
        self.states(at, "Pod", pod)
            .into_iter()
            .flatten()
            .any(|pod| is_well(&pod))
    }

    fn was_absent(&self, at: Duration, pod: &str) -> bool {
        self.states(at, "Pod", pod).iter().any(Option::is_none)
    }

    /// A pod that a set's controller has made.
    pub(super) fn judge_creation(&self, at: Duration, pod: &Value) -> Option<String> {
        let name = pod["metadata"]["name"].as_str()?;
        let owner = &pod["metadata"]["ownerReferences"][0];
        let (set, ordinal) = (
            owner["name"].as_str().filter(|_| owner["kind"] == "StatefulSet")?,
            ordinal_of(name)?,
        );
        let specs = self.specs(at, set);
        let may = |spec: &&Value| {
            let (start, end) = range(spec);
            let is_wanted = (start..end).contains(&ordinal);
            let is_ordered = spec["podManagementPolicy"] != "Parallel";
            is_wanted && (!is_ordered || (start..ordinal).all(|lower| self.was_well(at, &format!("{set}-{lower}"))))
        };
        (!specs.iter().any(may))
            .then(|| format!("invariant 3: {name} is made before its predecessors are ready, or is not wanted"))
    }

    /// A pod that the controllers are about to delete.
    pub(super) fn judge_deletion(
        &self,
        at: Duration,
        name: &str,
        objects: &BTreeMap<(String, String), Value>,
    ) -> Option<String> {
        let pod = objects.get(&("pods".to_owned(), name.to_owned()))?;
        let owner = &pod["metadata"]["ownerReferences"][0];
        let (set, ordinal) = (
            owner["name"].as_str().filter(|_| owner["kind"] == "StatefulSet")?,
            ordinal_of(name)?,
        );
        let alive = objects.get(&("statefulsets".to_owned(), set.to_owned()));
        let is_owned = alive.is_some_and(|set| {
            set["metadata"]["uid"] == owner["uid"] && set["metadata"]["deletionTimestamp"].is_null()
        });
        // Whoever collects what belongs to nobody goes by no order.
        if !is_owned || is_lost(pod) || !pod["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        let states: Vec<&Value> = self.states(at, "Pod", name).into_iter().flatten().collect();
        let has_ended = |pod: &&Value| matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
        if states.iter().any(has_ended) {
            return None;
        }
        let specs = self.specs(at, set);
        let may = |spec: &&Value| self.may_delete(at, spec, set, ordinal, &states);
        (!specs.iter().any(may)).then(|| format!("invariant 3: {name} is deleted out of order or without cause"))
    }

    fn may_delete(&self, at: Duration, spec: &Value, set: &str, ordinal: i64, states: &[&Value]) -> bool {
        let (start, end) = range(spec);
        let is_ordered = spec["podManagementPolicy"] != "Parallel";
        let all_well = || (start..end).all(|wanted| self.was_well(at, &format!("{set}-{wanted}")));
        if !(start..end).contains(&ordinal) {
            let higher = (ordinal + 1..16).filter(|other| !(start..end).contains(other));
            let is_highest = higher.into_iter().all(|other| {
                let name = format!("{set}-{other}");
                self.was_absent(at, &name) || !self.was_owned(at, &name)
            });
            return !is_ordered || (is_highest && all_well());
        }
        let strategy = &spec["updateStrategy"];
        let partition = strategy["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
        let is_outdated = states.iter().any(|pod| {
            image_of(pod) != image_of(&spec["template"])
                || pod["metadata"]["labels"]["controller-revision-hash"].is_null()
        });
        let is_rolling = strategy["type"] == "RollingUpdate" && ordinal - start >= partition;
        is_outdated && is_rolling && (!is_ordered || all_well())
    }

    fn was_owned(&self, at: Duration, pod: &str) -> bool {
        let is_owned = |pod: &&Value| {
            pod["metadata"]["ownerReferences"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
        };
        self.states(at, "Pod", pod)
            .into_iter()
            .flatten()
            .all(|pod| is_owned(&pod))
    }
}

/// Whether housekeeping has marked the pod because its node is gone or out of service.
fn is_lost(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|condition| condition["type"] == "DisruptionTarget"))
}

fn range(spec: &Value) -> (i64, i64) {
    let start = spec["ordinals"]["start"].as_i64().unwrap_or(0);
    (start, start + spec["replicas"].as_i64().unwrap_or(1))
}
