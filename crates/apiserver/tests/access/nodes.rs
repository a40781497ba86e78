//! What nodes may see and change.

use crate::api::Api;
use apiserver::User;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn with_pod_on(node: &str) -> (Api, Api) {
    let api = Api::new().await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i:1",
        "envFrom": [{"secretRef": {"name": "used"}}]}]}});
    api.post(PODS, &pod).await.ok();
    for name in ["used", "unused"] {
        let secret = json!({"metadata": {"name": name}});
        api.post("/api/v1/namespaces/default/secrets", &secret).await.ok();
    }
    let kubelet = api.as_user(User::new("system:node:vm", ["system:nodes", "system:authenticated"]));
    (api, kubelet)
}

#[tokio::test]
async fn a_node_reads_the_secrets_of_its_pods_alone() {
    let (api, node) = with_pod_on("vm").await;
    let secrets = "/api/v1/namespaces/default/secrets";
    assert_eq!(node.get(&format!("{secrets}/used")).await.code, 200);
    assert_eq!(node.get(&format!("{secrets}/unused")).await.code, 403);
    assert_eq!(node.get(secrets).await.code, 403);
    assert_eq!(
        node.get(&format!("{secrets}?fieldSelector=metadata.name%3Dused"))
            .await
            .code,
        200
    );
    let other = api.as_user(User::new("system:node:other", ["system:nodes"]));
    assert_eq!(other.get(&format!("{secrets}/used")).await.code, 403);
    api.delete(&format!("{PODS}/p"), &json!({"gracePeriodSeconds": 0}))
        .await
        .ok();
    // Nobody waits for a refusal, but it comes.
    let refused = async {
        while node.get(&format!("{secrets}/used")).await.code != 403 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), refused)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_own_pods() {
    let (api, node) = with_pod_on("vm").await;
    let uid = api.get(&format!("{PODS}/p")).await.ok()["metadata"]["uid"].clone();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let bound =
        |uid: &Value| json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}}});
    assert_eq!(node.post(path, &bound(&uid)).await.code, 201);
    let (code, _, message) = node.post(path, &json!({"spec": {}})).await.failure();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "serviceaccounts \"default\" is forbidden: node requested token not bound to a pod"
    );
    let (_, _, message) = node.post(path, &bound(&Value::Null)).await.failure();
    assert!(message.ends_with("with a pod binding without a uid"), "{message}");
    let other = api.as_user(User::new("system:node:other", ["system:nodes"]));
    assert_eq!(other.post(path, &bound(&uid)).await.code, 403);
}

#[tokio::test]
async fn a_node_changes_itself_and_its_pods_only() {
    let (api, node) = with_pod_on("other").await;
    let nodes = "/api/v1/nodes";
    let own = json!({"metadata": {"name": "vm", "labels": {"kubernetes.io/hostname": "vm", "disk": "ssd"}}});
    assert_eq!(node.post(nodes, &own).await.code, 201);
    let (code, _, message) = node
        .post(nodes, &json!({"metadata": {"name": "other"}}))
        .await
        .failure();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "nodes \"other\" is forbidden: node \"system:node:vm\" is not allowed to modify node \"other\""
            .replace("system:node:", "")
    );
    let label = json!({"metadata": {"labels": {"node-restriction.kubernetes.io/zone": "secure"}}});
    let (_, _, message) = node.patch(&format!("{nodes}/vm"), "merge", &label).await.failure();
    assert!(
        message.ends_with("the following labels: node-restriction.kubernetes.io/zone"),
        "{message}"
    );
    let taints = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    assert_eq!(node.patch(&format!("{nodes}/vm"), "merge", &taints).await.code, 403);
    let status = json!({"status": {"phase": "Running"}});
    let (code, _, message) = node
        .patch(&format!("{PODS}/p/status"), "merge", &status)
        .await
        .failure();
    assert_eq!(code, 403);
    assert!(
        message.ends_with("can only update pod status for pods with spec.nodeName set to itself"),
        "{message}"
    );
    assert_eq!(node.delete(&format!("{PODS}/p"), &Value::Null).await.code, 403);
    let eviction = json!({"metadata": {"name": "p"}});
    assert_eq!(node.post(&format!("{PODS}/p/eviction"), &eviction).await.code, 403);
    let pod =
        json!({"metadata": {"name": "q"}, "spec": {"nodeName": "vm", "containers": [{"name": "c", "image": "i:1"}]}});
    let (_, _, message) = node.post(PODS, &pod).await.failure();
    assert!(
        message.ends_with("node \"vm\" can only create mirror pods"),
        "{message}"
    );
    assert_eq!(api.get(&format!("{PODS}/q")).await.code, 404);
}

#[tokio::test]
async fn a_node_renews_its_own_lease() {
    let (_, node) = with_pod_on("vm").await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}});
    assert_eq!(node.post(leases, &lease("vm")).await.code, 201);
    assert_eq!(node.post(leases, &lease("other")).await.code, 403);
    let elsewhere = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    assert_eq!(node.post(elsewhere, &lease("vm")).await.code, 403);
}
