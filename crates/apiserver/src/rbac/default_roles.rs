//! The roles and bindings that every cluster has, and how they are brought into the store at each start.
//!
//! What stands in `default_roles.txt` is added where it is absent: roles, rules of roles, subjects of bindings. Nothing is
//! taken away, and an object with the annotation `rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone.

use super::policy::RoleRef;
use super::rule::{self, Rule};
use crate::admission::kind;
use crate::clock;
use crate::commit::{Change, Committed};
use crate::names;
use crate::server::Server;
use crate::status::{Outcome, internal};
use crate::stored::Stored;
use api::kinds::Kind;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::LazyLock;

const GROUP: &str = "rbac.authorization.k8s.io";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const CONTROLLER: &str = "system:controller:";

/// Who runs all controllers in this program.
const CONTROLLERS_USER: &str = "User:system:kube-controller-manager";

/// How often the roles are looked through again because somebody else changes them at the same time.
const ATTEMPTS_MAX: usize = 8;

/// How many are written at once; etcd takes up to 128 operations in a transaction.
const TOGETHER_MAX: usize = 64;

/// A role or binding as it should be.
#[derive(Clone, Debug)]
pub(crate) struct DefaultObject {
    pub(crate) plural: &'static str,
    pub(crate) namespace: String,
    pub(crate) object: Value,
}

impl DefaultObject {
    fn kind(&self) -> &'static Kind {
        kind(GROUP, self.plural)
    }

    fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or("")
    }
}

/// All of them. The file belongs to the program, and a test reads it: a line that cannot be read is a mistake of ours.
pub(crate) static DEFAULTS: LazyLock<Vec<DefaultObject>> =
    LazyLock::new(|| parse(include_str!("default_roles.txt")).expect("a test has read this very file"));

fn parse(text: &str) -> Result<Vec<DefaultObject>, String> {
    let mut found: Vec<DefaultObject> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(' ') {
            let role = found.last_mut().ok_or("the file begins with a rule")?;
            let rules = role.object["rules"]
                .as_array_mut()
                .ok_or_else(|| format!("no role is open for {line:?}"))?;
            let rule = rule_of(&words).ok_or_else(|| format!("{line:?} is no rule"))?;
            rules.push(json!(rule));
            continue;
        }
        match words.as_slice() {
            ["role", name, options @ ..] => {
                found.push(cluster_role(name, options));
                if let Some(account) = name.strip_prefix(CONTROLLER) {
                    let account = format!("SA:kube-system/{account}");
                    // Rules follow the role, so the binding stands in front of it.
                    let place = found.len() - 1;
                    found.insert(place, binding("", name, name, &[&account, CONTROLLERS_USER])?);
                }
            }
            ["namespaced", namespace, name] => found.push(DefaultObject {
                plural: "roles",
                namespace: (*namespace).to_owned(),
                object: json!({"metadata": metadata(name), "rules": []}),
            }),
            ["bind", role, subjects @ ..] => found.push(binding("", role, role, subjects)?),
            ["bindin", namespace, role, subjects @ ..] => {
                let (name, role) = role.split_once('=').unwrap_or((role, role));
                found.push(binding(namespace, name, role, subjects)?);
            }
            _ => return Err(format!("{line:?} means nothing")),
        }
    }
    Ok(found)
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}, "annotations": {AUTOUPDATE: "true"}})
}

fn cluster_role(name: &str, options: &[&str]) -> DefaultObject {
    let mut object = json!({"metadata": metadata(name), "rules": []});
    for option in options {
        if let Some(label) = option.strip_prefix("label=") {
            object["metadata"]["labels"][format!("{GROUP}/aggregate-to-{label}")] = json!("true");
        }
        if let Some(label) = option.strip_prefix("aggregates=") {
            let label = format!("{GROUP}/aggregate-to-{label}");
            object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        }
    }
    DefaultObject {
        plural: "clusterroles",
        namespace: String::new(),
        object,
    }
}

