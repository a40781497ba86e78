//! Server-side apply: who owns which field, what conflicts, what goes.

use crate::scene::{Idea, Scene};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

pub(crate) const IDEAS: &[Idea] = &[
    ("apply: fields have owners", |scene| Box::pin(owners(scene))),
    ("apply: conflicts are named and forced", |scene| {
        Box::pin(conflicts(scene))
    }),
    ("apply: lists merge by their keys", |scene| Box::pin(lists(scene))),
    ("apply: what is not applied any more goes", |scene| {
        Box::pin(removal(scene))
    }),
    ("apply: subresources have managers of their own", |scene| {
        Box::pin(subresources(scene))
    }),
    ("apply: what is wrong with one", |scene| Box::pin(wrong(scene))),
];

fn map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

async fn apply(scene: &Scene, manager: &str, object: &Value) -> anyhow::Result<Value> {
    let path = format!("{}/m?fieldManager={manager}", scene.core("configmaps"));
    scene.api.apply(&path, object).await?.ok()
}

/// What a manager owns by an operation.
fn owned<'a>(object: &'a Value, manager: &str, operation: &str) -> Option<&'a Value> {
    let managers = object["metadata"]["managedFields"].as_array()?;
    let own = managers
        .iter()
        .find(|entry| entry["manager"] == manager && entry["operation"] == operation)?;
    Some(&own["fieldsV1"])
}

async fn owners(scene: Scene) -> anyhow::Result<()> {
    let path = format!("{}/m", scene.core("configmaps"));
    let made = scene
        .api
        .apply(&format!("{path}?fieldManager=anna"), &map(&json!({"a": "1"})))
        .await?;
    made.is(201)?;
    let made = made.ok()?;
    let fields = owned(&made, "anna", "Apply").context("anna owns nothing")?;
    ensure!(*fields == json!({"f:data": {"f:a": {}}}), "{fields}");
    let entry = &made["metadata"]["managedFields"][0];
    ensure!(
        entry["apiVersion"] == "v1" && entry["fieldsType"] == "FieldsV1",
        "{entry}"
    );
    ensure!(entry["time"].is_string(), "{entry}");
    // Two may say the same.
    let shared = apply(&scene, "bert", &map(&json!({"a": "1", "b": "2"}))).await?;
    ensure!(
        owned(&shared, "bert", "Apply") == Some(&json!({"f:data": {"f:a": {}, "f:b": {}}})),
        "{shared}"
    );
    ensure!(owned(&shared, "anna", "Apply").is_some(), "{shared}");
    // Applying the same again changes nothing.
    let again = apply(&scene, "bert", &map(&json!({"a": "1", "b": "2"}))).await?;
    ensure!(again["metadata"]["resourceVersion"] == shared["metadata"]["resourceVersion"]);
    // A plain update takes what it changes, and shares nothing.
    let patch = json!({"data": {"b": "3"}});
    let patched = scene
        .api
        .patch(&format!("{path}?fieldManager=carl"), "merge", &patch)
        .await?
        .ok()?;
    ensure!(
        owned(&patched, "carl", "Update") == Some(&json!({"f:data": {"f:b": {}}})),
        "{patched}"
    );
    ensure!(
        owned(&patched, "bert", "Apply") == Some(&json!({"f:data": {"f:a": {}}})),
        "{patched}"
    );
    // Without a manager the client's name stands in.
    let client = scene.api.with_headers(&[("User-Agent", "walker/1.2 (test)")]);
    let patched = client.patch(&path, "merge", &json!({"data": {"w": "1"}})).await?.ok()?;
    ensure!(owned(&patched, "walker", "Update").is_some(), "{}", patched["metadata"]);
    // An empty list of managers forgets them all.
    let forget = json!({"metadata": {"managedFields": [{}]}});
    let forgot = scene.api.patch(&path, "merge", &forget).await?.ok()?;
    ensure!(owned(&forgot, "anna", "Apply").is_none(), "{}", forgot["metadata"]);
    Ok(())
}

