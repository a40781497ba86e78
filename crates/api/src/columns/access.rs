//! What `kubectl get` shows of rights, priorities and quotas.

use super::Row;
use serde_json::{Value, json};

pub(super) fn binding(row: Row<'_>) -> Vec<Value> {
    let subjects = |kind: &str, with_namespace: bool| {
        let of_kind = row.items("/subjects").iter().filter(|subject| subject["kind"] == kind);
        let names = of_kind.map(|subject| {
            let part = |field: &str| subject[field].as_str().unwrap_or_default();
            if with_namespace {
                format!("{}/{}", part("namespace"), part("name"))
            } else {
                part("name").to_owned()
            }
        });
        names.collect::<Vec<_>>().join(", ")
    };
    vec![
        row.name(),
        json!(format!("{}/{}", row.text("/roleRef/kind"), row.text("/roleRef/name"))),
        row.age(),
        json!(subjects("User", false)),
        json!(subjects("Group", false)),
        json!(subjects("ServiceAccount", true)),
    ]
}

pub(super) fn priority(row: Row<'_>) -> Vec<Value> {
    vec![
        row.name(),
        json!(row.number("/value")),
        json!(row.is_true("/globalDefault")),
        row.age(),
        json!(row.text("/preemptionPolicy")),
    ]
}

/// Limits stand apart from all else that is counted.
pub(super) fn quota(row: Row<'_>) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in row.object["status"]["hard"].as_object().into_iter().flatten() {
        let used = row.object["status"]["used"][resource].as_str().unwrap_or("0");
        let text = format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default());
        let list = if resource.starts_with("limits") {
            &mut limits
        } else {
            &mut requests
        };
        list.push(text);
    }
    vec![
        row.name(),
        json!(requests.join(", ")),
        json!(limits.join(", ")),
        row.age(),
    ]
}
