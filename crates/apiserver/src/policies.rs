//! Admission policies, their bindings and webhooks, as the server holds them: read from a view of the store, so that a
//! write that nobody is asked about costs nothing, and compiled when they are first needed.

use crate::follow::View;
use crate::server::Server;
use api::kinds::{Kind, KindRef};
use api::policy::{self, Policy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, RwLock};
use store::{Event, KeyValue};

const GROUP: &str = "admissionregistration.k8s.io";

/// What a view of all of them follows.
pub(crate) const PREFIX: &str = "/registry/admissionregistration.k8s.io/";

/// A policy, a binding or a configuration of webhooks.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) name: String,
    /// `spec`, or `webhooks`.
    pub(crate) spec: Value,
    policy: OnceLock<Policy>,
}

impl Held {
    /// The policy with its rules ready to be asked.
    pub(crate) fn policy(&self) -> &Policy {
        self.policy.get_or_init(|| Policy::compile(&self.spec))
    }
}

/// All of them, by resource and name.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    held: RwLock<Arc<AllHeld>>,
}

impl View for Policies {
    fn reset(&self, all: &[Arc<KeyValue>]) {
        let mut held = BTreeMap::new();
        for kv in all {
            set(&mut held, &kv.key, Some(kv));
        }
        self.replace(held);
    }

    fn apply(&self, events: &[Arc<Event>]) {
        let mut held = BTreeMap::clone(&self.all());
        for event in events {
            let kv = match &**event {
                Event::Put { kv, .. } => Some(kv),
                Event::Delete { .. } => None,
            };
            set(&mut held, event.key(), kv);
        }
        self.replace(held);
    }
}

type AllHeld = BTreeMap<String, BTreeMap<String, Arc<Held>>>;

/// Takes in what a key holds now.
fn set(held: &mut AllHeld, key: &str, kv: Option<&Arc<KeyValue>>) {
    let Some((plural, name)) = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/')) else {
        return;
    };
    let of_kind = held.entry(plural.to_owned()).or_default();
    let Some(kv) = kv else {
        of_kind.remove(name);
        return;
    };
    let mut object: Value = serde_json::from_slice(&kv.value).unwrap_or_default();
    let field = if plural.ends_with("webhookconfigurations") {
        "webhooks"
    } else {
        "spec"
    };
    let spec = object.get_mut(field).map(Value::take).unwrap_or_default();
    let (name, policy) = (name.to_owned(), OnceLock::new());
    of_kind.insert(name.clone(), Arc::new(Held { name, spec, policy }));
}

impl Policies {
    fn all(&self) -> Arc<AllHeld> {
        self.held
            .read()
            .expect("nothing panics while it holds the policies")
            .clone()
    }

    fn replace(&self, held: AllHeld) {
        *self.held.write().expect("nothing panics while it holds the policies") = Arc::new(held);
    }

    /// The bindings of a sort, each with its policy, by the policies' names.
    pub(crate) fn bound(&self, sort: Sort) -> Vec<(Arc<Held>, Arc<Held>)> {
        let all = self.all();
        let [policies, bindings, _] = sort.resources();
        let bindings = all.get(bindings).into_iter().flat_map(BTreeMap::values);
        let policies = all.get(policies);
        let with_policy = bindings.filter_map(|binding| {
            let name = binding.spec["policyName"].as_str()?;
            Some((policies?.get(name)?.clone(), binding.clone()))
        });
        let mut bound: Vec<_> = with_policy.collect();
        bound.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        bound
    }

    /// The webhooks of a sort, in the order of their configurations.
    pub(crate) fn webhooks(&self, sort: Sort) -> Vec<Value> {
        let all = self.all();
        let [_, _, configurations] = sort.resources();
        let configurations = all.get(configurations).into_iter().flat_map(BTreeMap::values);
        let hooks = configurations.filter_map(|held| held.spec.as_array());
        hooks.flatten().cloned().collect()
    }

    /// Whether nobody of a sort is to be asked about anything.
    pub(crate) fn is_empty(&self, sort: Sort) -> bool {
        let all = self.all();
        let [_, bindings, configurations] = sort.resources();
        let is_empty = |plural: &str| all.get(plural).is_none_or(BTreeMap::is_empty);
        is_empty(bindings) && is_empty(configurations)
    }
}

/// Makes the view catch up after a write of this kind, so that it is in effect when it is answered.
pub(crate) async fn settle(server: &Server, kind: &Kind) {
    if kind.group == GROUP {
        server.policies.catch_up(server.store.as_ref()).await;
    }
}

/// Which policies and webhooks: those that judge, or those that change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Validating,
    Mutating,
}

impl Sort {
    /// The kind, as messages name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Validating => "ValidatingAdmissionPolicy",
            Self::Mutating => "MutatingAdmissionPolicy",
        }
    }

    /// The resources of policies, bindings and configurations of webhooks.
    fn resources(self) -> [&'static str; 3] {
        match self {
            Self::Validating => [
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                "validatingwebhookconfigurations",
            ],
            Self::Mutating => [
                "mutatingadmissionpolicies",
                "mutatingadmissionpolicybindings",
                "mutatingwebhookconfigurations",
            ],
        }
    }
}

impl Server {
    /// The kind of parameters that a policy names.
    pub(crate) fn kind_named(&self, api_version: &str, kind: &str) -> Option<KindRef> {
        if let Some(known) = api::kinds::by_kind(api_version, kind) {
            return Some(known.into());
        }
        let served = self.definitions.served();
        let mut custom = served.kinds.iter();
        let found = custom.find(|one| one.kind == kind && one.api_version() == api_version);
        found.map(|kind| KindRef::Custom(kind.clone()))
    }

    /// The other kinds under which the objects of a kind are served.
    pub(crate) fn same_objects(&self, kind: &Kind) -> Vec<KindRef> {
        let is_other = |other: &Kind| other.plural == kind.plural && other != kind;
        if kind.custom.is_some() {
            let served = self.definitions.served();
            let of_group = served
                .kinds
                .iter()
                .filter(|other| other.group == kind.group && is_other(other));
            return of_group.map(|other| KindRef::Custom(other.clone())).collect();
        }
        let all = api::kinds::kinds().iter().filter(|other| is_other(other));
        let same = all
            .filter(|other| (other.storage_group, other.storage_version) == (kind.storage_group, kind.storage_version));
        same.map(KindRef::from).collect()
    }

    /// Writes down what a policy that is new, or changed, gets wrong about types.
    pub(crate) fn check_types(&self, kind: &Kind, object: &mut Value, old: Option<&Value>) {
        if kind.group != GROUP || kind.kind != "ValidatingAdmissionPolicy" {
            return;
        }
        let generation = &object["metadata"]["generation"];
        if old.is_some_and(|old| old["metadata"]["generation"] == *generation) {
            return;
        }
        let served = self.definitions.served();
        let custom: Vec<KindRef> = served.kinds.iter().cloned().map(KindRef::Custom).collect();
        let generation = generation.clone();
        let status = &mut object["status"];
        if !status.is_object() {
            *status = json!({});
        }
        status["observedGeneration"] = generation;
        let checked = policy::warnings(&object["spec"], &custom);
        object["status"]["typeChecking"] = checked;
    }
}

/// Whether policies are not asked about objects of a kind: those by which one could shut oneself out.
pub(crate) fn is_exempt(kind: &Kind) -> bool {
    kind.group == GROUP
}
