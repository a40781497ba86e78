//! Watches: where they begin, what they say, how they end.

use crate::calls::PROTOBUF;
use crate::scene::{Idea, Scene};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

pub(crate) const IDEAS: &[Idea] = &[
    ("watches: from a version, in order", |scene| {
        Box::pin(from_version(scene))
    }),
    ("watches: a selector is entered and left", |scene| {
        Box::pin(selectors(scene))
    }),
    ("watches: lists as streams", |scene| Box::pin(streamed_lists(scene))),
    ("watches: they end in time, with bookmarks before", |scene| {
        Box::pin(ends(scene))
    }),
    ("watches: all see the same order", |scene| Box::pin(same_order(scene))),
    ("watches: other forms", |scene| Box::pin(forms(scene))),
    ("watches: history that is lost or still to come", |scene| {
        Box::pin(history(scene))
    }),
    ("watches: kube's watcher and controller", |scene| {
        Box::pin(controller(scene))
    }),
];

fn summary(events: &[Value]) -> Vec<String> {
    let line = |event: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let data = event["object"]["data"]["v"].as_str().unwrap_or("-");
        format!(
            "{} {} {data}",
            text(&event["type"]),
            text(&event["object"]["metadata"]["name"])
        )
    };
    events.iter().map(line).collect()
}

fn is_last(event: &Value) -> bool {
    event["object"]["metadata"]["name"] == "last"
}

async fn set(scene: &Scene, name: &str, value: &str) -> anyhow::Result<Value> {
    let path = format!("{}/{name}", scene.core("configmaps"));
    scene
        .api
        .patch(&path, "merge", &json!({"data": {"v": value}}))
        .await?
        .ok()
}

async fn delete(scene: &Scene, name: &str) -> anyhow::Result<()> {
    let path = format!("{}/{name}", scene.core("configmaps"));
    scene.api.delete(&path, &Value::Null).await?.ok().map(drop)
}

