//! What the server tells of itself, and how it holds out: counters, health, the audit log, limits.

use crate::api::Api;
use crate::send_as;
use apiserver::{AuditLevel, AuditLog, Config, User};
use axum::body::{Body, Bytes};
use http::{Request, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tower::ServiceExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// How long something may take that should take no time.
const DEADLINE: Duration = Duration::from_secs(20);

async fn metric(api: &Api, line: &str) -> Option<String> {
    let text = api.get("/metrics").await.text;
    let found = text.lines().find(|found| found.starts_with(line));
    found.map(|found| found[line.len()..].trim().to_owned())
}

async fn until_metric(api: &Api, line: &str, value: &str) {
    let reached = async {
        while metric(api, line).await.as_deref() != Some(value) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, reached).await.expect(line);
}

/// A service account that may do everything but is no administrator: its token.
async fn worker(api: &Api) -> String {
    let binding = json!({"metadata": {"name": "workers"}, "subjects": [{"kind": "Group", "name": "system:serviceaccounts"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}});
    api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding)
        .await
        .ok();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let answer = api.post(path, &json!({"spec": {}})).await.ok();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// A POST whose body never ends.
fn endless(token: &str, path: &str) -> Request<Body> {
    let never = futures::stream::pending::<Result<Bytes, Infallible>>();
    Request::builder()
        .method("POST")
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::from_stream(never))
        .unwrap()
}

#[tokio::test]
async fn requests_and_objects_are_counted_under_upstreams_names() {
    let api = Api::new().await;
    api.config_map("a", json!({}), json!({})).await;
    assert_eq!(api.get(&format!("{MAPS}/absent")).await.code, 404);
    let labels = "component=\"apiserver\",group=\"\",resource=\"configmaps\",scope=\"resource\",subresource=\"\"";
    let of = |code: u16, verb: &str| {
        format!("apiserver_request_total{{code=\"{code}\",{labels},verb=\"{verb}\",version=\"v1\",dry_run=\"\"}}")
    };
    assert_eq!(metric(&api, &of(201, "POST")).await.as_deref(), Some("1"));
    assert_eq!(metric(&api, &of(404, "GET")).await.as_deref(), Some("1"));
    let count =
        format!("apiserver_request_duration_seconds_count{{{labels},verb=\"POST\",version=\"v1\",dry_run=\"\"}}");
    assert_eq!(metric(&api, &count).await.as_deref(), Some("1"));
    assert_eq!(
        metric(&api, "apiserver_storage_objects{resource=\"configmaps\"}")
            .await
            .as_deref(),
        Some("1")
    );
    assert_eq!(
        metric(
            &api,
            "apiserver_resource_objects{group=\"rbac.authorization.k8s.io\",resource=\"roles\"}"
        )
        .await
        .as_deref(),
        Some("6")
    );
    assert!(metric(&api, "process_resident_memory_bytes").await.is_some());
    let open = "apiserver_longrunning_requests{component=\"apiserver\",group=\"\",resource=\"configmaps\",\
                scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"}";
    let watch = api.watch(&format!("{MAPS}?watch=true")).await;
    assert_eq!(metric(&api, open).await.as_deref(), Some("1"));
    drop(watch);
    until_metric(&api, open, "0").await;
}

#[tokio::test]
async fn health_is_told_briefly_or_check_by_check() {
    let api = Api::new().await;
    assert_eq!(send_as(&api, "", "GET", "/readyz", &Value::Null).await.text, "ok");
    let verbose = send_as(&api, "", "GET", "/livez?verbose", &Value::Null).await.text;
    let lines: Vec<&str> = verbose.lines().collect();
    for expected in [
        "[+]ping ok",
        "[+]log ok",
        "[+]etcd ok",
        "[+]poststarthook/rbac/bootstrap-roles ok",
    ] {
        assert!(lines.contains(&expected), "{verbose}");
    }
    assert_eq!(lines.last(), Some(&"livez check passed"));
    // Upstream's spec of the health handlers looks for these names, of readyz for one more.
    let ready = send_as(&api, "", "GET", "/readyz?verbose=1", &Value::Null).await.text;
    for name in [
        "poststarthook/crd-informer-synced",
        "autoregister-completion",
        "informer-sync",
    ] {
        assert!(ready.contains(&format!("[+]{name} ok\n")), "{ready}");
    }
    let indicators = api.get("/metrics/slis").await.text;
    let etcd = "kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 1\n";
    assert!(indicators.contains(etcd), "{indicators}");
    let excluded = api.get("/readyz?verbose&exclude=etcd").await.text;
    assert!(
        excluded.contains("[+]etcd excluded: ok\n") && excluded.contains("[+]shutdown ok\n"),
        "{excluded}"
    );
    assert_eq!(api.get("/readyz/etcd").await.text, "ok");
    assert_eq!(api.get("/readyz/nothing").await.code, 404);
    // Single checks are not for everybody.
    assert_eq!(send_as(&api, "", "GET", "/readyz/etcd", &Value::Null).await.code, 401);
    let monitor = api.as_user(User::new("m", ["system:monitoring", "system:authenticated"]));
    assert_eq!(
        (
            monitor.get("/readyz/etcd").await.code,
            monitor.get("/metrics").await.code
        ),
        (200, 200)
    );
}

