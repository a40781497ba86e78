//! Who may decide about requests for certificates, and who may answer them.

use crate::api::Api;
use apiserver::User;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

async fn may(api: &Api, name: &str, rules: Value) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": name}, "rules": rules});
    api.post(&format!("{rbac}/clusterroles"), &role).await.ok();
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}]});
    api.post(&format!("{rbac}/clusterrolebindings"), &binding).await.ok();
}

async fn ask(api: &Api, name: &str, signer: &str) {
    let params = rcgen::CertificateParams::default();
    let request = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let request = json!({"metadata": {"name": name}, "spec": {"signerName": signer, "usages": ["client auth"],
        "request": STANDARD.encode(request.pem().unwrap())}});
    api.post(PATH, &request).await.ok();
}

fn parts(subresource: &str, verb: &str, signer: &str) -> Value {
    let group = "certificates.k8s.io";
    json!([
        {"verbs": ["patch"], "apiGroups": [group], "resources": [format!("certificatesigningrequests/{subresource}")]},
        {"verbs": [verb], "apiGroups": [group], "resources": ["signers"], "resourceNames": [signer]},
    ])
}

#[tokio::test]
async fn who_approves_needs_the_right_to_the_signer_too() {
    let api = Api::new().await;
    ask(&api, "r", "example.com/a").await;
    ask(&api, "s", "example.org/a").await;
    let approved = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "R"}]}});
    let one = format!("{PATH}/r/approval");
    may(&api, "anna", parts("approval", "approve", "example.com/b")).await;
    may(&api, "bert", parts("approval", "approve", "example.com/*")).await;
    may(&api, "carl", parts("approval", "approve", "example.com/a")).await;
    let user = |name: &str| api.as_user(User::new(name, ["system:authenticated"]));
    let (code, _, message) = user("anna").patch(&one, "merge", &approved).await.failure();
    assert_eq!(code, 403);
    let words = "user not permitted to approve requests with signerName \"example.com/a\"";
    assert!(message.contains(words), "{message}");
    user("bert")
        .patch(&format!("{one}?dryRun=All"), "merge", &approved)
        .await
        .ok();
    user("carl").patch(&one, "merge", &approved).await.ok();
    let other = user("bert")
        .patch(&format!("{PATH}/s/approval"), "merge", &approved)
        .await;
    assert_eq!(other.code, 403);
}

#[tokio::test]
async fn who_answers_needs_the_right_to_sign() {
    let api = Api::new().await;
    ask(&api, "r", "example.com/a").await;
    let one = format!("{PATH}/r/status");
    may(&api, "anna", parts("status", "approve", "example.com/a")).await;
    may(&api, "bert", parts("status", "sign", "example.com/a")).await;
    let user = |name: &str| api.as_user(User::new(name, ["system:authenticated"]));
    let failed = json!({"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "R"}]}});
    let (code, _, message) = user("anna").patch(&one, "merge", &failed).await.failure();
    assert_eq!(code, 403);
    let words = "user not permitted to sign requests with signerName \"example.com/a\"";
    assert!(message.contains(words), "{message}");
    // Whatever does not answer is not concerned.
    let note = json!({"metadata": {"annotations": {"a": "b"}}});
    user("anna").patch(&one, "merge", &note).await.ok();
    user("bert").patch(&one, "merge", &failed).await.ok();
    let (code, _, message) = user("bert")
        .patch(&one, "merge", &json!({"status": {"conditions": []}}))
        .await
        .failure();
    assert!(
        code == 422 && message.contains("may not remove a condition of type \"Failed\""),
        "{message}"
    );
}

#[tokio::test]
async fn a_node_asks_for_certificates_of_its_own_name() {
    let api = Api::new().await;
    let node = api.as_user(User::new("system:node:vm", ["system:nodes", "system:authenticated"]));
    may(
        &api,
        "system:node:vm",
        json!([{"verbs": ["create"], "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests"]}]),
    )
    .await;
    let ask = async |name: &str, signer: &str, names: &[&str]| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(rcgen::DnType::CommonName, *name);
        }
        let request = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let request = json!({"metadata": {"name": name}, "spec": {"signerName": signer, "usages": ["client auth"],
            "request": STANDARD.encode(request.pem().unwrap())}});
        node.post(PATH, &request).await
    };
    for (place, signer) in ["kubelet-serving", "kube-apiserver-client-kubelet"].iter().enumerate() {
        let signer = format!("kubernetes.io/{signer}");
        for names in [&["system:node:other"][..], &["vm"], &[]] {
            let (code, _, message) = ask("r", &signer, names).await.failure();
            assert_eq!(code, 403);
            let words = "can only create a node CSR with CN=system:node:vm";
            assert!(message.contains(words), "{message}");
        }
        ask(&format!("own-{place}"), &signer, &["system:node:vm"]).await.ok();
    }
    ask("else", "example.com/a", &["system:node:other"]).await.ok();
}
