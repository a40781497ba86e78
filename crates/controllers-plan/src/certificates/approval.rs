//! Requests of kubelets for their client certificates are approved without a person, for those who have that right.

use api::k8s::api::certificates::v1::CertificateSigningRequest;

use super::{Contents, KUBELET_CLIENT, add_condition, certificate, condition, has, replace};
use crate::pods::name_of;
use crate::{Plan, Reason, Step};

/// What a request was recognized as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognized {
    /// A node asks for a new certificate in its own name.
    SelfNodeClient,
    /// Somebody (mostly who holds a bootstrap token) asks for a node's certificate.
    NodeClient,
}

impl Recognized {
    /// What one must be allowed to `create`, to have such requests approved.
    pub fn subresource(self) -> &'static str {
        match self {
            Self::SelfNodeClient => "selfnodeclient",
            Self::NodeClient => "nodeclient",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::SelfNodeClient => "Auto approving self kubelet client certificate after SubjectAccessReview.",
            Self::NodeClient => "Auto approving kubelet client certificate after SubjectAccessReview.",
        }
    }
}

/// What the server said about who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// He has the right to such certificates.
    Granted(Recognized),
    /// He has not.
    Denied,
    /// The server did not say.
    Unknown(String),
}

/// What a request that nobody has decided about can be approved as, in the order in which rights are to be asked for.
pub fn recognized(request: &CertificateSigningRequest, contents: &Contents) -> Vec<Recognized> {
    let spec = &request.spec;
    let is_decided = has(request, "Approved") || has(request, "Denied") || certificate(request).is_some();
    let usages = spec.usages.as_deref().unwrap_or_default();
    if is_decided || spec.signer_name != KUBELET_CLIENT || contents.check_kubelet_client(usages).is_err() {
        return Vec::new();
    }
    let is_own = spec.username.as_deref() == contents.common_name();
    let own = is_own.then_some(Recognized::SelfNodeClient);
    own.into_iter().chain([Recognized::NodeClient]).collect()
}

/// Approves a request that was recognized if who asked has the right.
pub fn plan_approval(request: &CertificateSigningRequest, access: &Access) -> Plan {
    let name = name_of(&request.metadata);
    match access {
        Access::Granted(recognized) => {
            let mut approved = request.clone();
            add_condition(
                &mut approved,
                condition("Approved", "AutoApproved", recognized.message()),
            );
            Plan {
                steps: vec![Step::One(replace(&approved, "approval"))],
                because: vec![Reason::acts(name, "AutoApproved", recognized.message())],
                ..Plan::default()
            }
        }
        // The right may be given later; nothing that is watched would tell.
        Access::Denied => retry(name, "who asked has no right to have it approved"),
        Access::Unknown(why) => retry(name, &format!("the rights of who asked are not known: {why}")),
    }
}

fn retry(name: &str, why: &str) -> Plan {
    Plan {
        because: vec![Reason::waits(name, "NotApproved", name, why)],
        retry: Some(format!("{name} is a kubelet's, but {why}")),
        ..Plan::default()
    }
}
