//! What `kubectl get` shows of nodes and events.

use super::{Row, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

pub(super) fn node(row: Row<'_>) -> Vec<Value> {
    let address = |kind: &str| {
        let found = row
            .items("/status/addresses")
            .iter()
            .find(|address| address["type"] == kind);
        text::or_none(
            found
                .and_then(|address| address["address"].as_str())
                .unwrap_or_default(),
        )
        .to_owned()
    };
    let fact = |pointer: &str| match row.text(pointer) {
        "" => "<unknown>".to_owned(),
        text => text.to_owned(),
    };
    vec![
        row.name(),
        json!(status(row)),
        json!(roles(row)),
        row.age(),
        json!(row.text("/status/nodeInfo/kubeletVersion")),
        json!(address("InternalIP")),
        json!(address("ExternalIP")),
        json!(fact("/status/nodeInfo/osImage")),
        json!(fact("/status/nodeInfo/kernelVersion")),
        json!(fact("/status/nodeInfo/containerRuntimeVersion")),
    ]
}

fn status(row: Row<'_>) -> String {
    let ready = row
        .items("/status/conditions")
        .iter()
        .find(|condition| condition["type"] == "Ready");
    let status = match ready {
        None => "Unknown",
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
    };
    let closed = if row.is_true("/spec/unschedulable") {
        ",SchedulingDisabled"
    } else {
        ""
    };
    format!("{status}{closed}")
}

fn roles(row: Row<'_>) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in row.object["metadata"]["labels"].as_object().into_iter().flatten() {
        if let Some(role) = key.strip_prefix(ROLE_PREFIX).filter(|role| !role.is_empty()) {
            roles.insert(role);
        } else if let Some(role) = value.as_str().filter(|role| key == ROLE && !role.is_empty()) {
            roles.insert(role);
        }
    }
    text::or_none(&roles.into_iter().collect::<Vec<_>>().join(",")).to_owned()
}

/// Events of either group's form; fields of the newer one have other names.
pub(super) fn event(row: Row<'_>) -> Vec<Value> {
    let either = |old: &str, new: &str| match row.text(old) {
        "" => row.text(new).to_owned(),
        text => text.to_owned(),
    };
    let about = |field: &str| either(&format!("/involvedObject/{field}"), &format!("/regarding/{field}"));
    let kind = about("kind").to_lowercase();
    let object = match about("name").as_str() {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let (last, first, count) = times(row);
    vec![
        json!(last),
        json!(row.text("/type")),
        json!(row.text("/reason")),
        json!(object),
        json!(about("fieldPath")),
        json!(source(&either)),
        json!(either("/message", "/note").trim()),
        json!(first),
        json!(count),
        row.name(),
    ]
}

/// When the event was last and first seen, and how often.
fn times(row: Row<'_>) -> (String, String, i64) {
    let time = |pointers: &[&str]| {
        pointers
            .iter()
            .find(|pointer| !row.text(pointer).is_empty())
            .map(|pointer| row.since(pointer))
    };
    let first = time(&["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]);
    let first = first.unwrap_or_else(|| "<unknown>".to_owned());
    let last = time(&["/series/lastObservedTime", "/lastTimestamp", "/deprecatedLastTimestamp"]);
    let count = [
        row.number("/series/count"),
        row.number("/count"),
        row.number("/deprecatedCount"),
    ];
    let count = count.into_iter().find(|count| *count != 0).unwrap_or(1);
    (last.unwrap_or_else(|| first.clone()), first, count)
}

fn source(either: &dyn Fn(&str, &str) -> String) -> String {
    let old = |field: &str| either(&format!("/source/{field}"), &format!("/deprecatedSource/{field}"));
    let component = match old("component").as_str() {
        "" => either("/reportingComponent", "/reportingController"),
        component => component.to_owned(),
    };
    match (old("host").as_str(), either("/reportingInstance", "").as_str()) {
        ("", "") => component,
        ("", instance) => format!("{component}, {instance}"),
        (host, _) => format!("{component}, {host}"),
    }
}
