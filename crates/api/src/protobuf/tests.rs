//! Bodies both ways, those of upstream among them, and hostile ones.

use super::fields::Form;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A field of wire type 2.
fn bytes(number: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 128, "one byte of length is enough for tests");
    [&[number << 3 | 2, length], content].concat()
}

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version), bytes(2, kind)].concat();
    [
        MAGIC.to_vec(),
        bytes(1, type_meta),
        bytes(2, raw),
        bytes(3, ""),
        bytes(4, ""),
    ]
    .concat()
}

#[test]
fn metadata_maps_and_empty_texts() {
    let label = [bytes(1, "a"), bytes(2, "b")].concat();
    // What Go sends: also the empty texts and the zero time.
    let metadata = [
        bytes(1, "cm"),
        bytes(2, ""),
        bytes(3, ""),
        number(7, 0),
        bytes(8, ""),
        bytes(11, label),
    ]
    .concat();
    let data = [bytes(1, "k"), bytes(2, "")].concat();
    let binary = [bytes(1, "b"), bytes(2, [1, 2, 3])].concat();
    let raw = [bytes(1, metadata), bytes(2, data), bytes(3, binary)].concat();
    let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": ""}, "binaryData": {"b": "AQID"},
        "metadata": {"name": "cm", "labels": {"a": "b"}}});
    assert_eq!(decode(&body("v1", "ConfigMap", &raw)), Ok(expected));
}

#[test]
fn inlined_messages_quantities_and_ports() {
    let secret = bytes(1, "s");
    let volume = [bytes(1, "v"), bytes(2, bytes(6, secret))].concat();
    let limit = [bytes(1, "cpu"), bytes(2, bytes(1, "100m"))].concat();
    let resources = bytes(1, limit);
    let get = [bytes(1, "/"), bytes(2, [number(1, 1), bytes(3, "web")].concat())].concat();
    let probe = bytes(1, bytes(2, get));
    let container = [bytes(1, "c"), bytes(8, resources), bytes(11, probe)].concat();
    let spec = [bytes(1, volume), bytes(2, container), number(4, 0)].concat();
    let pod = decode(&body("v1", "Pod", &bytes(2, spec))).unwrap();
    let expected = json!({
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
        "containers": [{"name": "c", "resources": {"limits": {"cpu": "100m"}},
            "readinessProbe": {"httpGet": {"path": "/", "port": "web"}}}],
        // A pointer: zero is not the same as absent.
        "terminationGracePeriodSeconds": 0,
    });
    assert_eq!(pod["spec"], expected);
}

#[test]
fn every_message_that_the_table_refers_to_is_in_it() {
    for schema in kinds::kinds().iter().map(|kind| kind.schema) {
        let message = of_schema(schema);
        assert!(fields::of(message).is_some(), "{message}");
    }
    for (message, field) in fields::all() {
        let refers = field.shape.strip_prefix('@');
        assert!(refers.is_none_or(|to| fields::of(to).is_some()), "{message}: {field:?}");
    }
}

#[test]
fn broken_bodies_are_errors() {
    assert_eq!(decode(b"{}"), Err(Error::Magic));
    let cut = &body("v1", "ConfigMap", &bytes(1, bytes(1, "cm")))[..20];
    assert_eq!(decode(cut), Err(Error::End));
    let unknown = Error::Kind {
        api_version: "v1".to_owned(),
        kind: "Nothing".to_owned(),
    };
    assert_eq!(decode(&body("v1", "Nothing", &[])), Err(unknown));
    assert_eq!(decode(&body("v1", "ConfigMap", &number(1, 1))), Err(Error::WireType(1)));
}

/// What kube-apiserver 1.36.1 sent for a ConfigMap, for a list with it, for its metadata, as a watch event and instead
/// of one that does not exist.
const MAP: &[u8] = include_bytes!("golden/cm.pb");
const LIST: &[u8] = include_bytes!("golden/list.pb");
const METADATA: &[u8] = include_bytes!("golden/pom.pb");
const EVENT: &[u8] = include_bytes!("golden/watch.pb");
const FAILURE: &[u8] = include_bytes!("golden/err.pb");

/// The envelope's content.
fn raw(body: &[u8]) -> &[u8] {
    let wire = Reader::new(body.strip_prefix(MAGIC).unwrap());
    field(wire, 2)
}

/// The first field of this number.
fn field(mut reader: Reader<'_>, wanted: u32) -> &[u8] {
    loop {
        let (number, wire) = reader.next().unwrap().unwrap();
        if number == wanted {
            return wire.bytes(number).unwrap();
        }
    }
}

