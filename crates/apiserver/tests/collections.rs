//! Lists and watches: pages, states, selectors, events in order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use serde_json::{Value, json};
use std::time::Duration;
use store::Store;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn with_maps(count: usize) -> Api {
    let api = Api::new().await;
    for index in 0..count {
        api.config_map(
            &format!("m{index:02}"),
            json!({"even": (index % 2 == 0).to_string()}),
            json!({}),
        )
        .await;
    }
    api
}

#[tokio::test]
async fn lists_are_sorted_and_bare() {
    let api = with_maps(3).await;
    let list = api.get(MAPS).await.ok();
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("ConfigMapList"), &json!("v1"))
    );
    assert_eq!(names(&list), ["m00", "m01", "m02"]);
    assert!(list["items"][0].get("kind").is_none() && list["items"][0].get("apiVersion").is_none());
    assert_eq!(revision(&list), revision(&list["items"][2]));
    let empty = api.get("/api/v1/namespaces/nowhere/pods").await;
    assert!(empty.text.contains("\"items\":[]"), "{}", empty.text);
    assert_eq!(names(&api.get("/api/v1/configmaps").await.ok()).len(), 3);
}

#[tokio::test]
async fn pages_show_one_state() {
    let api = with_maps(5).await;
    let first = api.get(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["m00", "m01"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    api.config_map("m01a", json!({}), json!({})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = api.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&second), ["m02", "m03"]);
    assert_eq!(revision(&second), revision(&first));
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = api.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&last), ["m04"]);
    assert!(last["metadata"]["continue"].is_null());
    let both = api
        .get(&format!("{MAPS}?continue={token}&resourceVersion=5"))
        .await
        .failure();
    assert_eq!(both.2, "specifying resource version is not allowed when using continue");
    let selected = api.get(&format!("{MAPS}?limit=2&labelSelector=even%3Dtrue")).await.ok();
    assert_eq!(names(&selected), ["m00", "m02"]);
    assert!(selected["metadata"]["continue"].is_string() && selected["metadata"]["remainingItemCount"].is_null());
}

