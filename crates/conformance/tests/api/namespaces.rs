//! The life of a namespace: what it is born with, how it goes, what may not go.

use crate::scene::{Idea, Scene};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

pub(crate) const IDEAS: &[Idea] = &[
    ("namespaces: what each is born with", |scene| Box::pin(born(scene))),
    ("namespaces: all goes with one", |scene| Box::pin(dying(scene))),
    ("namespaces: finalizers hold one", |scene| Box::pin(held(scene))),
    ("namespaces: some may not go", |scene| Box::pin(protected(scene))),
];

const NAMESPACES: &str = "/api/v1/namespaces";

async fn born(scene: Scene) -> anyhow::Result<()> {
    let own = scene
        .api
        .get(&format!("{NAMESPACES}/{}", scene.namespace))
        .await?
        .ok()?;
    ensure!(own["status"]["phase"] == "Active", "{own}");
    ensure!(own["spec"]["finalizers"] == json!(["kubernetes"]), "{own}");
    ensure!(
        own["metadata"]["labels"]["kubernetes.io/metadata.name"] == scene.namespace.as_str(),
        "{own}"
    );
    let has_ca = |map: &Value| {
        map["data"]["ca.crt"]
            .as_str()
            .is_some_and(|text| text.contains("BEGIN CERTIFICATE"))
    };
    let maps = scene.core("configmaps");
    scene.until(&maps, "kube-root-ca.crt", has_ca).await?;
    // Both are made again, and repaired.
    let accounts = scene.core("serviceaccounts");
    let old = scene.api.get(&format!("{accounts}/default")).await?.ok()?;
    scene
        .api
        .delete(&format!("{accounts}/default"), &Value::Null)
        .await?
        .ok()?;
    let uid = old["metadata"]["uid"].clone();
    scene
        .until(&accounts, "default", move |new| new["metadata"]["uid"] != uid)
        .await?;
    let emptied = json!({"data": {"ca.crt": ""}});
    scene
        .api
        .patch(&format!("{maps}/kube-root-ca.crt"), "merge", &emptied)
        .await?
        .ok()?;
    scene.until(&maps, "kube-root-ca.crt", has_ca).await?;
    let label = json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "other"}}});
    let path = format!("{NAMESPACES}/{}", scene.namespace);
    let answer = scene.api.patch(&path, "merge", &label).await?;
    ensure!(
        answer.code == 422
            || answer.ok()?["metadata"]["labels"]["kubernetes.io/metadata.name"] == scene.namespace.as_str(),
        "{}",
        answer.text
    );
    Ok(())
}

async fn dying(scene: Scene) -> anyhow::Result<()> {
    let other = scene.unique("dying");
    scene
        .api
        .post(NAMESPACES, &json!({"metadata": {"name": other}}))
        .await?
        .is(201)?;
    let inner = Scene {
        api: scene.api.clone(),
        namespace: other.clone(),
    };
    inner.until(&inner.core("serviceaccounts"), "default", |_| true).await?;
    scene
        .api
        .post(&inner.core("pods"), &crate::scene::pod("p"))
        .await?
        .is(201)?;
    inner.map("m", &json!({})).await?;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}],
            "nodeSelector": {"no": "where"}}}}});
    scene
        .api
        .post(&inner.of("apps/v1", "deployments"), &deployment)
        .await?
        .is(201)?;
    let gone = scene
        .api
        .delete(&format!("{NAMESPACES}/{other}"), &Value::Null)
        .await?
        .ok()?;
    ensure!(
        gone["kind"] == "Namespace" && gone["status"]["phase"] == "Terminating",
        "{gone}"
    );
    inner.until_gone(NAMESPACES, &other).await?;
    for path in [
        inner.core("pods"),
        inner.core("configmaps"),
        inner.of("apps/v1", "deployments"),
    ] {
        let left = scene.api.get(&path).await?.ok()?;
        ensure!(left["items"] == json!([]), "{path}: {left}");
    }
    let late = scene
        .api
        .post(&inner.core("configmaps"), &json!({"metadata": {"name": "late"}}))
        .await?;
    late.says(404, "NotFound", &format!("namespaces \"{other}\" not found"))
}

async fn held(scene: Scene) -> anyhow::Result<()> {
    let other = scene.unique("held");
    let namespace = json!({"metadata": {"name": other}, "spec": {"finalizers": ["e.example.com/hold"]}});
    scene.api.post(NAMESPACES, &namespace).await?.is(201)?;
    let inner = Scene {
        api: scene.api.clone(),
        namespace: other.clone(),
    };
    let map = json!({"metadata": {"name": "m", "finalizers": ["e.example.com/hold"]}});
    scene.api.post(&inner.core("configmaps"), &map).await?.is(201)?;
    let path = format!("{NAMESPACES}/{other}");
    scene.api.delete(&path, &Value::Null).await?.ok()?;
    let late = scene
        .api
        .post(&inner.core("configmaps"), &json!({"metadata": {"name": "late"}}))
        .await?;
    late.says(
        403,
        "Forbidden",
        &format!("unable to create new content in namespace {other} because it is being terminated"),
    )?;
    let status: Value = serde_json::from_str(&late.text)?;
    ensure!(
        status["details"]["causes"][0]["reason"] == "NamespaceTerminating",
        "{status}"
    );
    let said = |namespace: &Value| {
        let conditions = namespace["status"]["conditions"].as_array().into_iter().flatten();
        conditions
            .into_iter()
            .any(|one| one["type"] == "NamespaceFinalizersRemaining" && one["status"] == "True")
    };
    inner
        .until(NAMESPACES, &other, said)
        .await
        .context("nobody says what holds it")?;
    let free = json!({"metadata": {"finalizers": null}});
    scene
        .api
        .patch(&format!("{}/m", inner.core("configmaps")), "merge", &free)
        .await?
        .ok()?;
    // The last finalizer is taken away through a subresource of its own.
    loop {
        let answer = scene.api.get(&path).await?;
        if answer.code == 404 {
            return Ok(());
        }
        let mut namespace = answer.ok()?;
        let rest = namespace["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
        let rest: Vec<Value> = rest.into_iter().filter(|one| one != "e.example.com/hold").collect();
        namespace["spec"]["finalizers"] = Value::from(rest);
        let put = scene.api.put(&format!("{path}/finalize"), &namespace).await?;
        ensure!(matches!(put.code, 200 | 404 | 409), "{}", put.text);
        if put.code == 200 {
            return inner.until_gone(NAMESPACES, &other).await;
        }
    }
}

async fn protected(scene: Scene) -> anyhow::Result<()> {
    for name in ["default", "kube-system", "kube-public"] {
        let answer = scene.api.delete(&format!("{NAMESPACES}/{name}"), &Value::Null).await?;
        answer.says(403, "Forbidden", "this namespace may not be deleted")?;
    }
    let missing = "/api/v1/namespaces/not-there/configmaps";
    let answer = scene.api.post(missing, &json!({"metadata": {"name": "m"}})).await?;
    answer.says(404, "NotFound", "namespaces \"not-there\" not found")?;
    // Reading what is not there finds nothing.
    let empty = scene.api.get(missing).await?.ok()?;
    ensure!(empty["items"] == json!([]), "{empty}");
    for name in ["Big", "-a", "a.b", &"x".repeat(64), "a_b"] {
        let answer = scene.api.post(NAMESPACES, &json!({"metadata": {"name": name}})).await?;
        answer.fails(422, "Invalid").with_context(|| name.to_owned())?;
    }
    Ok(())
}
