//! Field ownership: `managedFields`, server-side apply.

use crate::error::Status;
use crate::kinds::Kind;
use serde_json::Value;

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
pub fn track_update(_kind: &Kind, _old: Option<&Value>, _new: &mut Value, _writer: &Writer<'_>) {
    unimplemented!()
}

/// Server-side apply: merges `config` (decoded, not defaulted) into `live` (`None` if absent) and returns the new
/// object with its `managedFields`. Fields that the manager applied before and leaves out now are removed unless
/// somebody else owns them.
///
/// # Errors
/// 409 with a cause for each field owned by another manager, unless `force`.
pub fn apply(
    _kind: &Kind,
    _live: Option<&Value>,
    _config: &Value,
    _writer: &Writer<'_>,
    _force: bool,
) -> Result<Value, Box<Status>> {
    unimplemented!()
}
