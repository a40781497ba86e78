//! The kinds that configure a cluster or describe what it has, and what discovery says of all kinds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::Api;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const UPSTREAM: &str = include_str!("golden/discovery.txt");

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What upstream lists and this server leaves out; nothing else may be missing.
const LEFT_OUT: &[&str] = &[
    "- v1 nodes/proxy",
    "- v1 pods/ephemeralcontainers",
    "- v1 pods/portforward",
    "- v1 pods/proxy",
    "- v1 pods/resize",
    "- v1 services/proxy",
    "- v1 serviceaccounts/token",
    "authentication.k8s.io v1 tokenreviews",
    "apiextensions.k8s.io v1 customresourcedefinitions",
    "apiextensions.k8s.io v1 customresourcedefinitions/status",
];

/// A document as lines like those of `golden/discovery.txt`.
fn lines(document: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| item.as_str().unwrap())
            .collect::<Vec<_>>()
            .join(","),
        _ => "-".to_owned(),
    };
    let mut lines = Vec::new();
    for group in document["items"].as_array().unwrap() {
        for version in group["versions"].as_array().unwrap() {
            let prefix = format!("{} {}", text(&group["metadata"]["name"]), text(&version["version"]));
            for resource in version["resources"].as_array().unwrap() {
                let words = [
                    "resource",
                    "kind",
                    "scope",
                    "singularResource",
                    "shortNames",
                    "categories",
                    "verbs",
                ];
                let words = words.map(|word| match word {
                    "kind" => text(&resource["responseKind"]["kind"]),
                    _ => text(&resource[word]),
                });
                lines.push(format!("{prefix} {}", words.join(" ")));
                for part in resource["subresources"].as_array().into_iter().flatten() {
                    let kind = &part["responseKind"];
                    let words = [&kind["kind"], &kind["group"], &kind["version"], &part["verbs"]].map(text);
                    lines.push(format!(
                        "{prefix} {}/{} {}",
                        words_of(resource),
                        text(&part["subresource"]),
                        words.join(" ")
                    ));
                }
            }
        }
    }
    lines
}

fn words_of(resource: &Value) -> &str {
    resource["resource"].as_str().unwrap()
}

