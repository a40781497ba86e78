//! Patches: small cases of each rule, and laws that hold for any object.

use super::*;
use proptest::prelude::*;
use serde_json::json;

const SET: &str = "io.k8s.api.apps.v1.StatefulSet";
const POD: &str = "io.k8s.api.core.v1.Pod";

fn patched(schema: &str, current: &Value, patch: &Value) -> Value {
    strategic(schema, current, patch).unwrap()
}

fn pod(spec: Value) -> Value {
    json!({"spec": spec})
}

#[test]
fn json_patch_answers_as_upstream() {
    let object = json!({"data": {"k": "1"}});
    assert_eq!(
        json(&object, &json!([{"op": "replace", "path": "/data/k", "value": "2"}])).unwrap(),
        json!({"data": {"k": "2"}})
    );
    let rejected = Err(PatchError::DoesNotApply(REJECTED.to_owned()));
    assert_eq!(
        json(&object, &json!([{"op": "test", "path": "/data/k", "value": "9"}])),
        rejected
    );
    assert_eq!(json(&object, &json!([{"op": "remove", "path": "/data/x"}])), rejected);
    assert_eq!(
        json(&object, &json!([{"op": "frobnicate", "path": "/data/x"}])),
        rejected
    );
    let message = "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
    assert_eq!(
        json(&object, &json!({})),
        Err(PatchError::Malformed(message.to_owned()))
    );
}

#[test]
fn copies_cannot_fill_the_memory() {
    let object = json!({"data": {"k": "x".repeat(1024)}});
    let doubling: Vec<Value> = (0..40)
        .map(|number| json!({"op": "copy", "from": "/data", "path": format!("/data/{number}")}))
        .collect();
    assert_eq!(
        json(&object, &Value::Array(doubling)),
        Err(PatchError::DoesNotApply(REJECTED.to_owned()))
    );
    let one = json!([{"op": "copy", "from": "/data/k", "path": "/data/l"}]);
    assert_eq!(json(&object, &one).unwrap()["data"]["l"], object["data"]["k"]);
}

#[test]
fn merge_patch_deletes_with_null_and_wants_an_object() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    let patch = json!({"metadata": {"labels": {"a": null, "c": "3"}}});
    assert_eq!(
        merge(&object, &patch).unwrap(),
        json!({"metadata": {"labels": {"b": "2", "c": "3"}}})
    );
    assert!(matches!(merge(&object, &json!([1])), Err(PatchError::Malformed(_))));
    assert!(matches!(
        strategic(SET, &object, &json!("x")),
        Err(PatchError::Malformed(_))
    ));
}

/// As recorded: a container that is new comes first, one that is known stays in its place.
#[test]
fn items_of_the_patch_come_first_unless_the_server_has_an_order_for_them() {
    let set = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    let new = pod(json!({"containers": [{"name": "new", "image": "j"}]}));
    let both = pod(json!({"containers": [{"name": "new", "image": "j"}, {"name": "c", "image": "i"}]}));
    assert_eq!(patched(POD, &set, &new), both);
    let three = pod(json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}));
    let middle = pod(json!({"containers": [{"name": "b", "image": "x"}]}));
    let changed = pod(json!({"containers": [{"name": "a"}, {"name": "b", "image": "x"}, {"name": "c"}]}));
    assert_eq!(patched(POD, &three, &middle), changed);
    let finalizers = patched(
        POD,
        &json!({"metadata": {"finalizers": ["e/x"]}}),
        &json!({"metadata": {"finalizers": ["e/y"]}}),
    );
    assert_eq!(finalizers, json!({"metadata": {"finalizers": ["e/y", "e/x"]}}));
}

#[test]
fn set_element_order_orders() {
    let current = pod(json!({"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}));
    let patch = pod(json!({
        "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "new"}],
        "containers": [{"name": "new", "image": "n"}],
    }));
    let names = |value: &Value| -> Vec<String> {
        let items = value["spec"]["containers"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&patched(POD, &current, &patch)), ["server", "b", "a", "new"]);
    let only_order = pod(json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}));
    assert_eq!(names(&patched(POD, &current, &only_order)), ["server", "b", "a"]);
    let primitives = patched(
        POD,
        &json!({"metadata": {"finalizers": ["a", "b"]}}),
        &json!({"metadata": {"$setElementOrder/finalizers": ["b", "c", "a"], "finalizers": ["c"]}}),
    );
    assert_eq!(primitives, json!({"metadata": {"finalizers": ["b", "c", "a"]}}));
}

#[test]
fn directives_delete_and_replace() {
    let current = pod(json!({
        "containers": [{"name": "a", "image": "1"}, {"name": "b"}],
        "nodeSelector": {"x": "1", "y": "2"},
        "volumes": [{"name": "v", "emptyDir": {}}],
    }));
    let check = |patch: Value, expected: Value| {
        let mut whole = current["spec"].clone();
        for (name, value) in expected.as_object().unwrap() {
            whole[name] = value.clone();
        }
        assert_eq!(patched(POD, &current, &pod(patch)), pod(whole));
    };
    check(
        json!({"containers": [{"$patch": "delete", "name": "b"}]}),
        json!({"containers": [{"name": "a", "image": "1"}]}),
    );
    check(
        json!({"containers": [{"$patch": "replace"}, {"name": "z", "image": null}]}),
        json!({"containers": [{"name": "z"}]}),
    );
    check(
        json!({"nodeSelector": {"$patch": "replace", "z": "3"}}),
        json!({"nodeSelector": {"z": "3"}}),
    );
    check(
        json!({"nodeSelector": {"$patch": "delete"}}),
        json!({"nodeSelector": {}}),
    );
    check(
        json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
    );
    assert_eq!(
        patched(POD, &current, &pod(json!({"securityContext": {"$patch": "delete"}}))),
        current
    );
    let unknown = strategic(POD, &current, &pod(json!({"$patch": "frob"})));
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .starts_with("unknown patch type: frob in map: ")
    );
    let no_key = strategic(POD, &current, &pod(json!({"containers": [{"image": "x"}]})));
    let message = r#"map: {"image":"x"} does not contain declared merge key: name"#;
    assert_eq!(no_key, Err(PatchError::Malformed(message.to_owned())));
}

