//! The forms of answers: tables, errors, discovery, OpenAPI, compression, protobuf, plain endpoints.

use crate::calls::PROTOBUF;
use crate::scene::{Idea, Scene, pod};
use anyhow::{Context, ensure};
use http::header;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read;

pub(crate) const IDEAS: &[Idea] = &[
    ("answers: tables", |scene| Box::pin(tables(scene))),
    ("answers: metadata alone", |scene| Box::pin(partial(scene))),
    ("answers: every error is a Status", |scene| Box::pin(errors(scene))),
    ("answers: discovery both ways says the same", |scene| {
        Box::pin(discovery(scene))
    }),
    ("answers: OpenAPI describes every kind", |scene| {
        Box::pin(open_api(scene))
    }),
    ("answers: OpenAPI v3 describes every kind", |scene| {
        Box::pin(open_api_v3(scene))
    }),
    ("answers: large ones are compressed", |scene| {
        Box::pin(compressed(scene))
    }),
    ("answers: protobuf both ways", |scene| Box::pin(protobuf(scene))),
    ("answers: health and version", |scene| Box::pin(plain(scene))),
];

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

async fn tables(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    scene.api.post(&pods, &pod("p")).await?.is(201)?;
    let table = scene
        .api
        .get_as(&pods, &format!("{TABLE},application/json"))
        .await?
        .ok()?;
    ensure!(
        table["kind"] == "Table" && table["apiVersion"] == "meta.k8s.io/v1",
        "{table}"
    );
    let columns = table["columnDefinitions"].as_array().context("no columns")?;
    let titles: Vec<&str> = columns.iter().filter_map(|column| column["name"].as_str()).collect();
    ensure!(
        titles[..5] == ["Name", "Ready", "Status", "Restarts", "Age"],
        "{titles:?}"
    );
    for column in columns {
        let complete = ["type", "format", "description", "priority"]
            .iter()
            .all(|key| !column[*key].is_null());
        ensure!(complete, "{column}");
    }
    ensure!(columns[0]["format"] == "name" && columns[0]["priority"] == 0, "{table}");
    ensure!(table["metadata"]["resourceVersion"].is_string(), "{table}");
    let row = &table["rows"][0];
    ensure!(
        row["cells"][0] == "p" && row["cells"][1] == "0/1" && row["cells"][2] == "Pending",
        "{row}"
    );
    ensure!(row["object"]["kind"] == "PartialObjectMetadata", "{row}");
    let whole = scene
        .api
        .get_as(&format!("{pods}?includeObject=Object"), TABLE)
        .await?
        .ok()?;
    ensure!(whole["rows"][0]["object"]["kind"] == "Pod", "{whole}");
    let none = scene
        .api
        .get_as(&format!("{pods}?includeObject=None"), TABLE)
        .await?
        .ok()?;
    ensure!(none["rows"][0]["object"].is_null(), "{none}");
    scene
        .api
        .get_as(&format!("{pods}?includeObject=Some"), TABLE)
        .await?
        .fails(400, "BadRequest")?;
    let one = scene.api.get_as(&format!("{pods}/p"), TABLE).await?.ok()?;
    ensure!(one["rows"].as_array().map(Vec::len) == Some(1), "{one}");
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let headers = [(header::ACCEPT, TABLE), (header::CONTENT_TYPE, "application/json")];
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}).to_string();
    scene
        .api
        .send("POST", reviews, &headers, review)
        .await?
        .fails(406, "NotAcceptable")
}

async fn partial(scene: Scene) -> anyhow::Result<()> {
    let made = scene.map("m", &json!({"a": "1"})).await?;
    let path = format!("{}/m", scene.core("configmaps"));
    let form = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let partial = scene.api.get_as(&path, form).await?.ok()?;
    ensure!(
        partial["kind"] == "PartialObjectMetadata" && partial["apiVersion"] == "meta.k8s.io/v1",
        "{partial}"
    );
    ensure!(
        partial["metadata"] == made["metadata"] && partial.get("data").is_none(),
        "{partial}"
    );
    let form = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let partial = scene.api.get_as(&path, &form).await?;
    partial.is(200)?;
    ensure!(
        partial.body.starts_with(b"k8s\0") && partial.text.contains("PartialObjectMetadata"),
        "{}",
        partial.text
    );
    let unknown = scene
        .api
        .get_as(&path, "application/json;as=Sketch;g=meta.k8s.io;v=v1")
        .await?;
    unknown.fails(406, "NotAcceptable")
}

