//! Who may do what: roles, reviews, impersonation, strangers.

use crate::scene::{Idea, Scene};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

pub(crate) const IDEAS: &[Idea] = &[
    ("access: roles allow, and nothing else does", |scene| {
        Box::pin(roles(scene))
    }),
    ("access: cluster roles, alone and gathered", |scene| {
        Box::pin(cluster_roles(scene))
    }),
    ("access: nobody gives what he has not", |scene| {
        Box::pin(escalation(scene))
    }),
    ("access: reviews answer as the server decides", |scene| {
        Box::pin(reviews(scene))
    }),
    ("access: acting as others", |scene| Box::pin(impersonation(scene))),
    ("access: strangers", |scene| Box::pin(strangers(scene))),
    ("access: default roles", |scene| Box::pin(default_roles(scene))),
];

const RBAC: &str = "rbac.authorization.k8s.io/v1";

const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

/// Gives a user the rules, in the scene's namespace.
async fn allow(scene: &Scene, user: &str, rules: &Value) -> anyhow::Result<()> {
    let role = json!({"metadata": {"name": user}, "rules": rules});
    scene.api.post(&scene.of(RBAC, "roles"), &role).await?.is(201)?;
    let binding = json!({"metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
    scene.api.post(&scene.of(RBAC, "rolebindings"), &binding).await?.is(201)
}

/// Waits until the server has taken notice of what a user may.
async fn until_allowed(scene: &Scene, user: &str, path: &str) -> anyhow::Result<()> {
    while scene.api.acting_as(user).get(path).await?.code == 403 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn roles(scene: Scene) -> anyhow::Result<()> {
    let maps = scene.core("configmaps");
    scene.map("mine", &json!({})).await?;
    scene.map("other", &json!({})).await?;
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "update", "patch"], "resourceNames": ["mine"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["*/scale"], "verbs": ["get"]}]);
    let (name, path) = (scene.unique("ann"), format!("{maps}/mine"));
    allow(&scene, &name, &rules).await?;
    until_allowed(&scene, &name, &path).await?;
    let ann = scene.api.acting_as(&name);
    ann.get(&path).await?.ok()?;
    ann.patch(&path, "merge", &json!({"data": {"a": "1"}})).await?.ok()?;
    ann.post(&maps, &json!({"metadata": {"name": "new"}})).await?.is(201)?;
    ann.get(&scene.of("apps/v1", "deployments")).await?.ok()?;
    ann.get(&format!("{}/d/scale", scene.of("apps/v1", "deployments")))
        .await?
        .fails(404, "NotFound")?;
    ann.get(&format!("{}/p/log", scene.core("pods")))
        .await?
        .fails(404, "NotFound")?;
    for (method, path, verb, what) in [
        ("GET", format!("{maps}/other"), "get", "configmaps"),
        ("GET", maps.clone(), "list", "configmaps"),
        ("GET", format!("{maps}?watch=true"), "watch", "configmaps"),
        ("DELETE", path.clone(), "delete", "configmaps"),
        ("DELETE", maps.clone(), "deletecollection", "configmaps"),
        ("GET", format!("{}/p", scene.core("pods")), "get", "pods"),
        (
            "GET",
            format!("{}/d", scene.of("apps/v1", "deployments")),
            "get",
            "deployments",
        ),
        (
            "GET",
            format!("{}/s/status", scene.of("apps/v1", "statefulsets")),
            "get",
            "statefulsets/status",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/mine".to_owned(),
            "get",
            "configmaps",
        ),
    ] {
        let answer = ann.send(method, &path, &[], "").await?;
        let words = format!("User \"{name}\" cannot {verb} resource \"{what}\"");
        answer
            .says(403, "Forbidden", &words)
            .with_context(|| format!("{method} {path}"))?;
    }
    // What is taken away is gone.
    scene
        .api
        .delete(&format!("{}/{name}", scene.of(RBAC, "rolebindings")), &Value::Null)
        .await?
        .ok()?;
    while ann.get(&path).await?.code != 403 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn cluster_roles(scene: Scene) -> anyhow::Result<()> {
    let roles = format!("/apis/{RBAC}/clusterroles");
    let bindings = format!("/apis/{RBAC}/clusterrolebindings");
    let (part, whole, group) = (scene.unique("part"), scene.unique("whole"), scene.unique("group"));
    let part_role = json!({"metadata": {"name": part, "labels": {"gather": scene.namespace}}, "rules": [
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]});
    scene.api.post(&roles, &part_role).await?.is(201)?;
    let whole_role = json!({"metadata": {"name": whole},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"gather": scene.namespace}}]}});
    scene.api.post(&roles, &whole_role).await?.is(201)?;
    scene
        .until(&roles, &whole, |role| {
            role["rules"].as_array().is_some_and(|rules| rules.len() == 2)
        })
        .await
        .context("a controller gathers the rules")?;
    let binding = json!({"metadata": {"name": whole},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": whole},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}]});
    scene.api.post(&bindings, &binding).await?.is(201)?;
    let member = scene
        .api
        .with_headers(&[("Impersonate-User", "someone"), ("Impersonate-Group", &group)]);
    while member.get("/api/v1/nodes").await?.code == 403 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    member.get("/metrics").await?.is(200)?;
    member.get("/api/v1/secrets").await?.fails(403, "Forbidden")?;
    member
        .get("/logs")
        .await?
        .says(403, "Forbidden", "User \"someone\" cannot get path \"/logs\"")?;
    for path in [
        format!("{bindings}/{whole}"),
        format!("{roles}/{whole}"),
        format!("{roles}/{part}"),
    ] {
        scene.api.delete(&path, &Value::Null).await?.ok()?;
    }
    Ok(())
}

async fn escalation(scene: Scene) -> anyhow::Result<()> {
    let name = scene.unique("bob");
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"],
            "verbs": ["create", "get", "update", "patch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    allow(&scene, &name, &rules).await?;
    until_allowed(&scene, &name, &scene.core("configmaps")).await?;
    let bob = scene.api.acting_as(&name);
    let roles = scene.of(RBAC, "roles");
    let fair = json!({"metadata": {"name": "fair"}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    bob.post(&roles, &fair).await?.is(201)?;
    let greedy = json!({"metadata": {"name": "greedy"}, "rules": [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    let refused = bob.post(&roles, &greedy).await?;
    refused.says(
        403,
        "Forbidden",
        "is attempting to grant RBAC permissions not currently held",
    )?;
    let more = json!({"rules": [{"apiGroups": [""], "resources": ["*"], "verbs": ["*"]}]});
    bob.patch(&format!("{roles}/fair"), "merge", &more)
        .await?
        .fails(403, "Forbidden")?;
    let binding = |role: &str| {
        json!({"metadata": {"name": role}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]})
    };
    bob.post(&scene.of(RBAC, "rolebindings"), &binding("cluster-admin"))
        .await?
        .fails(403, "Forbidden")?;
    scene.api.get(&format!("{roles}/greedy")).await?.fails(404, "NotFound")
}

async fn reviews(scene: Scene) -> anyhow::Result<()> {
    let name = scene.unique("cat");
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    allow(&scene, &name, &rules).await?;
    until_allowed(&scene, &name, &scene.core("configmaps")).await?;
    let cat = scene.api.acting_as(&name);
    for (verb, resource, allowed) in [
        ("list", "configmaps", true),
        ("create", "configmaps", false),
        ("list", "secrets", false),
    ] {
        let attributes = json!({"namespace": scene.namespace, "verb": verb, "resource": resource});
        let own = json!({"spec": {"resourceAttributes": attributes}});
        let answer = cat
            .post(&format!("{REVIEWS}/selfsubjectaccessreviews"), &own)
            .await?
            .ok()?;
        ensure!(answer["status"]["allowed"] == allowed, "{verb} {resource}: {answer}");
        let about = json!({"spec": {"resourceAttributes": attributes, "user": name}});
        let answer = scene
            .api
            .post(&format!("{REVIEWS}/subjectaccessreviews"), &about)
            .await?
            .ok()?;
        ensure!(answer["status"]["allowed"] == allowed, "{verb} {resource}: {answer}");
        let local = json!({"metadata": {"namespace": scene.namespace}, "spec": {"resourceAttributes": attributes, "user": name}});
        let path = scene.of("authorization.k8s.io/v1", "localsubjectaccessreviews");
        let answer = scene.api.post(&path, &local).await?.ok()?;
        ensure!(answer["status"]["allowed"] == allowed, "{verb} {resource}: {answer}");
    }
    let url = json!({"spec": {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}});
    let answer = cat
        .post(&format!("{REVIEWS}/selfsubjectaccessreviews"), &url)
        .await?
        .ok()?;
    ensure!(answer["status"]["allowed"] == false, "{answer}");
    let rules = json!({"spec": {"namespace": scene.namespace}});
    let answer = cat
        .post(&format!("{REVIEWS}/selfsubjectrulesreviews"), &rules)
        .await?
        .ok()?;
    let own = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["configmaps"]});
    let listed = answer["status"]["resourceRules"].as_array().context("no rules")?;
    ensure!(listed.contains(&own), "{answer}");
    let empty = json!({"spec": {}});
    scene
        .api
        .post(&format!("{REVIEWS}/subjectaccessreviews"), &empty)
        .await?
        .fails(422, "Invalid")?;
    // Asking about others is a right of its own.
    let about = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}, "user": "x"}});
    cat.post(&format!("{REVIEWS}/subjectaccessreviews"), &about)
        .await?
        .fails(403, "Forbidden")
}

