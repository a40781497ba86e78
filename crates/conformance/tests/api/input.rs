//! Bad input: it is refused with a clear word, nothing of it is stored, and others are served meanwhile.

use crate::calls::PROTOBUF;
use crate::scene::{Idea, Scene, names};
use anyhow::{Context, ensure};
use http::header;
use serde_json::{Value, json};
use std::fmt::Write;
use tokio::io::AsyncWriteExt;

/// A client has no more connections to one server than this that are closed and not yet known to be.
const CONNECTIONS_MAX: usize = 5;

pub(crate) const IDEAS: &[Idea] = &[
    ("input: bodies that are none", |scene| Box::pin(bodies(scene))),
    ("input: too much of everything", |scene| Box::pin(too_much(scene))),
    ("input: values that are none", |scene| Box::pin(values(scene))),
    ("input: path tricks", |scene| Box::pin(paths(scene))),
    ("input: query tricks", |scene| Box::pin(queries(scene))),
    ("input: slow and silent connections", |scene| Box::pin(slow(scene))),
    ("input: watches that nobody reads", |scene| Box::pin(unread(scene))),
];

/// After all of it, nothing of it is there, and the server still works.
async fn nothing_stored(scene: &Scene) -> anyhow::Result<()> {
    let maps = scene.core("configmaps");
    let listed = scene
        .api
        .get(&format!("{maps}?fieldSelector=metadata.name%21%3Dkube-root-ca.crt"))
        .await?
        .ok()?;
    ensure!(names(&listed).is_empty(), "{:?} were stored", names(&listed));
    scene.map("good", &json!({})).await.map(drop)
}

async fn bodies(scene: Scene) -> anyhow::Result<()> {
    let maps = scene.core("configmaps");
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let deep_object = format!("{}1{}", "{\"a\":".repeat(20_000), "}".repeat(20_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("application/json", b"{\"metadata\": {\"name\": \"x\"".to_vec()),
        (
            "application/json",
            b"{\"metadata\": {\"name\": \"x\"}} trailing".to_vec(),
        ),
        ("application/json", b"\"x\"".to_vec()),
        ("application/json", b"[]".to_vec()),
        ("application/json", b"null".to_vec()),
        ("application/json", b"".to_vec()),
        ("application/json", b"{\"metadata\": 7}".to_vec()),
        ("application/json", b"{\"metadata\": {\"name\": 7}}".to_vec()),
        (
            "application/json",
            b"{\"kind\": \"Secret\", \"apiVersion\": \"v1\", \"metadata\": {\"name\": \"x\"}}".to_vec(),
        ),
        (
            "application/json",
            b"{\"apiVersion\": \"v7\", \"metadata\": {\"name\": \"x\"}}".to_vec(),
        ),
        ("application/json", deep.clone().into_bytes()),
        (
            "application/json",
            format!("{{\"metadata\": {{\"name\": \"x\"}}, \"data\": {deep_object}}}").into_bytes(),
        ),
        (
            "application/json",
            b"{\"metadata\": {\"name\": \"x\"}, \"data\": {\"a\": 1e999}}".to_vec(),
        ),
        ("application/yaml", b"a: [".to_vec()),
        ("application/yaml", b"a: &a [*a, *a]".to_vec()),
        ("application/yaml", deep.into_bytes()),
        (PROTOBUF, vec![0xff; 100]),
        (PROTOBUF, b"k8s\0\x0a\xff\xff\xff\xff\x0f".to_vec()),
    ];
    for (kind, body) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = scene
            .api
            .send("POST", &maps, &[(header::CONTENT_TYPE, kind)], body)
            .await?;
        // An empty name of an object that parses is "invalid", not "bad".
        ensure!(
            matches!(answer.code, 400 | 413 | 415 | 422),
            "{shown}: {} {}",
            answer.code,
            answer.text
        );
        ensure!(answer.text.contains("\"Status\""), "{shown}: {}", answer.text);
    }
    for kind in [
        "text/html",
        "application/x-www-form-urlencoded",
        "application/cbor",
        "nonsense",
    ] {
        let body = "{\"metadata\": {\"name\": \"x\"}}";
        let answer = scene
            .api
            .send("POST", &maps, &[(header::CONTENT_TYPE, kind)], body)
            .await?;
        answer
            .fails(415, "UnsupportedMediaType")
            .with_context(|| kind.to_owned())?;
    }
    nothing_stored(&scene).await
}

