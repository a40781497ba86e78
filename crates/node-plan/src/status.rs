//! The pod's status as the API should show it.

use crate::container_status::{ephemeral_statuses, in_seconds, statuses};
use crate::observed::{Job, Observed};
use crate::phase::{self, Ended};
use crate::resize::{self, Pending};
use crate::resources::qos_class;
use crate::start::{is_initialized, is_sidecar};
use api::k8s::api::core::v1::{ContainerStatus, HostIP, PodCondition, PodIP, PodSpec, PodStatus};
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use jiff::Timestamp;

/// Conditions that are there only while they hold.
const RESIZE_CONDITIONS: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// The status of a pod, made from what was seen.
pub(crate) fn pod_status(seen: &Observed<'_>, now: Timestamp) -> PodStatus {
    let Some(spec) = &seen.pod.spec else {
        return PodStatus::default();
    };
    let init = statuses(seen, spec.init_containers.as_deref().unwrap_or_default(), true, now);
    let main = statuses(seen, &spec.containers, false, now);
    let ended = phase::ended(seen, now);
    let stopping = seen.memory.stopping.is_some();
    let runs = seen
        .containers
        .iter()
        .any(|c| c.state == crate::ContainerState::Running);
    let acting = seen
        .busy
        .values()
        .any(|job| matches!(job, Job::Start { .. } | Job::Kill { .. }));
    let is_over = stopping && !runs && !acting;
    let phase = match &ended {
        Some(ended) => ended.phase,
        None => phase::phase(spec, &init, &main, is_over),
    };
    let old = seen.pod.status.clone().unwrap_or_default();
    let ips = addresses(seen, &old);
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions(seen, spec, phase, &init, &main, now)),
        host_ip: seen.host_ips.first().cloned(),
        host_ips: Some(seen.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: Some(ips.into_iter().map(|ip| PodIP { ip }).collect::<Vec<_>>()).filter(|ips| !ips.is_empty()),
        start_time: Some(Time(start_time(seen))),
        qos_class: old
            .qos_class
            .clone()
            .or_else(|| Some(qos_class(spec).name().to_owned())),
        observed_generation: observed_generation(seen),
        container_statuses: Some(main),
        init_container_statuses: Some(init).filter(|s| !s.is_empty()),
        ephemeral_container_statuses: Some(ephemeral_statuses(seen, spec, now)).filter(|s| !s.is_empty()),
        ..old
    };
    let why = ended.and_then(|Ended { why, .. }| why);
    (status.reason, status.message) = why.map_or((None, None), |(r, m)| (Some(r), Some(m).filter(|m| !m.is_empty())));
    status
}

/// The generation of the spec that this status is about.
pub(crate) fn observed_generation(seen: &Observed<'_>) -> Option<i64> {
    seen.pod.metadata.generation.filter(|g| *g > 0)
}

/// When this node took the pod up; what the API says outlives this process.
pub(crate) fn start_time(seen: &Observed<'_>) -> Timestamp {
    let reported = seen
        .pod
        .status
        .as_ref()
        .and_then(|s| s.start_time.as_ref())
        .map(|t| t.0);
    reported.unwrap_or(in_seconds(&Time(seen.memory.seen_at)).0)
}

/// The pod's addresses; those of a sandbox that is gone stay while the pod ends.
fn addresses(seen: &Observed<'_>, old: &PodStatus) -> Vec<String> {
    if seen.host_network() {
        return if seen.newest_sandbox().is_some() {
            seen.host_ips.to_vec()
        } else {
            Vec::new()
        };
    }
    match seen.newest_sandbox().filter(|s| s.ready && !s.ips.is_empty()) {
        Some(sandbox) => sandbox.ips.clone(),
        None => old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    }
}

fn conditions(
    seen: &Observed<'_>,
    spec: &PodSpec,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    now: Timestamp,
) -> Vec<PodCondition> {
    let containers = containers_ready(spec, phase, init, main);
    let ready = ready(seen, spec, containers.clone());
    let ours = [
        (
            "PodReadyToStartContainers",
            Verdict::plain(seen.live_sandbox().is_some()),
        ),
        ("Initialized", initialized(seen, spec, phase, init)),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", Verdict::plain(true)),
    ];
    let old = seen
        .pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.clone())
        .unwrap_or_default();
    let evicted = seen.memory.refused.iter().filter(|(reason, _)| *reason == "Evicted");
    let evicted = evicted.map(|(_, message)| {
        let why = Some(("TerminationByKubelet", message.clone()));
        ("DisruptionTarget", Verdict { holds: true, why })
    });
    let mut all: Vec<PodCondition> = ours
        .into_iter()
        .chain(evicted)
        .chain(of_resize(seen))
        .map(|(type_, verdict)| verdict.into_condition(type_, &old, seen, now))
        .collect();
    all.extend(
        old.into_iter()
            .filter(|o| !all.iter().any(|c| c.type_ == o.type_) && !RESIZE_CONDITIONS.contains(&o.type_.as_str()))
            .collect::<Vec<_>>(),
    );
    all
}

