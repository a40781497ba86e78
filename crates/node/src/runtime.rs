//! The container runtime as the node agent uses it: CRI calls with deadlines, and its records as `node-plan` wants them.

use crate::config::Config;
use cri::v1::image_service_client::ImageServiceClient;
use cri::v1::runtime_service_client::RuntimeServiceClient;
use cri::v1::{self, ContainerState as CriState};
use jiff::Timestamp;
use node_plan::{Container, ContainerState, Sandbox};
use std::collections::HashMap;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Label: the pod's name.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's uid.
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: the container's name in the pod.
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Label: the agent's root directory; what has another one is another agent's.
pub(crate) const NODE_ROOT: &str = "steadfast.io/node-root";
/// Annotation: fingerprint of the definition.
pub(crate) const HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how often the name was started before.
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: where the container writes its last words.
pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation: whether the log's end may stand in for last words.
pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: the preStop hook as JSON, for pods whose object is gone.
pub(crate) const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
/// Annotation: the pod's grace in seconds.
pub(crate) const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Annotation: the container's resources as JSON.
pub(crate) const RESOURCES: &str = "steadfast.io/resources";
/// Annotation: seconds from the container's end to the next start.
pub(crate) const BACKOFF: &str = "steadfast.io/restart-backoff-seconds";

/// An ordinary call takes no longer than this.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Making a sandbox includes the network plug-ins.
const SANDBOX_TIMEOUT: Duration = Duration::from_secs(240);
/// The largest answer taken; a listing of many containers is large.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Clients of one runtime.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    /// Sandboxes and containers.
    pub(crate) containers: RuntimeServiceClient<Channel>,
    /// Images.
    pub(crate) images: ImageServiceClient<Channel>,
    node_root: String,
}

/// A pod as the runtime knows it.
#[derive(Debug, Default)]
pub(crate) struct PodRecords {
    /// Its sandboxes.
    pub(crate) sandboxes: Vec<Sandbox>,
    /// Its containers with what else is needed of them.
    pub(crate) containers: Vec<Record>,
}

/// A container with annotations that plans do not need.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// What plans need.
    pub(crate) container: Container,
    /// All annotations.
    pub(crate) annotations: HashMap<String, String>,
    /// The log file.
    pub(crate) log_path: String,
}

/// A pod found in the runtime.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FoundPod {
    /// Its uid.
    pub(crate) uid: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its grace in seconds, as written on a sandbox.
    pub(crate) grace_s: Option<i64>,
}

impl Runtime {
    /// Clients for the configured endpoint; connects when first used.
    pub(crate) fn connect(config: &Config) -> Result<Self, cri::ConnectError> {
        let channel = cri::connect(&config.runtime_endpoint)?;
        Ok(Self::new(channel, config.root_dir.to_string_lossy().into_owned()))
    }

    /// Clients on a channel, for what is marked with `node_root`.
    pub(crate) fn new(channel: Channel, node_root: String) -> Self {
        let containers = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let images = ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self {
            containers,
            images,
            node_root,
        }
    }

    /// The label that marks what is ours.
    pub(crate) fn own_label(&self) -> (String, String) {
        (NODE_ROOT.to_owned(), self.node_root.clone())
    }

    /// Our sandboxes, of one pod or all.
    pub(crate) async fn sandboxes(&self, uid: Option<&str>) -> Result<Vec<v1::PodSandbox>, Status> {
        let filter = v1::PodSandboxFilter {
            label_selector: self.selector(uid),
            ..Default::default()
        };
        let list = v1::ListPodSandboxRequest { filter: Some(filter) };
        Ok(self
            .containers
            .clone()
            .list_pod_sandbox(timed(list, CALL_TIMEOUT))
            .await?
            .into_inner()
            .items)
    }

    /// Our containers, of one pod or all.
    pub(crate) async fn list_containers(&self, uid: Option<&str>) -> Result<Vec<v1::Container>, Status> {
        let filter = v1::ContainerFilter {
            label_selector: self.selector(uid),
            ..Default::default()
        };
        let list = v1::ListContainersRequest { filter: Some(filter) };
        Ok(self
            .containers
            .clone()
            .list_containers(timed(list, CALL_TIMEOUT))
            .await?
            .into_inner()
            .containers)
    }

    fn selector(&self, uid: Option<&str>) -> HashMap<String, String> {
        let own = [self.own_label()];
        own.into_iter()
            .chain(uid.map(|uid| (POD_UID.to_owned(), uid.to_owned())))
            .collect()
    }

