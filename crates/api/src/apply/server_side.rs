//! Server-side apply: merge, remove what is applied no more, find conflicts.

use super::compare::{Difference, compare};
use super::managed::{self, Entry, Operation};
use super::merge::{field_set, merge, with_named_fields, without};
use super::node::Node;
use super::set::{self, FieldSet};
use super::{BEFORE_FIRST_APPLY, Writer, forget_ignored, ignored, strip, take_over};
use crate::defaults;
use crate::error::Status;
use crate::kinds::Kind;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// kubectl's name when it applies on the server; it may take over what it applied on the client.
const KUBECTL: &str = "kubectl";
/// Where kubectl keeps what it applied on the client.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An apply, taken apart.
struct Request<'a> {
    kind: &'a Kind,
    node: Node<'a>,
    live: &'a Value,
    config: &'a Value,
    writer: &'a Writer<'a>,
}

/// What would come of it.
struct Outcome {
    object: Value,
    entries: Vec<Entry>,
    /// By manager, as messages name it.
    conflicts: BTreeMap<String, FieldSet>,
}

pub(super) fn apply(
    kind: &Kind,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Box<Status>> {
    let node = Node::of_kind(kind);
    check(kind, node, config)?;
    let Some(live) = live else {
        return Ok(create(kind, node, config, writer));
    };
    let entries = entries_of_apply(kind, node, live, writer);
    let mut current = live.clone();
    managed::take(&mut current);
    let request = Request {
        kind,
        node,
        live: &current,
        config,
        writer,
    };
    let outcome = attempt(&request, entries);
    let is_kubectl = writer.manager == KUBECTL;
    if !force && !outcome.conflicts.is_empty() {
        let mut conflicts = outcome.conflicts;
        if is_kubectl && let Some(allowed) = applied_by_client(&request) {
            conflicts.values_mut().for_each(|fields| fields.subtract(&allowed));
            conflicts.retain(|_, fields| !fields.is_empty());
        }
        if !conflicts.is_empty() {
            return Err(Box::new(conflict(&conflicts)));
        }
    }
    Ok(finish(&request, outcome.object, outcome.entries))
}

/// An object that was absent is what is applied, and all of it the applier's.
fn create(kind: &Kind, node: Node<'_>, config: &Value, writer: &Writer<'_>) -> Value {
    let mut object = config.clone();
    managed::take(&mut object);
    if let Some(fields) = object.as_object_mut() {
        fields.entry("metadata").or_insert_with(|| json!({}));
    }
    let mut fields = own_fields(kind, node, config, writer);
    strip(&mut fields);
    managed::put(
        &mut object,
        vec![Entry::new(writer, Operation::Apply, &kind.api_version(), fields)],
    );
    object
}

/// What the applier owns of what it applies.
fn own_fields(kind: &Kind, node: Node<'_>, config: &Value, writer: &Writer<'_>) -> FieldSet {
    let mut fields = field_set(node, config);
    for path in ignored(kind, writer.subresource) {
        fields.prune(path);
    }
    fields
}

/// Puts the managers into the object, and kubectl's note of what it applied.
fn finish(request: &Request<'_>, mut object: Value, mut entries: Vec<Entry>) -> Value {
    // An amount written in another way, or a default left out, is no change.
    let mut settled = object.clone();
    defaults::apply(request.kind, &mut settled);
    let changed = settled != *request.live;
    let version = request.kind.api_version();
    if let Some(entry) = entries
        .iter_mut()
        .find(|entry| entry.is_of(request.writer, Operation::Apply, &version))
        && (changed || entry.time.is_none())
    {
        entry.time = Some(request.writer.time.to_owned());
    }
    if request.writer.manager == KUBECTL
        && let Some(note) = object.pointer_mut("/metadata/annotations")
        && let Some(note) = note.get_mut(LAST_APPLIED)
    {
        let mut applied = request.config.clone();
        if let Some(annotations) = applied
            .pointer_mut("/metadata/annotations")
            .and_then(Value::as_object_mut)
        {
            annotations.remove(LAST_APPLIED);
        }
        *note = Value::String(format!("{applied}\n"));
    }
    managed::put(&mut object, entries);
    object
}

fn check(kind: &Kind, node: Node<'_>, config: &Value) -> Result<(), Box<Status>> {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, expected) = (text("/apiVersion"), kind.api_version());
    if version != expected {
        return Err(Box::new(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {expected}"
        ))));
    }
    if config
        .pointer("/metadata/managedFields")
        .is_some_and(|entries| !entries.is_null())
    {
        return Err(Box::new(Status::bad_request("metadata.managedFields must be nil")));
    }
    let Err(why) = check_lists(node, config, &mut String::new()) else {
        return Ok(());
    };
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let (group, version, kind) = (kind.group, kind.version, kind.kind);
    let of = format!("{namespace}/{name}; {group}/{version}, Kind={kind}");
    let message = format!("failed to create typed patch object ({of}): {why}");
    Err(Box::new(Status {
        code: 500,
        reason: "",
        message,
        details: Value::Null,
        metadata: json!({}),
    }))
}

