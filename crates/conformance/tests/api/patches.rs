//! JSON patches, merge patches and strategic merge patches with all their directives.

use crate::scene::{Idea, Scene, pod};
use anyhow::{Context, ensure};
use http::header;
use serde_json::{Value, json};

pub(crate) const IDEAS: &[Idea] = &[
    ("patches: JSON", |scene| Box::pin(json_patch(scene))),
    ("patches: merge", |scene| Box::pin(merge(scene))),
    ("patches: strategic merge", |scene| Box::pin(strategic(scene))),
    ("patches: custom kinds know no strategy", |scene| {
        Box::pin(custom(scene))
    }),
    ("patches: what is wrong with one", |scene| Box::pin(wrong(scene))),
];

async fn json_patch(scene: Scene) -> anyhow::Result<()> {
    scene.map("m", &json!({"a": "1", "b": "2"})).await?;
    let path = format!("{}/m", scene.core("configmaps"));
    for (patch, expected) in [
        (
            json!([{"op": "add", "path": "/data/n", "value": "3"}]),
            json!({"a": "1", "b": "2", "n": "3"}),
        ),
        (
            json!([{"op": "remove", "path": "/data/n"}]),
            json!({"a": "1", "b": "2"}),
        ),
        (
            json!([{"op": "replace", "path": "/data/b", "value": "4"}]),
            json!({"a": "1", "b": "4"}),
        ),
        (
            json!([{"op": "move", "from": "/data/a", "path": "/data/z"}]),
            json!({"z": "1", "b": "4"}),
        ),
        (
            json!([{"op": "copy", "from": "/data/z", "path": "/data/y"}]),
            json!({"z": "1", "y": "1", "b": "4"}),
        ),
        (
            json!([{"op": "test", "path": "/data/z", "value": "1"},
                {"op": "replace", "path": "/data", "value": {"o": "k"}}]),
            json!({"o": "k"}),
        ),
    ] {
        let patched = scene.api.patch(&path, "json", &patch).await?.ok()?;
        ensure!(patched["data"] == expected, "{patch}: {patched}");
    }
    let note = json!([{"op": "add", "path": "/metadata/annotations", "value": {}},
        {"op": "add", "path": "/metadata/annotations/e.example.com~1a", "value": "b"}]);
    let noted = scene.api.patch(&path, "json", &note).await?.ok()?;
    ensure!(
        noted["metadata"]["annotations"] == json!({"e.example.com/a": "b"}),
        "{noted}"
    );
    let list = json!([{"op": "add", "path": "/metadata/finalizers", "value": ["e.example.com/a", "e.example.com/c"]},
        {"op": "add", "path": "/metadata/finalizers/1", "value": "e.example.com/b"},
        {"op": "add", "path": "/metadata/finalizers/-", "value": "e.example.com/d"},
        {"op": "remove", "path": "/metadata/finalizers/0"}]);
    let patched = scene.api.patch(&path, "json", &list).await?.ok()?;
    let expected = json!(["e.example.com/b", "e.example.com/c", "e.example.com/d"]);
    ensure!(patched["metadata"]["finalizers"] == expected, "{patched}");
    let none = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    scene.api.patch(&path, "json", &none).await?.ok()?;
    misfits(&scene, &path).await?;
    let kept = scene.api.get(&path).await?.ok()?;
    ensure!(kept["data"] == json!({"o": "k"}), "{kept}");
    Ok(())
}

/// Patches that do not fit the object.
async fn misfits(scene: &Scene, path: &str) -> anyhow::Result<()> {
    for (patch, code, reason) in [
        (json!([{"op": "remove", "path": "/data/absent"}]), 422, "Invalid"),
        (json!([{"op": "test", "path": "/data/o", "value": "x"}]), 422, "Invalid"),
        (
            json!([{"op": "replace", "path": "/spec/x", "value": 1}]),
            422,
            "Invalid",
        ),
        (
            json!([{"op": "add", "path": "/metadata/finalizers/7", "value": "x"}]),
            422,
            "Invalid",
        ),
        (json!({"op": "add"}), 400, "BadRequest"),
        (json!([{"op": "add", "path": "/data", "value": 7}]), 400, "BadRequest"),
    ] {
        let answer = scene.api.patch(path, "json", &patch).await?;
        // What the patched object cannot be decoded from is the server's or the client's fault, by release.
        let mistyped = matches!(answer.code, 400 | 422 | 500) && code == 400;
        if !mistyped {
            answer.fails(code, reason).with_context(|| patch.to_string())?;
        }
    }
    Ok(())
}

