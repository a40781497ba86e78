//! CRI's RuntimeService: reads requests, calls the work, writes answers.

use std::time::Duration;

use cri::v1::runtime_service_server::RuntimeService;
use cri::v1::*;
use futures::StreamExt;
use futures::stream::BoxStream;
use remotecommand::StreamOptions;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use super::{Service, select, stats};
use crate::failure::{blocking, internal};
use crate::monitor::plan::now;
use crate::monitor::wire::Kind;
use crate::monitor_client::Connection;
use crate::streaming::Job;

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// A grace that is no number of seconds is none.
fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// An OCI runtime, as pods ask for it. The mount option `rro` is part of what OCI runtimes must know.
fn handler(name: &str) -> RuntimeHandler {
    RuntimeHandler {
        name: name.to_owned(),
        features: Some(RuntimeHandlerFeatures {
            recursive_read_only_mounts: true,
            ..RuntimeHandlerFeatures::default()
        }),
    }
}

fn condition(kind: &str) -> RuntimeCondition {
    RuntimeCondition {
        r#type: kind.to_owned(),
        status: true,
        ..RuntimeCondition::default()
    }
}

impl Service {
    /// Does work that a caller who gives up must not leave half done; `failure` says what a panic in it means.
    async fn to_its_end<T: Send + 'static>(
        &self,
        failure: &'static str,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        self.0.tasks.spawn(work).await.map_err(internal(failure))?
    }
}

