//! A StatefulSet as it was served: typed, and its template untouched besides.
//!
//! Revision data must be what the server serves, byte for byte; going through types would lose fields that a newer
//! server knows and these types do not.

use std::borrow::Cow;

use api::k8s::api::apps::v1::StatefulSet;
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A set, and its `spec.template` as served.
#[derive(Clone, Debug)]
pub(crate) struct ServedSet {
    /// The set.
    pub(crate) set: StatefulSet,
    /// Its template.
    pub(crate) template: Value,
}

impl<'de> Deserialize<'de> for ServedSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let served = Value::deserialize(deserializer)?;
        let template = served.pointer("/spec/template").cloned().unwrap_or_default();
        let set = serde_json::from_value(served).map_err(D::Error::custom)?;
        Ok(Self { set, template })
    }
}

impl Resource for ServedSet {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        StatefulSet::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        StatefulSet::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        StatefulSet::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        StatefulSet::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.set.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.set.meta_mut()
    }
}
