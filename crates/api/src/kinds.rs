//! The table of served kinds: one row says all that the generic path needs to know of a kind.

mod configuration;
mod names;
mod table;

use crate::custom::Version;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

pub use names::lasting;

/// A served kind: a row of the table, or a version of a custom resource.
#[derive(Debug)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version, e.g. `v1`.
    pub version: &'static str,
    /// Kind, e.g. `StatefulSet`.
    pub kind: &'static str,
    /// Resource name in paths, e.g. `statefulsets`.
    pub plural: &'static str,
    /// Singular name in discovery, e.g. `statefulset`.
    pub singular: &'static str,
    /// Short names, e.g. `sts`.
    pub short_names: &'static [&'static str],
    /// Categories, e.g. `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// The published schema's name, e.g. `io.k8s.api.apps.v1.StatefulSet`.
    pub schema: &'static str,
    /// The group in whose version objects are stored; differs from `group` only where two groups serve one storage.
    pub storage_group: &'static str,
    /// The version in which objects are stored; differs from `version` only where two versions of the table serve one
    /// storage.
    pub storage_version: &'static str,
    /// Whether `/status` is served (then the main resource ignores status and the other way round).
    pub has_status: bool,
    /// Whether `/scale` is served.
    pub has_scale: bool,
    /// Whether `metadata.generation` counts spec changes.
    pub has_generation: bool,
    /// Whether PUT of an absent object creates it.
    pub create_on_update: bool,
    /// Whether PUT without a resourceVersion is taken (last write wins).
    pub unconditional_update: bool,
    /// Whether DELETE answers with the deleted object rather than a `Status`.
    pub delete_returns_object: bool,
    /// Whether a whole collection can be deleted.
    pub delete_collection: bool,
    /// Whether any part of Steadfast acts on the kind; if not, every write is answered with a warning.
    pub acted_on: bool,
    /// What its definition says of a custom resource; `None` for the kinds of the table.
    pub custom: Option<Version>,
}

/// One kind is one resource in one version, however much of its definition has changed.
impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.plural == other.plural && self.group == other.group && self.version == other.version
    }
}

impl Eq for Kind {}

/// A kind that is held on to: for ever, or as long as its definition stands and somebody is at work with it.
#[derive(Clone)]
pub enum KindRef {
    /// A row of the table.
    Table(&'static Kind),
    /// A version of a custom resource.
    Custom(Arc<Kind>),
}

impl Deref for KindRef {
    type Target = Kind;

    fn deref(&self) -> &Kind {
        match self {
            Self::Table(kind) => kind,
            Self::Custom(kind) => kind,
        }
    }
}

impl From<&'static Kind> for KindRef {
    fn from(kind: &'static Kind) -> Self {
        Self::Table(kind)
    }
}

impl fmt::Debug for KindRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.qualified_resource(), self.version)
    }
}

/// All kinds of the table, in the order discovery lists them.
pub fn kinds() -> &'static [Kind] {
    &table::KINDS
}

/// The kind served under `/api(s)/group/version/plural`.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    // What tells them apart best is compared first: this is asked several times of each request.
    kinds()
        .iter()
        .find(|k| k.plural == plural && k.group == group && k.version == version)
}

/// The kind that an object of this `apiVersion` and `kind` is of.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    kinds()
        .iter()
        .find(|k| k.kind == kind && k.group == group && k.version == version)
}

impl Kind {
    /// `group/version`, or just the version in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `plural.group`, as messages name a resource; just the plural in the core group.
    pub fn qualified_resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `Kind.group`, as messages name a kind; just the kind in the core group.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() {
            self.kind.to_owned()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    /// The kind in whose form objects are stored: itself, except that `events.k8s.io` events are stored as core events.
    pub fn storage_kind(&self) -> &Self {
        if self.storage_group == self.group {
            return self;
        }
        by_resource(self.storage_group, self.storage_version, self.plural).expect("the table names served kinds only")
    }

    /// Whether objects are served as they are stored: in the form of this kind, with nothing to fill in.
    pub fn is_stored_as_served(&self) -> bool {
        self.custom.is_none() && self.storage_group == self.group && self.storage_version == self.version
    }

    /// The verbs of the main resource, as discovery lists them.
    pub fn verbs(&self) -> &'static [&'static str] {
        if self.custom.as_ref().is_some_and(|version| version.is_terminating) {
            &["delete", "deletecollection", "get", "list", "watch"]
        } else if self.delete_collection {
            &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ]
        } else {
            &["create", "delete", "get", "list", "patch", "update", "watch"]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_is_found_by_resource_and_by_kind() {
        for kind in kinds() {
            assert_eq!(by_resource(kind.group, kind.version, kind.plural), Some(kind));
            assert_eq!(by_kind(&kind.api_version(), kind.kind), Some(kind));
            assert_eq!(kind.storage_kind().storage_group, kind.storage_group);
        }
    }

    #[test]
    fn no_two_kinds_share_a_resource_or_a_schema() {
        let resources: BTreeSet<_> = kinds().iter().map(|k| (k.group, k.version, k.plural)).collect();
        let schemas: BTreeSet<_> = kinds().iter().map(|k| k.schema).collect();
        assert_eq!(resources.len(), kinds().len());
        assert_eq!(schemas.len(), kinds().len());
    }

    #[test]
    fn events_of_both_groups_are_stored_as_core_events() {
        let events = by_resource("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(events.storage_kind(), by_resource("", "v1", "events").unwrap());
    }
}
