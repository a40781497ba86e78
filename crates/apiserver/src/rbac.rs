//! Role-based access control: what users may do by the roles that are bound to them.
//!
//! All roles and bindings are in memory, kept true by a watch. What they come to for one user is worked out when the user
//! first asks after a change, and remembered until the next one: after that, a question costs a few hash look-ups.

pub(crate) mod aggregation;
pub(crate) mod default_roles;
pub(crate) mod policy;
pub(crate) mod rule;

use crate::authz::Action;
use crate::follow::View;
use crate::user::User;
use policy::{Granted, Policy, RoleRef};
use rule::Rule;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use store::{Event, KeyValue};
use tokio::sync::Notify;

/// What all keys of roles and bindings start with.
pub(crate) const PREFIX: &str = "/registry/rbac.authorization.k8s.io/";

/// How many users' rights are remembered. When there are more, all are forgotten and worked out anew.
const USERS_MAX: usize = 4096;

/// The same for one name with different groups, as somebody may have who acts for others.
const GROUPS_MAX: usize = 16;

/// The roles and bindings of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Rbac {
    state: RwLock<Arc<State>>,
    /// Tells that something has changed.
    pub(crate) changed: Notify,
}

/// One state of all roles and bindings, with what was asked of it.
#[derive(Debug, Default)]
struct State {
    policy: Policy,
    /// By name, then by groups.
    granted: RwLock<HashMap<String, Vec<Remembered>>>,
}

type Remembered = (Vec<String>, Arc<Granted>);

const POISONED: &str = "nothing panics while it holds the roles";

impl Rbac {
    /// Why a user may do that; `None` if not.
    pub(crate) fn allows(&self, user: &User, action: &Action) -> Option<Arc<str>> {
        self.granted(user).allows(action)
    }

    /// The rules that a user has in a namespace.
    pub(crate) fn rules_of(&self, user: &User, namespace: &str) -> Vec<Arc<Rule>> {
        self.granted(user).rules(namespace)
    }

    /// Roles that are bound to a user, but absent.
    pub(crate) fn absent_roles(&self, user: &User, namespace: &str) -> Vec<String> {
        self.granted(user).absent(namespace)
    }

    /// The rules of a role; `None` if there is none of the name.
    pub(crate) fn rules_of_role(&self, namespace: &str, role: &RoleRef) -> Option<Vec<Rule>> {
        self.state().policy.rules(namespace, role)
    }

    /// The aggregating roles that do not show the rules they have.
    fn stale(&self) -> Vec<(String, Vec<Rule>)> {
        self.state().policy.stale()
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().expect(POISONED))
    }

    fn granted(&self, user: &User) -> Arc<Granted> {
        let state = self.state();
        let of_name = |all: &HashMap<String, Vec<Remembered>>| {
            let known = all.get(&user.name)?;
            known
                .iter()
                .find(|(groups, _)| *groups == user.groups)
                .map(|(_, granted)| Arc::clone(granted))
        };
        if let Some(granted) = of_name(&state.granted.read().expect(POISONED)) {
            return granted;
        }
        let granted = Arc::new(state.policy.granted(user));
        let mut all = state.granted.write().expect(POISONED);
        if all.len() >= USERS_MAX {
            all.clear();
        }
        let of_user = all.entry(user.name.clone()).or_default();
        if of_user.len() >= GROUPS_MAX {
            of_user.clear();
        }
        of_user.push((user.groups.clone(), Arc::clone(&granted)));
        granted
    }

    fn replace(&self, policy: Policy) {
        let state = State {
            policy,
            granted: RwLock::default(),
        };
        *self.state.write().expect(POISONED) = Arc::new(state);
        self.changed.notify_one();
    }
}

impl View for Rbac {
    fn reset(&self, all: &[Arc<KeyValue>]) {
        let mut policy = Policy::default();
        for kv in all {
            set(&mut policy, &kv.key, Some(&kv.value));
        }
        self.replace(policy);
    }

    fn apply(&self, events: &[Arc<Event>]) {
        let mut policy = self.state().policy.clone();
        for event in events {
            let value = match &**event {
                Event::Put { kv, .. } => Some(&kv.value),
                Event::Delete { .. } => None,
            };
            set(&mut policy, event.key(), value);
        }
        self.replace(policy);
    }
}

fn set(policy: &mut Policy, key: &str, value: Option<&bytes::Bytes>) {
    let Some(rest) = key.strip_prefix(PREFIX) else { return };
    let parts: Vec<&str> = rest.split('/').collect();
    let (plural, namespace, name) = match parts.as_slice() {
        [plural, name] => (*plural, "", *name),
        [plural, namespace, name] => (*plural, *namespace, *name),
        _ => return,
    };
    let object = value.map(|value| serde_json::from_slice::<Value>(value).unwrap_or_default());
    policy.set(plural, namespace, name, object.as_ref());
}
