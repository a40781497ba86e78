//! What `kubectl get` shows of autoscalers, certificates, admission, flow control, devices and classes.

use super::Row;
use serde_json::{Value, json};

pub(super) fn autoscaler(row: Row<'_>) -> Vec<Value> {
    let reference = format!(
        "{}/{}",
        row.text("/spec/scaleTargetRef/kind"),
        row.text("/spec/scaleTargetRef/name")
    );
    let min = row.object.pointer("/spec/minReplicas").and_then(Value::as_i64);
    vec![
        row.name(),
        json!(reference),
        json!(targets(row)),
        json!(min.map_or_else(|| "<unset>".to_owned(), |min| min.to_string())),
        json!(row.number("/spec/maxReplicas")),
        json!(row.number("/status/currentReplicas")),
        row.age(),
    ]
}

/// Current and wanted value of each metric; at most two are shown.
fn targets(row: Row<'_>) -> String {
    const SHOWN_MAX: usize = 2;
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => format!("{number}%"),
        _ => "<unknown>".to_owned(),
    };
    if let Some(wanted) = row.object.pointer("/spec/targetCPUUtilizationPercentage") {
        let current = row.object.pointer("/status/currentCPUUtilizationPercentage");
        return format!("cpu: {}/{}", shown(current.unwrap_or(&Value::Null)), shown(wanted));
    }
    let metrics = row.items("/spec/metrics");
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let current = row.items("/status/currentMetrics");
    let texts = metrics.iter().enumerate().take(SHOWN_MAX).map(|(index, metric)| {
        let (field, prefix) = match metric["type"].as_str().unwrap_or_default() {
            "Resource" => (
                "resource",
                format!("{}: ", metric["resource"]["name"].as_str().unwrap_or_default()),
            ),
            "ContainerResource" => (
                "containerResource",
                format!("{}: ", metric["containerResource"]["name"].as_str().unwrap_or_default()),
            ),
            "Pods" => ("pods", String::new()),
            "Object" => ("object", String::new()),
            _ => ("external", String::new()),
        };
        let target = &metric[field]["target"];
        let kind = ["averageUtilization", "averageValue", "value"]
            .into_iter()
            .find(|kind| !target[*kind].is_null())
            .unwrap_or("value");
        let now = current
            .get(index)
            .map_or(&Value::Null, |current| &current[field]["current"][kind]);
        let suffix = if kind == "averageValue" && field != "resource" && field != "pods" {
            " (avg)"
        } else {
            ""
        };
        format!("{prefix}{}/{}{suffix}", shown(now), shown(&target[kind]))
    });
    let text = texts.collect::<Vec<_>>().join(", ");
    match metrics.len().saturating_sub(SHOWN_MAX) {
        0 => text,
        more => format!("{text} + {more} more..."),
    }
}

pub(super) fn certificate_request(row: Row<'_>) -> Vec<Value> {
    let has = |kind: &str| {
        row.items("/status/conditions")
            .iter()
            .any(|condition| condition["type"] == kind)
    };
    let mut state = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !row.text("/status/certificate").is_empty() {
        state.push_str(",Issued");
    }
    let asked = row.object.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    vec![
        row.name(),
        row.age(),
        json!(row.text("/spec/signerName")),
        json!(row.text("/spec/username")),
        json!(asked.map_or_else(|| "<none>".to_owned(), super::human)),
        json!(state),
    ]
}

pub(super) fn address(row: Row<'_>) -> Vec<Value> {
    let part = |field: &str| row.text(&format!("/spec/parentRef/{field}"));
    let mut parent = part("resource").to_owned();
    for (field, separator) in [("group", "."), ("namespace", "/"), ("name", "/")] {
        if !part(field).is_empty() {
            parent.push_str(separator);
            parent.push_str(part(field));
        }
    }
    vec![row.name(), json!(parent), row.age()]
}

pub(super) fn ranges(row: Row<'_>) -> Vec<Value> {
    let ranges = row.items("/spec/cidrs").iter().filter_map(Value::as_str);
    vec![row.name(), json!(ranges.collect::<Vec<_>>().join(",")), row.age()]
}