async fn too_much(scene: Scene) -> anyhow::Result<()> {
    let maps = scene.core("configmaps");
    let map = |data: &Value| json!({"metadata": {"name": "x"}, "data": data}).to_string();
    let json_body = [(header::CONTENT_TYPE, "application/json")];
    let four = map(&json!({"a": "x".repeat(4 << 20)}));
    // Who is told no in the middle of a sentence may not hear it.
    if let Ok(answer) = scene.api.send("POST", &maps, &json_body, four).await {
        answer.fails(413, "RequestEntityTooLarge")?;
    }
    let two = map(&json!({"a": "x".repeat((1 << 20) + 1)}));
    // The server has closed the connection of before, which a request may find out only by using it.
    let mut answer = scene.api.send("POST", &maps, &json_body, two.clone()).await;
    for _ in 0..CONNECTIONS_MAX {
        if answer.is_err() {
            answer = scene.api.send("POST", &maps, &json_body, two.clone()).await;
        }
    }
    answer?.says(422, "Invalid", "Too long")?;
    let labels: serde_json::Map<String, Value> = (0..20_000).map(|n| (format!("label-{n}"), json!("v"))).collect();
    let labelled = json!({"metadata": {"name": "good-labels", "labels": labels}});
    // So many labels are strange, but they are labels.
    let answer = scene.api.post(&maps, &labelled).await?;
    ensure!(matches!(answer.code, 201 | 400 | 413 | 422), "{}", answer.code);
    if answer.code == 201 {
        scene
            .api
            .delete(&format!("{maps}/good-labels"), &Value::Null)
            .await?
            .ok()?;
    }
    let notes = json!({"metadata": {"name": "x", "annotations": {"a": "x".repeat(300_000)}}});
    scene
        .api
        .post(&maps, &notes)
        .await?
        .says(422, "Invalid", "metadata.annotations: Too long")?;
    let mut selector = String::from("a%20in%20%28");
    for n in 0..4000 {
        write!(selector, "v{n},")?;
    }
    let answer = scene.api.get(&format!("{maps}?labelSelector={selector}v%29")).await?;
    ensure!(
        matches!(answer.code, 200 | 400 | 414 | 431),
        "{} {}",
        answer.code,
        answer.text
    );
    nothing_stored(&scene).await
}

async fn values(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    for quantity in ["abc", "1.2.3", "--1", "1GiB", "0x10", "-1", "", "NaN", "1e"] {
        let mut pod = crate::scene::pod("p");
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": quantity}});
        let answer = scene.api.post(&format!("{pods}?dryRun=All"), &pod).await?;
        ensure!(
            matches!(answer.code, 400 | 422),
            "{quantity:?}: {} {}",
            answer.code,
            answer.text
        );
    }
    let maps = scene.core("configmaps");
    for (metadata, field) in [
        (json!({"name": "a/b"}), "metadata.name"),
        (json!({"name": ".."}), "metadata.name"),
        (json!({"name": "x".repeat(254)}), "metadata.name"),
        (json!({"name": "ä"}), "metadata.name"),
        (json!({"name": "x", "labels": {"a b": "c"}}), "metadata.labels"),
        (json!({"name": "x", "labels": {"a": "x".repeat(64)}}), "metadata.labels"),
        (json!({"name": "x", "annotations": {"/": ""}}), "metadata.annotations"),
        (json!({"name": "x", "finalizers": ["Bad Name"]}), "metadata.finalizers"),
    ] {
        let answer = scene.api.post(&maps, &json!({"metadata": metadata})).await?;
        answer
            .says(422, "Invalid", field)
            .with_context(|| metadata.to_string())?;
    }
    let keys = json!({"metadata": {"name": "x"}, "data": {"a/b": "c"}});
    scene.api.post(&maps, &keys).await?.says(422, "Invalid", "data[a/b]")?;
    let secret = json!({"metadata": {"name": "x"}, "data": {"a": "not base64!"}});
    scene
        .api
        .post(&scene.core("secrets"), &secret)
        .await?
        .fails(400, "BadRequest")?;
    let time = json!({"metadata": {"name": "x", "creationTimestamp": "yesterday"}});
    scene.api.post(&maps, &time).await?.fails(400, "BadRequest")?;
    nothing_stored(&scene).await
}

