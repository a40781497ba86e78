//! A valid object of every kind of Kubernetes 1.36, for the walk: small, and such that no controller is kept busy by it.

use serde_json::{Value, json};

/// A request for a certificate of `CN=walk`, made with openssl.
pub(crate) const CERTIFICATE_REQUEST: &str = concat!(
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIS01IRUNBUUF3RHpFTk1Bc0dBMVVFQXd3RWQyRnNhekJaTUJN",
    "R0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSApBMElBQkdKS00xNUhjdndWNlYzVC9xT1E0MkJDdHBia1oxcjlTdDU1cGVTRnNVVjl1",
    "SVAxUUEyTkNtRVJCU0c3CmJoWE0wSnhhOHp4eEcwRlA0YTFBaHVqL0pSQ2dBREFLQmdncWhrak9QUVFEQWdOSkFEQkdBaUVBcUdi",
    "Um5TcHgKUkJFVGdtUnZHWU9rQkg4cTdRRjkxMGkyT0t5WkdZbU5nVElDSVFDQWZWdFhqMk5SZFdkTEhSODI3ZURlbzQvYwp2TS9V",
    "eFE3dVNIbDBieHFSU0E9PQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K",
);

/// The name of the `index`-th object of a resource.
pub(crate) fn name(resource: &str, index: usize) -> String {
    match resource {
        "apiservices" => format!("v1.walk-{index}.example.com"),
        "ipaddresses" => format!("10.96.250.{index}"),
        "customresourcedefinitions" => format!("walks.walk-{index}.example.com"),
        _ => format!("walk-{index}"),
    }
}

/// Everything of an object but its metadata; `None` for a kind that the table does not know.
pub(crate) fn content(group: &str, resource: &str, index: usize, namespace: &str) -> Option<Value> {
    Some(match group {
        "" => core(resource, namespace)?,
        "apps" | "batch" | "policy" | "autoscaling" => workloads(resource)?,
        "admissionregistration.k8s.io" => admission(resource)?,
        "resource.k8s.io" => devices(resource)?,
        "storage.k8s.io" => storage(resource)?,
        _ => others(group, resource, index, namespace)?,
    })
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "walk"}}, "spec": {"containers": [{"name": "c", "image": "example.com/none"}]}})
}

fn core(resource: &str, namespace: &str) -> Option<Value> {
    Some(match resource {
        "configmaps" => json!({"data": {"k": "v"}}),
        "secrets" => json!({"data": {"k": "dg=="}}),
        "endpoints" => json!({"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]}),
        "events" => json!({"involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace},
            "reason": "Walked", "message": "m", "type": "Normal"}),
        "limitranges" => json!({"spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "10Gi"}}]}}),
        "namespaces" | "serviceaccounts" => json!({}),
        "nodes" => json!({"spec": {"unschedulable": true}}),
        "persistentvolumeclaims" => json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "walk-none",
            "resources": {"requests": {"storage": "1Gi"}}}}),
        "persistentvolumes" => json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "storageClassName": "walk-none-either", "hostPath": {"path": "/tmp/walk"}}}),
        "pods" => {
            json!({"spec": {"containers": [{"name": "c", "image": "example.com/none"}], "schedulerName": "nobody",
            "terminationGracePeriodSeconds": 0}})
        }
        "podtemplates" => json!({"template": template()}),
        "replicationcontrollers" => {
            json!({"spec": {"replicas": 0, "selector": {"app": "walk"}, "template": template()}})
        }
        "resourcequotas" => json!({"spec": {"hard": {"count/widgets.example.com": "1000"}}}),
        "services" => json!({"spec": {"ports": [{"port": 80}]}}),
        _ => return None,
    })
}