pub(super) fn flow_schema(row: Row<'_>) -> Vec<Value> {
    let dangling = row
        .items("/status/conditions")
        .iter()
        .find(|condition| condition["type"] == "Dangling");
    vec![
        row.name(),
        json!(row.text("/spec/priorityLevelConfiguration/name")),
        json!(row.number("/spec/matchingPrecedence")),
        json!(row.text_or_none("/spec/distinguisherMethod/type")),
        row.age(),
        json!(dangling.map_or("?", |condition| condition["status"].as_str().unwrap_or("?"))),
    ]
}

pub(super) fn priority_level(row: Row<'_>) -> Vec<Value> {
    let limited = "/spec/limited";
    let number = |path: &str| {
        let found = row.object.pointer(&format!("{limited}/{path}")).and_then(Value::as_i64);
        json!(found.map_or_else(|| "<none>".to_owned(), |number| number.to_string()))
    };
    vec![
        row.name(),
        json!(row.text("/spec/type")),
        number("nominalConcurrencyShares"),
        number("limitResponse/queuing/queues"),
        number("limitResponse/queuing/handSize"),
        number("limitResponse/queuing/queueLengthLimit"),
        row.age(),
    ]
}

pub(super) fn claim(row: Row<'_>) -> Vec<Value> {
    let mut states = Vec::new();
    if row.is_terminating() {
        states.push("deleted");
    }
    if row.object.pointer("/status/allocation").is_some() {
        states.push("allocated");
    }
    if !row.items("/status/reservedFor").is_empty() {
        states.push("reserved");
    }
    if states.is_empty() {
        states.push("pending");
    }
    vec![row.name(), json!(states.join(",")), row.age()]
}

pub(super) fn slice(row: Row<'_>) -> Vec<Value> {
    vec![
        row.name(),
        json!(row.text_or_none("/spec/nodeName")),
        json!(row.text("/spec/driver")),
        json!(row.text("/spec/pool/name")),
        row.age(),
    ]
}

pub(super) fn policy(row: Row<'_>) -> Vec<Value> {
    let (api, kind) = (row.text("/spec/paramKind/apiVersion"), row.text("/spec/paramKind/kind"));
    let parameters = if kind.is_empty() {
        "<unset>".to_owned()
    } else {
        format!("{api}/{kind}")
    };
    let counted = row
        .items("/spec/validations")
        .len()
        .max(row.items("/spec/mutations").len());
    vec![row.name(), json!(counted), json!(parameters), row.age()]
}

pub(super) fn policy_binding(row: Row<'_>) -> Vec<Value> {
    let (namespace, name) = (row.text("/spec/paramRef/namespace"), row.text("/spec/paramRef/name"));
    let parameters = match (namespace.is_empty(), name.is_empty()) {
        (_, true) if row.object.pointer("/spec/paramRef").is_some() => "<by selector>".to_owned(),
        (_, true) => "<unset>".to_owned(),
        (true, false) => name.to_owned(),
        (false, false) => format!("{namespace}/{name}"),
    };
    vec![
        row.name(),
        json!(row.text("/spec/policyName")),
        json!(parameters),
        row.age(),
    ]
}

pub(super) fn api_service(row: Row<'_>) -> Vec<Value> {
    let service = if row.object.pointer("/spec/service").is_some() {
        format!(
            "{}/{}",
            row.text("/spec/service/namespace"),
            row.text("/spec/service/name")
        )
    } else {
        "Local".to_owned()
    };
    let available = row
        .items("/status/conditions")
        .iter()
        .find(|condition| condition["type"] == "Available");
    let available = available.map_or_else(
        || "Unknown".to_owned(),
        |condition| {
            let status = condition["status"].as_str().unwrap_or_default();
            let reason = condition["reason"].as_str().unwrap_or_default();
            if status == "True" {
                status.to_owned()
            } else {
                format!("{status} ({reason})")
            }
        },
    );
    vec![row.name(), json!(service), json!(available), row.age()]
}
