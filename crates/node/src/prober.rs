//! Probes of a running container: one task per container asks, `node-plan`'s machine judges, the pod's worker hears of
//! new verdicts.

use crate::events::Severity;
use crate::hooks;
use crate::http;
use crate::run::Node;
use api::k8s::api::core::v1::{Container, GRPCAction, Pod, Probe};
use jiff::Timestamp;
use node_plan::{Outcome, ProbeKind, ProbeMachine, Verdicts, probe_of};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A try that could not be made is made again this often before it counts as unknown.
const TRIES: u32 = 3;
const AGENT: &str = "kube-probe/1.36";

/// A new verdict.
#[derive(Clone, Debug)]
pub(crate) struct News {
    /// The container's id.
    pub(crate) container_id: String,
    /// The container's name.
    pub(crate) name: String,
    /// Which probe.
    pub(crate) kind: ProbeKind,
    /// Whether it succeeds.
    pub(crate) good: bool,
}

/// What is probed.
#[derive(Clone)]
pub(crate) struct Subject {
    /// The agent.
    pub(crate) node: Arc<Node>,
    /// The pod.
    pub(crate) pod: Arc<Pod>,
    /// The container's definition.
    pub(crate) definition: Container,
    /// The running container.
    pub(crate) container_id: String,
    /// When it started.
    pub(crate) started_at: Timestamp,
    /// The pod's address.
    pub(crate) pod_ip: String,
    /// What is known already.
    pub(crate) known: Verdicts,
    /// Where verdicts go.
    pub(crate) news: mpsc::Sender<News>,
}

/// Probes a container until the task is dropped: startup first, then readiness and liveness.
pub(crate) async fn probe(subject: Subject) {
    if !subject.known.started
        && let Some(startup) = &subject.definition.startup_probe
        && !run(&subject, ProbeKind::Startup, startup, None).await
    {
        return;
    }
    let readiness = async {
        if let Some(probe) = &subject.definition.readiness_probe {
            run(&subject, ProbeKind::Readiness, probe, Some(subject.known.ready)).await;
        }
    };
    let liveness = async {
        if let Some(probe) = &subject.definition.liveness_probe {
            run(&subject, ProbeKind::Liveness, probe, Some(true)).await;
        }
    };
    tokio::join!(readiness, liveness);
}

/// Runs one probe; ends with the verdict that ends it: a startup probe's first, a liveness probe's failure.
async fn run(subject: &Subject, kind: ProbeKind, probe: &Probe, verdict: Option<bool>) -> bool {
    let mut machine = ProbeMachine::new(probe, verdict);
    let mut last_try = None;
    loop {
        sleep_until(machine.due(subject.started_at, last_try)).await;
        last_try = Some(Timestamp::now());
        let outcome = attempt(subject, kind, probe).await;
        tell(subject, kind, &outcome);
        let Some(good) = machine.observe(&outcome) else {
            continue;
        };
        let (container_id, name) = (subject.container_id.clone(), subject.definition.name.clone());
        if subject
            .news
            .send(News {
                container_id,
                name,
                kind,
                good,
            })
            .await
            .is_err()
        {
            return false;
        }
        match (kind, good) {
            (ProbeKind::Startup, good) => return good,
            (ProbeKind::Liveness, false) => return false,
            _ => {}
        }
    }
}

async fn sleep_until(time: Timestamp) {
    let wait = time.duration_since(Timestamp::now());
    if let Ok(wait) = Duration::try_from(wait) {
        tokio::time::sleep(wait).await;
    }
}

fn tell(subject: &Subject, kind: ProbeKind, outcome: &Outcome) {
    let text = match outcome {
        Outcome::Success => return,
        Outcome::Failure(why) => format!("{} probe failed: {why}", kind.name()),
        Outcome::Unknown(why) => format!("{} probe errored and resulted in unknown state: {why}", kind.name()),
    };
    tracing::debug!(container = subject.definition.name, text, "probe");
    subject.node.recorder.pod(
        &subject.pod,
        Some(&subject.definition.name),
        Severity::Warning,
        "Unhealthy",
        text,
    );
}

async fn attempt(subject: &Subject, kind: ProbeKind, probe: &Probe) -> Outcome {
    let seconds = probe
        .timeout_seconds
        .and_then(|s| u64::try_from(s).ok())
        .filter(|s| *s > 0)
        .unwrap_or(1);
    let timeout = Duration::from_secs(seconds);
    let mut outcome = Outcome::Unknown("no try was made".into());
    for _ in 0..TRIES {
        outcome = once(subject, kind, probe, timeout).await;
        if !matches!(outcome, Outcome::Unknown(_)) {
            break;
        }
    }
    outcome
}

