//! DefaultIngressClass: an Ingress that names no class gets the default one.

use super::default_storage_class::default_of;
use super::{Operation, Review, kind};
use crate::status::Outcome;
use crate::stored::Stored;
use serde_json::{Value, json};

const IS_DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// How Ingresses named their class before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) async fn mutate(review: &Review<'_>, ingress: &mut Value) -> Outcome<()> {
    if !review.is("networking.k8s.io", "Ingress", &[Operation::Create]) {
        return Ok(());
    }
    let by_annotation = &ingress["metadata"]["annotations"][CLASS_ANNOTATION];
    if !ingress["spec"]["ingressClassName"].is_null() || !by_annotation.is_null() {
        return Ok(());
    }
    let all = review
        .server
        .read_all(kind("networking.k8s.io", "ingressclasses"))
        .await?;
    if let Some(name) = default_of(all.iter().map(Stored::metadata), &[IS_DEFAULT_ANNOTATION]) {
        ingress["spec"]["ingressClassName"] = json!(name);
    }
    Ok(())
}
