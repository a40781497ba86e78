//! Concurrency and lifetime: versions, preconditions, propagation, trials, field validation, canonical forms.

use crate::scene::{Idea, Scene, names, pod};
use anyhow::{Context, ensure};
use http::header;
use serde_json::{Value, json};

pub(crate) const IDEAS: &[Idea] = &[
    ("lifetime: a stale write is refused", |scene| Box::pin(stale(scene))),
    ("lifetime: writers beside each other lose nothing", |scene| {
        Box::pin(writers(scene))
    }),
    ("lifetime: preconditions of a delete", |scene| {
        Box::pin(preconditions(scene))
    }),
    ("lifetime: dependents go after their owner", |scene| {
        Box::pin(background(scene))
    }),
    ("lifetime: dependents go before their owner", |scene| {
        Box::pin(foreground(scene))
    }),
    ("lifetime: dependents stay behind", |scene| Box::pin(orphans(scene))),
    ("lifetime: pods go gracefully", |scene| Box::pin(graceful(scene))),
    ("lifetime: a trial leaves nothing behind", |scene| {
        Box::pin(trials(scene))
    }),
    ("lifetime: unknown and doubled fields", |scene| {
        Box::pin(field_validation(scene))
    }),
    ("lifetime: canonical forms and defaults", |scene| {
        Box::pin(canonical(scene))
    }),
    ("lifetime: what is immutable stays", |scene| Box::pin(immutable(scene))),
];

const ZERO: &str = "00000000-0000-0000-0000-000000000000";