async fn merge(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    let mut two = pod("p");
    two["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
    scene.api.post(&pods, &two).await?.is(201)?;
    scene.map("m", &json!({"a": "1", "b": "2"})).await?;
    let map = format!("{}/m", scene.core("configmaps"));
    let patch = json!({"data": {"a": null, "c": "3"}, "metadata": {"labels": {"x": "y"}}});
    let patched = scene.api.patch(&map, "merge", &patch).await?.ok()?;
    ensure!(patched["data"] == json!({"b": "2", "c": "3"}), "{patched}");
    let patched = scene
        .api
        .patch(&map, "merge", &json!({"metadata": {"labels": null}, "data": null}))
        .await?
        .ok()?;
    ensure!(
        patched.get("data").is_none() && patched["metadata"].get("labels").is_none(),
        "{patched}"
    );
    // A list is replaced as a whole: without its image the container is not valid.
    let patch = json!({"spec": {"containers": [{"name": "c"}]}});
    let refused = scene.api.patch(&format!("{pods}/p"), "merge", &patch).await?;
    refused.fails(422, "Invalid")?;
    // Names and namespaces do not change.
    let renamed = json!({"metadata": {"name": "other"}});
    scene
        .api
        .patch(&map, "merge", &renamed)
        .await?
        .fails(400, "BadRequest")?;
    let moved = json!({"metadata": {"namespace": "other"}});
    let moved = scene.api.patch(&map, "merge", &moved).await?;
    ensure!(moved.code == 400, "{}", moved.text);
    Ok(())
}

fn deployment() -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "d"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {
            "tolerations": [{"key": "one", "operator": "Exists"}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}],
            "containers": [
                {"name": "a", "image": "a:1", "ports": [{"containerPort": 80}, {"containerPort": 81}],
                    "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                {"name": "b", "image": "b:1", "args": ["x", "y"]}]}}}})
}

/// (patch of a pod template's spec, where to look, what must be there)
fn strategies() -> Vec<(&'static str, Value, &'static str, Value)> {
    vec![
        (
            "containers merge by name, ports by number, env by name",
            json!({"containers": [{"name": "a", "image": "a:2", "env": [{"name": "E", "value": "9"}],
                "ports": [{"containerPort": 81, "name": "web"}]}]}),
            "/containers",
            json!([{"name": "a", "image": "a:2", "env": [{"name": "E", "value": "9"}, {"name": "F", "value": "2"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81, "name": "web", "protocol": "TCP"}]},
                {"name": "b", "image": "b:1"}]),
        ),
        (
            "what is new comes first",
            json!({"containers": [{"name": "c", "image": "c:1"}]}),
            "/containers",
            json!([{"name": "c"}, {"name": "a"}, {"name": "b"}]),
        ),
        (
            "an order is set",
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "c"}],
                "containers": [{"name": "b", "image": "b:2"}]}),
            "/containers",
            json!([{"name": "b", "image": "b:2"}, {"name": "a"}, {"name": "c"}]),
        ),
        (
            "an item is deleted",
            json!({"containers": [{"name": "c", "$patch": "delete"}]}),
            "/containers",
            json!([{"name": "b"}, {"name": "a"}]),
        ),
        (
            "the list is replaced by the others",
            json!({"containers": [{"name": "b", "$patch": "replace"}, {"name": "only", "image": "o"}]}),
            "/containers",
            json!([{"name": "only", "image": "o"}]),
        ),
        (
            "plain lists are replaced",
            json!({"containers": [{"name": "only", "args": ["z"]}], "tolerations": [{"key": "two", "operator": "Exists"}]}),
            "/tolerations",
            json!([{"key": "two"}]),
        ),
        (
            "volumes keep one source",
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "m"}}]}),
            "/volumes",
            json!([{"name": "v", "configMap": {"name": "m"}}, {"name": "w"}]),
        ),
        (
            "null deletes",
            json!({"tolerations": null, "terminationGracePeriodSeconds": 7}),
            "",
            json!({"tolerations": null, "terminationGracePeriodSeconds": 7}),
        ),
    ]
}

