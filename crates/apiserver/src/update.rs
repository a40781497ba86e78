//! Changing objects: PUT, and the loop that PATCH and the subresources share.
//!
//! A change is a function of the stored object. It is tried against what is stored now, and again if another writer was
//! first, unless the client named the state that it changes.

use crate::admission::{self, Operation, Review};
use crate::body;
use crate::call::Call;
use crate::certificate_requests;
use crate::clock;
use crate::commit::{Change, Committed};
use crate::create::{self, Ownership, remove, shown_revision, text};
use crate::names;
use crate::policies;
use crate::respond;
use crate::server::Server;
use crate::service_addresses::{self, Claims};
use crate::status::{Outcome, bad_request, status};
use crate::stored::Stored;
use api::error::{FieldError, FieldErrorType, Status};
use api::kinds::Kind;
use api::{apply, defaults, strategy, validation};
use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use store::KeyValue;

/// How often a change is tried while other writers are first.
const ATTEMPTS_MAX: usize = 64;

/// What a change may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but status.
    Main,
    /// Status, labels and annotations.
    Status,
    /// `spec.ephemeralContainers` of a pod.
    EphemeralContainers,
    /// The resources of a pod's containers.
    Resize,
    /// `spec.finalizers` of a namespace.
    Finalizers,
    /// The node of a pod.
    Binding,
    /// The decision on a certificate request.
    Approval,
}

/// The object that a change makes of the stored one.
#[derive(Debug)]
pub(crate) struct Proposed {
    pub(crate) object: Value,
    pub(crate) ownership: Ownership,
}

impl Proposed {
    pub(crate) fn tracked(object: Value) -> Self {
        Self {
            object,
            ownership: Ownership::Track,
        }
    }
}

/// PUT of an object or of its status.
pub(crate) async fn put(server: &Arc<Server>, call: &mut Call, part: Part, body: Bytes) -> Outcome<Response<Body>> {
    let text = body::json_text(&call.headers, body)?;
    let object = body::object(call, &text)?;
    check_name(call, &object)?;
    if part == Part::Main && call.kind.create_on_update {
        let absent = server.read(&call.kind, &call.namespace, &call.name).await?.is_none();
        if absent {
            if shown_revision(&object)?.is_some() {
                return Err(Box::new(Status::not_found(&call.kind, &call.name)));
            }
            let stored = create::insert(server, call, object, Ownership::Track).await?;
            return respond::object(call, StatusCode::CREATED, &stored);
        }
    }
    let stored = change(server, call, part, |_, _| Ok(Proposed::tracked(object.clone()))).await?;
    respond::object(call, StatusCode::OK, &stored)
}

/// The name and namespace in the body must be those of the path.
pub(crate) fn check_name(call: &Call, object: &Value) -> Outcome<()> {
    let Some(name) = text(&object["metadata"]["name"]) else {
        return Err(nameless(call));
    };
    if name != call.name {
        let path = &call.name;
        let message = format!("the name of the object ({name}) does not match the name on the URL ({path})");
        return Err(bad_request(message));
    }
    let namespace = text(&object["metadata"]["namespace"]);
    if call.kind.namespaced && namespace.is_some_and(|namespace| namespace != call.namespace) {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(bad_request(message));
    }
    Ok(())
}

/// What is answered to an object without a name where it must have that of the path.
pub(crate) fn nameless(call: &Call) -> Box<Status> {
    bad_request(format!(
        "the name of the object ({} based on URL) was undeterminable: name must be provided",
        call.name
    ))
}

/// Changes a stored object; gives it as it is then.
pub(crate) async fn change(
    server: &Arc<Server>,
    call: &mut Call,
    part: Part,
    mut make: impl FnMut(&mut Call, &Value) -> Outcome<Proposed>,
) -> Outcome<Stored> {
    let warned = call.warned();
    for _ in 0..ATTEMPTS_MAX {
        let kv = server.existing(&call.kind, &call.namespace, &call.name).await?;
        let old = Stored::from(&kv);
        let old_object = old.object(&call.kind)?;
        call.forget_warnings_after(warned);
        let proposed = make(call, &old_object)?;
        if let Some(stored) = attempt(server, call, part, proposed, &kv, &old_object).await? {
            return Ok(stored);
        }
    }
    Err(modified(&call.kind, &call.name))
}

