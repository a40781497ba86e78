//! The options of the API server's audit log.

use crate::args::ConfigArgs;
use apiserver::{AuditLevel, AuditLog};
use std::path::PathBuf;

/// The audit log that is asked for; `None` if none is.
pub(crate) fn resolve(
    args: &ConfigArgs,
    path: Option<PathBuf>,
    level: Option<String>,
    errors: &mut Vec<String>,
) -> Option<AuditLog> {
    let path = args.audit_log_path.clone().or(path);
    let level = args.audit_log_level.clone().or(level);
    let level = level.unwrap_or_else(|| name(AuditLevel::Metadata).to_owned());
    let levels = [AuditLevel::Metadata, AuditLevel::Request];
    let Some(level) = levels.into_iter().find(|known| name(*known) == level) else {
        errors.push(format!("audit-log-level {level:?} must be Metadata or Request"));
        return None;
    };
    path.map(|path| AuditLog { path, level })
}

fn name(level: AuditLevel) -> &'static str {
    match level {
        AuditLevel::Metadata => "Metadata",
        AuditLevel::Request => "Request",
    }
}

/// The rows of the printed configuration.
pub(crate) fn rows(audit: Option<&AuditLog>) -> [(&'static str, &'static str, Option<String>); 2] {
    let quoted = |text: String| serde_json::Value::String(text).to_string();
    [
        (
            "Where every request to the API server is logged, one JSON line each; without it none is.",
            "audit-log-path",
            audit.map(|audit| quoted(audit.path.display().to_string())),
        ),
        (
            "How much of each request: Metadata, or Request for the objects sent too.",
            "audit-log-level",
            audit.map(|audit| quoted(name(audit.level).to_owned())),
        ),
    ]
}
