//! Admission policies as clients see them: what they refuse, warn of and change.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::{Answer, Api};
use apiserver::User;
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn rules(group: &str, resources: &[&str], operations: &[&str]) -> Value {
    json!({"resourceRules": [{"apiGroups": [group], "apiVersions": ["v1"], "resources": resources,
        "operations": operations}]})
}

/// Makes a policy of this `spec`, about ConfigMaps unless it says otherwise, and a binding to it.
async fn bound(api: &Api, sort: &str, name: &str, mut spec: Value, mut binding: Value) -> Value {
    if spec["matchConstraints"].is_null() {
        spec["matchConstraints"] = rules("", &["configmaps"], &["CREATE", "UPDATE"]);
    }
    let policy = json!({"metadata": {"name": name}, "spec": spec});
    let made = api
        .post(&format!("{GROUP}/{sort}admissionpolicies"), &policy)
        .await
        .ok();
    binding["policyName"] = json!(name);
    if sort == "validating" && binding["validationActions"].is_null() {
        binding["validationActions"] = json!(["Deny"]);
    }
    let binding = json!({"metadata": {"name": format!("{name}-binding")}, "spec": binding});
    let bindings = format!("{GROUP}/{sort}admissionpolicybindings");
    api.post(&bindings, &binding).await.ok();
    made
}

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": value}})
}

fn deployment(name: &str, replicas: i64) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}})
}

#[track_caller]
fn refused(answer: &Answer, code: u16, reason: &str, words: &str) {
    let (its_code, its_reason, message) = answer.failure();
    assert_eq!((its_code, its_reason.as_str()), (code, reason), "{message}");
    assert!(message.ends_with(words), "{message}");
}

#[tokio::test]
async fn a_rule_that_does_not_hold_refuses_the_write() {
    let api = Api::new().await;
    let spec = json!({
        "matchConstraints": rules("apps", &["deployments"], &["CREATE", "UPDATE"]),
        "validations": [{"expression": "object.spec.replicas > 1",
            "messageExpression": "'wants replicas > 1, got ' + string(object.spec.replicas)"}],
    });
    bound(&api, "validating", "replicated", spec, json!({})).await;
    let answer = api.post(DEPLOYMENTS, &deployment("one", 1)).await;
    let words = "ValidatingAdmissionPolicy 'replicated' with binding 'replicated-binding' denied request: wants \
                 replicas > 1, got 1";
    let (code, reason, message) = answer.failure();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert_eq!(message, format!("deployments.apps \"one\" is forbidden: {words}"));
    assert_eq!(answer.json()["details"]["causes"], json!([{ "message": words }]));
    api.post(DEPLOYMENTS, &deployment("two", 2)).await.ok();
    let less = json!({"spec": {"replicas": 0}});
    let answer = api.patch(&format!("{DEPLOYMENTS}/two"), "merge", &less).await;
    refused(&answer, 422, "Invalid", "got 0");
    // The scale is a resource of its own, and other kinds are not concerned.
    api.patch(&format!("{DEPLOYMENTS}/two/scale"), "merge", &less)
        .await
        .ok();
    api.post(MAPS, &map("m", "v")).await.ok();
    // Nobody can shut himself out.
    let binding = format!("{GROUP}/validatingadmissionpolicybindings/replicated-binding");
    api.delete(&binding, &Value::Null).await.ok();
    api.post(DEPLOYMENTS, &deployment("one", 1)).await.ok();
}

#[tokio::test]
async fn rules_know_parameters_variables_and_who_asks() {
    let api = Api::new().await;
    api.post(MAPS, &json!({"metadata": {"name": "limits"}, "data": {"longest": "3"}}))
        .await
        .ok();
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "not-limits", "expression": "object.metadata.name != 'limits'"},
            {"name": "people", "expression": "!request.userInfo.username.startsWith('system:')"}],
        "variables": [{"name": "longest", "expression": "int(params.data.longest)"},
            {"name": "size", "expression": "object.data.k.size()"}],
        "validations": [
            {"expression": "variables.size <= variables.longest", "reason": "Forbidden",
                "messageExpression": "string(variables.size) + ' > ' + string(variables.longest)"},
            {"expression": "namespaceObject.metadata.name == 'default' && request.operation == 'CREATE' || \
                authorizer.group('').resource('configmaps').namespace(request.namespace).check('delete').allowed()",
                "message": "may not"},
        ],
    });
    let params = json!({"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}});
    bound(&api, "validating", "short", spec, params).await;
    api.post(MAPS, &map("ok", "abc")).await.ok();
    refused(
        &api.post(MAPS, &map("long", "abcd")).await,
        403,
        "Forbidden",
        "denied request: 4 > 3",
    );
    let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"],
        "verbs": ["create", "get", "patch"]}]});
    let access = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    api.post(&format!("{access}/roles"), &role).await.ok();
    let binding = json!({"metadata": {"name": "r"}, "subjects": [{"kind": "User", "name": "jane"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}});
    api.post(&format!("{access}/rolebindings"), &binding).await.ok();
    let jane = api.as_user(User::new("jane", ["system:authenticated"]));
    jane.post(MAPS, &map("hers", "a")).await.ok();
    let change = json!({"data": {"k": "b"}});
    let answer = jane.patch(&format!("{MAPS}/hers"), "merge", &change).await;
    refused(&answer, 422, "Invalid", "may not");
    api.patch(&format!("{MAPS}/hers"), "merge", &change).await.ok();
    api.delete(&format!("{MAPS}/limits"), &Value::Null).await.ok();
    let words = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    refused(&api.post(MAPS, &map("more", "a")).await, 422, "Invalid", words);
}

