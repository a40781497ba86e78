//! What a cluster is made of: namespaces, pods, claims, Services, and who may touch them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use apiserver::{Config, User};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": spec});
    if service["spec"]["ports"].is_null() {
        service["spec"]["ports"] = json!([{"port": 80}]);
    }
    service
}

async fn bind(api: &Api, name: &str, node: &str) -> api::Answer {
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
    api.post(&format!("{PODS}/{name}/binding"), &binding).await
}

#[tokio::test]
async fn a_cluster_starts_with_what_it_needs() {
    let api = Api::new().await;
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let made = api.get(&format!("/api/v1/namespaces/{namespace}")).await.ok();
        assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], namespace);
        assert_eq!(
            (&made["spec"], &made["status"]),
            (&json!({"finalizers": ["kubernetes"]}), &json!({"phase": "Active"}))
        );
        api.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/default"))
            .await
            .ok();
    }
    let own = api.get(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(own["spec"]["clusterIP"], "10.96.0.1");
    let dns = api.get("/api/v1/namespaces/kube-system/services/kube-dns").await.ok();
    assert_eq!(dns["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(dns["spec"]["ports"].as_array().unwrap().len(), 2);
    let class = api.get("/apis/storage.k8s.io/v1/storageclasses/standard").await.ok();
    assert_eq!(class["provisioner"], "steadfast.io/local");
    assert_eq!(class["parameters"]["path"], "/var/lib/steadfast/volumes");
    // A loopback address would lead pods astray.
    assert_eq!(
        api.get("/api/v1/namespaces/default/endpoints/kubernetes").await.code,
        404
    );
}

#[tokio::test]
async fn a_second_start_leaves_everything_alone() {
    let api = Api::new().await;
    let store: std::sync::Arc<dyn store::Store> = api.store.clone();
    let before = store.revision().await.unwrap();
    apiserver::ApiServer::new(store.clone(), Config::default())
        .await
        .unwrap();
    assert_eq!(store.revision().await.unwrap(), before);
}

#[tokio::test]
async fn a_reachable_server_is_published() {
    let advertise = "192.0.2.7:6443".parse().unwrap();
    let api = Api::with(Config {
        advertise,
        ..Config::default()
    })
    .await;
    let endpoints = api.get("/api/v1/namespaces/default/endpoints/kubernetes").await.ok();
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.0.2.7");
    let slice = api
        .get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
        .await
        .ok();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.7"]));
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "kubernetes");
}

#[tokio::test]
async fn all_servers_on_a_store_are_published() {
    let config = |advertise: &str| Config {
        advertise: advertise.parse().unwrap(),
        ..Config::default()
    };
    let api = Api::with(config("192.0.2.7:6443")).await;
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let store: std::sync::Arc<dyn store::Store> = api.store.clone();
    // The second is one more; the third, which pods cannot reach, takes nothing away.
    for advertise in ["192.0.2.8:6443", "127.0.0.1:6443"] {
        apiserver::ApiServer::new(store.clone(), config(advertise))
            .await
            .unwrap();
        let published = api.get(slice).await.ok()["endpoints"].to_string();
        assert!(
            published.contains("192.0.2.7") && published.contains("192.0.2.8"),
            "{published}"
        );
        assert!(!published.contains("127.0.0.1"), "{published}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_needs_comes_back() {
    let api = Api::new().await;
    api.delete(&format!("{SERVICES}/kubernetes"), &Value::Null).await.ok();
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    assert_eq!(
        api.get(&format!("{SERVICES}/kubernetes")).await.ok()["spec"]["clusterIP"],
        "10.96.0.1"
    );
}

#[tokio::test]
async fn namespaces_end_when_they_are_finalized() {
    let api = Api::new().await;
    let made = api
        .post("/api/v1/namespaces", &json!({"metadata": {"name": "gold"}}))
        .await
        .ok();
    assert_eq!(made["status"]["phase"], "Active");
    api.get("/api/v1/namespaces/gold/serviceaccounts/default").await.ok();
    let dying = api.delete("/api/v1/namespaces/gold", &Value::Null).await.ok();
    assert_eq!(dying["status"]["phase"], "Terminating");
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    let refused = api
        .post(
            "/api/v1/namespaces/gold/configmaps",
            &json!({"metadata": {"name": "t"}}),
        )
        .await;
    let message = "configmaps \"t\" is forbidden: unable to create new content in namespace gold because it is being \
                   terminated";
    assert_eq!(refused.failure(), (403, "Forbidden".to_owned(), message.to_owned()));
    let cause = json!({"reason": "NamespaceTerminating", "message": "namespace gold is being terminated",
        "field": "metadata.namespace"});
    assert_eq!(refused.json()["details"]["causes"], json!([cause]));
    let mut finalized = dying.clone();
    finalized["spec"] = json!({});
    // An ordinary update cannot do it.
    api.put("/api/v1/namespaces/gold", &finalized).await.ok();
    assert_eq!(
        api.get("/api/v1/namespaces/gold").await.ok()["spec"]["finalizers"],
        json!(["kubernetes"])
    );
    api.put("/api/v1/namespaces/gold/finalize", &finalized).await.ok();
    assert_eq!(api.get("/api/v1/namespaces/gold").await.code, 404);
    let immortal = api.delete("/api/v1/namespaces/default", &Value::Null).await.failure();
    let message = "namespaces \"default\" is forbidden: this namespace may not be deleted";
    assert_eq!(immortal, (403, "Forbidden".to_owned(), message.to_owned()));
}

#[tokio::test]
async fn new_pods_are_completed() {
    let api = Api::new().await;
    let made = api.post(PODS, &pod("p")).await.ok();
    let spec = &made["spec"];
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!(
        (&spec["priority"], &spec["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(made["metadata"]["generation"], 1);
    assert!(made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:tolerations"].is_null());
    let mut important = pod("important");
    important["spec"]["priorityClassName"] = json!("system-node-critical");
    assert_eq!(api.post(PODS, &important).await.ok()["spec"]["priority"], 2_000_001_000);
    important["metadata"]["name"] = json!("unimportant");
    important["spec"]["priorityClassName"] = json!("nope");
    let message = "pods \"unimportant\" is forbidden: no PriorityClass with name nope was found";
    assert_eq!(api.post(PODS, &important).await.failure().2, message);
    let mut somebody = pod("somebody");
    somebody["spec"]["serviceAccountName"] = json!("nobody");
    let message = "pods \"somebody\" is forbidden: error looking up service account default/nobody: serviceaccount \
                   \"nobody\" not found";
    assert_eq!(api.post(PODS, &somebody).await.failure().2, message);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let api = Api::new().await;
    api.post(PODS, &pod("p")).await.ok();
    let bound = bind(&api, "p", "vm").await;
    assert_eq!(bound.code, 201);
    assert_eq!(
        bound.ok(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
    );
    let after = api.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(after["spec"]["nodeName"], "vm");
    assert_eq!(after["metadata"]["generation"], 1);
    let condition = &after["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"]),
        (&json!("PodScheduled"), &json!("True"))
    );
    let again = bind(&api, "p", "other").await;
    let message = "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"vm\"";
    assert_eq!(again.failure(), (409, "Conflict".to_owned(), message.to_owned()));
    assert_eq!(again.json()["details"], json!({"name": "p", "kind": "pods/binding"}));
    api.post(PODS, &pod("q")).await.ok();
    let binding = json!({"metadata": {"name": "q"}, "target": {"kind": "Node", "name": "vm"}});
    assert_eq!(
        api.post("/api/v1/namespaces/default/bindings", &binding).await.code,
        201
    );
}

#[tokio::test]
async fn pods_get_their_grace() {
    let api = Api::new().await;
    api.post(PODS, &pod("p")).await.ok();
    bind(&api, "p", "vm").await.ok();
    let path = format!("{PODS}/p");
    let dying = api.delete(&path, &Value::Null).await.ok();
    assert_eq!(
        (&dying["kind"], &dying["metadata"]["deletionGracePeriodSeconds"]),
        (&json!("Pod"), &json!(30))
    );
    assert_eq!(dying["metadata"]["generation"], 2);
    let again = api.delete(&path, &Value::Null).await.ok();
    assert_eq!(again["metadata"], dying["metadata"]);
    let sooner = api.delete(&path, &json!({"gracePeriodSeconds": 5})).await.ok();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    let not_later = api.delete(&path, &json!({"gracePeriodSeconds": 60})).await.ok();
    assert_eq!(not_later["metadata"]["deletionGracePeriodSeconds"], 5);
    let uid = dying["metadata"]["uid"].clone();
    let other = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "bad"}});
    assert_eq!(api.delete(&path, &other).await.code, 409);
    api.delete(&path, &json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}))
        .await
        .ok();
    assert_eq!(api.get(&path).await.code, 404);
    // A pod without a node goes at once.
    api.post(PODS, &pod("q")).await.ok();
    assert_eq!(api.delete(&format!("{PODS}/q"), &Value::Null).await.ok()["kind"], "Pod");
    assert_eq!(api.get(&format!("{PODS}/q")).await.code, 404);
}

#[tokio::test]
async fn evictions_delete() {
    let api = Api::new().await;
    api.post(PODS, &pod("p")).await.ok();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    assert_eq!(api.post(&format!("{PODS}/p/eviction"), &eviction).await.code, 201);
    assert_eq!(api.get(&format!("{PODS}/p")).await.code, 404);
}

#[tokio::test]
async fn claims_get_the_default_class_and_protection() {
    let api = Api::new().await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = |name: &str, class: Value| {
        json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let made = api.post(claims, &claim("a", Value::Null)).await.ok();
    assert_eq!(made["spec"]["storageClassName"], "standard");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert_eq!(made["status"]["phase"], "Pending");
    let none = api.post(claims, &claim("b", json!(""))).await.ok();
    assert_eq!(none["spec"]["storageClassName"], "");
    let kept = api.delete(&format!("{claims}/a"), &Value::Null).await.ok();
    assert!(kept["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test]
async fn services_hold_their_addresses() {
    let api = Api::new().await;
    let made = api
        .post(SERVICES, &service("s1", json!({"selector": {"a": "b"}})))
        .await
        .ok();
    let ip: Ipv4Addr = made["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    assert!(Config::default().service_cidrs[0].contains(&IpAddr::from(ip)));
    assert_eq!(made["spec"]["clusterIPs"], json!([ip.to_string()]));
    assert_eq!(
        (&made["spec"]["ipFamilies"], &made["spec"]["ipFamilyPolicy"]),
        (&json!(["IPv4"]), &json!("SingleStack"))
    );
    let same = api
        .post(SERVICES, &service("s2", json!({"clusterIP": ip.to_string()})))
        .await
        .failure();
    let message = format!(
        "Service \"s2\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to allocate IP {ip}: provided IP \
         is already allocated"
    );
    assert_eq!(same, (422, "Invalid".to_owned(), message));
    let outside = api
        .post(SERVICES, &service("s2", json!({"clusterIP": "1.2.3.4"})))
        .await
        .failure();
    assert!(
        outside
            .2
            .ends_with("failed to allocate IP 1.2.3.4: the provided network does not match the current range")
    );
    // An update that leaves the address out keeps it.
    let kept = api
        .put(
            &format!("{SERVICES}/s1"),
            &service("s1", json!({"ports": [{"port": 81}]})),
        )
        .await
        .ok();
    assert_eq!(kept["spec"]["clusterIP"], ip.to_string());
    assert_eq!(
        api.delete(&format!("{SERVICES}/s1"), &Value::Null).await.ok()["kind"],
        "Service"
    );
    api.post(SERVICES, &service("s2", json!({"clusterIP": ip.to_string()})))
        .await
        .ok();
    let headless = api
        .post(SERVICES, &service("s3", json!({"clusterIP": "None"})))
        .await
        .ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    // Nothing is taken by a dry run.
    let path = format!("{SERVICES}?dryRun=All");
    api.post(&path, &service("dry", json!({"clusterIP": "10.96.5.5"})))
        .await
        .ok();
    api.post(SERVICES, &service("s4", json!({"clusterIP": "10.96.5.5"})))
        .await
        .ok();
}

#[tokio::test]
async fn addresses_follow_the_type() {
    let api = Api::new().await;
    let made = api
        .post(SERVICES, &service("s", json!({"type": "NodePort"})))
        .await
        .ok();
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port));
    let same = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let (code, _, message) = api.post(SERVICES, &service("t", same.clone())).await.failure();
    assert_eq!(code, 422);
    assert!(message.contains("provided port is already allocated"), "{message}");
    let low = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]});
    let message = "Service \"t\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid \
                   range. The range of valid ports is 30000-32767";
    assert_eq!(api.post(SERVICES, &service("t", low)).await.failure().2, message);
    let path = format!("{SERVICES}/s");
    let inner = api
        .patch(&path, "merge", &json!({"spec": {"type": "ClusterIP"}}))
        .await
        .ok();
    assert!(inner["spec"]["ports"][0]["nodePort"].is_null(), "{inner}");
    assert_eq!(inner["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    api.post(SERVICES, &service("t", same)).await.ok();
    let named = json!({"spec": {"type": "ExternalName", "externalName": "foo.example.com"}});
    let named = api.patch(&path, "merge", &named).await.ok();
    assert!(named["spec"].get("clusterIP").is_none_or(Value::is_null), "{named}");
    let back = json!({"spec": {"type": "ClusterIP", "externalName": null}});
    let back = api.patch(&path, "merge", &back).await.ok();
    assert!(back["spec"]["clusterIP"].is_string(), "{back}");
}

#[tokio::test]
async fn many_services_never_share_an_address() {
    let api = Api::with(Config {
        service_cidrs: vec!["10.0.0.0/26".parse().unwrap()],
        dns_ips: vec![Ipv4Addr::new(10, 0, 0, 10).into()],
        ..Config::default()
    })
    .await;
    let creates = (0..40).map(|index| {
        let api = api.clone();
        async move { api.post(SERVICES, &service(&format!("s{index}"), json!({}))).await.ok() }
    });
    let made = futures::future::join_all(creates).await;
    let ips: std::collections::BTreeSet<String> = made
        .iter()
        .map(|service| service["spec"]["clusterIP"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ips.len(), 40);
    assert!(!ips.contains("10.0.0.10") && !ips.contains("10.0.0.1"));
}

#[tokio::test]
async fn only_known_users_get_in() {
    let api = Api::new().await;
    let anonymous = tower::ServiceExt::oneshot(
        api.router(),
        http::Request::get("/api/v1/pods")
            .body(axum::body::Body::empty())
            .unwrap(),
    );
    assert_eq!(anonymous.await.unwrap().status(), 401);
    let health = http::Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
    assert_eq!(
        tower::ServiceExt::oneshot(api.router(), health).await.unwrap().status(),
        200
    );
    let stranger = api.as_user(User::new("x", ["system:authenticated"]));
    let refused = stranger.get(PODS).await;
    let message = "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \
                   \"default\"";
    assert_eq!(refused.failure(), (403, "Forbidden".to_owned(), message.to_owned()));
    assert_eq!(stranger.get("/apis").await.code, 200);
    let node = api.as_user(User::new("system:node:vm", ["system:nodes", "system:authenticated"]));
    let own = "/api/v1/pods?fieldSelector=spec.nodeName%3Dvm";
    assert_eq!(
        (node.get(own).await.code, node.get("/api/v1/pods").await.code),
        (200, 403)
    );
    assert_eq!(node.post(SERVICES, &service("s", json!({}))).await.code, 403);
}

#[tokio::test]
async fn users_may_ask_who_they_are_and_what_they_may_do() {
    let api = Api::new().await;
    let stranger = api.as_user(User::new("x", ["system:authenticated"]));
    let access = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    assert_eq!(stranger.post(access, &review).await.ok()["status"]["allowed"], false);
    assert_eq!(api.post(access, &review).await.ok()["status"]["allowed"], true);
    let who = stranger
        .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}))
        .await;
    assert_eq!(who.code, 201);
    assert_eq!(who.ok()["status"]["userInfo"]["username"], "x");
    let other = json!({"spec": {"user": "system:node:vm", "groups": ["system:nodes"],
        "resourceAttributes": {"verb": "patch", "resource": "pods", "subresource": "status"}}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(api.post(path, &other).await.ok()["status"]["allowed"], true);
    assert_eq!(stranger.post(path, &other).await.code, 403);
}

#[tokio::test]
async fn documents_describe_the_server() {
    let api = Api::new().await;
    let version = api.get("/version").await.ok();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("36")));
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.36"));
    assert_eq!(
        (&version["gitCommit"], &version["buildDate"]),
        (&json!(""), &json!("1970-01-01T00:00:00Z"))
    );
    assert_eq!(api.get("/healthz").await.text, "ok");
    assert!(api.get("/readyz?verbose").await.text.contains("[+]etcd ok"));
    assert_eq!(api.get("/readyz/etcd").await.text, "ok");
    let unknown = api.get("/nothing").await;
    assert_eq!((unknown.code, unknown.text.as_str()), (404, "404 page not found\n"));
    assert_eq!(
        api.get("/apis/apps/").await.ok()["preferredVersion"]["groupVersion"],
        "apps/v1"
    );
    let aggregated = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    )];
    let answer = api.send("GET", "/apis", &aggregated, "").await;
    assert_eq!(
        answer.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let etag = answer.headers["etag"].to_str().unwrap().to_owned();
    let known = [aggregated[0], ("if-none-match", etag.as_str())];
    let answer = api.send("GET", "/apis", &known, "").await;
    assert_eq!((answer.code, answer.text.as_str()), (304, ""));
    let counted = "apiserver_request_total{code=\"200\",component=\"apiserver\",group=\"\",resource=\"\",scope=\"\",\
                   subresource=\"\",verb=\"GET\",version=\"\",dry_run=\"\"}";
    assert!(api.get("/metrics").await.text.contains(counted));
}

#[tokio::test]
async fn schemas_are_served_and_kept() {
    let api = Api::new().await;
    let index = api.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let document = api.get(&url).await;
    assert!(
        document.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    assert!(document.ok()["components"]["schemas"]["io.k8s.api.apps.v1.StatefulSet"].is_object());
    assert_eq!(api.get("/openapi/v3/apis/nothing/v1").await.code, 404);
    let v2 = api.get("/openapi/v2").await;
    assert!(v2.ok()["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    let etag = v2.headers["etag"].to_str().unwrap();
    assert_eq!(
        api.send("GET", "/openapi/v2", &[("if-none-match", etag)], "")
            .await
            .code,
        304
    );
    let protobuf = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let answer = api.send("GET", "/openapi/v2", &protobuf, "").await;
    let content_type = answer.headers["content-type"].to_str().unwrap();
    assert!(
        content_type.starts_with("application/com.github.proto-openapi.spec.v2"),
        "{content_type}"
    );
}
