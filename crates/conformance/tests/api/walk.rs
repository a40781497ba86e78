//! Every kind that discovery lists is walked through its verbs.

use crate::calls::{Api, PROTOBUF};
use crate::changes;
use crate::resources::{Resource, resources};
use crate::scene::Scene;
use anyhow::{Context, bail, ensure};
use http::header;
use serde_json::{Value, json};

const MANAGER: &str = "fieldManager=walk";

/// Resources whose PUT creates.
const CREATED_BY_PUT: &[&str] = &[
    "endpoints",
    "events",
    "limitranges",
    "services",
    "leases",
    "roles",
    "clusterroles",
    "rolebindings",
    "clusterrolebindings",
    "runtimeclasses",
];

/// How many kinds walk beside each other.
const ABREAST: usize = 12;

/// Walks all kinds, each beside others.
pub(crate) async fn every_kind(api: &Api) -> anyhow::Result<()> {
    let scene = Scene::new(api).await?;
    let resources = resources(api, &scene.namespace).await?;
    ensure!(resources.len() > 40, "only {} kinds are listed", resources.len());
    let free = std::sync::Arc::new(tokio::sync::Semaphore::new(ABREAST));
    let mut walks = tokio::task::JoinSet::new();
    for resource in resources {
        let (api, free) = (api.clone(), free.clone());
        walks.spawn(async move {
            let _turn = free.acquire().await?;
            let walked = walk(&api, &resource).await;
            walked.with_context(|| format!("{} {}", resource.api_version(), resource.plural))
        });
    }
    let mut wrong = Vec::new();
    while let Some(walked) = walks.join_next().await {
        wrong.extend(walked?.err().map(|error| format!("{error:#}")));
    }
    wrong.sort();
    ensure!(wrong.is_empty(), "{} kinds fail:\n{}", wrong.len(), wrong.join("\n"));
    scene.leave().await
}

async fn walk(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    create(api, resource).await.context("create")?;
    read(api, resource).await.context("read")?;
    queries(api, resource).await.context("queries")?;
    let revision = api.get(&resource.collection()).await?.ok()?["metadata"]["resourceVersion"].clone();
    patch(api, resource).await.context("patch")?;
    apply(api, resource).await.context("apply")?;
    update(api, resource).await.context("update")?;
    protobuf(api, resource).await.context("protobuf")?;
    unknown_fields(api, resource).await.context("field validation")?;
    changes::spec(api, resource).await.context("a change of the spec")?;
    changes::refused(api, resource).await.context("what cannot change")?;
    if resource.subresources.iter().any(|part| part == "status") {
        status(api, resource).await.context("status")?;
        changes::status(api, resource).await.context("a change of the status")?;
    }
    if resource.subresources.iter().any(|part| part == "scale") {
        scale(api, resource).await.context("scale")?;
    }
    delete(api, resource).await.context("delete")?;
    watch(api, resource, revision.as_str().unwrap_or_default())
        .await
        .context("watch")?;
    finalizers(api, resource).await.context("finalizers")?;
    if resource.has("deletecollection") {
        delete_collection(api, resource).await.context("deletecollection")?;
    }
    Ok(())
}

