//! Contract A3: what a valid StatefulSet is.

use super::*;

fn sets() -> &'static Kind {
    kind("apps", "statefulsets")
}

fn set() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "serviceName": "nginx", "replicas": 2, "selector": {"matchLabels": {"app": "nginx"}},
            "template": {
                "metadata": {"labels": {"app": "nginx"}},
                "spec": {"containers": [{
                    "name": "nginx", "image": "nginx:1", "ports": [{"containerPort": 80, "name": "web"}],
                    "volumeMounts": [{"name": "www", "mountPath": "/usr/share/nginx/html"}],
                }]},
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "www"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    })
}

#[test]
fn the_textbook_set_is_valid() {
    assert_eq!(created(sets(), &set()), [""; 0]);
}

#[test]
fn the_walk_of_bad_values_is_refused_as_upstream_refuses_it() {
    let manifest = json!({"metadata": {"name": "bad"}, "spec": {
        "replicas": -1, "serviceName": "s", "selector": {"matchLabels": {"x": "y"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
    }});
    let errors = create(sets(), &ready(sets(), &manifest));
    let expected: Value = serde_json::from_str(
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"StatefulSet.apps \"bad\" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`, spec.template.spec.containers[0].image: Required value, spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"]","reason":"Invalid","details":{"name":"bad","group":"apps","kind":"StatefulSet","causes":[{"reason":"FieldValueInvalid","message":"Invalid value: -1: must be greater than or equal to 0","field":"spec.replicas"},{"reason":"FieldValueInvalid","message":"Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`","field":"spec.template.metadata.labels"},{"reason":"FieldValueRequired","message":"Required value","field":"spec.template.spec.containers[0].image"},{"reason":"FieldValueNotSupported","message":"Unsupported value: \"Never\": supported values: \"Always\"","field":"spec.template.spec.restartPolicy"}]},"code":422}"#,
    )
    .unwrap();
    assert_eq!(Status::invalid(sets(), "bad", &errors).to_value(), expected);
}

/// Each change of the valid set, and the one error it causes.
fn check(pointer: &str, value: Value, expected: &str) {
    assert_eq!(created(sets(), &with(&set(), pointer, value)), [expected], "{pointer}");
}

#[test]
fn a3_1_policies_are_of_a_list() {
    check(
        "/spec/podManagementPolicy",
        json!("Random"),
        "spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'",
    );
    check(
        "/spec/updateStrategy",
        json!({"type": "Never"}),
        "spec.updateStrategy: Invalid value: {\"type\":\"Never\"}: must be 'RollingUpdate' or 'OnDelete'",
    );
    assert_eq!(
        created(
            sets(),
            &with(&set(), "/spec/updateStrategy", json!({"type": "Recreate"}))
        ),
        [""; 0]
    );
}

#[test]
fn a3_2_on_delete_with_rolling_update_is_invalid() {
    check(
        "/spec/updateStrategy",
        json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
        "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
    );
    check(
        "/spec/updateStrategy",
        json!({"type": "Recreate", "rollingUpdate": {"partition": 1}}),
        "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
    );
}

#[test]
fn a3_3_partition_and_max_unavailable() {
    check(
        "/spec/updateStrategy",
        json!({"rollingUpdate": {"partition": -1}}),
        "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
    );
    let limit = |value: Value| {
        created(
            sets(),
            &with(
                &set(),
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": value}}),
            ),
        )
    };
    let path = "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value";
    assert_eq!(limit(json!(0)), [format!("{path}: 0: cannot be 0")]);
    assert_eq!(limit(json!("0%")), [format!("{path}: \"0%\": cannot be 0")]);
    assert_eq!(
        limit(json!("101%")),
        [format!("{path}: \"101%\": must not be greater than 100%")]
    );
    assert_eq!(
        limit(json!(-1)),
        [format!("{path}: -1: must be greater than or equal to 0")]
    );
    assert_eq!(limit(json!("x")).len(), 1);
    for good in [json!(1), json!(100), json!("50%"), json!("100%")] {
        assert_eq!(limit(good), [""; 0]);
    }
}

#[test]
fn a3_4_retention_and_counts() {
    check(
        "/spec/persistentVolumeClaimRetentionPolicy",
        json!({"whenScaled": "Keep"}),
        "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\"",
    );
    check(
        "/spec/replicas",
        json!(-1),
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
    );
    check(
        "/spec/minReadySeconds",
        json!(-1),
        "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
    );
    check(
        "/spec/ordinals",
        json!({"start": -1}),
        "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
    );
}

#[test]
fn a3_5_service_name_is_checked_on_create_only() {
    let bad = with(&set(), "/spec/serviceName", json!("Not_A_Name"));
    let errors = created(sets(), &bad);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("spec.serviceName: Invalid value: \"Not_A_Name\": a lowercase RFC 1123 label"));
    assert_eq!(replaced(sets(), &bad, &with(&bad, "/spec/replicas", json!(3))), [""; 0]);
    assert_eq!(created(sets(), &with(&set(), "/spec/serviceName", json!(""))), [""; 0]);
}

#[test]
fn a3_6_selector() {
    assert_eq!(
        created(sets(), &with(&set(), "/spec/selector", Value::Null)),
        ["spec.selector: Required value"]
    );
    check(
        "/spec/selector",
        json!({}),
        "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
    );
    check(
        "/spec/selector",
        json!({"matchLabels": {"app": "other"}}),
        "spec.template.metadata.labels: Invalid value: {\"app\":\"nginx\"}: `selector` does not match template `labels`",
    );
    let malformed = created(
        sets(),
        &with(
            &set(),
            "/spec/selector",
            json!({"matchExpressions": [{"key": "app", "operator": "Is"}]}),
        ),
    );
    assert_eq!(
        malformed[0],
        "spec.selector.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator"
    );
}

#[test]
fn a3_7_template() {
    check(
        "/spec/template/spec/restartPolicy",
        json!("OnFailure"),
        "spec.template.spec.restartPolicy: Unsupported value: \"OnFailure\": supported values: \"Always\"",
    );
    check(
        "/spec/template/spec/activeDeadlineSeconds",
        json!(5),
        "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
    );
    check(
        "/spec/template/spec/containers/0/volumeMounts",
        json!([{"name": "nope", "mountPath": "/x"}]),
        "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"nope\"",
    );
    let hostname = with(&set(), "/spec/template/spec/hostname", json!("Not_A_Name"));
    assert_eq!(created(sets(), &hostname), [""; 0], "the controller sets it anyway");
}

#[test]
fn a3_8_claim_templates_are_checked_on_create_only() {
    let bad = with(&set(), "/spec/volumeClaimTemplates/0/spec", json!({"resources": {}}));
    assert_eq!(
        created(sets(), &bad),
        [
            "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
            "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
        ]
    );
    assert_eq!(replaced(sets(), &bad, &with(&bad, "/spec/replicas", json!(3))), [""; 0]);
}

#[test]
fn a3_9_negative_history_limit_is_a_warning() {
    let negative = ready(sets(), &with(&set(), "/spec/revisionHistoryLimit", json!(-1)));
    assert_eq!(create(sets(), &negative), []);
    let warnings = warnings(sets(), &negative, None);
    assert!(
        warnings
            .iter()
            .any(|text| text.contains("retains all historical revisions")),
        "{warnings:?}"
    );
}

#[test]
fn a1_10_a_name_that_no_pod_could_carry_is_refused() {
    let long = "a".repeat(53);
    let errors = created(sets(), &with(&set(), "/metadata/name", json!(long)));
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with(&format!(
        "metadata.name: Invalid value: {long:?}: must be no more than 52 characters: "
    )));
    assert_eq!(
        created(sets(), &with(&set(), "/metadata/name", json!("a".repeat(52)))),
        [""; 0]
    );
    assert_eq!(
        created(sets(), &with(&set(), "/metadata/name", json!("a.b"))).len(),
        1,
        "a name is one label"
    );
}

#[test]
fn a3_11_what_may_change_and_what_may_not() {
    let mutable = [
        ("/spec/replicas", json!(5)),
        ("/spec/template/spec/containers/0/image", json!("nginx:2")),
        ("/spec/updateStrategy", json!({"type": "OnDelete"})),
        ("/spec/minReadySeconds", json!(5)),
        ("/spec/ordinals", json!({"start": 3})),
        ("/spec/revisionHistoryLimit", json!(2)),
        (
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Delete"}),
        ),
    ];
    for (pointer, value) in mutable {
        assert_eq!(
            replaced(sets(), &set(), &with(&set(), pointer, value)),
            [""; 0],
            "{pointer}"
        );
    }
    let forbidden = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
        'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    let fixed = [
        ("/spec/serviceName", json!("other")),
        ("/spec/podManagementPolicy", json!("Parallel")),
        (
            "/spec/volumeClaimTemplates/0/spec/resources/requests/storage",
            json!("2Gi"),
        ),
        ("/spec/volumeClaimTemplates", json!([])),
    ];
    for (pointer, value) in fixed {
        let changed = with(&set(), pointer, value);
        let errors = replaced(sets(), &set(), &changed);
        assert!(errors.contains(&forbidden.to_owned()), "{pointer}: {errors:?}");
    }
}

#[test]
fn a2_a_no_op_put_of_the_manifest_is_valid() {
    let mut manifest = set();
    manifest["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = json!("1024Mi");
    assert_eq!(replaced(sets(), &set(), &manifest), [""; 0]);
    let stored = ready(sets(), &set());
    let mut again = manifest;
    again["metadata"]["namespace"] = json!("default");
    defaults::apply(sets(), &mut again);
    strategy::prepare_update(sets(), &mut again, &stored);
    assert_eq!(again["metadata"]["generation"], 1);
}

#[test]
fn a3_12_an_invalid_stored_template_does_not_block_other_changes() {
    let bad = with(&set(), "/spec/template/spec/containers/0/image", json!(""));
    let mut new = with(&bad, "/spec/replicas", json!(0));
    new["spec"]["template"]["spec"]["containers"][0]["name"] = json!("Still_Bad");
    assert_eq!(replaced(sets(), &bad, &new), [""; 0]);
}

#[test]
fn a3_15_status_counts() {
    let status = |status: Value, old: Value| -> Vec<String> {
        let object = |status| json!({"metadata": {"name": "web"}, "status": status});
        status_update(sets(), &object(status), &object(old))
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let old = json!({"collisionCount": 2});
    let good = json!({"replicas": 3, "readyReplicas": 2, "availableReplicas": 2, "currentReplicas": 3, "updatedReplicas": 0, "collisionCount": 2});
    assert_eq!(status(good.clone(), old.clone()), [""; 0]);
    for (field, value, expected) in [
        (
            "replicas",
            -1,
            "status.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "readyReplicas",
            4,
            "status.readyReplicas: Invalid value: 4: cannot be greater than status.replicas",
        ),
        (
            "currentReplicas",
            4,
            "status.currentReplicas: Invalid value: 4: cannot be greater than status.replicas",
        ),
        (
            "updatedReplicas",
            4,
            "status.updatedReplicas: Invalid value: 4: cannot be greater than status.replicas",
        ),
        (
            "currentReplicas",
            -1,
            "status.currentReplicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "availableReplicas",
            3,
            "status.availableReplicas: Invalid value: 3: cannot be greater than status.readyReplicas",
        ),
        (
            "collisionCount",
            1,
            "status.collisionCount: Invalid value: 1: cannot be decremented",
        ),
        (
            "observedGeneration",
            -1,
            "status.observedGeneration: Invalid value: -1: must be greater than or equal to 0",
        ),
    ] {
        let errors = status(with(&good, &format!("/{field}"), json!(value)), old.clone());
        assert!(errors.contains(&expected.to_owned()), "{field}: {errors:?}");
    }
}

#[test]
fn a_controller_revisions_data_is_an_object_and_fixed_but_its_number_is_not() {
    let revisions = kind("apps", "controllerrevisions");
    let revision = json!({"metadata": {"name": "web-1"}, "data": {"spec": {}}, "revision": 1});
    assert_eq!(created(revisions, &revision), [""; 0]);
    assert_eq!(
        created(revisions, &with(&revision, "/data", Value::Null)),
        ["data: Required value: data is mandatory"]
    );
    assert_eq!(created(revisions, &with(&revision, "/data", json!("x"))).len(), 1);
    assert_eq!(created(revisions, &with(&revision, "/revision", json!(-1))).len(), 1);
    assert_eq!(
        replaced(revisions, &revision, &with(&revision, "/revision", json!(7))),
        [""; 0]
    );
    assert_eq!(
        replaced(
            revisions,
            &revision,
            &with(&revision, "/data", json!({"spec": {"a": 1}}))
        ),
        ["data: Invalid value: {\"spec\":{\"a\":1}}: field is immutable"]
    );
}
