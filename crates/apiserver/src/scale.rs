//! `/scale`: the number of replicas of an object, without the rest of it.

use crate::body;
use crate::call::Call;
use crate::create::{Ownership, text};
use crate::patch::{Patch, PatchKind};
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, bad_request, internal, virtual_kind};
use crate::stored::Stored;
use crate::update::{self, Part, Proposed, check_name};
use api::error::{FieldError, FieldErrorType, Status};
use api::schema;
use api::selector::LabelSelector;
use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

const SCHEMA: &str = "io.k8s.api.autoscaling.v1.Scale";

/// GET of `/scale`.
pub(crate) async fn get(server: &Server, call: &Call) -> Outcome<Response<Body>> {
    let kv = server.existing(&call.kind, &call.namespace, &call.name).await?;
    respond::value(call, StatusCode::OK, &of(call, &Stored::from(&kv))?)
}

/// PUT of `/scale`.
pub(crate) async fn put(server: &Arc<Server>, call: &mut Call, body: Bytes) -> Outcome<Response<Body>> {
    let text = body::json_text(&call.headers, body)?;
    let decoded = schema::decode(SCHEMA, &text, call.write.field_validation);
    let decoded = decoded
        .map_err(|error| bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: {error}")))?;
    call.warn(decoded.warnings);
    change(server, call, |_, _| Ok(decoded.object.clone())).await
}

/// PATCH of `/scale`.
pub(crate) async fn patch(server: &Arc<Server>, call: &mut Call, body: Bytes) -> Outcome<Response<Body>> {
    let mut patch = Patch::read(call, &body)?;
    if patch.kind == PatchKind::Apply {
        // A scale has two fields; applying one is the same as merging it.
        patch.kind = PatchKind::Merge;
    }
    change(server, call, |call, current| {
        let patched = patch.apply_to(SCHEMA, current)?;
        let decoded = schema::decode_value(SCHEMA, patched, call.write.field_validation);
        decoded
            .map(|decoded| decoded.object)
            .map_err(|error| bad_request(error.to_string()))
    })
    .await
}

async fn change(
    server: &Arc<Server>,
    call: &mut Call,
    make: impl Fn(&Call, &Value) -> Outcome<Value>,
) -> Outcome<Response<Body>> {
    let stored = update::change(server, call, Part::Main, |call, object| {
        let mut scale = make(call, &scale_of(call, object)?)?;
        if scale["metadata"]["name"].is_null() {
            scale["metadata"]["name"] = json!(call.name);
        }
        check_name(call, &scale)?;
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            return Err(negative(&call.name, replicas));
        }
        let mut object = object.clone();
        match &call.kind.custom {
            Some(version) => version.set_replicas(&mut object, replicas),
            None => object["spec"]["replicas"] = json!(replicas),
        }
        // What the client says of the object's identity and state is checked like in any other update.
        for field in ["uid", "resourceVersion"] {
            object["metadata"][field] = match text(&scale["metadata"][field]) {
                Some(given) => json!(given),
                None => object["metadata"][field].clone(),
            };
        }
        Ok(Proposed {
            object,
            ownership: Ownership::Track,
        })
    })
    .await?;
    respond::value(call, StatusCode::OK, &of(call, &stored)?)
}

fn negative(name: &str, replicas: i64) -> Box<Status> {
    let error = FieldError {
        error: FieldErrorType::Invalid,
        field: "spec.replicas".to_owned(),
        value: Some(json!(replicas)),
        detail: "must be greater than or equal to 0".to_owned(),
    };
    Box::new(Status::invalid(&virtual_kind("autoscaling", "Scale"), name, &[error]))
}

fn of(call: &Call, stored: &Stored) -> Outcome<Value> {
    scale_of(call, &stored.object(&call.kind)?)
}

/// The `Scale` of an object.
pub(crate) fn scale_of(call: &Call, object: &Value) -> Outcome<Value> {
    let metadata = &object["metadata"];
    let mut shown = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !metadata[field].is_null() {
            shown[field] = metadata[field].clone();
        }
    }
    let custom = call.kind.custom.as_ref().and_then(|version| version.scale(object));
    let (replicas, current, selector) = match custom {
        Some(scale) => scale,
        None => (
            object["spec"]["replicas"].as_i64().unwrap_or(0),
            object["status"]["replicas"].as_i64().unwrap_or(0),
            selector_text(call, &object["spec"]["selector"])?,
        ),
    };
    let spec = if replicas == 0 {
        json!({})
    } else {
        json!({"replicas": replicas})
    };
    let mut status = json!({"replicas": current});
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": shown, "spec": spec, "status": status}))
}

fn selector_text(call: &Call, selector: &Value) -> Outcome<String> {
    // ReplicationControllers select by a bare map of labels.
    let bare = call.kind.group.is_empty() && call.kind.kind == "ReplicationController";
    let wrapped = json!({"matchLabels": selector});
    let selector = LabelSelector::from_object(if bare { &wrapped } else { selector });
    selector
        .map(|selector| selector.to_text())
        .map_err(|error| internal(format!("the selector cannot be read: {error}")))
}
