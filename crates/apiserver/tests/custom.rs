//! Custom resources: definitions make kinds, which are served like any other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::{Answer, Api};
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "cronSpec": {"type": "string", "pattern": "^[a-z*]+$"},
            "image": {"type": "string", "default": "busybox"},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 10},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                "items": {"type": "object", "required": ["port"], "properties": {
                    "port": {"type": "integer"}, "name": {"type": "string"}}}},
        }},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}},
    }});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
            "selectableFields": [{"jsonPath": ".spec.image"}],
            "additionalPrinterColumns": [{"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [version("v1", true), version("v2", false)],
        },
    })
}

fn tab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

/// Waits for a condition of a definition by watching it.
async fn until(api: &Api, name: &str, condition: &str) -> Value {
    let mut events = api
        .watch(&format!("{DEFINITIONS}?watch=true&fieldSelector=metadata.name={name}"))
        .await;
    loop {
        let object = events.next().await.expect("the watch ended")["object"].take();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions
            .iter()
            .any(|one| one["type"] == condition && one["status"] == "True")
        {
            return object;
        }
    }
}

async fn with(definition: &Value) -> Api {
    let api = Api::new().await;
    api.post(DEFINITIONS, definition).await.ok();
    until(&api, definition["metadata"]["name"].as_str().unwrap(), "Established").await;
    api
}

async fn table(api: &Api, path: &str) -> Value {
    api.send("GET", path, &[("accept", TABLE)], String::new()).await.ok()
}