async fn once(subject: &Subject, kind: ProbeKind, probe: &Probe, timeout: Duration) -> Outcome {
    if let Some(exec) = &probe.exec {
        return exec_probe(subject, exec.command.as_deref().unwrap_or_default(), timeout).await;
    }
    let definition = Some(&subject.definition);
    if let Some(get) = &probe.http_get {
        let target = match hooks::target(get, definition, &subject.pod_ip) {
            Ok(target) => target,
            Err(why) => return Outcome::Unknown(why),
        };
        let waiting = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        return match tokio::time::timeout(timeout, http::get(&target, AGENT)).await {
            Err(_) => Outcome::Failure(format!("Get \"{}\": {waiting}", target.url())),
            Ok(Err(why)) => Outcome::Failure(why),
            Ok(Ok(answer)) if (200..400).contains(&answer.code) => {
                if let Some(elsewhere) = answer.elsewhere {
                    let text = format!(
                        "{} probe warning: Probe terminated redirects, Response body: {}",
                        kind.name(),
                        answer.body
                    );
                    tracing::debug!(elsewhere, "a probe was sent to another host");
                    let name = Some(subject.definition.name.as_str());
                    subject
                        .node
                        .recorder
                        .pod(&subject.pod, name, Severity::Warning, "ProbeWarning", text);
                }
                Outcome::Success
            }
            Ok(Ok(answer)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.code)),
        };
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&subject.pod_ip);
        let port = match hooks::port(&tcp.port, definition) {
            Ok(port) => port,
            Err(why) => return Outcome::Unknown(why),
        };
        return match tokio::time::timeout(timeout, http::dial(host, port)).await {
            Err(_) => Outcome::Failure(format!("dial tcp {}:{port}: i/o timeout", http::bracketed(host))),
            Ok(Err(why)) => Outcome::Failure(why),
            Ok(Ok(_)) => Outcome::Success,
        };
    }
    match &probe.grpc {
        Some(grpc) => grpc_probe(subject, grpc, timeout).await,
        None => Outcome::Unknown("missing probe handler".into()),
    }
}

async fn exec_probe(subject: &Subject, command: &[String], timeout: Duration) -> Outcome {
    let shown = || format!("\"{}\"", command.join(" "));
    match subject
        .node
        .runtime
        .exec_sync(&subject.container_id, command, timeout)
        .await
    {
        Ok(answer) if answer.exit_code == 0 => Outcome::Success,
        Ok(answer) => {
            let text = [answer.stdout, answer.stderr].concat();
            Outcome::Failure(String::from_utf8_lossy(&text).into_owned())
        }
        Err(status) if status.code() == tonic::Code::DeadlineExceeded || status.message().contains("timeout") => {
            Outcome::Failure(format!(
                "command timed out: {} timed out after {}s",
                shown(),
                timeout.as_secs()
            ))
        }
        Err(status) => Outcome::Unknown(crate::images::message(&status)),
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; status 1 is SERVING.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

async fn grpc_probe(subject: &Subject, grpc: &GRPCAction, timeout: Duration) -> Outcome {
    let address = format!("{}:{}", http::bracketed(&subject.pod_ip), grpc.port);
    let endpoint = match tonic::transport::Endpoint::from_shared(format!("http://{address}")) {
        Ok(endpoint) => endpoint,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let ask = async {
        let connect = format!(
            "timeout: failed to connect service \"{address}\" within {}s: connection error",
            timeout.as_secs()
        );
        let channel = endpoint.connect().await.map_err(|_| connect)?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|e| e.to_string())?;
        let request = HealthCheckRequest {
            service: grpc.service.clone().unwrap_or_default(),
        };
        let path = http_path();
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let answer = client
            .unary(tonic::Request::new(request), path, codec)
            .await
            .map_err(|status| match status.code() {
                tonic::Code::Unimplemented => {
                    "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned()
                }
                _ => format!("error: health rpc probe failed: {}", crate::images::message(&status)),
            })?;
        Ok::<i32, String>(answer.into_inner().status)
    };
    match tokio::time::timeout(timeout, ask).await {
        Err(_) => Outcome::Failure(format!(
            "timeout: health rpc did not complete within {}s",
            timeout.as_secs()
        )),
        Ok(Err(why)) => Outcome::Failure(why),
        Ok(Ok(1)) => Outcome::Success,
        Ok(Ok(status)) => Outcome::Failure(format!("service unhealthy (responded with {status})")),
    }
}

fn http_path() -> ::http::uri::PathAndQuery {
    ::http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check")
}

/// Whether a container has probes.
pub(crate) fn has_probes(definition: &Container) -> bool {
    [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness]
        .iter()
        .any(|k| probe_of(definition, *k).is_some())
}
