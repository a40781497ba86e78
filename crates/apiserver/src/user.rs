//! Who makes a request.

use crate::tokens::claims::user_name;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The group of everybody whose identity is known.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";

/// An authenticated user, put into the extensions of a request by whoever checked the identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's name, e.g. `system:node:vm`.
    pub name: String,
    /// The user's id; may be empty.
    pub uid: String,
    /// The groups the user is in, e.g. `system:masters`.
    pub groups: Vec<String>,
    /// Whatever else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user known by name and groups only.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            name: name.into(),
            groups: groups.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// A service account.
    pub(crate) fn service_account(namespace: &str, name: &str) -> Self {
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            AUTHENTICATED.to_owned(),
        ];
        Self::new(user_name(namespace, name), groups)
    }

    /// The user of a request that carries no identity.
    pub(crate) fn anonymous() -> Self {
        Self::new("system:anonymous", ["system:unauthenticated"])
    }

    /// The user as reviews and the audit log show it.
    pub(crate) fn info(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}
