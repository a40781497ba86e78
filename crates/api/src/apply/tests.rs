//! Ownership, against `managedFields` that kube-apiserver 1.36 wrote for the same requests (recorded with curl on a
//! private control plane; uids and times shortened).

use super::*;
use crate::kinds;
use proptest::prelude::*;
use serde_json::json;

const TIME: &str = "2026-11-22T08:36:08Z";
const LATER: &str = "2026-11-22T08:36:09Z";

fn kind(api_version: &str, name: &str) -> &'static Kind {
    kinds::by_kind(api_version, name).unwrap()
}

fn by<'a>(manager: &'a str, subresource: &'a str, time: &'a str) -> Writer<'a> {
    Writer {
        manager,
        subresource,
        time,
    }
}

fn created(api_version: &str, name: &str, mut object: Value) -> Value {
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(name);
    track_update(kind(api_version, name), None, &mut object, &by("e2e", "", TIME));
    object
}

/// The fields of the entry at this place, and who has it.
fn entry(object: &Value, at: usize) -> (&str, &Value) {
    let entry = &object["metadata"]["managedFields"][at];
    (entry["manager"].as_str().unwrap_or_default(), &entry["fieldsV1"])
}

fn count(object: &Value) -> usize {
    object["metadata"]["managedFields"].as_array().map_or(0, Vec::len)
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "gold"}, "data": data})
}

fn stateful_set() -> Value {
    json!({
        "metadata": {"name": "ss", "namespace": "gold", "generation": 1},
        "spec": {
            "replicas": 0, "serviceName": "s2", "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {
                    "containers": [container("c", "img:1")],
                    "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                    "securityContext": {}, "schedulerName": "default-scheduler",
                },
            },
            "volumeClaimTemplates": [{"kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": {"name": "d"}}],
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        },
        "status": {"replicas": 0, "availableReplicas": 0},
    })
}

fn container(name: &str, image: &str) -> Value {
    json!({
        "name": name, "image": image, "resources": {}, "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent",
    })
}

fn container_fields() -> Value {
    json!({
        ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
    })
}

fn stateful_set_fields() -> Value {
    json!({"f:spec": {
        "f:persistentVolumeClaimRetentionPolicy": {".": {}, "f:whenDeleted": {}, "f:whenScaled": {}},
        "f:podManagementPolicy": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
        "f:serviceName": {},
        "f:template": {
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": container_fields()},
                "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                "f:terminationGracePeriodSeconds": {},
            },
        },
        "f:updateStrategy": {"f:rollingUpdate": {".": {}, "f:partition": {}}, "f:type": {}},
        "f:volumeClaimTemplates": {},
    }})
}

#[test]
fn the_entry_of_a_create_is_upstreams() {
    let set = created("apps/v1", "StatefulSet", stateful_set());
    let expected = json!([{
        "manager": "e2e", "operation": "Update", "apiVersion": "apps/v1", "time": TIME, "fieldsType": "FieldsV1",
        "fieldsV1": stateful_set_fields(),
    }]);
    assert_eq!(set["metadata"]["managedFields"], expected);
}

fn check_create(version: &str, kind: &str, object: Value, fields: Value) {
    let object = created(version, kind, object);
    assert_eq!(
        object
            .pointer("/metadata/managedFields/0/fieldsV1")
            .unwrap_or(&Value::Null),
        &fields,
        "{kind}"
    );
}

#[test]
fn creates_of_services_and_claims() {
    check_create(
        "v1",
        "Service",
        json!({"metadata": {"name": "s"}, "spec": {
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}], "selector": {"a": "b"},
            "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster",
        }}),
        json!({"f:spec": {
            "f:internalTrafficPolicy": {}, "f:selector": {}, "f:sessionAffinity": {}, "f:type": {},
            "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {
                ".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {},
            }},
        }}),
    );
    check_create(
        "v1",
        "PersistentVolumeClaim",
        json!({"metadata": {"name": "d"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem",
        }, "status": {"phase": "Pending"}}),
        json!({"f:spec": {
            "f:accessModes": {}, "f:resources": {"f:requests": {".": {}, "f:storage": {}}}, "f:volumeMode": {},
        }}),
    );
}

