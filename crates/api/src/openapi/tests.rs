//! Documents: complete, consistent in themselves, and the same in every encoding.

use super::*;
use std::collections::BTreeMap;

/// Every `$ref` of the document.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let check = |document: &Value| {
        let mut found = BTreeSet::new();
        references(document, &mut found);
        assert!(found.len() > 5);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    };
    check(&v2_document(&[]));
    for path in v3_index(&[])["paths"].as_object().unwrap().keys() {
        check(&v3_document(path, &[]).unwrap());
    }
    assert_eq!(v3_document("apis/nonsense/v1", &[]), None);
}

#[test]
fn every_served_kind_is_described_with_its_operations() {
    let mut documents = std::collections::HashMap::new();
    for kind in kinds() {
        let path = group_path(kind);
        let document = documents
            .entry(path.clone())
            .or_insert_with(|| v3_document(&path, &[]).unwrap());
        let schema = &document["components"]["schemas"][kind.schema];
        let own = json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
        assert_eq!(schema["x-kubernetes-group-version-kind"], own, "{}", kind.schema);
        assert!(schema["description"].is_string(), "{} has no description", kind.schema);
        // Upstream says nothing of this one either.
        if kind.kind != "CertificateSigningRequest" {
            let metadata = &schema["properties"]["metadata"];
            assert!(metadata["description"].is_string(), "{}", kind.schema);
        }
        let patches = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(|item| item.get("patch"));
        let patch = patches
            .into_iter()
            .find(|patch| patch["x-kubernetes-group-version-kind"] == own[0])
            .unwrap();
        let names: Vec<&Value> = patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|found| &found["name"])
            .collect();
        assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
        assert_eq!(patch["requestBody"]["content"].as_object().unwrap().len(), 4);
    }
}

/// Lists without members are left out, so that a Go client that writes what it read and reads it again has the same
/// document: Go's decoder tells an empty list from an absent one, and its encoder does not.
#[test]
fn no_list_of_parameters_is_empty() {
    let check = |document: &Value| {
        for (path, item) in document["paths"].as_object().unwrap() {
            let item = item.as_object().unwrap();
            assert_ne!(item.get("parameters"), Some(&json!([])), "{path}");
            for (method, operation) in item {
                assert_ne!(operation.get("parameters"), Some(&json!([])), "{method} {path}");
            }
        }
    };
    check(&v2_document(&[]));
    for path in v3_index(&[])["paths"].as_object().unwrap().keys() {
        check(&v3_document(path, &[]).unwrap());
    }
}

#[test]
fn identifiers_of_operations_are_unique() {
    let document = v2_document(&[]);
    let mut seen = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item
            .as_object()
            .unwrap()
            .values()
            .filter(|operation| operation.is_object())
        {
            assert!(
                seen.insert(operation["operationId"].as_str().unwrap()),
                "{path} {}",
                operation["operationId"]
            );
        }
    }
}

/// What `kubectl explain` says of the metadata of a custom resource, in whose document nothing else has any.
#[test]
fn metadata_is_described_without_other_kinds() {
    let metadata = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let prose = prose::Prose::of(&BTreeSet::from([metadata]));
    let described = prose.get(metadata, "creationTimestamp").unwrap();
    assert!(described.starts_with("CreationTimestamp is a timestamp"), "{described}");
}

/// What `kubectl apply` and `explain` read of a pod, as kube-apiserver 1.36 publishes it.
#[test]
fn fields_are_as_upstream_publishes_them() {
    let document = v3_document("api/v1", &[]).unwrap();
    let pod_spec = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"];
    let mut containers = pod_spec["properties"]["containers"].clone();
    assert!(containers.as_object_mut().unwrap().remove("description").is_some());
    let expected = json!({
        "type": "array",
        "items": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"},
        "x-kubernetes-list-map-keys": ["name"], "x-kubernetes-list-type": "map",
        "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge",
    });
    assert_eq!(containers, expected);
}

/// A message, decoded without knowing what it is: field number → values in order.
#[derive(Default)]
struct Decoded<'a>(BTreeMap<u64, Vec<&'a [u8]>>);

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

impl<'a> Decoded<'a> {
    fn of(mut bytes: &'a [u8]) -> Self {
        let mut found = Self::default();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => {
                    let start = bytes;
                    varint(&mut bytes);
                    &start[..start.len() - bytes.len()]
                }
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    let (value, rest) = bytes.split_at(length);
                    bytes = rest;
                    value
                }
                other => panic!("wire type {other}"),
            };
            found.0.entry(tag >> 3).or_default().push(value);
        }
        found
    }

    fn all(&self, number: u64) -> &[&'a [u8]] {
        self.0.get(&number).map_or(&[], Vec::as_slice)
    }

    fn text(&self, number: u64) -> &'a str {
        self.all(number)
            .first()
            .map_or("", |bytes| std::str::from_utf8(bytes).unwrap())
    }

    fn inner(&self, number: u64) -> Self {
        self.all(number)
            .first()
            .map_or_else(Self::default, |bytes| Self::of(bytes))
    }

    /// A repeated `Named…`.
    fn named(&self, number: u64) -> BTreeMap<&'a str, Self> {
        let entries = self.all(number).iter().map(|entry| Decoded::of(entry));
        entries.map(|entry| (entry.text(1), entry.inner(2))).collect()
    }
}

