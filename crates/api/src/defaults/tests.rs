//! Defaults, against what kube-apiserver 1.36 answered to the same manifests.

use super::*;
use crate::kinds::by_resource;
use crate::strategy;
use serde_json::json;

/// What a manifest becomes; also checks that a second time changes nothing.
fn defaulted(group: &str, plural: &str, manifest: Value) -> Value {
    let kind = by_resource(group, "v1", plural).unwrap();
    let mut object = manifest;
    apply(kind, &mut object);
    let once = object.clone();
    apply(kind, &mut object);
    assert_eq!(object, once, "defaults are idempotent");
    object
}

fn created(group: &str, plural: &str, manifest: Value) -> Value {
    let mut object = defaulted(group, plural, manifest);
    strategy::prepare_create(by_resource(group, "v1", plural).unwrap(), &mut object);
    if plural == "services" {
        assert_eq!(strategy::settle_families(&mut object, None, &["IPv4"]), []);
    }
    object
}

#[test]
fn a2_a_statefulset_is_served_as_upstream_serves_it() {
    let set = created(
        "apps",
        "statefulsets",
        json!({
            "metadata": {"name": "ss"},
            "spec": {
                "replicas": 0, "serviceName": "s2", "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "img:1"}]}},
                "volumeClaimTemplates": [{
                    "kind": "Wrong", "metadata": {"name": "d"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}},
                }],
            },
        }),
    );
    let expected: Value = serde_json::from_str(
        r#"{"metadata":{"name":"ss","generation":1},"spec":{"replicas":0,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"img:1","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","securityContext":{},"schedulerName":"default-scheduler"}},"volumeClaimTemplates":[{"kind":"PersistentVolumeClaim","apiVersion":"v1","metadata":{"name":"d"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}},"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}],"serviceName":"s2","podManagementPolicy":"OrderedReady","updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":0}},"revisionHistoryLimit":10,"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Retain","whenScaled":"Retain"}},"status":{"replicas":0,"availableReplicas":0}}"#,
    )
    .unwrap();
    assert_eq!(set, expected);
}

#[test]
fn a2_update_strategy() {
    let strategy = |given: Value| {
        let set = defaulted("apps", "statefulsets", json!({"spec": {"updateStrategy": given}}));
        set["spec"]["updateStrategy"].clone()
    };
    let filled = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
    assert_eq!(strategy(Value::Null), filled);
    assert_eq!(strategy(json!({})), filled);
    assert_eq!(strategy(json!({"type": "RollingUpdate", "rollingUpdate": {}})), filled);
    assert_eq!(
        strategy(json!({"type": "RollingUpdate"})),
        json!({"type": "RollingUpdate"})
    );
    assert_eq!(strategy(json!({"type": "OnDelete"})), json!({"type": "OnDelete"}));
}

#[test]
fn a2_each_half_of_the_retention_policy_has_its_own_default() {
    let set = defaulted(
        "apps",
        "statefulsets",
        json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}}),
    );
    assert_eq!(
        set["spec"]["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Delete"})
    );
}

#[test]
fn a_pod_is_served_as_upstream_serves_it() {
    let pod = created(
        "",
        "pods",
        json!({
            "metadata": {"name": "gp1", "labels": {"app": "gp"}},
            "spec": {"nodeName": "fake1", "containers": [{
                "name": "c", "image": "img:1", "ports": [{"containerPort": 80}],
                "resources": {"requests": {"cpu": "0.1", "memory": "1024Ki"}},
            }]},
        }),
    );
    // Without what the server's admission adds: account, tolerations, priority.
    let expected: Value = serde_json::from_str(
        r#"{"metadata":{"name":"gp1","generation":1,"labels":{"app":"gp"}},"spec":{"containers":[{"name":"c","image":"img:1","ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"requests":{"cpu":"100m","memory":"1Mi"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","nodeName":"fake1","securityContext":{},"schedulerName":"default-scheduler","enableServiceLinks":true},"status":{"phase":"Pending","qosClass":"Burstable"}}"#,
    )
    .unwrap();
    assert_eq!(pod, expected);
}

