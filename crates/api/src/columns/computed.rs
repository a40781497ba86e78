//! What `kubectl get` shows of what is not stored but made when it is read: the health of the control plane's parts, and
//! what nodes and pods use.

use super::Row;
use super::layout::{Column, NAME, number, text};
use crate::kinds::Kind;
use serde_json::{Value, json};

/// The columns of such a kind.
pub(super) fn columns(kind: &Kind) -> Option<Vec<Column>> {
    match (kind.group, kind.kind) {
        ("", "ComponentStatus") => Some(vec![NAME, text("Status"), text("Message"), text("Error")]),
        ("metrics.k8s.io", "NodeMetrics") => Some(vec![NAME, text("CPU"), text("Memory"), text("Window")]),
        ("metrics.k8s.io", "PodMetrics") => Some(vec![NAME, number("Containers"), text("Window")]),
        _ => None,
    }
}

/// Their cells for one object.
pub(super) fn cells(kind: &Kind, row: Row<'_>) -> Option<Vec<Value>> {
    let window = || json!(row.text("/window"));
    match (kind.group, kind.kind) {
        ("", "ComponentStatus") => Some(component_status(row)),
        ("metrics.k8s.io", "NodeMetrics") => {
            let usage = |name: &str| json!(row.text(&format!("/usage/{name}")));
            Some(vec![row.name(), usage("cpu"), usage("memory"), window()])
        }
        ("metrics.k8s.io", "PodMetrics") => Some(vec![row.name(), json!(row.items("/containers").len()), window()]),
        _ => None,
    }
}

fn component_status(row: Row<'_>) -> Vec<Value> {
    let conditions = row.items("/conditions");
    let healthy = conditions.iter().find(|condition| condition["type"] == "Healthy");
    let text = |field: &str| {
        json!(
            healthy
                .and_then(|condition| condition[field].as_str())
                .unwrap_or_default()
        )
    };
    let status = match healthy {
        Some(condition) if condition["status"] == "True" => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    vec![row.name(), json!(status), text("message"), text("error")]
}