async fn conflicts(scene: Scene) -> anyhow::Result<()> {
    let path = format!("{}/m", scene.core("configmaps"));
    apply(&scene, "anna", &map(&json!({"a": "1", "b": "1", "c": "1"}))).await?;
    let other = map(&json!({"a": "2", "b": "2"}));
    let refused = scene.api.apply(&format!("{path}?fieldManager=bert"), &other).await?;
    refused.says(
        409,
        "Conflict",
        "Apply failed with 2 conflicts: conflicts with \"anna\":\n- .data.a\n- .data.b",
    )?;
    let status: Value = serde_json::from_str(&refused.text)?;
    let causes = status["details"]["causes"].as_array().context("no causes")?;
    ensure!(causes.len() == 2, "{status}");
    for (cause, field) in causes.iter().zip([".data.a", ".data.b"]) {
        ensure!(
            cause["reason"] == "FieldManagerConflict" && cause["field"] == field,
            "{status}"
        );
        ensure!(cause["message"] == "conflict with \"anna\"", "{status}");
    }
    let one = scene
        .api
        .apply(&format!("{path}?fieldManager=bert"), &map(&json!({"a": "2"})))
        .await?;
    one.says(
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"anna\": .data.a",
    )?;
    ensure!(scene.api.get(&path).await?.ok()?["data"]["a"] == "1");
    let forced = scene
        .api
        .apply(&format!("{path}?fieldManager=bert&force=true"), &other)
        .await?
        .ok()?;
    ensure!(forced["data"] == json!({"a": "2", "b": "2", "c": "1"}), "{forced}");
    ensure!(
        owned(&forced, "anna", "Apply") == Some(&json!({"f:data": {"f:c": {}}})),
        "{forced}"
    );
    let path_of_trial = format!("{path}?fieldManager=anna&force=true&dryRun=All");
    let dry = scene.api.apply(&path_of_trial, &map(&json!({"a": "3"}))).await?;
    ensure!(dry.ok()?["data"]["a"] == "3");
    ensure!(
        scene.api.get(&path).await?.ok()?["data"]["a"] == "2",
        "a trial is stored"
    );
    Ok(())
}

fn deployment(containers: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": containers}}}})
}

