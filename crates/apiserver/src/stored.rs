//! The form in which objects are stored: the JSON they are served as, minus what the request's path already says.
//!
//! A stored value is `{"metadata":{…},…}` without `kind`, `apiVersion` and `metadata.resourceVersion`, so serving an
//! object is a copy between a ready head and the value's own bytes; no object is parsed to be read.

use crate::autoscalers;
use crate::events;
use crate::status::{Outcome, internal};
use api::kinds::Kind;
use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::io::Write as _;
use std::sync::Arc;
use store::{KeyValue, Revision};

/// What every stored value starts with.
const OPENING: &[u8] = b"{\"metadata\":{";

/// An object as it was written: its bytes and the revision that clients see as `resourceVersion`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) value: Bytes,
    /// 0 for an object that was not stored (dry run): it shows no `resourceVersion`.
    pub(crate) revision: Revision,
}

impl From<&Arc<KeyValue>> for Stored {
    fn from(kv: &Arc<KeyValue>) -> Self {
        Self {
            value: kv.value.clone(),
            revision: kv.mod_revision,
        }
    }
}

impl Stored {
    /// Makes the stored form of a whole object of a kind.
    pub(crate) fn encode(kind: &Kind, object: &Value) -> Bytes {
        if kind.is_stored_as_served() || kind.custom.is_some() {
            plain(object)
        } else if kind.group == "autoscaling" {
            plain(&autoscalers::to_v2(object))
        } else {
            plain(&events::to_core(object))
        }
    }

    /// The whole object, as clients of the kind see it.
    pub(crate) fn object(&self, kind: &Kind) -> Outcome<Value> {
        let mut object: Value = serde_json::from_slice(&self.value)
            .map_err(|error| internal(format!("a stored {} cannot be read: {error}", kind.kind)))?;
        if !kind.is_stored_as_served() {
            object = as_served(kind, &object);
        }
        object["kind"] = Value::from(kind.kind);
        object["apiVersion"] = Value::from(kind.api_version());
        if self.revision > 0 {
            object["metadata"]["resourceVersion"] = Value::from(self.revision.to_string());
        }
        Ok(object)
    }

    /// Appends the object's JSON as it stands alone (with `kind` and `apiVersion`).
    pub(crate) fn write_alone(&self, kind: &Kind, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(kind.kind.as_bytes());
        out.extend_from_slice(b"\",\"apiVersion\":\"");
        out.extend_from_slice(kind.api_version().as_bytes());
        out.extend_from_slice(b"\",");
        self.write_from_metadata(kind, out);
    }

    /// Appends the object's JSON as it stands in a list of its kind.
    pub(crate) fn write_item(&self, kind: &Kind, out: &mut Vec<u8>) {
        if kind.custom.is_some() {
            // Clients read lists of custom resources without knowing their types.
            return self.write_alone(kind, out);
        }
        out.push(b'{');
        self.write_from_metadata(kind, out);
    }

    /// How many bytes [`Stored::copy_item`] appends; `None` for what is no stored value.
    pub(crate) fn copied_len(&self) -> Option<usize> {
        let rest = self.value.len().checked_sub(OPENING.len())?;
        let shown = match self.revision.checked_ilog10() {
            None => 0,
            Some(tens) => r#""resourceVersion":"","#.len() + 1 + usize::try_from(tens).ok()?,
        };
        Some(OPENING.len() + shown + rest)
    }

    /// Appends the object's JSON as it stands in a list of a kind whose items are [copied](is_listed_as_stored).
    pub(crate) fn copy_item(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_with_revision(&self.value, out);
    }

    fn write_from_metadata(&self, kind: &Kind, out: &mut Vec<u8>) {
        if kind.is_stored_as_served() {
            self.write_with_revision(&self.value, out);
        } else {
            self.write_with_revision(&served_elsewhere(kind, &self.value), out);
        }
    }

    fn write_with_revision(&self, value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&OPENING[1..]);
        if self.revision > 0 {
            out.extend_from_slice(b"\"resourceVersion\":\"");
            write!(out, "{}", self.revision).expect("a text can be written to memory");
            out.push(b'"');
            // Metadata of a stored object is never empty: it has at least a name.
            out.push(b',');
        }
        out.extend_from_slice(value.get(OPENING.len()..).unwrap_or(b"}}"));
    }

    /// Appends the object's `PartialObjectMetadata`, as JSON: its metadata is copied, not parsed.
    pub(crate) fn write_partial(&self, api_version: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
        out.extend_from_slice(api_version.as_bytes());
        out.extend_from_slice(b"\",\"metadata\":{");
        // Only the metadata is looked at to find its end.
        let text = self.value.get(OPENING.len() - 1..).unwrap_or_default();
        let metadata = serde_json::Deserializer::from_slice(text)
            .into_iter::<&RawValue>()
            .next()
            .and_then(Result::ok);
        let fields = metadata.map_or("}", |metadata| &metadata.get()[1..]);
        if self.revision > 0 {
            out.extend_from_slice(b"\"resourceVersion\":\"");
            out.extend_from_slice(self.revision.to_string().as_bytes());
            out.push(b'"');
            if fields != "}" {
                out.push(b',');
            }
        }
        out.extend_from_slice(fields.as_bytes());
        out.push(b'}');
    }

    /// Whether the object is being deleted. Parses nothing where the word does not stand in the text, as in nearly all.
    pub(crate) fn is_going(&self) -> bool {
        const WORD: &[u8] = b"\"deletionTimestamp\"";
        self.value.windows(WORD.len()).any(|part| part == WORD) && !self.metadata()["deletionTimestamp"].is_null()
    }

    /// Only `metadata`, with its `resourceVersion`; the rest is skipped.
    pub(crate) fn metadata(&self) -> Value {
        #[derive(serde::Deserialize)]
        struct Head {
            metadata: Value,
        }
        let mut metadata =
            serde_json::from_slice(&self.value).map_or_else(|_| Value::Object(Map::new()), |head: Head| head.metadata);
        if self.revision > 0 {
            metadata["resourceVersion"] = Value::from(self.revision.to_string());
        }
        metadata
    }

    /// `metadata.labels` (null if there are none); the rest is skipped.
    pub(crate) fn labels(&self) -> Value {
        #[derive(serde::Deserialize)]
        struct Head {
            metadata: Metadata,
        }
        #[derive(serde::Deserialize)]
        struct Metadata {
            #[serde(default)]
            labels: Value,
        }
        serde_json::from_slice(&self.value).map_or(Value::Null, |head: Head| head.metadata.labels)
    }
}