async fn impersonation(scene: Scene) -> anyhow::Result<()> {
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let dora = scene.api.with_headers(&[
        ("Impersonate-User", "dora"),
        ("Impersonate-Group", "explorers"),
        ("Impersonate-Extra-Scopes", "jungle"),
    ]);
    let answer = dora.post(reviews, &json!({})).await?;
    // Releases before 1.28 do not have this review.
    if answer.code != 404 {
        let user = answer.ok()?["status"]["userInfo"].clone();
        ensure!(
            user["username"] == "dora" && user["extra"] == json!({"scopes": ["jungle"]}),
            "{user}"
        );
        ensure!(user["groups"] == json!(["explorers", "system:authenticated"]), "{user}");
    }
    dora.get("/api/v1/nodes")
        .await?
        .says(403, "Forbidden", "User \"dora\" cannot list resource \"nodes\"")?;
    let group = scene
        .api
        .with_headers(&[("Impersonate-User", "dora"), ("Impersonate-Group", "system:masters")]);
    group.get("/api/v1/nodes").await?.ok()?;
    // A group alone is nobody.
    let nobody = scene.api.with_headers(&[("Impersonate-Group", "system:masters")]);
    let answer = nobody.get("/api/v1/nodes").await?;
    ensure!(matches!(answer.code, 400 | 401 | 500), "{}", answer.text);
    // Who may not act as others is told so.
    let robot = scene.api.stranger(None)?.acting_as("system:admin");
    let answer = robot.get("/api/v1/nodes").await?;
    ensure!(matches!(answer.code, 401 | 403), "{}", answer.text);
    Ok(())
}

