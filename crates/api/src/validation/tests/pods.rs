//! What a valid pod is.

use super::*;

fn pods() -> &'static Kind {
    kind("", "pods")
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }})
}

/// The first container with one more field.
fn container(field: &str, value: Value) -> Vec<String> {
    created(pods(), &with(&pod(), &format!("/spec/containers/0/{field}"), value))
}

fn spec(field: &str, value: Value) -> Vec<String> {
    created(pods(), &with(&pod(), &format!("/spec/{field}"), value))
}

#[test]
fn the_plain_pod_is_valid() {
    assert_eq!(created(pods(), &pod()), [""; 0]);
}

#[test]
fn containers() {
    assert_eq!(spec("containers", json!([])), ["spec.containers: Required value"]);
    assert_eq!(
        container("image", json!("")),
        ["spec.containers[0].image: Required value"]
    );
    assert_eq!(
        container("image", json!(" i")),
        ["spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace"]
    );
    assert_eq!(
        container("name", json!("")),
        ["spec.containers[0].name: Required value"]
    );
    assert_eq!(
        spec(
            "containers",
            json!([{"name": "c", "image": "i"}, {"name": "c", "image": "i"}])
        ),
        ["spec.containers[1].name: Duplicate value: \"c\""]
    );
    assert_eq!(
        spec("initContainers", json!([{"name": "c", "image": "i"}])),
        ["spec.initContainers[0].name: Duplicate value: \"c\""]
    );
    assert_eq!(
        container("imagePullPolicy", json!("Sometimes")),
        [
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\""
        ]
    );
}

#[test]
fn init_containers_have_no_probes_unless_they_are_sidecars() {
    let probe = json!({"tcpSocket": {"port": 1}});
    let init = json!([{"name": "i", "image": "i", "readinessProbe": probe}]);
    assert_eq!(
        spec("initContainers", init.clone()),
        [
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"
        ]
    );
    assert_eq!(
        spec("initContainers", with(&init, "/0/restartPolicy", json!("Always"))),
        [""; 0]
    );
}

#[test]
fn ports() {
    assert_eq!(
        container("ports", json!([{"containerPort": 0}])),
        ["spec.containers[0].ports[0].containerPort: Required value"]
    );
    assert_eq!(
        container("ports", json!([{"containerPort": 65536}])),
        ["spec.containers[0].ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive"]
    );
    assert_eq!(
        container(
            "ports",
            json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}])
        ),
        ["spec.containers[0].ports[1].name: Duplicate value: \"a\""]
    );
    assert_eq!(
        container("ports", json!([{"containerPort": 1, "protocol": "tcp"}])).len(),
        1
    );
    assert_eq!(
        container(
            "ports",
            json!([{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}])
        )
        .len(),
        1
    );
}