/// How far a resize is; nothing if there is none.
fn of_resize(seen: &Observed<'_>) -> Vec<(&'static str, Verdict)> {
    let [pending, in_progress] = RESIZE_CONDITIONS;
    let mut all = Vec::new();
    if seen.memory.stopping.is_some() {
        return all;
    }
    if let Some(Pending { reason, message }) = &seen.memory.resize_pending {
        let why = Some((*reason, message.clone()));
        all.push((pending, Verdict { holds: true, why }));
    }
    if resize::in_progress(seen) {
        let failure = seen.memory.resize_failure.as_ref();
        let why = failure.map(|f| ("Error", f.message.clone()));
        all.push((in_progress, Verdict { holds: true, why }));
    }
    all
}

/// A condition's content.
#[derive(Clone)]
struct Verdict {
    holds: bool,
    why: Option<(&'static str, String)>,
}

impl Verdict {
    fn plain(holds: bool) -> Self {
        Self { holds, why: None }
    }

    fn not(reason: &'static str, message: String) -> Self {
        Self {
            holds: false,
            why: Some((reason, message)),
        }
    }

    fn into_condition(self, type_: &str, old: &[PodCondition], seen: &Observed<'_>, now: Timestamp) -> PodCondition {
        let status = if self.holds { "True" } else { "False" };
        let old = old.iter().find(|c| c.type_ == type_);
        let unchanged = old
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: self.why.as_ref().map(|(reason, _)| (*reason).to_owned()),
            message: self.why.map(|(_, message)| message).filter(|m| !m.is_empty()),
            last_transition_time: unchanged.or_else(|| Some(in_seconds(&Time(now)))),
            observed_generation: observed_generation(seen),
            last_probe_time: None,
        }
    }
}

fn initialized(seen: &Observed<'_>, spec: &PodSpec, phase: &str, init: &[ContainerStatus]) -> Verdict {
    if phase == "Succeeded" {
        return Verdict {
            holds: true,
            why: Some(("PodCompleted", String::new())),
        };
    }
    let definitions = spec.init_containers.iter().flatten();
    let incomplete: Vec<&str> = definitions
        .zip(init)
        .filter(|(d, s)| {
            if is_sidecar(d) {
                s.started != Some(true)
            } else {
                !s.ready
            }
        })
        .map(|(d, _)| d.name.as_str())
        .collect();
    if incomplete.is_empty() || is_initialized(seen, spec) {
        return Verdict::plain(true);
    }
    Verdict::not(
        "ContainersNotInitialized",
        format!("containers with incomplete status: [{}]", incomplete.join(" ")),
    )
}

fn containers_ready(spec: &PodSpec, phase: &str, init: &[ContainerStatus], main: &[ContainerStatus]) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::not("PodCompleted", String::new()),
        "Failed" => return Verdict::not("PodFailed", String::new()),
        _ => {}
    }
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .zip(init)
        .filter(|(d, _)| is_sidecar(d))
        .map(|(_, s)| s);
    let unready: Vec<&str> = sidecars
        .chain(main)
        .filter(|s| !s.ready)
        .map(|s| s.name.as_str())
        .collect();
    if unready.is_empty() {
        return Verdict::plain(true);
    }
    Verdict::not(
        "ContainersNotReady",
        format!("containers with unready status: [{}]", unready.join(" ")),
    )
}

fn ready(seen: &Observed<'_>, spec: &PodSpec, containers: Verdict) -> Verdict {
    if !containers.holds {
        return containers;
    }
    let conditions = seen
        .pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let mut missing = Vec::new();
    for gate in spec.readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        match conditions.iter().find(|c| c.type_ == *name) {
            None => missing.push(format!(
                "corresponding condition of pod readiness gate \"{name}\" does not exist."
            )),
            Some(c) if c.status != "True" => {
                missing.push(format!(
                    "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                    c.status
                ));
            }
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        Verdict::plain(true)
    } else {
        Verdict::not("ReadinessGatesNotReady", missing.join(", "))
    }
}