async fn errors(scene: Scene) -> anyhow::Result<()> {
    let maps = scene.core("configmaps");
    scene.map("m", &json!({})).await?;
    let absent = scene.api.get(&format!("{maps}/absent")).await?;
    ensure!(
        absent.ok_or_status()?
            == json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "configmaps \"absent\" not found", "reason": "NotFound",
            "details": {"name": "absent", "kind": "configmaps"}, "code": 404}),
        "{}",
        absent.text
    );
    let sets = scene.of("apps/v1", "statefulsets");
    let absent = scene.api.get(&format!("{sets}/absent")).await?.ok_or_status()?;
    ensure!(
        absent["message"] == "statefulsets.apps \"absent\" not found",
        "{absent}"
    );
    ensure!(
        absent["details"] == json!({"name": "absent", "group": "apps", "kind": "statefulsets"}),
        "{absent}"
    );
    let twice = scene.api.post(&maps, &json!({"metadata": {"name": "m"}})).await?;
    ensure!(
        twice.ok_or_status()?
            == json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "configmaps \"m\" already exists", "reason": "AlreadyExists",
            "details": {"name": "m", "kind": "configmaps"}, "code": 409}),
        "{}",
        twice.text
    );
    let invalid = scene
        .api
        .post(&maps, &json!({"metadata": {"name": "Big"}}))
        .await?
        .ok_or_status()?;
    ensure!(invalid["reason"] == "Invalid" && invalid["code"] == 422, "{invalid}");
    ensure!(
        invalid["details"]["kind"] == "ConfigMap" && invalid["details"]["name"] == "Big",
        "{invalid}"
    );
    ensure!(
        invalid["details"]["causes"][0]["reason"] == "FieldValueInvalid",
        "{invalid}"
    );
    ensure!(invalid["details"]["causes"][0]["field"] == "metadata.name", "{invalid}");
    let message = invalid["message"].as_str().unwrap_or_default();
    ensure!(
        message.starts_with("ConfigMap \"Big\" is invalid: metadata.name: Invalid value: \"Big\": "),
        "{message}"
    );
    errors_of_paths(&scene).await
}

async fn errors_of_paths(scene: &Scene) -> anyhow::Result<()> {
    let maps = scene.core("configmaps");
    for (method, path, code, reason) in [
        ("PUT", maps.clone(), 405, "MethodNotAllowed"),
        ("PATCH", maps.clone(), 405, "MethodNotAllowed"),
        ("POST", format!("{maps}/m"), 405, "MethodNotAllowed"),
        ("GET", scene.core("sofas"), 404, "NotFound"),
        ("GET", format!("{maps}/m/sofas"), 404, "NotFound"),
        ("GET", "/api/v1/sofas".to_owned(), 404, "NotFound"),
        ("GET", "/apis/apps/v1/sofas".to_owned(), 404, "NotFound"),
    ] {
        let json = [(header::CONTENT_TYPE, "application/json")];
        let answer = scene.api.send(method, &path, &json, "{}").await?;
        answer.fails(code, reason).with_context(|| format!("{method} {path}"))?;
        ensure!(
            answer.header("content-type") == "application/json",
            "{:?}",
            answer.headers
        );
    }
    let unknown = scene.api.get("/apis/sofas.example.com/v1").await?;
    ensure!(
        unknown.code == 404 && unknown.text == "404 page not found\n",
        "{}",
        unknown.text
    );
    let text = [(header::CONTENT_TYPE, "text/plain")];
    scene
        .api
        .send("POST", &maps, &text, "{}")
        .await?
        .fails(415, "UnsupportedMediaType")?;
    scene
        .api
        .get_as(&maps, "image/png")
        .await?
        .fails(406, "NotAcceptable")?;
    let encoded = scene.api.get_as(&format!("{maps}/absent"), PROTOBUF).await?;
    ensure!(
        encoded.code == 404 && encoded.body.starts_with(b"k8s\0"),
        "{}",
        encoded.text
    );
    Ok(())
}