/// Items that are owned one by one must be told apart.
fn check_lists(node: Node<'_>, value: &Value, path: &mut String) -> Result<(), String> {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                set::show(&set::field(name), path);
                check_lists(node.child(name), value, path)?;
                path.truncate(length);
            }
        }
        Value::Array(items) if matches!(node, Node::Set | Node::Keyed { .. } | Node::Items(_)) => {
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                let element = node
                    .element(item)
                    .map_err(|why| format!("{path}: element {index}: {why}"))?;
                set::show(&element, path);
                if !seen.insert(element) {
                    let (list, key) = path.split_at(length);
                    return Err(format!("{list}: duplicate entries for key {key}"));
                }
                check_lists(node.item(), item, path)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The managers of the live object; who owns an object that has none is "before-first-apply".
fn entries_of_apply(kind: &Kind, node: Node<'_>, live: &Value, writer: &Writer<'_>) -> Vec<Entry> {
    let mut entries = managed::of(live);
    if entries.is_empty() {
        let mut difference = compare(node, Some(&node.nothing()), Some(live));
        forget_ignored(kind, writer.subresource, &mut difference);
        strip(&mut difference.changed);
        if !difference.changed.is_empty() {
            let before = Writer {
                manager: BEFORE_FIRST_APPLY,
                ..writer.clone()
            };
            take_over(&mut entries, kind, &before, difference.changed);
        }
    }
    entries
}

/// Merges, prunes and compares; what conflicts is taken from its owners in the outcome.
fn attempt(request: &Request<'_>, mut entries: Vec<Entry>) -> Outcome {
    let Request {
        kind,
        node,
        live,
        config,
        writer,
    } = *request;
    let version = kind.api_version();
    let merged = merge(node, Some(live), Some(config)).unwrap_or_else(|| live.clone());
    let mut fields = own_fields(kind, node, config, writer);
    let own = entries
        .iter()
        .position(|entry| entry.is_of(writer, Operation::Apply, &version));
    let previous = own.map(|at| entries.remove(at));
    let object = match &previous {
        Some(previous) => prune(node, &merged, &previous.fields, &fields, &entries),
        None => merged,
    };
    let mut difference = compare(node, Some(live), Some(&object));
    forget_ignored(kind, writer.subresource, &mut difference);
    let mut conflicts = BTreeMap::new();
    for entry in &mut entries {
        let conflict = entry.fields.intersection(&difference.changed);
        if !conflict.is_empty() {
            conflicts
                .entry(printed(entry))
                .or_insert_with(FieldSet::default)
                .unite(conflict);
        }
        entry.fields.subtract(&difference.changed);
        entry.fields.subtract(&difference.removed);
    }
    strip(&mut fields);
    let time = previous.and_then(|previous| previous.time);
    entries.push(Entry {
        time,
        ..Entry::new(writer, Operation::Apply, &version, fields)
    });
    Outcome {
        object,
        entries,
        conflicts,
    }
}

/// Removes from the merged object what the manager applied before, does not apply now, and nobody else owns.
fn prune(node: Node<'_>, merged: &Value, previous: &FieldSet, now: &FieldSet, others: &[Entry]) -> Value {
    let rest = |gone: &FieldSet| without(node, merged, gone).unwrap_or_else(|| json!({}));
    let named = |fields: &FieldSet| with_named_fields(node, fields);
    let all = named(&field_set(node, merged));
    let previous = named(previous);
    // All that was applied goes, with everything in it …
    let kept = named(&field_set(node, &rest(&previous)));
    // … then what is owned comes back …
    let mut owned = now.clone();
    for entry in others {
        owned.unite(entry.fields.clone());
    }
    let mut gone = all.clone();
    gone.subtract(&kept);
    gone.subtract(&named(&owned));
    let kept = named(&field_set(node, &rest(&gone)));
    // … and what was not this manager's to remove.
    let mut gone = all;
    gone.subtract(&kept);
    rest(&gone.intersection(&previous))
}

/// What kubectl applied on the client, as far as the object still has it.
fn applied_by_client(request: &Request<'_>) -> Option<FieldSet> {
    let note = request
        .live
        .get("metadata")?
        .get("annotations")?
        .get(LAST_APPLIED)?
        .as_str()?;
    let applied: Value = serde_json::from_str(note).ok()?;
    if applied.get("apiVersion")?.as_str()? != request.kind.api_version() {
        return None;
    }
    let mut fields = field_set(request.node, &applied);
    let Difference { changed, removed } = compare(request.node, Some(&applied), Some(request.live));
    fields.subtract(&changed);
    fields.subtract(&removed);
    Some(fields)
}

/// A manager as conflicts name it.
fn printed(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", entry.subresource));
    }
    if entry.operation == Operation::Update {
        text.push_str(&format!(" using {}", entry.api_version));
    }
    text
}

fn conflict(conflicts: &BTreeMap<String, FieldSet>) -> Status {
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for (manager, fields) in conflicts {
        lines.push(format!("conflicts with {manager}:"));
        fields.for_each_path(&mut |path| {
            let message = format!("conflict with {manager}");
            causes.push(json!({"reason": "FieldManagerConflict", "message": message, "field": path}));
            lines.push(format!("- {path}"));
        });
    }
    let message = match causes.as_slice() {
        [one] => {
            let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
            format!("Apply failed with 1 conflict: {}: {}", text("message"), text("field"))
        }
        _ => format!("Apply failed with {} conflicts: {}", causes.len(), lines.join("\n")),
    };
    Status {
        code: 409,
        reason: "Conflict",
        message,
        details: json!({"causes": causes}),
        metadata: json!({}),
    }
}