#[test]
fn creates_of_other_kinds() {
    check_create(
        "v1",
        "Event",
        json!({
            "metadata": {"name": "e", "namespace": "gold"}, "count": 1, "type": "Normal", "eventTime": null,
            "involvedObject": {"kind": "Pod", "name": "p"}, "firstTimestamp": TIME, "lastTimestamp": TIME,
            "message": "m", "reason": "r", "reportingComponent": "c", "reportingInstance": "",
            "source": {"component": "c"},
        }),
        json!({
            "f:count": {}, "f:firstTimestamp": {}, "f:involvedObject": {}, "f:lastTimestamp": {}, "f:message": {},
            "f:reason": {}, "f:reportingComponent": {}, "f:source": {"f:component": {}}, "f:type": {},
        }),
    );
    check_create(
        "apps/v1",
        "ControllerRevision",
        json!({
            "metadata": {"name": "r", "labels": {"a": "b"}, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "ss", "uid": "1", "controller": true},
            ]},
            "data": {"spec": {"template": {"$patch": "replace"}}}, "revision": 1,
        }),
        json!({
            "f:data": {}, "f:revision": {},
            "f:metadata": {
                "f:labels": {".": {}, "f:a": {}}, "f:ownerReferences": {".": {}, "k:{\"uid\":\"1\"}": {}},
            },
        }),
    );
    check_create(
        "v1",
        "ConfigMap",
        json!({"metadata": {"name": "u", "uid": "1", "generation": 7}}),
        Value::Null,
    );
    check_create(
        "v1",
        "ConfigMap",
        json!({"metadata": {"generateName": "g-"}}),
        json!({"f:metadata": {"f:generateName": {}}}),
    );
}

#[test]
fn a_put_takes_what_it_changes_and_leaves_the_rest() {
    let object = json!({"metadata": {"name": "g1", "labels": {"a": "b"}}, "data": {"k": "v"}});
    let old = created("v1", "ConfigMap", object);
    let mut new = json!({"metadata": {"name": "g1"}, "data": {"k": "v2"}});
    track_update(kind("v1", "ConfigMap"), Some(&old), &mut new, &by("curl", "", TIME));
    assert_eq!(entry(&new, 0), ("curl", &json!({"f:data": {"f:k": {}}})));
    assert_eq!(entry(&new, 1), ("e2e", &json!({"f:data": {}})));
    assert_eq!(count(&new), 2);
}

#[test]
fn the_time_changes_when_the_manager_changes_something() {
    let kind = kind("v1", "ConfigMap");
    let old = created("v1", "ConfigMap", config_map(json!({"k": "old"})));
    let mut same = old.clone();
    track_update(kind, Some(&old), &mut same, &by("e2e", "", LATER));
    assert_eq!(same, old);
    let mut new = config_map(json!({"k": "new"}));
    track_update(kind, Some(&old), &mut new, &by("e2e", "", LATER));
    assert_eq!(new["metadata"]["managedFields"][0]["time"], LATER);
    assert_eq!(entry(&new, 0), entry(&old, 0));
    let mut gone = config_map(json!({}));
    track_update(kind, Some(&old), &mut gone, &by("e2e", "", LATER));
    assert_eq!(entry(&gone, 0), ("e2e", &json!({"f:data": {}})));
}

