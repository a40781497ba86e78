//! Lists: pages, versions, selectors, and what cannot be listed.

use crate::scene::{Idea, Scene, names, pod};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(crate) const IDEAS: &[Idea] = &[
    ("lists: pages are of one state", |scene| Box::pin(pages(scene))),
    ("lists: a token is good for its list only", |scene| {
        Box::pin(tokens(scene))
    }),
    ("lists: versions are matched", |scene| Box::pin(versions(scene))),
    ("lists: labels select", |scene| Box::pin(labels(scene))),
    ("lists: fields select", |scene| Box::pin(fields(scene))),
    ("lists: generated names differ", |scene| Box::pin(generated(scene))),
    ("lists: collections are deleted as selected", |scene| {
        Box::pin(collections(scene))
    }),
];

async fn some(scene: &Scene, count: usize) -> anyhow::Result<()> {
    for index in 0..count {
        scene
            .map(&format!("map-{index}"), &json!({"n": index.to_string()}))
            .await?;
    }
    Ok(())
}

/// The part of a collection that a test made, not the authority's certificate.
const OWN: &str = "fieldSelector=metadata.name%21%3Dkube-root-ca.crt";

async fn pages(scene: Scene) -> anyhow::Result<()> {
    some(&scene, 7).await?;
    scene
        .until(&scene.core("configmaps"), "kube-root-ca.crt", |_| true)
        .await?;
    let path = scene.core("configmaps");
    let first = scene.api.get(&format!("{path}?limit=3")).await?.ok()?;
    ensure!(names(&first).len() == 3, "{first}");
    ensure!(first["metadata"]["remainingItemCount"] == 5, "{}", first["metadata"]);
    scene.map("map-late", &json!({})).await?;
    scene.api.delete(&format!("{path}/map-6"), &Value::Null).await?.ok()?;
    let mut all: Vec<String> = names(&first).into_iter().map(str::to_owned).collect();
    let mut page = first.clone();
    while let Some(token) = page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
        page = scene.api.get(&format!("{path}?limit=3&continue={token}")).await?.ok()?;
        ensure!(
            page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"],
            "pages of two states"
        );
        all.extend(names(&page).into_iter().map(str::to_owned));
    }
    ensure!(page["metadata"].get("remainingItemCount").is_none(), "{page}");
    ensure!(all.is_sorted(), "{all:?}");
    ensure!(all.len() == 8 && !all.contains(&"map-late".to_owned()), "{all:?}");
    ensure!(all.contains(&"map-6".to_owned()), "{all:?}");
    let selected = scene.api.get(&format!("{path}?limit=3&{OWN}")).await?.ok()?;
    ensure!(names(&selected).len() == 3, "{selected}");
    ensure!(
        selected["metadata"].get("remainingItemCount").is_none(),
        "who counts what a selector leaves?"
    );
    Ok(())
}

async fn tokens(scene: Scene) -> anyhow::Result<()> {
    some(&scene, 3).await?;
    let path = scene.core("configmaps");
    let page = scene.api.get(&format!("{path}?limit=1")).await?.ok()?;
    let token = page["metadata"]["continue"].as_str().context("no token")?;
    let versioned = format!("{path}?limit=1&continue={token}&resourceVersion=1");
    scene.api.get(&versioned).await?.fails(400, "BadRequest")?;
    let matched = format!("{path}?limit=1&continue={token}&resourceVersionMatch=NotOlderThan");
    scene.api.get(&matched).await?.fails(422, "Invalid")?;
    for token in [
        "%21",
        "e30",
        "eyJ2IjoidjIifQ",
        "AAAA",
        "%00",
        "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLi8ifQ",
    ] {
        let path = format!("{path}?limit=1&continue={token}");
        let answer = scene.api.get(&path).await?;
        answer.fails(400, "BadRequest").with_context(|| token.to_owned())?;
    }
    Ok(())
}

