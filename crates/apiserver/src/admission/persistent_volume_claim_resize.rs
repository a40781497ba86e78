//! PersistentVolumeClaimResize: a claim grows only where its class says that volumes can.

use super::{Operation, Review, kind};
use crate::create::text;
use crate::status::Outcome;
use crate::stored::Stored;
use api::quantity::{self, Quantity};
use serde_json::Value;

pub(super) async fn validate(review: &Review<'_>, claim: &Value) -> Outcome<()> {
    let Some(old) = review
        .old
        .filter(|_| review.is("", "PersistentVolumeClaim", &[Operation::Update]))
    else {
        return Ok(());
    };
    if requested(claim) <= requested(old) {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err(review.forbidden(claim, "Only bound persistent volume claims can be expanded"));
    }
    if !class_allows(review, claim, old).await? {
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                   support resize";
        return Err(review.forbidden(claim, why));
    }
    Ok(())
}

fn requested(claim: &Value) -> Quantity {
    let text = claim["spec"]["resources"]["requests"]["storage"].as_str();
    text.and_then(|text| quantity::parse(text).ok()).unwrap_or_default()
}

async fn class_allows(review: &Review<'_>, claim: &Value, old: &Value) -> Outcome<bool> {
    let (Some(name), Some(old_name)) = (class(claim), class(old)) else {
        return Ok(false);
    };
    if name != old_name {
        return Ok(false);
    }
    let classes = kind("storage.k8s.io", "storageclasses");
    let found = review.server.read(classes, "", name).await?;
    let class = found.map(|kv| Stored::from(&kv).object(classes)).transpose()?;
    Ok(class.is_some_and(|class| class["allowVolumeExpansion"] == true))
}

/// The name of a claim's class.
fn class(claim: &Value) -> Option<&str> {
    let by_annotation = &claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    text(by_annotation).or_else(|| text(&claim["spec"]["storageClassName"]))
}
