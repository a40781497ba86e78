//! Deleting objects: at once, gracefully, or when their finalizers are done.
//!
//! ```text
//!          no grace, no finalizers
//!  live ──────────────────────────────▶ gone
//!   │ grace or finalizers                ▲ grace over (deleted again with 0) and finalizers empty
//!   └──────────▶ deletionTimestamp set ──┘
//! ```

use crate::admission::{self, Operation, Review};
use crate::body;
use crate::call::Call;
use crate::clock;
use crate::commit::{Change, Committed};
use crate::create::shown_revision;
use crate::eviction;
use crate::options::dry_run;
use crate::policies;
use crate::query::Query;
use crate::respond;
use crate::server::Server;
use crate::service_addresses::Claims;
use crate::status::{Outcome, bad_request, invalid_options_value, status};
use crate::stored::Stored;
use crate::update::is_released;
use api::error::{FieldError, FieldErrorType, Status};
use api::kinds::Kind;
use api::strategy;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use store::KeyValue;

/// How often a delete is tried while other writers are first.
const ATTEMPTS_MAX: usize = 64;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// `DeleteOptions`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeleteOptions {
    api_version: Option<String>,
    kind: Option<String>,
    pub(crate) grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    dry_run: Option<Vec<String>>,
    preconditions: Option<Preconditions>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl DeleteOptions {
    /// From the body if there is one, else from the query.
    pub(crate) fn read(headers: &HeaderMap, query: &Query, body: Bytes) -> Outcome<Self> {
        let dry_run = || Some(query.all("dryRun").map(str::to_owned).collect());
        let options = if body.is_empty() {
            Self {
                grace_period_seconds: query.number("gracePeriodSeconds")?,
                propagation_policy: query.get("propagationPolicy").map(str::to_owned),
                orphan_dependents: query.flag("orphanDependents"),
                dry_run: dry_run(),
                ..Self::default()
            }
        } else {
            let text = body::json_text(headers, body)?;
            let given: Self = serde_json::from_slice(&text)
                .map_err(|error| bad_request(format!("DeleteOptions cannot be decoded: {error}")))?;
            // Whoever sends another object along has mistaken the delete for something else.
            if let Some(kind) = given.kind.filter(|kind| kind != "DeleteOptions") {
                let version = given.api_version.unwrap_or_default();
                return Err(bad_request(format!(
                    "no kind {kind:?} is registered for version {version:?} as options of a delete"
                )));
            }
            // A body replaces the parameters, but nobody who asks for a trial means the real thing.
            Self {
                dry_run: given.dry_run.or_else(dry_run),
                kind: None,
                api_version: None,
                ..given
            }
        };
        options.check()?;
        Ok(options)
    }

    /// From an object that carries them, such as an `Eviction`.
    pub(crate) fn from_value(value: &Value) -> Outcome<Self> {
        if value.is_null() {
            return Ok(Self::default());
        }
        let options: Self = serde_json::from_value(value.clone())
            .map_err(|error| bad_request(format!("DeleteOptions cannot be decoded: {error}")))?;
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Outcome<()> {
        let invalid = |error, value: &str, detail: &str| {
            let (field, value) = ("propagationPolicy".to_owned(), Some(json!(value)));
            Err(invalid_options_value(
                "DeleteOptions",
                FieldError {
                    error,
                    field,
                    value,
                    detail: detail.to_owned(),
                },
            ))
        };
        match (self.propagation_policy.as_deref(), self.orphan_dependents) {
            (Some(policy), Some(_)) => {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                invalid(FieldErrorType::Invalid, policy, detail)
            }
            (None | Some("Foreground" | "Background" | "Orphan"), _) => Ok(()),
            (Some(other), _) => {
                let detail = "supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"";
                invalid(FieldErrorType::NotSupported, other, detail)
            }
        }
    }

    /// Makes it a trial.
    pub(crate) fn only_try(&mut self) {
        self.dry_run = Some(vec!["All".to_owned()]);
    }

    pub(crate) fn is_dry_run(&self) -> Outcome<bool> {
        dry_run(
            "DeleteOptions",
            self.dry_run
                .iter()
                .flatten()
                .map(String::as_str)
                .filter(|value| !value.is_empty()),
        )
    }

    /// The finalizers that make the garbage collector do what the policy says, from those that the object has.
    fn finalizers(&self, kind: &Kind, present: &[Value]) -> Vec<Value> {
        let is_settled = present.iter().any(|own| *own == ORPHAN || *own == FOREGROUND);
        let wanted = match (self.propagation_policy.as_deref(), self.orphan_dependents) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(ORPHAN),
            (Some("Foreground"), _) => Some(FOREGROUND),
            (None, None) if orphans_by_default(kind) && !is_settled => Some(ORPHAN),
            (None, None) => return present.to_vec(),
            _ => None,
        };
        let others = present
            .iter()
            .filter(|own| **own != ORPHAN && **own != FOREGROUND)
            .cloned();
        others.chain(wanted.map(Value::from)).collect()
    }

    fn check_preconditions(&self, kind: &Kind, name: &str, object: &Value) -> Outcome<()> {
        let Some(preconditions) = &self.preconditions else {
            return Ok(());
        };
        let found = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
        let conflict = |why: String| {
            // This one names the kind where others name the resource.
            let shown = kind.qualified_kind();
            let message = format!("Operation cannot be fulfilled on {shown} {name:?}: {why}");
            let mut details = Status::conflict(kind, name, "").details;
            details["kind"] = json!(kind.kind);
            Err(status(409, "Conflict", message, details))
        };
        if let Some(uid) = preconditions.uid.as_ref().filter(|uid| **uid != found("uid")) {
            let record = found("uid");
            return conflict(format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({record}). The object might \
                 have been deleted and then recreated"
            ));
        }
        let revision = preconditions.resource_version.as_ref();
        if let Some(revision) = revision.filter(|revision| **revision != found("resourceVersion")) {
            let record = found("resourceVersion");
            return conflict(format!(
                "the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record \
                 ({record}). The object might have been modified"
            ));
        }
        Ok(())
    }
}