async fn stale(scene: Scene) -> anyhow::Result<()> {
    let made = scene.map("m", &json!({"v": "1"})).await?;
    let path = format!("{}/m", scene.core("configmaps"));
    let mut newer = made.clone();
    newer["data"]["v"] = json!("2");
    let put = scene.api.put(&path, &newer).await?.ok()?;
    ensure!(put["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]);
    ensure!(put["metadata"]["uid"] == made["metadata"]["uid"]);
    let refused = scene.api.put(&path, &newer).await?;
    refused.says(
        409,
        "Conflict",
        "Operation cannot be fulfilled on configmaps \"m\": the object has been modified; please apply your changes to \
         the latest version and try again",
    )?;
    let status: Value = serde_json::from_str(&refused.text)?;
    ensure!(
        status["details"] == json!({"name": "m", "kind": "configmaps"}),
        "{status}"
    );
    // Without a version a ConfigMap is written in any case.
    newer["metadata"]["resourceVersion"] = Value::Null;
    newer["data"]["v"] = json!("3");
    ensure!(scene.api.put(&path, &newer).await?.ok()?["data"]["v"] == "3");
    // The server's own fields are not the client's to write.
    newer["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    let put = scene.api.put(&path, &newer).await?;
    // Older releases ignore it, newer ones refuse it.
    if put.code != 422 {
        let kept = put.ok()?["metadata"]["creationTimestamp"].clone();
        ensure!(kept == made["metadata"]["creationTimestamp"], "{kept}");
    }
    let absent = json!({"metadata": {"name": "absent"}});
    let absent = scene
        .api
        .put(&format!("{}/absent", scene.core("configmaps")), &absent)
        .await?;
    absent.says(404, "NotFound", "configmaps \"absent\" not found")
}

async fn writers(scene: Scene) -> anyhow::Result<()> {
    scene.map("m", &json!({"count": "0"})).await?;
    let path = format!("{}/m", scene.core("configmaps"));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (api, path) = (scene.api.clone(), path.clone());
        writers.spawn(async move {
            for _ in 0..5 {
                api.change(&path, |map| {
                    let count: u32 = map["data"]["count"]
                        .as_str()
                        .unwrap_or_default()
                        .parse()
                        .unwrap_or_default();
                    map["data"]["count"] = json!((count + 1).to_string());
                })
                .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    let counted = scene.api.get(&path).await?.ok()?;
    ensure!(counted["data"]["count"] == "40", "{counted}");
    // Of many who create one name, one wins.
    let mut makers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let scene = scene.clone();
        makers.spawn(async move {
            let map = json!({"metadata": {"name": "one"}});
            scene
                .api
                .post(&scene.core("configmaps"), &map)
                .await
                .map(|answer| answer.code)
        });
    }
    let mut codes = Vec::new();
    while let Some(code) = makers.join_next().await {
        codes.push(code??);
    }
    codes.sort_unstable();
    ensure!(codes == [201, 409, 409, 409, 409, 409, 409, 409], "{codes:?}");
    Ok(())
}

async fn preconditions(scene: Scene) -> anyhow::Result<()> {
    let made = scene.map("m", &json!({})).await?;
    let path = format!("{}/m", scene.core("configmaps"));
    let wrong = json!({"preconditions": {"uid": ZERO}});
    let refused = scene.api.delete(&path, &wrong).await?;
    refused.says(409, "Conflict", &format!("the UID in the precondition ({ZERO})"))?;
    let old = json!({"preconditions": {"uid": made["metadata"]["uid"], "resourceVersion": "1"}});
    scene.api.delete(&path, &old).await?.fails(409, "Conflict")?;
    scene.api.get(&path).await?.ok()?;
    let right = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions":
        {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}});
    let deleted = scene.api.delete(&path, &right).await?.ok()?;
    ensure!(deleted["status"] == "Success", "{deleted}");
    let details = json!({"name": "m", "kind": "configmaps", "uid": made["metadata"]["uid"]});
    ensure!(deleted["details"] == details, "{deleted}");
    for (options, code) in [
        (json!({"propagationPolicy": "Sideways"}), 422),
        (json!({"gracePeriodSeconds": "x"}), 400),
        (json!({"kind": "ConfigMap", "apiVersion": "v1"}), 400),
    ] {
        let answer = scene.api.delete(&path, &options).await?;
        // A body that cannot be decoded is the fault of the server in some releases.
        ensure!(
            answer.code == code || (code == 400 && answer.code == 500),
            "{options}: {} {}",
            answer.code,
            answer.text
        );
    }
    scene.api.delete(&path, &Value::Null).await?.fails(404, "NotFound")
}

/// An owner and one that depends on it.
async fn family(scene: &Scene) -> anyhow::Result<String> {
    let owner = scene.map("owner", &json!({})).await?;
    let child = json!({"metadata": {"name": "child", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap",
        "name": "owner", "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]}});
    scene.api.post(&scene.core("secrets"), &child).await?.is(201)?;
    Ok(format!("{}/owner", scene.core("configmaps")))
}

async fn background(scene: Scene) -> anyhow::Result<()> {
    let owner = family(&scene).await?;
    scene
        .api
        .delete(&owner, &json!({"propagationPolicy": "Background"}))
        .await?
        .ok()?;
    scene.api.get(&owner).await?.fails(404, "NotFound")?;
    scene.until_gone(&scene.core("secrets"), "child").await?;
    // Who names an owner that is not there goes as well.
    let lost = json!({"metadata": {"name": "lost", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap",
        "name": "owner", "uid": ZERO}]}});
    scene.api.post(&scene.core("secrets"), &lost).await?.is(201)?;
    scene.until_gone(&scene.core("secrets"), "lost").await?;
    let incomplete = json!({"metadata": {"name": "bad", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap",
        "name": "owner"}]}});
    let refused = scene.api.post(&scene.core("secrets"), &incomplete).await?;
    refused.says(422, "Invalid", "metadata.ownerReferences")?;
    let reference =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": name, "controller": true});
    let two = json!({"metadata": {"name": "bad", "ownerReferences": [reference("a"), reference("b")]}});
    let refused = scene.api.post(&scene.core("secrets"), &two).await?;
    refused.says(422, "Invalid", "Only one reference can have Controller set to true")
}

async fn foreground(scene: Scene) -> anyhow::Result<()> {
    let owner = family(&scene).await?;
    let child = format!("{}/child", scene.core("secrets"));
    let hold = json!({"metadata": {"finalizers": ["e.example.com/hold"]}});
    scene.api.patch(&child, "merge", &hold).await?.ok()?;
    let dying = scene
        .api
        .delete(&owner, &json!({"propagationPolicy": "Foreground"}))
        .await?
        .ok()?;
    ensure!(
        dying["metadata"]["finalizers"] == json!(["foregroundDeletion"]),
        "{dying}"
    );
    ensure!(dying["metadata"]["deletionGracePeriodSeconds"] == 0, "{dying}");
    scene
        .until(&scene.core("secrets"), "child", |child| {
            !child["metadata"]["deletionTimestamp"].is_null()
        })
        .await?;
    scene.api.get(&owner).await?.ok().context("the owner went first")?;
    let none = json!({"metadata": {"finalizers": null}});
    scene.api.patch(&child, "merge", &none).await?.ok()?;
    scene.until_gone(&scene.core("configmaps"), "owner").await?;
    scene.api.get(&child).await?.fails(404, "NotFound")
}

async fn orphans(scene: Scene) -> anyhow::Result<()> {
    let owner = family(&scene).await?;
    scene
        .api
        .delete(&owner, &json!({"propagationPolicy": "Orphan"}))
        .await?
        .ok()?;
    scene.until_gone(&scene.core("configmaps"), "owner").await?;
    let child = scene.api.get(&format!("{}/child", scene.core("secrets"))).await?.ok()?;
    ensure!(child["metadata"].get("ownerReferences").is_none(), "{child}");
    ensure!(child["metadata"].get("deletionTimestamp").is_none(), "{child}");
    Ok(())
}

async fn graceful(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    scene.api.post(&pods, &pod("p")).await?.is(201)?;
    let path = format!("{pods}/p");
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}});
    scene.api.post(&format!("{path}/binding"), &binding).await?.is(201)?;
    let dying = scene
        .api
        .delete(&path, &json!({"gracePeriodSeconds": 300}))
        .await?
        .ok()?;
    ensure!(dying["metadata"]["deletionGracePeriodSeconds"] == 300, "{dying}");
    ensure!(
        dying["kind"] == "Pod" && !dying["metadata"]["deletionTimestamp"].is_null(),
        "{dying}"
    );
    // Time is only ever taken away.
    let longer = scene
        .api
        .delete(&path, &json!({"gracePeriodSeconds": 400}))
        .await?
        .ok()?;
    ensure!(
        longer["metadata"]["deletionTimestamp"] == dying["metadata"]["deletionTimestamp"],
        "{longer}"
    );
    let shorter = scene
        .api
        .delete(&format!("{path}?gracePeriodSeconds=100"), &Value::Null)
        .await?
        .ok()?;
    ensure!(shorter["metadata"]["deletionGracePeriodSeconds"] == 100, "{shorter}");
    scene.api.delete(&path, &json!({"gracePeriodSeconds": 0})).await?.ok()?;
    scene.api.get(&path).await?.fails(404, "NotFound")?;
    // Nobody has to be told of the end of a pod that no node has.
    scene.api.post(&pods, &pod("q")).await?.is(201)?;
    scene.api.delete(&format!("{pods}/q"), &Value::Null).await?.ok()?;
    scene.api.get(&format!("{pods}/q")).await?.fails(404, "NotFound")
}

