//! DefaultStorageClass: a claim that names no class gets the default one.

use super::{Operation, Review, kind};
use crate::status::Outcome;
use crate::stored::Stored;
use serde_json::{Value, json};
use std::cmp::Reverse;

/// Marks the default among StorageClasses.
pub(crate) const IS_DEFAULT_ANNOTATION: &str = "storageclass.kubernetes.io/is-default-class";
const IS_DEFAULT_BETA_ANNOTATION: &str = "storageclass.beta.kubernetes.io/is-default-class";

/// How claims named their class before there was a field for it.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) async fn mutate(review: &Review<'_>, claim: &mut Value) -> Outcome<()> {
    if !review.is("", "PersistentVolumeClaim", &[Operation::Create]) {
        return Ok(());
    }
    // An empty name is a choice, too: no class at all.
    let by_annotation = &claim["metadata"]["annotations"][CLASS_ANNOTATION];
    if !claim["spec"]["storageClassName"].is_null() || !by_annotation.is_null() {
        return Ok(());
    }
    let all = review.server.read_all(kind("storage.k8s.io", "storageclasses")).await?;
    let annotations = [IS_DEFAULT_ANNOTATION, IS_DEFAULT_BETA_ANNOTATION];
    if let Some(name) = default_of(all.iter().map(Stored::metadata), &annotations) {
        claim["spec"]["storageClassName"] = json!(name);
    }
    Ok(())
}

/// The name of the default class: of several the youngest, and of equally young ones the first.
pub(super) fn default_of(classes: impl Iterator<Item = Value>, annotations: &[&str]) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let is_default = |metadata: &Value| {
        let is_true = |annotation: &&str| metadata["annotations"][*annotation] == "true";
        annotations.iter().any(is_true)
    };
    let defaults = classes.filter(is_default);
    let youngest = defaults.min_by_key(|class| (Reverse(text(&class["creationTimestamp"])), text(&class["name"])))?;
    Some(text(&youngest["name"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_default_counts() {
        let class = |name: &str, born: &str, annotations: Value| json!({"name": name, "creationTimestamp": born, "annotations": annotations});
        let default = json!({IS_DEFAULT_ANNOTATION: "true"});
        let classes = [
            class("old", "2026-01-01T00:00:00Z", default.clone()),
            class("b", "2026-01-02T00:00:00Z", default.clone()),
            class("a", "2026-01-02T00:00:00Z", default),
            class("no", "2026-01-03T00:00:00Z", json!({IS_DEFAULT_ANNOTATION: "false"})),
        ];
        let found = default_of(classes.into_iter(), &[IS_DEFAULT_ANNOTATION]);
        assert_eq!(found.as_deref(), Some("a"));
        assert_eq!(default_of(std::iter::empty(), &[IS_DEFAULT_ANNOTATION]), None);
    }
}
