//! Metadata, and the kinds that are neither pods nor StatefulSets.

use super::*;

fn maps() -> &'static Kind {
    kind("", "configmaps")
}

#[test]
fn a_bad_config_map_is_refused_as_upstream_refuses_it() {
    let errors = create(
        maps(),
        &ready(maps(), &json!({"metadata": {"name": "Bad_Name"}, "data": {"": "x"}})),
    );
    let status = Status::invalid(maps(), "Bad_Name", &errors);
    assert_eq!(
        status.message,
        "ConfigMap \"Bad_Name\" is invalid: [metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), data[]: Invalid value: \"\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')]"
    );
}

#[test]
fn metadata() {
    let map = json!({"metadata": {"name": "a"}});
    assert_eq!(
        created(maps(), &json!({"metadata": {}})),
        ["metadata.name: Required value: name or generateName is required"]
    );
    assert_eq!(
        created(maps(), &with(&map, "/metadata/labels", json!({"a b": "c"}))).len(),
        1
    );
    assert_eq!(
        created(maps(), &with(&map, "/metadata/labels", json!({"a": "c d"}))).len(),
        1
    );
    assert_eq!(
        created(
            maps(),
            &with(&map, "/metadata/annotations", json!({"A/b": "anything goes"}))
        ),
        [""; 0]
    );
    assert_eq!(
        created(
            maps(),
            &with(&map, "/metadata/annotations", json!({"a": "x".repeat(262_144)}))
        ),
        ["metadata.annotations: Too long: may not be more than 262144 bytes"]
    );
    assert_eq!(
        created(maps(), &with(&map, "/metadata/finalizers", json!(["e/x", "orphan"]))),
        [""; 0]
    );
    assert_eq!(
        created(maps(), &with(&map, "/metadata/finalizers", json!(["own"]))).len(),
        1
    );
    let definition = with(
        &map,
        "/metadata/finalizers",
        json!(["customresourcecleanup.apiextensions.k8s.io"]),
    );
    let errors = created(kind("apiextensions.k8s.io", "customresourcedefinitions"), &definition);
    assert!(!errors.iter().any(|error| error.contains("finalizers")), "{errors:?}");
    let nodes = kind("", "nodes");
    assert_eq!(
        created(nodes, &json!({"metadata": {"name": "n", "namespace": "default"}})),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
}

#[test]
fn an_object_has_one_controller() {
    let owner = |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid, "controller": true});
    let object = json!({"metadata": {"name": "o", "ownerReferences": [owner("a", "1"), owner("b", "2")]}});
    let errors = created(maps(), &object);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].ends_with(
        "Only one reference can have Controller set to true. Found \"true\" in references for Pod/a and Pod/b"
    ));
    let nameless = json!({"metadata": {"name": "o", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "", "uid": "1"}]}});
    assert_eq!(
        created(maps(), &nameless),
        ["metadata.ownerReferences.name: Invalid value: \"\": must not be empty"]
    );
}

#[test]
fn no_finalizer_is_added_to_a_dying_object() {
    let pods = kind("", "pods");
    let pod = |finalizers: Value| json!({"metadata": {"name": "po", "deletionTimestamp": "2026-11-22T09:03:04Z", "finalizers": finalizers}});
    let errors = update(maps(), &pod(json!(["e/x", "e/z"])), &pod(json!(["e/x"])));
    let status = Status::invalid(pods, "po", &errors);
    assert_eq!(
        status.message,
        "Pod \"po\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"e/z\"}"
    );
    assert_eq!(update(maps(), &pod(json!([])), &pod(json!(["e/x"]))), []);
}

#[test]
fn what_identifies_an_object_does_not_change() {
    let old = json!({"metadata": {"name": "a", "namespace": "default", "uid": "1"}});
    let new = json!({"metadata": {"name": "a", "namespace": "default", "uid": "2"}});
    assert_eq!(
        update(maps(), &new, &old)[0].to_string(),
        "metadata.uid: Invalid value: \"2\": field is immutable"
    );
}

