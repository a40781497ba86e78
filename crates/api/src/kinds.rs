//! The table of served kinds: one row says all that the generic path needs to know of a kind.

/// A served kind.
#[derive(Debug, PartialEq, Eq)]
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
    /// Whether any part of Steadfast acts on the kind; if not, every write is answered with a warning.
    pub acted_on: bool,
}

/// All served kinds, in the order discovery lists them.
pub fn kinds() -> &'static [Kind] {
    &[]
}

/// The kind served under `/api(s)/group/version/plural`.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    kinds().iter().find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The kind that an object of this `apiVersion` and `kind` is of.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Kind> {
    kinds().iter().find(|k| k.kind == kind && k.api_version() == api_version)
}

impl Kind {
    /// `group/version`, or just the version in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `plural.group`, as messages name a resource; just the plural in the core group.
    pub fn qualified_resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}
