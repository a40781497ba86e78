//! Facts about any object's metadata: who controls it, whether it is on its way out.

use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::Kind;

/// The owner reference that is marked as the controller's, if there is one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// Whether the object is being deleted.
pub fn is_terminating(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// A reference that makes `meta`'s object the controller, and blocks its foreground deletion.
pub fn owner_reference(kind: Kind, meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
