//! What the cluster adds to objects and what it refuses, as clients see it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::{Answer, Api};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const PRIORITIES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn pod_of(name: &str, resources: Value) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = resources;
    pod
}

#[track_caller]
fn refused(answer: &Answer, code: u16, words: &str) {
    let (its_code, _, message) = answer.failure();
    assert_eq!((its_code, message.as_str()), (code, words));
}

/// A quota whose status a controller has filled in.
async fn quota(api: &Api, name: &str, spec: Value, used: Value) {
    let hard = spec["hard"].clone();
    api.post(QUOTAS, &json!({"metadata": {"name": name}, "spec": spec}))
        .await
        .ok();
    let status = json!({"status": {"hard": hard, "used": used}});
    api.patch(&format!("{QUOTAS}/{name}/status"), "merge", &status)
        .await
        .ok();
}

async fn used(api: &Api, name: &str) -> Value {
    api.get(&format!("{QUOTAS}/{name}")).await.ok()["status"]["used"].clone()
}

#[tokio::test]
async fn containers_get_what_their_namespace_gives_and_no_more_than_it_allows() {
    let api = Api::new().await;
    let ranges = "/api/v1/namespaces/default/limitranges";
    let item = json!({"type": "Container", "defaultRequest": {"cpu": "100m"}, "default": {"cpu": "300m"},
        "min": {"cpu": "50m"}, "max": {"cpu": "500m"}});
    let claims = json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}});
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [item, claims]}});
    api.post(ranges, &range).await.ok();
    let made = api.post(PODS, &pod("a")).await.ok();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let greedy = pod_of("b", json!({"limits": {"cpu": "2"}}));
    refused(
        &api.post(PODS, &greedy).await,
        403,
        "pods \"b\" is forbidden: maximum cpu usage per Container is 500m, but limit is 2",
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "2Gi"}}}});
    refused(
        &api.post(CLAIMS, &claim).await,
        403,
        "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but \
         request is 2Gi",
    );
}

#[tokio::test]
async fn a_namespace_holds_what_its_quota_allows() {
    let api = Api::new().await;
    let spec = json!({"hard": {"pods": "2", "requests.cpu": "1", "count/configmaps": "1"}});
    quota(
        &api,
        "q",
        spec,
        json!({"pods": "0", "requests.cpu": "0", "count/configmaps": "0"}),
    )
    .await;
    let half = |name| pod_of(name, json!({"requests": {"cpu": "600m"}}));
    api.post(PODS, &half("a")).await.ok();
    assert_eq!(
        used(&api, "q").await,
        json!({"pods": "1", "requests.cpu": "600m", "count/configmaps": "0"})
    );
    refused(
        &api.post(PODS, &half("b")).await,
        403,
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: \
         requests.cpu=1",
    );
    refused(
        &api.post(PODS, &pod("b")).await,
        403,
        "pods \"b\" is forbidden: failed quota: q: must specify requests.cpu for: c",
    );
    // Neither a trial nor a failure takes anything.
    let small = |name| pod_of(name, json!({"requests": {"cpu": "1m"}}));
    api.post(&format!("{PODS}?dryRun=All"), &small("b")).await.ok();
    assert_eq!(api.post(PODS, &half("a")).await.code, 403);
    assert_eq!(api.post(PODS, &small("a")).await.code, 409);
    assert_eq!(used(&api, "q").await["pods"], "1");
    api.config_map("one", json!({}), json!({})).await;
    let second = json!({"metadata": {"name": "two"}});
    let answer = api.post("/api/v1/namespaces/default/configmaps", &second).await;
    refused(
        &answer,
        403,
        "configmaps \"two\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: \
         count/configmaps=1, limited: count/configmaps=1",
    );
}

#[tokio::test]
async fn writers_at_the_same_time_cannot_exceed_a_quota() {
    let api = Api::new().await;
    quota(&api, "q", json!({"hard": {"pods": "5"}}), json!({"pods": "0"})).await;
    let creates = (0..20).map(|index| {
        let api = api.clone();
        tokio::spawn(async move { api.post(PODS, &pod(&format!("p{index}"))).await.code })
    });
    let codes = futures::future::join_all(creates.collect::<Vec<_>>()).await;
    let created = codes.into_iter().filter(|code| *code.as_ref().unwrap() == 201).count();
    assert_eq!(created, 5);
    assert_eq!(used(&api, "q").await["pods"], "5");
}

#[tokio::test]
async fn changes_are_charged_by_what_they_add() {
    let api = Api::new().await;
    let spec = json!({"hard": {"services": "1", "services.nodeports": "1"}});
    quota(&api, "q", spec, json!({"services": "0", "services.nodeports": "0"})).await;
    let services = "/api/v1/namespaces/default/services";
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}});
    api.post(services, &service).await.ok();
    let path = format!("{services}/s");
    let answer = api.patch(&path, "merge", &json!({"spec": {"type": "NodePort"}})).await;
    assert_eq!(answer.failure().0, 403);
    let one = json!({"spec": {"type": "NodePort", "ports": [{"port": 1}]}});
    api.patch(&path, "merge", &one).await.ok();
    assert_eq!(
        used(&api, "q").await,
        json!({"services": "1", "services.nodeports": "1"})
    );
}

