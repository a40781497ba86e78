//! Evictions and other changes of pods through their subresources.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::{Answer, Api};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// A pod that runs and is ready, or not.
async fn pod(api: &Api, name: &str, ready: bool) {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i:1"}]}});
    api.post(PODS, &pod).await.ok();
    let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }});
    let status = json!({"status": {"phase": "Running", "conditions": [condition]}});
    api.patch(&format!("{PODS}/{name}/status"), "strategic-merge", &status)
        .await
        .ok();
}

/// A budget that its controller has counted.
async fn budget(api: &Api, name: &str, counted: Value) {
    let budget =
        json!({"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    api.post(BUDGETS, &budget).await.ok();
    let mut status = json!({"observedGeneration": 1, "expectedPods": 2, "currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1});
    for (key, value) in counted.as_object().unwrap() {
        status[key] = value.clone();
    }
    let patch = json!({"status": status});
    api.patch(&format!("{BUDGETS}/{name}/status"), "merge", &patch)
        .await
        .ok();
}

async fn evict(api: &Api, name: &str, options: Value) -> Answer {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name},
        "deleteOptions": options});
    api.post(&format!("{PODS}/{name}/eviction"), &eviction).await
}

#[tokio::test]
async fn a_budget_pays_for_one_eviction_and_refuses_the_next() {
    let api = Api::new().await;
    for name in ["a", "b"] {
        pod(&api, name, true).await;
    }
    budget(&api, "pdb", json!({})).await;
    let tried = evict(&api, "a", json!({"dryRun": ["All"]})).await;
    assert_eq!(tried.ok()["status"], "Success");
    let answer = evict(&api, "a", Value::Null).await;
    assert_eq!((answer.code, &answer.ok()["status"]), (201, &json!("Success")));
    let evicted = api.get(&format!("{PODS}/a")).await.ok();
    assert!(evicted["metadata"]["deletionTimestamp"].is_string());
    let conditions = evicted["status"]["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget").unwrap();
    assert_eq!(
        (&target["status"], &target["reason"]),
        (&json!("True"), &json!("EvictionByEvictionAPI"))
    );
    let paid = api.get(&format!("{BUDGETS}/pdb")).await.ok();
    assert_eq!(paid["status"]["disruptionsAllowed"], 0);
    assert!(paid["status"]["disruptedPods"]["a"].is_string());
    let refused = evict(&api, "b", Value::Null).await;
    let expected = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Cannot evict pod as it would violate the pod's disruption budget.",
        "reason": "TooManyRequests", "details": {"causes": [{"reason": "DisruptionBudget",
            "message": "The disruption budget pdb needs 1 healthy pods and has 2 currently"}]}, "code": 429});
    assert_eq!(refused.json(), expected);
    // Whoever is leaving already is asked nothing.
    evict(&api, "a", Value::Null).await.ok();
}

