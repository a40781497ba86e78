//! Single objects: create, get, update, patch, delete, and the words of refusals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";

fn map(name: &str) -> String {
    format!("{MAPS}/{name}")
}

fn stateful_set(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"serviceName": "x", "replicas": 1,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}})
}

#[tokio::test]
async fn a_created_object_has_what_the_server_adds() {
    let api = Api::new().await;
    let made = api.config_map("g1", json!({"a": "b"}), json!({"k": "v"})).await;
    assert_eq!(
        (&made["kind"], &made["apiVersion"]),
        (&json!("ConfigMap"), &json!("v1"))
    );
    let metadata = &made["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(metadata["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > 1);
    assert!(metadata["generation"].is_null() && metadata["ownerReferences"].is_null());
    let entry = &metadata["managedFields"][0];
    assert_eq!(
        (&entry["manager"], &entry["operation"]),
        (&json!("test"), &json!("Update"))
    );
    assert_eq!(entry["fieldsV1"]["f:data"], json!({".": {}, "f:k": {}}));
    assert_eq!(api.get(&map("g1")).await.ok(), made);
}

#[tokio::test]
async fn refusals_speak_upstreams_words() {
    let api = Api::new().await;
    api.config_map("g1", json!({}), json!({})).await;
    let check = |answer: api::Answer, code: u16, reason: &str, message: &str| {
        assert_eq!(answer.failure(), (code, reason.to_owned(), message.to_owned()));
    };
    check(
        api.get(&map("nope")).await,
        404,
        "NotFound",
        "configmaps \"nope\" not found",
    );
    let g1 = json!({"metadata": {"name": "g1"}});
    check(
        api.post(MAPS, &g1).await,
        409,
        "AlreadyExists",
        "configmaps \"g1\" already exists",
    );
    let nameless = "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required";
    check(api.post(MAPS, &json!({})).await, 422, "Invalid", nameless);
    let elsewhere = json!({"metadata": {"name": "x", "namespace": "other"}});
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    check(api.post(MAPS, &elsewhere).await, 400, "BadRequest", message);
    let message = "the name of the object (x) does not match the name on the URL (g1)";
    check(
        api.put(&map("g1"), &json!({"metadata": {"name": "x"}})).await,
        400,
        "BadRequest",
        message,
    );
    let versioned = json!({"metadata": {"name": "x", "resourceVersion": "5"}});
    let message = "resourceVersion should not be set on objects to be created";
    check(api.post(MAPS, &versioned).await, 500, "", message);
    let nonsuch = "/api/v1/namespaces/nonsuch/configmaps";
    check(
        api.post(nonsuch, &g1).await,
        404,
        "NotFound",
        "namespaces \"nonsuch\" not found",
    );
    let stale = json!({"metadata": {"name": "g1", "resourceVersion": "1"}});
    let message = "Operation cannot be fulfilled on configmaps \"g1\": the object has been modified; please apply \
                   your changes to the latest version and try again";
    check(api.put(&map("g1"), &stale).await, 409, "Conflict", message);
    check(
        api.get("/api/v1/nothings").await,
        404,
        "NotFound",
        "the server could not find the requested resource",
    );
    let message = "the server does not allow this method on the requested resource";
    check(api.put(MAPS, &g1).await, 405, "MethodNotAllowed", message);
    check(
        api.delete("/api/v1/namespaces", &Value::Null).await,
        405,
        "MethodNotAllowed",
        message,
    );
}

