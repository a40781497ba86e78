//! What `kubectl get` shows of what makes pods.

use super::{Row, duration, text};
use serde_json::{Value, json};

/// Names and images of the containers of a template.
fn containers(row: Row<'_>, pod: &str) -> [Value; 2] {
    let containers = row.items(&format!("{pod}/containers"));
    [
        json!(text::joined(containers, "name")),
        json!(text::joined(containers, "image")),
    ]
}

fn selector(row: Row<'_>) -> Value {
    json!(text::selector(&row.object["spec"]["selector"]))
}

const TEMPLATE: &str = "/spec/template/spec";

pub(super) fn pod_template(row: Row<'_>) -> Vec<Value> {
    let [names, images] = containers(row, "/template/spec");
    vec![
        row.name(),
        names,
        images,
        json!(text::labels(&row.object["template"]["metadata"]["labels"])),
    ]
}

pub(super) fn statefulset(row: Row<'_>) -> Vec<Value> {
    let ready = format!(
        "{}/{}",
        row.number("/status/readyReplicas"),
        row.number("/spec/replicas")
    );
    let [names, images] = containers(row, TEMPLATE);
    vec![row.name(), json!(ready), row.age(), names, images]
}

/// ReplicaSets and ReplicationControllers; the selector of the latter is a plain map.
pub(super) fn replicas(row: Row<'_>) -> Vec<Value> {
    let own = &row.object["spec"]["selector"];
    let is_object = own["matchLabels"].is_object() || own["matchExpressions"].is_array();
    let selector = if is_object {
        text::selector(own)
    } else {
        text::labels(own)
    };
    let [names, images] = containers(row, TEMPLATE);
    vec![
        row.name(),
        json!(row.number("/spec/replicas")),
        json!(row.number("/status/replicas")),
        json!(row.number("/status/readyReplicas")),
        row.age(),
        names,
        images,
        json!(selector),
    ]
}

pub(super) fn deployment(row: Row<'_>) -> Vec<Value> {
    let ready = format!(
        "{}/{}",
        row.number("/status/readyReplicas"),
        row.number("/spec/replicas")
    );
    let [names, images] = containers(row, TEMPLATE);
    vec![
        row.name(),
        json!(ready),
        json!(row.number("/status/updatedReplicas")),
        json!(row.number("/status/availableReplicas")),
        row.age(),
        names,
        images,
        selector(row),
    ]
}

pub(super) fn daemonset(row: Row<'_>) -> Vec<Value> {
    let [names, images] = containers(row, TEMPLATE);
    vec![
        row.name(),
        json!(row.number("/status/desiredNumberScheduled")),
        json!(row.number("/status/currentNumberScheduled")),
        json!(row.number("/status/numberReady")),
        json!(row.number("/status/updatedNumberScheduled")),
        json!(row.number("/status/numberAvailable")),
        json!(text::labels(&row.object["spec"]["template"]["spec"]["nodeSelector"])),
        row.age(),
        names,
        images,
        selector(row),
    ]
}

/// The controller is shown as `statefulset.apps/web`.
pub(super) fn revision(row: Row<'_>) -> Vec<Value> {
    let owner = row
        .items("/metadata/ownerReferences")
        .iter()
        .find(|owner| owner["controller"] == true);
    let controller = owner.map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let part = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
            let kind = part("kind").to_lowercase();
            match part("apiVersion").split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{}", part("name")),
                None => format!("{kind}/{}", part("name")),
            }
        },
    );
    vec![row.name(), json!(controller), json!(row.number("/revision")), row.age()]
}

pub(super) fn job(row: Row<'_>) -> Vec<Value> {
    let succeeded = row.number("/status/succeeded");
    let completions = match (
        row.object["spec"]["completions"].as_i64(),
        row.number("/spec/parallelism"),
    ) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let [names, images] = containers(row, TEMPLATE);
    vec![
        row.name(),
        json!(job_status(row)),
        json!(completions),
        json!(job_duration(row)),
        row.age(),
        names,
        images,
        selector(row),
    ]
}

fn job_status(row: Row<'_>) -> &'static str {
    let holds = |kind: &str| {
        row.items("/status/conditions")
            .iter()
            .any(|c| c["type"] == kind && c["status"] == "True")
    };
    ["Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"]
        .into_iter()
        .find(|kind| holds(kind))
        .unwrap_or(if row.is_terminating() { "Terminating" } else { "Running" })
}

fn job_duration(row: Row<'_>) -> String {
    let status = &row.object["status"];
    match (
        duration::seconds(&status["startTime"]),
        duration::seconds(&status["completionTime"]),
    ) {
        (None, _) => String::new(),
        (Some(start_s), end_s) => duration::human(end_s.unwrap_or(row.now_s) - start_s),
    }
}

pub(super) fn cron_job(row: Row<'_>) -> Vec<Value> {
    let suspend = match row.object["spec"]["suspend"].as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = if row.text("/status/lastScheduleTime").is_empty() {
        "<none>".to_owned()
    } else {
        row.since("/status/lastScheduleTime")
    };
    let [names, images] = containers(row, "/spec/jobTemplate/spec/template/spec");
    vec![
        row.name(),
        json!(row.text("/spec/schedule")),
        json!(row.text_or_none("/spec/timeZone")),
        json!(suspend),
        json!(row.items("/status/active").len()),
        json!(last),
        row.age(),
        names,
        images,
        json!(text::selector(&row.object["spec"]["jobTemplate"]["spec"]["selector"])),
    ]
}

pub(super) fn budget(row: Row<'_>) -> Vec<Value> {
    let limit = |field: &str| match &row.object["spec"][field] {
        Value::Null => "N/A".to_owned(),
        value => text::plain(value),
    };
    vec![
        row.name(),
        json!(limit("minAvailable")),
        json!(limit("maxUnavailable")),
        json!(row.number("/status/disruptionsAllowed")),
        row.age(),
    ]
}
