//! The parsers of what strangers send: whatever it is, they answer, and what they take they take again.
//!
//! Each property starts from samples of what clients really send and distorts them, so that most inputs are almost
//! right; that is where parsers break. A case that ever broke one is kept in `parsers.proptest-regressions`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use api::patch::{self, PatchError};
use api::schema::{self, FieldValidation};
use api::{kinds, pod_security, quantity, quota, selector};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

const LABEL_SELECTORS: &[&str] = &[
    "a=b,c!=d",
    "app in (a, b),tier notin (c),x,!y",
    "k8s.io/name==v",
    "a>1,b<2",
    "a in ()",
    ",",
    "a in (a,)",
];

const FIELD_SELECTORS: &[&str] = &[
    "metadata.name=a",
    "status.phase!=Running,spec.nodeName=",
    "metadata.name==a\\,b\\=c\\\\",
    "spec.nodeName",
];

const QUANTITIES: &[&str] = &[
    "100m",
    "1.5Gi",
    "-0.5",
    "1e3",
    "12E-3",
    "+.5",
    "9223372036854775807Ei",
    "0x1",
    "",
];

const PATCHES: &[&str] = &[
    r#"[{"op":"add","path":"/metadata/labels/a~1b","value":{}},{"op":"test","path":"","value":null}]"#,
    r#"[{"op":"move","from":"/spec","path":"/spec/containers/-"},{"op":"copy","from":"/a/0","path":"/b"}]"#,
    r#"[{"op":"remove","path":"/spec/containers/18446744073709551616"},{"op":"replace","path":"a"}]"#,
    r#"{"spec":{"containers":[{"name":"c","image":"j"},{"$patch":"delete","name":"d"}],"$setElementOrder/containers":[{"name":"c"}]}}"#,
    r#"{"metadata":{"finalizers":["a"],"$deleteFromPrimitiveList/finalizers":["b"],"labels":{"$patch":"replace"}}}"#,
    r#"{"spec":{"$retainKeys":["containers"],"volumes":[{"name":"v","$retainKeys":["name"]}],"tolerations":null}}"#,
    r#"{"metadata":null,"spec":{"containers":{"$patch":"replace"}}}"#,
];

/// Words that patches and selectors care for.
const WORDS: &[&str] = &[
    "",
    "$deleteFromPrimitiveList/finalizers",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "In",
    "containers",
    "delete",
    "finalizers",
    "key",
    "labels",
    "matchExpressions",
    "matchLabels",
    "metadata",
    "name",
    "operator",
    "replace",
    "spec",
    "values",
];

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["a", "b"]},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
            {"name": "d", "image": "i"}], "volumes": [{"name": "v", "emptyDir": {}}]}})
}

/// A sample with a few bytes changed, cut out or put in.
fn distorted(samples: &'static [&'static str]) -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<Index>(), 0..4u8, any::<u8>()), 0..6);
    (prop::sample::select(samples), edits).prop_map(|(sample, edits)| {
        let mut bytes = sample.as_bytes().to_vec();
        for (place, edit, byte) in edits {
            let place = place.index(bytes.len() + 1);
            match edit {
                0 => bytes.insert(place, byte),
                1 if place < bytes.len() => {
                    bytes.remove(place);
                }
                2 if place < bytes.len() => bytes[place] = byte,
                _ => bytes.extend_from_within(place..),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// JSON of any shape.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(WORDS);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let fields = prop::collection::vec((word.clone(), inner.clone()), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Value::from),
            fields.prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// A patch either applies or is refused with words, and so is what it makes of an object.
fn try_patch(patch: &Value) {
    let pod = pod();
    let schema = "io.k8s.api.core.v1.Pod";
    for patched in [
        patch::json(&pod, patch),
        patch::merge(&pod, patch),
        patch::strategic(schema, &pod, patch),
    ] {
        match patched {
            Ok(patched) => {
                if let Err(error) = schema::decode_value(schema, patched, FieldValidation::Strict) {
                    assert!(!error.to_string().is_empty());
                }
            }
            Err(PatchError::Malformed(why) | PatchError::TooLarge(why) | PatchError::DoesNotApply(why)) => {
                assert!(!why.is_empty())
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn label_selectors(text in distorted(LABEL_SELECTORS)) {
        match selector::parse_labels(&text) {
            Ok(selector) => {
                let again = selector::parse_labels(&selector.to_text()).unwrap();
                prop_assert_eq!(again.to_text(), selector.to_text());
                selector.matches(&json!({"a": "b", "tier": "c"}));
            }
            Err(why) => prop_assert!(!why.is_empty()),
        }
    }

    #[test]
    fn field_selectors(text in distorted(FIELD_SELECTORS)) {
        let pods = kinds::by_resource("", "v1", "pods").unwrap();
        if let Ok(selector) = selector::parse_fields(pods, &text) {
            selector.matches(&pod());
        }
    }

    #[test]
    fn quantities(text in distorted(QUANTITIES)) {
        if let Ok(canonical) = quantity::canonical(&text) {
            prop_assert_eq!(quantity::canonical(&canonical), Ok(canonical.clone()));
            prop_assert_eq!(quantity::parse(&text), quantity::parse(&canonical));
        }
    }

    #[test]
    fn patches_as_clients_almost_send_them(text in distorted(PATCHES)) {
        if let Ok(patch) = serde_json::from_str::<Value>(&text) {
            try_patch(&patch);
        }
    }

    #[test]
    fn patches_of_any_shape(patch in any_json()) {
        try_patch(&patch);
    }

    #[test]
    fn selectors_of_any_shape(value in any_json()) {
        if let Ok(selector) = selector::LabelSelector::from_object(&value) {
            selector.matches(&json!({"name": "spec"}));
        }
    }

    #[test]
    fn objects_of_any_shape(value in any_json()) {
        let pods = kinds::by_resource("", "v1", "pods").unwrap();
        if let Ok(decoded) = schema::decode_value("io.k8s.api.core.v1.Pod", value, FieldValidation::Warn) {
            let mut object = decoded.object;
            api::defaults::apply(pods, &mut object);
            api::validation::create(pods, &object);
            quota::usage("", "pods", &object, 0);
            let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
            let (policy, _) = pod_security::Policy::of(&labels);
            if let Some((metadata, spec)) = pod_security::pod_of("", "Pod", &object) {
                pod_security::violations(policy.enforce, metadata, spec);
            }
        }
    }
}