#[tokio::test]
async fn another_uid_is_a_conflict_with_its_reason() {
    let api = Api::new().await;
    let made = api.config_map("g1", json!({}), json!({})).await;
    let answer = api
        .put(&map("g1"), &json!({"metadata": {"name": "g1", "uid": "zzz"}}))
        .await;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let expected = format!(
        "Operation cannot be fulfilled on configmaps \"g1\": StorageError: invalid object, Code: 4, Key: \
         /registry/configmaps/default/g1, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
         precondition: zzz, UID in object meta: {uid}"
    );
    assert_eq!(answer.failure(), (409, "Conflict".to_owned(), expected));
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let api = Api::new().await;
    let json_type = [("content-type", "application/json")];
    let answer = api.send("POST", MAPS, &json_type, "{\"metadata\":").await;
    let message = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json \
                   parse error: unexpected end of JSON input ({\"metadata\":)";
    assert_eq!(answer.failure(), (400, "BadRequest".to_owned(), message.to_owned()));
    for content_type in ["application/cbor", "text/plain"] {
        let answer = api.send("POST", MAPS, &[("content-type", content_type)], "x").await;
        assert_eq!(answer.failure().0, 415, "{content_type}");
    }
    let answer = api.send("PATCH", &map("x"), &json_type, "{}").await;
    assert_eq!(
        answer.failure(),
        (
            415,
            "UnsupportedMediaType".to_owned(),
            "415: Unsupported Media Type".to_owned()
        )
    );
    let answer = api.send("POST", MAPS, &json_type, vec![b' '; 4 * 1024 * 1024]).await;
    assert_eq!(answer.failure().0, 413);
    let yaml = "metadata: {name: from-yaml}\ndata:\n  k: v\n";
    let answer = api
        .send("POST", MAPS, &[("content-type", "application/yaml")], yaml)
        .await;
    assert_eq!(answer.ok()["data"]["k"], "v");
    let answer = api
        .send("GET", &map("from-yaml"), &[("accept", "application/yaml")], "")
        .await;
    assert!(answer.text.contains("name: from-yaml"), "{}", answer.text);
    let answer = api
        .send("GET", &map("from-yaml"), &[("accept", "application/cbor")], "")
        .await;
    assert_eq!(answer.failure().0, 406);
    let answer = api
        .post(
            MAPS,
            &json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}}),
        )
        .await;
    assert_eq!(answer.failure().0, 400);
}

#[tokio::test]
async fn unknown_fields_warn_or_fail() {
    let api = Api::new().await;
    let object = json!({"metadata": {"name": "w", "foo": 1}, "dat": {}});
    let answer = api.post(MAPS, &object).await;
    assert_eq!(answer.code, 201);
    let expected = [
        "299 - \"unknown field \\\"metadata.foo\\\"\"",
        "299 - \"unknown field \\\"dat\\\"\"",
    ];
    let mut warnings = answer.warnings();
    warnings.sort();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(warnings, expected);
    let answer = api.post(&format!("{MAPS}?fieldValidation=Strict"), &object).await;
    let (code, _, message) = answer.failure();
    assert_eq!(code, 400);
    let start = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field";
    assert!(message.starts_with(start), "{message}");
    let again = api.put(&map("w"), &object).await;
    assert_eq!((again.code, again.warnings().len()), (200, 2));
    let patched = api.patch(&map("w"), "merge", &json!({"dat": {}})).await;
    assert_eq!((patched.code, patched.warnings().len()), (200, 1));
    let strict = format!("{}?fieldValidation=Strict", map("w"));
    let (code, reason, message) = api.patch(&strict, "merge", &json!({"dat": {}})).await.failure();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(
        message.ends_with("strict decoding error: unknown field \"dat\""),
        "{message}"
    );
    let answer = api.post(&format!("{MAPS}?fieldValidation=Often"), &object).await;
    assert_eq!(answer.failure().0, 422);
}

#[tokio::test]
async fn nothing_is_stored_by_a_dry_run() {
    let api = Api::new().await;
    let made = api
        .post(&format!("{MAPS}?dryRun=All"), &json!({"metadata": {"name": "dry"}}))
        .await
        .ok();
    assert!(made["metadata"]["resourceVersion"].is_null());
    assert!(made["metadata"]["uid"].is_string());
    assert_eq!(api.get(&map("dry")).await.code, 404);
    let made = api.config_map("real", json!({}), json!({"k": "v"})).await;
    let path = format!("{}?dryRun=All", map("real"));
    assert_eq!(
        api.patch(&path, "merge", &json!({"data": {"k": "w"}})).await.ok()["data"]["k"],
        "w"
    );
    assert_eq!(api.delete(&path, &Value::Null).await.code, 200);
    assert_eq!(api.get(&map("real")).await.ok(), made);
    let answer = api
        .post(&format!("{MAPS}?dryRun=Foo"), &json!({"metadata": {"name": "dry"}}))
        .await;
    let message = "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Foo\"]: supported values: \
                   \"All\"";
    assert_eq!(answer.failure(), (422, "Invalid".to_owned(), message.to_owned()));
}

#[tokio::test]
async fn generated_names_end_with_a_suffix() {
    let api = Api::new().await;
    let namespace = json!({"metadata": {"generateName": "gn-"}});
    let namespace = api.post("/api/v1/namespaces", &namespace).await.ok();
    let labels = &namespace["metadata"]["labels"];
    assert_eq!(labels["kubernetes.io/metadata.name"], namespace["metadata"]["name"]);
    let made = api.post(MAPS, &json!({"metadata": {"generateName": "gn-"}})).await.ok();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("gn-") && name.len() == 8, "{name}");
}