#[test]
fn the_status_has_managers_of_its_own() {
    let kind = kind("apps/v1", "StatefulSet");
    let old = created("apps/v1", "StatefulSet", stateful_set());
    let mut new = old.clone();
    new["status"] = json!({
        "replicas": 0, "availableReplicas": 0, "observedGeneration": 1, "currentRevision": "r", "updateRevision": "r",
        "collisionCount": 0,
    });
    new["spec"]["replicas"] = json!(7);
    track_update(
        kind,
        Some(&old),
        &mut new,
        &by("kube-controller-manager", "status", TIME),
    );
    assert_eq!(entry(&new, 0), ("e2e", &stateful_set_fields()));
    let status = json!({
        "f:collisionCount": {}, "f:currentRevision": {}, "f:observedGeneration": {}, "f:updateRevision": {},
    });
    assert_eq!(
        entry(&new, 1),
        ("kube-controller-manager", &json!({"f:status": status}))
    );
    assert_eq!(new["metadata"]["managedFields"][1]["subresource"], "status");

    let old = new.clone();
    new["metadata"]["labels"] = json!({"x": "y"});
    new["status"]["conditions"] = json!([{"type": "T", "status": "True", "lastTransitionTime": null}]);
    track_update(kind, Some(&old), &mut new, &by("e2e", "status", LATER));
    let condition = json!({".": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {}});
    let fields = json!({
        "f:metadata": {"f:labels": {".": {}, "f:x": {}}},
        "f:status": {"f:conditions": {".": {}, "k:{\"type\":\"T\"}": condition}},
    });
    assert_eq!(entry(&new, 2), ("e2e", &fields));
    assert_eq!(count(&new), 3);
}

#[test]
fn a_scale_takes_the_replicas_and_has_no_time() {
    let old = created("apps/v1", "StatefulSet", stateful_set());
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(2);
    track_update(
        kind("apps/v1", "StatefulSet"),
        Some(&old),
        &mut new,
        &by("e2e", "scale", LATER),
    );
    let mut rest = stateful_set_fields();
    rest["f:spec"].as_object_mut().unwrap().remove("f:replicas");
    assert_eq!(entry(&new, 0), ("e2e", &json!({"f:spec": {"f:replicas": {}}})));
    assert_eq!(new["metadata"]["managedFields"][0].get("time"), None);
    assert_eq!(entry(&new, 1), ("e2e", &rest));
}

#[test]
fn finalizers_are_owned_one_by_one() {
    let pod = json!({"metadata": {"name": "p", "finalizers": ["e/x"]}});
    let old = created("v1", "Pod", pod);
    assert_eq!(
        entry(&old, 0).1,
        &json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"e/x\"": {}}}})
    );
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!(["e/y", "e/x"]);
    track_update(kind("v1", "Pod"), Some(&old), &mut new, &by("e2e", "status", LATER));
    assert_eq!(
        entry(&new, 1).1,
        &json!({"f:metadata": {"f:finalizers": {"v:\"e/y\"": {}}}})
    );
    let old = new.clone();
    new["metadata"].as_object_mut().unwrap().remove("finalizers");
    track_update(kind("v1", "Pod"), Some(&old), &mut new, &by("e2e", "", LATER));
    assert_eq!(count(&new), 0);
}

#[test]
fn managers_can_be_reset_and_are_not_tracked_again() {
    let kind = kind("v1", "ConfigMap");
    let old = created("v1", "ConfigMap", config_map(json!({"k": "v"})));
    for reset in [json!([]), json!([{}])] {
        let mut new = old.clone();
        new["metadata"]["managedFields"] = reset;
        track_update(kind, Some(&old), &mut new, &by("e2e", "", LATER));
        assert_eq!(new, config_map(json!({"k": "v"})));
        let mut next = config_map(json!({"k": "w"}));
        track_update(kind, Some(&new), &mut next, &by("e2e", "", LATER));
        assert_eq!(next, config_map(json!({"k": "w"})));
    }
    let mut wrong = old.clone();
    wrong["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    track_update(kind, Some(&old), &mut wrong, &by("e2e", "", LATER));
    assert_eq!(wrong, old);
}

#[test]
fn old_managers_are_put_together() {
    let kind = kind("v1", "ConfigMap");
    let mut object = created("v1", "ConfigMap", config_map(json!({"k": "v"})));
    for number in 0..12 {
        let old = object.clone();
        object["data"][format!("k{number}")] = json!("v");
        let (manager, time) = (format!("m{number:02}"), format!("2026-11-22T09:00:{number:02}Z"));
        track_update(kind, Some(&old), &mut object, &by(&manager, "", &time));
    }
    assert_eq!(count(&object), 10);
    assert_eq!(entry(&object, 0).0, "ancient-changes");
    let fields = json!({".": {}, "f:k": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}});
    assert_eq!(entry(&object, 0).1, &json!({"f:data": fields}));
}

