use super::*;

pub(super) fn version(schema: Value) -> Kind {
    let definition = json!({
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"}]}],
        },
        "status": {
            "acceptedNames": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList",
                "shortNames": ["ct"]},
            "conditions": [{"type": "Established", "status": "True"}],
        },
    });
    kinds(&definition).remove(0)
}

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "color": {"type": "string", "default": "red"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "nothing": {"type": "string", "nullable": true},
        }},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
    }})
}

#[test]
fn an_established_definition_makes_a_kind() {
    let kind = version(schema());
    assert_eq!(
        (kind.group, kind.version, kind.plural),
        ("stable.example.com", "v1", "crontabs")
    );
    assert_eq!(
        (kind.short_names, kind.schema),
        (&["ct"][..], "com.example.stable.v1.CronTab")
    );
    assert!(kind.has_status && kind.has_scale && kind.namespaced);
}

#[test]
fn unknown_and_double_fields_are_told_and_dropped() {
    let kind = version(schema());
    let text =
        br#"{"metadata": {"name": "a", "foo": 1}, "spec": {"color": "x", "color": "y", "bar": 1, "free": {"any": 1},
        "template": {"metadata": {"unknown": 1}, "spec": {}}, "labels": {"k": "v"}}, "top": 1}"#;
    let decoded = kind
        .custom
        .as_ref()
        .unwrap()
        .decode(text, FieldValidation::Warn)
        .unwrap();
    assert_eq!(
        decoded.warnings,
        [
            r#"duplicate field "spec.color""#,
            r#"unknown field "spec.bar""#,
            r#"unknown field "top""#,
            r#"unknown field "metadata.foo""#,
            r#"unknown field "spec.template.metadata.unknown""#,
        ]
    );
    assert_eq!(
        decoded.object,
        json!({"metadata": {"name": "a"}, "spec": {"color": "y", "free": {"any": 1}, "labels": {"k": "v"},
            "template": {"metadata": {}, "spec": {}}}})
    );
    let strict = kind.custom.as_ref().unwrap().decode(text, FieldValidation::Strict);
    assert!(
        strict
            .unwrap_err()
            .to_string()
            .starts_with("strict decoding error: duplicate field")
    );
}

#[test]
fn defaults_fill_what_is_absent_or_null() {
    let kind = version(schema());
    let version = kind.custom.as_ref().unwrap();
    let mut object = json!({"spec": {"color": null, "nothing": null, "free": null}});
    version.fill_defaults(&mut object);
    assert_eq!(object, json!({"spec": {"color": "red", "nothing": null}}));
    let mut stored = json!({"spec": {"gone": 1}});
    version.show(&mut stored);
    assert_eq!(stored, json!({"spec": {"color": "red"}}));
}

#[test]
fn a_scale_is_where_the_definition_says() {
    let kind = version(schema());
    let version = kind.custom.as_ref().unwrap();
    let mut object = json!({"status": {"replicas": 2, "selector": "a=b"}});
    version.set_replicas(&mut object, 3);
    assert_eq!(version.scale(&object), Some((3, 2, "a=b".to_owned())));
}

#[test]
fn server_side_apply_knows_the_schema() {
    use crate::apply::{Writer, apply};
    let list = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"ports": {
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
        "items": {"type": "object", "required": ["port"], "properties": {
            "port": {"type": "integer"}, "name": {"type": "string"}}}}}}}});
    let kind = version(list);
    let config = |port: i64| {
        json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"},
            "spec": {"ports": [{"port": port, "name": "n"}]}})
    };
    let writer = |manager| Writer {
        manager,
        subresource: "",
        time: "2026-01-01T00:00:00Z",
    };
    let first = apply(&kind, None, &config(1), &writer("a"), false).unwrap();
    let both = apply(&kind, Some(&first), &config(2), &writer("b"), false).unwrap();
    assert_eq!(both["spec"]["ports"].as_array().unwrap().len(), 2);
    let fields = &both["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ports"];
    assert!(fields.get("k:{\"port\":1}").is_some(), "{fields}");
}
