//! PATCH: JSON patch, merge patch, strategic merge patch, server-side apply.

use crate::body;
use crate::call::Call;
use crate::clock;
use crate::create::{self, Ownership, shown_revision, text};
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, bad_request, invalid_options, status, too_large, unsupported_patch};
use crate::update::{self, Part, Proposed, check_name, modified, nameless};
use api::apply;
use api::error::{FieldErrorType, Status};
use api::patch::{self, PatchError};
use api::schema::{DecodeError, FieldValidation};
use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    pub(crate) fn of(media_type: &str) -> Outcome<Self> {
        match media_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(unsupported_patch()),
        }
    }
}

/// A patch, read but not yet applied.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    pub(crate) kind: PatchKind,
    content: Value,
    /// Where a field stands twice, to be warned of.
    doubles: Option<String>,
}

impl Patch {
    /// Reads the patch of a request and checks the parameters that depend on its kind.
    pub(crate) fn read(call: &Call, body: &Bytes) -> Outcome<Self> {
        let kind = PatchKind::of(body::media_type(&call.headers))?;
        if kind == PatchKind::Strategic && call.kind.custom.is_some() {
            return Err(unsupported_patch());
        }
        if kind == PatchKind::Apply {
            if call.write.field_manager.is_none() {
                let detail = "is required for apply patch";
                return Err(invalid_options(
                    "PatchOptions",
                    "fieldManager",
                    FieldErrorType::Required,
                    detail,
                ));
            }
        } else if call.write.force.is_some() {
            let detail = "may not be specified for non-apply patch";
            return Err(invalid_options(
                "PatchOptions",
                "force",
                FieldErrorType::Forbidden,
                detail,
            ));
        }
        let mut doubles = None;
        let content = match kind {
            PatchKind::Apply => {
                let (content, found) = body::yaml_with_doubles(body)?;
                match (found, call.write.field_validation) {
                    (Some(found), FieldValidation::Strict) => {
                        return Err(bad_request(format!("error strict decoding YAML: {found}")));
                    }
                    (found, FieldValidation::Warn) => doubles = found.map(|found| found.replace("\n  ", " ")),
                    _ => {}
                }
                content
            }
            _ => serde_json::from_slice(body).map_err(|error| bad_request(format!("error decoding patch: {error}")))?,
        };
        if kind == PatchKind::Json && !content.is_array() {
            let message =
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
            return Err(bad_request(message));
        }
        Ok(Self { kind, content, doubles })
    }

    /// Applies a patch other than an apply to a whole object of the type `schema`.
    pub(crate) fn apply_to(&self, schema: &str, current: &Value) -> Outcome<Value> {
        let patched = match self.kind {
            PatchKind::Json => patch::json(current, &self.content),
            PatchKind::Merge => patch::merge(current, &self.content),
            PatchKind::Strategic => patch::strategic(schema, current, &self.content),
            PatchKind::Apply => return Err(unsupported_patch()),
        };
        patched.map_err(|error| match error {
            PatchError::Malformed(why) => bad_request(why),
            PatchError::TooLarge(why) => too_large(&why),
            PatchError::DoesNotApply(_) => {
                let message = "the server rejected our request due to an error in our request";
                status(422, "Invalid", message, json!({}))
            }
        })
    }
}

/// PATCH of an object or of its status.
pub(crate) async fn patch(server: &Arc<Server>, call: &mut Call, part: Part, body: Bytes) -> Outcome<Response<Body>> {
    let patch = Patch::read(call, &body)?;
    call.warn(patch.doubles.clone());
    if patch.kind == PatchKind::Apply {
        return apply_patch(server, call, part, patch.content).await;
    }
    let stored = update::change(server, call, part, |call, current| {
        let patched = patch.apply_to(call.kind.schema, current)?;
        check_name(call, &patched)?;
        Ok(Proposed::tracked(body::patched(call, patched, &patch.content)?))
    })
    .await?;
    respond::object(call, StatusCode::OK, &stored)
}

