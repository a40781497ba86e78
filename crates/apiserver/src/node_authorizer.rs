//! What a node may do: what kubelets do, with those objects only that its own pods refer to.
//!
//! Which these are is kept in two views, one of the pods and one of the volumes:
//!
//! ```text
//!  node ◀── pod ──▶ secrets, config maps, service account, claims ◀── volumes
//! ```

use crate::authz::Action;
use crate::follow::View;
use crate::rbac::default_roles::DEFAULTS;
use crate::rbac::rule::Rule;
use crate::user::User;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, RwLock};
use store::{Event, KeyValue};

pub(crate) const PODS_PREFIX: &str = "/registry/core/pods/";
pub(crate) const VOLUMES_PREFIX: &str = "/registry/core/persistentvolumes/";

/// Where nodes say that they live.
const LEASES_NAMESPACE: &str = "kube-node-lease";

const POISONED: &str = "nothing panics while it holds a view";

/// What all nodes may do, except for what is decided by object below.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let role = DEFAULTS
        .iter()
        .find(|default| default.plural == "clusterroles" && default.object["metadata"]["name"] == "system:node");
    let rules = role.map(|role| Vec::deserialize(&role.object["rules"]));
    rules.and_then(Result::ok).unwrap_or_default()
});

/// The name of the node that a user is; `None` for everybody else.
pub(crate) fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    (!name.is_empty() && user.is_in("system:nodes")).then_some(name)
}

/// An object that a pod refers to: its resource, namespace and name.
type Reference = (&'static str, String, String);

/// What the pods of each node refer to.
#[derive(Debug, Default)]
pub(crate) struct PodsOfNodes {
    state: RwLock<Pods>,
}

#[derive(Debug, Default)]
struct Pods {
    /// By the pod's key: its node, and what it refers to, itself included.
    pods: HashMap<String, (String, Vec<Reference>)>,
    /// By node: how many pods refer to an object.
    nodes: HashMap<String, HashMap<Reference, usize>>,
}

impl PodsOfNodes {
    fn refers(&self, node: &str, resource: &'static str, namespace: &str, name: &str) -> bool {
        let state = self.state.read().expect(POISONED);
        let wanted = (resource, namespace.to_owned(), name.to_owned());
        state
            .nodes
            .get(node)
            .is_some_and(|references| references.contains_key(&wanted))
    }
}

impl Pods {
    fn set(&mut self, key: &str, value: Option<&[u8]>) {
        if let Some((node, references)) = self.pods.remove(key) {
            let of_node = self.nodes.entry(node.clone()).or_default();
            for reference in references {
                if let Some(count) = of_node.get_mut(&reference) {
                    *count -= 1;
                    if *count == 0 {
                        of_node.remove(&reference);
                    }
                }
            }
            if of_node.is_empty() {
                self.nodes.remove(&node);
            }
        }
        let pod = value.and_then(|value| serde_json::from_slice::<Value>(value).ok());
        let Some(pod) = pod else { return };
        let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) else {
            return;
        };
        let references: HashSet<Reference> = references(&pod).into_iter().collect();
        let of_node = self.nodes.entry(node.to_owned()).or_default();
        for reference in &references {
            *of_node.entry(reference.clone()).or_default() += 1;
        }
        self.pods
            .insert(key.to_owned(), (node.to_owned(), references.into_iter().collect()));
    }
}

impl View for PodsOfNodes {
    fn reset(&self, all: &[Arc<KeyValue>]) {
        let mut pods = Pods::default();
        for kv in all {
            pods.set(&kv.key, Some(&kv.value));
        }
        *self.state.write().expect(POISONED) = pods;
    }

    fn apply(&self, events: &[Arc<Event>]) {
        let mut pods = self.state.write().expect(POISONED);
        for event in events {
            let value = match &**event {
                Event::Put { kv, .. } => Some(&kv.value[..]),
                Event::Delete { .. } => None,
            };
            pods.set(event.key(), value);
        }
    }
}