async fn paths(scene: Scene) -> anyhow::Result<()> {
    scene.map("victim", &json!({})).await?;
    let namespace = &scene.namespace;
    for path in [
        format!("/api/v1/namespaces/{namespace}/configmaps/%2e%2e"),
        format!("/api/v1/namespaces/{namespace}/configmaps/..%2fvictim"),
        format!("/api/v1/namespaces/{namespace}/configmaps/victim%00"),
        format!("/api/v1/namespaces/%2e%2e/{namespace}/configmaps/victim"),
        format!("/api//v1/namespaces/{namespace}/configmaps/victim/x"),
        format!("/api/v1/namespaces/{namespace}/configmaps/%ff%fe"),
        "/registry/secrets".to_owned(),
        "/api/v1/%2e%2e/%2e%2e/registry".to_owned(),
        format!("/{}", "a/".repeat(2000)),
    ] {
        for method in ["GET", "DELETE"] {
            let answer = scene.api.send(method, &path, &[], "").await?;
            let refused = (300..500).contains(&answer.code);
            ensure!(refused, "{method} {path}: {} {}", answer.code, answer.text);
        }
    }
    scene
        .api
        .get(&format!("{}/victim", scene.core("configmaps")))
        .await?
        .ok()?;
    scene
        .api
        .delete(&format!("{}/victim", scene.core("configmaps")), &Value::Null)
        .await?
        .ok()?;
    nothing_stored(&scene).await
}

async fn queries(scene: Scene) -> anyhow::Result<()> {
    let maps = scene.core("configmaps");
    for query in ["limit=-x", "timeoutSeconds=soon"] {
        let answer = scene.api.get(&format!("{maps}?{query}")).await?;
        answer.fails(400, "BadRequest").with_context(|| query.to_owned())?;
    }
    for query in [
        "unknown=1",
        "limit=0",
        "limit=9223372036854775807",
        "labelSelector=",
        "fieldSelector=",
        "pretty=nonsense",
    ] {
        scene
            .api
            .get(&format!("{maps}?{query}"))
            .await?
            .ok()
            .with_context(|| query.to_owned())?;
    }
    let object = json!({"metadata": {"name": "x"}});
    for query in [
        "dryRun=all",
        "dryRun=All&dryRun=None",
        "fieldValidation=strict",
        "fieldManager=a%00b",
    ] {
        let answer = scene.api.post(&format!("{maps}?{query}"), &object).await?;
        answer.fails(422, "Invalid").with_context(|| query.to_owned())?;
    }
    nothing_stored(&scene).await
}

async fn slow(scene: Scene) -> anyhow::Result<()> {
    let address = scene.api.authority()?;
    let mut silent = Vec::new();
    for turn in 0..100 {
        let mut connection = tokio::net::TcpStream::connect(&address).await?;
        // Some say nothing, some begin a greeting and never end it, some speak another language.
        match turn % 3 {
            0 => connection.write_all(b"\x16\x03\x01").await?,
            1 => connection.write_all(b"GET / HTTP/1.1\r\n\r\n").await?,
            _ => {}
        }
        silent.push(connection);
    }
    for _ in 0..5 {
        scene.api.get(&scene.core("configmaps")).await?.ok()?;
    }
    drop(silent);
    nothing_stored(&scene).await
}

async fn unread(scene: Scene) -> anyhow::Result<()> {
    let maps = scene.core("configmaps");
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(
            scene
                .api
                .watch(&format!("{maps}?watch=true"), "application/json")
                .await?,
        );
    }
    let blob = "x".repeat(50_000);
    for turn in 0..100 {
        let path = format!("{maps}/busy?fieldManager=busy");
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "busy"},
            "data": {"n": turn.to_string(), "blob": blob}});
        scene.api.apply(&path, &object).await?.ok()?;
    }
    scene.api.get(&maps).await?.ok()?;
    // Who reads at last sees all of it, or is told that it is too late.
    let mut last = open.pop().context("no watch")?;
    drop(open);
    while let Some(event) = last.next().await? {
        if event["type"] == "ERROR" || event["object"]["data"]["n"] == "99" {
            break;
        }
    }
    scene.api.delete(&format!("{maps}/busy"), &Value::Null).await?.ok()?;
    nothing_stored(&scene).await
}