#[tokio::test]
async fn a_quota_counts_what_is_in_its_scopes() {
    let api = Api::new().await;
    let spec = json!({"hard": {"pods": "1"}, "scopes": ["NotBestEffort"]});
    quota(&api, "q", spec, json!({"pods": "1"})).await;
    api.post(PODS, &pod("a")).await.ok();
    let other = pod_of("b", json!({"requests": {"cpu": "1m"}}));
    assert_eq!(api.post(PODS, &other).await.code, 403);
    // A quota that nobody has counted yet lets nothing through.
    let fresh = json!({"metadata": {"name": "fresh"}, "spec": {"hard": {"pods": "1"}}});
    api.post(QUOTAS, &fresh).await.ok();
    api.patch(
        &format!("{QUOTAS}/fresh/status"),
        "merge",
        &json!({"status": {"hard": {"pods": "1"}}}),
    )
    .await
    .ok();
    refused(
        &api.post(PODS, &pod("c")).await,
        403,
        "pods \"c\" is forbidden: status unknown for quota: fresh, resources: pods",
    );
}

#[tokio::test]
async fn pods_have_the_priority_of_their_class() {
    let api = Api::new().await;
    let class = json!({"metadata": {"name": "high"}, "value": 7, "globalDefault": true, "preemptionPolicy": "Never"});
    api.post(PRIORITIES, &class).await.ok();
    let made = api.post(PODS, &pod("a")).await.ok();
    let spec = &made["spec"];
    assert_eq!(
        (&spec["priorityClassName"], &spec["priority"], &spec["preemptionPolicy"]),
        (&json!("high"), &json!(7), &json!("Never"))
    );
    let second = json!({"metadata": {"name": "other"}, "value": 1, "globalDefault": true});
    refused(
        &api.post(PRIORITIES, &second).await,
        403,
        "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass high is already marked as default. \
         Only one default can exist",
    );
    let mut wrong = pod("b");
    wrong["spec"]["priority"] = json!(8);
    refused(
        &api.post(PODS, &wrong).await,
        403,
        "pods \"b\" is forbidden: the integer value of priority (8) must not be provided in pod spec; priority \
         admission controller computed 7 from the given PriorityClass name",
    );
    wrong["spec"] = json!({"containers": [{"name": "c", "image": "i"}], "priorityClassName": "none"});
    refused(
        &api.post(PODS, &wrong).await,
        403,
        "pods \"b\" is forbidden: no PriorityClass with name none was found",
    );
    wrong["spec"]["priorityClassName"] = json!("system-node-critical");
    assert_eq!(api.post(PODS, &wrong).await.ok()["spec"]["priority"], 2_000_001_000);
    refused(
        &api.delete(&format!("{PRIORITIES}/system-node-critical"), &Value::Null)
            .await,
        403,
        "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and \
         cannot be deleted",
    );
}

#[tokio::test]
async fn pods_comply_with_the_standards_of_their_namespace() {
    let api = Api::new().await;
    let namespaces = "/api/v1/namespaces";
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "v1.8"});
    let namespace = json!({"metadata": {"name": "safe", "labels": labels}});
    api.post(namespaces, &namespace).await.ok();
    let pods = "/api/v1/namespaces/safe/pods";
    let mut privileged = pod("a");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    refused(
        &api.post(pods, &privileged).await,
        403,
        "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not set \
         securityContext.privileged=true)",
    );
    let answer = api.post(pods, &pod("a")).await;
    answer.ok();
    let warnings = answer.warnings();
    let expected = "299 - \"would violate PodSecurity \\\"restricted:v1.8\\\": allowPrivilegeEscalation != false \
                    (container \\\"c\\\" must set securityContext.allowPrivilegeEscalation=false), runAsNonRoot != true \
                    (pod or container \\\"c\\\" must set securityContext.runAsNonRoot=true)\"";
    assert!(warnings.iter().any(|warning| warning == expected), "{warnings:?}");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": privileged["spec"]});
    let set = json!({"metadata": {"name": "s"}, "spec": {"serviceName": "s", "selector": {"matchLabels": {"a": "b"}},
        "template": template}});
    let answer = api.post("/apis/apps/v1/namespaces/safe/statefulsets", &set).await;
    answer.ok();
    assert!(
        answer
            .warnings()
            .iter()
            .any(|warning| warning.contains("would violate"))
    );
    let stricter = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let answer = api.patch(&format!("{namespaces}/safe"), "merge", &stricter).await;
    answer.ok();
    let warnings = answer.warnings();
    assert!(
        warnings[0].contains(
            "existing pods in namespace \\\"safe\\\" violate the new PodSecurity enforce level \\\"restricted:latest"
        ),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("a: allowPrivilegeEscalation != false, unrestricted capabilities"));
    let nonsense = json!({"metadata": {"name": "x", "labels": {"pod-security.kubernetes.io/enforce": "x"}}});
    assert_eq!(api.post(namespaces, &nonsense).await.failure().0, 422);
}

#[tokio::test]
async fn claims_grow_only_where_their_class_lets_them() {
    let api = Api::new().await;
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    let class = json!({"metadata": {"name": "elastic"}, "provisioner": "x", "allowVolumeExpansion": true});
    api.post(classes, &class).await.ok();
    for (name, class) in [("a", "standard"), ("b", "elastic")] {
        let claim = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}});
        let made = api.post(CLAIMS, &claim).await.ok();
        assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    }
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    let grown = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    for name in ["a", "b"] {
        assert!(api.patch(&format!("{CLAIMS}/{name}"), "merge", &grown).await.code >= 400);
        api.patch(&format!("{CLAIMS}/{name}/status"), "merge", &bound)
            .await
            .ok();
        api.patch(
            &format!("{CLAIMS}/{name}"),
            "merge",
            &json!({"spec": {"volumeName": "v"}}),
        )
        .await
        .ok();
    }
    refused(
        &api.patch(&format!("{CLAIMS}/a"), "merge", &grown).await,
        403,
        "persistentvolumeclaims \"a\" is forbidden: only dynamically provisioned pvc can be resized and the \
         storageclass that provisions the pvc must support resize",
    );
    api.patch(&format!("{CLAIMS}/b"), "merge", &grown).await.ok();
}
