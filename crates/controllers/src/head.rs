//! Objects of which only the metadata is asked, and of that only read what tells how objects belong together: who
//! manages which field is most of the text, and nothing to us.

use std::borrow::Cow;

use api::k8s::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::{Deserialize, Deserializer};

/// An object of any kind, in a request for metadata.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Without what is not read.
    pub(crate) metadata: ObjectMeta,
}

#[derive(Deserialize)]
struct Whole {
    #[serde(default)]
    metadata: Read,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Read {
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<Time>,
}

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Whole { metadata } = Whole::deserialize(deserializer)?;
        let metadata = ObjectMeta {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            owner_references: metadata.owner_references,
            finalizers: metadata.finalizers,
            deletion_timestamp: metadata.deletion_timestamp,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata })
    }
}

impl Resource for Head {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn metadata_api() -> bool {
        true
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controllers_plan::{AnyObject, Kind};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn what_belongs_together_is_read_and_nothing_else() {
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s", "controller": true});
        let object = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
            "namespace": "default", "name": "web-0", "uid": "u", "resourceVersion": "7", "labels": {"app": "web"},
            "ownerReferences": [owner], "finalizers": ["f"], "deletionTimestamp": "2026-11-23T00:00:00Z",
            "managedFields": [{"manager": "m", "fieldsV1": {"f:data": {}}}]}});
        let head: Head = serde_json::from_value(object).expect("a head");
        assert!(head.metadata.managed_fields.is_none() && head.metadata.labels.is_none());
        let object = AnyObject::new(Arc::new(Kind::of::<api::k8s::api::core::v1::Pod>()), head.metadata);
        assert_eq!((object.name.namespace(), object.name.name()), ("default", "web-0"));
        assert_eq!((&*object.uid, &*object.resource_version), ("u", "7"));
        assert_eq!((object.owner_references.len(), object.finalizers.len()), (1, 1));
        assert!(object.is_terminating);
    }
}
