//! What roles give, who may give them, and what is said about it.

use crate::api::{Answer, Api};
use apiserver::User;
use serde_json::{Value, json};

const GROUP: &str = "/apis/rbac.authorization.k8s.io/v1";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

fn user(name: &str) -> User {
    User::new(name, ["system:authenticated"])
}

fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources})
}

fn subject(name: &str) -> Value {
    json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

async fn cluster_role(api: &Api, name: &str, rules: Value) {
    let role = json!({"metadata": {"name": name}, "rules": rules});
    api.post(&format!("{GROUP}/clusterroles"), &role).await.ok();
}

async fn bind(api: &Api, name: &str, role: &str, subject: Value) {
    let binding = json!({"metadata": {"name": name}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}});
    api.post(&format!("{GROUP}/clusterrolebindings"), &binding).await.ok();
}

async fn bind_in(api: &Api, namespace: &str, name: &str, role: (&str, &str), subject: Value) -> Answer {
    let binding = json!({"metadata": {"name": name}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1}});
    api.post(&format!("{GROUP}/namespaces/{namespace}/rolebindings"), &binding)
        .await
}

#[tokio::test]
async fn nobody_may_do_what_no_role_gives() {
    let api = Api::new().await;
    let anna = api.as_user(user("anna"));
    let (code, reason, message) = anna.get("/api/v1/namespaces/default/pods").await.failure();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    let expected = "pods is forbidden: User \"anna\" cannot list resource \"pods\" in API group \"\" in the namespace \
                    \"default\"";
    assert_eq!(message, expected);
    let (_, _, message) = anna.get("/metrics").await.failure();
    assert_eq!(message, "forbidden: User \"anna\" cannot get path \"/metrics\"");
    // What everybody may do.
    assert_eq!(anna.get("/apis").await.code, 200);
    assert_eq!(anna.get("/openapi/v3").await.code, 200);
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    assert_eq!(anna.post(who, &json!({})).await.code, 201);
}

#[tokio::test]
async fn a_binding_counts_for_the_very_next_request() {
    let api = Api::new().await;
    let anna = api.as_user(user("anna"));
    cluster_role(
        &api,
        "readers",
        json!([rule(&["get", "list"], "", &["pods", "pods/log"])]),
    )
    .await;
    bind_in(&api, "default", "b", ("ClusterRole", "readers"), subject("anna"))
        .await
        .ok();
    assert_eq!(anna.get("/api/v1/namespaces/default/pods").await.code, 200);
    assert_eq!(anna.get("/api/v1/namespaces/kube-system/pods").await.code, 403);
    assert_eq!(anna.get("/api/v1/pods").await.code, 403);
    assert_eq!(anna.get("/api/v1/namespaces/default/pods/x/log").await.code, 404);
    assert_eq!(anna.get("/api/v1/namespaces/default/pods/x/status").await.code, 403);
    assert_eq!(
        anna.delete("/api/v1/namespaces/default/pods/x", &Value::Null)
            .await
            .code,
        403
    );
    bind(&api, "b", "readers", subject("anna")).await;
    assert_eq!(anna.get("/api/v1/pods").await.code, 200);
}

#[tokio::test]
async fn names_narrow_rights_to_objects() {
    let api = Api::new().await;
    let anna = api.as_user(user("anna"));
    let maps = "/api/v1/namespaces/default/configmaps";
    api.config_map("mine", json!({}), json!({})).await;
    api.config_map("yours", json!({}), json!({})).await;
    let mut rule = rule(&["get", "list", "watch", "delete"], "", &["configmaps"]);
    rule["resourceNames"] = json!(["mine"]);
    cluster_role(&api, "mine", json!([rule])).await;
    bind(&api, "b", "mine", subject("anna")).await;
    assert_eq!(anna.get(&format!("{maps}/mine")).await.code, 200);
    assert_eq!(anna.get(&format!("{maps}/yours")).await.code, 403);
    assert_eq!(anna.get(maps).await.code, 403);
    let one = anna
        .get(&format!("{maps}?fieldSelector=metadata.name%3Dmine"))
        .await
        .ok();
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_namespace_lies_in_itself() {
    let api = Api::new().await;
    let anna = api.as_user(user("anna"));
    bind_in(&api, "default", "b", ("ClusterRole", "view"), subject("anna"))
        .await
        .ok();
    assert_eq!(anna.get("/api/v1/namespaces/default").await.code, 200);
    let (_, _, message) = anna.get("/api/v1/namespaces/kube-system").await.failure();
    assert!(message.ends_with("in the namespace \"kube-system\""), "{message}");
}

#[tokio::test]
async fn the_default_roles_aggregate() {
    let api = Api::new().await;
    let admin = api.get(&format!("{GROUP}/clusterroles/admin")).await.ok();
    let rules = admin["rules"].to_string();
    assert!(rules.contains("rolebindings") && rules.contains("pods/exec") && rules.contains("controllerrevisions"));
    let label = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let role =
        json!({"metadata": {"name": "charts", "labels": label}, "rules": [rule(&["get"], "acme.com", &["charts"])]});
    api.post(&format!("{GROUP}/clusterroles"), &role).await.ok();
    bind_in(&api, "default", "b", ("ClusterRole", "view"), subject("anna"))
        .await
        .ok();
    let asked = json!({"spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "group": "acme.com",
        "resource": "charts"}}});
    let anna = api.as_user(user("anna"));
    let answer = anna
        .post(&format!("{REVIEWS}/selfsubjectaccessreviews"), &asked)
        .await
        .ok();
    assert_eq!(answer["status"]["allowed"], true);
    let why = answer["status"]["reason"].as_str().unwrap();
    assert_eq!(
        why,
        "RBAC: allowed by RoleBinding \"b/default\" of ClusterRole \"view\" to User \"anna\""
    );
    // The rules are shown as well, in a moment.
    let mut events = api
        .watch(&format!(
            "{GROUP}/clusterroles?watch=true&fieldSelector=metadata.name%3Dview"
        ))
        .await;
    while !events.next().await.unwrap()["object"]["rules"]
        .to_string()
        .contains("acme.com")
    {}
}

