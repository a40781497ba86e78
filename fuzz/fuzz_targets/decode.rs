//! Objects in JSON, through everything that a create does to them before they are stored. The first byte is the kind.

#![no_main]

use api::schema::{self, FieldValidation};
use api::{columns, defaults, pod_security, quota, strategy, validation};
use serde_json::json;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, text)) = input.split_first() else {
        return;
    };
    let kind = fuzz::kind(*choice);
    let strict = schema::decode(kind.schema, text, FieldValidation::Strict);
    let Ok(decoded) = schema::decode(kind.schema, text, FieldValidation::Warn) else {
        assert!(strict.is_err(), "strict is milder than lenient");
        return;
    };
    assert_eq!(strict.is_ok(), decoded.warnings.is_empty());
    let mut object = decoded.object;
    strategy::prepare_create(kind, &mut object);
    defaults::apply(kind, &mut object);
    let mut again = object.clone();
    defaults::apply(kind, &mut again);
    assert_eq!(again, object, "defaults of defaults");
    validation::create(kind, &object);
    validation::warnings(kind, &object, None);
    columns::cells(kind, &object, 1_800_000_000);
    quota::usage(kind.group, kind.plural, &object, 1_800_000_000);
    let (policy, _) = pod_security::Policy::of(&json!({"pod-security.kubernetes.io/enforce": "restricted"}));
    if let Some((metadata, spec)) = pod_security::pod_of(kind.group, kind.kind, &object) {
        pod_security::violations(policy.enforce, metadata, spec);
    }
});