#[test]
fn the_protobuf_says_what_the_json_says() {
    let json = v2_document(&[]);
    let bytes = v2_protobuf(&[]);
    let document = Decoded::of(&bytes);
    assert_eq!(document.text(1), "2.0");
    assert_eq!(document.inner(2).text(1), TITLE);
    let definitions = document.inner(9).named(1);
    let expected = json["definitions"].as_object().unwrap();
    assert_eq!(definitions.len(), expected.len());
    for (name, schema) in expected {
        same_schema(schema, &definitions[name.as_str()]);
    }
    let paths = document.inner(8).named(2);
    assert_eq!(paths.len(), json["paths"].as_object().unwrap().len());
    let path = "/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}";
    let patch = paths[path].inner(8);
    let extensions = patch.named(13);
    let kind: Value = serde_json::from_str(extensions["x-kubernetes-group-version-kind"].text(2)).unwrap();
    assert_eq!(kind, json!({"group": "apps", "version": "v1", "kind": "StatefulSet"}));
    // ParametersItem.parameter → non_body_parameter → query_parameter_sub_schema → name
    let names: Vec<&str> = patch
        .all(8)
        .iter()
        .map(|found| Decoded::of(found).inner(1).inner(2).inner(3).text(4))
        .collect();
    assert_eq!(names, ["", "dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(Decoded::of(patch.all(8)[0]).inner(1).inner(1).text(2), "body");
    let response = &patch.inner(9).named(1)["200"];
    assert_eq!(
        response.inner(1).inner(2).inner(1).text(1),
        "#/definitions/io.k8s.api.apps.v1.StatefulSet"
    );
}

#[test]
fn the_protobuf_has_all_that_a_custom_schema_says() {
    let property =
        json!({"type": "string", "title": "Color", "pattern": "^a+$", "default": "red", "enum": ["red", "blue"]});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"color": property,
        "map": {"type": "object", "additionalProperties": {"type": "string"}}}}}});
    let definition = json!({
        "spec": {"group": "example.com", "scope": "Namespaced",
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        "status": {"acceptedNames": {"plural": "tabs", "kind": "Tab", "listKind": "TabList"},
            "conditions": [{"type": "Established", "status": "True"}]},
    });
    let kinds: Vec<_> = custom::kinds(&definition).into_iter().map(Arc::new).collect();
    let bytes = v2_protobuf(&kinds);
    let definitions = Decoded::of(&bytes).inner(9).named(1);
    let properties = definitions["com.example.v1.Tab"].inner(25).named(1);
    assert!(properties.contains_key("metadata") && properties.contains_key("kind"));
    let spec = properties["spec"].inner(25).named(1);
    let color = &spec["color"];
    assert_eq!((color.text(3), color.text(13)), ("Color", "^a+$"));
    assert_eq!(color.inner(5).text(2).trim(), "\"red\"");
    assert_eq!(color.all(20).len(), 2);
    assert_eq!(spec["map"].inner(21).inner(1).inner(22).text(1), "string");
    assert!(definitions.contains_key("com.example.v1.TabList"));
}

fn same_schema(json: &Value, message: &Decoded<'_>) {
    let text = |name: &str| json[name].as_str().unwrap_or_default();
    assert_eq!(message.text(1), text("$ref"));
    assert_eq!(message.text(2), text("format"));
    assert_eq!(message.text(4), text("description"));
    assert_eq!(message.inner(22).text(1), text("type"));
    let required: Vec<&str> = message
        .all(19)
        .iter()
        .map(|name| std::str::from_utf8(name).unwrap())
        .collect();
    let expected: Vec<&str> = json["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(required, expected);
    for (name, extension) in message.named(31) {
        assert_eq!(serde_json::from_str::<Value>(extension.text(2)).unwrap(), json[name]);
    }
    let properties = message.inner(25).named(1);
    let expected = json["properties"].as_object().map_or(0, Map::len);
    assert_eq!(properties.len(), expected);
    for (name, property) in properties {
        same_schema(&json["properties"][name], &property);
    }
    for (name, number) in [("items", 23), ("additionalProperties", 21)] {
        if json.get(name).is_some() {
            same_schema(&json[name], &message.inner(number).inner(1));
        }
    }
}
