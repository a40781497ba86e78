//! Names: generated suffixes, uids, and the keys objects are stored under.

use api::kinds::Kind;
use rand::Rng;

/// The letters of generated suffixes: no vowels and no look-alikes, so no words and no misreading.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// The most of a `generateName` that is kept, so that the suffix still fits into a label.
const GENERATE_BASE_MAX: usize = 58;

/// A name made of `generateName` and a random suffix.
pub(crate) fn generate(base: &str) -> String {
    let mut rng = ambient::rng();
    let mut name: String = base.chars().take(GENERATE_BASE_MAX).collect();
    name.extend((0..SUFFIX_LENGTH).map(|_| char::from(SUFFIX_LETTERS[rng.random_range(0..SUFFIX_LETTERS.len())])));
    name
}

/// A new uid.
pub(crate) fn uid() -> String {
    ambient::uuid().to_string()
}

/// What all keys of a kind's objects start with.
pub(crate) fn kind_prefix(kind: &Kind) -> String {
    let group = if kind.storage_group.is_empty() {
        "core"
    } else {
        kind.storage_group
    };
    format!("/registry/{group}/{}/", kind.plural)
}

/// What all keys of a kind's objects in a namespace start with; with an empty namespace, in all of them.
pub(crate) fn collection_prefix(kind: &Kind, namespace: &str) -> String {
    let mut prefix = kind_prefix(kind);
    if kind.namespaced && !namespace.is_empty() {
        prefix.push_str(namespace);
        prefix.push('/');
    }
    prefix
}

/// The key of an object.
pub(crate) fn key(kind: &Kind, namespace: &str, name: &str) -> String {
    collection_prefix(kind, namespace) + name
}

/// The key of an object as upstream's messages show it.
pub(crate) fn shown_key(kind: &Kind, namespace: &str, name: &str) -> String {
    if kind.namespaced {
        format!("/registry/{}/{namespace}/{name}", kind.plural)
    } else {
        format!("/registry/{}/{name}", kind.plural)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_keep_the_base_and_fit_into_a_label() {
        let name = generate(&"a".repeat(80));
        assert_eq!(name.len(), 63);
        assert!(generate("web-").starts_with("web-"));
        assert_ne!(generate("web-"), generate("web-"));
    }

    #[test]
    fn keys_name_group_plural_namespace_and_name() {
        let kind = |group, plural| api::kinds::by_resource(group, "v1", plural).unwrap();
        assert_eq!(
            key(kind("apps", "statefulsets"), "a", "web"),
            "/registry/apps/statefulsets/a/web"
        );
        assert_eq!(key(kind("", "nodes"), "", "vm"), "/registry/core/nodes/vm");
        assert_eq!(
            key(kind("events.k8s.io", "events"), "a", "e"),
            "/registry/core/events/a/e"
        );
    }
}