/// (group version, resource, verbs) of one way to discover.
type Listed = BTreeSet<(String, String, Vec<String>)>;

fn listed(group_version: &str, name: &str, verbs: &Value, into: &mut Listed) {
    let verbs = verbs.as_array().into_iter().flatten();
    let mut verbs: Vec<String> = verbs.filter_map(Value::as_str).map(str::to_owned).collect();
    verbs.sort();
    into.insert((group_version.to_owned(), name.to_owned(), verbs));
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// What the documents that say everything together list.
async fn aggregated(scene: &Scene) -> anyhow::Result<Listed> {
    let mut together = Listed::new();
    let form = AGGREGATED;
    for path in ["/api", "/apis"] {
        let answer = scene.api.get_as(path, form).await?;
        ensure!(
            answer.header("content-type").contains("as=APIGroupDiscoveryList"),
            "{:?}",
            answer.headers
        );
        let tag = answer.header("etag");
        ensure!(!tag.is_empty(), "{:?}", answer.headers);
        let list = answer.ok()?;
        for group in list["items"].as_array().context("no items")? {
            let name = text(&group["metadata"], "name");
            if name.contains("example.com") {
                continue;
            }
            for version in group["versions"].as_array().context("no versions")? {
                let version_name = text(version, "version");
                let group_version = if name.is_empty() {
                    version_name.to_owned()
                } else {
                    format!("{name}/{version_name}")
                };
                for resource in version["resources"].as_array().context("no resources")? {
                    let own = text(resource, "resource");
                    listed(&group_version, own, &resource["verbs"], &mut together);
                    for part in resource["subresources"].as_array().into_iter().flatten() {
                        let part_name = format!("{own}/{}", text(part, "subresource"));
                        listed(&group_version, &part_name, &part["verbs"], &mut together);
                    }
                }
            }
        }
    }
    Ok(together)
}

async fn discovery(scene: Scene) -> anyhow::Result<()> {
    let mut plain = Listed::new();
    let versions = scene.api.get("/api").await?.ok()?;
    ensure!(
        versions["kind"] == "APIVersions" && versions["versions"] == json!(["v1"]),
        "{versions}"
    );
    let mut paths = vec!["/api/v1".to_owned()];
    let groups = scene.api.get("/apis").await?.ok()?;
    let groups = groups["groups"].as_array().context("no groups")?;
    // Other ideas make kinds of their own meanwhile.
    for group in groups
        .iter()
        .filter(|group| !text(group, "name").ends_with("example.com"))
    {
        let own = scene.api.get(&format!("/apis/{}", text(group, "name"))).await?.ok()?;
        ensure!(own["preferredVersion"] == group["preferredVersion"], "{own}");
        scene.api.get(&format!("/apis/{}/", text(group, "name"))).await?.ok()?;
        let versions = group["versions"].as_array().into_iter().flatten();
        paths.extend(versions.map(|version| format!("/apis/{}", text(version, "groupVersion"))));
    }
    for path in &paths {
        let list = scene.api.get(path).await?.ok()?;
        ensure!(list["kind"] == "APIResourceList", "{list}");
        for resource in list["resources"].as_array().context("no resources")? {
            listed(
                text(&list, "groupVersion"),
                text(resource, "name"),
                &resource["verbs"],
                &mut plain,
            );
            ensure!(
                resource["kind"].is_string() && resource["namespaced"].is_boolean(),
                "{resource}"
            );
        }
    }
    let together = aggregated(&scene).await?;
    let differ: Vec<_> = plain.symmetric_difference(&together).collect();
    ensure!(differ.is_empty(), "the two ways differ in {differ:?}");
    tags(&scene).await
}

/// Who has the document is not sent it again.
async fn tags(scene: &Scene) -> anyhow::Result<()> {
    let form = AGGREGATED;
    let unchanged = [(header::ACCEPT, form), (header::IF_NONE_MATCH, "\"nonsense\"")];
    scene.api.send("GET", "/api", &unchanged, "").await?.is(200)?;
    let answer = scene.api.get_as("/api", form).await?;
    let unchanged = [(header::ACCEPT, form), (header::IF_NONE_MATCH, answer.header("etag"))];
    scene.api.send("GET", "/api", &unchanged, "").await?.is(304)
}

/// The kinds (group, version, kind) that discovery lists with a verb to create them.
async fn kinds(scene: &Scene) -> anyhow::Result<Vec<[String; 3]>> {
    let own = crate::resources::resources(&scene.api, &scene.namespace).await?;
    let own = own
        .into_iter()
        .filter(|resource| !resource.group.contains("example.com"));
    Ok(own
        .map(|resource| [resource.group, resource.version, resource.kind])
        .collect())
}

/// The kinds that a document's definitions say they are.
fn described(definitions: &Value) -> BTreeSet<[String; 3]> {
    let definitions = definitions.as_object().into_iter().flatten();
    let named =
        definitions.flat_map(|(_, one)| one["x-kubernetes-group-version-kind"].as_array().into_iter().flatten());
    named
        .map(|own| ["group", "version", "kind"].map(|key| text(own, key).to_owned()))
        .collect()
}

async fn open_api(scene: Scene) -> anyhow::Result<()> {
    let answer = scene.api.get("/openapi/v2").await?;
    let document = answer.ok()?;
    ensure!(document["swagger"] == "2.0", "no document");
    let described = described(&document["definitions"]);
    let missing: Vec<_> = kinds(&scene)
        .await?
        .into_iter()
        .filter(|kind| !described.contains(kind))
        .collect();
    ensure!(missing.is_empty(), "not described: {missing:?}");
    let pod = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    ensure!(
        pod["x-kubernetes-patch-merge-key"] == "name" && pod["description"].is_string(),
        "{pod}"
    );
    ensure!(pod["x-kubernetes-patch-strategy"] == "merge", "{pod}");
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let encoded = scene.api.get_as("/openapi/v2", protobuf).await?;
    encoded.is(200)?;
    ensure!(
        encoded.body.windows(22).any(|bytes| bytes == b"io.k8s.api.core.v1.Pod"),
        "no Pod in protobuf"
    );
    let tag = [(header::IF_NONE_MATCH, answer.header("etag"))];
    let again = scene.api.send("GET", "/openapi/v2", &tag, "").await?;
    ensure!(matches!(again.code, 200 | 304), "{}", again.code);
    Ok(())
}

async fn open_api_v3(scene: Scene) -> anyhow::Result<()> {
    let index = scene.api.get("/openapi/v3").await?.ok()?;
    for [group, version, kind] in kinds(&scene).await? {
        let key = if group.is_empty() {
            format!("api/{version}")
        } else {
            format!("apis/{group}/{version}")
        };
        let url = index["paths"][&key]["serverRelativeURL"]
            .as_str()
            .with_context(|| key.clone())?;
        if kind != "ConfigMap" && kind != "StatefulSet" && kind != "Lease" && kind != "ClusterRole" {
            continue;
        }
        let document = scene.api.get(url).await?.ok()?;
        ensure!(text(&document, "openapi").starts_with("3.0"), "{key}");
        let described = described(&document["components"]["schemas"]);
        ensure!(
            described.contains(&[group, version, kind.clone()]),
            "{kind} is not described"
        );
        ensure!(
            document["paths"].as_object().is_some_and(|paths| !paths.is_empty()),
            "{key} has no paths"
        );
    }
    Ok(())
}

async fn compressed(scene: Scene) -> anyhow::Result<()> {
    let large = "x".repeat(200_000);
    scene.map("m", &json!({"large": large})).await?;
    let path = format!("{}/m", scene.core("configmaps"));
    let gzip = [(header::ACCEPT_ENCODING, "gzip")];
    let answer = scene.api.send("GET", &path, &gzip, "").await?;
    ensure!(answer.header("content-encoding") == "gzip", "{:?}", answer.headers);
    ensure!(answer.body.len() < 100_000, "{} bytes", answer.body.len());
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text)?;
    let map: Value = serde_json::from_str(&text)?;
    ensure!(map["data"]["large"] == large.as_str());
    let plain = scene.api.get(&path).await?;
    ensure!(plain.header("content-encoding").is_empty() && plain.body.len() > 200_000);
    Ok(())
}