#[test]
fn a_pod_requests_what_it_is_limited_to_but_a_template_does_not() {
    let spec =
        json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]});
    let pod = defaulted("", "pods", json!({"spec": spec}));
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["requests"],
        json!({"cpu": "1", "memory": "1Gi"})
    );
    let set = defaulted("apps", "statefulsets", json!({"spec": {"template": {"spec": spec}}}));
    assert!(
        set["spec"]["template"]["spec"]["containers"][0]["resources"]
            .get("requests")
            .is_none()
    );
    assert!(set["spec"]["template"]["spec"].get("enableServiceLinks").is_none());
}

#[test]
fn parts_of_a_pod() {
    let pod = defaulted(
        "",
        "pods",
        json!({"spec": {
            "hostNetwork": true,
            "hostPID": false,
            "serviceAccount": "me",
            "containers": [{
                "name": "c", "image": "i", "args": [], "tty": false, "ports": [{"containerPort": 80}],
                "env": [{"name": "E", "value": ""}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
                "readinessProbe": {"httpGet": {"port": 80}, "initialDelaySeconds": 0},
                "lifecycle": {"preStop": {"httpGet": {"port": "http", "path": "/bye"}}},
                "volumeMounts": [{"name": "a", "mountPath": "/a", "readOnly": false}],
                "resources": {"limits": {"cpu": 0.0001}},
            }],
            "volumes": [
                {"name": "a"}, {"name": "b", "configMap": {"name": "x"}}, {"name": "c", "secret": {"secretName": "x"}},
                {"name": "d", "hostPath": {"path": "/x"}},
                {"name": "e", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
                {"name": "f", "emptyDir": {}},
            ],
        }}),
    );
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Always");
    assert!(container.get("args").is_none() && container.get("tty").is_none());
    assert_eq!(
        container["ports"],
        json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}])
    );
    assert_eq!(container["env"][0], json!({"name": "E"}));
    assert_eq!(
        container["env"][1]["valueFrom"]["fieldRef"],
        json!({"apiVersion": "v1", "fieldPath": "metadata.name"})
    );
    assert_eq!(
        container["env"][2]["valueFrom"]["resourceFieldRef"],
        json!({"divisor": "0", "resource": "limits.cpu"})
    );
    let probe = json!({
        "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
    });
    assert_eq!(container["readinessProbe"], probe);
    assert_eq!(
        container["lifecycle"]["preStop"]["httpGet"],
        json!({"port": "http", "path": "/bye", "scheme": "HTTP"})
    );
    assert_eq!(container["volumeMounts"], json!([{"name": "a", "mountPath": "/a"}]));
    assert_eq!(
        container["resources"],
        json!({"limits": {"cpu": "1m"}, "requests": {"cpu": "1m"}})
    );
    assert_eq!(pod["spec"]["serviceAccountName"], "me");
    assert!(pod["spec"].get("hostPID").is_none());
    assert_eq!(
        pod["spec"]["volumes"],
        json!([
            {"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "x", "defaultMode": 420}},
            {"name": "c", "secret": {"secretName": "x", "defaultMode": 420}},
            {"name": "d", "hostPath": {"path": "/x", "type": ""}},
            {"name": "e", "projected": {"defaultMode": 420,
                "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}},
            {"name": "f", "emptyDir": {}},
        ])
    );
}

#[test]
fn services_are_served_as_upstream_serves_them() {
    let headless = created(
        "",
        "services",
        json!({"metadata": {"name": "s2"}, "spec": {"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"name": "http", "port": 80}]}}),
    );
    let expected: Value = serde_json::from_str(
        r#"{"metadata":{"name":"s2"},"spec":{"ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":80}],"selector":{"a":"b"},"clusterIP":"None","clusterIPs":["None"],"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"},"status":{"loadBalancer":{}}}"#,
    )
    .unwrap();
    assert_eq!(headless, expected);
    let external = created(
        "",
        "services",
        json!({"metadata": {}, "spec": {"type": "ExternalName", "externalName": "foo.example.com"}}),
    );
    assert_eq!(
        external,
        json!({"metadata": {}, "spec": {"type": "ExternalName", "sessionAffinity": "None", "externalName": "foo.example.com"},
            "status": {"loadBalancer": {}}})
    );
    let node_port = created(
        "",
        "services",
        json!({"metadata": {}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}),
    );
    assert_eq!(node_port["spec"]["externalTrafficPolicy"], "Cluster");
    assert!(
        node_port["spec"].get("clusterIP").is_none(),
        "addresses are the server's to give"
    );
}

#[test]
fn claims_volumes_and_classes() {
    let claim = created(
        "",
        "persistentvolumeclaims",
        json!({"metadata": {"name": "d-0"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}}),
    );
    assert_eq!(claim["spec"]["volumeMode"], "Filesystem");
    assert_eq!(claim["spec"]["storageClassName"], "", "the empty class is a choice");
    assert_eq!(claim["status"], json!({"phase": "Pending"}));
    let volume = created(
        "",
        "persistentvolumes",
        json!({"metadata": {}, "spec": {"hostPath": {"path": "/v"}, "capacity": {"storage": "1024Mi"}}}),
    );
    assert_eq!(
        volume["spec"],
        json!({"hostPath": {"path": "/v", "type": ""}, "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"})
    );
    let class = defaulted(
        "storage.k8s.io",
        "storageclasses",
        json!({"metadata": {}, "provisioner": "p"}),
    );
    assert_eq!(
        class,
        json!({"metadata": {}, "provisioner": "p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})
    );
}

#[test]
fn secrets_take_their_texts_into_their_data() {
    let secret = defaulted(
        "",
        "secrets",
        json!({"metadata": {}, "stringData": {"a": "b"}, "data": {"a": "eA==", "c": "ZA=="}}),
    );
    assert_eq!(
        secret,
        json!({"metadata": {}, "type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}})
    );
}

#[test]
fn times_are_in_utc_and_of_the_right_precision() {
    let lease = defaulted(
        "coordination.k8s.io",
        "leases",
        json!({"metadata": {"creationTimestamp": "2026-01-01T01:00:00.5+01:00"}, "spec": {"renewTime": "2026-01-01T00:00:00Z", "acquireTime": "2026-01-01T00:00:00.1234567Z"}}),
    );
    assert_eq!(lease["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(lease["spec"]["renewTime"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(lease["spec"]["acquireTime"], "2026-01-01T00:00:00.123456Z");
}

#[test]
fn a_controller_revisions_data_is_left_alone() {
    let data = json!({"spec": {"template": {"$patch": "replace", "metadata": {"labels": {}}, "spec": {"args": [], "limits": {"cpu": "0.1"}}}}});
    let revision = defaulted(
        "apps",
        "controllerrevisions",
        json!({"metadata": {}, "data": data, "revision": 1}),
    );
    assert_eq!(revision["data"], data);
}

#[test]
fn other_kinds() {
    let deployment = defaulted("apps", "deployments", json!({"spec": {}}));
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!(deployment["spec"]["progressDeadlineSeconds"], 600);
    let job = defaulted("batch", "jobs", json!({"spec": {}}));
    assert_eq!(job["spec"]["completions"], 1);
    assert_eq!(job["spec"]["backoffLimit"], 6);
    let slice = defaulted(
        "discovery.k8s.io",
        "endpointslices",
        json!({"addressType": "IPv4", "endpoints": [], "ports": [{"port": 80}]}),
    );
    assert_eq!(slice["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
    let binding = defaulted(
        "rbac.authorization.k8s.io",
        "rolebindings",
        json!({"subjects": [{"kind": "User", "name": "u"}], "roleRef": {"kind": "Role", "name": "r"}}),
    );
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    let policy = defaulted(
        "networking.k8s.io",
        "networkpolicies",
        json!({"spec": {"podSelector": {}, "egress": [{}]}}),
    );
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    let event = defaulted(
        "",
        "events",
        json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"}}),
    );
    assert_eq!(event["eventTime"], Value::Null);
    assert!(event.as_object().unwrap().contains_key("firstTimestamp"));
}