/// One try; `None` if another writer was first.
async fn attempt(
    server: &Arc<Server>,
    call: &mut Call,
    part: Part,
    proposed: Proposed,
    kv: &Arc<KeyValue>,
    old: &Value,
) -> Outcome<Option<Stored>> {
    let held = call.kind.clone();
    let kind = &*held;
    let mut new = proposed.object;
    check_identity(call, part, &new, old)?;
    carry_over(&mut new, old);
    defaults::apply(kind, &mut new);
    if part != Part::Binding {
        let mut review = Review::new(server, call, Operation::Update, Some(old));
        admission::mutate(&mut review, &mut new).await?;
        let advice = review.warnings;
        call.warn(advice);
    }
    match part {
        Part::Main => {
            strategy::prepare_update(kind, &mut new, old);
            server.check_types(kind, &mut new, Some(old));
        }
        Part::Status => strategy::prepare_status_update(kind, &mut new, old),
        Part::EphemeralContainers => strategy::prepare_ephemeral_containers(kind, &mut new, old),
        Part::Resize => strategy::prepare_resize(kind, &mut new, old),
        Part::Finalizers => prepare_finalize(&mut new, old),
        Part::Approval => strategy::approve(&mut new, old),
        Part::Binding => {}
    }
    if matches!(part, Part::Status | Part::Approval) {
        certificate_requests::date_conditions(kind, &mut new, old);
    }
    let mut errors = match part {
        Part::Main => server.config.gates.hold_back(kind, &mut new, Some(old)),
        _ => Vec::new(),
    };
    let warning = crate::metadata::distinct_owners(&mut new["metadata"]);
    call.warn(warning);
    let claims = match part {
        Part::Main => service_addresses::claim(server, kind, &mut new, Some(old)).await?,
        _ => Claims::default(),
    };
    if proposed.ownership == Ownership::Track && part != Part::Binding {
        let (manager, time) = (call.manager(), clock::now_text());
        apply::track_update(kind, Some(old), &mut new, &call.writer(&manager, &time));
    }
    errors.extend(match part {
        Part::Main => validation::update(kind, &new, old),
        Part::Status => validation::status_update(kind, &new, old),
        Part::Approval => validation::approval_update(&new, old),
        Part::EphemeralContainers => validation::ephemeral_containers_update(&new, old),
        Part::Resize => validation::resize(&new, old),
        Part::Finalizers | Part::Binding => Vec::new(),
    });
    if part == Part::Status {
        errors.extend(certificate_requests::check_certificate(kind, &new, old));
    }
    if !errors.is_empty() {
        return Err(Box::new(Status::invalid(kind, &call.name, &errors)));
    }
    call.warn(validation::warnings(kind, &new, Some(old)));
    let mut change = Change::default();
    change.require(kv.key.to_string(), kv.mod_revision);
    if part != Part::Binding {
        let mut review = Review::new(server, call, Operation::Update, Some(old));
        admission::validate(&mut review, &new, &mut change).await?;
        let advice = review.warnings;
        call.warn(advice);
    }
    store_changed(server, call, change, &claims, &new, kv, old).await
}

async fn store_changed(
    server: &Arc<Server>,
    call: &Call,
    mut change: Change,
    claims: &Claims,
    new: &Value,
    kv: &Arc<KeyValue>,
    old: &Value,
) -> Outcome<Option<Stored>> {
    let kind = &*call.kind;
    if is_same(new, old) {
        return Ok(Some(Stored::from(kv)));
    }
    let value = Stored::encode(kind, new);
    if call.write.dry_run {
        return Ok(Some(Stored {
            value,
            revision: kv.mod_revision,
        }));
    }
    // What kept a deleted object is gone, so this write is its end.
    let ends = is_released(kind, new);
    if ends {
        Claims::release(kind, old).enter(&mut change, "");
        change.delete(kv.key.to_string());
    } else {
        claims.enter(&mut change, &format!("{}/{}", call.namespace, call.name));
        let lease = if kind.custom.is_none() && kind.storage_kind().plural == "events" {
            Some(server.event_lease().await?)
        } else {
            kv.lease
        };
        change.put(kv.key.to_string(), value.clone(), lease);
    }
    let committed = server.commit(&change).await?;
    policies::settle(server, kind).await;
    match committed {
        // Clients see an object that ends with the revision it had.
        Committed::At(_) if ends => Ok(Some(Stored {
            value,
            revision: kv.mod_revision,
        })),
        Committed::At(revision) => Ok(Some(Stored { value, revision })),
        Committed::Lost(lost) => {
            let lost: Vec<&str> = lost.iter().map(|place| change.required_key(*place)).collect();
            if !lost.contains(&&*kv.key) {
                claims.refused(kind, &call.name, &lost)?;
            }
            Ok(None)
        }
    }
}

fn check_identity(call: &Call, part: Part, new: &Value, old: &Value) -> Outcome<()> {
    let kind = &*call.kind;
    let (uid, old_uid) = (
        text(&new["metadata"]["uid"]),
        text(&old["metadata"]["uid"]).unwrap_or(""),
    );
    if let Some(uid) = uid.filter(|uid| *uid != old_uid) {
        let key = names::shown_key(kind, &call.namespace, &call.name);
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
             failed: UID in precondition: {uid}, UID in object meta: {old_uid}"
        );
        return Err(Box::new(Status::conflict(kind, &call.name, &why)));
    }
    match shown_revision(new)? {
        None if part == Part::Main && !kind.unconditional_update => Err(must_name_revision(kind, &call.name)),
        Some(_) if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] => {
            Err(modified(kind, &call.name))
        }
        _ => Ok(()),
    }
}