#[test]
fn environment() {
    let env = |value: Value| container("env", json!([value]));
    assert_eq!(
        env(json!({"name": ""})),
        ["spec.containers[0].env[0].name: Required value"]
    );
    assert_eq!(env(json!({"name": "a=b"})).len(), 1);
    assert_eq!(
        env(json!({"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})),
        [""; 0]
    );
    assert_eq!(
        env(json!({"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}})),
        [""; 0]
    );
    assert_eq!(
        env(json!({"name": "a", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}})),
        [""; 0]
    );
    assert_eq!(
        env(json!({"name": "a", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1Ki"}}}))
            .len(),
        1
    );
    assert!(
        env(json!({"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}))[0].starts_with(
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.x\": supported values: "
        )
    );
    assert_eq!(
        env(json!({"name": "a", "value": "b", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}})),
        ["spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"]
    );
    assert_eq!(env(json!({"name": "a", "valueFrom": {}})).len(), 1);
    assert_eq!(container("envFrom", json!([{"configMapRef": {"name": "x"}}])), [""; 0]);
    assert_eq!(container("envFrom", json!([{}])).len(), 1);
}

#[test]
fn variables_from_files() {
    let check = |key: Value| container("env", json!([{"name": "A", "valueFrom": {"fileKeyRef": key}}]));
    let at = "spec.containers[0].env[0].valueFrom.fileKeyRef";
    let key = |volume: &str, path: &str| json!({"volumeName": volume, "path": path, "key": "K"});
    assert_eq!(check(key("v", "a/b.env")), [""; 0]);
    assert_eq!(check(key("x", "a")), [format!("{at}.volumeName: Not found: \"x\"")]);
    assert_eq!(
        check(key("v", "../a")),
        [format!("{at}.path: Invalid value: \"../a\": must not contain '..'")]
    );
    assert_eq!(
        check(json!({})),
        [
            format!("{at}.volumeName: Required value"),
            format!("{at}.path: Required value"),
            format!("{at}.key: Required value"),
        ]
    );
    assert_eq!(check(json!({"volumeName": "v", "path": "a", "key": "a=b"})).len(), 1);
}

#[test]
fn names_of_sysctls() {
    let check = |name: &str| spec("securityContext", json!({"sysctls": [{"name": name, "value": "1"}]}));
    for name in [
        "kernel.shm_rmid_forced",
        "net/ipv4/tcp_rmem",
        "net.ipv4.conf.eth0-1.x",
        "a",
    ] {
        assert_eq!(check(name), [""; 0], "{name}");
    }
    let long = "a".repeat(254);
    // Those of upstream's conformance test, and a few more.
    for name in ["foo-", "bar..", "-x", "a._b", "a b", "A", "a.b.", &long] {
        assert_eq!(
            check(name),
            [format!(
                "spec.securityContext.sysctls[0].name: Invalid value: \"{name}\": must have at most 253 characters and \
                 match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            )]
        );
    }
}

#[test]
fn overriding_host_names() {
    let check = |name: &str, more: Option<&str>| {
        let mut pod = with(&pod(), "/spec/hostnameOverride", json!(name));
        if let Some(field) = more {
            pod = with(&pod, &format!("/spec/{field}"), json!(true));
        }
        created(pods(), &pod)
    };
    let at = "spec.hostnameOverride";
    assert_eq!(check("db.example.host", None), [""; 0]);
    let long = "a".repeat(65);
    assert_eq!(
        check(&long, None),
        [format!(
            "{at}: Invalid value: \"{long}\": must be no more than 64 bytes"
        )]
    );
    assert_eq!(check("Not-RFC1123", None).len(), 1);
    for field in ["setHostnameAsFQDN", "hostNetwork"] {
        assert_eq!(
            check("a", Some(field)),
            [format!("{at}: Forbidden: may not be specified when `{field}` is true")]
        );
    }
}

#[test]
fn mounts_and_volumes() {
    let mount = |value: Value| container("volumeMounts", json!([value]));
    assert_eq!(
        mount(json!({"name": "v", "mountPath": "/a", "subPath": "b/c"})),
        [""; 0]
    );
    assert_eq!(
        mount(json!({"name": "x", "mountPath": "/a"})),
        ["spec.containers[0].volumeMounts[0].name: Not found: \"x\""]
    );
    assert_eq!(
        mount(json!({"name": "v", "mountPath": "/a", "subPath": "../b"})),
        ["spec.containers[0].volumeMounts[0].subPath: Invalid value: \"../b\": must not contain '..'"]
    );
    assert_eq!(mount(json!({"name": "v", "mountPath": "/a", "subPath": "/b"})).len(), 1);
    assert_eq!(
        mount(json!({"name": "v"})),
        ["spec.containers[0].volumeMounts[0].mountPath: Required value"]
    );
    assert_eq!(
        spec(
            "volumes",
            json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}])
        ),
        ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]
    );
    assert_eq!(
        spec(
            "volumes",
            json!([{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}])
        ),
        ["spec.volumes[1].name: Duplicate value: \"a\""]
    );
    assert_eq!(
        spec(
            "volumes",
            json!([{"name": "a", "persistentVolumeClaim": {"claimName": ""}}])
        ),
        ["spec.volumes[0].persistentVolumeClaim.claimName: Required value"]
    );
    assert_eq!(
        spec(
            "volumes",
            json!([{"name": "a", "configMap": {"name": "x", "defaultMode": 512}}])
        ),
        [
            "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"
        ]
    );
}

#[test]
fn probes() {
    let probe = |value: Value| container("livenessProbe", value);
    assert_eq!(probe(json!({"httpGet": {"port": "web"}})), [""; 0]);
    assert_eq!(
        probe(json!({})),
        ["spec.containers[0].livenessProbe: Required value: must specify a handler type"]
    );
    assert_eq!(
        probe(json!({"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}})),
        ["spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]
    );
    assert_eq!(
        probe(json!({"exec": {"command": ["a"]}, "successThreshold": 2})),
        ["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"]
    );
    assert_eq!(
        probe(json!({"exec": {}})),
        ["spec.containers[0].livenessProbe.exec.command: Required value"]
    );
    assert_eq!(
        container(
            "readinessProbe",
            json!({"exec": {"command": ["a"]}, "successThreshold": 2})
        ),
        [""; 0]
    );
    assert_eq!(
        container(
            "readinessProbe",
            json!({"exec": {"command": ["a"]}, "periodSeconds": -1})
        )
        .len(),
        1
    );
}

#[test]
fn resources() {
    let resources = |value: Value| container("resources", value);
    assert_eq!(
        resources(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1500m"}})),
        [""; 0]
    );
    assert_eq!(
        resources(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
        ["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"]
    );
    assert_eq!(resources(json!({"requests": {"cpu": "-1"}})).len(), 1);
    assert_eq!(resources(json!({"limits": {"example.com/gpu": "1"}})), [""; 0]);
    assert_eq!(resources(json!({"requests": {"gpu": "1"}})).len(), 2);
}

#[test]
fn the_rest_of_the_spec() {
    assert_eq!(
        spec("restartPolicy", json!("Sometimes")),
        [
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\""
        ]
    );
    assert_eq!(
        spec("dnsPolicy", json!("None")),
        ["spec.dnsConfig: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"]
    );
    assert_eq!(spec("terminationGracePeriodSeconds", json!(-1)).len(), 1);
    assert_eq!(spec("hostname", json!("a.b")).len(), 1);
    assert_eq!(spec("hostAliases", json!([{"ip": "x", "hostnames": ["a"]}])).len(), 1);
    assert_eq!(spec("tolerations", json!([{"operator": "Exists"}])), [""; 0]);
    assert_eq!(spec("tolerations", json!([{"key": "a", "operator": "Is"}])).len(), 1);
    assert_eq!(spec("securityContext", json!({"runAsUser": -1})).len(), 1);
    assert_eq!(
        spec(
            "affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}})
        ),
        [
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term"
        ]
    );
}

#[test]
fn only_a_few_fields_of_a_pod_may_change() {
    let placed = with(&pod(), "/spec/nodeName", json!("n"));
    assert_eq!(
        replaced(pods(), &pod(), &with(&pod(), "/spec/containers/0/image", json!("j"))),
        [""; 0]
    );
    assert_eq!(
        replaced(pods(), &pod(), &with(&pod(), "/metadata/labels", json!({"a": "b"}))),
        [""; 0]
    );
    assert_eq!(
        replaced(pods(), &pod(), &with(&pod(), "/spec/activeDeadlineSeconds", json!(5))),
        [""; 0]
    );
    let errors = replaced(pods(), &placed, &with(&placed, "/spec/nodeName", json!("other")));
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0]
            .starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,")
    );
    assert_eq!(
        replaced(pods(), &pod(), &with(&pod(), "/spec/volumes", json!([]))).len(),
        1
    );
    let two = json!([{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]);
    assert_eq!(
        replaced(pods(), &pod(), &with(&pod(), "/spec/containers", two)),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let tolerant = with(&pod(), "/spec/tolerations", json!([{"key": "a", "operator": "Exists"}]));
    assert_eq!(replaced(pods(), &pod(), &tolerant), [""; 0]);
    assert_eq!(
        replaced(pods(), &tolerant, &pod()),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
}

#[test]
fn a_container_that_may_not_restart_stays_ended() {
    let pod = |state: Value| {
        json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never"},
        "status": {"containerStatuses": [{"name": "c", "state": state}]}})
    };
    let ended = pod(json!({"terminated": {"exitCode": 0}}));
    let running = pod(json!({"running": {}}));
    assert_eq!(status_update(pods(), &ended, &running), []);
    let errors = status_update(pods(), &running, &ended);
    assert_eq!(
        errors[0].to_string(),
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    );
}
