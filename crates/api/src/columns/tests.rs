//! Columns, against what kube-apiserver 1.36 answered and upstream's own cases.

use super::*;
use crate::kinds::{by_resource, kinds};

/// 2026-11-22T08:36:10Z.
const NOW_S: i64 = 1_795_336_570;

fn row(group: &str, plural: &str, object: &Value) -> Vec<Value> {
    cells(by_resource(group, "v1", plural).unwrap(), object, NOW_S)
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    for kind in kinds() {
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-11-22T08:36:08Z"}});
        let columns = definitions(kind);
        assert_eq!(
            cells(kind, &object, NOW_S).len(),
            columns.as_array().unwrap().len(),
            "{}",
            kind.kind
        );
    }
}

#[test]
fn statefulsets_are_shown_as_upstream_shows_them() {
    let set = json!({
        "metadata": {"name": "ss", "creationTimestamp": "2026-11-22T08:36:08Z"},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "img:1"}]}}},
        "status": {"replicas": 1},
    });
    assert_eq!(row("apps", "statefulsets", &set), ["ss", "0/2", "2s", "c", "img:1"]);
    let columns = definitions(by_resource("apps", "v1", "statefulsets").unwrap());
    let names: Vec<&str> = columns
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Name", "Ready", "Age", "Containers", "Images"]);
    assert_eq!(columns[3]["priority"], 1);
    assert_eq!(
        columns[0],
        json!({"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0})
    );
}

#[test]
fn a_pending_pod_is_shown_as_upstream_shows_it() {
    let pod = json!({
        "metadata": {"name": "gp1", "creationTimestamp": "2026-11-22T08:36:10Z"},
        "spec": {"nodeName": "fake1", "containers": [{"name": "c"}]}, "status": {"phase": "Pending"},
    });
    let expected = [
        "gp1", "0/1", "Pending", "0", "0s", "<none>", "fake1", "<none>", "<none>",
    ];
    assert_eq!(row("", "pods", &pod), expected);
}

/// READY, STATUS and RESTARTS of a pod with two containers and the given status.
fn pod(status: Value, more: Value) -> [String; 3] {
    let mut pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": status});
    for (pointer, value) in more.as_object().into_iter().flatten() {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value.clone();
    }
    let cells = row("", "pods", &pod);
    [1, 2, 3].map(|index| cells[index].as_str().unwrap().to_owned())
}

#[test]
fn the_status_of_a_pod() {
    let running = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let with = |state: Value| {
        json!({"name": "b", "ready": false, "restartCount": 3, "state": state,
        "lastState": {"terminated": {"finishedAt": "2026-11-22T08:36:05Z"}}})
    };
    let status = |b: Value| json!({"phase": "Running", "containerStatuses": [running, b]});
    let none = || json!({});
    assert_eq!(
        pod(status(with(json!({"running": {}}))), none()),
        ["1/2", "Running", "3 (5s ago)"]
    );
    let looping = with(json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    assert_eq!(
        pod(status(looping.clone()), none()),
        ["1/2", "CrashLoopBackOff", "3 (5s ago)"]
    );
    assert_eq!(
        pod(status(with(json!({"terminated": {"exitCode": 7}}))), none())[1],
        "ExitCode:7"
    );
    assert_eq!(
        pod(status(with(json!({"terminated": {"signal": 9}}))), none())[1],
        "Signal:9"
    );
    assert_eq!(
        pod(status(with(json!({"terminated": {"reason": "OOMKilled"}}))), none())[1],
        "OOMKilled"
    );
    let completed = with(json!({"terminated": {"reason": "Completed"}}));
    assert_eq!(
        pod(status(completed.clone()), none())[1],
        "NotReady",
        "one ended, one runs"
    );
    let mut ready = status(completed);
    ready["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    assert_eq!(pod(ready, none())[1], "Running");
    let dying = json!({"/metadata/deletionTimestamp": "2026-11-22T08:36:40Z"});
    assert_eq!(pod(status(looping), dying.clone())[1], "Terminating");
    assert_eq!(
        pod(json!({"phase": "Failed", "reason": "Evicted"}), dying)[1],
        "Evicted",
        "it has ended already"
    );
    let gated = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]});
    assert_eq!(pod(gated, none())[1], "SchedulingGated");
}