#[test]
fn what_upstream_sends_is_understood_and_said_again() {
    let map = decode(MAP).unwrap();
    assert_eq!((&map["kind"], &map["data"]), (&json!("ConfigMap"), &json!({"k": "v"})));
    assert_eq!(map["metadata"]["managedFields"][0]["manager"], "curl");
    assert_eq!(
        map["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]["f:k"],
        json!({})
    );
    assert_eq!(decode(&encode(&map).unwrap()), Ok(map.clone()));
    let failure = decode(FAILURE).unwrap();
    assert_eq!(
        (&failure["reason"], &failure["code"]),
        (&json!("NotFound"), &json!(404))
    );
    assert_eq!(decode(&encode(&failure).unwrap()), Ok(failure));
}

#[test]
fn lists_metadata_and_events_have_upstreams_form() {
    let message = |name: &str, bytes: &[u8]| Value::Object(message_object(name, bytes, 0).unwrap());
    // A list: its item and its metadata, without envelopes of their own.
    let item = message("core.v1.ConfigMap", field(Reader::new(raw(LIST)), 2));
    let metadata = message("meta.v1.ListMeta", field(Reader::new(raw(LIST)), 1));
    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": [item]});
    let ours = encode(&list).unwrap();
    assert_eq!(message("core.v1.ConfigMap", field(Reader::new(raw(&ours)), 2)), item);
    assert_eq!(message("meta.v1.ListMeta", field(Reader::new(raw(&ours)), 1)), metadata);
    assert_eq!(ours[..20], LIST[..20]);
    // Metadata alone.
    let partial = decode(METADATA).unwrap();
    assert_eq!(decode(&encode(&partial).unwrap()), Ok(partial.clone()));
    let partial = message("meta.v1.PartialObjectMetadata", raw(METADATA));
    assert!(partial["metadata"]["name"].is_string(), "{partial}");
    let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": [partial]});
    let ours = encode(&list).unwrap();
    assert_eq!(
        message("meta.v1.PartialObjectMetadata", field(Reader::new(raw(&ours)), 2)),
        partial
    );
    // A watch event: a length, the type, and the object in its envelope.
    let event = |frame: &[u8]| {
        let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), frame.len() - 4);
        let (name, object) = (field(Reader::new(&frame[4..]), 1), field(Reader::new(&frame[4..]), 2));
        let object = decode(field(Reader::new(object), 1)).unwrap();
        (String::from_utf8(name.to_vec()).unwrap(), object)
    };
    let (name, object) = event(EVENT);
    assert_eq!(event(&frame(&name, &object).unwrap()), (name, object));
}

/// An object with every field of a message, as deep as that is worth.
fn full(message: &str, depth: usize) -> Value {
    let mut object = json!({});
    for (_, field) in fields::ordered(message) {
        let value = sample(field.shape, depth);
        if value.is_null() {
            continue;
        }
        match field.form {
            _ if field.name == "~" => {
                for (key, value) in value.as_object().unwrap() {
                    object[key] = value.clone();
                }
            }
            Form::One => object[field.name] = value,
            Form::Repeated => object[field.name] = json!([value, value]),
            Form::Map => object[field.name] = json!({"key": value}),
        }
    }
    object
}

fn sample(shape: &str, depth: usize) -> Value {
    if let Some(message) = shape.strip_prefix('@') {
        return if depth == 0 {
            Value::Null
        } else {
            full(message, depth - 1)
        };
    }
    match shape {
        "string" => json!("text"),
        "bytes" => json!("AQID"),
        "int" => json!(-7),
        "bool" => json!(true),
        "double" => json!(1.5),
        "quantity" => json!("100m"),
        "items" => json!(["a", "b"]),
        "json" => json!({"a": [1, null]}),
        "intorstring" => json!("http"),
        "time" => json!("2026-11-22T08:36:00Z"),
        "microtime" => json!("2026-11-22T08:36:00.000250Z"),
        "schema-or-array" => json!([{"type": "string"}]),
        "schema-or-bool" => json!(false),
        "schema-or-strings" => json!(["a"]),
        other => panic!("no sample of {other}"),
    }
}

#[test]
fn every_field_of_every_kind_goes_there_and_back() {
    for kind in kinds::kinds() {
        let mut object = full(of_schema(kind.schema), 4);
        object["kind"] = json!(kind.kind);
        object["apiVersion"] = json!(kind.api_version());
        let bytes = encode(&object).unwrap_or_else(|| panic!("{} has no form", kind.kind));
        assert_eq!(decode(&bytes), Ok(object), "{}", kind.kind);
    }
}

/// The fields that a message has in JSON.
fn json_fields(message: &str) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for (_, field) in fields::ordered(message) {
        match field.shape.strip_prefix('@') {
            Some(inner) if field.name == "~" => names.extend(json_fields(inner)),
            _ => {
                names.insert(field.name);
            }
        }
    }
    names
}

#[test]
fn every_published_field_has_a_number() {
    let mut checked = 0;
    for path in crate::openapi::v3_index(&[])["paths"].as_object().unwrap().keys() {
        let document = crate::openapi::v3_document(path, &[]).unwrap();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            let known = json_fields(of_schema(name));
            if known.is_empty() || name.ends_with("List") {
                continue;
            }
            for field in schema["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str())
            {
                assert!(
                    known.contains(field) || matches!(field, "kind" | "apiVersion"),
                    "{name}.{field}"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 2000, "{checked}");
}

proptest! {
    #[test]
    fn no_bytes_break_the_server(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
        drop(decode(&raw));
        drop(decode(&[MAGIC, &raw].concat()));
        for (api_version, kind) in [("v1", "Pod"), ("apps/v1", "StatefulSet"), ("v1", "DeleteOptions")] {
            if let Ok(object) = decode(&body(api_version, kind, &raw)) {
                assert_eq!(object["kind"], kind);
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..kinds::kinds().len()) {
        let kind = &kinds::kinds()[kind];
        let whole = envelope(&kind.api_version(), kind.kind, &bytes);
        if let Ok(object) = decode(&whole) {
            prop_assert!(encode(&object).is_some());
        }
        drop(decode(&[MAGIC, &bytes].concat()));
    }

    #[test]
    fn damaged_bodies_do_not_panic(at in 0..MAP.len(), byte in any::<u8>(), end in 0..MAP.len()) {
        let mut body = MAP.to_vec();
        body[at] = byte;
        if let Ok(object) = decode(&body[..end]) {
            encode(&object);
        }
    }
}

#[test]
fn endless_nesting_is_refused() {
    // A schema of a schema of a schema …
    let mut schema = Vec::new();
    for _ in 0..200 {
        let mut outer = Writer::default();
        outer.bytes(25, &schema);
        schema = outer.into_bytes();
    }
    let nested = message_object("apiextensions.v1.JSONSchemaProps", &schema, 0);
    assert!(matches!(nested, Err(Error::Depth)), "{nested:?}");
}
