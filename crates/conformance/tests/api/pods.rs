//! What only pods have: binding, eviction, status, ephemeral containers, resize, logs.

use crate::scene::{Idea, Scene, pod};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

pub(crate) const IDEAS: &[Idea] = &[
    ("pods: binding", |scene| Box::pin(binding(scene))),
    ("pods: eviction heeds budgets", |scene| Box::pin(eviction(scene))),
    ("pods: status", |scene| Box::pin(status(scene))),
    ("pods: ephemeral containers", |scene| Box::pin(ephemeral(scene))),
    ("pods: what may change", |scene| Box::pin(updates(scene))),
    ("pods: logs of what does not run", |scene| Box::pin(logs(scene))),
];

async fn binding(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    let made = scene.api.post(&pods, &pod("p")).await?.ok()?;
    let path = format!("{pods}/p/binding");
    let to = |node: &str| {
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p", "annotations": {"bound": "yes"}},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}})
    };
    let mut other = to("nowhere");
    other["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    scene.api.post(&path, &other).await?.fails(409, "Conflict")?;
    let nowhere = scene.api.post(&path, &to("")).await?;
    ensure!(matches!(nowhere.code, 422 | 500), "{}", nowhere.text);
    let answer = scene.api.post(&path, &to("nowhere")).await?;
    answer.is(201)?;
    ensure!(answer.ok()?["status"] == "Success", "{}", answer.text);
    let bound = scene.api.get(&format!("{pods}/p")).await?.ok()?;
    ensure!(
        bound["spec"]["nodeName"] == "nowhere" && bound["metadata"]["uid"] == made["metadata"]["uid"],
        "{bound}"
    );
    ensure!(bound["metadata"]["annotations"]["bound"] == "yes", "{bound}");
    let conditions = bound["status"]["conditions"].as_array().context("no conditions")?;
    let scheduled = conditions
        .iter()
        .any(|one| one["type"] == "PodScheduled" && one["status"] == "True");
    ensure!(scheduled, "{bound}");
    let again = scene.api.post(&path, &to("elsewhere")).await?;
    again.says(409, "Conflict", "is already assigned to node \"nowhere\"")?;
    let mut unknown = to("nowhere");
    unknown["metadata"]["name"] = json!("absent");
    let absent = scene.api.post(&format!("{pods}/absent/binding"), &unknown).await?;
    absent.fails(404, "NotFound")
}

/// Makes a pod that says it runs and is ready.
async fn ready(scene: &Scene, name: &str) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    let mut own = pod(name);
    own["metadata"]["labels"] = json!({"app": "guarded"});
    scene.api.post(&pods, &own).await?.is(201)?;
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    scene
        .api
        .patch(&format!("{pods}/{name}/status"), "strategic-merge", &status)
        .await?
        .ok()
        .map(drop)
}

async fn eviction(scene: Scene) -> anyhow::Result<()> {
    let budgets = scene.of("policy/v1", "poddisruptionbudgets");
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}});
    scene.api.post(&budgets, &budget).await?.is(201)?;
    ready(&scene, "p").await?;
    let counted = |healthy: u32| {
        move |budget: &Value| {
            budget["status"]["currentHealthy"] == healthy
                && budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
        }
    };
    scene.until(&budgets, "b", counted(1)).await?;
    let pods = scene.core("pods");
    let evict = |name: &str, options: Value| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": scene.namespace}, "deleteOptions": options});
        let (api, path) = (scene.api.clone(), format!("{pods}/{name}/eviction"));
        async move { api.post(&path, &eviction).await }
    };
    let refused = evict("p", Value::Null).await?;
    refused.says(
        429,
        "TooManyRequests",
        "Cannot evict pod as it would violate the pod's disruption budget.",
    )?;
    let status: Value = serde_json::from_str(&refused.text)?;
    ensure!(
        status["details"]["causes"][0]["reason"] == "DisruptionBudget",
        "{status}"
    );
    scene.api.get(&format!("{pods}/p")).await?.ok()?;
    // With a second pod one may go, but not both.
    ready(&scene, "q").await?;
    scene.until(&budgets, "b", counted(2)).await?;
    evict("p", json!({"dryRun": ["All"]})).await?.is(201)?;
    scene
        .api
        .get(&format!("{pods}/p"))
        .await?
        .ok()
        .context("a trial evicts")?;
    let wrong = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    evict("p", wrong).await?.fails(409, "Conflict")?;
    let done = evict("p", Value::Null).await?;
    done.is(201)?;
    ensure!(done.ok()?["status"] == "Success", "{}", done.text);
    scene.until_gone(&pods, "p").await?;
    evict("q", Value::Null).await?.fails(429, "TooManyRequests")?;
    evict("absent", Value::Null).await?.fails(404, "NotFound")?;
    // Who is done is in nobody's way.
    let status = json!({"status": {"phase": "Succeeded"}});
    scene
        .api
        .patch(&format!("{pods}/q/status"), "merge", &status)
        .await?
        .ok()?;
    evict("q", Value::Null).await?.is(201)
}

