//! Creating objects: what the server adds, what it checks, and the one transaction that stores them.

use crate::admission::{self, Operation, Review};
use crate::body;
use crate::call::Call;
use crate::certificate_requests;
use crate::clock;
use crate::commit::{Change, Committed};
use crate::metadata;
use crate::names;
use crate::policies;
use crate::respond;
use crate::server::Server;
use crate::service_addresses::{self, Claims};
use crate::status::{Outcome, bad_request, internal, status};
use crate::stored::Stored;
use api::apply;
use api::error::{FieldError, FieldErrorType, Status};
use api::{defaults, strategy, validation};
use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use store::Revision;

/// How often a generated name that is taken is generated anew, as upstream does.
const GENERATED_NAMES_MAX: usize = 8;

/// How often a create starts over because something beside the object changed (its namespace, a service address).
const ATTEMPTS_MAX: usize = 64;

/// Who settles `managedFields` of a written object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The write records what it changed.
    Track,
    /// Server-side apply has recorded it already.
    Settled,
}

/// POST to a collection.
pub(crate) async fn create(server: &Arc<Server>, call: &mut Call, body: Bytes) -> Outcome<Response<Body>> {
    let text = body::json_text(&call.headers, body)?;
    let object = body::object(call, &text)?;
    let stored = insert(server, call, object, Ownership::Track).await?;
    respond::object(call, StatusCode::CREATED, &stored)
}

/// Creates a decoded object.
pub(crate) async fn insert(
    server: &Arc<Server>,
    call: &mut Call,
    mut object: Value,
    ownership: Ownership,
) -> Outcome<Stored> {
    let held = call.kind.clone();
    let kind = &*held;
    ready_metadata(call, &mut object)?;
    if kind.has_status {
        // A new object has no status but the one the server gives it, and nobody owns fields of it.
        remove(&mut object, "status");
    }
    defaults::apply(kind, &mut object);
    if ownership == Ownership::Track {
        let (manager, time) = (call.manager(), clock::now_text());
        remove(&mut object["metadata"], "managedFields");
        apply::track_update(kind, None, &mut object, &call.writer(&manager, &time));
    }
    let mut review = Review::new(server, call, Operation::Create, None);
    admission::mutate(&mut review, &mut object).await?;
    let advice = review.warnings;
    call.warn(advice);
    if kind.group == "batch" && kind.kind == "Job" {
        // A job's name goes into the labels of its pods, so it cannot wait for the attempt to store it.
        generate_name(&mut object["metadata"]);
    }
    // After the steps that may change the object: no webhook says who asks for a certificate.
    certificate_requests::sign(kind, &mut object, &call.user);
    strategy::prepare_create(kind, &mut object);
    server.check_types(kind, &mut object, None);
    let warnings = validation::warnings(kind, &object, None);
    call.warn(warnings);
    store_new(server, call, object).await
}

/// Checks and fills in what every object's metadata has.
fn ready_metadata(call: &mut Call, object: &mut Value) -> Outcome<()> {
    let held = call.kind.clone();
    let kind = &*held;
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    if text(&object["metadata"]["resourceVersion"]).is_some_and(|revision| revision != "0") {
        let message = "resourceVersion should not be set on objects to be created";
        return Err(status(500, "", message, Value::Null));
    }
    metadata::settle_namespace(call, object)?;
    let metadata = &mut object["metadata"];
    if kind.kind == "LimitRange" && text(&metadata["name"]).is_none() && text(&metadata["generateName"]).is_none() {
        // The one kind that upstream gives a name to.
        metadata["name"] = json!(names::uid());
    }
    if text(&metadata["name"]).is_none() && text(&metadata["generateName"]).is_none() {
        let error = FieldError {
            error: FieldErrorType::Required,
            field: "metadata.name".to_owned(),
            value: None,
            detail: "name or generateName is required".to_owned(),
        };
        return Err(Box::new(Status::invalid(kind, "", &[error])));
    }
    for field in [
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        remove(metadata, field);
    }
    metadata["uid"] = json!(names::uid());
    metadata["creationTimestamp"] = json!(clock::now_text());
    let warning = metadata::distinct_owners(metadata);
    call.warn(warning);
    Ok(())
}

/// A new object on its way into the store.
struct Attempt {
    change: Change,
    claims: Claims,
    /// What the conditions of `change` are about, in their order.
    key: String,
    namespace_key: Option<String>,
}