async fn strangers(scene: Scene) -> anyhow::Result<()> {
    let nobody = scene.api.stranger(None)?;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        nobody.get(path).await?.is(200).with_context(|| path.to_owned())?;
    }
    for path in [
        "/api/v1/pods",
        "/apis/apps/v1/deployments",
        "/metrics",
        "/api/v1/namespaces/kube-system/secrets",
    ] {
        let answer = nobody.get(path).await?;
        ensure!(matches!(answer.code, 401 | 403), "{path}: {}", answer.text);
        ensure!(answer.text.contains("\"kind\":\"Status\""), "{path}: {}", answer.text);
    }
    let posted = nobody
        .post(&scene.core("configmaps"), &json!({"metadata": {"name": "x"}}))
        .await?;
    ensure!(matches!(posted.code, 401 | 403), "{}", posted.text);
    for token in [
        "nonsense",
        "a.b.c",
        // Signed by nobody, and expired long ago.
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzeXN0ZW06YWRtaW4iLCJleHAiOjF9.",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6a3ViZS1zeXN0ZW06ZGVmYXVsdCJ9.AAAA",
    ] {
        let answer = scene.api.stranger(Some(token))?.get("/api/v1/pods").await?;
        answer
            .says(401, "Unauthorized", "Unauthorized")
            .with_context(|| token.to_owned())?;
    }
    Ok(())
}

async fn default_roles(scene: Scene) -> anyhow::Result<()> {
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:discovery",
        "system:basic-user",
        "system:node",
    ] {
        let role = scene
            .api
            .get(&format!("/apis/{RBAC}/clusterroles/{name}"))
            .await?
            .ok()?;
        ensure!(
            role["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults",
            "{role}"
        );
    }
    let user = scene.unique("eve");
    let bindings = scene.of(RBAC, "rolebindings");
    let binding = json!({"metadata": {"name": "eve"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
    scene.api.post(&bindings, &binding).await?.is(201)?;
    until_allowed(&scene, &user, &scene.core("pods")).await?;
    let eve = scene.api.acting_as(&user);
    for plural in [
        "configmaps",
        "services",
        "endpoints",
        "persistentvolumeclaims",
        "serviceaccounts",
    ] {
        eve.get(&scene.core(plural))
            .await?
            .ok()
            .with_context(|| plural.to_owned())?;
    }
    eve.get(&scene.of("apps/v1", "statefulsets")).await?.ok()?;
    eve.get(&scene.core("secrets")).await?.fails(403, "Forbidden")?;
    eve.post(&scene.core("configmaps"), &json!({"metadata": {"name": "x"}}))
        .await?
        .fails(403, "Forbidden")?;
    // Everybody who is known may ask what there is.
    for path in ["/api", "/apis", "/openapi/v2", "/version"] {
        eve.get(path).await?.is(200)?;
    }
    Ok(())
}
