//! A workload as it was served: typed, and its template untouched besides.
//!
//! Revision data must be what the server serves, byte for byte; going through types would lose fields that a newer
//! server knows and these types do not.

use std::borrow::Cow;

use api::k8s::api::apps::v1::{DaemonSet, StatefulSet};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A set, and its `spec.template` as served.
#[derive(Clone, Debug)]
pub(crate) struct Served<T> {
    /// The set.
    pub(crate) set: T,
    /// Its template.
    pub(crate) template: Value,
}

/// A StatefulSet as served.
pub(crate) type ServedSet = Served<StatefulSet>;

/// A DaemonSet as served.
pub(crate) type ServedDaemonSet = Served<DaemonSet>;

impl<'de, T: DeserializeOwned> Deserialize<'de> for Served<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let served = Value::deserialize(deserializer)?;
        let template = served.pointer("/spec/template").cloned().unwrap_or_default();
        let set = serde_json::from_value(served).map_err(D::Error::custom)?;
        Ok(Self { set, template })
    }
}

impl<T: Resource<DynamicType = (), Scope = NamespaceResourceScope>> Resource for Served<T> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        T::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        T::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        T::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        T::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.set.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.set.meta_mut()
    }
}
