//! The checkers: each knows what must be true of a cluster and nothing of the code that is to make it true.
//!
//! They see every committed change in order, every write that the controllers ask for, what the controllers were told
//! before (so that nobody is blamed for what could not be known), and the truth about containers.

mod claims;
mod containers;
mod names;
mod order;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::FutureExt;
use http::Method;
use serde_json::Value;
use store::{Event, Watch};

use crate::world::{Live, Who};
use claims::Claims;
use order::Order;

/// A committed change of one object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) kind: String,
    pub(crate) name: String,
    /// `None` before it was made.
    pub(crate) old: Option<Value>,
    /// `None` when it is gone.
    pub(crate) new: Option<Value>,
    /// Not a heartbeat and not an event.
    pub(crate) is_work: bool,
    pub(crate) words: String,
}

/// All checkers, and what they have seen.
pub(crate) struct Checkers {
    watch: Box<dyn Watch>,
    pending: std::collections::VecDeque<Change>,
    /// The objects as committed, by kind (plural) and name.
    pub(crate) objects: BTreeMap<(String, String), Value>,
    /// The kinds of which objects are expected ([`crate::empty`]).
    pub(crate) inhabited: BTreeSet<String>,
    order: Order,
    claims: Claims,
    /// What was found wrong.
    pub(crate) violations: Vec<String>,
}

/// The kinds whose states are looked at; of others it is only noted that they change.
const LOOKED_AT: [&str; 5] = [
    "pods",
    "statefulsets",
    "persistentvolumeclaims",
    "endpointslices",
    "persistentvolumes",
];

/// What changes without anything being done.
const IDLE: [&str; 3] = ["leases", "events", "nodes"];

impl Checkers {
    pub(crate) fn new(watch: Box<dyn Watch>) -> Self {
        Self {
            watch,
            pending: std::collections::VecDeque::new(),
            objects: BTreeMap::new(),
            inhabited: crate::empty::inhabited(),
            order: Order::default(),
            claims: Claims::default(),
            violations: Vec::new(),
        }
    }

    /// The next change that has been committed and not been looked at.
    pub(crate) fn next_change(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Some(change);
            }
            match self.watch.next().now_or_never() {
                Some(Some(Ok(batch))) => self
                    .pending
                    .extend(batch.events.iter().filter_map(|event| change_of(event))),
                _ => return None,
            }
        }
    }

    /// Looks at one change.
    pub(crate) fn take_in(&mut self, at: Duration, change: &Change, containers: &BTreeMap<String, Live>) {
        let key = (change.kind.clone(), change.name.clone());
        if !self.inhabited.contains(&change.kind) {
            let kind = &change.kind;
            self.blame(
                at,
                format!("there are {kind}, of which the controllers are told nothing"),
            );
        }
        if let Some(found) = self.claims.look(change, &self.objects) {
            self.blame(at, found);
        }
        if change.kind == "pods"
            && change.old.is_none()
            && let Some(pod) = &change.new
            && let Some(found) = self.order.judge_creation(at, pod)
        {
            self.blame(at, found);
        }
        match &change.new {
            Some(new) => drop(self.objects.insert(key, new.clone())),
            None => drop(self.objects.remove(&key)),
        }
        if change.kind == "endpointslices"
            && let Some(new) = &change.new
        {
            for found in names::strangers(new, containers) {
                self.blame(at, found);
            }
        }
    }

    /// Looks at the containers after one has begun.
    pub(crate) fn containers_changed(&mut self, at: Duration, containers: &BTreeMap<String, Live>) {
        for found in containers::twins(containers)
            .into_iter()
            .chain(containers::second_writers(containers))
        {
            self.blame(at, found);
        }
    }

    /// The controllers were told of an object.
    pub(crate) fn delivered(&mut self, at: Duration, event: &Value) {
        self.order.delivered(at, event);
    }

    /// The controllers were told of all objects of a kind.
    pub(crate) fn listed(&mut self, at: Duration, list: &Value) {
        self.order.listed(at, list);
    }

    /// The controllers ask for a write. What is wrong with it if it is done.
    pub(crate) fn before_write(&mut self, at: Duration, method: &Method, path: &str) -> Option<String> {
        let name = path.strip_prefix(&format!("{}/", crate::request::PODS))?;
        (method == Method::DELETE)
            .then(|| self.order.judge_deletion(at, name, &self.objects))
            .flatten()
    }

    /// A write was answered.
    pub(crate) fn after_write(
        &mut self,
        at: Duration,
        who: Who,
        method: &Method,
        path: &str,
        is_done: bool,
        judged: Option<String>,
    ) {
        if !is_done {
            return;
        }
        if let Some(found) = judged {
            self.blame(at, found);
        }
        if who == Who::User && method == Method::DELETE {
            self.claims.user_deletes(path);
        }
    }

    /// The names of the objects of a kind.
    pub(crate) fn names(&self, kind: &str) -> BTreeSet<String> {
        let of_kind = self.objects.keys().filter(|(known, _)| known == kind);
        of_kind.map(|(_, name)| name.clone()).collect()
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    pub(crate) fn blame(&mut self, at: Duration, what: String) {
        self.violations.push(format!("at {:.3} s: {what}", at.as_secs_f64()));
    }
}