#[tokio::test]
async fn evictions_at_the_same_time_do_not_overdraw_a_budget() {
    let api = Api::new().await;
    for index in 0..8 {
        pod(&api, &format!("p{index}"), true).await;
    }
    budget(&api, "pdb", json!({"disruptionsAllowed": 3, "currentHealthy": 8})).await;
    let evictions = (0..8).map(|index| {
        let api = api.clone();
        tokio::spawn(async move { evict(&api, &format!("p{index}"), Value::Null).await.code })
    });
    let codes = futures::future::join_all(evictions.collect::<Vec<_>>()).await;
    assert_eq!(
        codes.into_iter().filter(|code| *code.as_ref().unwrap() == 201).count(),
        3
    );
    let budget = api.get(&format!("{BUDGETS}/pdb")).await.ok();
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert_eq!(budget["status"]["disruptedPods"].as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn unready_pods_stale_budgets_and_too_many_budgets() {
    let api = Api::new().await;
    pod(&api, "unready", false).await;
    pod(&api, "ready", true).await;
    budget(&api, "pdb", json!({"disruptionsAllowed": 0, "currentHealthy": 1})).await;
    evict(&api, "unready", Value::Null).await.ok();
    let spec = json!({"spec": {"minAvailable": 2}});
    api.patch(&format!("{BUDGETS}/pdb"), "merge", &spec).await.ok();
    let stale = evict(&api, "ready", Value::Null).await;
    assert_eq!(stale.json()["details"]["retryAfterSeconds"], 10);
    assert_eq!(stale.headers["retry-after"], "10");
    budget(&api, "second", json!({})).await;
    let answer = evict(&api, "ready", Value::Null).await.failure();
    let words = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    assert_eq!(answer, (500, String::new(), words.to_owned()));
    // Preconditions hold for evictions as for deletes.
    let answer = evict(&api, "ready", json!({"preconditions": {"uid": "other"}})).await;
    assert!(answer.code >= 409, "{}", answer.text);
}

#[tokio::test]
async fn bindings_are_checked_and_say_where_the_node_is() {
    let api = Api::new().await;
    let labels = json!({"topology.kubernetes.io/zone": "z", "other": "o"});
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "n", "labels": labels}}))
        .await
        .ok();
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let version = api.post(PODS, &pod).await.ok()["metadata"]["resourceVersion"].clone();
    let bind = async |metadata: Value, target: Value| {
        let mut binding = json!({"metadata": metadata, "target": target});
        binding["metadata"]["name"] = json!("a");
        api.post(&format!("{PODS}/a/binding"), &binding).await
    };
    let (code, _, message) = bind(json!({}), json!({"kind": "Pod", "name": "n"})).await.failure();
    assert_eq!(code, 422);
    assert!(message.contains("target.kind: Unsupported value: \"Pod\""), "{message}");
    assert_eq!(bind(json!({}), json!({"kind": "Node"})).await.failure().0, 422);
    let node = json!({"kind": "Node", "name": "n"});
    assert_eq!(
        bind(json!({"resourceVersion": "1"}), node.clone()).await.failure().0,
        409
    );
    bind(
        json!({"resourceVersion": version, "annotations": {"k": "v"}}),
        node.clone(),
    )
    .await
    .ok();
    let bound = api.get(&format!("{PODS}/a")).await.ok();
    assert_eq!(bound["metadata"]["labels"], json!({"topology.kubernetes.io/zone": "z"}));
    assert_eq!(bound["metadata"]["annotations"]["k"], "v");
    let again = bind(json!({}), node).await.failure();
    assert_eq!(again.0, 409);
    assert!(
        again.2.ends_with("pod a is already assigned to node \"n\""),
        "{}",
        again.2
    );
}

#[tokio::test]
async fn a_container_is_added_for_debugging() {
    let api = Api::new().await;
    pod(&api, "a", true).await;
    let path = format!("{PODS}/a/ephemeralcontainers");
    let patch =
        json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox:1", "targetContainerName": "c"}]}});
    let patched = api.patch(&path, "strategic-merge", &patch).await.ok();
    let added = &patched["spec"]["ephemeralContainers"][0];
    assert_eq!(
        (&added["name"], &added["imagePullPolicy"]),
        (&json!("debug"), &json!("IfNotPresent"))
    );
    assert_eq!(patched["metadata"]["generation"], 2);
    // Nothing else can be changed this way, and what was added stays.
    let mut whole = api.get(&path).await.ok();
    whole["metadata"]["labels"]["x"] = json!("y");
    whole["spec"]["containers"][0]["image"] = json!("other");
    let unchanged = api.put(&path, &whole).await.ok();
    assert_eq!(unchanged["spec"]["containers"][0]["image"], "i:1");
    assert!(unchanged["metadata"]["labels"]["x"].is_null());
    whole["spec"]["ephemeralContainers"] = json!([]);
    let (code, reason, message) = api.put(&path, &whole).await.failure();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(
        message.contains("existing ephemeral containers \"debug\" may not be removed"),
        "{message}"
    );
    let other = json!({"spec": {"ephemeralContainers": [{"name": "b", "image": "i"}]}});
    let through_main = api.patch(&format!("{PODS}/a"), "strategic-merge", &other).await;
    assert_eq!(through_main.failure().0, 422);
}

#[tokio::test]
async fn what_containers_ask_for_changes_through_resize_only() {
    let api = Api::new().await;
    let resources = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}});
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i:1", "resources": resources}]}});
    api.post(PODS, &pod).await.ok();
    let larger = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "150m"}}}]}});
    assert_eq!(
        api.patch(&format!("{PODS}/a"), "strategic-merge", &larger).await.code,
        422
    );
    let path = format!("{PODS}/a/resize");
    let resized = api.patch(&path, "strategic-merge", &larger).await.ok();
    assert_eq!(
        resized["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "150m"}, "limits": {"cpu": "200m"}})
    );
    assert_eq!(resized["metadata"]["generation"], 2);
    let equal = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}}]}});
    let (_, _, message) = api.patch(&path, "strategic-merge", &equal).await.failure();
    assert!(
        message.contains("Pod QOS Class may not change as a result of resizing"),
        "{message}"
    );
}