#[tokio::test]
async fn an_update_that_changes_nothing_does_not_count() {
    let api = Api::new().await;
    let made = api.config_map("g1", json!({}), json!({"k": "v"})).await;
    assert_eq!(api.put(&map("g1"), &made).await.ok(), made);
    assert_eq!(
        api.patch(&map("g1"), "merge", &json!({"data": {"k": "v"}})).await.ok(),
        made
    );
    // Without a resourceVersion the last write wins.
    let answer = api
        .put(&map("g1"), &json!({"metadata": {"name": "g1"}, "data": {"k": "w"}}))
        .await
        .ok();
    assert_ne!(
        answer["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    assert_eq!(answer["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(
        answer["metadata"]["creationTimestamp"],
        made["metadata"]["creationTimestamp"]
    );
}

#[tokio::test]
async fn some_kinds_are_created_by_put_and_some_want_a_resource_version() {
    let api = Api::new().await;
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let object = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "x"}});
    assert_eq!(api.put(lease, &object).await.code, 201);
    let (code, _, message) = api.put(lease, &object).await.failure();
    assert_eq!(code, 422);
    assert!(
        message.ends_with("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{message}"
    );
    assert_eq!(
        api.put(&map("zz"), &json!({"metadata": {"name": "zz"}})).await.code,
        404
    );
}

#[tokio::test]
async fn patches_of_all_kinds() {
    let api = Api::new().await;
    api.config_map("a", json!({}), json!({"k": "1", "x": "y"})).await;
    let path = map("a");
    let add = json!([{"op": "add", "path": "/data/z", "value": "3"}]);
    assert_eq!(api.patch(&path, "json", &add).await.ok()["data"]["z"], "3");
    let failing = json!([{"op": "test", "path": "/data/z", "value": "4"}]);
    let message = "the server rejected our request due to an error in our request";
    assert_eq!(
        api.patch(&path, "json", &failing).await.failure(),
        (422, "Invalid".to_owned(), message.to_owned())
    );
    let (code, _, message) = api.patch(&path, "json", &json!({})).await.failure();
    let expected = "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
    assert_eq!((code, message.as_str()), (400, expected));
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"k": "2"}});
    assert_eq!(api.patch(&path, "merge", &stale).await.failure().0, 409);
    let without = api.patch(&path, "merge", &json!({"data": null})).await.ok();
    assert!(without.get("data").is_none_or(Value::is_null), "{without}");
    assert_eq!(api.patch(&map("zz"), "merge", &json!({})).await.failure().0, 404);
    let forced = api
        .patch(&format!("{path}?force=true"), "merge", &json!({}))
        .await
        .failure();
    let message =
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch";
    assert_eq!(forced, (422, "Invalid".to_owned(), message.to_owned()));

    api.post(SETS, &stateful_set("s")).await.ok();
    let containers = json!({"spec": {"template": {"spec": {"containers": [{"name": "new", "image": "j"}]}}}});
    let patched = api
        .patch(&format!("{SETS}/s"), "strategic-merge", &containers)
        .await
        .ok();
    let names: Vec<&Value> = patched["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["new", "c"]);
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[tokio::test]
async fn server_side_apply_owns_fields() {
    let api = Api::new().await;
    let config =
        |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    let path = |manager: &str| format!("{}?fieldManager={manager}", map("a"));
    let made = api.apply(&path("alice"), &config(json!({"k": "1", "x": "y"}))).await;
    assert_eq!(made.code, 201);
    let made = made.ok();
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Apply");
    let conflict = api.apply(&path("bob"), &config(json!({"k": "2"}))).await;
    let message = "Apply failed with 1 conflict: conflict with \"alice\": .data.k";
    assert_eq!(conflict.failure(), (409, "Conflict".to_owned(), message.to_owned()));
    let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"alice\"", "field": ".data.k"});
    assert_eq!(conflict.json()["details"]["causes"][0], cause);
    let forced = api
        .apply(&format!("{}&force=true", path("bob")), &config(json!({"k": "2"})))
        .await
        .ok();
    assert_eq!(forced["data"], json!({"k": "2", "x": "y"}));
    let dropped = api.apply(&path("alice"), &config(json!({}))).await.ok();
    assert_eq!(dropped["data"], json!({"k": "2"}));
    let nobody = api.apply(&map("a"), &config(json!({}))).await.failure();
    let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
    assert_eq!(nobody, (422, "Invalid".to_owned(), message.to_owned()));
}