/// Kinds that were served before there was a garbage collector: their pods stay, unless the delete says otherwise.
fn orphans_by_default(kind: &Kind) -> bool {
    matches!(
        (kind.group, kind.kind),
        ("", "ReplicationController") | ("batch", "Job")
    )
}

/// Why an object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody wants it gone.
    Delete,
    /// Somebody wants it gone from where it is, if its disruption budget allows.
    Eviction,
}

/// How a delete ended.
#[derive(Clone, Debug)]
pub(crate) enum Deleted {
    /// The object is gone; this is its last state.
    Gone(Stored),
    /// The object is still there, and marked.
    Kept(Stored),
}

/// DELETE of an object.
pub(crate) async fn delete(server: &Arc<Server>, call: &Call, body: Bytes) -> Outcome<Response<Body>> {
    let options = DeleteOptions::read(&call.headers, &call.query, body)?;
    let mut call = call.clone();
    if call.kind.kind == "Job" && options.propagation_policy.is_none() && options.orphan_dependents.is_none() {
        let warning = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to \
                       remove them or set propagationPolicy=Orphan to suppress this warning";
        call.warn([warning.to_owned()]);
    }
    let (deleted, warnings) = remove_because(server, &call, &call.name, &options, Cause::Delete).await?;
    call.warn(warnings);
    let call = &call;
    let (stored, code) = match deleted {
        Deleted::Gone(stored) if call.kind.delete_returns_object => (stored, StatusCode::OK),
        Deleted::Gone(stored) => return respond::value(call, StatusCode::OK, &success(call, &stored)),
        Deleted::Kept(stored) if options.orphan_dependents == Some(false) => (stored, StatusCode::ACCEPTED),
        Deleted::Kept(stored) => (stored, StatusCode::OK),
    };
    respond::object(call, code, &stored)
}

