//! Tokens of service accounts and of joining machines: asked for, shown, reviewed, and dead with what they hang on.

use crate::api::{Answer, Api};
use crate::send_as;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

async fn with_account(name: &str) -> Api {
    let api = Api::new().await;
    api.post(ACCOUNTS, &json!({"metadata": {"name": name}})).await.ok();
    api
}

async fn request(api: &Api, account: &str, spec: Value) -> Answer {
    api.post(&format!("{ACCOUNTS}/{account}/token"), &json!({"spec": spec}))
        .await
}

async fn token(api: &Api, account: &str, spec: Value) -> String {
    let answer = request(api, account, spec).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    answer.json()["status"]["token"].as_str().unwrap().to_owned()
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

async fn who(api: &Api, token: &str) -> Answer {
    send_as(api, token, "POST", WHO, &json!({})).await
}

async fn pod(api: &Api, name: &str, account: &str) -> Value {
    let pod = json!({"metadata": {"name": name}, "spec": {"serviceAccountName": account,
        "containers": [{"name": "c", "image": "i:1"}]}});
    api.post("/api/v1/namespaces/default/pods", &pod).await.ok()
}

#[tokio::test]
async fn a_token_says_who_its_bearer_is() {
    let api = with_account("web").await;
    let answer = request(&api, "web", json!({"expirationSeconds": 3600})).await.ok();
    assert_eq!(answer["kind"], "TokenRequest");
    assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));
    let token = answer["status"]["token"].as_str().unwrap();
    let claims = claims(token);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert_eq!(claims["sub"], "system:serviceaccount:default:web");
    assert_eq!(claims["kubernetes.io"]["warnafter"], Value::Null);
    let account = api.get(&format!("{ACCOUNTS}/web")).await.ok();
    assert_eq!(
        claims["kubernetes.io"]["serviceaccount"]["uid"],
        account["metadata"]["uid"]
    );
    let user = who(&api, token).await.ok()["status"]["userInfo"].clone();
    assert_eq!(user["username"], "system:serviceaccount:default:web");
    assert_eq!(user["uid"], account["metadata"]["uid"]);
    let groups = [
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    ];
    assert_eq!(user["groups"], json!(groups));
    let id = format!("JTI={}", claims["jti"].as_str().unwrap());
    assert_eq!(user["extra"]["authentication.kubernetes.io/credential-id"], json!([id]));
}

#[tokio::test]
async fn a_token_of_a_pod_tells_its_pod_and_node_and_dies_with_it() {
    let api = with_account("web").await;
    let node = api
        .post("/api/v1/nodes", &json!({"metadata": {"name": "vm"}}))
        .await
        .ok();
    let pod = pod(&api, "web-0", "web").await;
    let binding = json!({"metadata": {"name": "web-0"}, "target": {"kind": "Node", "name": "vm"}});
    api.post("/api/v1/namespaces/default/pods/web-0/binding", &binding)
        .await
        .ok();
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "web-0", "uid": pod["metadata"]["uid"]});
    let token = token(&api, "web", json!({"expirationSeconds": 3607, "boundObjectRef": bound})).await;
    let claims = claims(&token);
    let (start, end) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert_eq!(claims["kubernetes.io"]["warnafter"], json!(start + 3607));
    assert_eq!(end - start, 365 * 24 * 3600);
    assert_eq!(
        claims["kubernetes.io"]["node"],
        json!({"name": "vm", "uid": node["metadata"]["uid"]})
    );
    let extra = who(&api, &token).await.ok()["status"]["userInfo"]["extra"].clone();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["web-0"]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["vm"]));
    let path = "/api/v1/namespaces/default/pods/web-0";
    api.delete(path, &json!({"gracePeriodSeconds": 0})).await.ok();
    assert_eq!(who(&api, &token).await.failure().0, 401);
    // Another pod of the name is another pod.
    crate::tokens::pod(&api, "web-0", "web").await;
    assert_eq!(who(&api, &token).await.failure().0, 401);
}