fn binding(namespace: &str, name: &str, role: &str, subjects: &[&str]) -> Result<DefaultObject, String> {
    let subjects: Option<Vec<Value>> = subjects
        .iter()
        .map(|subject| {
            let (kind, name) = subject.split_once(':')?;
            if kind != "SA" {
                return Some(json!({"kind": kind, "apiGroup": GROUP, "name": name}));
            }
            let (namespace, name) = name.split_once('/')?;
            Some(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}))
        })
        .collect();
    let subjects = subjects.ok_or_else(|| format!("a subject of {name} cannot be read"))?;
    let (plural, role_kind) = if namespace.is_empty() {
        ("clusterrolebindings", "ClusterRole")
    } else {
        ("rolebindings", "Role")
    };
    let mut object =
        json!({"metadata": metadata(name), "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role}});
    if !subjects.is_empty() {
        object["subjects"] = json!(subjects);
    }
    Ok(DefaultObject {
        plural,
        namespace: namespace.to_owned(),
        object,
    })
}

fn rule_of(words: &[&str]) -> Option<Rule> {
    let list = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    let verbs = words.first()?.split(',').flat_map(|verb| match verb {
        "read" => vec!["get", "list", "watch"],
        "write" => vec!["create", "delete", "deletecollection", "patch", "update"],
        verb => vec![verb],
    });
    let mut verbs: Vec<String> = verbs.map(str::to_owned).collect();
    verbs.sort_unstable();
    verbs.dedup();
    match words.get(1..)? {
        ["url", urls] => Some(Rule {
            verbs,
            non_resource_urls: list(urls),
            ..Rule::default()
        }),
        [groups, resources, rest @ ..] => {
            let names = rest.first().map(|names| names.strip_prefix("names="));
            Some(Rule {
                verbs,
                api_groups: groups
                    .split(',')
                    .map(|group| group.trim_matches('-').to_owned())
                    .collect(),
                resources: list(resources),
                resource_names: match names {
                    Some(names) => list(names?),
                    None => Vec::new(),
                },
                ..Rule::default()
            })
        }
        _ => None,
    }
}

/// Brings the store to what is wanted, in one transaction.
pub(crate) async fn reconcile(server: &Server) -> Outcome<()> {
    let mut conflicts = 0;
    while conflicts < ATTEMPTS_MAX {
        let (change, changes) = next_changes(server).await?;
        if changes == 0 {
            return Ok(());
        }
        match server.commit(&change).await? {
            Committed::At(_) if changes < TOGETHER_MAX => return Ok(()),
            Committed::At(_) => {}
            _ => conflicts += 1,
        }
    }
    Err(internal(
        "the default roles cannot be written: others change them at the same time",
    ))
}

/// The first changes that are due, and how many they are.
async fn next_changes(server: &Server) -> Outcome<(Change, usize)> {
    let mut change = Change::default();
    let mut changes = 0;
    for wanted in DEFAULTS.iter() {
        let kind = wanted.kind();
        let key = names::key(kind, &wanted.namespace, wanted.name());
        let found = server.read_key(key.clone()).await?;
        let (object, revision) = match &found {
            None => (Some(new(wanted)), 0),
            Some(kv) => (improved(wanted, Stored::from(kv).object(kind)?), kv.mod_revision),
        };
        let Some(object) = object else { continue };
        change.require(key.clone(), revision);
        change.put(key, Stored::encode(kind, &object), None);
        changes += 1;
        if changes == TOGETHER_MAX {
            break;
        }
    }
    Ok((change, changes))
}

fn new(wanted: &DefaultObject) -> Value {
    let mut object = wanted.object.clone();
    object["metadata"]["uid"] = json!(names::uid());
    object["metadata"]["creationTimestamp"] = json!(clock::now_text());
    if !wanted.namespace.is_empty() {
        object["metadata"]["namespace"] = json!(wanted.namespace);
    }
    object
}

/// The stored object with what it lacks; `None` if it lacks nothing or does not want to be changed.
fn improved(wanted: &DefaultObject, found: Value) -> Option<Value> {
    if found["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let mut object = found.clone();
    for part in ["labels", "annotations"] {
        for (key, value) in wanted.object["metadata"][part].as_object().into_iter().flatten() {
            object["metadata"][part][key] = value.clone();
        }
    }
    if wanted.plural.ends_with("bindings") {
        let role = |object: &Value| RoleRef::deserialize(&object["roleRef"]).ok();
        if role(&object) != role(&wanted.object) {
            object["roleRef"] = wanted.object["roleRef"].clone();
        }
        add_subjects(&mut object, &wanted.object);
    } else {
        add_rules(&mut object, &wanted.object);
        let selectors = &wanted.object["aggregationRule"];
        if !selectors.is_null() && object["aggregationRule"].is_null() {
            object["aggregationRule"] = selectors.clone();
        }
    }
    (object != found).then_some(object)
}

fn add_subjects(object: &mut Value, wanted: &Value) {
    let identity =
        |subject: &Value| ["kind", "name", "namespace"].map(|part| subject[part].as_str().unwrap_or("").to_owned());
    let mut subjects = object["subjects"].as_array().cloned().unwrap_or_default();
    let before = subjects.len();
    for subject in wanted["subjects"].as_array().into_iter().flatten() {
        if subjects.iter().all(|known| identity(known) != identity(subject)) {
            subjects.push(subject.clone());
        }
    }
    if subjects.len() > before {
        object["subjects"] = json!(subjects);
    }
}

fn add_rules(object: &mut Value, wanted: &Value) {
    let rules = |object: &Value| Vec::<Rule>::deserialize(&object["rules"]).unwrap_or_default();
    let held = rules(object);
    let held: Vec<&Rule> = held.iter().collect();
    let missing = rule::missing(&held, &rules(wanted));
    if missing.is_empty() {
        return;
    }
    let mut all = object["rules"].as_array().cloned().unwrap_or_default();
    all.extend(missing.into_iter().map(|rule| json!(rule)));
    object["rules"] = json!(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_valid_object_of_its_own_name() {
        let defaults = parse(include_str!("default_roles.txt")).unwrap();
        let mut names = std::collections::BTreeSet::new();
        for default in &defaults {
            let mut object = new(default);
            api::defaults::apply(default.kind(), &mut object);
            let errors = api::validation::create(default.kind(), &object);
            assert!(errors.is_empty(), "{}: {errors:?}", default.name());
            let known = (default.plural, default.namespace.clone(), default.name().to_owned());
            assert!(names.insert(known), "{} stands twice", default.name());
        }
        assert!(names.contains(&("clusterroles", String::new(), "cluster-admin".to_owned())));
    }

    #[test]
    fn every_binding_is_of_a_role_that_is_there() {
        for default in DEFAULTS.iter().filter(|default| default.plural.ends_with("bindings")) {
            let role = &default.object["roleRef"]["name"];
            let is_it = |other: &&DefaultObject| {
                other.object["metadata"]["name"] == *role && other.namespace == default.namespace
            };
            assert!(
                DEFAULTS
                    .iter()
                    .filter(|other| other.plural.ends_with("roles"))
                    .any(|other| is_it(&other)),
                "{role}"
            );
        }
    }

    #[test]
    fn what_is_lacking_is_added_and_nothing_else_touched() {
        let wanted = DEFAULTS
            .iter()
            .find(|default| default.plural == "clusterroles" && default.name() == "system:kube-dns");
        let wanted = wanted.unwrap();
        assert_eq!(improved(wanted, new(wanted)), None);
        let mut changed = new(wanted);
        changed["rules"] = json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["services", "pods"]}]);
        let improved_role = improved(wanted, changed.clone()).unwrap();
        assert_eq!(improved_role["rules"][0], changed["rules"][0]);
        assert_eq!(improved_role["rules"].as_array().unwrap().len(), 3);
        changed["metadata"]["annotations"][AUTOUPDATE] = json!("false");
        assert_eq!(improved(wanted, changed), None);
    }
}
