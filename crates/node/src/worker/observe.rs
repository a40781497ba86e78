//! What the worker sees: the runtime's records, last words of ended containers, probes of running ones.

use super::Worker;
use crate::events::Severity;
use crate::log_file;
use crate::prober::{self, Subject};
use crate::run::Node;
use crate::runtime::{MESSAGE_POLICY, Record};
use api::k8s::api::core::v1::{ContainerStatus, PodStatus};
use node_plan::{Container, ContainerState, Job, Verdicts};
use std::path::Path;
use tokio_util::task::AbortOnDropHandle;

/// Longer last words are cut.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Of a log that stands in for last words, at most this much is taken.
const LOG_LINES_MAX: usize = 80;
const LOG_BYTES_MAX: usize = 2048;

impl Worker {
    /// Looks at the runtime.
    pub(super) async fn observe(&mut self) -> Result<(), tonic::Status> {
        let mut records = self.node.runtime.pod(&self.uid, &self.records).await?;
        for record in &mut records.containers {
            let known = &self.records.containers;
            let is_new = !known
                .iter()
                .any(|k| k.container.id == record.container.id && k.container.state == ContainerState::Exited);
            if record.container.state == ContainerState::Exited && is_new {
                add_last_words(&self.node, &self.uid, record).await;
            }
        }
        self.records = records;
        self.seed_verdicts();
        Ok(())
    }

    /// What the API says of a container that this process has not probed yet is still true of the same container.
    fn seed_verdicts(&mut self) {
        let containers = &self.records.containers;
        self.memory
            .verdicts
            .retain(|id, _| containers.iter().any(|r| r.container.id == *id));
        self.memory
            .condemned
            .retain(|id, _| containers.iter().any(|r| r.container.id == *id));
        let status = self.pod.status.as_ref();
        let reported: Vec<&ContainerStatus> = status
            .into_iter()
            .flat_map(|s| {
                s.container_statuses
                    .iter()
                    .flatten()
                    .chain(s.init_container_statuses.iter().flatten())
            })
            .collect();
        for record in containers
            .iter()
            .filter(|r| r.container.state == ContainerState::Running)
        {
            let id = format!("{}://{}", self.node.runtime_name, record.container.id);
            let known = reported.iter().find(|s| s.container_id.as_deref() == Some(&id));
            let verdicts = known.map_or(Verdicts::default(), |s| Verdicts {
                started: s.started == Some(true),
                ready: s.ready,
            });
            self.memory
                .verdicts
                .entry(record.container.id.clone())
                .or_insert(verdicts);
        }
    }

    /// Starts and ends the probes of containers.
    pub(super) fn watch_over(&mut self, containers: &[Container]) {
        let busy = &self.busy;
        let runs =
            |c: &Container| c.state == ContainerState::Running && !matches!(busy.get(&c.name), Some(Job::Start { .. }));
        self.probes
            .retain(|id, _| containers.iter().any(|c| c.id == *id && runs(c)));
        let pod_ip = self.context().pod_ips.first().cloned().unwrap_or_default();
        let spec = self.pod.spec.clone().unwrap_or_default();
        for c in containers.iter().filter(|c| runs(c)) {
            let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            let definition = all.into_iter().find(|d| d.name == c.name && prober::has_probes(d));
            let (Some(definition), false) = (definition, self.probes.contains_key(&c.id)) else {
                continue;
            };
            let subject = Subject {
                node: self.node.clone(),
                pod: self.pod.clone(),
                definition: definition.clone(),
                container_id: c.id.clone(),
                started_at: c.started_at.unwrap_or(c.created_at),
                pod_ip: pod_ip.clone(),
                known: self.memory.verdicts.get(&c.id).copied().unwrap_or_default(),
                news: self.news_in.clone(),
            };
            let task = AbortOnDropHandle::new(tokio::spawn(prober::probe(subject)));
            self.probes.insert(c.id.clone(), task);
        }
    }

    /// Tells, once each time, that a container is held back.
    pub(super) fn tell_waiting(&mut self, status: &PodStatus) {
        let all = status
            .container_statuses
            .iter()
            .flatten()
            .chain(status.init_container_statuses.iter().flatten())
            .chain(status.ephemeral_container_statuses.iter().flatten());
        for container in all {
            let waiting = container.state.as_ref().and_then(|s| s.waiting.as_ref());
            let reason = waiting.and_then(|w| w.reason.clone()).unwrap_or_default();
            if self.told.get(&container.name) == Some(&reason) {
                continue;
            }
            let tell = |severity, about, message: String| {
                self.node
                    .recorder
                    .pod(&self.pod, Some(&container.name), severity, about, message);
            };
            match reason.as_str() {
                "ImagePullBackOff" => {
                    tell(
                        Severity::Normal,
                        "BackOff",
                        format!("Back-off pulling image \"{}\"", container.image),
                    );
                    tell(Severity::Warning, "Failed", "Error: ImagePullBackOff".to_owned());
                }
                "CrashLoopBackOff" => {
                    let meta = &self.pod.metadata;
                    let pod = format!(
                        "{}_{}({})",
                        meta.name.as_deref().unwrap_or_default(),
                        meta.namespace.as_deref().unwrap_or_default(),
                        self.uid
                    );
                    let text = format!("Back-off restarting failed container {} in pod {pod}", container.name);
                    tell(Severity::Warning, "BackOff", text);
                }
                _ => {}
            }
            self.told.insert(container.name.clone(), reason);
        }
    }
}

async fn read_some(path: &Path) -> String {
    use tokio::io::AsyncReadExt;
    let Ok(file) = tokio::fs::File::open(path).await else {
        return String::new();
    };
    let mut text = Vec::new();
    let limit = u64::try_from(MESSAGE_BYTES_MAX).unwrap_or(u64::MAX);
    match file.take(limit).read_to_end(&mut text).await {
        Ok(_) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => String::new(),
    }
}

/// The termination message: the container's file, else its log's end where that may stand in, else the runtime's.
async fn add_last_words(node: &Node, uid: &str, record: &mut Record) {
    let c = &record.container;
    let file = crate::container_config::message_file(node, uid, &c.name, c.restart_count);
    let mut message = read_some(&file).await;
    let may_use_log = record
        .annotations
        .get(MESSAGE_POLICY)
        .is_some_and(|p| p == "FallbackToLogsOnError");
    if message.is_empty() && may_use_log && c.exit_code != 0 {
        let path = Path::new(&record.log_path).to_owned();
        let tail = tokio::task::spawn_blocking(move || log_file::tail(&path, LOG_LINES_MAX, LOG_BYTES_MAX)).await;
        message = tail.ok().and_then(Result::ok).unwrap_or_default();
    }
    if !message.is_empty() {
        record.container.message = message;
    }
}
