//! All roles and bindings as they are now, and what they come to for one user.

use super::rule::Rule;
use crate::authz::Action;
use crate::user::User;
use api::selector::LabelSelector;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Roles and bindings by namespace (empty for cluster-wide ones) and name.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    roles: BTreeMap<(String, String), Arc<Role>>,
    bindings: BTreeMap<(String, String), Arc<Binding>>,
}

/// A role of either kind.
#[derive(Debug)]
pub(super) struct Role {
    labels: Value,
    rules: Vec<Rule>,
    /// Selects the cluster roles whose rules this one has.
    aggregates: Option<Vec<LabelSelector>>,
}

/// A binding of either kind.
#[derive(Debug)]
struct Binding {
    subjects: Vec<Subject>,
    role: RoleRef,
}

#[derive(Debug, Default, Deserialize)]
struct Subject {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

/// Which role a binding gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct RoleRef {
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) name: String,
}

/// What one user may do.
#[derive(Debug, Default)]
pub(super) struct Granted {
    everywhere: Index,
    within: HashMap<String, Index>,
}

/// A rule, and the binding that gives it as a reason for people.
type Given = (Arc<Rule>, Arc<str>);

/// Rules by what they are about, each with the binding that gives it.
#[derive(Debug, Default)]
struct Index {
    by_resource: HashMap<String, Vec<Given>>,
    by_path: Vec<Given>,
    all: Vec<Arc<Rule>>,
    /// Roles that are bound, but absent.
    absent: Vec<String>,
}

impl Role {
    pub(super) fn read(object: &Value) -> Self {
        let rules = Vec::<Rule>::deserialize(&object["rules"]).unwrap_or_default();
        let selectors = object["aggregationRule"]["clusterRoleSelectors"].as_array();
        let aggregates = (!object["aggregationRule"].is_null()).then(|| {
            let selectors = selectors.into_iter().flatten();
            selectors
                .filter_map(|selector| LabelSelector::from_object(selector).ok())
                .collect()
        });
        Self {
            labels: object["metadata"]["labels"].clone(),
            rules,
            aggregates,
        }
    }
}

impl Policy {
    /// Takes in what stands under a key, or that nothing stands there any more.
    pub(super) fn set(&mut self, plural: &str, namespace: &str, name: &str, object: Option<&Value>) {
        let key = (namespace.to_owned(), name.to_owned());
        match (plural, object) {
            ("roles" | "clusterroles", Some(object)) => {
                self.roles.insert(key, Arc::new(Role::read(object)));
            }
            ("roles" | "clusterroles", None) => {
                self.roles.remove(&key);
            }
            ("rolebindings" | "clusterrolebindings", Some(object)) => {
                let binding = Binding {
                    subjects: Vec::deserialize(&object["subjects"]).unwrap_or_default(),
                    role: RoleRef::deserialize(&object["roleRef"]).unwrap_or_default(),
                };
                self.bindings.insert(key, Arc::new(binding));
            }
            ("rolebindings" | "clusterrolebindings", None) => {
                self.bindings.remove(&key);
            }
            _ => {}
        }
    }

    /// The rules of a role as seen from a namespace; `None` if it is absent.
    pub(super) fn rules(&self, namespace: &str, role: &RoleRef) -> Option<Vec<Rule>> {
        let namespace = if role.kind == "ClusterRole" { "" } else { namespace };
        let found = self.roles.get(&(namespace.to_owned(), role.name.clone()))?;
        Some(match &found.aggregates {
            Some(_) => self.aggregated(&role.name)?,
            None => found.rules.clone(),
        })
    }

    /// The rules that an aggregating role has by way of others, each once.
    pub(super) fn aggregated(&self, name: &str) -> Option<Vec<Rule>> {
        let mut rules = Vec::new();
        let mut seen = Vec::new();
        self.gather(name, &mut seen, &mut rules);
        Some(rules)
    }