async fn store_new(server: &Arc<Server>, call: &mut Call, mut object: Value) -> Outcome<Stored> {
    let held = call.kind.clone();
    let kind = &*held;
    let generated = text(&object["metadata"]["name"]).is_none();
    let lease = if kind.custom.is_none() && kind.storage_kind().plural == "events" && !call.write.dry_run {
        Some(server.event_lease().await?)
    } else {
        None
    };
    // What an attempt fills in it fills in alike the next time, generated names and addresses excepted.
    let as_it_came = (generated || service_addresses::is_service(kind)).then(|| object.clone());
    let mut names_tried = 0;
    let warned = call.warned();
    for _ in 0..ATTEMPTS_MAX {
        call.forget_warnings_after(warned);
        if let Some(as_it_came) = &as_it_came {
            object.clone_from(as_it_came);
        }
        let attempt = prepare(server, call, &mut object).await?;
        let value = Stored::encode(kind, &object);
        let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let mut change = attempt.change;
        change.put(attempt.key.clone(), value.clone(), lease);
        if call.write.dry_run {
            let exists = server.read_key(attempt.key).await?.is_some();
            return if exists {
                Err(taken(server, call, &name).await)
            } else {
                Ok(Stored { value, revision: 0 })
            };
        }
        let lost = match server.commit(&change).await? {
            Committed::At(revision) => {
                policies::settle(server, kind).await;
                return Ok(Stored { value, revision });
            }
            Committed::Lost(lost) => lost,
        };
        let lost: Vec<&str> = lost.iter().map(|place| change.required_key(*place)).collect();
        if lost.contains(&attempt.key.as_str()) {
            names_tried += 1;
            if !generated || names_tried >= GENERATED_NAMES_MAX {
                return Err(taken(server, call, &name).await);
            }
        } else if !lost.iter().any(|key| attempt.namespace_key.as_deref() == Some(key)) {
            attempt.claims.refused(kind, &name, &lost)?;
        }
    }
    Err(internal(
        "the object could not be created: its surroundings change too fast",
    ))
}

fn generate_name(metadata: &mut Value) {
    if text(&metadata["name"]).is_none() {
        metadata["name"] = json!(names::generate(text(&metadata["generateName"]).unwrap_or_default()));
    }
}

/// Everything that must be looked up anew for each attempt.
async fn prepare(server: &Arc<Server>, call: &mut Call, object: &mut Value) -> Outcome<Attempt> {
    let held = call.kind.clone();
    let kind = &*held;
    let metadata = &mut object["metadata"];
    generate_name(metadata);
    let name = text(&metadata["name"]).unwrap_or_default().to_owned();
    strategy::label_with_name(kind, object);
    let mut change = Change::default();
    let key = names::key(kind, &call.namespace, &name);
    change.require(key.clone(), 0);
    let mut namespace_key = None;
    if kind.namespaced {
        let (its_key, revision) = admission::live_namespace(server, kind, &call.namespace, &name).await?;
        change.require(its_key.clone(), revision);
        namespace_key = Some(its_key);
    }
    let claims = service_addresses::claim(server, kind, object, None).await?;
    claims.enter(&mut change, &format!("{}/{name}", call.namespace));
    let mut errors = server.config.gates.hold_back(kind, object, None);
    errors.extend(validation::create(kind, object));
    // The kind's own rules may have found the same already.
    let wrong = certificate_requests::check(kind, object);
    errors.extend(wrong.filter(|wrong| errors.iter().all(|error| error.field != wrong.field)));
    if !errors.is_empty() {
        return Err(Box::new(Status::invalid(kind, &name, &errors)));
    }
    let mut review = Review::new(server, call, Operation::Create, None);
    admission::validate(&mut review, object, &mut change).await?;
    let advice = review.warnings;
    call.warn(advice);
    if kind.group.is_empty() && kind.kind == "Namespace" {
        let (key, value) = admission::default_service_account(&name);
        change.put(key, value, None);
    }
    Ok(Attempt {
        change,
        claims,
        key,
        namespace_key,
    })
}

/// 409 for a name that is taken; whoever waits for it learns whether its holder is about to go.
async fn taken(server: &Server, call: &Call, name: &str) -> Box<Status> {
    let mut status = Status::already_exists(&call.kind, name);
    if let Ok(Some(kv)) = server.read(&call.kind, &call.namespace, name).await
        && Stored::from(&kv).is_going()
    {
        status.message = format!("object is being deleted: {}", status.message);
    }
    Box::new(status)
}

/// The text of a field; an empty one counts as absent.
pub(crate) fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

/// Removes a field of an object.
pub(crate) fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

/// The revision that an object shows; `None` if it shows none.
pub(crate) fn shown_revision(object: &Value) -> Outcome<Option<Revision>> {
    let shown = text(&object["metadata"]["resourceVersion"]).filter(|shown| *shown != "0");
    let parsed = shown.map(str::parse).transpose();
    parsed.map_err(|_| bad_request("metadata.resourceVersion: Invalid value: must be a number"))
}