/// The plural name of the kind of a key.
pub(crate) fn kind_of(key: &str) -> Option<&str> {
    key.strip_prefix("/registry/")?.split('/').nth(1)
}

fn change_of(event: &Event) -> Option<Change> {
    let kind = kind_of(event.key())?;
    let rest = event.key().strip_prefix("/registry/")?.splitn(3, '/').nth(2)?;
    let name = match rest.split_once('/') {
        Some((crate::request::NAMESPACE, name)) => name,
        Some(_) if kind != "events" => return None,
        Some((_, name)) => name,
        None => rest,
    };
    let is_looked_at = LOOKED_AT.contains(&kind);
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let (old, new, verb) = match event {
        Event::Put { kv, previous } => {
            let old = previous.as_ref().filter(|_| is_looked_at).map(|old| parse(&old.value));
            let new = if is_looked_at { parse(&kv.value) } else { Value::Null };
            (old, Some(new), if previous.is_some() { "changed" } else { "made" })
        }
        Event::Delete { previous, .. } => (is_looked_at.then(|| parse(&previous.value)), None, "gone"),
    };
    let words = format!("{kind} {name} {verb}{}", gist(kind, new.as_ref()));
    Some(Change {
        kind: kind.to_owned(),
        name: name.to_owned(),
        old,
        new,
        is_work: !IDLE.contains(&kind),
        words,
    })
}

/// What a reader of the trace wants to know of a state.
fn gist(kind: &str, new: Option<&Value>) -> String {
    let Some(new) = new else { return String::new() };
    let going = if new["metadata"]["deletionTimestamp"].is_null() {
        ""
    } else {
        ", going"
    };
    match kind {
        "pods" => format!(
            ": {} on {} ready {}{going}",
            new["status"]["phase"].as_str().unwrap_or("-"),
            new["spec"]["nodeName"].as_str().unwrap_or("-"),
            is_ready(new)
        ),
        "statefulsets" => format!(
            ": wants {} of {}, has {} ready {}{going}",
            new["spec"]["replicas"],
            image_of(&new["spec"]["template"]),
            new["status"]["replicas"],
            new["status"]["readyReplicas"]
        ),
        "persistentvolumeclaims" => format!(": {}{going}", new["status"]["phase"].as_str().unwrap_or("-")),
        _ => String::new(),
    }
}

/// Whether a pod says that it is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let is_true = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    pod["status"]["phase"] == "Running" && conditions.is_some_and(|all| all.iter().any(is_true))
}

/// The image of a pod or a template: all that distinguishes revisions here.
pub(crate) fn image_of(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

/// A name's ordinal.
pub(crate) fn ordinal_of(name: &str) -> Option<i64> {
    name.rsplit_once('-')?.1.parse().ok()
}
