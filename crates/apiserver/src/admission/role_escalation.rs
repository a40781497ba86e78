//! Nobody gives rights that he does not have: roles and bindings are checked against the rights of their author.
//!
//! Who has the verb `escalate` on a role may put anything into it, and who has `bind` on one may bind it.

use super::{Operation, Review};
use crate::authz::{self, Action, MASTERS};
use crate::rbac::policy::RoleRef;
use crate::rbac::rule::{self, Rule};
use crate::status::Outcome;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) async fn validate(review: &Review<'_>, object: &Value) -> Outcome<()> {
    let call = review.call;
    if call.kind.group != GROUP || review.operation == Operation::Delete || call.user.is_in(MASTERS) {
        return Ok(());
    }
    match call.kind.kind {
        "Role" | "ClusterRole" => role(review, object).await,
        "RoleBinding" | "ClusterRoleBinding" => binding(review, object).await,
        _ => Ok(()),
    }
}

async fn role(review: &Review<'_>, object: &Value) -> Outcome<()> {
    let is_same = |old: &Value| old["rules"] == object["rules"] && old["aggregationRule"] == object["aggregationRule"];
    if review.old.is_some_and(is_same) || has(review, "escalate", review.call.kind.plural, name(object)).await {
        return Ok(());
    }
    if !object["aggregationRule"].is_null() {
        let all = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        let everything = [
            Rule {
                verbs: all(&["*"]),
                api_groups: all(&["*"]),
                resources: all(&["*"]),
                ..Rule::default()
            },
            Rule {
                verbs: all(&["*"]),
                non_resource_urls: all(&["*"]),
                ..Rule::default()
            },
        ];
        if !missing(review, &everything).is_empty() {
            return Err(review.forbidden(object, "must have cluster-admin privileges to use an aggregationRule"));
        }
    }
    let rules = Vec::<Rule>::deserialize(&object["rules"]).unwrap_or_default();
    check(review, object, &rules)
}

async fn binding(review: &Review<'_>, object: &Value) -> Outcome<()> {
    let is_same = |old: &Value| old["roleRef"] == object["roleRef"] && old["subjects"] == object["subjects"];
    if review.old.is_some_and(is_same) {
        return Ok(());
    }
    let role = RoleRef::deserialize(&object["roleRef"]).unwrap_or_default();
    let resource = if role.kind == "ClusterRole" {
        "clusterroles"
    } else {
        "roles"
    };
    if has(review, "bind", resource, &role.name).await {
        return Ok(());
    }
    let server = review.server;
    let Some(rules) = server.access.rbac.view.rules_of_role(&review.call.namespace, &role) else {
        let kind = super::kind(GROUP, resource);
        return Err(Box::new(api::error::Status::not_found(kind, &role.name)));
    };
    check(review, object, &rules)
}

/// Whether the author has a verb on a role. After this, the rights that are looked at are up to date.
async fn has(review: &Review<'_>, verb: &str, resource: &str, name: &str) -> bool {
    let action = Action {
        verb: verb.to_owned(),
        group: GROUP.to_owned(),
        resource: resource.to_owned(),
        namespace: review.call.namespace.clone(),
        name: name.to_owned(),
        ..Action::default()
    };
    authz::may(review.server, &review.call.user, &action).await
}

fn missing(review: &Review<'_>, wanted: &[Rule]) -> Vec<Rule> {
    let (user, namespace) = (&review.call.user, &review.call.namespace);
    let held: Vec<Arc<Rule>> = review.server.access.rbac.view.rules_of(user, namespace);
    let held: Vec<&Rule> = held.iter().map(|rule| &**rule).collect();
    rule::missing(&held, wanted)
}

fn check(review: &Review<'_>, object: &Value, wanted: &[Rule]) -> Outcome<()> {
    let missing = missing(review, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = missing.iter().map(Rule::brief).collect();
    lines.sort_unstable();
    let user = &review.call.user;
    let why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        rule::quoted(&user.groups),
        lines.join("\n")
    );
    let kind = &review.call.kind;
    Err(authz::refused(kind.group, kind.plural, name(object), &why))
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or("")
}
