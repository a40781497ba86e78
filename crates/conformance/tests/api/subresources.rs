//! Subresources that are not of pods: scale, tokens of ServiceAccounts, approval of certificates.

use crate::scene::{Idea, Scene, pod};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

pub(crate) const IDEAS: &[Idea] = &[
    ("subresources: scale", |scene| Box::pin(scale(scene))),
    ("subresources: tokens of ServiceAccounts", |scene| {
        Box::pin(tokens(scene))
    }),
    ("subresources: tokens die with what they are bound to", |scene| {
        Box::pin(bound_tokens(scene))
    }),
    ("subresources: approval of certificates", |scene| {
        Box::pin(approval(scene))
    }),
];

async fn scale(scene: Scene) -> anyhow::Result<()> {
    for (group_version, plural, selector) in [
        (
            "apps/v1",
            "deployments",
            json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]}),
        ),
        (
            "apps/v1",
            "replicasets",
            json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]}),
        ),
        (
            "apps/v1",
            "statefulsets",
            json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]}),
        ),
        ("v1", "replicationcontrollers", json!({"a": "b", "c": "d"})),
    ] {
        let collection = if group_version == "v1" {
            scene.core(plural)
        } else {
            scene.of(group_version, plural)
        };
        let object = json!({"metadata": {"name": "s"}, "spec": {"replicas": 0, "serviceName": "s", "selector": selector,
            "template": {"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        let made = scene.api.post(&collection, &object).await?.ok().context(plural)?;
        scale_one(&scene, &format!("{collection}/s"), &made)
            .await
            .context(plural)?;
    }
    Ok(())
}

async fn scale_one(scene: &Scene, path: &str, made: &Value) -> anyhow::Result<()> {
    let scale_path = format!("{path}/scale");
    let scale = scene.api.get(&scale_path).await?.ok()?;
    ensure!(
        scale["kind"] == "Scale" && scale["apiVersion"] == "autoscaling/v1",
        "{scale}"
    );
    ensure!(scale["metadata"]["uid"] == made["metadata"]["uid"], "{scale}");
    ensure!(
        scale["spec"] == json!({}) && scale["status"]["replicas"] == 0,
        "{scale}"
    );
    let selector = scale["status"]["selector"].as_str().unwrap_or_default();
    ensure!(selector == "a=b,c" || selector == "a=b,c=d", "{scale}");
    // Paused or not, controllers may write the status in between.
    let scaled = scene
        .api
        .change(&scale_path, |scale| scale["spec"]["replicas"] = json!(1))
        .await?;
    ensure!(scaled["spec"]["replicas"] == 1, "{scaled}");
    let mut stale = scaled.clone();
    stale["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
    scene.api.put(&scale_path, &stale).await?.fails(409, "Conflict")?;
    let object = scene.api.get(path).await?.ok()?;
    ensure!(
        object["spec"]["replicas"] == 1 && object["metadata"]["generation"] == 2,
        "{object}"
    );
    for kind in ["merge", "strategic-merge"] {
        let patched = scene
            .api
            .patch(&scale_path, kind, &json!({"spec": {"replicas": 0}}))
            .await?
            .ok()?;
        ensure!(patched["spec"]["replicas"].as_i64().unwrap_or(0) == 0, "{patched}");
    }
    let negative = json!({"spec": {"replicas": -1}});
    let refused = scene.api.patch(&scale_path, "merge", &negative).await?;
    refused.says(422, "Invalid", "spec.replicas: Invalid value: -1")?;
    scene
        .api
        .post(&scale_path, &scale)
        .await?
        .fails(405, "MethodNotAllowed")?;
    let absent = format!("{path}-absent/scale");
    scene.api.get(&absent).await?.fails(404, "NotFound")
}

async fn account(scene: &Scene, name: &str) -> anyhow::Result<String> {
    let accounts = scene.core("serviceaccounts");
    scene
        .api
        .post(&accounts, &json!({"metadata": {"name": name}}))
        .await?
        .is(201)?;
    Ok(format!("{accounts}/{name}/token"))
}

fn request(spec: &Value) -> Value {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
}

/// The claims of a token, without a look at its signature.
fn claims(token: &str) -> anyhow::Result<Value> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let payload = token.split('.').nth(1).context("not a token")?;
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in payload.bytes() {
        let value = LETTERS.iter().position(|own| *own == letter).context("not base64")?;
        bits = bits << 6 | u32::try_from(value)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Ok(serde_json::from_slice(&bytes)?)
}

async fn review(scene: &Scene, token: &str, audiences: &Value) -> anyhow::Result<Value> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}});
    let answer = scene
        .api
        .post("/apis/authentication.k8s.io/v1/tokenreviews", &review)
        .await?;
    Ok(answer.ok()?["status"].clone())
}

