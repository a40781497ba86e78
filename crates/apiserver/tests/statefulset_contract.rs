//! Rules of the StatefulSet contract that are the API server's: discovery, table, scale, deletion, feature gates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use ::api::gates::Gates;
use api::Api;
use apiserver::Config;
use serde_json::{Value, json};

const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";

fn web() -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": {
            "serviceName": "nginx", "replicas": 3, "selector": { "matchLabels": { "app": "nginx" } },
            "template": {
                "metadata": { "labels": { "app": "nginx" } },
                "spec": { "containers": [{ "name": "nginx", "image": "nginx:1" }] },
            },
        },
    })
}

async fn with_web() -> Api {
    let api = Api::new().await;
    api.post(SETS, &web()).await.ok();
    api
}

#[tokio::test]
async fn a0_1_the_kind_is_served_with_short_name_category_status_and_scale() {
    let api = Api::new().await;
    let resources = api.get("/apis/apps/v1").await.ok()["resources"].clone();
    let row = |name: &str| {
        resources
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == name)
            .cloned()
            .unwrap()
    };
    let sets = row("statefulsets");
    assert_eq!(
        (&sets["kind"], &sets["namespaced"]),
        (&json!("StatefulSet"), &json!(true))
    );
    assert_eq!(
        (&sets["shortNames"], &sets["categories"]),
        (&json!(["sts"]), &json!(["all"]))
    );
    assert_eq!(row("statefulsets/status")["kind"], "StatefulSet");
    let scale = row("statefulsets/scale");
    assert_eq!(
        (&scale["group"], &scale["kind"]),
        (&json!("autoscaling"), &json!("Scale"))
    );
}

#[tokio::test]
async fn a0_2_the_table_shows_name_ready_age_and_wide_containers_and_images() {
    let api = with_web().await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = api.send("GET", SETS, &accept, "").await.ok();
    let columns = table["columnDefinitions"].as_array().unwrap();
    let shown: Vec<_> = columns
        .iter()
        .map(|column| (column["name"].as_str().unwrap(), column["priority"].as_i64().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [("Name", 0), ("Ready", 0), ("Age", 0), ("Containers", 1), ("Images", 1)]
    );
    let cells = &table["rows"][0]["cells"];
    assert_eq!(
        (&cells[0], &cells[1], &cells[3], &cells[4]),
        (&json!("web"), &json!("0/3"), &json!("nginx"), &json!("nginx:1"))
    );
}

#[tokio::test]
async fn a4_1_scale_shows_identity_replicas_and_selector() {
    let api = with_web().await;
    let set = api.get(&format!("{SETS}/web")).await.ok();
    let scale = api.get(&format!("{SETS}/web/scale")).await.ok();
    assert_eq!(
        (&scale["apiVersion"], &scale["kind"]),
        (&json!("autoscaling/v1"), &json!("Scale"))
    );
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        assert_eq!(scale["metadata"][field], set["metadata"][field], "{field}");
    }
    assert_eq!(scale["spec"]["replicas"], 3);
    assert_eq!(scale["status"], json!({ "replicas": 0, "selector": "app=nginx" }));
}

#[tokio::test]
async fn a4_2_scale_moves_the_replicas_of_the_set_that_is_meant() {
    let api = with_web().await;
    let path = format!("{SETS}/web/scale");
    let mut scale = api.get(&path).await.ok();
    scale["spec"]["replicas"] = json!(5);
    api.put(&path, &scale).await.ok();
    assert_eq!(api.get(&format!("{SETS}/web")).await.ok()["spec"]["replicas"], 5);
    assert_eq!(api.put(&path, &scale).await.failure().0, 409, "an old resourceVersion");
    scale["metadata"]["resourceVersion"] = Value::Null;
    scale["metadata"]["uid"] = json!("another");
    assert_eq!(api.put(&path, &scale).await.failure().0, 409, "another uid");
    let negative = json!({ "spec": { "replicas": -1 } });
    assert_eq!(api.patch(&path, "merge", &negative).await.failure().0, 422);
}

#[tokio::test]
async fn a12_1_deletion_is_in_the_background_unless_told_otherwise() {
    let api = with_web().await;
    api.delete(&format!("{SETS}/web"), &Value::Null).await.ok();
    assert_eq!(api.get(&format!("{SETS}/web")).await.failure().0, 404);
}

#[tokio::test]
async fn a12_2_foreground_deletion_leaves_the_set_with_time_and_finalizer() {
    let api = with_web().await;
    api.delete(&format!("{SETS}/web"), &json!({ "propagationPolicy": "Foreground" }))
        .await
        .ok();
    let set = api.get(&format!("{SETS}/web")).await.ok();
    assert!(set["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(set["metadata"]["finalizers"], json!(["foregroundDeletion"]));
}

#[tokio::test]
async fn a12_4_nothing_is_created_in_a_namespace_that_goes() {
    let api = Api::new().await;
    api.post("/api/v1/namespaces", &json!({ "metadata": { "name": "going" } }))
        .await
        .ok();
    api.delete("/api/v1/namespaces/going", &Value::Null).await.ok();
    let refused = api.post("/apis/apps/v1/namespaces/going/statefulsets", &web()).await;
    assert_eq!(refused.failure().0, 403);
}

#[tokio::test]
async fn a7_9_recreate_is_taken_with_its_gate_only() {
    let mut set = web();
    set["spec"]["updateStrategy"] = json!({ "type": "Recreate" });
    let (code, reason, message) = Api::new().await.post(SETS, &set).await.failure();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(message.contains("must be 'RollingUpdate' or 'OnDelete'"), "{message}");
    let gates = Gates {
        recreate: true,
        ..Gates::default()
    };
    let api = Api::with(Config {
        gates,
        ..Config::default()
    })
    .await;
    let stored = api.post(SETS, &set).await.ok();
    assert_eq!(stored["spec"]["updateStrategy"], json!({ "type": "Recreate" }));
}