#[tokio::test]
async fn bindings_may_only_warn_and_failures_may_be_ignored() {
    let api = Api::new().await;
    let rule = json!([{"expression": "object.data.k == 'good'"}]);
    let warn = json!({"validationActions": ["Warn", "Audit"]});
    bound(&api, "validating", "warns", json!({ "validations": rule }), warn).await;
    let answer = api.post(MAPS, &map("a", "bad")).await;
    answer.ok();
    let words = "299 - \"Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns-binding': failed \
                 expression: object.data.k == 'good'\"";
    assert_eq!(answer.warnings(), [words]);
    let missing = json!([{"expression": "object.data.missing == 'x'"}]);
    let lax = json!({"failurePolicy": "Ignore", "validations": missing});
    bound(&api, "validating", "lax", lax, json!({})).await;
    api.post(MAPS, &map("b", "good")).await.ok();
    bound(
        &api,
        "validating",
        "strict",
        json!({ "validations": missing }),
        json!({}),
    )
    .await;
    let words = "expression 'object.data.missing == 'x'' resulted in error: no such key: missing";
    refused(&api.post(MAPS, &map("c", "good")).await, 422, "Invalid", words);
    let dry = api.post(&format!("{MAPS}?dryRun=All"), &map("c", "good")).await;
    refused(&dry, 422, "Invalid", words);
}

#[tokio::test]
async fn deletes_parts_and_connections_are_judged() {
    let api = Api::new().await;
    let keeps = json!({
        "matchConstraints": rules("", &["configmaps"], &["DELETE"]),
        "validations": [{"expression": "object == null && oldObject.data.k != 'kept'", "message": "is kept"}],
    });
    bound(&api, "validating", "keeps", keeps, json!({})).await;
    api.post(MAPS, &map("kept", "kept")).await.ok();
    api.post(MAPS, &map("loose", "v")).await.ok();
    refused(
        &api.delete(&format!("{MAPS}/kept"), &Value::Null).await,
        422,
        "Invalid",
        "is kept",
    );
    api.delete(&format!("{MAPS}/loose"), &Value::Null).await.ok();
    let scales = json!({
        "matchConstraints": rules("apps", &["deployments/scale"], &["UPDATE"]),
        "validations": [{"expression": "object.kind == 'Scale' && object.spec.replicas <= 3 && oldObject.spec.replicas > 0",
            "message": "too many"}],
    });
    bound(&api, "validating", "scales", scales, json!({})).await;
    api.post(DEPLOYMENTS, &deployment("web", 1)).await.ok();
    let scale = format!("{DEPLOYMENTS}/web/scale");
    api.patch(&scale, "merge", &json!({"spec": {"replicas": 3}})).await.ok();
    let answer = api.patch(&scale, "merge", &json!({"spec": {"replicas": 4}})).await;
    refused(&answer, 422, "Invalid", "too many");
    let pods = json!({
        "matchConstraints": rules("", &["pods/exec", "pods/eviction"], &["CONNECT", "CREATE"]),
        "validations": [{"expression": "request.subResource == 'exec' ? !object.command.exists(c, c == 'sh') : \
            object.kind != 'Eviction'", "message": "no"}],
    });
    bound(&api, "validating", "pods", pods, json!({})).await;
    let path = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    api.post(path, &pod).await.ok();
    let answer = api
        .post(&format!("{path}/p/exec?command=sh&stdout=true"), &Value::Null)
        .await;
    refused(&answer, 422, "Invalid", "no");
    let answer = api
        .post(&format!("{path}/p/eviction"), &json!({"metadata": {"name": "p"}}))
        .await;
    refused(&answer, 422, "Invalid", "no");
}