async fn tokens(scene: Scene) -> anyhow::Result<()> {
    let path = account(&scene, "robot").await?;
    let answer = scene
        .api
        .post(&path, &request(&json!({"expirationSeconds": 1200})))
        .await?;
    answer.is(201)?;
    let answer = answer.ok()?;
    ensure!(
        answer["kind"] == "TokenRequest" && answer["status"]["expirationTimestamp"].is_string(),
        "{answer}"
    );
    let token = answer["status"]["token"].as_str().context("no token")?;
    let own = claims(token)?;
    let name = format!("system:serviceaccount:{}:robot", scene.namespace);
    ensure!(own["sub"] == name.as_str(), "{own}");
    ensure!(
        own["exp"]
            .as_i64()
            .zip(own["iat"].as_i64())
            .is_some_and(|(end, start)| end - start == 1200),
        "{own}"
    );
    ensure!(own["kubernetes.io"]["serviceaccount"]["name"] == "robot", "{own}");
    // It speaks for the account, which may do nothing yet.
    let robot = scene.api.stranger(Some(token))?;
    let refused = robot.get(&scene.core("configmaps")).await?;
    refused.says(
        403,
        "Forbidden",
        &format!("User \"{name}\" cannot list resource \"configmaps\""),
    )?;
    let status = review(&scene, token, &Value::Null).await?;
    ensure!(
        status["authenticated"] == true && status["user"]["username"] == name.as_str(),
        "{status}"
    );
    let groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{}", scene.namespace),
        "system:authenticated"
    ]);
    ensure!(status["user"]["groups"] == groups, "{status}");
    other_audiences(&scene, &path).await?;
    refused_requests(&scene, &path).await?;
    // A token that was tampered with is nobody's.
    let mut forged = token.to_owned().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged)?;
    scene
        .api
        .stranger(Some(&forged))?
        .get("/api/v1/pods")
        .await?
        .fails(401, "Unauthorized")?;
    scene
        .api
        .delete(&format!("{}/robot", scene.core("serviceaccounts")), &Value::Null)
        .await?
        .ok()?;
    gone(&scene, token).await
}

/// A token for others is good for them only.
async fn other_audiences(scene: &Scene, path: &str) -> anyhow::Result<()> {
    let foreign = scene
        .api
        .post(path, &request(&json!({"audiences": ["elsewhere"]})))
        .await?
        .ok()?;
    let foreign = foreign["status"]["token"].as_str().context("no token")?;
    scene
        .api
        .stranger(Some(foreign))?
        .get("/api/v1/pods")
        .await?
        .fails(401, "Unauthorized")?;
    ensure!(review(scene, foreign, &Value::Null).await?["authenticated"] != true);
    let status = review(scene, foreign, &json!(["elsewhere"])).await?;
    ensure!(
        status["authenticated"] == true && status["audiences"] == json!(["elsewhere"]),
        "{status}"
    );
    Ok(())
}

