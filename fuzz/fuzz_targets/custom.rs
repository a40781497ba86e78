//! Definitions of custom resources, and objects of what they define. The definition's schema is before the line end, an
//! object behind.

#![no_main]

use api::schema::FieldValidation;
use api::{custom, defaults, kinds, validation};
use serde_json::json;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (schema, object) = fuzz::halves(input);
    let Some(schema) = fuzz::json(schema) else {
        return;
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let definitions =
        kinds::by_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition").expect("it is in the table");
    if !validation::create(definitions, &definition).is_empty() {
        return;
    }
    for kind in custom::kinds(&definition) {
        let Some(version) = &kind.custom else { continue };
        if let Ok(decoded) = version.decode(object, FieldValidation::Warn) {
            let mut object = decoded.object;
            defaults::apply(&kind, &mut object);
            validation::create(&kind, &object);
            version.show(&mut object);
        }
    }
});