async fn versions(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    scene.map("before", &json!({})).await?;
    let then = scene.api.get(&format!("{path}?{OWN}")).await?.ok()?;
    let version = then["metadata"]["resourceVersion"].as_str().context("no version")?;
    scene.map("after", &json!({})).await?;
    let list = |query: String| {
        let (api, path) = (scene.api.clone(), format!("{path}?{OWN}&{query}"));
        async move { api.get(&path).await }
    };
    let exact = list(format!("resourceVersion={version}&resourceVersionMatch=Exact"))
        .await?
        .ok()?;
    ensure!(names(&exact) == ["before"], "{exact}");
    ensure!(exact["metadata"]["resourceVersion"] == version, "{exact}");
    let limited = list(format!("resourceVersion={version}&resourceVersionMatch=Exact&limit=1"));
    ensure!(names(&limited.await?.ok()?) == ["before"]);
    for query in [
        format!("resourceVersion={version}&resourceVersionMatch=NotOlderThan"),
        format!("resourceVersion={version}"),
        "resourceVersion=0".to_owned(),
        "resourceVersion=0&resourceVersionMatch=NotOlderThan".to_owned(),
        String::new(),
    ] {
        let newer = list(query.clone()).await?.ok()?;
        ensure!(names(&newer).contains(&"before"), "{query}: {newer}");
    }
    for query in ["resourceVersion=x", "resourceVersion=-1"] {
        let answer = list(query.to_owned()).await?;
        ensure!(matches!(answer.code, 400 | 422 | 500), "{query}: {}", answer.text);
    }
    let newer: u64 = version.parse::<u64>()? + 10_000_000;
    let early = list(format!("resourceVersion={newer}&resourceVersionMatch=NotOlderThan")).await?;
    early.says(504, "Timeout", "Too large resource version")?;
    let status: Value = serde_json::from_str(&early.text)?;
    ensure!(
        status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge",
        "{status}"
    );
    let one = format!("{path}/before?resourceVersion={newer}");
    scene.api.get(&one).await?.fails(504, "Timeout")?;
    scene.api.get(&format!("{path}/before?resourceVersion=0")).await?.ok()?;
    Ok(())
}

async fn labels(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    for (name, labels) in [
        ("a", json!({"tier": "front", "app": "one"})),
        ("b", json!({"tier": "back", "app": "one"})),
        ("c", json!({"tier": "back"})),
        ("d", json!({})),
        ("e", json!({"tier": ""})),
    ] {
        let map = json!({"metadata": {"name": name, "labels": labels}});
        scene.api.post(&path, &map).await?.is(201)?;
    }
    for (selector, expected) in [
        ("tier=back", "bc"),
        ("tier==back", "bc"),
        ("tier!=back", "ade"),
        ("tier in (front,back)", "abc"),
        ("tier notin (front,back)", "de"),
        ("tier", "abce"),
        ("!tier", "d"),
        ("app=one,tier=back", "b"),
        ("tier=", "e"),
        ("tier in (front , back),!app", "c"),
        ("tier in ()", "e"),
        ("absent/key=x", ""),
    ] {
        let encoded = encode(selector);
        let list = scene
            .api
            .get(&format!("{path}?{OWN}&labelSelector={encoded}"))
            .await?
            .ok()?;
        ensure!(names(&list).concat() == expected, "{selector}: {:?}", names(&list));
    }
    for selector in [
        "a b",
        "=x",
        "a in b",
        "a in (b",
        "a,,b",
        "-a=b",
        "a=b c",
        "a=(b)",
        "!!a",
        &"a".repeat(64),
    ] {
        let encoded = encode(selector);
        let answer = scene.api.get(&format!("{path}?labelSelector={encoded}")).await?;
        answer.fails(400, "BadRequest").with_context(|| selector.to_owned())?;
    }
    Ok(())
}

/// A query's value.
fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// (collection, selectors that kinds must know)
const FIELDS: &[(&str, &[&str])] = &[
    (
        "/api/v1/pods",
        &[
            "spec.nodeName=",
            "spec.restartPolicy=Always",
            "spec.schedulerName=nobody",
            "spec.serviceAccountName=default",
            "status.phase=Pending",
            "status.podIP=",
            "status.nominatedNodeName=",
        ],
    ),
    (
        "/api/v1/events",
        &[
            "involvedObject.kind=Pod",
            "involvedObject.namespace=n",
            "involvedObject.name=n",
            "involvedObject.uid=u",
            "involvedObject.apiVersion=v1",
            "involvedObject.resourceVersion=1",
            "involvedObject.fieldPath=f",
            "reason=r",
            "source=s",
            "type=Normal",
        ],
    ),
    ("/api/v1/nodes", &["spec.unschedulable=true"]),
    ("/api/v1/secrets", &["type=Opaque"]),
    ("/api/v1/namespaces", &["status.phase=Active"]),
    ("/api/v1/replicationcontrollers", &["status.replicas=0"]),
    ("/apis/batch/v1/jobs", &["status.successful=0"]),
    (
        "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        &["spec.signerName=a"],
    ),
];