#[tokio::test]
async fn discovery_is_upstreams() {
    let api = Api::new().await;
    let mut served = Vec::new();
    for path in ["/api", "/apis"] {
        let document = api.send("GET", path, &[("accept", AGGREGATED)], "").await.ok();
        served.extend(lines(&document));
    }
    // What upstream serves through metrics-server.
    served.retain(|line| !line.starts_with("metrics.k8s.io "));
    let known: Vec<&str> = UPSTREAM.lines().filter(|line| !line.starts_with('#')).collect();
    let missing = known.iter().filter(|line| !served.iter().any(|own| own == *line));
    for line in missing {
        let name = line.splitn(4, ' ').take(3).collect::<Vec<_>>().join(" ");
        let own = served.iter().find(|own| own.starts_with(&format!("{name} ")));
        assert!(LEFT_OUT.contains(&name.as_str()), "{line}\nhere: {own:?}");
    }
    for line in &served {
        assert!(known.contains(&line.as_str()), "{line} is not upstream's");
    }
    let order = |lines: &[&str]| {
        let mut groups: Vec<String> = Vec::new();
        for line in lines {
            let group = line.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    };
    let served: Vec<&str> = served.iter().map(String::as_str).collect();
    let served = order(&served);
    let known: Vec<String> = order(&known)
        .into_iter()
        .filter(|group| served.contains(group))
        .collect();
    assert_eq!(served, known);
}

#[tokio::test]
async fn storage_hashes_are_those_of_the_stored_form() {
    let api = Api::new().await;
    let hash = async |path: &str, name: &str| {
        let list = api.get(path).await.ok();
        let resources = list["resources"].as_array().unwrap().clone();
        let found = resources.into_iter().find(|resource| resource["name"] == name).unwrap();
        found["storageVersionHash"].as_str().unwrap().to_owned()
    };
    for version in ["v1", "v2"] {
        let path = format!("/apis/autoscaling/{version}");
        assert_eq!(hash(&path, "horizontalpodautoscalers").await, "qwQve8ut294=");
    }
    assert_eq!(hash("/apis/events.k8s.io/v1", "events").await, "r2yiGXH7wu8=");
}

#[tokio::test]
async fn an_autoscaler_is_one_object_in_two_versions() {
    let api = Api::new().await;
    let path = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
    let target = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"});
    let v1 = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 5, "scaleTargetRef": target}});
    let created = api.post(&path("v1"), &v1).await.ok();
    assert_eq!(created["apiVersion"], "autoscaling/v1");
    assert_eq!(created["spec"]["targetCPUUtilizationPercentage"], 80);
    assert_eq!(created["spec"]["minReplicas"], 1);
    let v2 = api.get(&format!("{}/a", path("v2"))).await.ok();
    assert_eq!(v2["metadata"]["uid"], created["metadata"]["uid"]);
    let metrics = &v2["spec"]["metrics"];
    assert_eq!(metrics[0]["resource"]["target"]["averageUtilization"], 80);
    let memory = json!({"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
    let patch = json!({"spec": {"metrics": [metrics[0], memory]}});
    api.patch(&format!("{}/a", path("v2")), "merge", &patch).await.ok();
    let mut v1 = api.get(&format!("{}/a", path("v1"))).await.ok();
    assert!(v1["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].is_string());
    v1["spec"]["targetCPUUtilizationPercentage"] = json!(70);
    api.put(&format!("{}/a", path("v1")), &v1).await.ok();
    let v2 = api.get(&format!("{}/a", path("v2"))).await.ok();
    assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
    assert_eq!(v2["spec"]["metrics"][1], memory);
    assert_eq!(v2["metadata"]["annotations"], Value::Null);
    let list = api.get(&path("v1")).await.ok();
    assert_eq!(list["items"][0]["spec"]["targetCPUUtilizationPercentage"], 70);
    let wrong = json!({"spec": {"maxReplicas": 0}});
    let (code, _, message) = api.patch(&format!("{}/a", path("v2")), "merge", &wrong).await.failure();
    assert_eq!(code, 422);
    assert!(
        message.contains("spec.maxReplicas: Invalid value: 0: must be greater than 0"),
        "{message}"
    );
}

/// A request for a certificate, in PEM and Base64.
fn certificate_request(organization: &str) -> String {
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, organization);
    let request = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
    STANDARD.encode(request.pem().unwrap())
}

/// A certificate, in PEM and Base64.
fn certificate() -> String {
    let params = rcgen::CertificateParams::default();
    STANDARD.encode(params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem())
}

#[tokio::test]
async fn a_certificate_request_is_decided_through_approval_only() {
    let api = Api::new().await;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let request = certificate_request("people");
    let csr = json!({"metadata": {"generateName": "csr-"}, "spec": {"request": request, "usages": ["client auth"],
        "signerName": "example.com/mine", "username": "somebody else"},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    let created = api.post(path, &csr).await.ok();
    assert_eq!(created["spec"]["username"], "admin");
    assert_eq!(created["status"], json!({}));
    let one = format!("{path}/{}", created["metadata"]["name"].as_str().unwrap());
    let approved = json!({"metadata": {"annotations": {"a": "b"}},
        "status": {"conditions": [{"type": "Approved", "status": "True", "reason": "E2E"}]}});
    let (code, _, message) = api.patch(&format!("{one}/status"), "merge", &approved).await.failure();
    assert_eq!(
        (
            code,
            message.contains("updates may not add a condition of type \"Approved\"")
        ),
        (422, true)
    );
    let decided = api.patch(&format!("{one}/approval"), "merge", &approved).await.ok();
    assert_eq!(decided["metadata"]["annotations"]["a"], "b");
    let condition = &decided["status"]["conditions"][0];
    assert!(condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string());
    let (code, _, message) = api
        .patch(
            &format!("{one}/status"),
            "merge",
            &json!({"status": {"certificate": "YQ=="}}),
        )
        .await
        .failure();
    assert_eq!(
        (
            code,
            message.contains("must contain at least one CERTIFICATE PEM block")
        ),
        (422, true)
    );
    let pem = certificate();
    let certificate = json!({"metadata": {"annotations": {"c": "d"}}, "status": {"certificate": pem}});
    let issued = api.patch(&format!("{one}/status"), "merge", &certificate).await.ok();
    assert_eq!(issued["status"]["certificate"], json!(pem));
    assert_eq!(issued["status"]["conditions"][0], *condition);
    assert_eq!(issued["metadata"]["annotations"]["c"], "d");
    // The main resource changes neither.
    let mut changed = issued.clone();
    changed["spec"]["signerName"] = json!("example.com/other");
    changed["status"] = json!({});
    changed["metadata"]["labels"] = json!({"x": "y"});
    let changed = api.put(&one, &changed).await.ok();
    assert_eq!(
        (&changed["spec"], &changed["status"]),
        (&issued["spec"], &issued["status"])
    );
    assert_eq!(changed["metadata"]["labels"]["x"], "y");
    let selected = api
        .get(&format!("{path}?fieldSelector=spec.signerName=example.com/mine"))
        .await
        .ok();
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_certificate_request_is_a_real_one() {
    let api = Api::new().await;
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let refused = async |spec: Value| {
        let (code, _, message) = api
            .post(path, &json!({"metadata": {"name": "r"}, "spec": spec}))
            .await
            .failure();
        (code, message)
    };
    let good =
        json!({"request": certificate_request("people"), "usages": ["client auth"], "signerName": "example.com/x"});
    let but = |field: &str, value: Value| {
        let mut spec = good.clone();
        spec[field] = value;
        spec
    };
    let forged = {
        let pem = String::from_utf8(STANDARD.decode(certificate_request("people")).unwrap()).unwrap();
        let lines: Vec<&str> = pem.lines().collect();
        let mut der = STANDARD.decode(lines[1..lines.len() - 1].concat()).unwrap();
        *der.last_mut().unwrap() ^= 1;
        let (begin, end) = (lines[0], lines[lines.len() - 1]);
        STANDARD.encode(format!("{begin}\n{}\n{end}\n", STANDARD.encode(der)))
    };
    let junk = STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\nMAMCAQA=\n-----END CERTIFICATE REQUEST-----\n");
    let master = json!({"request": certificate_request("system:masters"), "usages": ["client auth"],
        "signerName": "kubernetes.io/kube-apiserver-client"});
    let cases = [
        (but("request", json!(forged)), 422, "the signature is not of the key"),
        (but("request", json!(junk)), 422, "asn1: structure error"),
        (
            but("usages", json!(["client auth", "client auth"])),
            422,
            "Duplicate value: \"client auth\"",
        ),
        (
            but("signerName", json!("kubernetes.io/legacy-unknown")),
            422,
            "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this \
             API version",
        ),
        (
            but("usages", json!(["x"])),
            422,
            "supported values: \"any\", \"cert sign\", \"client auth\"",
        ),
        (
            master,
            403,
            "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
        ),
    ];
    for (spec, code, words) in cases {
        let (found, message) = refused(spec).await;
        assert!(found == code && message.contains(words), "{found} {message}");
    }
    api.post(path, &json!({"metadata": {"name": "r"}, "spec": good}))
        .await
        .ok();
}

#[tokio::test]
async fn no_form_of_a_request_hides_the_group_that_may_do_everything() {
    let api = Api::new().await;
    let pem = STANDARD.decode(certificate_request("system:masters")).unwrap();
    let pem = String::from_utf8(pem).unwrap().replace("\r\n", "\n");
    let wrong = "PEM block type must be CERTIFICATE REQUEST";
    let refused = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    let cases = [
        (format!("-----BEGIN X-----\nAA==\n-----END X-----\n{pem}"), 422, wrong),
        (pem.replace('\n', "\r"), 422, wrong),
        (pem.replacen("\nMI", "\nM I", 1), 403, refused),
    ];
    for (form, code, words) in cases {
        assert_ne!(form, pem);
        let request = json!({"metadata": {"name": "r"}, "spec": {"request": STANDARD.encode(form),
            "usages": ["client auth"], "signerName": "kubernetes.io/kube-apiserver-client"}});
        let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
        let (found, _, message) = api.post(path, &request).await.failure();
        assert!(found == code && message.contains(words), "{found} {message}");
    }
}

#[tokio::test]
async fn the_server_registers_itself() {
    let api = Api::new().await;
    let services = api.get("/apis/apiregistration.k8s.io/v1/apiservices").await.ok();
    let names: BTreeSet<&str> = services["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| service["metadata"]["name"].as_str().unwrap())
        .collect();
    assert!(names.contains("v1.") && names.contains("v2.autoscaling") && names.contains("v1.apps"));
    for service in services["items"].as_array().unwrap() {
        assert_eq!(service["status"]["conditions"][0]["type"], "Available", "{service}");
    }
    let range = api.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").await.ok();
    assert_eq!(range["spec"]["cidrs"], json!(["10.96.0.0/16"]));
    assert_eq!(range["status"]["conditions"][0]["status"], "True");
    // Aggregation is out of scope, and every write says so.
    let foreign = json!({"metadata": {"name": "v1.wardle.example.com"}, "spec": {"group": "wardle.example.com",
        "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 200, "service": {"namespace": "a", "name": "b"}}});
    let answer = api.post("/apis/apiregistration.k8s.io/v1/apiservices", &foreign).await;
    assert_eq!(answer.ok()["spec"]["service"]["port"], 443);
    assert_eq!(answer.ok()["status"], json!({}));
    assert_eq!(answer.warnings().len(), 1);
}

#[tokio::test]
async fn configuration_is_checked_in_upstreams_words() {
    let api = Api::new().await;
    let cases = [
        (
            "/apis/node.k8s.io/v1/runtimeclasses",
            json!({"metadata": {"name": "r"}, "handler": "No"}),
            "handler: Invalid value: \"No\": a lowercase RFC 1123 label",
        ),
        (
            "/apis/networking.k8s.io/v1/ipaddresses",
            json!({"metadata": {"name": "192.168.001.1"}, "spec": {"parentRef": {"resource": "services", "name": "a"}}}),
            "metadata.name: Invalid value: \"192.168.001.1\": must be a valid IP address",
        ),
        (
            "/apis/networking.k8s.io/v1/servicecidrs",
            json!({"metadata": {"name": "c"}, "spec": {"cidrs": ["10.0.0.1/8"]}}),
            "spec.cidrs[0]: Invalid value: \"10.0.0.1/8\": must be in canonical form (\"10.0.0.0/8\")",
        ),
        (
            "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
            json!({"metadata": {"name": "f"}, "spec": {"matchingPrecedence": 20000, "priorityLevelConfiguration": {"name": "x"}}}),
            "spec.matchingPrecedence: Invalid value: 20000: must not be greater than 10000",
        ),
        (
            "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims",
            json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": ""}}]}}}),
            "spec.devices.requests[0].exactly.deviceClassName: Required value",
        ),
        (
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
            json!({"metadata": {"name": "p"}, "spec": {}}),
            "spec.matchConstraints: Required value",
        ),
        (
            "/apis/storage.k8s.io/v1/volumeattributesclasses",
            json!({"metadata": {"name": "v"}, "driverName": "d"}),
            "parameters: Required value: must contain at least one key/value pair",
        ),
    ];
    for (path, object, expected) in cases {
        let (code, _, message) = api.post(path, &object).await.failure();
        assert_eq!(code, 422, "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn a_status_of_these_kinds_leaves_the_metadata_alone() {
    let api = Api::new().await;
    let path = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    let schema = json!({"metadata": {"name": "f"}, "spec": {"priorityLevelConfiguration": {"name": "x"}}});
    let created = api.post(path, &schema).await.ok();
    assert_eq!(
        (
            &created["metadata"]["generation"],
            &created["spec"]["matchingPrecedence"]
        ),
        (&json!(1), &json!(1000))
    );
    let patch = json!({"metadata": {"annotations": {"a": "b"}}, "status": {"conditions": [{"type": "Dangling", "status": "True"}]}});
    let patched = api.patch(&format!("{path}/f/status"), "merge", &patch).await.ok();
    assert_eq!(patched["metadata"]["annotations"], Value::Null);
    assert_eq!(patched["status"]["conditions"][0]["type"], "Dangling");
}