#[tokio::test]
async fn rules_are_compiled_and_their_types_checked_when_they_are_written() {
    let api = Api::new().await;
    let policies = format!("{GROUP}/validatingadmissionpolicies");
    let wrong = |expression: &str| {
        json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": rules("apps", &["deployments"], &["CREATE"]),
            "validations": [{ "expression": expression }]}})
    };
    let answer = api.post(&policies, &wrong("params.x == 1")).await;
    refused(
        &answer,
        422,
        "Invalid",
        "spec.validations[0].expression: Invalid value: \"params.x == 1\": compilation failed: ERROR: <input>:1:1: \
         undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^",
    );
    let answer = api.post(&policies, &wrong("'text'")).await;
    refused(&answer, 422, "Invalid", "\"'text'\": must evaluate to bool");
    let right = api.post(&policies, &wrong("object.spec.replicas > 1")).await.ok();
    assert_eq!(right["status"], json!({"observedGeneration": 1, "typeChecking": {}}));
    let mut confused = wrong("object.spec.replicas > '1'");
    confused["metadata"]["name"] = json!("confused");
    confused["spec"]["validations"][0]["messageExpression"] = json!("'got ' + object.spec.replicas");
    let made = api.post(&policies, &confused).await.ok();
    let warnings = made["status"]["typeChecking"]["expressionWarnings"].as_array().unwrap();
    let text = |index: usize, field: &str| warnings[index][field].as_str().unwrap();
    assert_eq!(text(0, "fieldRef"), "spec.validations[0].expression");
    let words = "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, \
                 string)'";
    assert!(text(0, "warning").starts_with(words), "{warnings:?}");
    assert_eq!(text(1, "fieldRef"), "spec.validations[0].messageExpression");
    assert!(
        text(1, "warning").contains("'_+_' applied to '(string, int)'"),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn mutations_change_what_is_written() {
    let api = Api::new().await;
    let spec = json!({
        "reinvocationPolicy": "IfNeeded",
        "matchConditions": [{"name": "once", "expression": "!has(object.metadata.labels) || !('by' in object.metadata.labels)"}],
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                "Object{metadata: Object.metadata{labels: {'by': request.userInfo.username}}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: object.metadata.labels.by}, \
                  JSONPatch{op: 'replace', path: '/data/k', value: 'w'}]"}},
        ],
    });
    bound(&api, "mutating", "labels", spec, json!({})).await;
    let made = api.post(MAPS, &map("m", "v")).await.ok();
    assert_eq!(made["metadata"]["labels"], json!({"by": "admin", "a/b": "admin"}));
    assert_eq!(made["data"], json!({"k": "w"}));
    let whole = json!({
        "reinvocationPolicy": "Never",
        "matchConstraints": rules("apps", &["deployments"], &["CREATE"]),
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: \
             [Object.spec.template.spec.containers{name: 'side', image: 'side:1'}]}}}}"}}],
    });
    bound(&api, "mutating", "sides", whole, json!({})).await;
    let made = api.post(DEPLOYMENTS, &deployment("web", 1)).await.ok();
    let containers = &made["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["name"], "c");
    // What a policy adds gets its defaults like everything else.
    assert_eq!(
        (&containers[1]["name"], &containers[1]["imagePullPolicy"]),
        (&json!("side"), &json!("IfNotPresent"))
    );
    let atomic = json!({
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{ownerReferences: [], name: 'other'}}"}}],
    });
    bound(&api, "mutating", "names", atomic, json!({})).await;
    let answer = api.post(MAPS, &map("n", "v")).await;
    refused(
        &answer,
        422,
        "Invalid",
        "name and namespace of an object cannot be changed",
    );
}

#[tokio::test]
async fn no_mutation_says_who_asks_for_a_certificate() {
    use base64::Engine;
    let api = Api::new().await;
    let spec = json!({
        "reinvocationPolicy": "Never",
        "matchConstraints": rules("certificates.k8s.io", &["certificatesigningrequests"], &["CREATE"]),
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
            "[JSONPatch{op: 'add', path: '/spec/username', value: 'system:node:vm'}, \
              JSONPatch{op: 'add', path: '/spec/groups', value: ['system:nodes']}, \
              JSONPatch{op: 'add', path: '/metadata/labels', value: {'a': 'b'}}]"}}],
    });
    bound(&api, "mutating", "somebody", spec, json!({})).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let pem = base64::engine::general_purpose::STANDARD.encode(request.pem().unwrap());
    let request = json!({"metadata": {"name": "r"}, "spec": {"signerName": "example.com/a", "usages": ["client auth"],
        "request": pem}});
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let made = api.post(path, &request).await.ok();
    assert_eq!(
        (&made["metadata"]["labels"]["a"], &made["spec"]["username"]),
        (&json!("b"), &json!("admin"))
    );
    assert_ne!(made["spec"]["groups"], json!(["system:nodes"]));
}