/// Whether the items of lists of a kind are copies of what is stored.
pub(crate) fn is_listed_as_stored(kind: &Kind) -> bool {
    kind.custom.is_none() && kind.is_stored_as_served()
}

/// The form of a kind whose objects are not served as they are stored.
fn as_served(kind: &Kind, stored: &Value) -> Value {
    if let Some(version) = &kind.custom {
        let mut object = stored.clone();
        version.show(&mut object);
        object
    } else if kind.group == "autoscaling" {
        autoscalers::from_v2(stored)
    } else {
        events::from_core(stored)
    }
}

fn served_elsewhere(kind: &Kind, value: &Bytes) -> Bytes {
    let object: Value = serde_json::from_slice(value).unwrap_or_default();
    plain(&as_served(kind, &object))
}

/// Encodes an object with `metadata` in front and without the parts that the path and the store know.
fn plain(object: &Value) -> Bytes {
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(OPENING);
    let metadata = fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    write_fields(metadata.iter().filter(|(key, _)| *key != "resourceVersion"), &mut out);
    out.push(b'}');
    let rest = fields
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "metadata" | "kind" | "apiVersion"));
    let mut rest = rest.peekable();
    if rest.peek().is_some() {
        out.push(b',');
    }
    write_fields(rest, &mut out);
    out.push(b'}');
    // Values stay in memory as long as their objects: without the room that is left over.
    Bytes::from(out.into_boxed_slice())
}

fn write_fields<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut Vec<u8>) {
    for (index, (key, value)) in fields.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, key).expect("a text can be written to memory");
        out.push(b':');
        serde_json::to_writer(&mut *out, value).expect("a JSON value can be written to memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config_map() -> &'static Kind {
        api::kinds::by_resource("", "v1", "configmaps").unwrap()
    }

    #[test]
    fn serving_is_a_copy_between_head_and_value() {
        let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"k": "v"},
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "3", "labels": {"x": "y"}}});
        let value = Stored::encode(config_map(), &object);
        assert!(value.starts_with(OPENING));
        assert!(!value.windows(8).any(|part| part == b"resource"));
        let stored = Stored { value, revision: 7 };
        let mut expected = object;
        expected["metadata"]["resourceVersion"] = json!("7");
        let mut alone = Vec::new();
        stored.write_alone(config_map(), &mut alone);
        assert_eq!(serde_json::from_slice::<Value>(&alone).unwrap(), expected);
        assert_eq!(stored.object(config_map()).unwrap(), expected);
        assert_eq!(stored.labels(), json!({"x": "y"}));
        assert_eq!(stored.metadata()["resourceVersion"], "7");
        let mut partial = Vec::new();
        stored.write_partial("meta.k8s.io/v1", &mut partial);
        let partial: Value = serde_json::from_slice(&partial).unwrap();
        assert_eq!(
            partial,
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": expected["metadata"]})
        );
        let mut item = Vec::new();
        stored.write_item(config_map(), &mut item);
        let item: Value = serde_json::from_slice(&item).unwrap();
        assert_eq!(item["data"], expected["data"]);
        assert!(item.get("kind").is_none());
        for revision in [0, 1, 9, 10, 123_456_789] {
            let stored = Stored {
                value: stored.value.clone(),
                revision,
            };
            let mut item = Vec::new();
            stored.write_item(config_map(), &mut item);
            assert_eq!(stored.copied_len(), Some(item.len()));
            let mut copied = Vec::new();
            stored.copy_item(&mut copied);
            assert_eq!(copied, item);
        }
    }

    #[test]
    fn an_object_that_is_being_deleted_says_so_in_its_metadata() {
        for (object, going) in [
            (json!({"metadata": {"name": "a"}}), false),
            (
                json!({"metadata": {"name": "a"}, "data": {"deletionTimestamp": "x"}}),
                false,
            ),
            (
                json!({"metadata": {"name": "a", "deletionTimestamp": "2026-11-22T12:00:00Z"}}),
                true,
            ),
        ] {
            let value = Stored::encode(config_map(), &object);
            assert_eq!(Stored { value, revision: 7 }.is_going(), going, "{object}");
        }
    }

    #[test]
    fn an_object_that_was_not_stored_shows_no_resource_version() {
        let stored = Stored {
            value: Stored::encode(config_map(), &json!({"metadata": {"name": "a"}})),
            revision: 0,
        };
        let mut alone = Vec::new();
        stored.write_alone(config_map(), &mut alone);
        assert_eq!(
            String::from_utf8(alone).unwrap(),
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#
        );
    }
}