async fn apply_patch(server: &Arc<Server>, call: &mut Call, part: Part, content: Value) -> Outcome<Response<Body>> {
    let is_named = text(&content["metadata"]["name"]).is_some();
    let config = read_config(call, content)?;
    let exists = server.read(&call.kind, &call.namespace, &call.name).await?.is_some();
    if exists || part != Part::Main {
        match change_applied(server, call, part, &config).await {
            // It may have been deleted in the meantime; then the apply creates it.
            Err(status) if status.code == 404 && part == Part::Main => {}
            stored => return respond::object(call, StatusCode::OK, &stored?),
        }
    }
    // Of an object that is there the name is known; a new one has only what is applied.
    if !is_named {
        return Err(nameless(call));
    }
    if text(&config["metadata"]["uid"]).is_some() || shown_revision(&config)?.is_some() {
        return Err(modified(&call.kind, &call.name));
    }
    let object = applied(call, None, &config)?;
    match create::insert(server, call, object, Ownership::Settled).await {
        Ok(stored) => respond::object(call, StatusCode::CREATED, &stored),
        // Somebody else created it in the meantime.
        Err(status) if status.reason == "AlreadyExists" => {
            let stored = change_applied(server, call, part, &config).await?;
            respond::object(call, StatusCode::OK, &stored)
        }
        Err(status) => Err(status),
    }
}

async fn change_applied(
    server: &Arc<Server>,
    call: &mut Call,
    part: Part,
    config: &Value,
) -> Outcome<crate::stored::Stored> {
    update::change(server, call, part, |call, current| {
        let named = shown_revision(config)?;
        if named.is_some() && named != shown_revision(current)? {
            return Err(modified(&call.kind, &call.name));
        }
        Ok(Proposed {
            object: applied(call, Some(current), config)?,
            ownership: Ownership::Settled,
        })
    })
    .await
}

fn applied(call: &Call, live: Option<&Value>, config: &Value) -> Outcome<Value> {
    let (manager, time) = (call.manager(), clock::now_text());
    apply::apply(
        &call.kind,
        live,
        config,
        &call.writer(&manager, &time),
        call.write.force.unwrap_or(false),
    )
}

/// Upstream's words for fields that no schema has: (`unknown` says `unknown field "spec.a"`).
fn undeclared(named: &str, unknown: &[String]) -> Box<Status> {
    let paths = unknown.iter().map(|text| text.split('"').nth(1).unwrap_or(text));
    let lines: Vec<String> = paths
        .map(|path| format!(".{path}: field not declared in schema"))
        .collect();
    let why = match lines.as_slice() {
        [one] => one.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    let message = format!("failed to create typed patch object ({named}): {why}");
    status(500, "", message, Value::Null)
}

/// Decodes and checks what an apply wants.
fn read_config(call: &mut Call, mut content: Value) -> Outcome<Value> {
    let held = call.kind.clone();
    let kind = &*held;
    let (api_version, its_kind) = (
        content["apiVersion"].as_str().unwrap_or(""),
        content["kind"].as_str().unwrap_or(""),
    );
    if api_version != kind.api_version() || its_kind != kind.kind {
        let expected = format!("{}, Kind={}", kind.api_version(), kind.kind);
        return Err(bad_request(format!(
            "invalid object type: {api_version}, Kind={its_kind}; expected {expected}"
        )));
    }
    if !content["metadata"].is_object() {
        content["metadata"] = json!({});
    }
    if text(&content["metadata"]["name"]).is_none() {
        content["metadata"]["name"] = json!(call.name);
    }
    check_name(call, &content)?;
    if kind.namespaced {
        content["metadata"]["namespace"] = json!(call.namespace);
    } else {
        create::remove(&mut content["metadata"], "namespace");
    }
    if content["metadata"]["managedFields"]
        .as_array()
        .is_some_and(|entries| !entries.is_empty())
    {
        return Err(bad_request("metadata.managedFields must be nil"));
    }
    // What is applied to a custom resource must be in its schema, whatever the client says of validation.
    let validation = match kind.custom {
        Some(_) => FieldValidation::Strict,
        None => call.write.field_validation,
    };
    let named = format!(
        "{}/{}; {}, Kind={}",
        call.namespace,
        call.name,
        kind.api_version(),
        kind.kind
    );
    let decoded = body::decode_value(kind, content, validation).map_err(|error| match error {
        DecodeError::Strict(unknown) if kind.custom.is_some() => undeclared(&named, &unknown),
        error => bad_request(error.to_string()),
    })?;
    call.warn(decoded.warnings);
    let mut object = decoded.object;
    object["kind"] = json!(kind.kind);
    object["apiVersion"] = json!(kind.api_version());
    Ok(object)
}
