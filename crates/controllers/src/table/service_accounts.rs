//! The rows that give every namespace its service account and its copy of the authority's certificate.

use std::borrow::Cow;

use api::k8s::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use controllers_plan::service_accounts::{
    DEFAULT_ACCOUNT, ObservedAccount, ObservedRootCa, ROOT_CA, plan_account, plan_root_ca,
};
use controllers_plan::{AnyObject, Key, Kind, Target};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;

use super::Row;
use crate::cache::Change;
use crate::caches::{Caches, Watch};

pub(crate) fn account_row() -> Row {
    Row {
        name: "serviceaccount-controller",
        watches: vec![
            Watch::on::<Namespace>(itself),
            Watch::metadata(Kind::of::<ServiceAccount>(), namespace_of_account),
        ],
        decide: Box::new(|caches, key, _| plan_account(&observe_account(caches, key))),
    }
}

/// `root_ca` is the certificate in PEM.
pub(crate) fn root_ca_row(root_ca: String) -> Row {
    Row {
        name: "root-ca-certificate-publisher-controller",
        watches: vec![
            Watch::on::<Namespace>(itself),
            Watch::named::<Certificates>(ROOT_CA, namespace_of_copy),
        ],
        decide: Box::new(move |caches, key, _| plan_root_ca(&observe_root_ca(caches, key, &root_ca))),
    }
}

fn observe_account(caches: &Caches, key: &Key) -> ObservedAccount {
    let accounts = caches.metadata_of(Kind::of::<ServiceAccount>());
    ObservedAccount {
        namespace: caches.of::<Namespace>().get("", &key.name),
        has_account: accounts.is_some_and(|accounts| accounts.get(&key.name, DEFAULT_ACCOUNT).is_some()),
    }
}

fn observe_root_ca(caches: &Caches, key: &Key, root_ca: &str) -> ObservedRootCa {
    let found = caches.of::<Certificates>().get(&key.name, ROOT_CA);
    let found = found.map(|map| {
        let target = Target::from_meta(Kind::of::<ConfigMap>(), &map.metadata);
        (target, map.data.as_ref().and_then(|data| data.ca.clone()))
    });
    ObservedRootCa {
        namespace: caches.of::<Namespace>().get("", &key.name),
        found,
        root_ca: root_ca.to_owned(),
    }
}

fn itself(_: &Caches, change: &Change<Namespace>) -> Vec<Key> {
    vec![namespace_key(change.latest().metadata.name.clone())]
}

fn namespace_key(name: Option<String>) -> Key {
    Key::new(Kind::of::<Namespace>(), "", name.unwrap_or_default())
}

fn namespace_of_account(_: &Caches, change: &Change<AnyObject>) -> Vec<Key> {
    let name = &change.latest().name;
    if name.name() == DEFAULT_ACCOUNT && change.new.is_none() {
        vec![namespace_key(Some(name.namespace().to_owned()))]
    } else {
        Vec::new()
    }
}

fn namespace_of_copy(_: &Caches, change: &Change<Certificates>) -> Vec<Key> {
    vec![namespace_key(change.latest().metadata.namespace.clone())]
}

/// The ConfigMaps of the certificate's name, of which only the certificate is kept.
#[derive(Clone, Debug, Deserialize)]
struct Certificates {
    metadata: ObjectMeta,
    data: Option<Certificate>,
}

#[derive(Clone, Debug, Deserialize)]
struct Certificate {
    #[serde(rename = "ca.crt")]
    ca: Option<String>,
}

impl Resource for Certificates {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ConfigMap::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ConfigMap::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ConfigMap::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ConfigMap::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
