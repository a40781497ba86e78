//! What every namespace has from the beginning: the service account `default`, and the certificate authority's
//! certificate, with which pods know the API server.

use crate::{Action, Object, Plan, Reason, Step, Target, is_terminating};
use api::k8s::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The service account of pods that name none.
pub const DEFAULT_ACCOUNT: &str = "default";
/// The ConfigMap with the certificate.
pub const ROOT_CA: &str = "kube-root-ca.crt";
/// The certificate's key in it.
pub const ROOT_CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
     distributions of Kubernetes clusters.";

/// A namespace and its service account.
#[derive(Clone, Debug, Default)]
pub struct ObservedAccount {
    /// The namespace; `None` if it is gone.
    pub namespace: Option<Arc<Namespace>>,
    /// Whether its `default` service account exists.
    pub has_account: bool,
}

/// Gives a namespace its service account.
pub fn plan_account(observed: &ObservedAccount) -> Plan {
    let Some(name) = living(observed.namespace.as_deref()) else {
        return Plan::default();
    };
    if observed.has_account {
        return Plan::default();
    }
    let account = ServiceAccount {
        metadata: meta(DEFAULT_ACCOUNT, &name),
        ..ServiceAccount::default()
    };
    create(
        Object::of(&account),
        &name,
        "NoAccount",
        "it has no service account for its pods",
    )
}

/// A namespace and its copy of the certificate.
#[derive(Clone, Debug, Default)]
pub struct ObservedRootCa {
    /// The namespace; `None` if it is gone.
    pub namespace: Option<Arc<Namespace>>,
    /// The ConfigMap as it was seen, and the certificate in it.
    pub found: Option<(Target, Option<String>)>,
    /// The right certificate, in PEM.
    pub root_ca: String,
}

/// Gives a namespace its copy of the certificate, and repairs it.
pub fn plan_root_ca(observed: &ObservedRootCa) -> Plan {
    let Some(name) = living(observed.namespace.as_deref()) else {
        return Plan::default();
    };
    let Some((target, certificate)) = &observed.found else {
        let mut metadata = meta(ROOT_CA, &name);
        metadata.annotations = Some(BTreeMap::from([(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned())]));
        let data = Some(BTreeMap::from([(ROOT_CA_KEY.to_owned(), observed.root_ca.clone())]));
        let map = ConfigMap {
            metadata,
            data,
            ..ConfigMap::default()
        };
        return create(
            Object::of(&map),
            &name,
            "NoRootCa",
            "its pods could not know the API server",
        );
    };
    if certificate.as_ref() == Some(&observed.root_ca) {
        return Plan::default();
    }
    let patch =
        json!({"metadata": {"annotations": {DESCRIPTION: DESCRIPTION_TEXT}}, "data": {ROOT_CA_KEY: observed.root_ca}});
    Plan {
        steps: vec![Step::One(Action::patch(target.clone(), patch))],
        because: vec![Reason::acts(
            name,
            "WrongRootCa",
            "its copy of the certificate was changed",
        )],
        ..Plan::default()
    }
}

/// The name of a namespace that may get new objects.
fn living(namespace: Option<&Namespace>) -> Option<String> {
    let namespace = namespace.filter(|namespace| !is_terminating(&namespace.metadata))?;
    namespace.metadata.name.clone()
}

fn meta(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    }
}

fn create(object: Object, namespace: &str, reason: &'static str, why: &str) -> Plan {
    Plan {
        steps: vec![Step::One(Action::create(object))],
        because: vec![Reason::acts(namespace, reason, why)],
        ..Plan::default()
    }
}