#[tokio::test]
async fn a_token_dies_with_its_account_and_its_secret() {
    let api = with_account("web").await;
    let secrets = "/api/v1/namespaces/default/secrets";
    api.post(secrets, &json!({"metadata": {"name": "s"}})).await.ok();
    let bound = json!({"kind": "Secret", "apiVersion": "v1", "name": "s"});
    let of_secret = token(&api, "web", json!({"boundObjectRef": bound})).await;
    let of_account = token(&api, "web", json!({})).await;
    api.delete(&format!("{secrets}/s"), &Value::Null).await.ok();
    assert_eq!(who(&api, &of_secret).await.code, 401);
    assert_eq!(who(&api, &of_account).await.code, 201);
    api.delete(&format!("{ACCOUNTS}/web"), &Value::Null).await.ok();
    api.post(ACCOUNTS, &json!({"metadata": {"name": "web"}})).await.ok();
    assert_eq!(who(&api, &of_account).await.code, 401);
}

#[tokio::test]
async fn requests_for_tokens_are_checked() {
    let api = with_account("web").await;
    pod(&api, "other", "default").await;
    let check = async |spec: Value, code: u16, part: &str| {
        let (found, _, message) = request(&api, "web", spec).await.failure();
        assert_eq!(found, code, "{message}");
        assert!(message.contains(part), "{message}");
    };
    check(
        json!({"expirationSeconds": 599}),
        422,
        "may not specify a duration less than 10 minutes",
    )
    .await;
    check(
        json!({"expirationSeconds": 4294967297i64}),
        422,
        "larger than 2^32 seconds",
    )
    .await;
    let of = |kind: &str, version: &str, name: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": version, "name": name}});
    check(
        of("ConfigMap", "v1", "x"),
        400,
        "cannot bind token to object of type /v1, Kind=ConfigMap",
    )
    .await;
    check(of("Pod", "v1", "absent"), 404, "pods \"absent\" not found").await;
    check(
        of("Pod", "v1", "other"),
        400,
        "serviceaccount \"web\" to pod running with serviceaccount \"default\"",
    )
    .await;
    let stale = json!({"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "s", "uid": "1"}});
    api.post(
        "/api/v1/namespaces/default/secrets",
        &json!({"metadata": {"name": "s"}}),
    )
    .await
    .ok();
    check(stale, 409, "the UID in the bound object reference (1) does not match").await;
    assert_eq!(request(&api, "absent", json!({})).await.failure().0, 404);
    assert_eq!(api.get(&format!("{ACCOUNTS}/web/token")).await.code, 405);
}

#[tokio::test]
async fn forged_and_foreign_tokens_are_refused() {
    let (api, other) = (with_account("web").await, with_account("web").await);
    let good = token(&api, "web", json!({})).await;
    let foreign = token(&other, "web", json!({})).await;
    let elsewhere = token(&api, "web", json!({"audiences": ["vault"]})).await;
    let cut = &good[..good.len() - 4];
    for refused in [foreign.as_str(), &elsewhere, cut, "a.b.c", "x", &"A".repeat(20_000)] {
        let (code, reason, message) = who(&api, refused).await.failure();
        assert_eq!(
            (code, reason.as_str(), message.as_str()),
            (401, "Unauthorized", "Unauthorized")
        );
    }
    assert_eq!(who(&api, &good).await.code, 201);
    assert_eq!(who(&api, "").await.code, 401);
}

#[tokio::test]
async fn reviews_tell_whose_a_token_is_and_for_whom() {
    let api = with_account("web").await;
    let token = token(&api, "web", json!({"audiences": ["vault", "other"]})).await;
    let review = async |spec: Value| api.post(REVIEWS, &json!({"spec": spec})).await;
    let answer = review(json!({"token": token, "audiences": ["vault"]})).await.ok();
    assert_eq!(answer["status"]["authenticated"], true);
    assert_eq!(answer["status"]["audiences"], json!(["vault"]));
    assert_eq!(
        answer["status"]["user"]["username"],
        "system:serviceaccount:default:web"
    );
    let answer = review(json!({"token": token})).await.ok();
    assert_eq!(answer["status"]["authenticated"], Value::Null);
    let why = answer["status"]["error"].as_str().unwrap();
    assert!(
        why.starts_with("[invalid bearer token, token audiences [\"vault\", \"other\"]"),
        "{why}"
    );
    assert_eq!(review(json!({})).await.failure().0, 400);
}

#[tokio::test]
async fn anybody_can_check_tokens_with_the_published_keys() {
    let api = with_account("web").await;
    let token = token(&api, "web", json!({})).await;
    let document = api.get("/.well-known/openid-configuration").await.ok();
    assert_eq!(document["issuer"], ISSUER);
    assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
    assert!(document["jwks_uri"].as_str().unwrap().ends_with("/openid/v1/jwks"));
    let answer = api.get("/openid/v1/jwks").await;
    assert_eq!(answer.headers["content-type"], "application/jwk-set+json");
    let key = answer.ok()["keys"][0].clone();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let head = URL_SAFE_NO_PAD.decode(signed.split('.').next().unwrap()).unwrap();
    let head: Value = serde_json::from_slice(&head).unwrap();
    assert_eq!(head["kid"], key["kid"]);
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
}

#[tokio::test]
async fn a_token_secret_is_filled_and_its_token_is_good_while_it_exists() {
    let api = with_account("web").await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "web-token", "annotations": {"kubernetes.io/service-account.name": "web"}},
        "type": "kubernetes.io/service-account-token"});
    let made = api.post(secrets, &secret).await.ok();
    let token = STANDARD.decode(made["data"]["token"].as_str().unwrap()).unwrap();
    let token = String::from_utf8(token).unwrap();
    assert_eq!(made["data"]["namespace"], json!(STANDARD.encode("default")));
    let user = who(&api, &token).await.ok()["status"]["userInfo"]["username"].clone();
    assert_eq!(user, "system:serviceaccount:default:web");
    api.delete(&format!("{secrets}/web-token"), &Value::Null).await.ok();
    assert_eq!(who(&api, &token).await.code, 401);
}