#[tonic::async_trait]
impl RuntimeService for Service {
    type GetContainerEventsStream = BoxStream<'static, Result<ContainerEventResponse, Status>>;

    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        answer(VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "steadfast".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        // The server begins only after the network is set up.
        let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
        answer(StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            runtime_handlers: self.0.driver.handlers().map(handler).collect(),
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                ..RuntimeFeatures::default()
            }),
            ..StatusResponse::default()
        })
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        let linux = LinuxRuntimeConfiguration {
            cgroup_driver: CgroupDriver::Cgroupfs.into(),
        };
        answer(RuntimeConfigResponse { linux: Some(linux) })
    }

    async fn update_runtime_config(
        &self,
        _: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        // The range of pods is part of our own configuration; a kubelet's word on it changes nothing, as with containerd.
        answer(UpdateRuntimeConfigResponse {})
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let RunPodSandboxRequest {
            config,
            runtime_handler,
        } = request.into_inner();
        let config = config.ok_or_else(|| Status::invalid_argument("no configuration given"))?;
        self.0.oci_runtime(&runtime_handler)?;
        let runtime = self.0.clone();
        let work = async move { runtime.run_sandbox(config, runtime_handler).await };
        let pod_sandbox_id = self.to_its_end("cannot make the sandbox", work).await?;
        answer(RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(&self, request: Request<StopPodSandboxRequest>) -> Answer<StopPodSandboxResponse> {
        // CRI: stopping what is gone is no error.
        if let Ok(sandbox) = self.0.sandbox(&request.into_inner().pod_sandbox_id) {
            let runtime = self.0.clone();
            let work = async move { runtime.stop_sandbox(&sandbox).await };
            self.to_its_end("cannot stop the sandbox", work).await?;
        }
        answer(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(&self, request: Request<RemovePodSandboxRequest>) -> Answer<RemovePodSandboxResponse> {
        if let Ok(sandbox) = self.0.sandbox(&request.into_inner().pod_sandbox_id) {
            let runtime = self.0.clone();
            let work = async move { runtime.remove_sandbox(&sandbox).await };
            self.to_its_end("cannot remove the sandbox", work).await?;
        }
        answer(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(&self, request: Request<PodSandboxStatusRequest>) -> Answer<PodSandboxStatusResponse> {
        let sandbox = self.0.sandbox(&request.into_inner().pod_sandbox_id)?;
        let containers = self.0.containers_of(&sandbox.id);
        answer(PodSandboxStatusResponse {
            status: Some(sandbox.status()),
            containers_statuses: containers.iter().map(|container| container.status()).collect(),
            timestamp: now(),
            ..PodSandboxStatusResponse::default()
        })
    }

    async fn list_pod_sandbox(&self, request: Request<ListPodSandboxRequest>) -> Answer<ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let sandboxes = self
            .0
            .all_sandboxes()
            .into_iter()
            .filter(|sandbox| select::sandbox(sandbox, &filter));
        answer(ListPodSandboxResponse {
            items: sandboxes.map(|sandbox| sandbox.item()).collect(),
        })
    }

    async fn create_container(&self, request: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let sandbox = self.0.sandbox(&request.pod_sandbox_id)?;
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("no configuration given"))?;
        let runtime = self.0.clone();
        let work = async move { runtime.create_container(&sandbox, config).await };
        let container_id = self.to_its_end("cannot make the container", work).await?;
        answer(CreateContainerResponse { container_id })
    }

    async fn start_container(&self, request: Request<StartContainerRequest>) -> Answer<StartContainerResponse> {
        let container = self.0.container(&request.into_inner().container_id)?;
        let runtime = self.0.clone();
        let work = async move { runtime.start_container(&container).await };
        self.to_its_end("cannot start the container", work).await?;
        answer(StartContainerResponse {})
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        if let Ok(container) = self.0.container(&request.container_id) {
            let runtime = self.0.clone();
            let grace = seconds(request.timeout);
            let work = async move { runtime.stop_container(&container, grace).await };
            self.to_its_end("cannot stop the container", work).await?;
        }
        answer(StopContainerResponse {})
    }

    async fn remove_container(&self, request: Request<RemoveContainerRequest>) -> Answer<RemoveContainerResponse> {
        if let Ok(container) = self.0.container(&request.into_inner().container_id) {
            let runtime = self.0.clone();
            let work = async move { runtime.remove_container(&container).await };
            self.to_its_end("cannot remove the container", work).await?;
        }
        answer(RemoveContainerResponse {})
    }

    async fn list_containers(&self, request: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let containers = self
            .0
            .all_containers()
            .into_iter()
            .filter(|container| select::container(container, &filter));
        answer(ListContainersResponse {
            containers: containers.map(|container| container.item()).collect(),
        })
    }

    async fn container_status(&self, request: Request<ContainerStatusRequest>) -> Answer<ContainerStatusResponse> {
        let container = self.0.container(&request.into_inner().container_id)?;
        answer(ContainerStatusResponse {
            status: Some(container.status()),
            ..ContainerStatusResponse::default()
        })
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let container = self.0.container(&request.container_id)?;
        if let Some(resources) = request.linux {
            let failed = internal("cannot change the container's limits");
            blocking(move || container.update(resources).map_err(failed)).await?;
        }
        answer(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        let container = self.0.container(&request.into_inner().container_id)?;
        if !container.is_running() {
            return Err(Status::failed_precondition(format!(
                "container {} is not running",
                container.id
            )));
        }
        let lost = internal("cannot reach the container's monitor");
        let mut monitor = Connection::open(&container.folder).await.map_err(lost)?;
        monitor.request(Kind::Reopen, &[]).await.map_err(Status::internal)?;
        answer(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = request.into_inner();
        let container = self.0.container(&request.container_id)?;
        let limit = Some(seconds(request.timeout)).filter(|limit| !limit.is_zero());
        let (stdout, stderr, exit_code) = self.0.exec_sync(&container, request.cmd, limit).await?;
        answer(ExecSyncResponse {
            stdout,
            stderr,
            exit_code,
        })
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let request = request.into_inner();
        let container = self.0.container(&request.container_id)?;
        if !container.is_running() {
            return Err(Status::failed_precondition(format!(
                "container {} is not running",
                container.id
            )));
        }
        let streams = StreamOptions {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        let url = self.0.streaming.promise(Job {
            container,
            streams,
            command: Some(request.cmd),
        });
        answer(ExecResponse { url })
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let request = request.into_inner();
        let container = self.0.container(&request.container_id)?;
        if !container.is_running() {
            return Err(Status::failed_precondition(format!(
                "container {} is not running",
                container.id
            )));
        }
        let streams = StreamOptions {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: container.config.tty,
        };
        let url = self.0.streaming.promise(Job {
            container,
            streams,
            command: None,
        });
        answer(AttachResponse { url })
    }

    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        let sandbox = self.0.sandbox(&request.into_inner().pod_sandbox_id)?;
        if sandbox.state() != PodSandboxState::SandboxReady {
            return Err(Status::failed_precondition(format!(
                "pod sandbox {} is not ready",
                sandbox.id
            )));
        }
        let url = self.0.streaming.promise_ports(sandbox);
        answer(PortForwardResponse { url })
    }

    async fn container_stats(&self, request: Request<ContainerStatsRequest>) -> Answer<ContainerStatsResponse> {
        let container = self.0.container(&request.into_inner().container_id)?;
        let stats = blocking(move || Ok(stats::of(&container))).await?;
        answer(ContainerStatsResponse { stats: Some(stats) })
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let containers: Vec<_> = self
            .0
            .all_containers()
            .into_iter()
            .filter(|container| select::stats(container, &filter))
            .collect();
        let stats = blocking(move || Ok(containers.iter().map(|container| stats::of(container)).collect())).await?;
        answer(ListContainerStatsResponse { stats })
    }

    async fn get_container_events(&self, _: Request<GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        let events = BroadcastStream::new(self.0.events.subscribe());
        let events = events
            .map(|event| event.map_err(|lagged| Status::data_loss(format!("the listener is too slow: {lagged}"))));
        // An open stream would keep the server from ending.
        let shutdown = self.0.shutdown.clone().cancelled_owned();
        answer(events.take_until(shutdown).boxed())
    }
}
