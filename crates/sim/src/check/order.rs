//! Invariant 3: ordered sets grow upward and shrink downward, one pod at a time; an update goes from the top down to the
//! partition and takes no more pods out of service than it may; nothing else is deleted without cause.
//!
//! A controller can only go by what it was told, so each of its writes is held against what it knew at some one moment
//! of the last while ([`super::told`]): there must be one at which the rules allowed it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::told::{Known, Span, Told};
use super::{image_of, is_ready, ordinal_of};

#[derive(Default)]
pub(super) struct Order {
    pods: Told,
    sets: Told,
}

impl Order {
    pub(super) fn delivered(&mut self, at: Duration, event: &Value) {
        let object = &event["object"];
        let Some(name) = object["metadata"]["name"].as_str() else {
            return;
        };
        if let Some(told) = self.of_kind(object["kind"].as_str())
            && matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED" | "DELETED"))
        {
            let state = (event["type"] != "DELETED").then(|| Arc::new(object.clone()));
            told.learn(at, name, state);
        }
    }

    pub(super) fn listed(&mut self, at: Duration, list: &Value) {
        let kind = list["kind"].as_str().and_then(|kind| kind.strip_suffix("List"));
        let Some(told) = self.of_kind(kind) else { return };
        let items = list["items"].as_array().into_iter().flatten();
        let named = |object: &Value| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            (name.to_owned(), Arc::new(object.clone()))
        };
        told.learn_list(at, items.map(named).collect());
    }

    fn of_kind(&mut self, kind: Option<&str>) -> Option<&mut Told> {
        match kind {
            Some("Pod") => Some(&mut self.pods),
            Some("StatefulSet") => Some(&mut self.sets),
            _ => None,
        }
    }

    /// Whether at some moment of the last while the controllers knew what makes `is_allowed` true.
    fn was(&self, at: Duration, set: &str, is_allowed: impl Fn(&Moment<'_>) -> bool) -> bool {
        let mut sets: Vec<(Span, Arc<Value>)> = Vec::new();
        self.sets.moments(at, |span, known| {
            sets.extend(known.get(set).map(|set| (span, set.clone())));
            false
        });
        self.pods.moments(at, |span, pods| {
            let of_then = sets.iter().filter(|(known, _)| known.touches(span));
            of_then.into_iter().any(|(_, set)| {
                let moment = Moment {
                    set,
                    pods,
                    until: span.to,
                };
                is_allowed(&moment)
            })
        })
    }

    /// A pod that a set's controller has made.
    pub(super) fn judge_creation(&self, at: Duration, pod: &Value) -> Option<String> {
        let name = pod["metadata"]["name"].as_str()?;
        let (set, ordinal) = (owner_of(pod)?, ordinal_of(name)?);
        if !self.was(at, set, |moment| moment.may_create(ordinal)) {
            return Some(format!(
                "invariant 3: {name} is made before its predecessors are available, or is not wanted"
            ));
        }
        (!self.was(at, set, |moment| moment.is_of_right_revision(ordinal, pod)))
            .then(|| format!("invariant 3: {name} is made at the wrong revision"))
    }

    /// A pod that the controllers are about to delete.
    pub(super) fn judge_deletion(
        &self,
        at: Duration,
        name: &str,
        objects: &BTreeMap<(String, String), Value>,
    ) -> Option<String> {
        let pod = objects.get(&("pods".to_owned(), name.to_owned()))?;
        let (set, ordinal) = (owner_of(pod)?, ordinal_of(name)?);
        let alive = objects.get(&("statefulsets".to_owned(), set.to_owned()));
        let is_owned = alive.is_some_and(|set| {
            set["metadata"]["uid"] == pod["metadata"]["ownerReferences"][0]["uid"]
                && set["metadata"]["deletionTimestamp"].is_null()
        });
        // Whoever collects what belongs to nobody goes by no order.
        if !is_owned || is_lost(pod) || !pod["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        let uid = &pod["metadata"]["uid"];
        (!self.was(at, set, |moment| moment.may_delete(name, uid, ordinal)))
            .then(|| format!("invariant 3: {name} is deleted out of order or without cause"))
    }
}

/// What was known at one moment.
struct Moment<'a> {
    set: &'a Value,
    pods: &'a Known,
    /// The latest that it may have been.
    until: Duration,
}