#[tokio::test]
async fn every_answer_carries_an_audit_id() {
    let api = Api::new().await;
    let own = api.get(MAPS).await.headers["audit-id"].to_str().unwrap().to_owned();
    assert_eq!(own.len(), 36);
    let answer = api.send("GET", MAPS, &[("audit-id", "mine")], "").await;
    assert_eq!(answer.headers["audit-id"], "mine");
}

async fn events(path: &std::path::Path, count: usize) -> Vec<Value> {
    let read = async {
        loop {
            let text = std::fs::read_to_string(path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            if lines.len() >= count && text.ends_with('\n') {
                return lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the events come")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_did_what() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let audit = Some(AuditLog {
        path: path.clone(),
        level: AuditLevel::Request,
    });
    let api = Api::with(Config {
        audit,
        ..Config::default()
    })
    .await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    api.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    api.post("/api/v1/namespaces/default/secrets", &secret).await.ok();
    let headers = [("impersonate-user", "bert")];
    assert_eq!(
        api.send(
            "DELETE",
            "/apis/apps/v1/namespaces/default/statefulsets/x",
            &headers,
            ""
        )
        .await
        .code,
        403
    );
    drop(api.watch(&format!("{MAPS}?watch=true")).await);
    let events = events(&path, 5).await;
    let first = &events[0];
    assert_eq!(
        (&first["kind"], &first["apiVersion"]),
        (&json!("Event"), &json!("audit.k8s.io/v1"))
    );
    assert_eq!((&first["verb"], &first["level"]), (&json!("create"), &json!("Request")));
    assert_eq!(first["user"]["username"], "admin");
    assert_eq!(first["requestObject"], pod);
    let reference = json!({"resource": "pods", "namespace": "default", "apiVersion": "v1"});
    assert_eq!(first["objectRef"], reference);
    assert_eq!(first["responseStatus"]["code"], 201);
    assert_eq!(
        (&events[1]["level"], &events[1]["requestObject"]),
        (&json!("Metadata"), &Value::Null)
    );
    assert_eq!(events[2]["impersonatedUser"]["username"], "bert");
    assert_eq!(events[2]["annotations"]["authorization.k8s.io/decision"], "forbid");
    let stages: Vec<&Value> = events[3..].iter().map(|event| &event["stage"]).collect();
    assert_eq!(stages, ["ResponseStarted", "ResponseComplete"]);
    assert_eq!(events[3]["auditID"], events[4]["auditID"]);
    assert!(!std::fs::read_to_string(&path).unwrap().contains("hunter2"));
}

#[tokio::test]
async fn too_many_requests_are_asked_to_come_again() {
    let api = Api::with(Config {
        max_mutating_requests_inflight: 1,
        ..Config::default()
    })
    .await;
    let token = worker(&api).await;
    let first = tokio::spawn(api.router().oneshot(endless(&token, MAPS)));
    until_metric(
        &api,
        "apiserver_current_inflight_requests{request_kind=\"mutating\"}",
        "1",
    )
    .await;
    let map = json!({"metadata": {"name": "a"}});
    let second = send_as(&api, &token, "POST", MAPS, &map).await;
    assert_eq!(second.headers["retry-after"], "1");
    let (code, reason, message) = second.failure();
    assert_eq!((code, reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(message, "Too many requests, please try again later.");
    // Readers have places of their own, and administrators get one always.
    assert_eq!(send_as(&api, &token, "GET", MAPS, &Value::Null).await.code, 200);
    assert_eq!(api.post(MAPS, &map).await.code, 201);
    first.abort();
    until_metric(
        &api,
        "apiserver_current_inflight_requests{request_kind=\"mutating\"}",
        "0",
    )
    .await;
    let again = json!({"metadata": {"name": "b"}});
    assert_eq!(send_as(&api, &token, "POST", MAPS, &again).await.code, 201);
}

#[tokio::test]
async fn requests_end_in_time() {
    let api = Api::with(Config {
        request_timeout: Duration::from_millis(50),
        ..Config::default()
    })
    .await;
    let token = worker(&api).await;
    let response = api.router().oneshot(endless(&token, MAPS)).await.unwrap();
    assert_eq!(response.status(), 504);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(status["reason"], "Timeout");
    for path in [MAPS, "/version", "/apis"] {
        let (code, _, message) = api.get(&format!("{path}?timeout=soon")).await.failure();
        assert_eq!(code, 400, "{path}");
        let expected = "invalid timeout specified in the request URL - time: invalid duration \"soon\"";
        assert_eq!(message, expected);
    }
}