async fn refused_requests(scene: &Scene, path: &str) -> anyhow::Result<()> {
    for (spec, field) in [
        (json!({"expirationSeconds": 599}), "spec.expirationSeconds"),
        (
            json!({"expirationSeconds": 8_589_934_592_i64}),
            "spec.expirationSeconds",
        ),
    ] {
        scene
            .api
            .post(path, &request(&spec))
            .await?
            .says(422, "Invalid", field)?;
    }
    let accounts = scene.core("serviceaccounts");
    scene
        .api
        .post(&format!("{accounts}/absent/token"), &request(&json!({})))
        .await?
        .fails(404, "NotFound")?;
    Ok(())
}

/// Waits until a token is not taken any more. Servers may remember for seconds that it was good.
async fn gone(scene: &Scene, token: &str) -> anyhow::Result<()> {
    while review(scene, token, &Value::Null).await?["authenticated"] == true {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn bound_tokens(scene: Scene) -> anyhow::Result<()> {
    let path = account(&scene, "robot").await?;
    let mut own = pod("p");
    own["spec"]["serviceAccountName"] = json!("robot");
    let made = scene.api.post(&scene.core("pods"), &own).await?.ok()?;
    let reference = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]});
    let bound = scene
        .api
        .post(&path, &request(&json!({"boundObjectRef": reference})))
        .await?
        .ok()?;
    let token = bound["status"]["token"].as_str().context("no token")?;
    let status = review(&scene, token, &Value::Null).await?;
    ensure!(status["authenticated"] == true, "{status}");
    let extra = &status["user"]["extra"];
    ensure!(
        extra["authentication.kubernetes.io/pod-name"] == json!(["p"]),
        "{status}"
    );
    let other = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "00000000-0000-0000-0000-000000000000"});
    let refused = scene
        .api
        .post(&path, &request(&json!({"boundObjectRef": other})))
        .await?;
    refused.fails(409, "Conflict")?;
    let absent = json!({"kind": "Secret", "apiVersion": "v1", "name": "absent"});
    scene
        .api
        .post(&path, &request(&json!({"boundObjectRef": absent})))
        .await?
        .fails(404, "NotFound")?;
    let strange = json!({"kind": "ConfigMap", "apiVersion": "v1", "name": "p"});
    let refused = scene
        .api
        .post(&path, &request(&json!({"boundObjectRef": strange})))
        .await?;
    ensure!((400..500).contains(&refused.code), "{}", refused.text);
    scene
        .api
        .delete(&format!("{}/p", scene.core("pods")), &Value::Null)
        .await?
        .ok()?;
    gone(&scene, token).await
}

async fn approval(scene: Scene) -> anyhow::Result<()> {
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let name = scene.unique("csr");
    let request = json!({"metadata": {"name": name}, "spec": {"request": crate::samples::CERTIFICATE_REQUEST,
        "signerName": "e.example.com/none", "usages": ["client auth"]}});
    let made = scene.api.post(requests, &request).await?.ok()?;
    ensure!(
        made["spec"]["username"].is_string() && made["spec"]["groups"].is_array(),
        "{made}"
    );
    let path = format!("{requests}/{name}");
    let condition = json!({"type": "Approved", "status": "True", "reason": "Tested", "message": "m"});
    // Approval has a door of its own.
    let through = json!({"status": {"conditions": [condition]}});
    let status = scene.api.patch(&format!("{path}/status"), "merge", &through).await?;
    ensure!(
        status.code == 422 || status.ok()?["status"].get("conditions").is_none(),
        "{}",
        status.text
    );
    let door = format!("{path}/approval");
    let approved = scene.api.change(&door, |request| {
        request["status"]["conditions"] = json!([condition]);
    });
    let approved = approved.await?;
    ensure!(approved["status"]["conditions"][0]["type"] == "Approved", "{approved}");
    let both = json!({"status": {"conditions": [condition, {"type": "Denied", "status": "True", "reason": "R"}]}});
    scene.api.patch(&door, "merge", &both).await?.fails(422, "Invalid")?;
    scene.api.delete(&path, &Value::Null).await?.ok().map(drop)
}
