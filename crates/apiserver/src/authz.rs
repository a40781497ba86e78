//! Who may do what: a fixed table, until roles are served.
//!
//! Members of `system:masters` may do everything, nodes what a kubelet does, the scheduler and the controllers of the
//! control plane what they are for; everybody may ask who they are and what they may do. Nobody else may do anything.

use crate::status::status;
use crate::user::User;
use api::error::Status;
use serde_json::json;

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The path of something that is no resource; then only `verb` counts besides it.
    pub(crate) path: Option<String>,
}

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch", "delete"];

/// (group, resource or `resource/subresource`, verbs) of what a role allows beside reading.
type Rules = &'static [(&'static str, &'static str, &'static [&'static str])];

/// What a kubelet changes, and the local volumes that a node cleans up.
const NODE: Rules = &[
    ("", "nodes", WRITE),
    ("", "nodes/status", &["get", "update", "patch"]),
    ("", "pods", &["create", "delete"]),
    ("", "pods/status", &["get", "update", "patch"]),
    ("", "pods/eviction", &["create"]),
    ("", "events", &["create", "update", "patch"]),
    ("events.k8s.io", "events", &["create", "update", "patch"]),
    ("coordination.k8s.io", "leases", WRITE),
    ("storage.k8s.io", "csinodes", WRITE),
    ("", "persistentvolumes", &["update", "patch", "delete"]),
    ("", "persistentvolumeclaims/status", &["get", "update", "patch"]),
    ("authentication.k8s.io", "tokenreviews", &["create"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("", "serviceaccounts/token", &["create"]),
];

const NODE_READS: &[(&str, &str)] = &[
    ("", "nodes"),
    ("", "pods"),
    ("", "services"),
    ("", "configmaps"),
    ("", "secrets"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "serviceaccounts"),
    ("", "namespaces"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("coordination.k8s.io", "leases"),
    ("discovery.k8s.io", "endpointslices"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("node.k8s.io", "runtimeclasses"),
];

/// What the scheduler changes; it reads everything but secrets.
const SCHEDULER: Rules = &[
    ("", "pods/binding", &["create"]),
    ("", "bindings", &["create"]),
    ("", "pods", &["delete"]),
    ("", "pods/status", &["get", "update", "patch"]),
    ("", "events", &["create", "update", "patch"]),
    ("events.k8s.io", "events", &["create", "update", "patch"]),
    ("coordination.k8s.io", "leases", WRITE),
    ("", "persistentvolumeclaims", &["update", "patch"]),
    ("", "persistentvolumes", &["update", "patch"]),
];

/// Documents that everybody may read, so that clients can find their way and machines can probe the server.
const PUBLIC: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];

/// Whether the path may be read without any identity.
pub(crate) fn is_public(path: &str) -> bool {
    PUBLIC
        .iter()
        .any(|public| path == *public || path.strip_prefix(public).is_some_and(|rest| rest.starts_with('/')))
}

/// Whether the user may do that.
pub(crate) fn allows(user: &User, action: &Action) -> bool {
    if user.is_in("system:masters") || user.name == "system:kube-controller-manager" {
        return true;
    }
    if let Some(path) = &action.path {
        return is_public(path) || (is_known(user) && action.verb == "get" && path != "/metrics");
    }
    if !is_known(user) {
        return false;
    }
    let asks_about_itself = matches!(
        (action.group.as_str(), action.resource.as_str()),
        ("authentication.k8s.io", "selfsubjectreviews")
            | (
                "authorization.k8s.io",
                "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
            )
    );
    if asks_about_itself {
        return true;
    }
    let reads = READ.contains(&action.verb.as_str());
    if user.is_in("system:nodes") && user.name.starts_with("system:node:") {
        let readable = NODE_READS.contains(&(action.group.as_str(), action.resource.as_str()));
        return (reads && action.subresource.is_empty() && readable) || follows(NODE, action);
    }
    if user.name == "system:kube-scheduler" {
        return (reads && action.resource != "secrets") || follows(SCHEDULER, action);
    }
    user.is_in("system:monitoring") && reads && action.resource != "secrets"
}

fn is_known(user: &User) -> bool {
    !user.name.is_empty() && !user.is_in("system:unauthenticated")
}

fn follows(rules: Rules, action: &Action) -> bool {
    let wanted = match action.subresource.as_str() {
        "" => action.resource.clone(),
        subresource => format!("{}/{subresource}", action.resource),
    };
    rules.iter().any(|(group, resource, verbs)| {
        *group == action.group && *resource == wanted && verbs.contains(&action.verb.as_str())
    })
}

/// 403 in upstream's words.
pub(crate) fn forbidden(user: &User, action: &Action) -> Box<Status> {
    let (name, verb) = (&user.name, &action.verb);
    if let Some(path) = &action.path {
        let message = format!("forbidden: User {name:?} cannot {verb} path {path:?}");
        return status(403, "Forbidden", message, json!({}));
    }
    let (group, plural) = (&action.group, &action.resource);
    let resource = match action.subresource.as_str() {
        "" => plural.clone(),
        subresource => format!("{plural}/{subresource}"),
    };
    let scope = match action.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let qualified = if group.is_empty() {
        plural.clone()
    } else {
        format!("{plural}.{group}")
    };
    let object = if action.name.is_empty() {
        String::new()
    } else {
        format!(" {:?}", action.name)
    };
    let message = format!(
        "{qualified}{object} is forbidden: User {name:?} cannot {verb} resource {resource:?} in API group {group:?} \
         {scope}"
    );
    let mut details = json!({"kind": plural});
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    if !action.name.is_empty() {
        details["name"] = json!(action.name);
    }
    status(403, "Forbidden", message, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(verb: &str, group: &str, resource: &str, subresource: &str) -> Action {
        Action {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: "default".to_owned(),
            ..Action::default()
        }
    }

    #[test]
    fn nodes_may_do_what_kubelets_do() {
        let node = User::new("system:node:vm", ["system:nodes"]);
        for allowed in [
            action("watch", "", "pods", ""),
            action("patch", "", "pods", "status"),
            action("delete", "", "pods", ""),
            action("update", "coordination.k8s.io", "leases", ""),
            action("create", "", "events", ""),
        ] {
            assert!(allows(&node, &allowed), "{allowed:?}");
        }
        for refused in [
            action("create", "apps", "statefulsets", ""),
            action("update", "", "secrets", ""),
            action("create", "", "pods", "binding"),
        ] {
            assert!(!allows(&node, &refused), "{refused:?}");
        }
    }

    #[test]
    fn strangers_are_refused_in_upstreams_words() {
        let user = User::new("x", ["system:authenticated"]);
        let action = action("list", "", "pods", "");
        assert!(!allows(&user, &action));
        let status = forbidden(&user, &action);
        let expected = "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \
                        \"default\"";
        assert_eq!(status.message, expected);
        assert_eq!(status.details, json!({"kind": "pods"}));
    }

    #[test]
    fn everybody_may_ask_about_themselves_but_not_without_a_name() {
        let ask = action("create", "authorization.k8s.io", "selfsubjectaccessreviews", "");
        assert!(allows(&User::new("x", ["system:authenticated"]), &ask));
        assert!(!allows(&User::anonymous(), &ask));
        let health = Action {
            verb: "get".to_owned(),
            path: Some("/readyz/ping".to_owned()),
            ..Action::default()
        };
        assert!(allows(&User::anonymous(), &health));
    }
}