fn applied(live: Option<&Value>, config: &Value, manager: &str, force: bool) -> Result<Value, Status> {
    let kind = kind(config["apiVersion"].as_str().unwrap(), config["kind"].as_str().unwrap());
    apply(kind, live, config, &by(manager, "", TIME), force).map_err(|status| *status)
}

/// Create by alice, conflict and force by bob, and alice leaving out what is hers: as recorded.
#[test]
fn two_appliers() {
    let first = applied(None, &config_map(json!({"k": "1", "x": "y"})), "alice", false).unwrap();
    assert_eq!(first["data"], json!({"k": "1", "x": "y"}));
    let expected = json!([{
        "manager": "alice", "operation": "Apply", "apiVersion": "v1", "time": TIME, "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:k": {}, "f:x": {}}},
    }]);
    assert_eq!(first["metadata"]["managedFields"], expected);

    let config = config_map(json!({"k": "2"}));
    let conflict = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Apply failed with 1 conflict: conflict with \"alice\": .data.k", "reason": "Conflict",
        "details": {"causes": [
            {"reason": "FieldManagerConflict", "message": "conflict with \"alice\"", "field": ".data.k"},
        ]},
        "code": 409,
    });
    assert_eq!(
        applied(Some(&first), &config, "bob", false).unwrap_err().to_value(),
        conflict
    );

    let forced = applied(Some(&first), &config, "bob", true).unwrap();
    assert_eq!(forced["data"], json!({"k": "2", "x": "y"}));
    assert_eq!(entry(&forced, 0), ("alice", &json!({"f:data": {"f:x": {}}})));
    assert_eq!(entry(&forced, 1), ("bob", &json!({"f:data": {"f:k": {}}})));

    let mut nothing = config_map(json!({}));
    nothing.as_object_mut().unwrap().remove("data");
    let left = applied(Some(&forced), &nothing, "alice", false).unwrap();
    assert_eq!(left["data"], json!({"k": "2"}));
    assert_eq!(entry(&left, 0), ("bob", &json!({"f:data": {"f:k": {}}})));
    assert_eq!(count(&left), 1);
}

#[test]
fn a_field_that_somebody_else_owns_too_stays() {
    let first = applied(None, &config_map(json!({"k": "1", "x": "y"})), "alice", false).unwrap();
    let both = applied(Some(&first), &config_map(json!({"x": "y"})), "bob", false).unwrap();
    assert_eq!(entry(&both, 0).1, &json!({"f:data": {"f:k": {}, "f:x": {}}}));
    let left = applied(Some(&both), &config_map(json!({})), "alice", false).unwrap();
    assert_eq!(left["data"], json!({"x": "y"}));
}

#[test]
fn conflicts_with_managers_that_update_name_the_version() {
    let object = created("apps/v1", "StatefulSet", stateful_set());
    let config = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "ss"}, "spec": {
        "replicas": 3, "template": {"spec": {"containers": [{"name": "c", "image": "other"}]}},
    }});
    let status = applied(Some(&object), &config, "kubectl", false).unwrap_err();
    let message = "Apply failed with 2 conflicts: conflicts with \"e2e\" using apps/v1:\n- .spec.replicas\n\
                   - .spec.template.spec.containers[name=\"c\"].image";
    assert_eq!(status.message, message);
    let forced = applied(Some(&object), &config, "kubectl", true).unwrap();
    assert_eq!(forced["spec"]["template"]["spec"]["containers"][0]["image"], "other");
    assert_eq!(
        forced["spec"]["template"]["spec"]["containers"][0]["resources"],
        json!({})
    );
    let fields = json!({"f:spec": {
        "f:replicas": {},
        "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}}},
    }});
    assert_eq!(entry(&forced, 0), ("kubectl", &fields));
}