    fn gather(&self, name: &str, seen: &mut Vec<String>, rules: &mut Vec<Rule>) {
        // Roles may aggregate each other.
        if seen.iter().any(|known| known == name) {
            return;
        }
        seen.push(name.to_owned());
        let Some(role) = self.roles.get(&(String::new(), name.to_owned())) else {
            return;
        };
        let Some(selectors) = &role.aggregates else {
            for rule in &role.rules {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
            return;
        };
        let cluster_roles = self.roles.iter().filter(|((namespace, _), _)| namespace.is_empty());
        for ((_, other), part) in cluster_roles {
            if selectors.iter().any(|selector| selector.matches(&part.labels)) {
                self.gather(other, seen, rules);
            }
        }
    }

    /// The aggregating roles whose stored rules are not those that they should have.
    pub(super) fn stale(&self) -> Vec<(String, Vec<Rule>)> {
        let aggregating = self.roles.iter().filter(|(_, role)| role.aggregates.is_some());
        aggregating
            .filter_map(|((_, name), role)| {
                let rules = self.aggregated(name)?;
                (rules != role.rules).then(|| (name.clone(), rules))
            })
            .collect()
    }

    /// All that a user may do.
    pub(super) fn granted(&self, user: &User) -> Granted {
        let mut granted = Granted::default();
        for ((namespace, name), binding) in &self.bindings {
            let Some(subject) = binding.subjects.iter().find(|subject| subject.is(user, namespace)) else {
                continue;
            };
            let index = if namespace.is_empty() {
                &mut granted.everywhere
            } else {
                granted.within.entry(namespace.clone()).or_default()
            };
            let RoleRef { kind, name: role } = &binding.role;
            let Some(rules) = self.rules(namespace, &binding.role) else {
                let kind = kind.to_lowercase();
                index
                    .absent
                    .push(format!("{kind}.rbac.authorization.k8s.io {role:?} not found"));
                continue;
            };
            let binding = if namespace.is_empty() {
                format!("ClusterRoleBinding {name:?}")
            } else {
                format!("RoleBinding {:?}", format!("{name}/{namespace}"))
            };
            let why = format!(
                "RBAC: allowed by {binding} of {kind} {role:?} to {}",
                subject.brief(namespace)
            );
            index.add(rules, &Arc::from(why));
        }
        granted
    }
}

impl Subject {
    fn is(&self, user: &User, binding_namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                let namespace = self.namespace_or(binding_namespace);
                let rest = user.name.strip_prefix("system:serviceaccount:");
                let parts = rest.and_then(|rest| rest.split_once(':'));
                !namespace.is_empty() && parts == Some((namespace, self.name.as_str()))
            }
            _ => false,
        }
    }

    fn namespace_or<'a>(&'a self, binding: &'a str) -> &'a str {
        if self.namespace.is_empty() {
            binding
        } else {
            &self.namespace
        }
    }

    fn brief(&self, binding_namespace: &str) -> String {
        let (kind, name) = (&self.kind, &self.name);
        if kind == "ServiceAccount" {
            return format!(
                "{kind} {:?}",
                format!("{name}/{}", self.namespace_or(binding_namespace))
            );
        }
        format!("{kind} {name:?}")
    }
}

impl Index {
    fn add(&mut self, rules: Vec<Rule>, why: &Arc<str>) {
        for rule in rules {
            let rule = Arc::new(rule);
            for resource in &rule.resources {
                let place = self.by_resource.entry(resource.clone()).or_default();
                place.push((Arc::clone(&rule), Arc::clone(why)));
            }
            if !rule.non_resource_urls.is_empty() {
                self.by_path.push((Arc::clone(&rule), Arc::clone(why)));
            }
            self.all.push(rule);
        }
    }

    fn allows(&self, action: &Action) -> Option<Arc<str>> {
        if let Some(path) = &action.path {
            let found = self
                .by_path
                .iter()
                .find(|(rule, _)| rule.allows_path(&action.verb, path));
            return found.map(|(_, why)| Arc::clone(why));
        }
        let under = |resource: &str| {
            let rules = self.by_resource.get(resource).into_iter().flatten();
            let mut allowing = rules.filter(|(rule, _)| rule.allows_on_resource(action));
            allowing.next().map(|(_, why)| Arc::clone(why))
        };
        if action.subresource.is_empty() {
            return under(&action.resource).or_else(|| under("*"));
        }
        let part = &action.subresource;
        under(&format!("{}/{part}", action.resource))
            .or_else(|| under(&format!("*/{part}")))
            .or_else(|| under("*"))
    }
}