    /// The pods that have a sandbox or container of ours.
    pub(crate) async fn found_pods(&self) -> Result<Vec<FoundPod>, Status> {
        let sandboxes = self.sandboxes(None).await?;
        let containers = self.list_containers(None).await?;
        let of_sandboxes = sandboxes.iter().map(|s| (&s.labels, &s.annotations));
        let of_containers = containers.iter().map(|c| (&c.labels, &c.annotations));
        let mut pods: Vec<FoundPod> = of_sandboxes
            .chain(of_containers)
            .map(|(labels, annotations)| {
                let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
                let grace_s = annotations.get(GRACE).and_then(|s| s.parse().ok());
                FoundPod {
                    uid: label(POD_UID),
                    namespace: label(POD_NAMESPACE),
                    name: label(POD_NAME),
                    grace_s,
                }
            })
            .collect();
        pods.sort_unstable();
        pods.dedup_by(|a, b| a.uid == b.uid);
        Ok(pods)
    }

    /// The uids of the pods of a name that have a sandbox or container of ours.
    pub(crate) async fn uids_of(&self, namespace: &str, name: &str) -> Result<Vec<String>, Status> {
        let named = [
            (POD_NAMESPACE.to_owned(), namespace.to_owned()),
            (POD_NAME.to_owned(), name.to_owned()),
        ];
        let label_selector: HashMap<String, String> = named.into_iter().chain([self.own_label()]).collect();
        let filter = v1::PodSandboxFilter {
            label_selector: label_selector.clone(),
            ..Default::default()
        };
        let list = v1::ListPodSandboxRequest { filter: Some(filter) };
        let sandboxes = self
            .containers
            .clone()
            .list_pod_sandbox(timed(list, CALL_TIMEOUT))
            .await?
            .into_inner()
            .items;
        let filter = v1::ContainerFilter {
            label_selector,
            ..Default::default()
        };
        let list = v1::ListContainersRequest { filter: Some(filter) };
        let containers = self
            .containers
            .clone()
            .list_containers(timed(list, CALL_TIMEOUT))
            .await?
            .into_inner()
            .containers;
        let labels = sandboxes
            .into_iter()
            .map(|s| s.labels)
            .chain(containers.into_iter().map(|c| c.labels));
        Ok(labels.filter_map(|mut labels| labels.remove(POD_UID)).collect())
    }

    /// All that the runtime knows of a pod. What is in the same state as it is `known` is not asked for again: all else
    /// of it changes only with the state.
    pub(crate) async fn pod(&self, uid: &str, known: &PodRecords) -> Result<PodRecords, Status> {
        let mut records = PodRecords::default();
        for listed in self.sandboxes(Some(uid)).await? {
            let ready = listed.state == v1::PodSandboxState::SandboxReady as i32;
            let is_same = |s: &&Sandbox| s.id == listed.id && s.ready == ready && !(ready && s.ips.is_empty());
            let sandbox = match known.sandboxes.iter().find(is_same) {
                Some(sandbox) => Some(sandbox.clone()),
                None => self.sandbox(&listed.id).await?,
            };
            records.sandboxes.extend(sandbox);
        }
        for listed in self.list_containers(Some(uid)).await? {
            let state = container_state(listed.state);
            let is_same = |r: &&Record| r.container.id == listed.id && r.container.state == state;
            let record = match known.containers.iter().find(is_same) {
                Some(record) => Some(record.clone()),
                None => self.container(&listed.id, &listed.pod_sandbox_id).await?,
            };
            records.containers.extend(record);
        }
        Ok(records)
    }

    /// A sandbox' status; `None` if it is gone.
    pub(crate) async fn sandbox(&self, id: &str) -> Result<Option<Sandbox>, Status> {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let status = match self
            .containers
            .clone()
            .pod_sandbox_status(timed(request, CALL_TIMEOUT))
            .await
        {
            Ok(response) => response.into_inner().status,
            Err(status) if is_gone(&status) => return Ok(None),
            Err(status) => return Err(status),
        };
        Ok(status.map(|s| {
            let network = s.network.unwrap_or_default();
            let more = network.additional_ips.into_iter().map(|ip| ip.ip);
            Sandbox {
                id: s.id,
                attempt: s.metadata.map_or(0, |m| m.attempt),
                ready: s.state == v1::PodSandboxState::SandboxReady as i32,
                created_at: timestamp(s.created_at).unwrap_or_default(),
                ips: std::iter::once(network.ip)
                    .chain(more)
                    .filter(|ip| !ip.is_empty())
                    .collect(),
            }
        }))
    }

