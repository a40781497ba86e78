//! What is known of every object, whatever its kind. There may be very many, so it is little.

use crate::{Key, Kind, Target};
use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::fmt;
use std::sync::Arc;

/// What stands between namespace and name: less than every character of a name, so namespaces come one after the other.
const BETWEEN: char = '\0';

/// Namespace (empty for cluster-wide kinds) and name of an object, shared by all who hold on to them.
/// Ordered by namespace, then by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    /// A name from its parts; an empty name comes before all others of its namespace.
    pub fn new(namespace: &str, name: &str) -> Self {
        let mut both = String::with_capacity(namespace.len() + BETWEEN.len_utf8() + name.len());
        both.push_str(namespace);
        both.push(BETWEEN);
        both.push_str(name);
        Self(both.into())
    }

    /// The name that an object has.
    pub fn of(meta: &ObjectMeta) -> Self {
        let part = |part: &'_ Option<String>| part.clone().unwrap_or_default();
        Self::new(&part(&meta.namespace), &part(&meta.name))
    }

    /// The namespace; empty for cluster-wide kinds.
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    /// The name within the namespace.
    pub fn name(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(BETWEEN).expect("both parts were put together")
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = self.parts();
        write!(f, "{namespace}/{name}")
    }
}

/// An object of whatever kind, of which only that is known by which objects belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct AnyObject {
    /// The object's kind.
    pub kind: Arc<Kind>,
    /// The object's namespace and name.
    pub name: ObjectName,
    /// The object's uid.
    pub uid: Box<str>,
    /// The version that was seen.
    pub resource_version: Box<str>,
    /// The object's owners.
    pub owner_references: Vec<OwnerReference>,
    /// What must be done before the object can go.
    pub finalizers: Vec<String>,
    /// Whether the object is being deleted.
    pub is_terminating: bool,
}

impl AnyObject {
    /// An object of a kind, by its metadata.
    pub fn new(kind: Arc<Kind>, metadata: ObjectMeta) -> Self {
        Self {
            kind,
            name: ObjectName::of(&metadata),
            uid: metadata.uid.unwrap_or_default().into(),
            resource_version: metadata.resource_version.unwrap_or_default().into(),
            owner_references: metadata.owner_references.unwrap_or_default(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            is_terminating: metadata.deletion_timestamp.is_some(),
        }
    }

    /// Whether something waits in the object's deletion.
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|one| one == finalizer)
    }

    /// The object as the target of a write: this uid, in this version.
    pub fn target(&self) -> Target {
        Target {
            key: self.key(),
            uid: self.uid.to_string(),
            resource_version: self.resource_version.to_string(),
        }
    }

    /// Kind, namespace and name.
    pub fn key(&self) -> Key {
        Key::new(*self.kind, self.name.namespace(), self.name.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_namespace_stand_together() {
        let name = |(namespace, name)| ObjectName::new(namespace, name);
        let sorted = [("", "z"), ("a", ""), ("a", "x"), ("a", "y"), ("a-b", "a"), ("ab", "a")].map(name);
        assert!(sorted.is_sorted());
        assert_eq!((sorted[4].namespace(), sorted[4].name()), ("a-b", "a"));
        assert_eq!((sorted[0].namespace(), sorted[0].name()), ("", "z"));
        assert_eq!(format!("{:?}", sorted[2]), "a/x");
    }
}