async fn trials(scene: Scene) -> anyhow::Result<()> {
    let maps = scene.core("configmaps");
    let dry = scene
        .api
        .post(
            &format!("{maps}?dryRun=All"),
            &json!({"metadata": {"generateName": "m-"}}),
        )
        .await?;
    dry.is(201)?;
    let dry = dry.ok()?;
    ensure!(
        dry["metadata"]["uid"].is_string() && dry["metadata"]["creationTimestamp"].is_string(),
        "{dry}"
    );
    ensure!(dry["metadata"].get("resourceVersion").is_none(), "{dry}");
    let name = dry["metadata"]["name"].as_str().context("no name")?;
    scene.api.get(&format!("{maps}/{name}")).await?.fails(404, "NotFound")?;
    let made = scene.map("m", &json!({"v": "1"})).await?;
    let one = format!("{maps}/m");
    let mut changed = made.clone();
    changed["data"]["v"] = json!("2");
    let dry = scene.api.put(&format!("{one}?dryRun=All"), &changed).await?.ok()?;
    ensure!(dry["data"]["v"] == "2", "{dry}");
    scene
        .api
        .patch(&format!("{one}?dryRun=All"), "merge", &json!({"data": {"v": "3"}}))
        .await?
        .ok()?;
    scene.api.delete(&one, &json!({"dryRun": ["All"]})).await?.ok()?;
    scene
        .api
        .delete(&format!("{maps}?dryRun=All"), &Value::Null)
        .await?
        .ok()?;
    ensure!(scene.api.get(&one).await?.ok()? == made, "a trial is stored");
    scene
        .api
        .post(&format!("{maps}?dryRun=Some"), &json!({"metadata": {"name": "x"}}))
        .await?
        .fails(422, "Invalid")?;
    // A trial is checked like the real thing, and takes no address.
    let long = json!({"metadata": {"name": "X"}});
    scene
        .api
        .post(&format!("{maps}?dryRun=All"), &long)
        .await?
        .fails(422, "Invalid")?;
    let exists = json!({"metadata": {"name": "m"}});
    scene
        .api
        .post(&format!("{maps}?dryRun=All"), &exists)
        .await?
        .fails(409, "AlreadyExists")?;
    let services = scene.core("services");
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let made = scene.api.post(&services, &service).await?.ok()?;
    scene
        .api
        .delete(&format!("{services}/s?dryRun=All"), &Value::Null)
        .await?
        .ok()?;
    let same =
        json!({"metadata": {"name": "t"}, "spec": {"clusterIP": made["spec"]["clusterIP"], "ports": [{"port": 80}]}});
    scene
        .api
        .post(&services, &same)
        .await?
        .says(422, "Invalid", "spec.clusterIPs")
}