/// Whether `object` has all that `wanted` has, lists with as many items; what is wanted as null must be absent.
fn holds(object: &Value, wanted: &Value) -> bool {
    match (object, wanted) {
        (Value::Object(object), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| holds(object.get(key).unwrap_or(&Value::Null), wanted)),
        (Value::Array(items), Value::Array(wanted)) => {
            items.len() == wanted.len() && items.iter().zip(wanted).all(|(item, wanted)| holds(item, wanted))
        }
        _ => object == wanted,
    }
}

async fn strategic(scene: Scene) -> anyhow::Result<()> {
    let deployments = scene.of("apps/v1", "deployments");
    scene.api.post(&deployments, &deployment()).await?.is(201)?;
    let path = format!("{deployments}/d");
    for (what, patch, place, wanted) in strategies() {
        let patch = json!({"spec": {"template": {"spec": patch}}});
        let answer = scene.api.patch(&path, "strategic-merge", &patch).await?;
        let patched = answer.ok().context(what)?;
        let spec = &patched["spec"]["template"]["spec"];
        let found = spec.pointer(place).unwrap_or(&Value::Null);
        ensure!(holds(found, &wanted), "{what}: {wanted} and not {found}");
    }
    let strategy = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let patched = scene.api.patch(&path, "strategic-merge", &strategy).await?.ok()?;
    ensure!(patched["spec"]["strategy"] == json!({"type": "Recreate"}), "{patched}");
    let labels = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["e.example.com/a", "e.example.com/b"]}});
    scene.api.patch(&path, "strategic-merge", &labels).await?.ok()?;
    let replaced = json!({"metadata": {"labels": {"$patch": "replace", "c": "d"},
        "$deleteFromPrimitiveList/finalizers": ["e.example.com/a"]}});
    let patched = scene.api.patch(&path, "strategic-merge", &replaced).await?.ok()?;
    ensure!(patched["metadata"]["labels"] == json!({"c": "d"}), "{patched}");
    ensure!(
        patched["metadata"]["finalizers"] == json!(["e.example.com/b"]),
        "{patched}"
    );
    let more = json!({"metadata": {"finalizers": ["e.example.com/c"]}});
    let patched = scene.api.patch(&path, "strategic-merge", &more).await?.ok()?;
    ensure!(
        patched["metadata"]["finalizers"].as_array().map(Vec::len) == Some(2),
        "{patched}"
    );
    let none = json!({"metadata": {"finalizers": null}});
    scene.api.patch(&path, "strategic-merge", &none).await?.ok()?;
    conditions(&scene).await
}

/// Conditions merge by their type.
async fn conditions(scene: &Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    scene.api.post(&pods, &pod("p")).await?.is(201)?;
    for (kind, status) in [("One", "True"), ("Two", "True"), ("One", "False")] {
        let patch = json!({"status": {"conditions": [{"type": kind, "status": status}]}});
        scene
            .api
            .patch(&format!("{pods}/p/status"), "strategic-merge", &patch)
            .await?
            .ok()?;
    }
    let conditions = scene.api.get(&format!("{pods}/p")).await?.ok()?["status"]["conditions"].clone();
    let of = |kind: &str| {
        let own = conditions
            .as_array()
            .into_iter()
            .flatten()
            .filter(move |one| one["type"] == kind);
        own.map(|one| one["status"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    ensure!(of("One") == ["False"] && of("Two") == ["True"], "{conditions}");
    Ok(())
}

/// Makes a kind of this scene's own; its group.
pub(crate) async fn custom_kind(scene: &Scene, schema: Value) -> anyhow::Result<String> {
    let group = format!("{}.example.com", scene.namespace);
    let name = format!("widgets.{group}");
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name}, "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.replicas"}],
                "schema": {"openAPIV3Schema": schema}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    scene.api.post(definitions, &definition).await?.is(201)?;
    let established = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        conditions
            .into_iter()
            .any(|one| one["type"] == "Established" && one["status"] == "True")
    };
    scene.until(definitions, &name, established).await?;
    // A kind is served a moment after it is established.
    let served = scene.of(&format!("{group}/v1"), "widgets");
    while scene.api.get(&served).await?.code == 404 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(group)
}

/// Takes the kind away again.
pub(crate) async fn no_custom_kind(scene: &Scene, group: &str) -> anyhow::Result<()> {
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{group}");
    scene.api.delete(&path, &Value::Null).await?.ok().map(drop)
}