fn workloads(resource: &str) -> Option<Value> {
    let selector = json!({"matchLabels": {"app": "walk"}});
    let mut once = template();
    once["spec"]["restartPolicy"] = json!("Never");
    Some(match resource {
        "controllerrevisions" => json!({"data": {"a": "b"}, "revision": 1}),
        "daemonsets" => {
            let mut template = template();
            template["spec"]["nodeSelector"] = json!({"walk": "nowhere"});
            json!({"spec": {"selector": selector, "template": template}})
        }
        "deployments" | "replicasets" => json!({"spec": {"replicas": 0, "selector": selector, "template": template()}}),
        "statefulsets" => {
            json!({"spec": {"replicas": 0, "serviceName": "walk", "selector": selector, "template": template()}})
        }
        "jobs" => json!({"spec": {"suspend": true, "template": once}}),
        "cronjobs" => json!({"spec": {"schedule": "0 0 1 1 *", "suspend": true,
            "jobTemplate": {"spec": {"template": once}}}}),
        "poddisruptionbudgets" => json!({"spec": {"minAvailable": 1, "selector": selector}}),
        "horizontalpodautoscalers" => json!({"spec": {"maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "absent"}}}),
        _ => return None,
    })
}

fn admission(resource: &str) -> Option<Value> {
    // Nothing is ever asked of these: the group does not exist.
    let rule = json!({"apiGroups": ["walk.example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["widgets"]});
    let constraints = json!({"resourceRules": [rule]});
    let webhook = json!({"name": "check.walk.example.com", "rules": [rule], "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore", "clientConfig": {"url": "https://192.0.2.1/"}});
    Some(match resource {
        "validatingwebhookconfigurations" | "mutatingwebhookconfigurations" => json!({"webhooks": [webhook]}),
        "validatingadmissionpolicies" => json!({"spec": {"matchConstraints": constraints,
            "validations": [{"expression": "true"}]}}),
        "mutatingadmissionpolicies" => json!({"spec": {"matchConstraints": constraints, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
        "validatingadmissionpolicybindings" => json!({"spec": {"policyName": "absent", "validationActions": ["Deny"]}}),
        "mutatingadmissionpolicybindings" => json!({"spec": {"policyName": "absent"}}),
        _ => return None,
    })
}

fn devices(resource: &str) -> Option<Value> {
    let claim = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "walk.example.com"}}]}});
    Some(match resource {
        "deviceclasses" => json!({"spec": {"selectors": [{"cel": {"expression": "device.driver == 'a'"}}]}}),
        "resourceclaims" => json!({"spec": claim}),
        "resourceclaimtemplates" => json!({"spec": {"spec": claim}}),
        "resourceslices" => json!({"spec": {"driver": "walk.example.com", "allNodes": true,
            "pool": {"name": "pool", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "d"}]}}),
        _ => return None,
    })
}

fn storage(resource: &str) -> Option<Value> {
    Some(match resource {
        "csidrivers" => json!({"spec": {"attachRequired": false}}),
        "csinodes" => json!({"spec": {"drivers": [{"name": "walk.example.com", "nodeID": "n"}]}}),
        "csistoragecapacities" => json!({"storageClassName": "walk", "capacity": "1Gi"}),
        "storageclasses" => json!({"provisioner": "walk.example.com/none"}),
        "volumeattachments" => json!({"spec": {"attacher": "walk.example.com", "nodeName": "n",
            "source": {"persistentVolumeName": "absent"}}}),
        "volumeattributesclasses" => json!({"driverName": "walk.example.com", "parameters": {"a": "b"}}),
        _ => return None,
    })
}

fn others(group: &str, resource: &str, index: usize, namespace: &str) -> Option<Value> {
    Some(match (group, resource) {
        ("events.k8s.io", "events") => json!({"eventTime": "2026-01-01T00:00:00.000000Z", "action": "Walk",
            "reason": "Walked", "note": "n", "type": "Normal", "reportingController": "example.com/walk",
            "reportingInstance": "walk-1", "regarding": {"kind": "Pod", "name": "p", "namespace": namespace}}),
        ("apiregistration.k8s.io", "apiservices") => json!({"spec": {"group": format!("walk-{index}.example.com"),
            "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10,
            "service": {"namespace": "default", "name": "absent"}}}),
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            json!({"spec": {"group": format!("walk-{index}.example.com"), "scope": "Namespaced",
                "names": {"plural": "walks", "singular": "walk", "kind": "Walk", "listKind": "WalkList"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
        }
        ("certificates.k8s.io", "certificatesigningrequests") => json!({"spec": {"request": CERTIFICATE_REQUEST,
            "signerName": "walk.example.com/none", "usages": ["client auth"]}}),
        ("networking.k8s.io", "ipaddresses") => json!({"spec": {"parentRef": {"resource": "services",
            "namespace": namespace, "name": "absent"}}}),
        ("networking.k8s.io", "servicecidrs") => json!({"spec": {"cidrs": [format!("10.{}.0.0/24", 200 + index)]}}),
        ("networking.k8s.io", "ingressclasses") => json!({"spec": {"controller": "walk.example.com/none"}}),
        ("networking.k8s.io", "ingresses") => {
            json!({"spec": {"defaultBackend": {"service": {"name": "absent", "port": {"number": 80}}}}})
        }
        ("networking.k8s.io", "networkpolicies") => json!({"spec": {"podSelector": {"matchLabels": {"app": "walk"}}}}),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            json!({"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "view"},
                "subjects": [{"apiGroup": group, "kind": "User", "name": "nobody"}]})
        }
        ("scheduling.k8s.io", "priorityclasses") => json!({"value": 7}),
        ("coordination.k8s.io", "leases") => json!({"spec": {"holderIdentity": "walk"}}),
        ("node.k8s.io", "runtimeclasses") => json!({"handler": "walk"}),
        ("discovery.k8s.io", "endpointslices") => json!({"addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.1"]}], "ports": [{"port": 80}]}),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => json!({"spec": {"matchingPrecedence": 9000,
            "priorityLevelConfiguration": {"name": "global-default"}}}),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => json!({"spec": {"type": "Limited",
            "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}}),
        _ => return None,
    })
}