/// 409 for a write that another one has overtaken.
pub(crate) fn modified(kind: &Kind, name: &str) -> Box<Status> {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Box::new(Status::conflict(kind, name, why))
}

/// Upstream names the resource, not the kind, in this one.
fn must_name_revision(kind: &Kind, name: &str) -> Box<Status> {
    let error = FieldError {
        error: FieldErrorType::Invalid,
        field: "metadata.resourceVersion".to_owned(),
        value: Some(json!(0)),
        detail: "must be specified for an update".to_owned(),
    };
    let mut invalid = Status::invalid(kind, name, &[error]);
    invalid.message = invalid
        .message
        .replacen(&kind.qualified_kind(), &kind.qualified_resource(), 1);
    invalid.details["kind"] = json!(kind.plural);
    status(invalid.code, invalid.reason, invalid.message, invalid.details)
}

/// Of a namespace that is being finalized, only what finalizing is about comes from the client.
fn prepare_finalize(new: &mut Value, old: &Value) {
    let mut merged = old.clone();
    merged["spec"] = if new["spec"].is_object() {
        new["spec"].clone()
    } else {
        json!({})
    };
    for field in ["labels", "annotations", "finalizers"] {
        if new["metadata"][field].is_null() {
            remove(&mut merged["metadata"], field);
        } else {
            merged["metadata"][field] = new["metadata"][field].clone();
        }
    }
    *new = merged;
}

/// The state that the client named has been compared; from here on the object is about the stored one.
fn carry_over(new: &mut Value, old: &Value) {
    let (new, old) = (&mut new["metadata"], &old["metadata"]);
    new["resourceVersion"] = old["resourceVersion"].clone();
    if old["namespace"].is_null() {
        remove(new, "namespace");
    } else {
        new["namespace"] = old["namespace"].clone();
    }
    remove(new, "selfLink");
}

/// Whether nothing changed but the times at which nothing was written.
fn is_same(new: &Value, old: &Value) -> bool {
    let same_metadata = |new: &Value, old: &Value| {
        same_but(new, old, "managedFields", |new, old| {
            let (new, old) = (
                new.as_array().map_or(&[][..], Vec::as_slice),
                old.as_array().map_or(&[][..], Vec::as_slice),
            );
            new.len() == old.len()
                && new
                    .iter()
                    .zip(old)
                    .all(|(new, old)| same_but(new, old, "time", |_, _| true))
        })
    };
    same_but(new, old, "metadata", same_metadata)
}

/// Whether two objects are equal, where one field is compared in its own way.
fn same_but(new: &Value, old: &Value, field: &str, compare: impl Fn(&Value, &Value) -> bool) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return new == old;
    };
    let others = |object: &Map<String, Value>| object.len() - usize::from(object.contains_key(field));
    let null = Value::Null;
    compare(new.get(field).unwrap_or(&null), old.get(field).unwrap_or(&null))
        && others(new) == others(old)
        && new
            .iter()
            .all(|(key, value)| key == field || old.get(key) == Some(value))
}

/// Whether a deleted object has nothing left that keeps it.
pub(crate) fn is_released(kind: &Kind, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    !metadata["deletionTimestamp"].is_null()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && empty(&metadata["finalizers"])
        && (kind.kind != "Namespace" || !kind.group.is_empty() || empty(&object["spec"]["finalizers"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_entry_alone_is_no_change() {
        let object =
            |time: &str, k: &str| json!({"metadata": {"managedFields": [{"manager": "a", "time": time}]}, "k": k});
        assert!(is_same(&object("1", "v"), &object("2", "v")));
        assert!(!is_same(&object("1", "v"), &object("1", "w")));
    }

    #[test]
    fn a_deleted_object_is_kept_by_finalizers_and_grace() {
        let pods = admission::kind("", "pods");
        let check = |metadata: Value, expected: bool| {
            assert_eq!(is_released(pods, &json!({"metadata": metadata})), expected);
        };
        check(json!({}), false);
        check(json!({"deletionTimestamp": "t"}), true);
        check(
            json!({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}),
            false,
        );
        check(
            json!({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0, "finalizers": ["a"]}),
            false,
        );
        let namespaces = admission::kind("", "namespaces");
        let namespace = json!({"metadata": {"deletionTimestamp": "t"}, "spec": {"finalizers": ["kubernetes"]}});
        assert!(!is_released(namespaces, &namespace));
    }
}