impl Granted {
    /// Why an action is allowed; `None` if it is not.
    pub(super) fn allows(&self, action: &Action) -> Option<Arc<str>> {
        let within = || self.within.get(&action.namespace)?.allows(action);
        self.everywhere.allows(action).or_else(within)
    }

    fn indexes(&self, namespace: &str) -> impl Iterator<Item = &Index> {
        std::iter::once(&self.everywhere).chain(self.within.get(namespace))
    }

    /// The rules that hold in a namespace.
    pub(super) fn rules(&self, namespace: &str) -> Vec<Arc<Rule>> {
        self.indexes(namespace)
            .flat_map(|index| index.all.iter().cloned())
            .collect()
    }

    /// What may be the reason of a refusal: bound roles that are absent.
    pub(super) fn absent(&self, namespace: &str) -> Vec<String> {
        self.indexes(namespace)
            .flat_map(|index| index.absent.iter().cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy() -> Policy {
        let mut policy = Policy::default();
        let mut put = |plural: &str, namespace: &str, name: &str, object: Value| {
            policy.set(plural, namespace, name, Some(&object));
        };
        let reads = |resource: &str| json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": [resource]}]);
        put(
            "clusterroles",
            "",
            "pods",
            json!({"rules": reads("pods"), "metadata": {"labels": {"a": "1"}}}),
        );
        put(
            "clusterroles",
            "",
            "logs",
            json!({"rules": reads("pods/log"), "metadata": {"labels": {"a": "1"}}}),
        );
        put(
            "clusterroles",
            "",
            "both",
            json!({"metadata": {"labels": {"a": "1"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "1"}}]}}),
        );
        put("roles", "n", "secrets", json!({"rules": reads("secrets")}));
        let give = |kind: &str, role: &str, subject: Value| json!({"roleRef": {"kind": kind, "name": role}, "subjects": [subject]});
        put(
            "clusterrolebindings",
            "",
            "b",
            give("ClusterRole", "both", json!({"kind": "Group", "name": "readers"})),
        );
        put(
            "rolebindings",
            "n",
            "s",
            give("Role", "secrets", json!({"kind": "ServiceAccount", "name": "web"})),
        );
        put(
            "rolebindings",
            "n",
            "gone",
            give("Role", "absent", json!({"kind": "User", "name": "anna"})),
        );
        policy
    }

    fn action(namespace: &str, resource: &str, subresource: &str) -> Action {
        Action {
            verb: "get".into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            ..Action::default()
        }
    }

    #[test]
    fn a_group_has_what_its_role_aggregates() {
        let granted = policy().granted(&User::new("anna", ["readers"]));
        let why = granted.allows(&action("n", "pods", "log")).unwrap();
        assert_eq!(
            &*why,
            "RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"both\" to Group \"readers\""
        );
        assert!(granted.allows(&action("", "pods", "")).is_some());
        assert!(granted.allows(&action("n", "pods", "exec")).is_none());
        assert!(granted.allows(&action("n", "secrets", "")).is_none());
        assert_eq!(
            granted.absent("n"),
            ["role.rbac.authorization.k8s.io \"absent\" not found"]
        );
    }

    #[test]
    fn a_binding_in_a_namespace_holds_there_alone() {
        let granted = policy().granted(&User::new("system:serviceaccount:n:web", ["system:serviceaccounts"]));
        assert!(granted.allows(&action("n", "secrets", "")).is_some());
        assert!(granted.allows(&action("m", "secrets", "")).is_none());
        assert!(granted.allows(&action("", "secrets", "")).is_none());
        let other = policy().granted(&User::new("system:serviceaccount:m:web", ["system:serviceaccounts"]));
        assert!(other.allows(&action("n", "secrets", "")).is_none());
    }

    #[test]
    fn aggregated_rules_are_stored_where_they_are_not_yet() {
        let mut policy = policy();
        let stale = policy.stale();
        assert_eq!((stale.len(), stale[0].0.as_str(), stale[0].1.len()), (1, "both", 2));
        let object = json!({"metadata": {"labels": {"a": "1"}}, "rules": stale[0].1,
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "1"}}]}});
        policy.set("clusterroles", "", "both", Some(&object));
        assert!(policy.stale().is_empty());
    }
}