/// All that a pod refers to, and the pod itself.
fn references(pod: &Value) -> Vec<Reference> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("");
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or("");
    let spec = &pod["spec"];
    let mut found: Vec<Reference> = Vec::new();
    let mut add = |resource: &'static str, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            found.push((resource, namespace.to_owned(), name.to_owned()));
        }
    };
    let each = |list: &'_ Value| -> Vec<Value> { list.as_array().cloned().unwrap_or_default() };
    add("pods", &pod["metadata"]["name"]);
    add("serviceaccounts", &spec["serviceAccountName"]);
    for secret in each(&spec["imagePullSecrets"]) {
        add("secrets", &secret["name"]);
    }
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        for container in each(&spec[field]) {
            for variable in each(&container["env"]) {
                add("secrets", &variable["valueFrom"]["secretKeyRef"]["name"]);
                add("configmaps", &variable["valueFrom"]["configMapKeyRef"]["name"]);
            }
            for source in each(&container["envFrom"]) {
                add("secrets", &source["secretRef"]["name"]);
                add("configmaps", &source["configMapRef"]["name"]);
            }
        }
    }
    for volume in each(&spec["volumes"]) {
        add("secrets", &volume["secret"]["secretName"]);
        add("configmaps", &volume["configMap"]["name"]);
        add("persistentvolumeclaims", &volume["persistentVolumeClaim"]["claimName"]);
        if !volume["ephemeral"].is_null() {
            let claim = format!("{pod_name}-{}", volume["name"].as_str().unwrap_or(""));
            add("persistentvolumeclaims", &Value::from(claim));
        }
        for source in each(&volume["projected"]["sources"]) {
            add("secrets", &source["secret"]["name"]);
            add("configmaps", &source["configMap"]["name"]);
        }
        // Every other type of volume that needs a secret names it in one of two ways.
        for source in volume.as_object().into_iter().flat_map(serde_json::Map::values) {
            add("secrets", &source["secretRef"]["name"]);
            add("secrets", &source["nodePublishSecretRef"]["name"]);
        }
    }
    found
}

/// Of each volume, by its name: the claim that it is bound to, and the secrets that its driver is called with on nodes.
#[derive(Debug, Default)]
pub(crate) struct ClaimsOfVolumes {
    state: RwLock<Volumes>,
}

type Name = (String, String);

#[derive(Debug, Default)]
struct Volumes {
    claims: HashMap<String, Name>,
    /// Those volumes only that name any.
    secrets: HashMap<String, HashSet<Name>>,
}

impl ClaimsOfVolumes {
    fn claim(&self, volume: &str) -> Option<Name> {
        self.state.read().expect(POISONED).claims.get(volume).cloned()
    }

    /// The claims whose volumes are used with a secret.
    fn claims_with_secret(&self, namespace: &str, name: &str) -> Vec<Name> {
        let state = self.state.read().expect(POISONED);
        let wanted = (namespace.to_owned(), name.to_owned());
        let volumes = state.secrets.iter().filter(|(_, secrets)| secrets.contains(&wanted));
        volumes
            .filter_map(|(volume, _)| state.claims.get(volume).cloned())
            .collect()
    }
}

impl Volumes {
    fn set(&mut self, key: &str, value: Option<&[u8]>) {
        let name = key.strip_prefix(VOLUMES_PREFIX).unwrap_or(key);
        let volume = value.and_then(|value| serde_json::from_slice::<Value>(value).ok());
        let spec = volume.map(|volume| volume["spec"].clone()).unwrap_or_default();
        match named(&spec["claimRef"]) {
            Some(claim) => self.claims.insert(name.to_owned(), claim),
            None => self.claims.remove(name),
        };
        let of_calls = ["nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];
        let secrets: HashSet<Name> = of_calls.iter().filter_map(|call| named(&spec["csi"][call])).collect();
        if secrets.is_empty() {
            self.secrets.remove(name);
        } else {
            self.secrets.insert(name.to_owned(), secrets);
        }
    }
}

fn named(reference: &Value) -> Option<Name> {
    let text = |field: &str| reference[field].as_str().map(str::to_owned);
    Some((text("namespace")?, text("name")?))
}

impl View for ClaimsOfVolumes {
    fn reset(&self, all: &[Arc<KeyValue>]) {
        let mut volumes = Volumes::default();
        for kv in all {
            volumes.set(&kv.key, Some(&kv.value));
        }
        *self.state.write().expect(POISONED) = volumes;
    }