#[test]
fn items_that_are_applied_no_more_go_and_lists_keep_an_order() {
    let config = |names: &[&str]| {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "i"})).collect();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}})
    };
    let names = |object: &Value| -> Vec<String> {
        let items = object["spec"]["containers"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = applied(None, &config(&["a", "b"]), "alice", false).unwrap();
    let second = applied(Some(&first), &config(&["x", "b"]), "bob", false).unwrap();
    assert_eq!(names(&second), ["a", "x", "b"]);
    let third = applied(Some(&second), &config(&["b"]), "alice", false).unwrap();
    assert_eq!(names(&third), ["x", "b"]);
    let swapped = applied(Some(&first), &config(&["b", "a"]), "alice", false).unwrap();
    assert_eq!(names(&swapped), ["b", "a"]);
}

#[test]
fn what_was_there_before_the_first_apply_has_an_owner() {
    let live = config_map(json!({"k": "1"}));
    let status = applied(Some(&live), &config_map(json!({"k": "2"})), "alice", false).unwrap_err();
    let message = "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k";
    assert_eq!(status.message, message);
    let same = applied(Some(&live), &config_map(json!({"k": "1"})), "alice", false).unwrap();
    assert_eq!(entry(&same, 0), ("alice", &json!({"f:data": {"f:k": {}}})));
    assert_eq!(
        entry(&same, 1),
        ("before-first-apply", &json!({"f:data": {".": {}, "f:k": {}}}))
    );
}

#[test]
fn kubectl_takes_over_what_it_applied_on_the_client() {
    let note = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"},\"data\":{\"k\":\"1\"}}\n";
    let mut object = config_map(json!({"k": "1"}));
    object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": note});
    track_update(
        kind("v1", "ConfigMap"),
        None,
        &mut object,
        &by("kubectl-client-side-apply", "", TIME),
    );
    let config = config_map(json!({"k": "2"}));
    assert_eq!(applied(Some(&object), &config, "alice", false).unwrap_err().code, 409);
    let taken = applied(Some(&object), &config, "kubectl", false).unwrap();
    assert_eq!(taken["data"]["k"], "2");
    let note = &taken["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert_eq!(serde_json::from_str::<Value>(note.as_str().unwrap()).unwrap(), config);
}

#[test]
fn an_apply_must_be_of_the_kinds_version_and_have_no_managers() {
    let mut config = config_map(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        applied(None, &config, "alice", false).unwrap_err().message,
        "metadata.managedFields must be nil"
    );
    config["apiVersion"] = json!("v2");
    let status = apply(kind("v1", "ConfigMap"), None, &config, &by("alice", "", TIME), false).unwrap_err();
    let message = "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1";
    assert_eq!((status.code, status.message.as_str()), (400, message));
}

#[test]
fn items_of_an_apply_are_told_apart() {
    let pod = |containers: Value| {
        let metadata = json!({"name": "p", "namespace": "n"});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}})
    };
    let message = |config: &Value| applied(None, config, "alice", false).unwrap_err().message;
    assert_eq!(
        message(&pod(json!([{"name": "c"}, {"name": "c"}]))),
        "failed to create typed patch object (n/p; /v1, Kind=Pod): .spec.containers: \
         duplicate entries for key [name=\"c\"]"
    );
    // Key fields with a zero or another default may be left out.
    let ports = json!([{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]);
    assert!(applied(None, &pod(json!([{"name": "c", "ports": ports}])), "alice", false).is_ok());
}