#[test]
fn an_immutable_config_map_or_secret_stays_as_it_is() {
    let map = json!({"metadata": {"name": "imm"}, "immutable": true, "data": {"a": "b"}});
    assert_eq!(
        replaced(maps(), &map, &with(&map, "/data/a", json!("c"))),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    assert_eq!(
        replaced(maps(), &map, &with(&map, "/immutable", json!(false))),
        ["immutable: Forbidden: field is immutable when `immutable` is set"]
    );
    let secrets = kind("", "secrets");
    let secret = json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "Yg=="}});
    assert_eq!(
        replaced(secrets, &secret, &with(&secret, "/type", json!("x/y"))),
        ["type: Invalid value: \"x/y\": field is immutable"]
    );
    assert_eq!(
        created(secrets, &with(&secret, "/type", json!("kubernetes.io/tls"))).len(),
        2
    );
    assert_eq!(
        created(
            maps(),
            &json!({"metadata": {"name": "m"}, "data": {"a": "x".repeat(1_048_577)}})
        )
        .len(),
        1
    );
}

#[test]
fn services() {
    let services = kind("", "services");
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.96.0.7", "selector": {"a": "b"}, "ports": [{"port": 80}]}});
    assert_eq!(created(services, &service), [""; 0]);
    let headless = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "None", "selector": {"a": "b"}}});
    assert_eq!(
        created(services, &headless),
        [""; 0],
        "a headless service needs no port"
    );
    assert_eq!(
        created(services, &with(&service, "/spec/ports", json!([]))),
        ["spec.ports: Required value"]
    );
    assert_eq!(
        created(
            services,
            &with(
                &service,
                "/spec/ports",
                json!([{"port": 80}, {"port": 81, "name": "b"}])
            )
        ),
        ["spec.ports[0].name: Required value"]
    );
    assert_eq!(
        created(
            services,
            &with(&service, "/spec/ports", json!([{"port": 80, "nodePort": 30001}]))
        ),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
    );
    assert_eq!(
        created(services, &with(&service, "/spec/type", json!("Magic"))).len(),
        1
    );
    assert_eq!(
        created(services, &with(&service, "/metadata/name", json!("1s"))).len(),
        1,
        "a service's name starts with a letter"
    );
    assert_eq!(
        replaced(
            services,
            &service,
            &with(&service, "/spec/clusterIP", json!("10.96.0.8"))
        ),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\"]: may not change once set"]
    );
    let mut balanced = ready(services, &service);
    let old = balanced.clone();
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}});
    assert_eq!(
        status_update(services, &balanced, &old)[0].to_string(),
        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
    );
}

#[test]
fn claims() {
    let claims = kind("", "persistentvolumeclaims");
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(created(claims, &claim), [""; 0]);
    assert_eq!(
        created(claims, &with(&claim, "/spec/resources", json!({}))),
        ["spec.resources[storage]: Required value"]
    );
    assert_eq!(
        created(claims, &with(&claim, "/spec/resources/requests/storage", json!("0"))),
        ["spec.resources[storage]: Invalid value: \"0\": must be greater than zero"]
    );
    assert_eq!(
        created(claims, &with(&claim, "/spec/accessModes", json!(["Some"]))).len(),
        1
    );
    assert_eq!(
        replaced(claims, &claim, &with(&claim, "/spec/volumeName", json!("pv"))),
        [""; 0],
        "binding"
    );
    let errors = replaced(
        claims,
        &claim,
        &with(&claim, "/spec/accessModes", json!(["ReadWriteMany"])),
    );
    assert_eq!(
        errors,
        [
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        ]
    );
    let mut bound = ready(claims, &claim);
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    let resized = |size: &str| with(&bound, "/spec/resources/requests/storage", json!(size));
    assert_eq!(update(claims, &resized("2Gi"), &bound), []);
    assert_eq!(
        update(claims, &resized("1Mi"), &bound)[0].to_string(),
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
    );
}