async fn from_version(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    let root = scene.until(&path, "kube-root-ca.crt", |_| true).await?;
    let made = scene.map("a", &json!({"v": "1"})).await?;
    let since = made["metadata"]["resourceVersion"].as_str().context("no version")?;
    ensure!(root["metadata"]["uid"] != made["metadata"]["uid"]);
    set(&scene, "a", "2").await?;
    set(&scene, "a", "2").await?;
    scene.map("b", &json!({"v": "1"})).await?;
    delete(&scene, "a").await?;
    scene.map("last", &json!({})).await?;
    let events = scene
        .api
        .events(&format!("{path}?watch=1&resourceVersion={since}"), is_last)
        .await?;
    ensure!(
        summary(&events) == ["MODIFIED a 2", "ADDED b 1", "DELETED a 2", "ADDED last -"],
        "{:?}",
        summary(&events)
    );
    let versions: Result<Vec<u64>, _> = events
        .iter()
        .map(|event| {
            event["object"]["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default()
                .parse()
        })
        .collect();
    let versions = versions?;
    ensure!(
        versions.is_sorted() && versions.windows(2).all(|two| two[0] != two[1]),
        "{versions:?}"
    );
    // All namespaces, and one object.
    let everywhere = format!("/api/v1/configmaps?watch=true&resourceVersion={since}");
    let own = |event: &Value| is_last(event) && event["object"]["metadata"]["namespace"] == scene.namespace.as_str();
    scene.api.events(&everywhere, own).await?;
    let one = format!("{path}?watch=true&resourceVersion={since}&fieldSelector=metadata.name%3Db");
    let events = scene.api.events(&one, |_| true).await?;
    ensure!(summary(&events) == ["ADDED b 1"], "{:?}", summary(&events));
    Ok(())
}

async fn selectors(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    let since = scene.api.get(&path).await?.ok()?["metadata"]["resourceVersion"].clone();
    let since = since.as_str().context("no version")?;
    let label = |value: Option<&str>, v: &str| json!({"metadata": {"labels": {"seen": value}}, "data": {"v": v}});
    scene.map("a", &json!({"v": "0"})).await?;
    let one = format!("{path}/a");
    scene.api.patch(&one, "merge", &label(Some("yes"), "1")).await?.ok()?;
    scene.api.patch(&one, "merge", &label(Some("yes"), "2")).await?.ok()?;
    let left = scene.api.patch(&one, "merge", &label(None, "3")).await?.ok()?;
    scene.api.patch(&one, "merge", &label(Some("yes"), "4")).await?.ok()?;
    delete(&scene, "a").await?;
    let last = json!({"metadata": {"name": "last", "labels": {"seen": "yes"}}});
    scene.api.post(&path, &last).await?.is(201)?;
    let watch = format!("{path}?watch=true&resourceVersion={since}&labelSelector=seen%3Dyes");
    let events = scene.api.events(&watch, is_last).await?;
    let expected = [
        "ADDED a 1",
        "MODIFIED a 2",
        "DELETED a 2",
        "ADDED a 4",
        "DELETED a 4",
        "ADDED last -",
    ];
    ensure!(summary(&events) == expected, "{:?}", summary(&events));
    // Who leaves is shown as it was, with the version of the change that made it leave.
    ensure!(
        events[2]["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"],
        "{}",
        events[2]
    );
    ensure!(
        events[2]["object"]["metadata"]["labels"]["seen"] == "yes",
        "{}",
        events[2]
    );
    Ok(())
}

async fn streamed_lists(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    scene.until(&path, "kube-root-ca.crt", |_| true).await?;
    scene.map("b", &json!({"v": "1"})).await?;
    scene.map("a", &json!({"v": "1"})).await?;
    // Without a version a watch begins with what is there.
    let now = format!("{path}?watch=true");
    let begun = scene
        .api
        .events(&now, |event| event["object"]["metadata"]["name"] == "kube-root-ca.crt");
    let begun = begun.await?;
    ensure!(
        begun.iter().all(|event| event["type"] == "ADDED"),
        "{:?}",
        summary(&begun)
    );
    let list = format!("{path}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let marked = scene
        .api
        .events(&format!("{list}&allowWatchBookmarks=true"), |event| {
            event["type"] == "BOOKMARK"
        })
        .await?;
    let (mark, list_items) = marked.split_last().context("no event")?;
    // In which order nobody promises.
    let names = list_items.iter().map(|event| &event["object"]["metadata"]["name"]);
    let mut names: Vec<&str> = names.filter_map(Value::as_str).collect();
    names.sort_unstable();
    ensure!(names == ["a", "b", "kube-root-ca.crt"], "{names:?}");
    let metadata = &mark["object"]["metadata"];
    ensure!(metadata["annotations"]["k8s.io/initial-events-end"] == "true", "{mark}");
    ensure!(
        mark["object"]["kind"] == "ConfigMap" && mark["object"]["apiVersion"] == "v1",
        "{mark}"
    );
    let since = metadata["resourceVersion"].as_str().context("no version")?;
    scene.map("last", &json!({})).await?;
    let next = scene
        .api
        .events(&format!("{path}?watch=true&resourceVersion={since}"), |_| true)
        .await?;
    ensure!(summary(&next) == ["ADDED last -"], "{:?}", summary(&next));
    // None of the objects that were there, but those that come.
    let without = format!(
        "{path}?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion={since}\
         &allowWatchBookmarks=true&timeoutSeconds=90"
    );
    let next = scene.api.events(&without, |event| event["type"] != "BOOKMARK").await?;
    ensure!(
        summary(&next).last().is_some_and(|line| line == "ADDED last -"),
        "{:?}",
        summary(&next)
    );
    Ok(())
}

async fn ends(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    scene.until(&path, "kube-root-ca.crt", |_| true).await?;
    let since = scene.api.get(&path).await?.ok()?["metadata"]["resourceVersion"].clone();
    let since = since.as_str().context("no version")?;
    let silent = format!("{path}?watch=true&resourceVersion={since}&timeoutSeconds=1");
    let mut watch = scene.api.watch(&silent, "application/json").await?;
    ensure!(watch.next().await?.is_none(), "nothing has happened");
    let marked = format!("{path}?watch=true&resourceVersion={since}&timeoutSeconds=3&allowWatchBookmarks=true");
    let mut watch = scene.api.watch(&marked, "application/json").await?;
    let mut seen = Vec::new();
    while let Some(event) = watch.next().await? {
        seen.push(event);
    }
    ensure!(
        !seen.is_empty() && seen.iter().all(|event| event["type"] == "BOOKMARK"),
        "{seen:?}"
    );
    let version = seen[0]["object"]["metadata"]["resourceVersion"]
        .as_str()
        .context("no version")?;
    ensure!(version.parse::<u64>()? >= since.parse()?, "a bookmark goes back");
    Ok(())
}

async fn same_order(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    let since = scene.api.get(&path).await?.ok()?["metadata"]["resourceVersion"].clone();
    let watch = format!(
        "{path}?watch=true&resourceVersion={}",
        since.as_str().context("no version")?
    );
    let mut watchers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (api, watch) = (scene.api.clone(), watch.clone());
        watchers.spawn(async move { api.events(&watch, is_last).await.map(|events| summary(&events)) });
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let scene = scene.clone();
        writers.spawn(async move {
            let name = format!("m{writer}");
            scene.map(&name, &json!({"v": "0"})).await?;
            for turn in 1..10 {
                set(&scene, &name, &turn.to_string()).await?;
            }
            delete(&scene, &name).await
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    scene.map("last", &json!({})).await?;
    let first = watchers.join_next().await.context("nobody")???;
    let own = first.iter().filter(|line| !line.contains("kube-root-ca.crt")).count();
    ensure!(own == 4 * 11 + 1, "{own} events: {first:?}");
    while let Some(seen) = watchers.join_next().await {
        ensure!(seen?? == first, "two watchers see two orders");
    }
    Ok(())
}

async fn forms(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    let made = scene.map("a", &json!({"v": "1"})).await?;
    let since = made["metadata"]["resourceVersion"].as_str().context("no version")?;
    set(&scene, "a", "2").await?;
    scene.map("last", &json!({})).await?;
    let watch = format!("{path}?watch=true&resourceVersion={since}");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let name = |event: &Value| event["object"]["rows"][0]["cells"][0].clone();
    let events = scene
        .api
        .events_as(&watch, table, |event| name(event) == "last")
        .await?;
    ensure!(
        events.iter().all(|event| event["object"]["kind"] == "Table"),
        "{events:?}"
    );
    ensure!(!events[0]["object"]["columnDefinitions"].is_null(), "{events:?}");
    let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let events = scene.api.events_as(&watch, partial, is_last).await?;
    for event in &events {
        ensure!(event["object"]["kind"] == "PartialObjectMetadata", "{event}");
        ensure!(event["object"].get("data").is_none(), "{event}");
    }
    let mut frames = scene
        .api
        .watch(&watch, &format!("{PROTOBUF};stream=watch,{PROTOBUF}"))
        .await?;
    let kind = frames.kind.clone().context("no content type")?;
    ensure!(kind.to_str()?.starts_with(PROTOBUF), "{kind:?}");
    // The namespace is young: what others put into it is told, too.
    loop {
        let frame = frames.next_frame().await?.context("no event")?;
        let text = String::from_utf8_lossy(&frame);
        ensure!(text.contains("k8s\0"), "{text:?}");
        if text.contains("MODIFIED") {
            return Ok(());
        }
    }
}

async fn history(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    scene.map("a", &json!({})).await?;
    // How much history there is differs; but who asks for the beginning is told, or sees it.
    let mut watch = scene
        .api
        .watch(&format!("{path}?watch=true&resourceVersion=1"), "application/json")
        .await?;
    let event = watch.next().await?.context("no event")?;
    if event["type"] == "ERROR" {
        let status = &event["object"];
        ensure!(status["code"] == 410 && status["reason"] == "Expired", "{status}");
    } else {
        ensure!(event["type"] == "ADDED", "{event}");
    }
    for query in [
        "resourceVersion=x",
        "timeoutSeconds=x",
        "sendInitialEvents=true&resourceVersion=0",
    ] {
        let answer = scene.api.get(&format!("{path}?watch=true&{query}")).await?;
        ensure!(matches!(answer.code, 400 | 422 | 500), "{query}: {}", answer.text);
    }
    Ok(())
}

/// A controller of kube-rs copies each ConfigMap that it watches into a Secret.
async fn controller(scene: Scene) -> anyhow::Result<()> {
    use futures::StreamExt;
    use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
    use kube::runtime::{Controller, controller::Action, watcher};
    let resource = |kind: &str| ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    let of = |kind: &str| Api::<DynamicObject>::namespaced_with(scene.api.kube(), &scene.namespace, &resource(kind));
    let config = watcher::Config::default().labels("copy=yes").streaming_lists();
    let controller = Controller::new_with(of("ConfigMap"), config, resource("ConfigMap"));
    let secrets = of("Secret");
    let copy = async move |map: std::sync::Arc<DynamicObject>, secrets: std::sync::Arc<Api<DynamicObject>>| {
        let name = map.metadata.name.clone().unwrap_or_default();
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": map.metadata.uid,
            "controller": true, "blockOwnerDeletion": true});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "stringData": map.data["data"],
            "metadata": {"name": name, "ownerReferences": [owner]}});
        let params = PatchParams::apply("copier").force();
        secrets.patch(&name, &params, &Patch::Apply(secret)).await?;
        Ok::<_, kube::Error>(Action::await_change())
    };
    let owned = controller.owns_with(of("Secret"), resource("Secret"), watcher::Config::default());
    let retry =
        |_: std::sync::Arc<DynamicObject>, _: &kube::Error, _| Action::requeue(std::time::Duration::from_secs(1));
    let work = tokio::spawn(
        owned
            .run(copy, retry, std::sync::Arc::new(secrets))
            .for_each(|_| async {}),
    );
    let map = json!({"metadata": {"name": "a", "labels": {"copy": "yes"}}, "data": {"v": "1"}});
    scene.api.post(&scene.core("configmaps"), &map).await?.is(201)?;
    let path = scene.core("secrets");
    scene.until(&path, "a", |secret| secret["data"]["v"] == "MQ==").await?;
    set(&scene, "a", "2").await?;
    scene.until(&path, "a", |secret| secret["data"]["v"] == "Mg==").await?;
    // It is owned: the controller makes it again, and it goes with its owner.
    scene.api.delete(&format!("{path}/a"), &Value::Null).await?.ok()?;
    scene.until(&path, "a", |secret| secret["data"]["v"] == "Mg==").await?;
    delete(&scene, "a").await?;
    scene.until_gone(&path, "a").await?;
    work.abort();
    Ok(())
}