async fn protobuf(scene: Scene) -> anyhow::Result<()> {
    let maps = scene.core("configmaps");
    scene.map("m", &json!({"a": "1"})).await?;
    let encoded = scene.api.get_as(&format!("{maps}/m"), PROTOBUF).await?;
    // The same object under another name of the same length, as a client would send it.
    let mut body = encoded.body.clone();
    let name = body
        .windows(3)
        .position(|bytes| bytes == b"\n\x01m")
        .context("no name")?;
    body[name + 2] = b'n';
    let headers = [(header::CONTENT_TYPE, PROTOBUF)];
    let stamped = scene.api.send("POST", &maps, &headers, body).await?;
    ensure!(stamped.code == 500, "a version is not for creating: {}", stamped.text);
    // Options of a delete are a message, too: the precondition is in it.
    let uid = scene.api.get(&format!("{maps}/m")).await?.ok()?["metadata"]["uid"].clone();
    let delete = |uid: &str| {
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("a short message");
        let message = |field: u8, bytes: &[u8]| [&[field << 3 | 2, length(bytes)], bytes].concat();
        let raw = message(2, &message(1, uid.as_bytes()));
        let kind = [message(1, b"v1"), message(2, b"DeleteOptions")].concat();
        [b"k8s\0".to_vec(), message(1, &kind), message(2, &raw)].concat()
    };
    let one = format!("{maps}/m");
    let wrong = delete("00000000-0000-0000-0000-000000000000");
    scene
        .api
        .send("DELETE", &one, &headers, wrong)
        .await?
        .fails(409, "Conflict")?;
    let right = delete(uid.as_str().context("no uid")?);
    scene.api.send("DELETE", &one, &headers, right).await?.ok()?;
    let listed = scene
        .api
        .get_as("/api/v1/namespaces", &format!("{PROTOBUF},application/json"))
        .await?;
    ensure!(
        listed.text.contains("NamespaceList") && listed.text.contains("kube-system"),
        "{}",
        listed.text
    );
    for body in [
        "",
        "k8s",
        "k8s\0",
        "k9s\0\n\0",
        "{}",
        "k8s\0\n\u{4}\n\u{2}v1\u{12}\u{7f}",
    ] {
        let answer = scene.api.send("POST", &maps, &headers, body).await?;
        ensure!(answer.code == 400, "{body:?}: {} {}", answer.code, answer.text);
    }
    Ok(())
}