async fn field_validation(scene: Scene) -> anyhow::Result<()> {
    let deployments = scene.of("apps/v1", "deployments");
    let sent = r#"{"metadata": {"name": "d"}, "unknown1": 1, "spec": {"replicas": 0, "replicas": 0, "strange": 1,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
        "containers": [{"name": "c", "image": "i", "imagePullSecret": "x"}]}}}}"#;
    let json = &[(header::CONTENT_TYPE, "application/json")];
    let send = |how: &str| {
        let (api, path) = (
            scene.api.clone(),
            format!("{deployments}?dryRun=All&fieldValidation={how}"),
        );
        async move { api.send("POST", &path, json, sent).await }
    };
    let problems = [
        "unknown field \"spec.strange\"",
        "unknown field \"spec.template.spec.containers[0].imagePullSecret\"",
        "unknown field \"unknown1\"",
        "duplicate field \"spec.replicas\"",
    ];
    let strict = send("Strict").await?;
    for problem in problems {
        strict.says(400, "BadRequest", problem)?;
    }
    strict.says(400, "BadRequest", "strict decoding error: ")?;
    for how in ["Warn", ""] {
        let warned = send(how).await?;
        warned.is(201)?;
        for problem in problems {
            let quoted = problem.replace('"', "\\\"");
            let said = warned
                .warnings
                .iter()
                .any(|text| text.starts_with("299 - \"") && text.contains(&quoted));
            ensure!(said, "{how:?} {problem}: {:?}", warned.warnings);
        }
        ensure!(warned.ok()?["spec"].get("strange").is_none());
    }
    let ignored = send("Ignore").await?;
    ignored.is(201)?;
    ensure!(ignored.warnings.is_empty(), "{:?}", ignored.warnings);
    // YAML bodies are read just so.
    let yaml = [(header::CONTENT_TYPE, "application/yaml")];
    let text = "metadata: {name: yaml}\ndata: {a: \"1\"}\nstrange: 1\n";
    let path = format!("{}?fieldValidation=Strict", scene.core("configmaps"));
    scene
        .api
        .send("POST", &path, &yaml, text)
        .await?
        .says(400, "BadRequest", "unknown field \"strange\"")?;
    let made = scene
        .api
        .send("POST", &scene.core("configmaps"), &yaml, text)
        .await?
        .ok()?;
    ensure!(made["data"]["a"] == "1", "{made}");
    Ok(())
}