impl Moment<'_> {
    fn spec(&self) -> &Value {
        &self.set["spec"]
    }

    fn range(&self) -> (i64, i64) {
        let start = self.spec()["ordinals"]["start"].as_i64().unwrap_or(0);
        (start, start + self.spec()["replicas"].as_i64().unwrap_or(1))
    }

    fn is_ordered(&self) -> bool {
        self.spec()["podManagementPolicy"] != "Parallel"
    }

    /// The set's own pod of an ordinal.
    fn pod(&self, ordinal: i64) -> Option<&Value> {
        let set = &self.set["metadata"];
        let pod = self
            .pods
            .get(&format!("{}-{ordinal}", set["name"].as_str().unwrap_or_default()))?;
        (pod["metadata"]["ownerReferences"][0]["uid"] == set["uid"]).then_some(pod.as_ref())
    }

    fn is_available(&self, pod: &Value) -> bool {
        is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null() && self.was_ready_long_enough(pod)
    }

    fn was_ready_long_enough(&self, pod: &Value) -> bool {
        let min_ready_s = self.spec()["minReadySeconds"].as_i64().unwrap_or(0);
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
        let since = ready
            .next()
            .and_then(|ready| ready["lastTransitionTime"].as_str()?.parse::<Timestamp>().ok());
        let dawn: Timestamp = crate::world::DAWN.parse().expect("a time");
        let until = i64::try_from(self.until.as_secs()).unwrap_or(i64::MAX);
        min_ready_s == 0 || since.is_some_and(|since| since.as_second() + min_ready_s <= dawn.as_second() + until)
    }

    fn is_well(&self, ordinal: i64) -> bool {
        self.pod(ordinal).is_some_and(|pod| self.is_available(pod))
    }

    fn all_well(&self) -> bool {
        let (start, end) = self.range();
        (start..end).all(|ordinal| self.is_well(ordinal))
    }

    fn may_create(&self, ordinal: i64) -> bool {
        let (start, end) = self.range();
        let is_next = !self.is_ordered() || (start..ordinal).all(|lower| self.is_well(lower));
        (start..end).contains(&ordinal) && is_next
    }

    /// Above the partition, and when people do the updates, a new pod is of the set's template.
    fn is_of_right_revision(&self, ordinal: i64, pod: &Value) -> bool {
        let strategy = &self.spec()["updateStrategy"];
        let is_new = image_of(pod) == image_of(&self.spec()["template"]);
        if strategy["type"] != "RollingUpdate" {
            return is_new;
        }
        let status = &self.set["status"];
        let has_two = status["currentRevision"].is_string() && status["currentRevision"] != status["updateRevision"];
        match strategy["rollingUpdate"]["partition"].as_i64() {
            Some(partition) if ordinal - self.range().0 >= partition => is_new,
            Some(_) if has_two => {
                let is_current = pod["metadata"]["labels"]["controller-revision-hash"] == status["currentRevision"];
                // The status may tell of the revision before the last one.
                is_current || self.set["metadata"]["generation"] != status["observedGeneration"]
            }
            _ => true,
        }
    }

    fn may_delete(&self, name: &str, uid: &Value, ordinal: i64) -> bool {
        let Some(pod) = self.pods.get(name).filter(|pod| pod["metadata"]["uid"] == *uid) else {
            return false;
        };
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            return false;
        }
        if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
            return true;
        }
        let (start, end) = self.range();
        if (start..end).contains(&ordinal) {
            self.may_update(ordinal, pod)
        } else {
            !self.is_ordered() || self.may_shrink(ordinal, pod)
        }
    }

    /// Downward, one at a time, all else being well; one that is not well goes only if it is the lowest such.
    fn may_shrink(&self, ordinal: i64, pod: &Value) -> bool {
        let (start, end) = self.range();
        let mut condemned = (0..16).filter(|other| !(start..end).contains(other) && self.pod(*other).is_some());
        let is_only_trouble = condemned.clone().all(|other| other >= ordinal || self.is_well(other));
        let is_highest = condemned.all(|other| other <= ordinal);
        is_highest && self.all_well() && (self.is_available(pod) || is_only_trouble)
    }

    /// From the top down to the partition, with no more pods missing than may be; one that serves nobody may go anyway
    /// if the set is parallel.
    fn may_update(&self, ordinal: i64, pod: &Value) -> bool {
        let (start, end) = self.range();
        let strategy = &self.spec()["updateStrategy"];
        let partition = strategy["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
        if !self.is_outdated(pod) || strategy["type"] != "RollingUpdate" || ordinal - start < partition {
            return false;
        }
        if !self.is_ordered() && !self.is_available(pod) {
            return true;
        }
        if self.is_ordered() && !self.all_well() {
            return false;
        }
        let budget = strategy["rollingUpdate"]["maxUnavailable"].as_u64().unwrap_or(1);
        let missing = (start..end).filter(|other| !self.is_well(*other)).count();
        let above = (ordinal + 1..end).filter(|other| self.is_well(*other) && self.is_outdated_at(*other));
        missing as u64 + (above.count() as u64) < budget
    }

    fn is_outdated_at(&self, ordinal: i64) -> bool {
        self.pod(ordinal).is_some_and(|pod| self.is_outdated(pod))
    }

    fn is_outdated(&self, pod: &Value) -> bool {
        image_of(pod) != image_of(&self.spec()["template"])
            || pod["metadata"]["labels"]["controller-revision-hash"].is_null()
    }
}

/// The set that controls a pod.
fn owner_of(pod: &Value) -> Option<&str> {
    let owner = &pod["metadata"]["ownerReferences"][0];
    owner["name"].as_str().filter(|_| owner["kind"] == "StatefulSet")
}

/// Whether housekeeping has marked the pod because its node is gone or out of service.
fn is_lost(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|condition| condition["type"] == "DisruptionTarget"))
}