    fn apply(&self, events: &[Arc<Event>]) {
        let mut volumes = self.state.write().expect(POISONED);
        for event in events {
            let value = match &**event {
                Event::Put { kv, .. } => Some(&kv.value[..]),
                Event::Delete { .. } => None,
            };
            volumes.set(event.key(), value);
        }
    }
}

/// Whether a node may do that by being a node.
pub(crate) fn allows(node: &str, action: &Action, pods: &PodsOfNodes, volumes: &ClaimsOfVolumes) -> bool {
    if action.path.is_some() {
        return false;
    }
    let verb = |verbs: &[&str]| verbs.contains(&action.verb.as_str());
    let reads = verb(&["get", "list", "watch"]);
    let (namespace, name) = (action.namespace.as_str(), action.name.as_str());
    let refers = |resource| !name.is_empty() && pods.refers(node, resource, namespace, name);
    let parts = (
        action.group.as_str(),
        action.resource.as_str(),
        action.subresource.as_str(),
    );
    match parts {
        ("", "secrets", "") if reads && refers("secrets") => true,
        ("", "secrets", "") => {
            let is_used = |(namespace, claim): &Name| pods.refers(node, "persistentvolumeclaims", namespace, claim);
            verb(&["get"]) && volumes.claims_with_secret(namespace, name).iter().any(is_used)
        }
        ("", "configmaps", "") => reads && refers("configmaps"),
        ("", "persistentvolumeclaims", "") => reads && refers("persistentvolumeclaims"),
        ("", "persistentvolumeclaims", "status") => {
            verb(&["get", "update", "patch"]) && refers("persistentvolumeclaims")
        }
        ("", "persistentvolumes", "") => {
            let claim = volumes.claim(name);
            reads
                && claim
                    .is_some_and(|(namespace, claim)| pods.refers(node, "persistentvolumeclaims", &namespace, &claim))
        }
        ("", "serviceaccounts", "") => verb(&["get"]) && refers("serviceaccounts"),
        ("", "serviceaccounts", "token") => verb(&["create"]) && refers("serviceaccounts"),
        ("", "secrets" | "configmaps" | "persistentvolumes" | "serviceaccounts", _) => false,
        ("", "nodes", "") => verb(&["create"]) || (verb(&["get", "list", "watch", "update", "patch"]) && name == node),
        ("", "nodes", "status") => verb(&["update", "patch"]) && name == node,
        ("", "pods", "") if verb(&["get"]) => refers("pods"),
        ("", "pods", "") if reads => action.selects("spec.nodeName", node),
        ("coordination.k8s.io", "leases", "") => {
            let own = name == node || (name.is_empty() && verb(&["create"]));
            namespace == LEASES_NAMESPACE && own && verb(&["create", "get", "update", "patch", "delete"])
        }
        ("storage.k8s.io", "csinodes", "") => {
            let own = name == node || (name.is_empty() && verb(&["create"]));
            own && verb(&["create", "get", "update", "patch", "delete"])
        }
        _ => RULES
            .iter()
            .any(|rule| rule.names_resource(action) && rule.allows_on_resource(action)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn views() -> (PodsOfNodes, ClaimsOfVolumes) {
        let kv = |key: &str, object: Value| {
            Arc::new(KeyValue {
                key: key.into(),
                value: object.to_string().into(),
                create_revision: 1,
                mod_revision: 1,
                version: 1,
                lease: None,
            })
        };
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "vm", "serviceAccountName": "web",
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env"}}}]}],
            "volumes": [{"name": "a", "projected": {"sources": [{"configMap": {"name": "root"}}]}},
                {"name": "b", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "c", "csi": {"nodePublishSecretRef": {"name": "publish"}}},
                {"name": "d", "ephemeral": {}}]}});
        let staging = json!({"nodeStageSecretRef": {"namespace": "drivers", "name": "stage"}});
        let volume = json!({"spec": {"claimRef": {"namespace": "n", "name": "data"}, "csi": staging}});
        let (pods, volumes) = (PodsOfNodes::default(), ClaimsOfVolumes::default());
        pods.reset(&[kv("/registry/core/pods/n/p", pod)]);
        volumes.reset(&[kv("/registry/core/persistentvolumes/pv", volume)]);
        (pods, volumes)
    }