async fn create(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let (collection, sample) = (resource.collection(), resource.sample(1)?);
    api.post(&format!("{collection}?dryRun=All"), &sample).await?.is(201)?;
    api.get(&resource.one(1)).await?.fails(404, "NotFound")?;
    let created = api.post(&collection, &sample).await?;
    created.is(201)?;
    let created = created.ok()?;
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        ensure!(!created["metadata"][field].is_null(), "no metadata.{field}: {created}");
    }
    ensure!(created["kind"] == resource.kind.as_str(), "{created}");
    ensure!(created["apiVersion"] == resource.api_version(), "{created}");
    api.post(&collection, &sample).await?.fails(409, "AlreadyExists")?;
    let mut nameless = sample.clone();
    nameless["metadata"] = json!({});
    let answer = api.post(&format!("{collection}?dryRun=All"), &nameless).await?;
    if resource.plural == "limitranges" {
        // The one kind that is given a name.
        answer.is(201)?;
    } else {
        answer.fails(422, "Invalid")?;
    }
    let mut stamped = resource.sample(2)?;
    stamped["metadata"]["resourceVersion"] = json!("1");
    api.post(&collection, &stamped).await?.fails(500, "")?;
    let mut generated = resource.sample(2)?;
    generated["metadata"] = json!({"generateName": "walk-"});
    // Some names must say what the object holds.
    if !["apiservices", "ipaddresses", "customresourcedefinitions"].contains(&resource.plural.as_str()) {
        let generated = api.post(&format!("{collection}?dryRun=All"), &generated).await?;
        let name = generated.ok()?["metadata"]["name"].clone();
        let rest = name.as_str().and_then(|name| name.strip_prefix("walk-"));
        ensure!(rest.is_some_and(|rest| rest.len() == 5), "generateName makes {name}");
    }
    let mut elsewhere = resource.sample(2)?;
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    let elsewhere = api.post(&format!("{collection}?dryRun=All"), &elsewhere).await?;
    if resource.namespaced {
        elsewhere.fails(400, "BadRequest")?;
    } else {
        let made = elsewhere.ok()?;
        ensure!(made["metadata"]["namespace"].is_null(), "{made}");
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    let broken = api.send("POST", &collection, &json, r#"{"metadata": {"#).await?;
    broken.fails(400, "BadRequest")?;
    stranger(api, resource).await
}

/// Who has no right is told so in upstream's words.
async fn stranger(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let Resource { group, plural, .. } = resource;
    let place = if resource.namespaced {
        format!("in the namespace \"{}\"", resource.namespace)
    } else {
        "at the cluster scope".to_owned()
    };
    let what = format!("User \"walker\" cannot list resource \"{plural}\" in API group \"{group}\" {place}");
    let listed = api.acting_as("walker").get(&resource.collection()).await?;
    listed.says(403, "Forbidden", &what)
}

async fn read(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let (collection, name) = (resource.collection(), resource.name(1));
    let object = api.get(&resource.one(1)).await?.ok()?;
    ensure!(object["metadata"]["name"] == name.as_str());
    let list = api.get(&format!("{collection}?{}", resource.selector())).await?.ok()?;
    ensure!(list["kind"] == format!("{}List", resource.kind), "{list}");
    ensure!(list["items"].as_array().map(Vec::len) == Some(1), "{list}");
    ensure!(list["items"][0].get("kind").is_none(), "an item has a kind");
    let everywhere = format!("{}?{}", resource.everywhere(), resource.selector());
    let list = api.get(&everywhere).await?.ok()?;
    ensure!(list["items"].as_array().map(Vec::len) == Some(1), "{list}");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = api
        .get_as(&format!("{collection}?{}", resource.selector()), table)
        .await?
        .ok()?;
    let columns = table["columnDefinitions"]
        .as_array()
        .with_context(|| table.to_string())?;
    let at = columns
        .iter()
        .position(|column| column["name"] == "Name")
        .context("no name")?;
    let cells = table["rows"][0]["cells"]
        .as_array()
        .with_context(|| table.to_string())?;
    ensure!(columns.len() == cells.len() && cells[at] == name.as_str(), "{table}");
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = api
        .get_as(&format!("{collection}?{}", resource.selector()), partial)
        .await?
        .ok()?;
    ensure!(partial["kind"] == "PartialObjectMetadataList", "{partial}");
    ensure!(partial["items"][0].get("spec").is_none(), "{partial}");
    if !resource.group.contains("example.com") {
        let protobuf = api.get_as(&collection, "application/vnd.kubernetes.protobuf").await?;
        ensure!(protobuf.text.starts_with("k8s\0"), "{}", protobuf.text);
    }
    api.get_as(&collection, "application/cbor")
        .await?
        .fails(406, "NotAcceptable")?;
    Ok(())
}

/// What lists can be asked for, and what cannot.
async fn queries(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let (collection, name) = (resource.collection(), resource.name(1));
    let by_name = api
        .get(&format!("{collection}?fieldSelector=metadata.name%3D{name}"))
        .await?
        .ok()?;
    ensure!(by_name["items"].as_array().map(Vec::len) == Some(1), "{by_name}");
    let others = format!(
        "{collection}?fieldSelector=metadata.name%21%3D{name}&{}",
        resource.selector()
    );
    let none = api.get(&others).await?.ok()?;
    ensure!(none["items"] == json!([]), "{none}");
    for query in [
        "fieldSelector=spec.nonsense%3Dx",
        "labelSelector=%3D%3D",
        "continue=%21",
        "limit=x",
    ] {
        let answer = api.get(&format!("{collection}?{query}")).await?;
        answer.fails(400, "BadRequest").context(query)?;
    }
    for query in [
        "resourceVersionMatch=Exact",
        "sendInitialEvents=true",
        "resourceVersion=0&resourceVersionMatch=Exact",
    ] {
        let answer = api.get(&format!("{collection}?{query}")).await?;
        answer.fails(422, "Invalid").context(query)?;
    }
    for query in ["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan"] {
        let answer = api.get(&format!("{collection}?watch=true&{query}")).await?;
        answer.fails(422, "Invalid").context(query)?;
    }
    Ok(())
}

async fn patch(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let one = resource.one(1);
    let label = |value: &str| json!({"metadata": {"labels": {"patched": value}}});
    let before = api.get(&one).await?.ok()?;
    for (kind, patch) in [
        ("merge", label("merge")),
        ("strategic-merge", label("strategic-merge")),
        (
            "json",
            json!([{"op": "add", "path": "/metadata/labels/patched", "value": "json"}]),
        ),
    ] {
        let path = format!("{one}?dryRun=All");
        let dry = api.patch(&path, kind, &patch).await?.ok()?;
        ensure!(dry["metadata"]["labels"]["patched"] == kind, "{dry}");
        let patched = api.patch(&one, kind, &patch).await?.ok()?;
        ensure!(patched["metadata"]["labels"]["patched"] == kind, "{patched}");
        ensure!(patched["metadata"]["uid"] == before["metadata"]["uid"]);
    }
    if resource.plural != "endpointslices" {
        let after = api.get(&one).await?.ok()?;
        ensure!(
            after["metadata"]["generation"] == before["metadata"]["generation"],
            "a label counts as a generation"
        );
    }
    unchanged(api, &one).await?;
    let stale = json!({"metadata": {"resourceVersion": "1", "labels": {"patched": "stale"}}});
    api.patch(&one, "merge", &stale).await?.fails(409, "Conflict")?;
    let test = json!([{"op": "test", "path": "/metadata/name", "value": "other"}]);
    api.patch(&one, "json", &test).await?.fails(422, "Invalid")?;
    api.patch(&one, "json", &json!({})).await?.fails(400, "BadRequest")?;
    api.patch(&one, "cbor", &json!({}))
        .await?
        .fails(415, "UnsupportedMediaType")?;
    api.patch(&resource.one(9), "merge", &label("x"))
        .await?
        .fails(404, "NotFound")?;
    Ok(())
}

async fn apply(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let one = resource.one(1);
    let apply = json!({"apiVersion": resource.api_version(), "kind": resource.kind,
        "metadata": {"name": resource.name(1), "annotations": {"applied": "yes"}}});
    api.apply(&one, &apply).await?.fails(422, "Invalid")?;
    let applied = api.apply(&format!("{one}?{MANAGER}"), &apply).await?.ok()?;
    ensure!(applied["metadata"]["annotations"]["applied"] == "yes", "{applied}");
    let managers = applied["metadata"]["managedFields"].as_array().context("no managers")?;
    ensure!(
        managers
            .iter()
            .any(|entry| entry["manager"] == "walk" && entry["operation"] == "Apply")
    );
    let other = json!({"metadata": {"annotations": {"applied": "no"}}});
    api.patch(&format!("{one}?fieldManager=other"), "merge", &other)
        .await?
        .ok()?;
    api.apply(&format!("{one}?{MANAGER}"), &apply)
        .await?
        .fails(409, "Conflict")?;
    api.apply(&format!("{one}?{MANAGER}&force=true"), &apply).await?.ok()?;
    api.patch(&format!("{one}?force=true"), "merge", &other)
        .await?
        .fails(422, "Invalid")?;
    Ok(())
}

/// A write that changes nothing leaves the version as it is. Controllers may write in between.
async fn unchanged(api: &Api, one: &str) -> anyhow::Result<()> {
    for _ in 0..5 {
        let before = api.get(one).await?.ok()?;
        let after = api.patch(one, "merge", &json!({})).await?.ok()?;
        if before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"] {
            return Ok(());
        }
    }
    bail!("a patch without a change changes the version")
}