#[test]
fn an_amount_written_in_another_way_is_no_change() {
    let config = |cpu: &str| {
        let resources = json!({"requests": {"cpu": cpu}});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "c", "image": "i", "resources": resources}],
        }})
    };
    let kind = kind("v1", "Pod");
    let mut first = applied(None, &config("1000m"), "alice", false).unwrap();
    crate::defaults::apply(kind, &mut first);
    let again = apply(kind, Some(&first), &config("1000m"), &by("alice", "", LATER), false).unwrap();
    assert_eq!(again["metadata"]["managedFields"], first["metadata"]["managedFields"]);
    let other = apply(kind, Some(&first), &config("2"), &by("alice", "", LATER), false).unwrap();
    assert_eq!(other["metadata"]["managedFields"][0]["time"], LATER);
}

fn configs() -> impl Strategy<Value = Value> {
    let labels = prop::collection::btree_map("[a-c]", "[x-z]".prop_map(Value::from), 0..3);
    let containers = prop::collection::btree_map("[a-d]", "[x-z]", 1..4);
    let finalizers = prop::collection::btree_set("[a-c]/[a-c]", 0..3);
    (labels, containers, finalizers, "[n-p]").prop_map(|(labels, containers, finalizers, node)| {
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, image)| json!({"name": name, "image": image}))
            .collect();
        // Go leaves empty maps and lists out, and so does every client.
        let mut metadata = json!({"name": "p"});
        if !labels.is_empty() {
            metadata["labels"] = json!(labels);
        }
        if !finalizers.is_empty() {
            metadata["finalizers"] = json!(finalizers);
        }
        let spec = json!({"containers": containers, "nodeName": node});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    })
}

/// Every owned path is there.
fn owned_paths_exist(object: &Value) {
    let node = Node::of_type("io.k8s.api.core.v1.Pod");
    let mut plain = object.clone();
    managed::take(&mut plain);
    let there = merge::with_named_fields(node, &merge::field_set(node, &plain));
    for entry in managed::of(object) {
        let mut missing = entry.fields;
        missing.subtract(&there);
        assert!(missing.is_empty(), "{missing:?} of {object}");
    }
}

proptest! {
    #[test]
    fn an_apply_twice_is_an_apply_once(live in configs(), config in configs(), other in configs()) {
        let live = applied(Some(&created("v1", "Pod", live)), &other, "bob", true).unwrap();
        let once = applied(Some(&live), &config, "alice", true).unwrap();
        owned_paths_exist(&once);
        let twice = applied(Some(&once), &config, "alice", false).unwrap();
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn what_is_applied_is_there(live in configs(), config in configs()) {
        let object = applied(Some(&created("v1", "Pod", live)), &config, "alice", true).unwrap();
        let containers = object["spec"]["containers"].as_array().unwrap();
        for container in config["spec"]["containers"].as_array().unwrap() {
            prop_assert!(containers.contains(container));
        }
        prop_assert_eq!(&object["spec"]["nodeName"], &config["spec"]["nodeName"]);
    }

    #[test]
    fn an_applier_alone_gets_what_it_applies(first in configs(), second in configs()) {
        let object = applied(None, &first, "alice", false).unwrap();
        let mut object = applied(Some(&object), &second, "alice", false).unwrap();
        managed::take(&mut object);
        let bare = |value: &Value| merge::field_set(Node::of_type("io.k8s.api.core.v1.Pod"), value);
        prop_assert_eq!(bare(&object), bare(&second));
    }

    #[test]
    fn sets_survive_the_wire(object in configs()) {
        let fields = merge::field_set(Node::of_type("io.k8s.api.core.v1.Pod"), &object);
        prop_assert_eq!(FieldSet::decode(&fields.clone().encode()).unwrap(), fields);
    }

    #[test]
    fn updates_own_what_they_leave(old in configs(), new in configs()) {
        let old = created("v1", "Pod", old);
        let mut new = new;
        track_update(kind("v1", "Pod"), Some(&old), &mut new, &by("other", "", LATER));
        owned_paths_exist(&new);
    }
}