async fn canonical(scene: Scene) -> anyhow::Result<()> {
    let mut sent = pod("p");
    sent["spec"]["containers"][0]["resources"] = json!({
        "requests": {"cpu": "0.1", "memory": "1024Ki"}, "limits": {"cpu": "1000m", "memory": "1.5Gi", "ephemeral-storage": "1e3"}});
    sent["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    let made = scene.api.post(&scene.core("pods"), &sent).await?.ok()?;
    let resources = &made["spec"]["containers"][0]["resources"];
    ensure!(
        resources["requests"] == json!({"cpu": "100m", "memory": "1Mi", "ephemeral-storage": "1e3"}),
        "{resources}"
    );
    ensure!(
        resources["limits"] == json!({"cpu": "1", "memory": "1536Mi", "ephemeral-storage": "1e3"}),
        "{resources}"
    );
    ensure!(
        made["metadata"]["creationTimestamp"] != "2001-01-01T00:00:00Z",
        "{made}"
    );
    for (place, value) in [
        ("/spec/restartPolicy", json!("Always")),
        ("/spec/dnsPolicy", json!("ClusterFirst")),
        ("/spec/terminationGracePeriodSeconds", json!(30)),
        ("/spec/securityContext", json!({})),
        ("/spec/enableServiceLinks", json!(true)),
        ("/spec/serviceAccountName", json!("default")),
        ("/spec/containers/0/imagePullPolicy", json!("Always")),
        (
            "/spec/containers/0/terminationMessagePath",
            json!("/dev/termination-log"),
        ),
        ("/spec/containers/0/terminationMessagePolicy", json!("File")),
        ("/status/phase", json!("Pending")),
        ("/status/qosClass", json!("Burstable")),
    ] {
        ensure!(made.pointer(place) == Some(&value), "{place}: {made}");
    }
    let lease = json!({"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-01T01:00:00.500000+01:00"}});
    let lease = scene
        .api
        .post(&scene.of("coordination.k8s.io/v1", "leases"), &lease)
        .await?
        .ok()?;
    ensure!(lease["spec"]["renewTime"] == "2026-01-01T00:00:00.500000Z", "{lease}");
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}});
    let secret = scene.api.post(&scene.core("secrets"), &secret).await?.ok()?;
    ensure!(
        secret["data"]["k"] == "dg==" && secret.get("stringData").is_none(),
        "{secret}"
    );
    ensure!(secret["type"] == "Opaque", "{secret}");
    let nulls = json!({"metadata": {"name": "n", "labels": null, "annotations": {}}, "data": null});
    let made = scene.api.post(&scene.core("configmaps"), &nulls).await?.ok()?;
    ensure!(
        made.get("data").is_none() && made["metadata"].get("labels").is_none(),
        "{made}"
    );
    ensure!(made["metadata"].get("annotations").is_none(), "{made}");
    Ok(())
}

async fn immutable(scene: Scene) -> anyhow::Result<()> {
    for plural in ["configmaps", "secrets"] {
        let path = format!("{}/m", scene.core(plural));
        let sealed = json!({"metadata": {"name": "m"}, "data": {"k": "dg=="}, "immutable": true});
        scene.api.post(&scene.core(plural), &sealed).await?.is(201)?;
        let changed = scene.api.patch(&path, "merge", &json!({"data": {"k": "dw=="}})).await?;
        changed.says(422, "Invalid", "field is immutable when `immutable` is set")?;
        scene
            .api
            .patch(&path, "merge", &json!({"immutable": false}))
            .await?
            .fails(422, "Invalid")?;
        let labelled = json!({"metadata": {"labels": {"a": "b"}}});
        scene
            .api
            .patch(&path, "merge", &labelled)
            .await?
            .ok()
            .context("labels are not its data")?;
        let listed = scene.api.get(&scene.core(plural)).await?.ok()?;
        ensure!(names(&listed).contains(&"m"), "{listed}");
    }
    Ok(())
}