fn success(call: &Call, stored: &Stored) -> Value {
    let mut details = json!({"name": call.name, "kind": call.kind.plural, "uid": stored.metadata()["uid"]});
    if !call.kind.group.is_empty() {
        details["group"] = json!(call.kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Deletes one object of the call's collection.
pub(crate) async fn remove(server: &Arc<Server>, call: &Call, name: &str, options: &DeleteOptions) -> Outcome<Deleted> {
    let (deleted, _) = remove_because(server, call, name, options, Cause::Delete).await?;
    Ok(deleted)
}

/// Deletes one object of the call's collection for a reason; what to warn of comes along.
pub(crate) async fn remove_because(
    server: &Arc<Server>,
    call: &Call,
    name: &str,
    options: &DeleteOptions,
    cause: Cause,
) -> Outcome<(Deleted, Vec<String>)> {
    let kind = &*call.kind;
    for _ in 0..ATTEMPTS_MAX {
        let kv = server.existing(kind, &call.namespace, name).await?;
        let stored = Stored::from(&kv);
        let object = stored.object(kind)?;
        options.check_preconditions(kind, name, &object)?;
        let mut change = Change::default();
        change.require(kv.key.to_string(), kv.mod_revision);
        let mut review = Review::new(server, call, Operation::Delete, Some(&object));
        review.dry_run = options.is_dry_run()?;
        admission::validate(&mut review, &object, &mut change).await?;
        let warnings = review.warnings;
        let mut last = object.clone();
        if cause == Cause::Eviction {
            eviction::disrupt(server, call, &mut last, &mut change).await?;
        }
        let marked = mark(kind, &last, options);
        if let Some(deleted) = settle(server, kind, change, &kv, &object, &marked, options).await? {
            return Ok((deleted, warnings));
        }
    }
    Err(crate::update::modified(kind, name))
}

/// The object as the delete leaves it, if something keeps it.
fn mark(kind: &Kind, object: &Value, options: &DeleteOptions) -> Value {
    let mut marked = object.clone();
    let graceful = strategy::grace_period_s(kind, object, options.grace_period_seconds);
    let metadata = &mut marked["metadata"];
    let deleted_at = metadata["deletionTimestamp"].as_str().and_then(clock::parse_s);
    let old_grace_s = metadata["deletionGracePeriodSeconds"].as_i64();
    let now_s = clock::now_s();
    match (graceful, deleted_at) {
        (Some(grace_s), None) => set_deletion(metadata, now_s + grace_s, grace_s),
        (Some(_), Some(deleted_at)) => {
            // A grace that runs can only become shorter, and the finalizers stay as the first delete left them.
            let old_grace_s = old_grace_s.unwrap_or(0);
            if let Some(grace_s) = options
                .grace_period_seconds
                .filter(|grace_s| (0..old_grace_s).contains(grace_s))
            {
                set_deletion(metadata, deleted_at - old_grace_s + grace_s, grace_s);
            }
            return marked;
        }
        (None, None) if kind.group.is_empty() && kind.kind == "Namespace" => {
            metadata["deletionTimestamp"] = json!(clock::text(now_s));
            marked["status"]["phase"] = json!("Terminating");
        }
        (None, None) => set_deletion(metadata, now_s, 0),
        (None, Some(_)) => {}
    }
    if deleted_at.is_none()
        && let Some(generation) = marked["metadata"]["generation"]
            .as_i64()
            .filter(|generation| *generation > 0)
    {
        marked["metadata"]["generation"] = json!(generation + 1);
    }
    if deleted_at.is_none() && api::custom::is_definition(kind) {
        api::custom::begin_termination(&mut marked, &clock::text(now_s));
    }
    let present = marked["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let finalizers = options.finalizers(kind, &present);
    if finalizers.is_empty() {
        crate::create::remove(&mut marked["metadata"], "finalizers");
    } else {
        marked["metadata"]["finalizers"] = json!(finalizers);
    }
    marked
}

fn set_deletion(metadata: &mut Value, at_s: i64, grace_s: i64) {
    metadata["deletionTimestamp"] = json!(clock::text(at_s));
    metadata["deletionGracePeriodSeconds"] = json!(grace_s);
}

/// Writes or removes the marked object; `None` if another writer was first.
async fn settle(
    server: &Arc<Server>,
    kind: &Kind,
    mut change: Change,
    kv: &Arc<KeyValue>,
    object: &Value,
    marked: &Value,
    options: &DeleteOptions,
) -> Outcome<Option<Deleted>> {
    let released = is_released(kind, marked);
    if !released && marked == object {
        return Ok(Some(Deleted::Kept(Stored::from(kv))));
    }
    let value = Stored::encode(kind, marked);
    let at = |revision| {
        let stored = Stored {
            value: value.clone(),
            revision,
        };
        if released {
            Deleted::Gone(stored)
        } else {
            Deleted::Kept(stored)
        }
    };
    if options.is_dry_run()? {
        return Ok(Some(at(shown_revision(object)?.unwrap_or(0))));
    }
    if released {
        Claims::release(kind, object).enter(&mut change, "");
        change.delete(kv.key.to_string());
    } else {
        change.put(kv.key.to_string(), value.clone(), kv.lease);
    }
    let committed = server.commit(&change).await?;
    policies::settle(server, kind).await;
    match committed {
        Committed::At(revision) => Ok(Some(at(revision))),
        Committed::Lost(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(value: Value) -> DeleteOptions {
        DeleteOptions::from_value(&value).unwrap()
    }

    #[test]
    fn the_policy_decides_on_the_collectors_finalizers() {
        let present = [json!("a/b"), json!(FOREGROUND)];
        let check = |policy: Value, expected: Value| {
            let sets = admission::kind("apps", "statefulsets");
            assert_eq!(json!(options(policy).finalizers(sets, &present)), expected);
        };
        check(json!({}), json!(["a/b", FOREGROUND]));
        check(json!({"propagationPolicy": "Background"}), json!(["a/b"]));
        check(json!({"propagationPolicy": "Orphan"}), json!(["a/b", ORPHAN]));
        check(json!({"propagationPolicy": "Foreground"}), json!(["a/b", FOREGROUND]));
        check(json!({"orphanDependents": true}), json!(["a/b", ORPHAN]));
        check(json!({"orphanDependents": false}), json!(["a/b"]));
        // Some kinds leave their pods behind if nobody says anything.
        let jobs = admission::kind("batch", "jobs");
        let of_job = |policy: Value, present: &[Value]| json!(options(policy).finalizers(jobs, present));
        assert_eq!(of_job(json!({}), &[]), json!([ORPHAN]));
        assert_eq!(of_job(json!({}), &[json!(FOREGROUND)]), json!([FOREGROUND]));
        assert_eq!(of_job(json!({"propagationPolicy": "Background"}), &[]), json!([]));
    }

    #[test]
    fn policies_are_checked() {
        let code = |value| DeleteOptions::from_value(&value).unwrap_err().code;
        assert_eq!(
            code(json!({"propagationPolicy": "Orphan", "orphanDependents": true})),
            422
        );
        assert_eq!(code(json!({"propagationPolicy": "Sideways"})), 422);
        assert_eq!(options(json!({"dryRun": ["Foo"]})).is_dry_run().unwrap_err().code, 422);
    }
}
