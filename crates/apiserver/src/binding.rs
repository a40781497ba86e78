//! Binding: the one write that gives a pod its node.

use crate::admission::{Operation, sent, validate_sent};
use crate::body;
use crate::call::Call;
use crate::clock;
use crate::create::{Ownership, text};
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, bad_request, status};
use crate::stored::Stored;
use crate::update::{self, Part, Proposed};
use api::error::{FieldError, Status};
use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// POST to `pods/NAME/binding`, or to `bindings` with the pod's name in the body.
pub(crate) async fn bind(server: &Arc<Server>, call: &mut Call, body: Bytes) -> Outcome<Response<Body>> {
    let text_of_body = body::json_text(&call.headers, body)?;
    let mut binding: Value = serde_json::from_slice(&text_of_body).map_err(|error| {
        bad_request(format!(
            "Binding in version \"v1\" cannot be handled as a Binding: {error}"
        ))
    })?;
    let name = text(&binding["metadata"]["name"]).unwrap_or(&call.name).to_owned();
    if call.name.is_empty() {
        call.name = name;
    } else if name != call.name {
        return Err(bad_request("name in URL does not match name in Binding object"));
    }
    let mut errors = Vec::new();
    if let Some(kind) = text(&binding["target"]["kind"]).filter(|kind| *kind != "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    let node = text(&binding["target"]["name"]).unwrap_or_default().to_owned();
    if node.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        return Err(Box::new(Status::invalid_named("", "Binding", &call.name, &errors)));
    }
    validate_sent(server, call, Operation::Create, &sent(&binding, "v1", "Binding")).await?;
    add_topology(server, &mut binding, &node).await?;
    update::change(server, call, Part::Binding, |call, pod| {
        bound(call, pod, &binding, &node)
    })
    .await?;
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::value(call, StatusCode::CREATED, &success)
}

/// Lets the pod know where its node is: upstream's PodTopologyLabels.
async fn add_topology(server: &Server, binding: &mut Value, node: &str) -> Outcome<()> {
    let nodes = crate::admission::kind("", "nodes");
    let Some(kv) = server.read(nodes, "", node).await? else {
        return Ok(());
    };
    let labels = Stored::from(&kv).labels();
    for key in ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"] {
        if labels[key].is_string() {
            binding["metadata"]["labels"][key] = labels[key].clone();
        }
    }
    Ok(())
}

fn bound(call: &Call, pod: &Value, binding: &Value, node: &str) -> Outcome<Proposed> {
    let name = &call.name;
    let uid = text(&binding["metadata"]["uid"]);
    if let Some(uid) = uid.filter(|uid| pod["metadata"]["uid"] != **uid) {
        let found = pod["metadata"]["uid"].as_str().unwrap_or("");
        return Err(conflict(
            name,
            &format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"),
        ));
    }
    let version = text(&binding["metadata"]["resourceVersion"]);
    if let Some(version) = version.filter(|version| pod["metadata"]["resourceVersion"] != **version) {
        let found = pod["metadata"]["resourceVersion"].as_str().unwrap_or("");
        return Err(conflict(
            name,
            &format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {found}"
            ),
        ));
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return Err(conflict(
            name,
            &format!("pod {name} is being deleted, cannot be assigned to a host"),
        ));
    }
    if let Some(assigned) = text(&pod["spec"]["nodeName"]) {
        return Err(conflict(
            name,
            &format!("pod {name} is already assigned to node {assigned:?}"),
        ));
    }
    if pod["spec"]["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty())
    {
        return Err(conflict(
            name,
            &format!("pod {name} has non-empty .spec.schedulingGates"),
        ));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = json!(node);
    for field in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][field].as_object().into_iter().flatten() {
            pod["metadata"][field][key] = value.clone();
        }
    }
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": clock::now_text()});
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let conditions = pod["status"]["conditions"]
        .as_array_mut()
        .expect("it was made an array above");
    match conditions
        .iter_mut()
        .find(|condition| condition["type"] == "PodScheduled")
    {
        Some(scheduled) => *scheduled = condition,
        None => conditions.push(condition),
    }
    Ok(Proposed {
        object: pod,
        ownership: Ownership::Settled,
    })
}

fn conflict(name: &str, why: &str) -> Box<Status> {
    let message = format!("Operation cannot be fulfilled on pods/binding {name:?}: {why}");
    status(409, "Conflict", message, json!({"name": name, "kind": "pods/binding"}))
}