#[test]
fn volumes_and_classes() {
    let volumes = kind("", "persistentvolumes");
    let volume = json!({"metadata": {"name": "v"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/v"},
    }});
    assert_eq!(created(volumes, &volume), [""; 0]);
    assert_eq!(
        created(volumes, &with(&volume, "/spec/capacity", json!({}))),
        ["spec.capacity: Required value"]
    );
    assert_eq!(
        created(volumes, &with(&volume, "/spec/hostPath", Value::Null)),
        ["spec: Required value: must specify a volume type"]
    );
    assert_eq!(
        replaced(volumes, &volume, &with(&volume, "/spec/hostPath/path", json!("/w"))),
        ["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"]
    );
    assert_eq!(
        replaced(
            volumes,
            &volume,
            &with(&volume, "/spec/claimRef", json!({"name": "c", "namespace": "d"}))
        ),
        [""; 0]
    );
    let classes = kind("storage.k8s.io", "storageclasses");
    let class = json!({"metadata": {"name": "c"}, "provisioner": "steadfast.io/local"});
    assert_eq!(created(classes, &class), [""; 0]);
    assert_eq!(
        created(classes, &with(&class, "/provisioner", json!(""))),
        ["provisioner: Required value"]
    );
    assert_eq!(
        replaced(classes, &class, &with(&class, "/provisioner", json!("a.b/c"))),
        ["provisioner: Forbidden: updates to provisioner are forbidden."]
    );
}

#[test]
fn workloads() {
    let deployments = kind("apps", "deployments");
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }});
    assert_eq!(created(deployments, &deployment), [""; 0]);
    let mut other = with(&deployment, "/spec/selector/matchLabels", json!({"a": "c"}));
    other["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"});
    assert_eq!(
        replaced(deployments, &deployment, &other),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"c\"}}: field is immutable"]
    );
    let budgets = kind("policy", "poddisruptionbudgets");
    let both = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "maxUnavailable": 1, "selector": {}}});
    assert_eq!(created(budgets, &both).len(), 1);
}

#[test]
fn ranges_of_ports_in_network_policies() {
    let check = |port: Value, expected: &[&str]| {
        let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "egress": [{"ports": [port]}]}});
        assert_eq!(created(kind("networking.k8s.io", "networkpolicies"), &policy), expected);
    };
    check(json!({"port": 80, "endPort": 90}), &[]);
    check(
        json!({"endPort": 90}),
        &["spec.egress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is not specified"],
    );
    check(
        json!({"port": "http", "endPort": 90}),
        &["spec.egress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric"],
    );
    check(
        json!({"port": 80, "endPort": 70}),
        &["spec.egress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`"],
    );
    check(
        json!({"port": 80, "endPort": 70000}),
        &["spec.egress[0].ports[0].endPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
    );
}

#[test]
fn leases_events_and_slices() {
    let leases = kind("coordination.k8s.io", "leases");
    assert_eq!(
        created(
            leases,
            &json!({"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 40}})
        ),
        [""; 0]
    );
    assert_eq!(
        created(
            leases,
            &json!({"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 0}})
        )
        .len(),
        1
    );
    let events = kind("", "events");
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "default"}});
    assert_eq!(created(events, &event), [""; 0]);
    assert_eq!(
        created(events, &with(&event, "/involvedObject/namespace", json!("other"))),
        ["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"]
    );
    let slices = kind("discovery.k8s.io", "endpointslices");
    let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
    assert_eq!(created(slices, &slice), [""; 0]);
    assert_eq!(
        created(slices, &with(&slice, "/endpoints/0/addresses", json!(["x"]))).len(),
        1
    );
    assert_eq!(
        replaced(slices, &slice, &with(&slice, "/addressType", json!("FQDN"))).len(),
        1
    );
}

#[test]
fn every_kind_takes_a_minimal_object_of_its_own_type_of_error() {
    // Whatever is missing is told as an error of a field, never by a panic.
    for kind in crate::kinds::kinds() {
        let object = ready(kind, &json!({"metadata": {"name": "a"}}));
        for error in create(kind, &object) {
            assert_ne!(error.error, FieldErrorType::TypeInvalid, "{}: {error}", kind.kind);
        }
        update(kind, &object, &object);
        status_update(kind, &object, &object);
        warnings(kind, &object, None);
    }
}
