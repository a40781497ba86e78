//! Certificate signing requests, decided and answered by controllers that have no more rights than upstream's.

use std::sync::Arc;

use api::k8s::api::certificates::v1::CertificateSigningRequest;
use api::k8s::api::rbac::v1::ClusterRoleBinding;
use apiserver::{ApiServer, User, in_process};
use controllers::{Config, Signer};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cluster::{create, until};

const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

struct Scene {
    router: axum::Router,
    requests: Api<CertificateSigningRequest>,
    admin: Client,
    _stop: tokio_util::sync::DropGuard,
}

impl Scene {
    async fn start() -> Self {
        let store = Arc::new(store::memory::MemoryStore::new());
        let server = ApiServer::new(store, apiserver::Config::default()).await.unwrap();
        let router = server.router();
        let client = |user: User| Client::new(in_process(router.clone(), user), "default");
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = authority.self_signed(&key).unwrap().pem();
        let config = Config {
            controllers: ["csrapproving", "csrsigning", "csrcleaner"].map(str::to_owned).to_vec(),
            signer: Some(Signer::from_pem(&authority, &key.serialize_pem()).unwrap()),
            ..Config::default()
        };
        let stop = CancellationToken::new();
        let manager = client(User::new("system:kube-controller-manager", ["system:authenticated"]));
        tokio::spawn(controllers::run(manager, config, stop.clone()));
        let admin = client(User::new("admin", ["system:masters"]));
        Self {
            requests: Api::all(admin.clone()),
            admin,
            router,
            _stop: stop.drop_guard(),
        }
    }

    /// Asks for a certificate as some user.
    async fn ask(&self, user: User, name: &str, signer: &str, subject: (&str, &str), usages: &[&str]) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, subject.0);
        params.distinguished_name.push(DnType::CommonName, subject.1);
        let request = params
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        let object = json!({"metadata": {"name": name}, "spec": {"signerName": signer, "usages": usages,
            "request": api::k8s::ByteString(request.into_bytes()), "expirationSeconds": 3600}});
        let client = Client::new(in_process(self.router.clone(), user), "default");
        create(&Api::<CertificateSigningRequest>::all(client), object).await;
    }

    async fn approve(&self, name: &str) {
        let condition = json!({"type": "Approved", "status": "True", "reason": "Test"});
        let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
        let params = PatchParams::default();
        self.requests
            .patch_subresource("approval", name, &params, &patch)
            .await
            .unwrap();
    }

    /// Lets a group have its requests for the certificates of nodes approved.
    async fn bind(&self, group: &str) {
        let role = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
        let binding = json!({"metadata": {"name": "auto-approve"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}]});
        create(&Api::<ClusterRoleBinding>::all(self.admin.clone()), binding).await;
    }

    async fn certificate(&self, name: &str) -> Value {
        let is_issued = |request: Option<&CertificateSigningRequest>| {
            request
                .and_then(|request| request.status.as_ref()?.certificate.as_ref())
                .is_some()
        };
        let request = until(&self.requests, name, is_issued).await.unwrap();
        serde_json::to_value(request.status).unwrap()
    }
}

fn admin() -> User {
    User::new("admin", ["system:masters"])
}

/// Who holds a bootstrap token.
fn newcomer() -> User {
    User::new(
        "system:bootstrap:abcdef",
        ["system:bootstrappers", "system:authenticated", "newcomers"],
    )
}

#[tokio::test]
async fn what_a_person_approves_is_signed() {
    let scene = Scene::start().await;
    let usages = ["digital signature", "key encipherment", "client auth"];
    scene
        .ask(admin(), "anna", API_CLIENT, ("people", "anna"), &usages)
        .await;
    scene.approve("anna").await;
    let status = scene.certificate("anna").await;
    assert_eq!(status["conditions"][0]["reason"], "Test");
}

#[tokio::test]
async fn what_no_signer_signs_fails_with_the_reason() {
    let scene = Scene::start().await;
    scene
        .ask(admin(), "anna", API_CLIENT, ("people", "anna"), &["server auth"])
        .await;
    scene.approve("anna").await;
    let has_failed = |request: Option<&CertificateSigningRequest>| {
        let conditions = request.and_then(|request| request.status.as_ref()?.conditions.as_ref());
        let failed = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Failed"));
        failed.is_some_and(|failed| {
            failed.reason.as_deref() == Some("SignerValidationFailure")
                && failed.message.as_deref() == Some("invalid usage for client certificate: server auth")
        })
    };
    until(&scene.requests, "anna", has_failed).await;
}

#[tokio::test]
async fn a_kubelet_with_a_bootstrap_token_gets_its_certificate_when_its_group_may_have_it() {
    let scene = Scene::start().await;
    create(
        &Api::<ClusterRoleBinding>::all(scene.admin.clone()),
        json!({"metadata": {"name": "bootstrap"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-bootstrapper"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "newcomers"}]}),
    )
    .await;
    let usages = ["digital signature", "client auth"];
    let subject = ("system:nodes", "system:node:n9");
    scene.ask(newcomer(), "n9", KUBELET_CLIENT, subject, &usages).await;
    // A node may not take another's name this way, and nobody else's request is approved for him.
    scene
        .ask(newcomer(), "n8", KUBELET_CLIENT, ("others", "system:node:n8"), &usages)
        .await;
    scene.bind("newcomers").await;
    let status = scene.certificate("n9").await;
    let condition = &status["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["reason"]),
        (&json!("Approved"), &json!("AutoApproved"))
    );
    let message = "Auto approving kubelet client certificate after SubjectAccessReview.";
    assert_eq!(condition["message"], message);
    let other = scene.requests.get("n8").await.unwrap();
    assert!(other.status.unwrap_or_default().conditions.is_none());
}