async fn lists(scene: Scene) -> anyhow::Result<()> {
    let path = format!("{}/d", scene.of("apps/v1", "deployments"));
    let both = json!([{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]}, {"name": "b", "image": "b:1"}]);
    let made = scene
        .api
        .apply(&format!("{path}?fieldManager=anna"), &deployment(&both))
        .await?
        .ok()?;
    let fields = owned(&made, "anna", "Apply").context("nothing")?;
    let containers = &fields["f:spec"]["f:template"]["f:spec"]["f:containers"];
    let port = &containers[r#"k:{"name":"a"}"#]["f:ports"][r#"k:{"containerPort":80,"protocol":"TCP"}"#];
    ensure!(port["f:containerPort"] == json!({}), "{fields}");
    // Another adds a container and an argument of its own.
    let more = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": [
        {"name": "sidecar", "image": "s:1"}, {"name": "a", "env": [{"name": "E", "value": "1"}]}]}}}});
    let merged = scene
        .api
        .apply(&format!("{path}?fieldManager=bert"), &more)
        .await?
        .ok()?;
    let names = |object: &Value| -> Vec<String> {
        let containers = object["spec"]["template"]["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten();
        containers
            .map(|one| one["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let mut sorted = names(&merged);
    sorted.sort();
    ensure!(sorted == ["a", "b", "sidecar"], "{merged}");
    // The first takes one of its own away; what the other has stays.
    let one = json!([{"name": "a", "image": "a:2", "ports": [{"containerPort": 80}]}]);
    let merged = scene
        .api
        .apply(&format!("{path}?fieldManager=anna"), &deployment(&one))
        .await?
        .ok()?;
    let mut sorted = names(&merged);
    sorted.sort();
    ensure!(sorted == ["a", "sidecar"], "{merged}");
    let containers = merged["spec"]["template"]["spec"]["containers"]
        .as_array()
        .context("none")?;
    let a = containers.iter().find(|one| one["name"] == "a").context("a is gone")?;
    ensure!(a["image"] == "a:2" && a["env"][0]["name"] == "E", "{a}");
    // A scale through its subresource takes the field over: the next apply conflicts.
    let scaler = format!("{path}/scale?fieldManager=scaler");
    let one_more = json!({"spec": {"replicas": 1}});
    scene.api.patch(&scaler, "merge", &one_more).await?.ok()?;
    let refused = scene
        .api
        .apply(&format!("{path}?fieldManager=anna"), &deployment(&one))
        .await?;
    refused.says(409, "Conflict", ".spec.replicas")?;
    scene
        .api
        .delete(&path, &json!({"propagationPolicy": "Background"}))
        .await?
        .ok()
        .map(drop)
}

async fn removal(scene: Scene) -> anyhow::Result<()> {
    apply(&scene, "anna", &map(&json!({"a": "1", "b": "1", "c": "1"}))).await?;
    apply(&scene, "bert", &map(&json!({"c": "1"}))).await?;
    let path = format!("{}/m?fieldManager=carl", scene.core("configmaps"));
    scene
        .api
        .patch(&path, "merge", &json!({"data": {"d": "1"}}))
        .await?
        .ok()?;
    let left = apply(&scene, "anna", &map(&json!({"a": "1"}))).await?;
    ensure!(left["data"] == json!({"a": "1", "c": "1", "d": "1"}), "{left}");
    let left = apply(&scene, "bert", &json!({"apiVersion": "v1", "kind": "ConfigMap"})).await?;
    ensure!(left["data"] == json!({"a": "1", "d": "1"}), "{left}");
    Ok(())
}

async fn subresources(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    scene.api.post(&pods, &crate::scene::pod("p")).await?.is(201)?;
    let status = json!({"apiVersion": "v1", "kind": "Pod", "status": {"conditions": [
        {"type": "Walked", "status": "True"}]}});
    let path = format!("{pods}/p/status?fieldManager=anna");
    let applied = scene.api.apply(&path, &status).await?.ok()?;
    let managers = applied["metadata"]["managedFields"].as_array().context("no managers")?;
    let own = managers
        .iter()
        .find(|entry| entry["manager"] == "anna")
        .context("not anna")?;
    ensure!(own["subresource"] == "status" && own["operation"] == "Apply", "{own}");
    let condition = &own["fieldsV1"]["f:status"]["f:conditions"][r#"k:{"type":"Walked"}"#];
    ensure!(condition["f:status"] == json!({}), "{own}");
    Ok(())
}

async fn wrong(scene: Scene) -> anyhow::Result<()> {
    let path = format!("{}/m", scene.core("configmaps"));
    let send = |query: &str, object: Value| {
        let (api, path) = (scene.api.clone(), format!("{path}{query}"));
        async move { api.apply(&path, &object).await }
    };
    send("", map(&json!({}))).await?.fails(422, "Invalid")?;
    let long = format!("?fieldManager={}", "x".repeat(129));
    send(&long, map(&json!({}))).await?.fails(422, "Invalid")?;
    let nameless = json!({"data": {"a": "1"}});
    send("?fieldManager=anna", nameless).await?.fails(400, "BadRequest")?;
    let mut renamed = map(&json!({}));
    renamed["metadata"] = json!({"name": "other"});
    send("?fieldManager=anna", renamed).await?.fails(400, "BadRequest")?;
    let mut managed = map(&json!({}));
    managed["metadata"] = json!({"managedFields": [{"manager": "x", "operation": "Apply", "apiVersion": "v1"}]});
    send("?fieldManager=anna", managed)
        .await?
        .says(400, "BadRequest", "managedFields must be nil")?;
    // What is not there has only the name that is applied.
    let mut unnamed = map(&json!({}));
    unnamed["metadata"] = json!({});
    send("?fieldManager=anna", unnamed)
        .await?
        .says(400, "BadRequest", "name must be provided")?;
    scene.map("m", &json!({"a": "1"})).await?;
    let mut stale = map(&json!({"a": "2"}));
    stale["metadata"] = json!({"resourceVersion": "1"});
    send("?fieldManager=anna&force=true", stale)
        .await?
        .fails(409, "Conflict")?;
    let twice = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a"}, {"name": "a"}]}});
    let pod = format!("{}/p?fieldManager=anna", scene.core("pods"));
    let refused = scene.api.apply(&pod, &twice).await?;
    ensure!(matches!(refused.code, 400 | 422 | 500), "{}", refused.text);
    let kept = scene.api.get(&path).await?.ok()?;
    ensure!(kept["data"] == json!({"a": "1"}), "{kept}");
    Ok(())
}