#[test]
fn values_are_deleted_from_lists_of_primitives() {
    let current = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d"]}});
    assert_eq!(
        patched(POD, &current, &patch),
        json!({"metadata": {"finalizers": ["d", "a", "c"]}})
    );
}

/// What `kubectl rollout undo` sends: the template of a ControllerRevision.
#[test]
fn a_rollout_is_undone() {
    let current = json!({"spec": {"replicas": 3, "template": {
        "metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}},
        "spec": {"containers": [{"name": "c", "image": "2"}, {"name": "sidecar"}]},
    }}});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "1"}]}});
    let mut patch = json!({"spec": {"template": template}});
    patch["spec"]["template"]["$patch"] = json!("replace");
    assert_eq!(
        patched(SET, &current, &patch),
        json!({"spec": {"replicas": 3, "template": template}})
    );
}

#[test]
fn lists_without_a_merge_strategy_are_replaced() {
    let current = pod(json!({"tolerations": [{"key": "a"}], "containers": [{"name": "c", "command": ["x", "y"]}]}));
    let patch = pod(json!({"tolerations": [{"key": "b"}], "containers": [{"name": "c", "command": ["z"]}]}));
    assert_eq!(patched(POD, &current, &patch), patch);
    let current = json!({"spec": {"list": [{"name": "a"}]}});
    let patch = json!({"spec": {"list": [{"name": "b"}], "gone": null}});
    assert_eq!(
        patched("org.example.Thing", &current, &patch),
        json!({"spec": {"list": [{"name": "b"}]}})
    );
}

#[test]
fn a_member_that_is_not_there_is_null_to_json_patches() {
    let object = json!({"metadata": {"name": "a"}, "list": [1]});
    let apply = |operation: Value| json(&object, &json!([operation])).ok();
    let annotations = json!({"k": "v"});
    assert_eq!(
        apply(json!({"op": "replace", "path": "/metadata/annotations", "value": annotations})).unwrap()["metadata"],
        json!({"name": "a", "annotations": {"k": "v"}})
    );
    let test = |path: &str, value: Value| apply(json!({"op": "test", "path": path, "value": value}));
    assert_eq!(test("/metadata/labels", Value::Null), Some(object.clone()));
    assert_eq!(test("/metadata/labels", json!({})), None);
    assert_eq!(test("/metadata/labels/x", Value::Null), None);
    for path in ["/metadata/annotations/k", "/list/1", "/none/x"] {
        assert_eq!(
            apply(json!({"op": "replace", "path": path, "value": "v"})),
            None,
            "{path}"
        );
    }
}

fn labels() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", "[x-z]".prop_map(Value::from), 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

fn pods() -> impl Strategy<Value = Value> {
    let containers = prop::collection::btree_map("[a-e]", "[x-z]{1,2}", 1..5).prop_map(|map| {
        map.into_iter()
            .map(|(name, image)| json!({"name": name, "image": image}))
            .collect::<Vec<Value>>()
    });
    (labels(), containers.prop_shuffle(), prop::collection::vec("[a-c]", 0..3)).prop_map(|(labels, containers, args)| {
        json!({"metadata": {"labels": labels}, "spec": {"containers": containers, "nodeName": "n", "args": args}})
    })
}

/// What a client that knows both states would send, with every directive that is needed.
fn difference(old: &Value, new: &Value) -> Value {
    let items = |value: &Value| value["spec"]["containers"].as_array().unwrap().clone();
    let names =
        |value: &Value| -> Vec<Value> { items(value).iter().map(|item| json!({"name": item["name"]})).collect() };
    let mut containers = items(new);
    for gone in names(old).into_iter().filter(|name| !names(new).contains(name)) {
        containers.push(json!({"$patch": "delete", "name": gone["name"]}));
    }
    let mut labels = new["metadata"]["labels"].clone();
    labels["$patch"] = json!("replace");
    json!({
        "metadata": {"labels": labels},
        "spec": {"$setElementOrder/containers": names(new), "containers": containers, "args": new["spec"]["args"]},
    })
}

proptest! {
    #[test]
    fn a_patch_of_the_difference_gives_the_new_object(old in pods(), new in pods()) {
        prop_assert_eq!(&patched(POD, &old, &difference(&old, &new)), &new);
        let operations = serde_json::to_value(json_patch::diff(&old, &new)).unwrap();
        prop_assert_eq!(json(&old, &operations).unwrap(), new);
    }

    #[test]
    fn a_patch_applied_twice_changes_nothing_more(object in pods(), patch in pods()) {
        let once = patched(POD, &object, &patch);
        prop_assert_eq!(patched(POD, &once, &patch), once.clone());
        let once = merge(&object, &patch).unwrap();
        prop_assert_eq!(merge(&once, &patch).unwrap(), once.clone());
    }
}