#[tokio::test]
async fn main_and_status_do_not_touch_each_other() {
    let api = Api::new().await;
    let mut set = stateful_set("s");
    set["status"] = json!({"replicas": 9});
    let made = api.post(SETS, &set).await.ok();
    assert_eq!(made["status"]["replicas"], 0);
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("{SETS}/s");
    let change = json!({"metadata": {"annotations": {"p": "q"}}, "spec": {"replicas": 5}, "status": {"replicas": 1}});
    let by_status = api.patch(&format!("{path}/status"), "merge", &change).await.ok();
    assert_eq!(
        (&by_status["spec"]["replicas"], &by_status["status"]["replicas"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(by_status["metadata"]["annotations"]["p"], "q");
    assert_eq!(by_status["metadata"]["generation"], 1);
    let change = json!({"spec": {"replicas": 5}, "status": {"replicas": 7}});
    let by_main = api.patch(&path, "merge", &change).await.ok();
    assert_eq!(
        (&by_main["spec"]["replicas"], &by_main["status"]["replicas"]),
        (&json!(5), &json!(1))
    );
    assert_eq!(by_main["metadata"]["generation"], 2);
}

#[tokio::test]
async fn invalid_objects_are_refused_with_causes() {
    let api = Api::new().await;
    let mut set = stateful_set("bad");
    set["spec"]["replicas"] = json!(-1);
    set["spec"]["selector"] = json!({"matchLabels": {"a": "c"}});
    let answer = api.post(SETS, &set).await;
    let (code, reason, message) = answer.failure();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(
        message.starts_with("StatefulSet.apps \"bad\" is invalid: ["),
        "{message}"
    );
    let details = &answer.json()["details"];
    assert_eq!(
        (&details["group"], &details["kind"]),
        (&json!("apps"), &json!("StatefulSet"))
    );
    let fields: Vec<&Value> = details["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| &cause["field"])
        .collect();
    assert!(fields.contains(&&json!("spec.replicas")), "{fields:?}");
    assert_eq!(api.get(&format!("{SETS}/bad")).await.code, 404);
}

#[tokio::test]
async fn the_scale_is_a_view_of_the_set() {
    let api = Api::new().await;
    let set = api.post(SETS, &stateful_set("ss")).await.ok();
    let path = format!("{SETS}/ss/scale");
    let scale = api.get(&path).await.ok();
    assert_eq!(
        (&scale["kind"], &scale["apiVersion"]),
        (&json!("Scale"), &json!("autoscaling/v1"))
    );
    assert_eq!(scale["metadata"]["uid"], set["metadata"]["uid"]);
    assert_eq!(scale["spec"], json!({"replicas": 1}));
    assert_eq!(scale["status"], json!({"replicas": 0, "selector": "a=b"}));
    let none = json!({"metadata": {"name": "ss"}, "spec": {}});
    assert_eq!(api.put(&path, &none).await.ok()["spec"], json!({}));
    let two = json!({"spec": {"replicas": 2}});
    assert_eq!(
        api.patch(&path, "strategic-merge", &two).await.ok()["spec"],
        json!({"replicas": 2})
    );
    assert_eq!(api.get(&format!("{SETS}/ss")).await.ok()["spec"]["replicas"], 2);
    let negative = api
        .patch(&path, "merge", &json!({"spec": {"replicas": -2}}))
        .await
        .failure();
    let message =
        "Scale.autoscaling \"ss\" is invalid: spec.replicas: Invalid value: -2: must be greater than or equal to 0";
    assert_eq!(negative, (422, "Invalid".to_owned(), message.to_owned()));
    let mut stale = scale.clone();
    stale["spec"]["replicas"] = json!(3);
    let (code, _, message) = api.put(&path, &stale).await.failure();
    assert_eq!(code, 409);
    assert!(
        message.starts_with("Operation cannot be fulfilled on statefulsets.apps \"ss\""),
        "{message}"
    );
}

#[tokio::test]
async fn finalizers_keep_a_deleted_object() {
    let api = Api::new().await;
    let object = json!({"metadata": {"name": "f", "finalizers": ["e/x"]}});
    api.post(MAPS, &object).await.ok();
    let kept = api.delete(&map("f"), &Value::Null).await.ok();
    assert_eq!(kept["kind"], "ConfigMap");
    assert!(kept["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(kept["metadata"]["deletionGracePeriodSeconds"], 0);
    let more = json!({"metadata": {"finalizers": ["e/x", "e/z"]}});
    let (code, _, message) = api.patch(&map("f"), "merge", &more).await.failure();
    assert_eq!(code, 422);
    assert!(
        message.contains("no new finalizers can be added if the object is being deleted"),
        "{message}"
    );
    let last = api
        .patch(&map("f"), "merge", &json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    assert_eq!(last["metadata"]["resourceVersion"], kept["metadata"]["resourceVersion"]);
    assert_eq!(api.get(&map("f")).await.code, 404);
}

#[tokio::test]
async fn deletes_answer_as_upstream_does() {
    let api = Api::new().await;
    let made = api.config_map("g1", json!({}), json!({})).await;
    let wrong = json!({"preconditions": {"uid": "bad"}});
    let another = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "g1"}});
    assert_eq!(api.delete(&map("g1"), &another).await.code, 400);
    assert_eq!(api.get(&map("g1")).await.code, 200);
    let (code, _, message) = api.delete(&map("g1"), &wrong).await.failure();
    assert_eq!(code, 409);
    assert!(
        message.starts_with("Operation cannot be fulfilled on ConfigMap \"g1\": the UID in the precondition (bad)")
    );
    let done = api
        .delete(&map("g1"), &json!({"propagationPolicy": "Background"}))
        .await
        .ok();
    assert_eq!(done["status"], "Success");
    let details = json!({"name": "g1", "kind": "configmaps", "uid": made["metadata"]["uid"]});
    assert_eq!(done["details"], details);
    let set = api.post(SETS, &stateful_set("s")).await.ok();
    let kept = api
        .delete(&format!("{SETS}/s"), &json!({"propagationPolicy": "Foreground"}))
        .await
        .ok();
    assert_eq!(kept["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_eq!(kept["metadata"]["generation"], 2);
    assert_eq!(kept["metadata"]["uid"], set["metadata"]["uid"]);
    let both = api
        .delete(
            &map("g1"),
            &json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
        )
        .await
        .failure();
    assert_eq!(both.0, 422);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let api = Api::new().await;
    for (name, label) in [("a", "1"), ("b", "2"), ("c", "1")] {
        api.config_map(name, json!({"w": label}), json!({})).await;
    }
    let deleted = api
        .delete(&format!("{MAPS}?labelSelector=w%3D1"), &Value::Null)
        .await
        .ok();
    assert_eq!(deleted["kind"], "ConfigMapList");
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    let rest = api.get(MAPS).await.ok();
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest["items"][0]["metadata"]["name"], "b");
}

#[tokio::test]
async fn writers_at_the_same_time_all_get_through() {
    let api = Api::new().await;
    api.config_map("busy", json!({}), json!({})).await;
    let path = map("busy");
    let writes = (0..20).map(|index| {
        let (api, path) = (api.clone(), path.clone());
        let key = format!("k{index}");
        async move { api.patch(&path, "merge", &json!({"data": {key: "v"}})).await.ok() }
    });
    futures::future::join_all(writes).await;
    assert_eq!(api.get(&path).await.ok()["data"].as_object().unwrap().len(), 20);
}

/// What kube-apiserver 1.28 answered when it was asked the same.
#[tokio::test]
async fn names_and_namespaces_that_are_not_given_or_not_needed() {
    let api = Api::new().await;
    // An apply finds what is there by its path, but makes nothing without a name.
    let unnamed = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"}});
    let path = format!("{}?fieldManager=anna", map("m"));
    let (code, reason, message) = api.apply(&path, &unnamed).await.failure();
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    let expected = "the name of the object (m based on URL) was undeterminable: name must be provided";
    assert_eq!(message, expected);
    api.config_map("m", json!({}), json!({})).await;
    assert_eq!(api.apply(&path, &unnamed).await.ok()["data"], json!({"a": "1"}));
    let put = api.put(&map("m"), &json!({"data": {}})).await.failure();
    assert_eq!((put.0, put.2.as_str()), (400, expected));

    // What belongs to the whole cluster loses a namespace that is given to it.
    let class = json!({"metadata": {"name": "c", "namespace": "x"}, "value": 1});
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let made = api.post(classes, &class).await.ok();
    assert_eq!(made["metadata"]["namespace"], Value::Null);
    let put = api.put(&format!("{classes}/c"), &class).await.ok();
    assert_eq!(put["metadata"]["namespace"], Value::Null);

    // One kind is given a name.
    let range = json!({"spec": {"limits": [{"type": "Container"}]}});
    let made = api.post("/api/v1/namespaces/default/limitranges", &range).await.ok();
    assert_eq!(made["metadata"]["name"].as_str().map(str::len), Some(36));
}