async fn fields(scene: Scene) -> anyhow::Result<()> {
    for (collection, selectors) in FIELDS {
        for selector in *selectors {
            let path = format!("{collection}?fieldSelector={}", encode(selector));
            scene.api.get(&path).await?.ok().with_context(|| path.clone())?;
        }
    }
    let pods = scene.core("pods");
    for (name, policy) in [("a", "Always"), ("b", "Never")] {
        let mut pod = pod(name);
        pod["spec"]["restartPolicy"] = json!(policy);
        scene.api.post(&pods, &pod).await?.is(201)?;
    }
    for (selector, expected) in [
        ("spec.restartPolicy=Never", "b"),
        ("spec.restartPolicy!=Never", "a"),
        ("spec.schedulerName=nobody,metadata.name=a", "a"),
        ("spec.nodeName=", "ab"),
        ("spec.nodeName!=", ""),
        ("status.phase==Pending", "ab"),
        ("metadata.namespace=elsewhere", ""),
    ] {
        let list = scene
            .api
            .get(&format!("{pods}?fieldSelector={}", encode(selector)))
            .await?
            .ok()?;
        ensure!(names(&list).concat() == expected, "{selector}: {:?}", names(&list));
    }
    let unknown = format!("{pods}?fieldSelector=spec.hostname%3Dx");
    scene
        .api
        .get(&unknown)
        .await?
        .says(400, "BadRequest", "spec.hostname")?;
    for selector in ["metadata.name", "metadata.name>x", "a=b=c,d"] {
        let answer = scene
            .api
            .get(&format!("{pods}?fieldSelector={}", encode(selector)))
            .await?;
        answer.fails(400, "BadRequest").with_context(|| selector.to_owned())?;
    }
    Ok(())
}

async fn generated(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    let mut made = BTreeSet::new();
    for _ in 0..20 {
        let map = json!({"metadata": {"generateName": "made-"}});
        let object = scene.api.post(&path, &map).await?.ok()?;
        ensure!(object["metadata"]["generateName"] == "made-", "{object}");
        let name = object["metadata"]["name"].as_str().context("no name")?.to_owned();
        let rest = name.strip_prefix("made-").context("no prefix")?;
        ensure!(rest.len() == 5 && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
        made.insert(name);
    }
    ensure!(made.len() == 20, "{made:?}");
    // The name wins over the prefix.
    let both = json!({"metadata": {"generateName": "made-", "name": "both"}});
    ensure!(scene.api.post(&path, &both).await?.ok()?["metadata"]["name"] == "both");
    let long = json!({"metadata": {"generateName": "x".repeat(100)}});
    let long = scene.api.post(&path, &long).await?.ok()?;
    let length = long["metadata"]["name"].as_str().map(str::len);
    ensure!(length == Some(63), "a generated name has {length:?} characters");
    let bad = json!({"metadata": {"generateName": "Bad_"}});
    scene.api.post(&path, &bad).await?.fails(422, "Invalid")
}

async fn collections(scene: Scene) -> anyhow::Result<()> {
    let path = scene.core("configmaps");
    for (name, colour) in [("a", "red"), ("b", "red"), ("c", "blue"), ("d", "blue")] {
        let map = json!({"metadata": {"name": name, "labels": {"colour": colour}}});
        scene.api.post(&path, &map).await?.is(201)?;
    }
    let deleted = scene
        .api
        .delete(&format!("{path}?labelSelector=colour%3Dred"), &Value::Null)
        .await?;
    deleted.is(200)?;
    let left = scene.api.get(&format!("{path}?{OWN}")).await?.ok()?;
    ensure!(names(&left) == ["c", "d"], "{left}");
    let by_field = format!("{path}?fieldSelector=metadata.name%3Dd");
    scene
        .api
        .delete(&by_field, &json!({"kind": "DeleteOptions", "apiVersion": "v1"}))
        .await?
        .is(200)?;
    let left = scene.api.get(&format!("{path}?{OWN}")).await?.ok()?;
    ensure!(names(&left) == ["c"], "{left}");
    for path in ["/api/v1/namespaces", "/api/v1/configmaps"] {
        let answer = scene.api.delete(path, &Value::Null).await?;
        answer.fails(405, "MethodNotAllowed").with_context(|| path.to_owned())?;
    }
    Ok(())
}
