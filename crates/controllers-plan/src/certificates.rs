//! Certificate signing requests: which are approved without a person, what is signed and for how long, which are forgotten.
//!
//! The cryptography is the shell's: it reads a request into [`Contents`], and signs what a [`Template`] says.

mod approval;
mod cleaning;
mod contents;
mod signing;

pub use approval::{Access, Recognized, plan_approval, recognized};
pub use cleaning::plan_cleaning;
pub use contents::Contents;
pub use signing::{Limits, Template, Verdict, awaits, judge, plan_issued, plan_refused};

use api::k8s::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use serde_json::Value;

use crate::{Action, Target, Write};

/// Certificates with which users and programs show the API server who they are.
pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Certificates with which kubelets do.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Certificates that kubelets show as servers.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions.map(Vec::as_slice).unwrap_or_default()
}

fn has(request: &CertificateSigningRequest, condition: &str) -> bool {
    conditions(request).iter().any(|found| found.type_ == condition)
}

/// The certificate that was issued.
fn certificate(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let issued = request.status.as_ref()?.certificate.as_ref()?;
    Some(issued.0.as_slice()).filter(|issued| !issued.is_empty())
}

/// Writes a changed request to its subresource, whole: who may only `update` there, as upstream's controllers, can do it.
fn replace(request: &CertificateSigningRequest, subresource: &'static str) -> Action {
    let mut body = serde_json::to_value(request).expect("Kubernetes objects have string keys only");
    if let Some(metadata) = body["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    Action::from(Write::Replace {
        target: Target::of(request),
        subresource,
        body,
    })
}

fn add_condition(request: &mut CertificateSigningRequest, condition: CertificateSigningRequestCondition) {
    let status = request.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(condition);
}

/// A condition that is true; the API server fills in the times.
fn condition(of: &str, reason: &str, message: impl Into<String>) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: of.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        ..CertificateSigningRequestCondition::default()
    }
}

/// The review that says whether who asked may have such a request approved without a person.
pub fn access_review(request: &CertificateSigningRequest, recognized: Recognized) -> Value {
    let spec = &request.spec;
    serde_json::json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
            "resourceAttributes": {
                "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create",
                "subresource": recognized.subresource(),
            },
        },
    })
}

#[cfg(test)]
mod tests;