async fn update(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let one = resource.one(1);
    let updated = api.change(&one, |object| object["metadata"]["labels"]["updated"] = json!("yes"));
    ensure!(updated.await?["metadata"]["labels"]["updated"] == "yes");
    let mut object = api.get(&one).await?.ok()?;
    object["metadata"]["resourceVersion"] = json!("1");
    api.put(&one, &object).await?.fails(409, "Conflict")?;
    object = api.get(&one).await?.ok()?;
    object["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    api.put(&one, &object).await?.fails(409, "Conflict")?;
    object["metadata"]["name"] = json!("another");
    api.put(&one, &object).await?.fails(400, "BadRequest")?;
    let absent = api.put(&resource.one(3), &resource.sample(3)?).await?;
    if CREATED_BY_PUT.contains(&resource.plural.as_str()) {
        absent.is(201)?;
        api.delete(&resource.one(3), &Value::Null).await?.ok()?;
    } else {
        absent.fails(404, "NotFound")?;
    }
    Ok(())
}

/// An object read in protobuf and written back is the same object.
async fn protobuf(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let one = resource.one(1);
    loop {
        let before = api.get(&one).await?.ok()?;
        let encoded = api.get_as(&one, PROTOBUF).await?;
        encoded.is(200)?;
        ensure!(encoded.header("content-type") == PROTOBUF, "{:?}", encoded.headers);
        ensure!(encoded.body.starts_with(b"k8s\0"), "{}", encoded.text);
        if api.get(&one).await?.ok()? != before {
            continue;
        }
        let headers = [(header::CONTENT_TYPE, PROTOBUF)];
        let path = format!("{one}?{MANAGER}");
        let put = api.send("PUT", &path, &headers, encoded.body).await?;
        if put.code == 409 {
            continue;
        }
        let mut after = put.ok()?;
        after["metadata"]["managedFields"] = before["metadata"]["managedFields"].clone();
        after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        ensure!(after == before, "protobuf makes\n{after}\nof\n{before}");
        let headers = [(header::CONTENT_TYPE, PROTOBUF), (header::ACCEPT, PROTOBUF)];
        let broken = api
            .send("POST", &resource.collection(), &headers, "k8s\0\n\u{7f}")
            .await?;
        broken.is(400)?;
        return Ok(());
    }
}

async fn unknown_fields(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let mut sample = resource.sample(2)?;
    sample["walkUnknown"] = json!(1);
    let path = |how: &str| format!("{}?dryRun=All&fieldValidation={how}", resource.collection());
    let strict = api.post(&path("Strict"), &sample).await?;
    strict.fails(400, "BadRequest")?;
    ensure!(
        strict.text.contains("unknown field \\\"walkUnknown\\\""),
        "{}",
        strict.text
    );
    let warned = api.post(&path("Warn"), &sample).await?;
    warned.is(201)?;
    let warns = warned.warnings.iter().any(|text| text.contains("unknown field"));
    ensure!(warns, "{:?}", warned.warnings);
    ensure!(warned.ok()?.get("walkUnknown").is_none());
    let ignored = api.post(&path("Ignore"), &sample).await?;
    ensure!(!ignored.warnings.iter().any(|text| text.contains("unknown field")));
    api.post(&path("Sometimes"), &sample).await?.fails(422, "Invalid")?;
    let patch = json!({"walkUnknown": 1});
    for kind in ["merge", "strategic-merge"] {
        let strict = format!("{}?dryRun=All&fieldValidation=Strict", resource.one(1));
        let strict = api.patch(&strict, kind, &patch).await?;
        ensure!(
            matches!(strict.code, 400 | 422) && strict.text.contains("unknown field"),
            "{}",
            strict.text
        );
    }
    Ok(())
}

async fn status(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let path = format!("{}/status", resource.one(1));
    let before = api.get(&path).await?.ok()?;
    ensure!(before["kind"] == resource.kind.as_str(), "{before}");
    // A write through status cannot touch what is owned by the main resource.
    let patch = json!({"metadata": {"ownerReferences": null}, "spec": {"walkUnknown": null}});
    let patched = api.patch(&path, "merge", &patch).await?.ok()?;
    // A new node is tainted by a controller at any moment.
    let same = patched["spec"] == before["spec"] || resource.plural == "nodes";
    ensure!(same, "the spec changed through status: {patched}");
    api.change(&path, |_| ()).await?;
    api.post(&path, &before).await?.fails(405, "MethodNotAllowed")?;
    Ok(())
}

async fn scale(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let path = format!("{}/scale", resource.one(1));
    let scale = api.get(&path).await?.ok()?;
    ensure!(
        scale["kind"] == "Scale" && scale["apiVersion"] == "autoscaling/v1",
        "{scale}"
    );
    let generation = api.get(&resource.one(1)).await?.ok()?["metadata"]["generation"].as_i64();
    let same = api
        .patch(&path, "merge", &json!({"spec": {"replicas": 0}}))
        .await?
        .ok()?;
    ensure!(same["spec"]["replicas"].as_i64().unwrap_or(0) == 0, "{same}");
    let negative = json!({"spec": {"replicas": -1}});
    api.patch(&path, "merge", &negative).await?.fails(422, "Invalid")?;
    let after = api.get(&resource.one(1)).await?.ok()?["metadata"]["generation"].as_i64();
    ensure!(after == generation, "a scale to the same number is a new generation");
    Ok(())
}

async fn delete(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let one = resource.one(1);
    let object = api.get(&one).await?.ok()?;
    let uid = object["metadata"]["uid"].clone();
    let wrong = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    api.delete(&one, &wrong).await?.fails(409, "Conflict")?;
    api.delete(&format!("{one}?dryRun=All"), &Value::Null).await?.ok()?;
    ensure!(api.get(&one).await?.ok()?["metadata"]["uid"] == uid, "a trial deletes");
    let both = json!({"propagationPolicy": "Orphan", "orphanDependents": true});
    api.delete(&one, &both).await?.fails(422, "Invalid")?;
    let options = json!({"preconditions": {"uid": uid}, "propagationPolicy": "Background"});
    api.delete(&one, &options).await?.ok()?;
    gone(api, resource, 1).await?;
    api.delete(&one, &Value::Null).await?.fails(404, "NotFound")
}

/// Waits until whoever holds an object has let go of it.
async fn gone(api: &Api, resource: &Resource, index: usize) -> anyhow::Result<()> {
    let scene = Scene {
        api: api.clone(),
        namespace: resource.namespace.clone(),
    };
    scene.until_gone(&resource.collection(), &resource.name(index)).await
}

/// An object with a finalizer stays until that is taken away, and takes no new one.
async fn finalizers(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    let one = resource.one(7);
    let mut sample = resource.sample(7)?;
    sample["metadata"]["finalizers"] = json!(["walk.example.com/hold"]);
    api.post(&resource.collection(), &sample).await?.is(201)?;
    api.delete(&one, &json!({"propagationPolicy": "Background"}))
        .await?
        .ok()?;
    let dying = api.get(&one).await?.ok()?;
    ensure!(!dying["metadata"]["deletionTimestamp"].is_null(), "{dying}");
    let more = json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "walk.example.com/more"}]);
    api.patch(&one, "json", &more).await?.fails(422, "Invalid")?;
    api.delete(&one, &Value::Null).await?.ok()?;
    let others = dying["metadata"]["finalizers"].as_array().context("no finalizers")?;
    let at = others.iter().position(|own| own == "walk.example.com/hold");
    let path = format!("/metadata/finalizers/{}", at.context("the finalizer is gone")?);
    let none = json!([{"op": "test", "path": path, "value": "walk.example.com/hold"}, {"op": "remove", "path": path}]);
    api.patch(&one, "json", &none).await?.ok()?;
    gone(api, resource, 7).await
}

