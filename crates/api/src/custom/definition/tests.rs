use super::*;
use serde_json::json;

fn definition(schema: Value) -> Value {
    let mut definition = json!({
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    fill_defaults(&mut definition);
    definition
}

fn errors(definition: &Value) -> Vec<String> {
    validate(definition, None).iter().map(ToString::to_string).collect()
}

fn of_schema(schema: Value) -> Vec<String> {
    errors(&definition(schema))
}

#[test]
fn defaults_follow_from_the_kind() {
    let definition = definition(json!({"type": "object"}));
    assert_eq!(definition["spec"]["names"]["singular"], "crontab");
    assert_eq!(definition["spec"]["names"]["listKind"], "CronTabList");
    assert_eq!(definition["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(errors(&definition), Vec::<String>::new());
}

#[test]
fn a_webhook_keeps_its_url_or_service() {
    let mut definition = definition(json!({"type": "object"}));
    let by_url = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a"},
        "conversionReviewVersions": ["v1"]}});
    definition["spec"]["conversion"] = by_url.clone();
    fill_defaults(&mut definition);
    assert_eq!(definition["spec"]["conversion"], by_url);
    definition["spec"]["conversion"]["webhook"]["clientConfig"] = json!({"service": {"name": "a", "namespace": "b"}});
    fill_defaults(&mut definition);
    assert_eq!(
        definition["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["port"],
        443
    );
}

#[test]
fn the_name_is_made_of_plural_and_group() {
    let mut definition = definition(json!({"type": "object"}));
    definition["metadata"]["name"] = json!("tabs.example.com");
    assert_eq!(
        errors(&definition),
        [r#"metadata.name: Invalid value: "tabs.example.com": must be spec.names.plural+"."+spec.group"#]
    );
}

#[test]
fn schemas_are_structural() {
    let root = "spec.validation.openAPIV3Schema";
    assert_eq!(
        of_schema(json!({"properties": {"spec": {}}})),
        [
            format!("{root}.properties[spec].type: Required value: must not be empty for specified object fields"),
            format!("{root}.type: Required value: must not be empty at the root"),
        ]
    );
    let junctor = json!({"type": "object", "properties": {"spec": {"type": "object",
        "anyOf": [{"properties": {"a": {"type": "string"}}}]}}});
    assert_eq!(
        of_schema(junctor),
        [
            format!("{root}.properties[spec].anyOf[0].properties[a].type: Forbidden: must be empty to be structural"),
            format!(
                "{root}.properties[spec].properties[a]: Required value: because it is defined in \
                 {root}.properties[spec].anyOf[0].properties[a]"
            ),
        ]
    );
    let int_or_string = json!({"type": "object", "properties": {"port": {"x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}]}}});
    assert_eq!(of_schema(int_or_string), Vec::<String>::new());
}

#[test]
fn defaults_are_valid_and_known() {
    let root = "spec.validation.openAPIV3Schema.properties[spec]";
    let wrong = json!({"type": "object", "properties": {"spec": {"type": "object", "default": {"b": 1},
        "properties": {"a": {"type": "integer", "default": "x"}}}}});
    assert_eq!(
        of_schema(wrong),
        [
            format!(r#"{root}.default: Invalid value: {{"b":1}}: must not have unknown fields"#),
            format!(
                r#"{root}.properties[a].default: Invalid value: "string":  in body must be of type integer: "string""#
            ),
        ]
    );
}

#[test]
fn map_lists_have_keys_that_are_there() {
    let list = json!({"type": "object", "properties": {"list": {"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "properties": {"name": {"type": "string"}}}}}});
    let found = of_schema(list);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("so it must have a default or be a required property"),
        "{found:?}"
    );
}

#[test]
fn selectable_fields_are_scalars_of_the_schema() {
    let mut definition = definition(json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"color": {"type": "string"}, "list": {"type": "array", "items": {"type": "string"}}}}}}));
    let version = &mut definition["spec"]["versions"][0];
    version["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
    assert_eq!(errors(&definition), Vec::<String>::new());
    definition["spec"]["versions"][0]["selectableFields"] =
        json!([{"jsonPath": ".spec.list"}, {"jsonPath": ".spec.x"}]);
    assert_eq!(errors(&definition).len(), 2);
}

#[test]
fn what_storage_hangs_on_cannot_change() {
    let mut old = definition(json!({"type": "object"}));
    note_storage(&mut old);
    assert_eq!(old["status"]["storedVersions"], json!(["v1"]));
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    new["spec"]["versions"][0]["name"] = json!("v2");
    let found: Vec<String> = validate(&new, Some(&old)).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            r#"spec.scope: Invalid value: "Cluster": field is immutable"#,
            r#"status.storedVersions[0]: Invalid value: "v1": must appear in spec.versions"#,
        ]
    );
}
