//! The parameters of reads and writes, checked as upstream checks its `ListOptions`, `CreateOptions` and so on.

use crate::query::Query;
use crate::selection::Selection;
use crate::status::{Outcome, bad_request, invalid_options, invalid_options_value};
use api::error::{FieldError, FieldErrorType};
use api::kinds::KindRef;
use api::schema::FieldValidation;
use serde_json::json;
use std::time::Duration;
use store::Revision;

/// How old the state shown by a list may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The latest state.
    Latest,
    /// The latest state, which must not be older than this one.
    NotOlderThan(Revision),
    /// Precisely this state.
    Exact(Revision),
}

/// The parameters of list and watch.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    pub(crate) selection: Selection,
    /// 0 is no limit.
    pub(crate) limit: usize,
    pub(crate) continue_token: Option<String>,
    /// `resourceVersion`; `None` if absent.
    pub(crate) revision: Option<Revision>,
    pub(crate) freshness: Freshness,
    pub(crate) bookmarks: bool,
    /// A watch starts with the objects that exist.
    pub(crate) initial_events: bool,
    /// How long a watch may last, if the client says so.
    pub(crate) timeout: Option<Duration>,
}

impl ListOptions {
    /// The parameters of a list.
    pub(crate) fn of_list(kind: &KindRef, query: &Query) -> Outcome<Self> {
        let matching = query.get("resourceVersionMatch");
        if query.get("sendInitialEvents").is_some() {
            return Err(forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            ));
        }
        let options = Self::read(kind, query)?;
        if let Some(matching) = matching {
            if options.revision.is_none() {
                let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                return Err(forbidden("resourceVersionMatch", detail));
            }
            if options.continue_token.is_some() {
                return Err(forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if matching != "Exact" && matching != "NotOlderThan" {
                return Err(unsupported(
                    "ListOptions",
                    "resourceVersionMatch",
                    matching,
                    &["Exact", "NotOlderThan", ""],
                ));
            }
            if matching == "Exact" && options.revision == Some(0) {
                let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                return Err(forbidden("resourceVersionMatch", detail));
            }
        }
        if options.continue_token.is_some() && options.revision.is_some_and(|revision| revision > 0) {
            return Err(bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let freshness = match (options.revision, matching) {
            (None | Some(0), _) => Freshness::Latest,
            (Some(revision), Some("Exact")) => Freshness::Exact(revision),
            // Pages of a list that names a state are taken at exactly that state, as upstream does.
            (Some(revision), None) if options.limit > 0 => Freshness::Exact(revision),
            (Some(revision), _) => Freshness::NotOlderThan(revision),
        };
        Ok(Self { freshness, ..options })
    }

    /// The parameters of a watch.
    pub(crate) fn of_watch(kind: &KindRef, query: &Query) -> Outcome<Self> {
        let matching = query.get("resourceVersionMatch");
        let initial = query.flag("sendInitialEvents");
        let options = Self::read(kind, query)?;
        if initial.is_some() && matching != Some("NotOlderThan") {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(forbidden("resourceVersionMatch", detail));
        }
        if matching.is_some() && initial.is_none() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            return Err(forbidden("resourceVersionMatch", detail));
        }
        if matching.is_some() && options.continue_token.is_some() {
            return Err(forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        // A watch from "anything" has always begun with what exists.
        let from_anything = matches!(options.revision, None | Some(0));
        let initial_events = initial.unwrap_or(from_anything);
        Ok(Self {
            initial_events,
            ..options
        })
    }

    fn read(kind: &KindRef, query: &Query) -> Outcome<Self> {
        let limit = query.number("limit")?.unwrap_or(0).max(0);
        let timeout = query
            .number("timeoutSeconds")?
            .and_then(|seconds| u64::try_from(seconds).ok());
        Ok(Self {
            selection: Selection::of(kind, query)?,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            continue_token: query.get("continue").map(str::to_owned),
            revision: query.get("resourceVersion").map(parse_revision).transpose()?,
            freshness: Freshness::Latest,
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            initial_events: false,
            timeout: timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        })
    }
}

/// Reads a `resourceVersion`.
pub(crate) fn parse_revision(text: &str) -> Outcome<Revision> {
    text.parse().map_err(|_| {
        let detail = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        bad_request(format!("Invalid value: {text:?}: {detail}"))
    })
}

/// The parameters that all writes share.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
    /// `fieldManager`, if given.
    pub(crate) field_manager: Option<String>,
    /// `force` of an apply, if given.
    pub(crate) force: Option<bool>,
}

/// The longest name of a field manager.
const FIELD_MANAGER_MAX: usize = 128;

impl WriteOptions {
    /// Reads the parameters; `kind` is the name of upstream's object for them, e.g. `CreateOptions`.
    pub(crate) fn of(kind: &'static str, query: &Query) -> Outcome<Self> {
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                return Err(unsupported(
                    kind,
                    "fieldValidation",
                    other,
                    &["Ignore", "Strict", "Warn"],
                ));
            }
        };
        let field_manager = query.get("fieldManager").map(str::to_owned);
        if field_manager
            .as_ref()
            .is_some_and(|manager| manager.len() > FIELD_MANAGER_MAX)
        {
            let detail = format!("may not be more than {FIELD_MANAGER_MAX} bytes");
            return Err(invalid_options(kind, "fieldManager", FieldErrorType::TooLong, &detail));
        }
        let strange = |manager: &String| manager.char_indices().find(|(_, letter)| letter.is_control());
        if let Some((at, letter)) = field_manager.as_ref().and_then(strange) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
            return Err(invalid_options(kind, "fieldManager", FieldErrorType::Invalid, &detail));
        }
        let dry_run = dry_run(kind, query.all("dryRun").filter(|value| !value.is_empty()))?;
        Ok(Self {
            dry_run,
            field_validation,
            field_manager,
            force: query.flag("force"),
        })
    }
}

/// Whether a write is only to be tried.
pub(crate) fn dry_run<'a>(kind: &'static str, values: impl Iterator<Item = &'a str>) -> Outcome<bool> {
    let values: Vec<&str> = values.collect();
    if values.iter().any(|value| *value != "All") {
        let error = FieldError {
            error: FieldErrorType::NotSupported,
            field: "dryRun".to_owned(),
            value: Some(json!(values)),
            detail: "supported values: \"All\"".to_owned(),
        };
        return Err(invalid_options_value(kind, error));
    }
    Ok(!values.is_empty())
}

fn forbidden(field: &str, detail: &str) -> Box<api::error::Status> {
    invalid_options("ListOptions", field, FieldErrorType::Forbidden, detail)
}

fn unsupported(kind: &'static str, field: &str, value: &str, supported: &[&str]) -> Box<api::error::Status> {
    let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
    let error = FieldError {
        error: FieldErrorType::NotSupported,
        field: field.to_owned(),
        value: Some(json!(value)),
        detail: format!("supported values: {}", supported.join(", ")),
    };
    invalid_options_value(kind, error)
}
