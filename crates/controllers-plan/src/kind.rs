//! Names of things: kinds, and the keys of objects.

use api::k8s::Resource;

/// A kind of objects, with all that is needed to address its objects over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version, e.g. `v1`.
    pub version: &'static str,
    /// Kind, e.g. `StatefulSet`.
    pub kind: &'static str,
    /// Resource name in paths, e.g. `statefulsets`.
    pub plural: &'static str,
}

impl Kind {
    /// The kind of a typed object.
    pub const fn of<T: Resource>() -> Self {
        Self {
            group: T::GROUP,
            version: T::VERSION,
            kind: T::KIND,
            plural: T::URL_PATH_SEGMENT,
        }
    }

    /// `group/version`, or just the version in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of the collection, e.g. `/apis/apps/v1/namespaces/default/statefulsets`; no namespace if it is empty.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let version = self.api_version();
        if namespace.is_empty() {
            format!("{root}/{version}/{}", self.plural)
        } else {
            format!("{root}/{version}/namespaces/{namespace}/{}", self.plural)
        }
    }
}

impl From<&'static api::kinds::Kind> for Kind {
    fn from(row: &'static api::kinds::Kind) -> Self {
        Self {
            group: row.group,
            version: row.version,
            kind: row.kind,
            plural: row.plural,
        }
    }
}

/// Which object a controller works on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The object's kind.
    pub kind: Kind,
    /// The object's namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind.kind, self.namespace, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::apps::v1::StatefulSet;
    use api::k8s::api::core::v1::Node;

    #[test]
    fn paths_are_those_of_the_api() {
        let sets = Kind::of::<StatefulSet>();
        assert_eq!(sets.path("default"), "/apis/apps/v1/namespaces/default/statefulsets");
        assert_eq!(Kind::of::<Node>().path(""), "/api/v1/nodes");
        assert_eq!(Key::new(sets, "default", "web").to_string(), "StatefulSet default/web");
    }
}