/// Status and scale of a custom resource.
async fn custom_parts(scene: &Scene, path: &str) -> anyhow::Result<()> {
    let scaled = scene
        .api
        .patch(&format!("{path}/scale"), "merge", &json!({"spec": {"replicas": 3}}))
        .await?
        .ok()?;
    ensure!(scaled["spec"]["replicas"] == 3, "{scaled}");
    let status = json!({"status": {"replicas": 2, "selector": "a=b"}, "spec": {"replicas": 5}});
    scene
        .api
        .patch(&format!("{path}/status"), "merge", &status)
        .await?
        .ok()?;
    let scale = scene.api.get(&format!("{path}/scale")).await?.ok()?;
    ensure!(scale["status"] == json!({"replicas": 2, "selector": "a=b"}), "{scale}");
    let now = scene.api.get(path).await?.ok()?;
    ensure!(
        now["spec"]["replicas"] == 3 && now["metadata"]["generation"] == 3,
        "{now}"
    );
    Ok(())
}

async fn custom(scene: Scene) -> anyhow::Result<()> {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "replicas": {"type": "integer", "default": 1, "maximum": 5},
            "list": {"type": "array", "items": {"type": "string"}}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let group = custom_kind(&scene, schema).await?;
    let widgets = scene.of(&format!("{group}/v1"), "widgets");
    let widget = json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": "w"},
        "spec": {"list": ["a"], "strange": 1}});
    let made = scene.api.post(&widgets, &widget).await?.ok()?;
    ensure!(
        made["spec"] == json!({"list": ["a"], "replicas": 1}),
        "pruned and defaulted: {made}"
    );
    ensure!(made["metadata"]["generation"] == 1, "{made}");
    let path = format!("{widgets}/w");
    let strategic = scene
        .api
        .patch(&path, "strategic-merge", &json!({"spec": {"list": ["b"]}}))
        .await?;
    strategic.fails(415, "UnsupportedMediaType")?;
    let patched = scene
        .api
        .patch(&path, "merge", &json!({"spec": {"list": ["b"]}}))
        .await?
        .ok()?;
    ensure!(
        patched["spec"]["list"] == json!(["b"]) && patched["metadata"]["generation"] == 2,
        "{patched}"
    );
    let invalid = scene
        .api
        .patch(&path, "merge", &json!({"spec": {"replicas": 6}}))
        .await?;
    invalid.says(422, "Invalid", "spec.replicas")?;
    custom_parts(&scene, &path).await?;
    let table = scene
        .api
        .get_as(&widgets, "application/json;as=Table;v=v1;g=meta.k8s.io")
        .await?
        .ok()?;
    ensure!(table["columnDefinitions"][1]["name"] == "Size", "{table}");
    ensure!(table["rows"][0]["cells"] == json!(["w", 3]), "{table}");
    let apply = json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "spec": {"list": ["c"]}});
    scene
        .api
        .apply(&format!("{path}?fieldManager=other"), &apply)
        .await?
        .fails(409, "Conflict")?;
    let protobuf = scene.api.get_as(&path, crate::calls::PROTOBUF).await?;
    ensure!(protobuf.code == 406, "{}", protobuf.text);
    no_custom_kind(&scene, &group).await
}

async fn wrong(scene: Scene) -> anyhow::Result<()> {
    scene.map("m", &json!({"a": "1"})).await?;
    let path = format!("{}/m", scene.core("configmaps"));
    let send = |kind: &'static str, body: &'static str| {
        let (api, path) = (scene.api.clone(), path.clone());
        async move { api.send("PATCH", &path, &[(header::CONTENT_TYPE, kind)], body).await }
    };
    for kind in [
        "application/json",
        "text/plain",
        "application/yaml",
        "application/merge-patch",
    ] {
        send(kind, "{}")
            .await?
            .fails(415, "UnsupportedMediaType")
            .context(kind)?;
    }
    for kind in [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ] {
        for body in ["", "{", "7", "\"x\"", "{\"data\": }"] {
            let answer = send(kind, body).await?;
            answer
                .fails(400, "BadRequest")
                .with_context(|| format!("{kind} {body}"))?;
        }
    }
    let many: Vec<Value> = (0..10_001)
        .map(|_| json!({"op": "test", "path": "/data/a", "value": "1"}))
        .collect();
    let answer = scene.api.patch(&path, "json", &Value::from(many)).await?;
    answer.fails(413, "RequestEntityTooLarge")?;
    let kept = scene.api.get(&path).await?.ok()?;
    ensure!(kept["data"] == json!({"a": "1"}), "{kept}");
    Ok(())
}
