//! Decoding, against what kube-apiserver 1.36 answered to the same bodies.

use super::*;
use proptest::prelude::*;
use serde_json::json;

const SET: &str = "io.k8s.api.apps.v1.StatefulSet";
const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";
const POD: &str = "io.k8s.api.core.v1.Pod";

fn strict(schema: &str, text: &str) -> String {
    decode(schema, text.as_bytes(), FieldValidation::Strict)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_wrong_type_is_told_in_gos_words() {
    let check = |schema: &str, text: &str, message: &str| {
        let error = decode(schema, text.as_bytes(), FieldValidation::Warn).unwrap_err();
        assert_eq!(error, DecodeError::Malformed(message.to_owned()));
    };
    check(
        SET,
        r#"{"spec":{"replicas":"3"}}"#,
        "json: cannot unmarshal string into Go struct field StatefulSetSpec.spec.replicas of type int32",
    );
    check(
        SET,
        r#"{"metadata":{"labels":{"a":1}}}"#,
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    );
    check(
        POD,
        r#"{"spec":{"containers":[{"image":["x"]}]}}"#,
        "json: cannot unmarshal array into Go struct field Container.spec.containers.image of type string",
    );
    check(
        POD,
        r#"{"spec":{"containers":{}}}"#,
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    );
    check(
        SET,
        r#"{"spec":{"replicas":1.5}}"#,
        "json: cannot unmarshal number 1.5 into Go struct field StatefulSetSpec.spec.replicas of type int32",
    );
    check(
        SET,
        r#"{"spec":{"replicas":3000000000}}"#,
        "json: cannot unmarshal number 3000000000 into Go struct field StatefulSetSpec.spec.replicas of type int32",
    );
    check(
        POD,
        r#"{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":true}}}]}}"#,
        "json: cannot unmarshal bool into Go value of type int32",
    );
    check(
        POD,
        r#"{"metadata":{"creationTimestamp":"soon"}}"#,
        r#"parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006""#,
    );
    check(
        "io.k8s.api.core.v1.Secret",
        r#"{"data":{"a":"a-b"}}"#,
        "illegal base64 data at input byte 1",
    );
}

#[test]
fn the_whole_message_of_a_wrong_type() {
    assert_eq!(
        format!(
            "{}{}",
            cannot_be_handled(SET),
            strict(SET, r#"{"spec":{"replicas":"3"}}"#)
        ),
        "StatefulSet in version \"v1\" cannot be handled as a StatefulSet: json: cannot unmarshal string into Go \
         struct field StatefulSetSpec.spec.replicas of type int32"
    );
}

#[test]
fn unknown_and_duplicate_fields_in_the_order_of_the_text() {
    let text = r#"{"metadata":{"name":"g","foo":1},"dat":{},"data":{"a":"1","a":"2"}}"#;
    let problems = [
        "unknown field \"metadata.foo\"",
        "unknown field \"dat\"",
        "duplicate field \"data.a\"",
    ];
    assert_eq!(
        strict(CONFIG_MAP, text),
        format!("strict decoding error: {}", problems.join(", "))
    );
    let decoded = decode(CONFIG_MAP, text.as_bytes(), FieldValidation::Warn).unwrap();
    assert_eq!(decoded.warnings, problems);
    assert_eq!(decoded.object, json!({"metadata": {"name": "g"}, "data": {"a": "2"}}));
    assert!(
        decode(CONFIG_MAP, text.as_bytes(), FieldValidation::Ignore)
            .unwrap()
            .warnings
            .is_empty()
    );
    assert_eq!(
        strict(
            SET,
            r#"{"spec":{"template":{"spec":{"containers":[{"Image":"i"}],"x":1}},"replicas":1,"replicas":2}}"#
        ),
        "strict decoding error: unknown field \"spec.template.spec.containers[0].Image\", \
         unknown field \"spec.template.spec.x\", duplicate field \"spec.replicas\""
    );
}

#[test]
fn text_that_is_no_json() {
    let check = |text: &str, reason: &str| {
        let message = decode(CONFIG_MAP, text.as_bytes(), FieldValidation::Warn)
            .unwrap_err()
            .to_string();
        let whole = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; \
                     json parse error: ";
        assert_eq!(message, format!("{whole}{reason}"));
    };
    check(r#"{"metadata":"#, r#"unexpected end of JSON input ({"metadata":)"#);
    check("", "unexpected end of JSON input (<empty>)");
    check(
        "hello",
        "invalid character 'h' looking for beginning of value (68656c6c6f)",
    );
    check(
        r#"{"a":1 "b":2}"#,
        r#"invalid character '"' after object key:value pair ({"a":1 "b":2})"#,
    );
    check(r#"{} x"#, "invalid character 'x' after top-level value ({} x)");
    let deep = format!("{{\"data\":{}", "[".repeat(1000));
    assert!(strict("io.k8s.api.apps.v1.ControllerRevision", &deep).contains("exceeded max depth"));
}

#[test]
fn null_is_absent_and_raw_values_stay() {
    let text = r#"{"metadata":{"name":null,"labels":{"a":null}},"spec":{"containers":[null]}}"#;
    let decoded = decode(POD, text.as_bytes(), FieldValidation::Strict).unwrap();
    assert_eq!(
        decoded.object,
        json!({"metadata": {"labels": {"a": ""}}, "spec": {"containers": [{}]}})
    );
    let revision = json!({"data": {"spec": {"x": null, "$patch": "replace"}}, "revision": 1});
    let decoded = decode_value(
        "io.k8s.api.apps.v1.ControllerRevision",
        revision.clone(),
        FieldValidation::Strict,
    );
    assert_eq!(decoded.unwrap().object, revision);
}

#[test]
fn a_type_without_schema_takes_anything() {
    let decoded = decode("org.example.Nothing", br#"{"a":{"b":null}}"#, FieldValidation::Strict).unwrap();
    assert_eq!(decoded.object, json!({"a": {"b": null}}));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        "metadata",
        "spec",
        "labels",
        "containers",
        "name",
        "image",
        "template",
        "[a-z]{1,3}"
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn decoding_twice_is_decoding_once(value in any_json()) {
        if let Ok(once) = decode_value(POD, value, FieldValidation::Warn) {
            let twice = decode_value(POD, once.object.clone(), FieldValidation::Strict).unwrap();
            prop_assert_eq!(twice.object, once.object);
        }
    }

    #[test]
    fn text_and_value_decode_alike(value in any_json()) {
        let text = value.to_string();
        let from_text = decode(SET, text.as_bytes(), FieldValidation::Warn);
        match decode_value(SET, value, FieldValidation::Warn) {
            Ok(decoded) => prop_assert_eq!(decoded, from_text.unwrap()),
            Err(error) => prop_assert_eq!(error, from_text.unwrap_err()),
        }
    }
}