#[tokio::test]
async fn a_bootstrap_token_lets_a_machine_join() {
    let api = Api::new().await;
    let data = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:workers"});
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "stringData": data});
    api.post("/api/v1/namespaces/kube-system/secrets", &secret).await.ok();
    let user = who(&api, "abcdef.0123456789abcdef").await.ok()["status"]["userInfo"].clone();
    assert_eq!(user["username"], "system:bootstrap:abcdef");
    let groups = [
        "system:bootstrappers",
        "system:bootstrappers:workers",
        "system:authenticated",
    ];
    assert_eq!(user["groups"], json!(groups));
    assert_eq!(who(&api, "abcdef.0123456789abcdee").await.code, 401);
}

#[tokio::test]
async fn pods_run_as_accounts_with_their_tokens_and_secrets() {
    let api = Api::with(apiserver::Config {
        root_ca: Some("PEM".to_owned()),
        ..apiserver::Config::default()
    })
    .await;
    let account = json!({"metadata": {"name": "web"}, "imagePullSecrets": [{"name": "registry"}]});
    api.post(ACCOUNTS, &account).await.ok();
    let spec = pod(&api, "a", "web").await["spec"].clone();
    let volume = &spec["volumes"][0];
    assert!(volume["name"].as_str().unwrap().starts_with("kube-api-access-"));
    let token = json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}});
    assert_eq!(volume["projected"]["sources"][0], token);
    let mount = json!({"name": volume["name"], "readOnly": true,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    assert_eq!(spec["containers"][0]["volumeMounts"], json!([mount]));
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
    // The account's wish not to, and a pod's own.
    api.patch(
        &format!("{ACCOUNTS}/web"),
        "merge",
        &json!({"automountServiceAccountToken": false}),
    )
    .await
    .ok();
    assert_eq!(pod(&api, "b", "web").await["spec"]["volumes"], Value::Null);
    let wish = json!({"metadata": {"name": "c"}, "spec": {"serviceAccountName": "web", "automountServiceAccountToken": true,
        "containers": [{"name": "c", "image": "i:1"}]}});
    let made = api.post("/api/v1/namespaces/default/pods", &wish).await.ok();
    assert_eq!(made["spec"]["volumes"].as_array().unwrap().len(), 1);
    let absent = json!({"metadata": {"name": "d"}, "spec": {"serviceAccountName": "absent",
        "containers": [{"name": "c", "image": "i:1"}]}});
    let (code, _, message) = api.post("/api/v1/namespaces/default/pods", &absent).await.failure();
    assert_eq!(code, 403);
    let expected = "pods \"d\" is forbidden: error looking up service account default/absent: serviceaccount \"absent\" \
                    not found";
    assert_eq!(message, expected);
}
