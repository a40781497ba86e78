//! The types of custom resources in the OpenAPI documents.

use super::Version;
use crate::kinds::Kind;
use serde_json::{Map, Value, json};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
/// Types of the table that the types of custom resources refer to.
pub(crate) const REFERENCED: [&str; 2] = [OBJECT_META, LIST_META];

const API_VERSION: &str = "APIVersion defines in which version of its group's schema the object is written.";
const KIND: &str = "The kind of the object, in CamelCase.";
const METADATA: &str = "Standard object's metadata.";

/// The name of a type in documents: the group's parts backwards, the version, the kind.
pub(crate) fn type_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

/// The name of the type of lists.
pub(crate) fn list_name(kind: &Kind, version: &Version) -> String {
    type_name(kind.group, kind.version, version.list_kind)
}

/// The types of a kind and of its lists by name. OpenAPI 2 can say less than 3, and kubectl reads more into it.
pub(crate) fn types(kind: &Kind, version: &Version, is_v2: bool) -> Vec<(String, Value)> {
    let reference = |name: &str| match is_v2 {
        true => format!("#/definitions/{name}"),
        false => format!("#/components/schemas/{name}"),
    };
    let metadata = |name: &str| match is_v2 {
        true => json!({"$ref": reference(name), "description": METADATA}),
        false => json!({"allOf": [{"$ref": reference(name)}], "default": {}, "description": METADATA}),
    };
    let of = |kind_name: &str| json!([{"group": kind.group, "version": kind.version, "kind": kind_name}]);
    let preserves = version.props["x-kubernetes-preserve-unknown-fields"] == true;
    let mut own = if !version.props.is_object() || (is_v2 && preserves) {
        json!({"type": "object"})
    } else {
        let mut own = if is_v2 {
            reduce(&version.props)
        } else {
            version.props.clone()
        };
        own["properties"]["apiVersion"] = json!({"type": "string", "description": API_VERSION});
        own["properties"]["kind"] = json!({"type": "string", "description": KIND});
        own["properties"]["metadata"] = metadata(OBJECT_META);
        embedded(&mut own, &metadata(OBJECT_META));
        own
    };
    own["x-kubernetes-group-version-kind"] = of(kind.kind);
    let item = json!({"$ref": reference(kind.schema)});
    let list = json!({
        "type": "object", "required": ["items"],
        "description": format!("{} is a list of {}", version.list_kind, kind.kind),
        "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "kind": {"type": "string", "description": KIND},
            "metadata": metadata(LIST_META),
            "items": {"type": "array", "items": item, "description": format!("List of {}.", kind.plural)},
        },
        "x-kubernetes-group-version-kind": of(version.list_kind),
    });
    vec![(kind.schema.to_owned(), own), (list_name(kind, version), list)]
}

/// Gives the objects inside the type, metadata as well.
fn embedded(schema: &mut Value, metadata: &Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    if fields.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        let properties = fields.entry("properties").or_insert_with(|| json!({}));
        properties["apiVersion"] = json!({"type": "string", "description": API_VERSION});
        properties["kind"] = json!({"type": "string", "description": KIND});
        properties["metadata"] = metadata.clone();
    }
    for name in ["properties"] {
        for (_, inner) in fields
            .get_mut(name)
            .and_then(Value::as_object_mut)
            .into_iter()
            .flatten()
        {
            embedded(inner, metadata);
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            embedded(inner, metadata);
        }
    }
}

/// What OpenAPI 2 can say of a schema, and kubectl understands.
fn reduce(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else {
        return schema.clone();
    };
    let mut reduced: Map<String, Value> = fields.clone();
    for name in ["allOf", "anyOf", "oneOf", "not"] {
        reduced.remove(name);
    }
    let flag = |name: &str| fields.get(name) == Some(&Value::Bool(true));
    if flag("nullable") {
        for name in ["type", "nullable", "items", "properties"] {
            reduced.remove(name);
        }
    }
    if flag("x-kubernetes-preserve-unknown-fields") {
        for name in ["items", "properties"] {
            reduced.remove(name);
        }
        // Old clients take an object without named fields for one that may have none.
        if reduced.get("type") == Some(&json!("object")) {
            reduced.remove("type");
        }
    }
    // Nor can they read a list of which they know no items.
    if reduced.get("type") == Some(&json!("array")) && !reduced.contains_key("items") {
        reduced.remove("type");
    }
    drop_nullable_from_required(fields, &mut reduced);
    if let Some(properties) = reduced.get_mut("properties").and_then(Value::as_object_mut) {
        for inner in properties.values_mut() {
            *inner = reduce(inner);
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = reduced.get_mut(name) {
            *inner = reduce(inner);
        }
    }
    Value::Object(reduced)
}

/// A field that may be null cannot be required where null means absent.
fn drop_nullable_from_required(fields: &Map<String, Value>, reduced: &mut Map<String, Value>) {
    let properties = fields.get("properties");
    let nullable = |name: &Value| {
        let of = properties.and_then(|of| of.get(name.as_str()?));
        of.is_some_and(|of| of["nullable"] == true)
    };
    if let Some(required) = reduced.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !nullable(name));
        if required.is_empty() {
            reduced.remove("required");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_backwards() {
        assert_eq!(
            type_name("stable.example.com", "v1", "CronTab"),
            "com.example.stable.v1.CronTab"
        );
    }

    #[test]
    fn what_openapi_2_cannot_say_is_left_out() {
        let schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "nullable": true, "anyOf": [{}]},
            "b": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"x": {}}}}});
        assert_eq!(
            reduce(&schema),
            json!({"type": "object", "required": ["b"], "properties": {
                "a": {}, "b": {"x-kubernetes-preserve-unknown-fields": true}}})
        );
    }
}
