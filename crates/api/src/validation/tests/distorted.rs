//! Whatever can be decoded is answered with errors at worst: no step between decoding and storing panics.

use super::*;
use crate::columns;
use crate::schema::{FieldValidation, decode_value};

fn manifests() -> Vec<(&'static Kind, Value)> {
    let pod = json!({
        "hostNetwork": true, "hostname": "h", "tolerations": [{"key": "a", "operator": "Exists"}],
        "securityContext": {"runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}},
        "initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always"}],
        "containers": [{
            "name": "c", "image": "i", "command": ["x"], "ports": [{"containerPort": 80, "hostPort": 80}],
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
            "readinessProbe": {"httpGet": {"port": "web", "httpHeaders": [{"name": "A", "value": "b"}]}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }],
        "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "m", "items": [{"key": "a", "path": "b"}]}}]}}],
    });
    let claim = json!({"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let metadata = json!({"name": "web", "labels": {"a": "b"}, "finalizers": ["a/b"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "1", "controller": true}]});
    vec![
        (
            kind("", "pods"),
            json!({"metadata": metadata, "spec": pod, "status": {"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 1}}}]}}),
        ),
        (
            kind("apps", "statefulsets"),
            json!({"metadata": metadata, "spec": {
                "selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}, "ordinals": {"start": 1},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
                "volumeClaimTemplates": [claim], "updateStrategy": {"rollingUpdate": {"partition": 1, "maxUnavailable": "50%"}},
            }}),
        ),
        (
            kind("", "services"),
            json!({"metadata": metadata, "spec": {"type": "NodePort", "clusterIPs": ["10.0.0.1"],
            "sessionAffinity": "ClientIP", "ports": [{"port": 80, "targetPort": "web", "nodePort": 30000}], "selector": {"a": "b"}}}),
        ),
        (kind("", "persistentvolumeclaims"), claim),
        (
            kind("", "persistentvolumes"),
            json!({"metadata": metadata, "spec": {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/v"},
            "claimRef": {"name": "c"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}}}),
        ),
        (
            kind("", "secrets"),
            json!({"metadata": metadata, "stringData": {"a": "b"}, "data": {"c": "ZA=="}}),
        ),
        (
            kind("", "nodes"),
            json!({"metadata": metadata, "spec": {"podCIDR": "10.0.0.0/8", "taints": [{"key": "a", "effect": "NoExecute"}]},
            "status": {"capacity": {"cpu": "1"}, "conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "x"}]}}),
        ),
        (
            kind("discovery.k8s.io", "endpointslices"),
            json!({"metadata": metadata, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        ),
        (
            kind("", "events"),
            json!({"metadata": metadata, "involvedObject": {"kind": "Pod", "name": "p"}, "eventTime": "2026-01-01T00:00:00.000000Z"}),
        ),
        (
            kind("batch", "cronjobs"),
            json!({"metadata": metadata, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}}}),
        ),
    ]
}

/// The pointers to all values inside a value.
fn pointers(value: &Value, here: &str, found: &mut Vec<String>) {
    let mut go = |step: &str, value: &Value| {
        let pointer = format!("{here}/{step}");
        found.push(pointer.clone());
        pointers(value, &pointer, found);
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| go(&name.replace('/', "~1"), value)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, value)| go(&index.to_string(), value)),
        _ => {}
    }
}

fn pass(kind: &Kind, object: &Value, old: &Value) {
    let Ok(decoded) = decode_value(kind.schema, object.clone(), FieldValidation::Warn) else {
        return;
    };
    let new = ready(kind, &decoded.object);
    create(kind, &new);
    warnings(kind, &new, Some(old));
    columns::cells(kind, &new, 0);
    let mut changed = new.clone();
    strategy::prepare_update(kind, &mut changed, old);
    update(kind, &changed, old);
    update(kind, old, &changed);
    let mut changed = decoded.object;
    strategy::prepare_status_update(kind, &mut changed, old);
    status_update(kind, &changed, old);
    strategy::grace_period_s(kind, &changed, Some(1));
}

#[test]
fn no_distorted_object_makes_anything_panic() {
    let replacements = [
        json!(null),
        json!({}),
        json!([]),
        json!(""),
        json!("x"),
        json!(0),
        json!(-1),
        json!(true),
        json!([{}]),
    ];
    for (kind, manifest) in manifests() {
        let old = ready(kind, &manifest);
        pass(kind, &manifest, &old);
        let mut all = Vec::new();
        pointers(&manifest, "", &mut all);
        for pointer in all {
            for replacement in &replacements {
                let mut distorted = manifest.clone();
                if let Some(place) = distorted.pointer_mut(&pointer) {
                    *place = replacement.clone();
                }
                pass(kind, &distorted, &old);
            }
        }
    }
}
