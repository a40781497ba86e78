//! The entries of `metadata.managedFields`.

use super::Writer;
use super::set::FieldSet;
use serde_json::{Map, Value};

/// How many managers that update (rather than apply) are kept apart; older ones are put together.
const UPDATE_MANAGERS_MAX: usize = 10;
/// Who owns what older managers owned.
const ANCIENT_CHANGES: &str = "ancient-changes";
/// The only encoding of field sets there is.
const FIELDS_TYPE: &str = "FieldsV1";

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    /// By server-side apply.
    Apply,
    /// In any other way.
    Update,
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) time: Option<String>,
    pub(super) subresource: String,
    pub(super) fields: FieldSet,
}

impl Entry {
    pub(super) fn new(writer: &Writer<'_>, operation: Operation, api_version: &str, fields: FieldSet) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            time: Some(writer.time.to_owned()),
            subresource: writer.subresource.to_owned(),
            fields,
        }
    }

    /// Whether the entry is that of this writer. A manager that applies has one entry whatever version it applies.
    pub(super) fn is_of(&self, writer: &Writer<'_>, operation: Operation, api_version: &str) -> bool {
        self.manager == writer.manager
            && self.subresource == writer.subresource
            && self.operation == operation
            && (operation == Operation::Apply || self.api_version == api_version)
    }

    fn decode(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        if text("fieldsType") != Some(FIELDS_TYPE) {
            return None;
        }
        Some(Self {
            manager: text("manager").unwrap_or_default().to_owned(),
            operation: match text("operation")? {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            },
            api_version: text("apiVersion").filter(|version| !version.is_empty())?.to_owned(),
            time: text("time").map(str::to_owned),
            subresource: text("subresource").unwrap_or_default().to_owned(),
            fields: match entry.get("fieldsV1") {
                None | Some(Value::Null) => FieldSet::default(),
                Some(fields) => FieldSet::decode(fields)?,
            },
        })
    }

    fn encode(self) -> Value {
        let mut entry = Map::new();
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let texts = [
            ("manager", self.manager),
            ("operation", operation.to_owned()),
            ("apiVersion", self.api_version),
            ("time", self.time.unwrap_or_default()),
            ("fieldsType", FIELDS_TYPE.to_owned()),
            ("subresource", self.subresource),
        ];
        for (name, text) in texts {
            if !text.is_empty() {
                entry.insert(name.to_owned(), Value::String(text));
            }
        }
        entry.insert("fieldsV1".to_owned(), self.fields.encode());
        Value::Object(entry)
    }
}

/// Reads `managedFields`; `None` if they are not right.
pub(super) fn decode(entries: &Value) -> Option<Vec<Entry>> {
    entries.as_array()?.iter().map(Entry::decode).collect()
}

/// Whether the client asks to forget all managers: `[]`, or `[{}]` for clients that cannot send an empty list.
pub(super) fn is_reset(entries: &Value) -> bool {
    match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Reads the entries of an object; none if they are absent or not right.
pub(super) fn of(object: &Value) -> Vec<Entry> {
    object
        .pointer("/metadata/managedFields")
        .and_then(decode)
        .unwrap_or_default()
}

/// Takes `managedFields` out of the object.
pub(super) fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// Writes the entries into the object, in the order that is theirs.
pub(super) fn put(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if entries.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| (entry.operation, entry.time.clone());
        let rest = |entry: &Entry| {
            (
                entry.manager.clone(),
                entry.api_version.clone(),
                entry.subresource.clone(),
            )
        };
        key(a).cmp(&key(b)).then_with(|| rest(a).cmp(&rest(b)))
    });
    let entries = entries.into_iter().map(Entry::encode).collect();
    metadata.insert("managedFields".to_owned(), Value::Array(entries));
}

/// Puts the oldest managers that update together when there are too many.
pub(super) fn cap(entries: &mut Vec<Entry>) {
    let updates = |entries: &[Entry]| {
        entries
            .iter()
            .filter(|entry| entry.operation == Operation::Update)
            .count()
    };
    if updates(entries) <= UPDATE_MANAGERS_MAX {
        return;
    }
    let (mut old, mut kept): (Vec<Entry>, Vec<Entry>) = std::mem::take(entries)
        .into_iter()
        .partition(|entry| entry.operation == Operation::Update);
    old.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
    let mut buckets: Vec<Entry> = Vec::new();
    let mut old = old.into_iter();
    while buckets.len() + old.len() > UPDATE_MANAGERS_MAX {
        let Some(entry) = old.next() else { break };
        match buckets
            .iter_mut()
            .find(|bucket| bucket.api_version == entry.api_version)
        {
            Some(bucket) => {
                bucket.manager = ANCIENT_CHANGES.to_owned();
                bucket.subresource = String::new();
                bucket.fields.unite(entry.fields);
                bucket.time = entry.time;
            }
            None => buckets.push(entry),
        }
    }
    kept.extend(buckets);
    kept.extend(old);
    *entries = kept;
}