    /// A container's status; `None` if it is gone.
    pub(crate) async fn container(&self, id: &str, sandbox_id: &str) -> Result<Option<Record>, Status> {
        let request = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        match self
            .containers
            .clone()
            .container_status(timed(request, CALL_TIMEOUT))
            .await
        {
            Ok(response) => Ok(response.into_inner().status.map(|status| record(status, sandbox_id))),
            Err(status) if is_gone(&status) => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Makes and starts a sandbox; its id.
    pub(crate) async fn run_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String, Status> {
        let request = v1::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.to_owned(),
        };
        let response = self
            .containers
            .clone()
            .run_pod_sandbox(timed(request, SANDBOX_TIMEOUT))
            .await?;
        Ok(response.into_inner().pod_sandbox_id)
    }

    /// Stops a sandbox; one that is gone is stopped.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), Status> {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        gone_is_fine(
            self.containers
                .clone()
                .stop_pod_sandbox(timed(request, SANDBOX_TIMEOUT))
                .await
                .map(drop),
        )
    }

    /// Removes a sandbox; one that is gone is removed.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), Status> {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        gone_is_fine(
            self.containers
                .clone()
                .remove_pod_sandbox(timed(request, SANDBOX_TIMEOUT))
                .await
                .map(drop),
        )
    }

    /// Makes a container; its id.
    pub(crate) async fn create_container(&self, request: v1::CreateContainerRequest) -> Result<String, Status> {
        let response = self
            .containers
            .clone()
            .create_container(timed(request, CALL_TIMEOUT))
            .await?;
        Ok(response.into_inner().container_id)
    }

    /// Starts a container.
    pub(crate) async fn start_container(&self, id: &str) -> Result<(), Status> {
        let request = v1::StartContainerRequest {
            container_id: id.to_owned(),
        };
        self.containers
            .clone()
            .start_container(timed(request, CALL_TIMEOUT))
            .await
            .map(drop)
    }

    /// Stops a container, killing it after `grace_s`; one that is gone is stopped.
    pub(crate) async fn stop_container(&self, id: &str, grace_s: i64) -> Result<(), Status> {
        let request = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace_s,
        };
        let timeout = CALL_TIMEOUT + Duration::from_secs(u64::try_from(grace_s).unwrap_or(0));
        gone_is_fine(
            self.containers
                .clone()
                .stop_container(timed(request, timeout))
                .await
                .map(drop),
        )
    }

    /// Removes a container; one that is gone is removed.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), Status> {
        let request = v1::RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        gone_is_fine(
            self.containers
                .clone()
                .remove_container(timed(request, CALL_TIMEOUT))
                .await
                .map(drop),
        )
    }

    /// Runs a command in a container to its end.
    pub(crate) async fn exec_sync(
        &self,
        id: &str,
        cmd: &[String],
        timeout: Duration,
    ) -> Result<v1::ExecSyncResponse, Status> {
        let seconds = i64::try_from(timeout.as_secs().max(1)).unwrap_or(i64::MAX);
        let request = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: cmd.to_vec(),
            timeout: seconds,
        };
        let grace = Duration::from_secs(5);
        Ok(self
            .containers
            .clone()
            .exec_sync(timed(request, timeout + grace))
            .await?
            .into_inner())
    }
}

/// A request with a deadline.
pub(crate) fn timed<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// Whether an error says that the object is not there (runtimes differ in how they say it).
pub(crate) fn is_gone(status: &Status) -> bool {
    status.code() == tonic::Code::NotFound || status.message().contains("not found")
}

fn gone_is_fine(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if is_gone(&status) => Ok(()),
        other => other,
    }
}

/// Nanoseconds since 1970; 0 is no time.
fn timestamp(nanos: i64) -> Option<Timestamp> {
    if nanos <= 0 {
        None
    } else {
        Timestamp::from_nanosecond(i128::from(nanos)).ok()
    }
}

fn container_state(state: i32) -> ContainerState {
    match CriState::try_from(state) {
        Ok(CriState::ContainerCreated) => ContainerState::Created,
        Ok(CriState::ContainerRunning) => ContainerState::Running,
        Ok(CriState::ContainerExited) => ContainerState::Exited,
        _ => ContainerState::Unknown,
    }
}

fn record(status: v1::ContainerStatus, sandbox_id: &str) -> Record {
    let state = container_state(status.state);
    let annotation = |name: &str| status.annotations.get(name).cloned().unwrap_or_default();
    let user = status
        .user
        .and_then(|u| u.linux)
        .map(|u| (u.uid, u.gid, u.supplemental_groups));
    let container = Container {
        id: status.id,
        sandbox_id: sandbox_id.to_owned(),
        name: status.labels.get(CONTAINER_NAME).cloned().unwrap_or_default(),
        restart_count: annotation(RESTART_COUNT).parse().unwrap_or(0),
        state,
        created_at: timestamp(status.created_at).unwrap_or_default(),
        started_at: timestamp(status.started_at),
        finished_at: timestamp(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        image: status
            .image
            .map(|i| {
                if i.user_specified_image.is_empty() {
                    i.image
                } else {
                    i.user_specified_image
                }
            })
            .unwrap_or_default(),
        image_id: status.image_ref,
        hash: annotation(HASH),
        backoff_s: annotation(BACKOFF).parse().unwrap_or(0),
        resources: status
            .annotations
            .get(RESOURCES)
            .and_then(|json| serde_json::from_str(json).ok()),
        recursive_read_only: status
            .mounts
            .iter()
            .filter(|mount| mount.recursive_read_only)
            .map(|mount| mount.container_path.clone())
            .collect(),
        user,
    };
    Record {
        container,
        annotations: status.annotations,
        log_path: status.log_path,
    }
}