async fn plain(scene: Scene) -> anyhow::Result<()> {
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = scene.api.get(path).await?;
        ensure!(answer.code == 200 && answer.text == "ok", "{path}: {}", answer.text);
        let verbose = scene.api.get(&format!("{path}?verbose")).await?;
        ensure!(
            verbose.text.contains("[+]ping ok") && verbose.text.contains("check passed"),
            "{}",
            verbose.text
        );
    }
    scene.api.get("/readyz/ping").await?.is(200)?;
    let version = scene.api.get("/version").await?.ok()?;
    ensure!(
        text(&version, "gitVersion").starts_with('v') && version["platform"].is_string(),
        "{version}"
    );
    let metrics = scene.api.get("/metrics").await?;
    ensure!(metrics.text.contains("apiserver_request_total{"), "no metrics");
    let pretty = scene.api.get("/api/v1/namespaces/default?pretty=true").await?;
    ensure!(pretty.text.contains("\n  \"metadata\": {"), "{}", pretty.text);
    let dense = scene.api.get("/api/v1/namespaces/default").await?;
    ensure!(dense.text.trim_end().lines().count() == 1, "{}", dense.text);
    let yaml = scene
        .api
        .get_as("/api/v1/namespaces/default", "application/yaml")
        .await?;
    ensure!(yaml.text.contains("kind: Namespace\n"), "{}", yaml.text);
    let nowhere = scene.api.get("/nowhere").await?;
    ensure!(nowhere.code == 404, "{}", nowhere.text);
    let keys = scene.api.get("/openid/v1/jwks").await?.ok()?;
    ensure!(keys["keys"][0]["kty"].is_string(), "{keys}");
    let configuration = scene.api.get("/.well-known/openid-configuration").await?.ok()?;
    ensure!(
        configuration["issuer"].is_string() && configuration["jwks_uri"].is_string(),
        "{configuration}"
    );
    Ok(())
}
