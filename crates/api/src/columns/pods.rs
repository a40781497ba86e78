//! What `kubectl get pods` shows.

use super::{Row, duration, text};
use serde_json::{Value, json};

/// What is counted and said while the containers are looked at.
struct Tally {
    restarts: i64,
    /// When a container last ended before it was started again, in seconds since 1970.
    last_end_s: Option<i64>,
    ready: usize,
    reason: String,
}

impl Tally {
    fn add(&mut self, container: &Value) {
        self.restarts += container["restartCount"].as_i64().unwrap_or(0);
        let end_s = duration::seconds(&container["lastState"]["terminated"]["finishedAt"]);
        self.last_end_s = self.last_end_s.max(end_s);
    }
}

/// The cells of a pod.
pub(super) fn pod(row: Row<'_>) -> Vec<Value> {
    let tally = tally(row);
    let sidecars = row
        .items("/spec/initContainers")
        .iter()
        .filter(|c| is_sidecar(c))
        .count();
    let containers = row.items("/spec/containers").len() + sidecars;
    let restarts = match tally.last_end_s {
        Some(end_s) if tally.restarts != 0 => {
            format!(
                "{} ({} ago)",
                tally.restarts,
                duration::human(row.now_s.saturating_sub(end_s))
            )
        }
        _ => tally.restarts.to_string(),
    };
    let ip = match row.text("/status/podIPs/0/ip") {
        "" => row.text_or_none("/status/podIP"),
        ip => ip,
    };
    vec![
        row.name(),
        json!(format!("{}/{containers}", tally.ready)),
        json!(status(row, &tally.reason)),
        json!(restarts),
        row.age(),
        json!(ip),
        json!(row.text_or_none("/spec/nodeName")),
        json!(row.text_or_none("/status/nominatedNodeName")),
        json!(readiness_gates(row)),
    ]
}

/// The reason, unless the pod is on its way out.
fn status<'a>(row: Row<'_>, reason: &'a str) -> &'a str {
    let has_ended = matches!(row.text("/status/phase"), "Succeeded" | "Failed");
    match row.is_terminating() {
        true if row.text("/status/reason") == "NodeLost" => "Unknown",
        true if !has_ended => "Terminating",
        _ => reason,
    }
}

fn tally(row: Row<'_>) -> Tally {
    let reason = match row.text("/status/reason") {
        "" => row.text("/status/phase"),
        reason => reason,
    };
    let is_gated = condition(row, "PodScheduled").is_some_and(|c| c["reason"] == "SchedulingGated");
    let reason = if is_gated { "SchedulingGated" } else { reason };
    let mut tally = Tally {
        restarts: 0,
        last_end_s: None,
        ready: 0,
        reason: reason.to_owned(),
    };
    let mut sidecars = Tally {
        restarts: 0,
        last_end_s: None,
        ready: 0,
        reason: String::new(),
    };
    let is_initializing = look_at_init_containers(row, &mut tally, &mut sidecars);
    let is_initialized = condition(row, "Initialized").is_some_and(|c| c["status"] == "True");
    if !is_initializing || is_initialized {
        // Init containers that are done have had their say.
        tally.restarts = sidecars.restarts;
        tally.last_end_s = sidecars.last_end_s;
        look_at_containers(row, &mut tally);
    }
    tally
}

/// Says whether the pod is still initializing, and then what it is at.
fn look_at_init_containers(row: Row<'_>, tally: &mut Tally, sidecars: &mut Tally) -> bool {
    let definitions = row.items("/spec/initContainers");
    for (index, container) in row.items("/status/initContainerStatuses").iter().enumerate() {
        tally.add(container);
        let is_sidecar = definitions
            .iter()
            .any(|d| d["name"] == container["name"] && is_sidecar(d));
        if is_sidecar {
            sidecars.add(container);
        }
        let (ended, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
        if ended.is_object() && ended["exitCode"].as_i64().unwrap_or(0) == 0 {
            continue;
        }
        if is_sidecar && container["started"] == true {
            tally.ready += usize::from(container["ready"] == true);
            continue;
        }
        let why = waiting["reason"].as_str().unwrap_or_default();
        tally.reason = if ended.is_object() {
            format!("Init:{}", end_of(ended))
        } else if !why.is_empty() && why != "PodInitializing" {
            format!("Init:{why}")
        } else {
            format!("Init:{index}/{}", definitions.len())
        };
        return true;
    }
    false
}

/// From the last to the first, so that the first has the last word.
fn look_at_containers(row: Row<'_>, tally: &mut Tally) {
    let mut is_running = false;
    for container in row.items("/status/containerStatuses").iter().rev() {
        tally.add(container);
        let state = &container["state"];
        let why = state["waiting"]["reason"].as_str().unwrap_or_default();
        if !why.is_empty() {
            why.clone_into(&mut tally.reason);
        } else if state["terminated"].is_object() {
            tally.reason = end_of(&state["terminated"]);
        } else if container["ready"] == true && state["running"].is_object() {
            is_running = true;
            tally.ready += 1;
        }
    }
    if tally.reason == "Completed" && is_running {
        let is_ready = condition(row, "Ready").is_some_and(|c| c["status"] == "True");
        tally.reason = if is_ready { "Running" } else { "NotReady" }.to_owned();
    }
}

/// How a container ended: the reason given, else its signal or exit code.
fn end_of(terminated: &Value) -> String {
    match (
        terminated["reason"].as_str().unwrap_or_default(),
        terminated["signal"].as_i64().unwrap_or(0),
    ) {
        ("", 0) => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn is_sidecar(definition: &Value) -> bool {
    definition["restartPolicy"] == "Always"
}

fn condition<'a>(row: Row<'a>, kind: &str) -> Option<&'a Value> {
    let all = row.object.pointer("/status/conditions")?.as_array()?;
    all.iter().find(|condition| condition["type"] == kind)
}

fn readiness_gates(row: Row<'_>) -> String {
    let gates = row.items("/spec/readinessGates");
    if gates.is_empty() {
        return text::or_none("").to_owned();
    }
    let is_open = |gate: &&Value| {
        let kind = gate["conditionType"].as_str().unwrap_or_default();
        condition(row, kind).is_some_and(|c| c["status"] == "True")
    };
    format!("{}/{}", gates.iter().filter(is_open).count(), gates.len())
}