/// What happened since a version, and what a list by watch gives.
async fn watch(api: &Api, resource: &Resource, since: &str) -> anyhow::Result<()> {
    let path = format!(
        "{}?watch=true&timeoutSeconds=90&resourceVersion={since}&{}",
        resource.collection(),
        resource.selector()
    );
    let name = resource.name(1);
    let events = api.events(&path, |event| {
        event["type"] == "DELETED" && event["object"]["metadata"]["name"] == name.as_str()
    });
    let events = events.await?;
    let first = events.first().context("no event")?;
    ensure!(first["type"] == "MODIFIED", "{first}");
    ensure!(first["object"]["kind"] == resource.kind.as_str(), "{first}");
    let version = |event: &Value| {
        event["object"]["metadata"]["resourceVersion"]
            .as_str()
            .map(str::parse::<u64>)
    };
    let versions: Result<Vec<u64>, _> = events.iter().filter_map(version).collect();
    ensure!(versions?.is_sorted(), "events are out of order");
    let path = format!(
        "{}?watch=true&timeoutSeconds=90&allowWatchBookmarks=true&sendInitialEvents=true&\
         resourceVersionMatch=NotOlderThan&{}",
        resource.collection(),
        resource.selector()
    );
    let events = api.events(&path, |event| event["type"] == "BOOKMARK").await?;
    let mark = &events.last().context("no bookmark")?["object"]["metadata"]["annotations"];
    ensure!(mark["k8s.io/initial-events-end"] == "true", "{events:?}");
    Ok(())
}