#[tokio::test]
async fn nobody_gives_what_he_does_not_have() {
    let api = Api::new().await;
    let anna = api.as_user(user("anna"));
    bind_in(&api, "default", "b", ("ClusterRole", "admin"), subject("anna"))
        .await
        .ok();
    let roles = format!("{GROUP}/namespaces/default/roles");
    let role = |name: &str, rules: Value| json!({"metadata": {"name": name}, "rules": rules});
    let own = role("own", json!([rule(&["get"], "", &["pods"])]));
    assert_eq!(anna.post(&roles, &own).await.code, 201);
    let more = role(
        "more",
        json!([rule(&["get", "delete"], "", &["nodes"]), rule(&["get"], "", &["pods"])]),
    );
    let (code, _, message) = anna.post(&roles, &more).await.failure();
    assert_eq!(code, 403);
    let expected = "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"anna\" (groups=[\"system:authenticated\"]) \
                    is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], \
                    Resources:[\"nodes\"], Verbs:[\"get\" \"delete\"]}";
    assert_eq!(message, expected);
    // The same by an update, by a patch, and by binding.
    let path = format!("{roles}/own");
    assert_eq!(
        anna.put(&path, &role("own", json!([rule(&["*"], "*", &["*"])])))
            .await
            .code,
        403
    );
    let patch = json!({"rules": [rule(&["get"], "", &["nodes"])]});
    assert_eq!(anna.patch(&path, "merge", &patch).await.code, 403);
    assert_eq!(
        anna.patch(&path, "merge", &json!({"metadata": {"labels": {"a": "b"}}}))
            .await
            .code,
        200
    );
    let bound = bind_in(&anna, "default", "c", ("ClusterRole", "cluster-admin"), subject("anna")).await;
    assert_eq!(bound.code, 403, "{}", bound.text);
    assert_eq!(
        bind_in(&anna, "default", "c", ("Role", "own"), subject("bert"))
            .await
            .code,
        201
    );
    assert_eq!(
        bind_in(&anna, "default", "d", ("Role", "absent"), subject("bert"))
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn escalate_and_bind_are_rights_of_their_own() {
    let api = Api::new().await;
    let anna = api.as_user(user("anna"));
    let verbs = ["create", "escalate", "bind"];
    let resources = ["clusterroles", "clusterrolebindings"];
    cluster_role(
        &api,
        "roles",
        json!([rule(&verbs, "rbac.authorization.k8s.io", &resources)]),
    )
    .await;
    bind(&api, "b", "roles", subject("anna")).await;
    cluster_role(&anna, "everything", json!([rule(&["*"], "*", &["*"])])).await;
    bind(&anna, "c", "everything", subject("bert")).await;
    assert_eq!(api.as_user(user("bert")).get("/api/v1/secrets").await.code, 200);
}

#[tokio::test]
async fn reviews_answer_for_others() {
    let api = Api::new().await;
    bind_in(
        &api,
        "default",
        "b",
        ("ClusterRole", "view"),
        json!({"kind": "Group", "name": "viewers"}),
    )
    .await
    .ok();
    let review =
        async |resource: &str, spec: Value| api.post(&format!("{REVIEWS}/{resource}"), &json!({"spec": spec})).await;
    let pods = json!({"namespace": "default", "verb": "list", "resource": "pods"});
    let of = |who: Value, what: &Value| {
        let mut spec = who;
        spec["resourceAttributes"] = what.clone();
        spec
    };
    let sar = "subjectaccessreviews";
    let viewer = json!({"user": "x", "groups": ["viewers"]});
    assert_eq!(
        review(sar, of(viewer.clone(), &pods)).await.ok()["status"]["allowed"],
        true
    );
    assert_eq!(
        review(sar, of(json!({"user": "x"}), &pods)).await.ok()["status"]["allowed"],
        false
    );
    assert_eq!(review(sar, of(json!({}), &pods)).await.code, 422);
    assert_eq!(review(sar, json!({"user": "x"})).await.code, 422);
    let path = json!({"user": "x", "groups": ["system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/api/v1"}});
    assert_eq!(review(sar, path).await.ok()["status"]["allowed"], true);
    let local = |namespace: &str| format!("namespaces/{namespace}/localsubjectaccessreviews");
    assert_eq!(
        review(&local("default"), of(viewer.clone(), &pods)).await.ok()["status"]["allowed"],
        true
    );
    assert_eq!(review(&local("kube-system"), of(viewer, &pods)).await.code, 422);
    let (path, spec) = (
        format!("{REVIEWS}/selfsubjectrulesreviews"),
        json!({"spec": {"namespace": "default"}}),
    );
    let stranger = api.as_user(User::new("x", ["viewers"]));
    assert_eq!(
        stranger.post(&path, &spec).await.code,
        403,
        "only the authenticated may ask"
    );
    let viewer = api.as_user(User::new("x", ["viewers", "system:authenticated"]));
    let status = viewer.post(&path, &spec).await.ok()["status"].clone();
    assert!(status["resourceRules"].to_string().contains("controllerrevisions"));
    assert!(status["nonResourceRules"].to_string().contains("/openapi/*"));
}

#[tokio::test]
async fn acting_for_others_needs_the_right_to() {
    let api = Api::new().await;
    let anna = api.as_user(user("anna"));
    let who = async |api: &Api, headers: &[(&str, &str)]| {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        api.send("POST", path, &all, "{}").await
    };
    let bert = [
        ("impersonate-user", "bert"),
        ("impersonate-group", "a"),
        ("impersonate-extra-scope", "x"),
    ];
    let (code, _, message) = who(&anna, &bert).await.failure();
    assert_eq!(code, 403);
    let expected = "users \"bert\" is forbidden: User \"anna\" cannot impersonate resource \"users\" in API group \"\" at \
                    the cluster scope";
    assert_eq!(message, expected);
    let mut rules = json!([rule(&["impersonate"], "", &["users", "groups"])]);
    cluster_role(&api, "actors", rules.clone()).await;
    bind(&api, "b", "actors", subject("anna")).await;
    assert_eq!(who(&anna, &bert[..2]).await.code, 201);
    let (_, _, message) = who(&anna, &bert).await.failure();
    assert!(
        message.contains("cannot impersonate resource \"userextras/scope\" in API group \"authentication.k8s.io\"")
    );
    rules
        .as_array_mut()
        .unwrap()
        .push(rule(&["impersonate"], "authentication.k8s.io", &["userextras/scope"]));
    api.patch(
        &format!("{GROUP}/clusterroles/actors"),
        "merge",
        &json!({"rules": rules}),
    )
    .await
    .ok();
    let user = who(&anna, &bert).await.ok()["status"]["userInfo"].clone();
    let expected = json!({"username": "bert", "groups": ["a", "system:authenticated"], "extra": {"scope": ["x"]}});
    assert_eq!(user, expected);
    assert_eq!(who(&anna, &[("impersonate-group", "a")]).await.code, 400);
}

#[tokio::test]
async fn default_roles_come_back_and_changes_stay() {
    let api = Api::new().await;
    let path = format!("{GROUP}/clusterroles/system:kube-dns");
    let extra = rule(&["get"], "", &["pods"]);
    api.patch(&path, "merge", &json!({"rules": [extra]})).await.ok();
    let own = format!("{GROUP}/clusterroles/system:node-proxier");
    let off =
        json!({"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "rules": []});
    api.patch(&own, "merge", &off).await.ok();
    api.delete(&format!("{GROUP}/clusterrolebindings/system:discovery"), &Value::Null)
        .await
        .ok();
    let store: std::sync::Arc<dyn store::Store> = api.store.clone();
    apiserver::ApiServer::new(store, apiserver::Config::default())
        .await
        .unwrap();
    let rules = api.get(&path).await.ok()["rules"].clone();
    assert_eq!(rules[0], extra);
    assert!(rules.as_array().unwrap().len() > 1);
    assert_eq!(api.get(&own).await.ok()["rules"].as_array().map_or(0, Vec::len), 0);
    api.get(&format!("{GROUP}/clusterrolebindings/system:discovery"))
        .await
        .ok();
}

#[tokio::test]
async fn exec_needs_create_whatever_the_method() {
    let api = Api::new().await;
    let anna = api.as_user(user("anna"));
    cluster_role(&api, "lookers", json!([rule(&["get"], "", &["pods", "pods/exec"])])).await;
    bind(&api, "b", "lookers", subject("anna")).await;
    let (code, _, message) = anna
        .get("/api/v1/namespaces/default/pods/x/exec?command=id&stdout=1")
        .await
        .failure();
    assert_eq!(code, 403);
    assert!(message.contains("cannot create resource \"pods/exec\""), "{message}");
}
