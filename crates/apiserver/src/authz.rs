//! Who may do what: administrators everything, nodes what kubelets do, everybody what roles give them.

use crate::follow::Followed;
use crate::node_authorizer::{self, ClaimsOfVolumes, PODS_PREFIX, PodsOfNodes, VOLUMES_PREFIX};
use crate::rbac::{self, Rbac};
use crate::server::Server;
use crate::status::{Outcome, status};
use crate::user::User;
use api::error::Status;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Store;
use tokio::task::JoinSet;

/// The group whose members may do everything; no role can take that away.
pub(crate) const MASTERS: &str = "system:masters";

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// What fields of the objects of a collection must be.
    pub(crate) fields: Vec<(String, String)>,
    /// The path of something that is no resource; then only `verb` counts besides it.
    pub(crate) path: Option<String>,
}

impl Action {
    /// Whether only objects are concerned whose field has that value.
    pub(crate) fn selects(&self, field: &str, value: &str) -> bool {
        self.fields
            .iter()
            .any(|(name, wanted)| name == field && wanted == value)
    }
}

/// What was decided, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// For people; may be empty.
    pub(crate) reason: String,
}

impl Decision {
    /// What an outcome of [`check`] was, for the audit log.
    pub(crate) fn of(outcome: &Outcome<Self>) -> Self {
        outcome.clone().unwrap_or_else(|_| Self {
            allowed: false,
            reason: String::new(),
        })
    }
}

/// All that decisions are made of.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) rbac: Arc<Followed<Rbac>>,
    pods: Arc<Followed<PodsOfNodes>>,
    volumes: Arc<Followed<ClaimsOfVolumes>>,
}

impl Access {
    /// Reads what the store holds.
    pub(crate) async fn open(store: &dyn Store) -> Result<Self, store::Error> {
        Ok(Self {
            rbac: Followed::open(store, rbac::PREFIX, Rbac::default()).await?,
            pods: Followed::open(store, PODS_PREFIX, PodsOfNodes::default()).await?,
            volumes: Followed::open(store, VOLUMES_PREFIX, ClaimsOfVolumes::default()).await?,
        })
    }

    /// The work that keeps up with the store.
    pub(crate) fn follow(&self, store: &Arc<dyn Store>, tasks: &mut JoinSet<()>) {
        tasks.spawn(Followed::run(Arc::downgrade(&self.rbac), Arc::clone(store)));
        tasks.spawn(Followed::run(Arc::downgrade(&self.pods), Arc::clone(store)));
        tasks.spawn(Followed::run(Arc::downgrade(&self.volumes), Arc::clone(store)));
    }

    /// Whether a user may do that.
    pub(crate) async fn decide(&self, store: &dyn Store, user: &User, action: &Action) -> Decision {
        if let Some(reason) = self.allows(user, action) {
            return Decision { allowed: true, reason };
        }
        // Nobody is refused by what has changed before he asked.
        if self.catch_up(store, user).await
            && let Some(reason) = self.allows(user, action)
        {
            return Decision { allowed: true, reason };
        }
        let mut absent = self.rbac.view.absent_roles(user, &action.namespace);
        absent.dedup();
        let reason = match absent.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision { allowed: false, reason }
    }

    /// Why a user may do that, as far as is known now.
    pub(crate) fn allows(&self, user: &User, action: &Action) -> Option<String> {
        if user.is_in(MASTERS) {
            return Some(String::new());
        }
        if let Some(node) = node_authorizer::node_of(user)
            && node_authorizer::allows(node, action, &self.pods.view, &self.volumes.view)
        {
            return Some(String::new());
        }
        self.rbac.view.allows(user, action).map(|reason| reason.to_string())
    }

    async fn catch_up(&self, store: &dyn Store, user: &User) -> bool {
        if node_authorizer::node_of(user).is_none() {
            return self.rbac.catch_up(store).await;
        }
        let (rbac, pods, volumes) = tokio::join!(
            self.rbac.catch_up(store),
            self.pods.catch_up(store),
            self.volumes.catch_up(store)
        );
        rbac || pods || volumes
    }
}

/// Lets a user go on who may do that; 403 for everybody else.
pub(crate) async fn check(server: &Server, user: &User, action: &Action) -> Outcome<Decision> {
    let decision = server.access.decide(server.store.as_ref(), user, action).await;
    if decision.allowed {
        return Ok(decision);
    }
    Err(forbidden(user, action, &decision.reason))
}

/// Whether a user may do that.
pub(crate) async fn may(server: &Server, user: &User, action: &Action) -> bool {
    server.access.decide(server.store.as_ref(), user, action).await.allowed
}

/// Documents that may be read without any identity, so that machines can probe the server.
const PUBLIC: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];

/// Whether the path may be read without any identity.
pub(crate) fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path)
}

/// 403 in upstream's words.
pub(crate) fn forbidden(user: &User, action: &Action, reason: &str) -> Box<Status> {
    let (name, verb) = (&user.name, &action.verb);
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    };
    if let Some(path) = &action.path {
        let message = format!("forbidden: User {name:?} cannot {verb} path {path:?}{reason}");
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
    let why = format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}{reason}");
    refused(group, plural, &action.name, &why)
}

/// 403 about an object of a resource.
pub(crate) fn refused(group: &str, plural: &str, name: &str, why: &str) -> Box<Status> {
    let qualified = if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    };
    let mut details: Value = json!({"kind": plural});
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    let mut object = String::new();
    if !name.is_empty() {
        details["name"] = json!(name);
        object = format!(" {name:?}");
    }
    status(
        403,
        "Forbidden",
        format!("{qualified}{object} is forbidden: {why}"),
        details,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_refused_in_upstreams_words() {
        let user = User::new("x", ["system:authenticated"]);
        let action = Action {
            verb: "list".to_owned(),
            resource: "pods".to_owned(),
            namespace: "default".to_owned(),
            ..Action::default()
        };
        let status = forbidden(&user, &action, "");
        let expected = "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \
                        \"default\"";
        assert_eq!(status.message, expected);
        assert_eq!(status.details, json!({"kind": "pods"}));
        let named = Action {
            group: "apps".to_owned(),
            name: "web".to_owned(),
            subresource: "scale".to_owned(),
            ..action
        };
        let status = forbidden(&user, &named, "RBAC: x");
        let expected = "pods.apps \"web\" is forbidden: User \"x\" cannot list resource \"pods/scale\" in API group \
                        \"apps\" in the namespace \"default\": RBAC: x";
        assert_eq!(status.message, expected);
    }
}