#[test]
fn a_pod_that_is_initializing() {
    let init = json!({"/spec/initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
    let status = |first: Value, second: Value| {
        json!({"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "restartCount": 1, "state": first}, {"name": "s", "restartCount": 2, "started": true, "ready": true, "state": second},
        ]})
    };
    let done = || json!({"terminated": {"exitCode": 0}});
    assert_eq!(
        pod(status(json!({"running": {}}), json!({})), init.clone()),
        ["0/3", "Init:0/2", "1"]
    );
    assert_eq!(
        pod(
            status(json!({"waiting": {"reason": "PodInitializing"}}), json!({})),
            init.clone()
        )[1],
        "Init:0/2"
    );
    assert_eq!(
        pod(
            status(json!({"waiting": {"reason": "ErrImagePull"}}), json!({})),
            init.clone()
        )[1],
        "Init:ErrImagePull"
    );
    assert_eq!(
        pod(status(json!({"terminated": {"exitCode": 2}}), json!({})), init.clone())[1],
        "Init:ExitCode:2"
    );
    // A sidecar that runs counts among the containers, and no longer as initializing.
    assert_eq!(
        pod(status(done(), json!({"running": {}})), init),
        ["1/3", "Pending", "2"]
    );
}

#[test]
fn services_and_endpoints() {
    let headless = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"],
        "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"a": "b"}}});
    assert_eq!(
        row("", "services", &headless),
        ["s", "ClusterIP", "None", "<none>", "80/TCP", "<unknown>", "a=b"]
    );
    let balanced = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1",
        "ports": [{"port": 80, "nodePort": 30001, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    assert_eq!(
        row("", "services", &balanced)[3..5],
        ["<pending>", "80:30001/TCP,53/UDP"]
    );
    let addresses: Vec<Value> = (1..=5).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
    let endpoints = json!({"metadata": {"name": "s"}, "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]});
    assert_eq!(
        row("", "endpoints", &endpoints)[1],
        "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."
    );
    assert_eq!(row("", "endpoints", &json!({"metadata": {"name": "s"}}))[1], "<none>");
    let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": []});
    assert_eq!(
        row("discovery.k8s.io", "endpointslices", &slice)[1..4],
        ["IPv4", "<unset>", "10.0.0.1"]
    );
}

#[test]
fn claims_volumes_and_classes() {
    let claim = json!({"metadata": {"name": "www-web-0"}, "spec": {"volumeName": "pvc-1", "storageClassName": "standard", "volumeMode": "Filesystem"},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}});
    let expected = [
        "www-web-0",
        "Bound",
        "pvc-1",
        "1Gi",
        "RWO",
        "standard",
        "<unset>",
        "<unknown>",
        "Filesystem",
    ];
    assert_eq!(row("", "persistentvolumeclaims", &claim), expected);
    let volume = json!({"metadata": {"name": "pvc-1", "deletionTimestamp": "2026-11-22T08:36:10Z"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany", "ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Delete",
        "claimRef": {"namespace": "default", "name": "www-web-0"}}, "status": {"phase": "Released"}});
    assert_eq!(
        row("", "persistentvolumes", &volume)[1..6],
        ["1Gi", "RWO,RWX", "Delete", "Terminating", "default/www-web-0"]
    );
    let class = json!({"metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "steadfast.io/local", "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer"});
    let cells = row("storage.k8s.io", "storageclasses", &class);
    assert_eq!(
        cells[..4],
        [
            "standard (default)",
            "steadfast.io/local",
            "Delete",
            "WaitForFirstConsumer"
        ]
    );
    assert_eq!(cells[4], false);
}

#[test]
fn nodes_and_events() {
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "nodeInfo": {"kubeletVersion": "v1.36.1"}}});
    assert_eq!(
        row("", "nodes", &node)[1..3],
        ["Ready,SchedulingDisabled", "control-plane"]
    );
    assert_eq!(
        row("", "nodes", &node)[4..8],
        ["v1.36.1", "10.0.0.1", "<none>", "<unknown>"]
    );
    let event = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Created", "message": "text\n", "count": 4,
        "involvedObject": {"kind": "Pod", "name": "web-0", "fieldPath": "spec"}, "source": {"component": "kubelet", "host": "n"},
        "firstTimestamp": "2026-11-22T08:36:00Z", "lastTimestamp": "2026-11-22T08:36:08Z"});
    let expected = [
        json!("2s"),
        json!("Normal"),
        json!("Created"),
        json!("pod/web-0"),
        json!("spec"),
        json!("kubelet, n"),
        json!("text"),
        json!("10s"),
        json!(4),
        json!("e"),
    ];
    assert_eq!(row("", "events", &event), expected);
    let newer = json!({"metadata": {"name": "e"}, "type": "Warning", "reason": "F", "note": "n", "regarding": {"kind": "Pod", "name": "p"},
        "eventTime": "2026-11-22T08:36:08.5Z", "reportingController": "s", "reportingInstance": "s-1"});
    let expected = [
        json!("2s"),
        json!("Warning"),
        json!("F"),
        json!("pod/p"),
        json!(""),
        json!("s, s-1"),
        json!("n"),
        json!("2s"),
        json!(1),
        json!("e"),
    ];
    assert_eq!(row("events.k8s.io", "events", &newer), expected);
}

#[test]
fn other_kinds() {
    let revision = json!({"metadata": {"name": "web-1", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true}]}, "revision": 2});
    assert_eq!(
        row("apps", "controllerrevisions", &revision)[1..3],
        [json!("statefulset.apps/web"), json!(2)]
    );
    let job = json!({"metadata": {"name": "j"}, "spec": {"completions": 3}, "status": {"succeeded": 1, "startTime": "2026-11-22T08:36:00Z"}});
    assert_eq!(row("batch", "jobs", &job)[1..4], ["Running", "1/3", "10s"]);
    let role = json!({"metadata": {"name": "r", "creationTimestamp": "2026-11-22T08:36:00Z"}});
    assert_eq!(
        row("rbac.authorization.k8s.io", "roles", &role),
        ["r", "2026-11-22T08:36:00Z"]
    );
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": "50%"}});
    assert_eq!(row("policy", "poddisruptionbudgets", &budget)[1..3], ["50%", "N/A"]);
}
