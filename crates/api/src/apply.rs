//! Field ownership: `managedFields`, server-side apply.
//!
//! Who owns what follows from the schema (which lists are sets or maps, which values are atomic) as in upstream's
//! structured merge; the entries are byte for byte those that kube-apiserver writes for the same requests.

mod compare;
mod managed;
mod merge;
mod node;
mod server_side;
mod set;

use crate::error::Status;
use crate::kinds::Kind;
use compare::{Difference, compare};
use managed::{Entry, Operation};
use node::Node;
use serde_json::Value;
use set::FieldSet;

/// Fields that nobody owns.
const NEVER_TRACKED: [&str; 9] = [
    "f:name",
    "f:namespace",
    "f:uid",
    "f:resourceVersion",
    "f:generation",
    "f:creationTimestamp",
    "f:selfLink",
    "f:clusterName",
    "f:managedFields",
];
/// Who owns what was there before anything was tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, and how; becomes an entry of `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer<'a> {
    /// The manager's name (`fieldManager`, else the user agent up to the first `/`).
    pub manager: &'a str,
    /// The subresource written through; empty for the main resource.
    pub subresource: &'a str,
    /// The time of the write, RFC 3339 in seconds, e.g. `2026-11-22T10:51:00Z`.
    pub time: &'a str,
}

/// Records a create, update or patch that is not an apply: fields that `new` changed against `old` become the
/// writer's (operation `Update`) and leave other `Update` managers' and appliers' sets as upstream does.
/// `old` is `None` for a create. Sets `new.metadata.managedFields`.
///
/// To own what upstream's managers own, call it with defaults filled in, before admission and before anything is
/// allocated. Managers that the client sent in `new` count, except through a subresource.
pub fn track_update(kind: &Kind, old: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    let mut entries = entries_of_update(old, new, writer);
    // What was never tracked stays so: its owners are not known.
    if entries.is_empty() && old.is_some() {
        return;
    }
    let of = Node::of_kind(kind);
    let mut difference = match old {
        Some(old) => compare(of, Some(old), Some(new)),
        None => compare(of, Some(&of.nothing()), Some(new)),
    };
    forget_ignored(kind, writer.subresource, &mut difference);
    for entry in &mut entries {
        entry.fields.subtract(&difference.changed);
        entry.fields.subtract(&difference.removed);
    }
    strip(&mut difference.changed);
    if !difference.changed.is_empty() {
        take_over(&mut entries, kind, writer, difference.changed);
    }
    managed::cap(&mut entries);
    managed::put(new, entries);
}

/// Server-side apply: merges `config` (decoded, not defaulted) into `live` (`None` if absent) and returns the new
/// object with its `managedFields`. Fields that the manager applied before and leaves out now are removed unless
/// somebody else owns them.
///
/// # Errors
/// 409 with a cause for each field owned by another manager, unless `force`.
pub fn apply(
    kind: &Kind,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Box<Status>> {
    server_side::apply(kind, live, config, writer, force)
}

/// Lays the fields of `config` over an object, as an apply does, without regard to who owns them.
///
/// # Errors
/// Where `config` has a value that is owned as a whole: a list or object that could only be replaced.
pub fn overlay(kind: &Kind, live: &Value, config: &Value) -> Result<Value, String> {
    let node = Node::of_kind(kind);
    if let Some(path) = merge::whole(node, config, "") {
        return Err(format!("may not mutate atomic arrays, maps or structs: {path}"));
    }
    Ok(merge::merge(node, Some(live), Some(config)).unwrap_or_else(|| live.clone()))
}

/// The managers that count for an update; takes those in `new` out of it.
fn entries_of_update(old: Option<&Value>, new: &mut Value, writer: &Writer<'_>) -> Vec<Entry> {
    let sent = managed::take(new);
    let live = || old.map(managed::of).unwrap_or_default();
    match sent {
        Some(sent) if writer.subresource.is_empty() => {
            if managed::is_reset(&sent) {
                return Vec::new();
            }
            managed::decode(&sent)
                .filter(|entries| !entries.is_empty())
                .unwrap_or_else(live)
        }
        _ => live(),
    }
}

fn take_over(entries: &mut Vec<Entry>, kind: &Kind, writer: &Writer<'_>, fields: FieldSet) {
    let version = kind.api_version();
    let is_scale = writer.subresource == "scale";
    match entries
        .iter_mut()
        .find(|entry| entry.is_of(writer, Operation::Update, &version))
    {
        Some(entry) => {
            entry.fields.unite(fields);
            // Upstream carries what happens to a scale over to its object without a time.
            if !is_scale {
                entry.time = Some(writer.time.to_owned());
            }
        }
        None => {
            let mut entry = Entry::new(writer, Operation::Update, &version, fields);
            if is_scale {
                entry.time = None;
            }
            entries.push(entry);
        }
    }
}

/// Takes out what nobody owns.
fn strip(fields: &mut FieldSet) {
    fields.forget("f:apiVersion");
    fields.forget("f:kind");
    fields.forget("f:metadata");
    for name in NEVER_TRACKED {
        fields.prune(&["f:metadata", name]);
    }
}

/// Fields that a write through this (sub)resource does not set, though the request may have them.
fn ignored(kind: &Kind, subresource: &str) -> &'static [&'static [&'static str]] {
    match (kind.kind, subresource) {
        (_, "status") if kind.custom.is_some() => &[&["f:spec"], &["f:metadata"]],
        (_, "") if kind.has_status => &[&["f:status"]],
        ("Pod", "status") => &[
            &["f:spec"],
            &["f:metadata", "f:deletionTimestamp"],
            &["f:metadata", "f:ownerReferences"],
        ],
        ("Deployment", "status") => &[&["f:spec"], &["f:metadata", "f:labels"]],
        ("VolumeAttachment", "status") => &[&["f:spec"], &["f:metadata"]],
        (_, "status") => &[&["f:spec"]],
        ("Pod", "ephemeralcontainers" | "resize") => &[&["f:status"]],
        _ => &[],
    }
}

fn forget_ignored(kind: &Kind, subresource: &str, difference: &mut Difference) {
    for path in ignored(kind, subresource) {
        difference.changed.prune(path);
        difference.removed.prune(path);
    }
    difference.removed.prune(&["f:metadata", "f:managedFields"]);
}

#[cfg(test)]
mod tests;