    fn action(verb: &str, resource: &str, namespace: &str, name: &str) -> Action {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Action {
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Action::default()
        }
    }

    #[test]
    fn a_node_sees_what_its_pods_refer_to() {
        let (pods, volumes) = views();
        let may = |node: &str, verb: &str, resource: &str, namespace: &str, name: &str| {
            allows(node, &action(verb, resource, namespace, name), &pods, &volumes)
        };
        for (resource, name) in [
            ("secrets", "env"),
            ("secrets", "publish"),
            ("configmaps", "root"),
            ("persistentvolumeclaims", "data"),
            ("persistentvolumeclaims", "p-d"),
            ("serviceaccounts", "web"),
            ("pods", "p"),
        ] {
            assert!(may("vm", "get", resource, "n", name), "{resource} {name}");
            assert!(!may("other", "get", resource, "n", name), "{resource} {name}");
            assert!(!may("vm", "get", resource, "m", name), "{resource} {name}");
            assert!(!may("vm", "get", resource, "n", "else"), "{resource}");
        }
        assert!(may("vm", "get", "secrets", "drivers", "stage"));
        assert!(
            !may("other", "get", "secrets", "drivers", "stage") && !may("vm", "list", "secrets", "drivers", "stage")
        );
        assert!(may("vm", "get", "persistentvolumes", "", "pv"));
        assert!(!may("other", "get", "persistentvolumes", "", "pv"));
        assert!(may("vm", "create", "serviceaccounts/token", "n", "web"));
        assert!(!may("vm", "create", "serviceaccounts/token", "n", "default"));
        assert!(!may("vm", "list", "secrets", "n", ""));
        assert!(!may("vm", "update", "secrets", "n", "env"));
    }

    #[test]
    fn a_node_writes_what_kubelets_write_about_itself() {
        let (pods, volumes) = views();
        let may = |verb: &str, resource: &str, namespace: &str, name: &str| {
            allows("vm", &action(verb, resource, namespace, name), &pods, &volumes)
        };
        assert!(may("patch", "nodes/status", "", "vm"));
        assert!(!may("patch", "nodes/status", "", "other"));
        assert!(may("patch", "pods/status", "n", "p"));
        assert!(may("create", "events", "n", ""));
        assert!(!may("create", "pods/binding", "n", "p"));
        assert!(!may("list", "pods", "", ""));
        let mut own = action("watch", "pods", "", "");
        own.fields = vec![("spec.nodeName".into(), "vm".into())];
        assert!(allows("vm", &own, &pods, &volumes));
        let lease = |verb: &str, name: &str| Action {
            group: "coordination.k8s.io".into(),
            ..action(verb, "leases", LEASES_NAMESPACE, name)
        };
        assert!(allows("vm", &lease("update", "vm"), &pods, &volumes));
        assert!(!allows("vm", &lease("update", "other"), &pods, &volumes));
    }

    #[test]
    fn what_a_pod_referred_to_is_forgotten_with_it() {
        let (pods, volumes) = views();
        let previous = Arc::new(KeyValue {
            key: "/registry/core/pods/n/p".into(),
            value: bytes::Bytes::new(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: None,
        });
        pods.apply(&[Arc::new(Event::Delete { revision: 2, previous })]);
        assert!(!allows("vm", &action("get", "secrets", "n", "env"), &pods, &volumes));
        assert!(pods.state.read().unwrap().nodes.is_empty());
    }
}