async fn status(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    scene.api.post(&pods, &pod("p")).await?.is(201)?;
    let path = format!("{pods}/p/status");
    let patch = json!({"metadata": {"labels": {"through": "status"}}, "spec": {"containers": [{"name": "c", "image": "other"}]},
        "status": {"phase": "Running", "podIP": "192.0.2.7", "podIPs": [{"ip": "192.0.2.7"}]}});
    let patched = scene.api.patch(&path, "strategic-merge", &patch).await?.ok()?;
    ensure!(patched["status"]["podIP"] == "192.0.2.7", "{patched}");
    ensure!(patched["metadata"]["labels"]["through"] == "status", "{patched}");
    ensure!(
        patched["spec"]["containers"][0]["image"] == "example.com/none",
        "{patched}"
    );
    let listed = scene
        .api
        .get(&format!(
            "{pods}?fieldSelector=status.podIP%3D192.0.2.7,status.phase%3DRunning"
        ))
        .await?
        .ok()?;
    ensure!(crate::scene::names(&listed) == ["p"], "{listed}");
    let created = json!({"metadata": {"name": "q"}, "status": {"phase": "Succeeded"}, "spec": pod("q")["spec"]});
    let created = scene.api.post(&pods, &created).await?.ok()?;
    ensure!(created["status"]["phase"] == "Pending", "{created}");
    Ok(())
}

async fn ephemeral(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    scene.api.post(&pods, &pod("p")).await?.is(201)?;
    let path = format!("{pods}/p/ephemeralcontainers");
    let patch = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "example.com/debug"}]}});
    let patched = scene.api.patch(&path, "strategic-merge", &patch).await?.ok()?;
    let own = &patched["spec"]["ephemeralContainers"][0];
    ensure!(
        own["name"] == "debug" && own["terminationMessagePolicy"] == "File",
        "{patched}"
    );
    // They come, but they do not go, and only through this door.
    let none = scene
        .api
        .patch(&path, "merge", &json!({"spec": {"ephemeralContainers": []}}))
        .await?;
    none.fails(422, "Invalid")?;
    let direct = json!({"spec": {"ephemeralContainers": [{"name": "more", "image": "i"}]}});
    scene
        .api
        .patch(&format!("{pods}/p"), "strategic-merge", &direct)
        .await?
        .fails(422, "Invalid")?;
    let doubled = json!({"spec": {"ephemeralContainers": [{"name": "c", "image": "i"}]}});
    scene
        .api
        .patch(&path, "strategic-merge", &doubled)
        .await?
        .fails(422, "Invalid")
}

async fn updates(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    let made = scene.api.post(&pods, &pod("p")).await?.ok()?;
    let path = format!("{pods}/p");
    for patch in [
        json!({"spec": {"containers": [{"name": "c", "image": "example.com/other"}]}}),
        json!({"spec": {"activeDeadlineSeconds": 1000}}),
        json!({"spec": {"tolerations": [{"key": "more", "operator": "Exists"}, {"key": "node.kubernetes.io/not-ready",
            "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}, {"key":
            "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]}}),
    ] {
        scene
            .api
            .patch(&path, "strategic-merge", &patch)
            .await?
            .ok()
            .with_context(|| patch.to_string())?;
    }
    let after = scene.api.get(&path).await?.ok()?;
    let generation = |pod: &Value| pod["metadata"]["generation"].as_i64().unwrap_or_default();
    ensure!(generation(&after) == generation(&made) + 3, "{after}");
    for patch in [
        json!({"spec": {"containers": [{"name": "c", "command": ["x"]}]}}),
        json!({"spec": {"containers": [{"name": "d", "image": "i"}]}}),
        json!({"spec": {"hostname": "h"}}),
        json!({"spec": {"activeDeadlineSeconds": 2000}}),
        json!({"spec": {"tolerations": []}}),
        json!({"spec": {"terminationGracePeriodSeconds": 1}}),
        json!({"spec": {"serviceAccountName": "other"}}),
    ] {
        let kind = if patch["spec"]["tolerations"].is_array() {
            "merge"
        } else {
            "strategic-merge"
        };
        let answer = scene.api.patch(&path, kind, &patch).await?;
        answer.fails(422, "Invalid").with_context(|| patch.to_string())?;
    }
    Ok(())
}

async fn logs(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    let mut two = pod("two");
    two["spec"]["containers"] = json!([{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]);
    scene.api.post(&pods, &two).await?.is(201)?;
    let log = |query: &'static str| {
        let (api, path) = (scene.api.clone(), format!("{pods}/two/log{query}"));
        async move { api.get(&path).await }
    };
    log("").await?.says(
        400,
        "BadRequest",
        "a container name must be specified for pod two, choose one of: [a b]",
    )?;
    log("?container=x")
        .await?
        .says(400, "BadRequest", "container x is not valid for pod two")?;
    for query in [
        "?container=a&tailLines=-1",
        "?container=a&sinceSeconds=0",
        "?container=a&limitBytes=0",
    ] {
        log(query).await?.fails(422, "Invalid").context(query)?;
    }
    let absent = scene.api.get(&format!("{pods}/absent/log")).await?;
    absent.fails(404, "NotFound")?;
    // No node has it, so there is nothing to read.
    let early = log("?container=a").await?;
    ensure!(early.code < 500 || early.code == 503, "{}", early.text);
    Ok(())
}