async fn delete_collection(api: &Api, resource: &Resource) -> anyhow::Result<()> {
    for index in [4, 5, 6] {
        api.post(&resource.collection(), &resource.sample(index)?)
            .await?
            .is(201)?;
    }
    let selected = format!("{}?{}", resource.collection(), resource.selector());
    let page = api.get(&format!("{selected}&limit=2")).await?.ok()?;
    ensure!(page["items"].as_array().map(Vec::len) == Some(2), "{page}");
    let next = page["metadata"]["continue"].as_str().context("no continue token")?;
    let rest = api.get(&format!("{selected}&limit=2&continue={next}")).await?.ok()?;
    ensure!(rest["items"].as_array().map(Vec::len) == Some(1), "{rest}");
    ensure!(
        rest["metadata"]["resourceVersion"] == page["metadata"]["resourceVersion"],
        "pages of two states"
    );
    api.delete(&format!("{selected}&dryRun=All"), &Value::Null)
        .await?
        .ok()?;
    let kept = api.get(&selected).await?.ok()?;
    ensure!(
        kept["items"].as_array().map(Vec::len) == Some(3),
        "a trial deletes: {kept}"
    );
    api.delete(&selected, &Value::Null).await?.ok()?;
    for index in [4, 5, 6] {
        gone(api, resource, index).await?;
    }
    Ok(())
}