#[tokio::test]
async fn forgotten_states_are_gone() {
    let api = with_maps(4).await;
    let first = api.get(&format!("{MAPS}?limit=2")).await.ok();
    api.config_map("m01a", json!({}), json!({})).await;
    api.store.compact(api.store.revision().await.unwrap()).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let answer = api.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!((answer.failure().0, answer.failure().1.as_str()), (410, "Expired"));
    let token = answer.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_eq!(
        names(&api.get(&format!("{MAPS}?continue={token}")).await.ok()),
        ["m02", "m03"]
    );
    let old = api
        .get(&format!("{MAPS}?resourceVersion=2&resourceVersionMatch=Exact"))
        .await
        .failure();
    assert_eq!(old.0, 410);
    assert_eq!(old.2, "The resourceVersion for the provided list is too old.");
    let mut events = api.watch(&format!("{MAPS}?watch=true&resourceVersion=2")).await;
    let error = events.next().await.unwrap();
    assert_eq!(
        (&error["type"], &error["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    assert!(
        error["object"]["message"]
            .as_str()
            .unwrap()
            .starts_with("too old resource version: 2 ("),
        "{error}"
    );
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn states_are_named_by_revision() {
    let api = with_maps(2).await;
    let list = api.get(MAPS).await.ok();
    let first = revision(&list["items"][0]);
    let exact = api
        .get(&format!("{MAPS}?resourceVersion={first}&resourceVersionMatch=Exact"))
        .await
        .ok();
    assert_eq!((names(&exact), revision(&exact)), (vec!["m00".to_owned()], first));
    let newer = api
        .get(&format!(
            "{MAPS}?resourceVersion={first}&resourceVersionMatch=NotOlderThan"
        ))
        .await
        .ok();
    assert_eq!(names(&newer).len(), 2);
    let future = api.get(&format!("{MAPS}?resourceVersion=99999")).await;
    let (code, reason, message) = future.failure();
    assert_eq!((code, reason.as_str()), (504, "Timeout"));
    assert!(
        message.starts_with("Timeout: Too large resource version: 99999, current: "),
        "{message}"
    );
    assert_eq!(future.headers["retry-after"], "1");
    let alone = api.get(&format!("{MAPS}?resourceVersionMatch=Exact")).await.failure();
    let message = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is \
                   forbidden unless resourceVersion is provided";
    assert_eq!(alone, (422, "Invalid".to_owned(), message.to_owned()));
}

#[tokio::test]
async fn selectors_choose_and_refuse() {
    let api = with_maps(4).await;
    let list = async |query: &str| api.get(&format!("{MAPS}?{query}")).await;
    assert_eq!(names(&list("labelSelector=even%3Dtrue").await.ok()), ["m00", "m02"]);
    assert_eq!(
        names(&list("labelSelector=even%20notin%20(true)").await.ok()),
        ["m01", "m03"]
    );
    assert_eq!(names(&list("fieldSelector=metadata.name%3Dm01").await.ok()), ["m01"]);
    assert_eq!(names(&list("fieldSelector=metadata.name!%3Dm01").await.ok()).len(), 3);
    let everywhere = api
        .get("/api/v1/configmaps?fieldSelector=metadata.name%3Dm01,metadata.namespace%3Ddefault")
        .await;
    assert_eq!(names(&everywhere.ok()), ["m01"]);
    let unknown = list("fieldSelector=data.k%3Dv").await.failure();
    let message = "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    assert_eq!(unknown, (400, "BadRequest".to_owned(), message.to_owned()));
    let (code, _, message) = list("labelSelector=%3D").await.failure();
    assert_eq!(code, 400);
    assert!(message.starts_with("found '=', expected: "), "{message}");
}

#[tokio::test]
async fn tables_and_metadata_are_made_on_request() {
    let api = with_maps(2).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let answer = api.send("GET", MAPS, &[("accept", table)], "").await.ok();
    assert_eq!(
        (&answer["kind"], &answer["apiVersion"]),
        (&json!("Table"), &json!("meta.k8s.io/v1"))
    );
    assert_eq!(answer["columnDefinitions"][0]["name"], "Name");
    assert_eq!(answer["rows"][1]["cells"][0], "m01");
    assert_eq!(answer["rows"][1]["object"]["kind"], "PartialObjectMetadata");
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let answer = api.send("GET", MAPS, &[("accept", metadata)], "").await.ok();
    assert_eq!(answer["kind"], "PartialObjectMetadataList");
    assert_eq!(answer["items"][0]["metadata"]["name"], "m00");
    assert!(answer["items"][0].get("data").is_none());
}

#[tokio::test]
async fn a_watch_reports_changes_after_its_start() {
    let api = with_maps(1).await;
    let start = revision(&api.get(MAPS).await.ok());
    let mut events = api.watch(&format!("{MAPS}?watch=1&resourceVersion={start}")).await;
    let made = api.config_map("new", json!({}), json!({"k": "1"})).await;
    let changed = api
        .patch(&format!("{MAPS}/new"), "merge", &json!({"data": {"k": "2"}}))
        .await
        .ok();
    api.delete(&format!("{MAPS}/new"), &Value::Null).await.ok();
    assert_eq!(events.next().await.unwrap(), json!({"type": "ADDED", "object": made}));
    assert_eq!(
        events.next().await.unwrap(),
        json!({"type": "MODIFIED", "object": changed})
    );
    let deleted = events.next().await.unwrap();
    assert_eq!(
        (&deleted["type"], &deleted["object"]["data"]["k"]),
        (&json!("DELETED"), &json!("2"))
    );
    assert!(revision(&deleted["object"]) > revision(&changed));
}

#[tokio::test]
async fn a_watch_may_start_with_what_exists() {
    let api = with_maps(2).await;
    let query = "watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut events = api.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(events.brief().await, ("ADDED".to_owned(), "m00".to_owned()));
    assert_eq!(events.brief().await, ("ADDED".to_owned(), "m01".to_owned()));
    let end = events.next().await.unwrap();
    let current = api.store.revision().await.unwrap().to_string();
    let metadata = json!({"resourceVersion": current, "annotations": {"k8s.io/initial-events-end": "true"}});
    let expected = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata});
    assert_eq!(end, json!({"type": "BOOKMARK", "object": expected}));
    api.config_map("m02", json!({}), json!({})).await;
    assert_eq!(events.brief().await, ("ADDED".to_owned(), "m02".to_owned()));
    // Without bookmarks there is no end mark, and without a revision a watch has always begun with what exists.
    let mut events = api.watch(&format!("{MAPS}?watch=true")).await;
    assert_eq!(events.brief().await.1, "m00");
    let bad = api
        .get(&format!("{MAPS}?watch=true&sendInitialEvents=true"))
        .await
        .failure();
    assert_eq!(bad.0, 422);
}

#[tokio::test]
async fn selectors_translate_changes() {
    let api = with_maps(0).await;
    let mut events = api.watch(&format!("{MAPS}?watch=true&labelSelector=w%3D1")).await;
    api.config_map("c1", json!({"w": "1"}), json!({"k": "old"})).await;
    let left = json!({"metadata": {"labels": {"w": "2"}}, "data": {"k": "new"}});
    let left = api.patch(&format!("{MAPS}/c1"), "merge", &left).await.ok();
    let back = json!({"metadata": {"labels": {"w": "1"}}});
    api.patch(&format!("{MAPS}/c1"), "merge", &back).await.ok();
    assert_eq!(events.brief().await.0, "ADDED");
    let gone = events.next().await.unwrap();
    // The old state, at the revision of the change.
    assert_eq!(
        (&gone["type"], &gone["object"]["data"]["k"]),
        (&json!("DELETED"), &json!("old"))
    );
    assert_eq!(revision(&gone["object"]), revision(&left));
    assert_eq!(events.brief().await.0, "ADDED");
    let mut named = api
        .watch(&format!("{MAPS}?watch=true&fieldSelector=metadata.name%3Dx"))
        .await;
    api.config_map("xy", json!({}), json!({})).await;
    api.config_map("x", json!({}), json!({})).await;
    assert_eq!(named.brief().await, ("ADDED".to_owned(), "x".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn watches_end_in_time_with_bookmarks_before() {
    let api = with_maps(1).await;
    let current = api.store.revision().await.unwrap();
    let query = format!("watch=true&resourceVersion={current}&timeoutSeconds=90&allowWatchBookmarks=true");
    let started = tokio::time::Instant::now();
    let response = api.send("GET", &format!("{MAPS}?{query}"), &[], "").await;
    assert_eq!(started.elapsed(), Duration::from_secs(90));
    let types: Vec<Value> = response
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(types.len(), 2, "one after a minute, one before the end: {types:?}");
    assert!(
        types
            .iter()
            .all(|event| event["type"] == "BOOKMARK" && revision(&event["object"]) == current)
    );
    let silent = format!("watch=true&resourceVersion={current}&timeoutSeconds=90");
    assert_eq!(api.send("GET", &format!("{MAPS}?{silent}"), &[], "").await.text, "");
}

#[tokio::test]
async fn a_watch_can_show_tables() {
    let api = with_maps(1).await;
    let table = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let answer = api
        .send("GET", &format!("{MAPS}?watch=true&timeoutSeconds=1"), &table, "")
        .await;
    let event: Value = serde_json::from_str(answer.text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["kind"]),
        (&json!("ADDED"), &json!("Table"))
    );
    assert_eq!(event["object"]["rows"][0]["cells"][0], "m00");
}

#[tokio::test]
async fn many_watchers_see_the_same_in_order() {
    let api = with_maps(0).await;
    let current = api.store.revision().await.unwrap();
    let mut watchers = Vec::new();
    for _ in 0..50 {
        watchers.push(api.watch(&format!("{MAPS}?watch=true&resourceVersion={current}")).await);
    }
    for index in 0..20 {
        api.config_map(&format!("n{index:02}"), json!({}), json!({})).await;
    }
    for watcher in &mut watchers {
        for index in 0..20 {
            assert_eq!(watcher.brief().await, ("ADDED".to_owned(), format!("n{index:02}")));
        }
    }
}

#[tokio::test]
async fn events_are_one_resource_in_two_groups() {
    let api = Api::new().await;
    let core = json!({"metadata": {"name": "e1"}, "involvedObject": {"kind": "Pod", "name": "web-0", "namespace": "default"},
        "reason": "Started", "message": "m", "type": "Normal", "count": 1,
        "firstTimestamp": "2026-11-22T08:36:08Z", "lastTimestamp": "2026-11-22T08:36:08Z",
        "source": {"component": "kubelet"}});
    api.post("/api/v1/namespaces/default/events", &core).await.ok();
    let new = api
        .get("/apis/events.k8s.io/v1/namespaces/default/events/e1")
        .await
        .ok();
    assert_eq!(new["apiVersion"], "events.k8s.io/v1");
    assert_eq!(
        (&new["regarding"]["name"], &new["note"]),
        (&json!("web-0"), &json!("m"))
    );
    assert_eq!(new["deprecatedCount"], 1);
    let other = json!({"metadata": {"name": "e2"}, "regarding": {"kind": "Pod", "name": "web-1", "namespace": "default"},
        "reason": "Scheduled", "note": "n", "type": "Normal", "action": "Binding",
        "eventTime": "2026-11-22T08:36:09.808670Z", "reportingController": "s", "reportingInstance": "s-0"});
    api.post("/apis/events.k8s.io/v1/namespaces/default/events", &other)
        .await
        .ok();
    let query = "fieldSelector=involvedObject.name%3Dweb-1,involvedObject.kind%3DPod";
    let list = api
        .get(&format!("/api/v1/namespaces/default/events?{query}"))
        .await
        .ok();
    assert_eq!(names(&list), ["e2"]);
    assert_eq!(list["items"][0]["message"], "n");
    let list = api.get("/apis/events.k8s.io/v1/events").await.ok();
    assert_eq!(names(&list), ["e1", "e2"]);
    assert_eq!(list["items"][1]["note"], "n");
}

#[tokio::test(start_paused = true)]
async fn events_end_after_an_hour() {
    let api = Api::new().await;
    let event =
        json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}});
    api.post("/api/v1/namespaces/default/events", &event).await.ok();
    let mut events = api
        .watch("/api/v1/namespaces/default/events?watch=true&timeoutSeconds=10000")
        .await;
    assert_eq!(events.brief().await.0, "ADDED");
    tokio::time::sleep(Duration::from_secs(59 * 60)).await;
    assert_eq!(api.get("/api/v1/namespaces/default/events/e").await.code, 200);
    tokio::time::sleep(Duration::from_secs(7 * 60)).await;
    assert_eq!(api.get("/api/v1/namespaces/default/events/e").await.code, 404);
    assert_eq!(events.brief().await.0, "DELETED");
}

#[tokio::test(start_paused = true)]
async fn history_is_kept_for_its_time_and_then_forgotten() {
    let api = with_maps(3).await;
    let old = revision(&api.get(&format!("{MAPS}/m00")).await.ok());
    let exact = format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact");
    tokio::time::sleep(Duration::from_secs(295)).await;
    assert_eq!(names(&api.get(&exact).await.ok()), ["m00"]);
    tokio::time::sleep(Duration::from_secs(130)).await;
    assert_eq!(api.get(&exact).await.failure().0, 410);
}

#[tokio::test]
async fn large_lists_are_compressed_for_those_who_ask() {
    let api = Api::new().await;
    for index in 0..20 {
        api.config_map(&format!("big{index}"), json!({}), json!({"k": "v".repeat(10_000)}))
            .await;
    }
    let answer = api.send("GET", MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    assert!(answer.text.len() < 50_000);
    let small = api
        .send("GET", &format!("{MAPS}/big0"), &[("accept-encoding", "gzip")], "")
        .await;
    assert!(!small.headers.contains_key("content-encoding"));
}