#[tokio::test]
async fn a_definition_is_established_with_its_names() {
    let api = with(&definition()).await;
    let stored = api
        .get(&format!("{DEFINITIONS}/crontabs.stable.example.com"))
        .await
        .ok();
    assert_eq!(stored["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(stored["status"]["acceptedNames"], stored["spec"]["names"]);
    assert_eq!(stored["spec"]["names"]["listKind"], "CronTabList");
    assert_eq!(stored["spec"]["conversion"], json!({"strategy": "None"}));
}

#[tokio::test]
async fn custom_resources_are_discovered() {
    let api = with(&definition()).await;
    let list = api.get("/apis/stable.example.com/v1").await.ok();
    let names: Vec<&str> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["crontabs", "crontabs/scale", "crontabs/status"]);
    assert_eq!(list["resources"][0]["shortNames"], json!(["ct"]));
    let group = api.get("/apis/stable.example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v2");
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let before = api.send("GET", "/apis", &[("accept", aggregated)], String::new()).await;
    let group = before.ok()["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["metadata"]["name"] == "stable.example.com")
        .cloned()
        .unwrap();
    assert_eq!(group["versions"][0]["resources"][0]["responseKind"]["kind"], "CronTab");
    api.delete(&format!("{DEFINITIONS}/crontabs.stable.example.com"), &Value::Null)
        .await
        .ok();
    gone(&api).await;
    let after = api.send("GET", "/apis", &[("accept", aggregated)], String::new()).await;
    assert_ne!(before.headers["etag"], after.headers["etag"]);
    assert!(!after.text.contains("stable.example.com"));
    assert_eq!(api.get(TABS).await.code, 404);
}

/// Waits until the definition is gone and no longer served.
async fn gone(api: &Api) {
    let mut events = api.watch(&format!("{DEFINITIONS}?watch=true&resourceVersion=1")).await;
    while events.next().await.unwrap()["type"] != "DELETED" {}
    for _ in 0..1000 {
        if api.get(TABS).await.code == 404 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn objects_are_checked_pruned_and_defaulted() {
    let api = with(&definition()).await;
    let made = api.post(TABS, &tab("a", json!({"cronSpec": "*", "foo": 1}))).await;
    assert_eq!(made.warnings(), [r#"299 - "unknown field \"spec.foo\"""#]);
    let made = made.ok();
    assert_eq!(made["spec"], json!({"cronSpec": "*", "image": "busybox"}));
    assert_eq!(made["metadata"]["generation"], 1);
    let strict = api
        .post(&format!("{TABS}?fieldValidation=Strict"), &tab("b", json!({"foo": 1})))
        .await;
    let (code, _, message) = strict.failure();
    assert_eq!(code, 400);
    assert!(
        message.contains(r#"strict decoding error: unknown field "spec.foo""#),
        "{message}"
    );
    let (code, reason, message) = api
        .post(TABS, &tab("b", json!({"cronSpec": "1", "replicas": 0})))
        .await
        .failure();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert_eq!(
        message,
        "CronTab.stable.example.com \"b\" is invalid: [spec.cronSpec: Invalid value: \"1\": spec.cronSpec in body \
         should match '^[a-z*]+$', spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or \
         equal to 1]"
    );
}

#[tokio::test]
async fn writes_of_all_kinds() {
    let api = with(&definition()).await;
    let at = format!("{TABS}/a");
    api.post(TABS, &tab("a", json!({"cronSpec": "x"}))).await.ok();
    let patched = api.patch(&at, "merge", &json!({"spec": {"replicas": 2}})).await.ok();
    assert_eq!(patched["metadata"]["generation"], 2);
    let patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 3}]);
    assert_eq!(api.patch(&at, "json", &patch).await.ok()["spec"]["replicas"], 3);
    assert_eq!(api.patch(&at, "strategic-merge", &json!({})).await.code, 415);
    let status = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 9}, "status": {"replicas": 3}});
    let patched = api.patch(&format!("{at}/status"), "merge", &status).await.ok();
    assert_eq!(
        (&patched["status"]["replicas"], &patched["spec"]["replicas"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(patched["metadata"]["generation"], 3);
    assert!(patched["metadata"]["labels"].is_null());
    let mut object = api.get(&at).await.ok();
    object["spec"]["replicas"] = json!(4);
    object["metadata"]["resourceVersion"] = Value::Null;
    assert_eq!(
        api.put(&at, &object).await.code,
        422,
        "an update must name what it changes"
    );
    let scale = api.get(&format!("{at}/scale")).await.ok();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["replicas"]),
        (&json!(3), &json!(3))
    );
    let scaled = api
        .patch(&format!("{at}/scale"), "merge", &json!({"spec": {"replicas": 5}}))
        .await
        .ok();
    assert_eq!(scaled["spec"]["replicas"], 5);
    assert_eq!(api.get(&at).await.ok()["spec"]["replicas"], 5);
}

#[tokio::test]
async fn server_side_apply_merges_lists_by_their_keys() {
    let api = with(&definition()).await;
    let apply = async |manager: &str, port: i64, name: &str| -> Answer {
        let object = tab("a", json!({"ports": [{"port": port, "name": name}]}));
        api.apply(&format!("{TABS}/a?fieldManager={manager}"), &object).await
    };
    assert_eq!(apply("one", 1, "x").await.code, 201);
    let both = apply("two", 2, "y").await.ok();
    assert_eq!(both["spec"]["ports"].as_array().unwrap().len(), 2);
    let (code, _, message) = apply("two", 1, "z").await.failure();
    assert_eq!(code, 409);
    assert!(message.contains(r#".spec.ports[port=1].name"#), "{message}");
}

#[tokio::test]
async fn every_version_shows_the_same_objects() {
    let api = with(&definition()).await;
    api.post(TABS, &tab("a", json!({"cronSpec": "x"}))).await.ok();
    let other = TABS.replace("/v1/", "/v2/");
    let seen = api.get(&format!("{other}/a")).await.ok();
    assert_eq!(seen["apiVersion"], "stable.example.com/v2");
    let list = api.get(&other).await.ok();
    assert_eq!(list["kind"], "CronTabList");
    assert_eq!(list["items"][0]["kind"], "CronTab");
    let mut events = api.watch(&format!("{other}?watch=true&resourceVersion=1")).await;
    assert_eq!(
        events.next().await.unwrap()["object"]["apiVersion"],
        "stable.example.com/v2"
    );
}

#[tokio::test]
async fn objects_are_found_by_fields_and_shown_in_columns() {
    let api = with(&definition()).await;
    api.post(TABS, &tab("a", json!({"cronSpec": "x", "image": "one"})))
        .await
        .ok();
    api.post(TABS, &tab("b", json!({"cronSpec": "y"}))).await.ok();
    let found = api.get(&format!("{TABS}?fieldSelector=spec.image=one")).await.ok();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let (code, _, message) = api
        .get(&format!("{TABS}?fieldSelector=spec.cronSpec=x"))
        .await
        .failure();
    assert_eq!(
        (code, message.as_str()),
        (400, "field label not supported: spec.cronSpec")
    );
    let table = table(&api, TABS).await;
    let names: Vec<&Value> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["Name", "Spec", "Age"]);
    assert_eq!(table["rows"][0]["cells"][1], "x");
}

#[tokio::test]
async fn a_default_that_comes_later_counts_for_what_was_there() {
    let mut definition = definition();
    let api = with(&definition).await;
    api.post(TABS, &tab("a", json!({"cronSpec": "x"}))).await.ok();
    let at = format!("{DEFINITIONS}/crontabs.stable.example.com");
    for version in definition["spec"]["versions"].as_array_mut().unwrap() {
        let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        spec["late"] = json!({"type": "string", "default": "yes"});
    }
    definition["metadata"]["resourceVersion"] = api.get(&at).await.ok()["metadata"]["resourceVersion"].clone();
    api.put(&at, &definition).await.ok();
    let mut seen = Value::Null;
    for _ in 0..1000 {
        seen = api.get(&format!("{TABS}/a")).await.ok();
        if seen["spec"]["late"] == "yes" {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{seen}");
}

#[tokio::test]
async fn wrong_definitions_are_refused() {
    let api = Api::new().await;
    let mut wrong = definition();
    wrong["spec"]["versions"].as_array_mut().unwrap().truncate(1);
    wrong["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["x"] = json!({});
    let (code, _, message) = api.post(DEFINITIONS, &wrong).await.failure();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "CustomResourceDefinition.apiextensions.k8s.io \"crontabs.stable.example.com\" is invalid: \
         spec.validation.openAPIV3Schema.properties[spec].properties[x].type: Required value: must not be empty for \
         specified object fields"
    );
}

#[tokio::test]
async fn names_that_another_definition_has_are_not_accepted() {
    let api = with(&definition()).await;
    let mut second = definition();
    second["metadata"]["name"] = json!("others.stable.example.com");
    second["spec"]["names"] = json!({"plural": "others", "singular": "other", "kind": "CronTab"});
    api.post(DEFINITIONS, &second).await.ok();
    let mut events = api
        .watch(&format!(
            "{DEFINITIONS}?watch=true&fieldSelector=metadata.name=others.stable.example.com"
        ))
        .await;
    loop {
        let object = events.next().await.unwrap()["object"].take();
        let Some(accepted) = object["status"]["conditions"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["type"] == "NamesAccepted"))
        else {
            continue;
        };
        assert_eq!(
            (&accepted["status"], &accepted["reason"]),
            (&json!("False"), &json!("KindConflict"))
        );
        break;
    }
    assert_eq!(api.get("/apis/stable.example.com/v1/others").await.code, 404);
}

#[tokio::test]
async fn the_objects_of_a_definition_go_before_it() {
    let api = with(&definition()).await;
    let mut kept = tab("kept", json!({}));
    kept["metadata"]["finalizers"] = json!(["example.com/wait"]);
    api.post(TABS, &kept).await.ok();
    api.post(TABS, &tab("free", json!({}))).await.ok();
    let deleted = api
        .delete(&format!("{DEFINITIONS}/crontabs.stable.example.com"), &Value::Null)
        .await
        .ok();
    assert_eq!(
        deleted["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    let mut events = api.watch(&format!("{TABS}?watch=true&resourceVersion=1")).await;
    while events.brief().await != ("DELETED".to_owned(), "free".to_owned()) {}
    assert_eq!(api.post(TABS, &tab("late", json!({}))).await.code, 405);
    api.patch(
        &format!("{TABS}/kept"),
        "merge",
        &json!({"metadata": {"finalizers": null}}),
    )
    .await
    .ok();
    gone(&api).await;
    assert_eq!(api.get(TABS).await.code, 404);
}

#[tokio::test]
async fn openapi_describes_what_is_defined() {
    let api = with(&definition()).await;
    let document = api.get("/openapi/v3/apis/stable.example.com/v1").await.ok();
    let schema = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(
        schema["properties"]["spec"]["properties"]["image"]["default"],
        "busybox"
    );
    assert!(
        document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]["patch"].is_object()
    );
    let index = api.get("/openapi/v3").await.ok();
    assert!(index["paths"]["apis/stable.example.com/v2"].is_object());
    let second = api.get("/openapi/v2").await;
    assert!(second.ok()["definitions"]["com.example.stable.v1.CronTab"].is_object());
    api.delete(&format!("{DEFINITIONS}/crontabs.stable.example.com"), &Value::Null)
        .await
        .ok();
    gone(&api).await;
    let after = api.get("/openapi/v2").await;
    assert!(after.ok()["definitions"]["com.example.stable.v1.CronTab"].is_null());
    assert_ne!(second.headers["etag"], after.headers["etag"]);
}

#[tokio::test]
async fn an_apply_names_fields_that_are_unknown_or_stand_twice() {
    let api = with(&definition()).await;
    let apply = async |validation: &str, text: &str| {
        let path = format!("{TABS}/a?fieldManager=m&fieldValidation={validation}");
        let headers = [("content-type", "application/apply-patch+yaml")];
        api.send("PATCH", &path, &headers, text.to_owned()).await
    };
    let head = "\napiVersion: stable.example.com/v1\nkind: CronTab\nmetadata:\n  name: a\n";
    let (code, _, message) = apply("Strict", &format!("{head}strange: 1\n")).await.failure();
    assert_eq!(code, 500);
    assert!(message.ends_with(".strange: field not declared in schema"), "{message}");
    let twice = format!("{head}spec:\n  image: one\n  image: two\n");
    let (code, _, message) = apply("Strict", &twice).await.failure();
    assert_eq!(code, 400);
    assert!(
        message.ends_with("line 8: key \"image\" already set in map"),
        "{message}"
    );
    let warned = apply("Warn", &twice).await;
    assert_eq!(warned.warnings().len(), 1);
    assert_eq!(warned.ok()["spec"]["image"], "two");
}
